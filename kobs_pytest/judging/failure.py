"""What a test fails with that a marker judges: a message, and no traceback.

PYTEST_DONT_REWRITE
"""

from typing import Any

import pytest

from kobs.pattern import Inconclusive

_Failed: Any = pytest.fail.Exception


class Failure(_Failed, AssertionError):  # type: ignore[misc]
    """A marker's verdict; `xfail(raises=AssertionError)` expects it too."""

    def __init__(self, message: str) -> None:
        super().__init__(message, pytrace=False)  # type: ignore[call-arg]


Failure.__module__ = "builtins"
Failure.__qualname__ = "Failed"


class AnomalyWarning(UserWarning):
    """An anomaly was found in what a test caused."""


AnomalyWarning.__module__ = "kobs_pytest"


class Verdicts:
    """What several judgements of one test come to: the failures, else what is not known."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.unknown: list[Inconclusive] = []

    def give(self) -> None:
        """Raises `Failure` with all that failed, else `Inconclusive` with all that is not known."""
        __tracebackhide__ = True
        if self.failures:
            also = (f"and {error}" for error in self.unknown)
            raise Failure("\n\n".join([*self.failures, *also]))
        if self.unknown:
            questions = dict.fromkeys(error.question for error in self.unknown)
            reasons = dict.fromkeys(reason for error in self.unknown for reason in error.reasons)
            made = Inconclusive("; ".join(questions), tuple(reasons))
            made.at_end = True
            raise made
