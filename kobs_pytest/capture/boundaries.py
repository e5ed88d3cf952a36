"""The boundaries of tests as events: where a test's own events begin and end in a recording.

PYTEST_DONT_REWRITE
"""

from typing import Annotated

from kobs.levels import Category
from kobs.schema import U8, Name, PayloadType, Text, event_type


@event_type(category=Category.PROCESS, keep=True)
class TestBegan(PayloadType):
    """A test begins. Its origin begins that of all it causes, to which the first letter of the
    phase (setup, call, teardown) is added."""

    __test__ = False

    nodeid: Annotated[str, Text(112, keep="tail")]
    """pytest's name of the test"""
    attempt: U8 = 1
    """How often the test was begun in this run, counting this time"""


@event_type(category=Category.PROCESS, keep=True)
class TestEnded(PayloadType):
    """A test is over, its teardown included."""

    __test__ = False

    nodeid: Annotated[str, Text(112, keep="tail")]
    """pytest's name of the test"""
    outcome: Name
    """passed, failed, skipped or inconclusive"""
    attempt: U8 = 1
    """How often the test was begun in this run, counting this time"""
