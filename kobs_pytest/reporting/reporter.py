"""What the terminal says: the third verdict, and the line at the end. In the controller too.

PYTEST_DONT_REWRITE
"""

from collections.abc import Iterable
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kobs.pattern import Inconclusive

REPORTER = pytest.StashKey["Reporter"]()
VERDICT = ("kobs.verdict", "inconclusive")


def reporter_of(config: pytest.Config) -> "Reporter":
    """The run's reporter; made and registered the first time."""
    reporter = config.stash.get(REPORTER, None)
    if reporter is None:
        reporter = config.stash[REPORTER] = Reporter()
        config.pluginmanager.register(reporter, "kobs-reporter")
    return reporter


def mark_inconclusive(item: pytest.Item, report: pytest.TestReport, error: "Inconclusive") -> None:
    """Make a report one of an inconclusive test: failed, by its own name."""
    if report.outcome == "skipped" and hasattr(report, "wasxfail"):
        if any(_absorbs(mark, error) for mark in item.iter_markers("xfail")):
            return
        del report.wasxfail  # xfail is about failing, not about not knowing
        report.outcome = "failed"
    if report.outcome != "failed":
        return
    setattr(report, "kobs_inconclusive", list(error.reasons) or [error.question])
    item.user_properties.append(VERDICT)
    report.user_properties.append(VERDICT)
    if error.at_end:
        report.longrepr = _without_our_frames(item, error)


def note(report: pytest.TestReport, heading: str, lines: Iterable[str]) -> None:
    """Have the summary say something of a test, whatever its outcome, below a heading."""
    notes: list[list[str]] = report.__dict__.setdefault("kobs_notes", [])
    notes += ([heading, line] for line in lines)


def _without_our_frames(item: pytest.Item, error: "Inconclusive") -> Any:
    """What to show of a verdict that no line of the test raised: the assertion that failed on
    doubtful evidence if there was one, and why it is doubtful."""
    if error.__cause__ is None:
        return f"Inconclusive: {error}"
    shown: Any = item.repr_failure(pytest.ExceptionInfo.from_exception(error.__cause__))
    if hasattr(shown, "addsection"):
        shown.addsection("inconclusive", str(error))
        return shown
    return f"{shown}\n\nInconclusive: {error}"


def _absorbs(mark: pytest.Mark, error: "Inconclusive") -> bool:
    raises = mark.kwargs.get("raises")
    return raises is not None and isinstance(error, raises)


class Reporter:
    """Letters, words and the summary."""

    def __init__(self) -> None:
        self.session = ""
        """The folder of a recording that is kept; empty if there is none."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> tuple[str, str, str] | None:
        """`?` for inconclusive; it stays among the failed."""
        if report.outcome == "failed" and hasattr(report, "kobs_inconclusive"):
            return "failed", "?", "INCONCLUSIVE"
        return None

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Which tests are inconclusive and why; with `--kobs`, what was recorded."""
        unsure = [
            report
            for report in terminalreporter.stats.get("failed", [])
            if hasattr(report, "kobs_inconclusive")
        ]
        if unsure:
            terminalreporter.section("inconclusive", yellow=True)
            for report in unsure:
                terminalreporter.write_line(report.nodeid)
                for reason in report.kobs_inconclusive:
                    for line in wrap(reason, 76):
                        terminalreporter.write_line(f"  {line}")
        for heading, tests in _noted(terminalreporter.stats).items():
            terminalreporter.section(heading, yellow=True)
            for nodeid, lines in tests.items():
                terminalreporter.write_line(nodeid)
                for told in lines:
                    for line in wrap(told, 76):
                        terminalreporter.write_line(f"  {line}")
        if self.session:
            recorded, lost = _totals(self.session)
            terminalreporter.write_line(
                f"kobs: {recorded} events recorded, {lost} lost, {len(unsure)} inconclusive; "
                f"kobs report {self.session}"
            )


def _noted(stats: dict[str, list[Any]]) -> dict[str, dict[str, list[str]]]:
    """What there is to say of tests: by heading and test."""
    found: dict[str, dict[str, list[str]]] = {}
    for reports in stats.values():
        for report in reports:
            for heading, line in getattr(report, "kobs_notes", ()):
                found.setdefault(heading, {}).setdefault(report.nodeid, []).append(line)
    return found


def _totals(session: str) -> tuple[int, int]:
    """(recorded, lost) events of all processes of the session: workers and children too."""
    from kobs._core import select
    from kobs.errors import RecordingError
    from kobs.session import Session
    from kobs_pytest.capture.children import losses_by_cause

    recorded = lost = 0
    for path in Session.open(session).recordings():
        try:
            ring = select().attach(path)
        except RecordingError:
            continue
        recorded += ring.produced()
        losses = ring.losses()
        lost += losses.overwritten + sum(losses_by_cause(losses, None).values())
        ring.close()
    return recorded, lost
