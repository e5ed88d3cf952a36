"""Every event of every watch has a test with the real thing, and the page says which."""

import sys
from pathlib import Path

import pytest

from kobs_instrumentation.subsystems import SAYS, SUBSYSTEMS, WATCHED

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools import subsystems  # noqa: E402

BY_THE_COLLECTOR = {"AnomalyDetected"}
"""What no watch emits itself: the collector does, of what the watch told."""


def test_the_page_is_what_watches_and_tests_make() -> None:
    assert subsystems.PAGE.read_text() == subsystems.page(), "run `make docs`"


@pytest.mark.parametrize("name", SUBSYSTEMS)
def test_a_subsystem_s_page_has_the_events_that_its_watch_emits(name: str) -> None:
    assert set(subsystems.documented(name)) - BY_THE_COLLECTOR == subsystems.emitted(name)
    assert set(SAYS[name]) <= set(subsystems.documented(name))


EVENTS = [(name, event) for name in WATCHED for event in subsystems.documented(name)]


@pytest.mark.parametrize(("name", "event"), EVENTS)
def test_an_event_has_a_test(name: str, event: str) -> None:
    assert subsystems.showing(name, event)


@pytest.mark.parametrize("item", [item for items in subsystems.PROMISED.values() for item in items])
def test_what_the_design_says_has_a_test(item: str) -> None:
    assert subsystems.saying(item)


def test_tests_say_nothing_that_is_not_listed() -> None:
    listed = {item for items in subsystems.PROMISED.values() for item in items}
    assert {item for test in subsystems.tests() for item in test.says} == listed


ABSENCE = """
def helper(found):
    return [one for one in found if isinstance(one, GcPaused)]

def test_there(collector):
    assert helper(collector)

def test_not_there(collector):
    assert helper(collector) == []
    assert not collector.of(FileOpened)
    assert collector

def test_nothing(collector):
    helper(collector)
"""


def test_only_what_is_asserted_to_be_there_counts(tmp_path: Path) -> None:
    path = tmp_path / "test_watch_memory.py"
    path.write_text(ABSENCE)
    shown = {test.name: test.shows for test in subsystems._tests_of(path)}
    assert shown == {"test_there": {"GcPaused"}, "test_not_there": set(), "test_nothing": set()}
