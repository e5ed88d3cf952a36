"""How much the tests that try many cases try: `KOBS_THOROUGH` times as much as in every run.

`make test-all` says 5.
"""

import os

import pytest

TIMES = float(os.environ.get("KOBS_THOROUGH", "1"))


thorough = pytest.mark.skipif(TIMES < 2, reason="takes long: make test-all runs it")
"""For a test of many seconds whose subject other tests of every run have, too."""


def many(few: int) -> int:
    """Examples of a property, kills of a process: `few` in every run."""
    return max(1, round(few * TIMES))
