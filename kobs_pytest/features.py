"""What takes part in the tests that are captured, beside the fixture: made when it is asked for.

PYTEST_DONT_REWRITE
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from kobs_pytest.options import flag, given

if TYPE_CHECKING:
    from kobs_pytest.capture.attempt import Attempt
    from kobs_pytest.runtime import Runtime
    from kobs_pytest.workers.crash import CrashedTest


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

    def crashed(self, test: "CrashedTest", report: pytest.TestReport) -> None:
        """In pytest-xdist's controller: the worker that ran a test died. `report` is what is
        reported in its place."""


Wanted = Callable[[pytest.Config], bool]


def _baselines(config: pytest.Config) -> bool:
    names = ("kobs_baseline", "kobs_update_baseline", "kobs_baseline_durations")
    return any(given(config, name)[0] is not None for name in names)


def _passing(config: pytest.Config) -> bool:
    return given(config, "kobs_passing")[0] is not None or flag(config, "kobs")


def _judged_by_default(config: pytest.Config) -> bool:
    return any(given(config, name)[0] for name in ("kobs_budget", "kobs_anomalies"))


def _spans(config: pytest.Config) -> bool:
    if given(config, "kobs_otlp")[0] is None:
        return False
    from kobs_pytest.spans.asked import wanted

    return wanted(config)


def _run_report(config: pytest.Config) -> bool:
    return bool(given(config, "kobs_report")[0])


def _artifacts(config: pytest.Config) -> bool:
    return bool(given(config, "kobs_artifacts")[0])


FEATURES: tuple[tuple[str, Wanted], ...] = (
    ("kobs_pytest.spans.feature", _spans),
    ("kobs_pytest.judging.feature", _judged_by_default),
    ("kobs_pytest.baselines.feature", _baselines),
    ("kobs_pytest.baselines.passing", _passing),
    ("kobs_pytest.artifacts.run_report", _run_report),
    ("kobs_pytest.artifacts.failing_tests", _artifacts),  # last: it shows what the others add
)
"""Modules, each with a `Feature` named `feature`, and whether a run's options ask for it."""


def every_test_wanted(config: pytest.Config) -> bool:
    """A feature that the options ask for takes part in every test."""
    return any(asked(config) for asked in (_spans, _baselines, _run_report, _artifacts))


def wanted(config: pytest.Config) -> list[type[Feature]]:
    """The features that the options of a run ask for."""
    return [import_module(module).feature for module, asked in FEATURES if asked(config)]
