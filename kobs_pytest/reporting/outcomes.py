"""The tests of a run and how each ended, from their reports: in the controller under
pytest-xdist.

PYTEST_DONT_REWRITE
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

OUTCOMES = pytest.StashKey["Outcomes"]()

NOT_PASSED = ("crashed", "error", "failed", "inconclusive")
"""Verdicts that make a run fail, the worst first."""


@dataclass(eq=False)
class Result:
    """A test that was run, or as much of it as was reported."""

    nodeid: str
    worker: str
    verdict: str = "passed"
    """passed, failed, inconclusive, error (in setup or teardown), crashed (its worker died),
    skipped, xfailed, xpassed."""
    seconds: float = 0.0
    path: str = ""
    """The file of the line that failed, or of the test; absolute, or relative to the rootdir."""
    line: int = 0
    """From 1; 0 if it is not known."""
    message: str = ""
    """The first lines of what the failure says."""
    facts: dict[str, Any] = field(default_factory=dict)


def outcomes_of(config: pytest.Config) -> "Outcomes":
    """The run's outcomes; made and registered the first time."""
    outcomes = config.stash.get(OUTCOMES, None)
    if outcomes is None:
        outcomes = config.stash[OUTCOMES] = Outcomes()
        config.pluginmanager.register(outcomes, "kobs-outcomes")
    return outcomes


class Outcomes:
    """Collects results as they are reported."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self._running: dict[tuple[str, str], Result] = {}

    def not_passed(self) -> list[Result]:
        """Those that make the run fail, the worst first."""
        return sorted(
            (result for result in self.results if result.verdict in NOT_PASSED),
            key=lambda result: NOT_PASSED.index(result.verdict),
        )

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that cannot be collected is an error too; each worker says so."""
        if report.outcome != "failed" or any(one.nodeid == report.nodeid for one in self.results):
            return
        result = Result(report.nodeid, "", "error", path=report.nodeid)
        _locate(result, report)
        self.results.append(result)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a report in."""
        key = report.nodeid, str(getattr(report, "worker_id", ""))
        if report.when not in _PHASES:  # a worker died: its controller reports in its place
            key = next((one for one in self._running if one[0] == report.nodeid), key)
        result = self._running.get(key)
        if result is None or (result.verdict == _AGAIN and report.when == "setup"):
            result = self._running[key] = Result(*key)
            self.results.append(result)
            result.path, line = report.location[0], report.location[1]
            result.line = line + 1 if line is not None else 0
        result.seconds += report.duration
        verdict = _verdict(report)
        if _AGAIN in (verdict, result.verdict):
            if result.verdict != _AGAIN:
                self.results.remove(result)
            result.verdict = _AGAIN
        elif _rank(verdict) < _rank(result.verdict):
            result.verdict = verdict
            if verdict in NOT_PASSED:
                _locate(result, report)
        if report.when not in ("setup", "call"):
            result.facts = getattr(report, "kobs_facts", {})
        if report.when not in ("setup", "call"):
            del self._running[key]


_AGAIN = "rerun"
"""What pytest-rerunfailures makes of a failure that it tries again: no result of the test."""
_PHASES = ("setup", "call", "teardown")
_MESSAGE_LINES = 4
_RANKS = (*NOT_PASSED, "xpassed", "xfailed", "skipped", "passed")


def _rank(verdict: str) -> int:
    return _RANKS.index(verdict) if verdict in _RANKS else len(_RANKS)


def _verdict(report: pytest.TestReport) -> str:
    if report.outcome == "failed":
        if hasattr(report, "kobs_inconclusive"):
            return "inconclusive"
        if report.when == "call":
            return "failed"
        return "error" if report.when in _PHASES else "crashed"
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.outcome == "skipped" else "xpassed"
    return str(report.outcome)


def _locate(result: Result, report: pytest.TestReport | pytest.CollectReport) -> None:
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None and crash.path:
        result.path, result.line, message = str(crash.path), int(crash.lineno), str(crash.message)
    else:
        message = report.longreprtext
    lines = [line for line in message.splitlines() if line.strip()]
    result.message = "\n".join(lines[:_MESSAGE_LINES])[:1000]
