"""What takes part in the tests that are captured, beside the fixture: made when it is asked for.

PYTEST_DONT_REWRITE
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from kobs_pytest.options import every_test, given

if TYPE_CHECKING:
    from kobs_pytest.capture.attempt import Attempt
    from kobs_pytest.runtime import Runtime


class Feature:
    """Takes part in every test that is captured. It is also registered as a pytest plugin, so it
    can implement pytest's own hooks beside these."""

    name = ""
    """Under which it is registered: `kobs-NAME`."""

    def __init__(self, runtime: "Runtime") -> None:
        self.runtime = runtime

    def began(self, attempt: "Attempt", item: pytest.Item) -> None:
        """A test is about to be set up."""

    def called(self, attempt: "Attempt", item: pytest.Item) -> None:
        """The test's function returned; what this raises is the test's failure."""

    def torn_down(self, attempt: "Attempt", item: pytest.Item) -> None:
        """Its teardown is over without an error; what this raises is an error of the teardown."""

    def reported(self, attempt: "Attempt", item: pytest.Item, report: pytest.TestReport) -> None:
        """A phase (`report.when`) was reported. After that of the teardown no events of the test
        are read any more."""


Wanted = Callable[[pytest.Config], bool]

FEATURES: tuple[tuple[str, Wanted], ...] = (
    (
        "kobs_pytest.baselines.feature",
        lambda config: _any_given(
            config, "kobs_baseline", "kobs_update_baseline", "kobs_baseline_durations"
        ),
    ),
    (
        "kobs_pytest.baselines.passing",
        lambda config: _any_given(config, "kobs_passing") or every_test(config),
    ),
)
"""Modules, each with a `Feature` named `feature`, and whether a run's options ask for it."""


def wanted(config: pytest.Config) -> list[type[Feature]]:
    """The features that the options of a run ask for."""
    return [import_module(module).feature for module, asked in FEATURES if asked(config)]


def _any_given(config: pytest.Config, *names: str) -> bool:
    return any(given(config, name)[0] is not None for name in names)
