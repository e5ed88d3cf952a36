"""The run as a whole, where the reports of all workers come together: writing the file, and the
summary.

PYTEST_DONT_REWRITE
"""

import os
from collections import Counter
from collections.abc import Iterable
from textwrap import wrap
from typing import Any

import pytest

from kobs._analysis.baseline_entry import Entry, Seen
from kobs._analysis.baseline_file import Baseline, Made, read, update
from kobs.errors import BaselineError
from kobs_pytest.baselines.settings import Settings

_NARROWING = ("keyword", "markexpr", "deselect", "lf", "stepwise", "collectonly")
"""pytest's options that leave tests out."""
_NAMED = 10
"""Tests that a line of the summary names."""


class BaselineRun:
    """Collects what tests did from their reports."""

    def __init__(
        self, config: pytest.Config, settings: Settings, made: Made, known: Baseline
    ) -> None:
        self._config = config
        self._settings = settings
        self._made = made
        self._before = self._after = known
        self._states: dict[str, str] = {}
        self._seen: dict[str, Seen] = {}
        self._collected: set[str] = set()
        self._all_collected = True
        self._gone: list[str] = []
        self._error = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in what a test's report carries."""
        found = getattr(report, "kobs_baseline", None)
        if found is None:
            return
        test = found["test"]
        self._states[test] = found["state"]
        if found["state"] == "seen":
            self._seen[test] = Seen(found["counts"], found["durations"], self._settings.tolerance)

    # -- which tests there are ----------------------------------------------------------------

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without pytest-xdist: what was collected."""
        self._collected.update(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Iterable[str]) -> None:
        """With pytest-xdist: what a worker collected; names of groups are behind an `@`."""
        self._collected.update(ids, (test.rpartition("@")[0] for test in ids))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that cannot be imported, or that skips itself, has tests that are not seen."""
        if report.outcome != "passed":
            self._all_collected = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of pytest-xdist where the file is: its folder may be another."""
        node.workerinput["kobs_baseline_file"] = self._settings.path

    def _find_gone(self) -> list[str]:
        """Tests of the file that were not collected though their place was."""
        config = self._config
        places = [str(place) for place in config.args]
        if (
            not self._all_collected
            or not self._collected
            or any(config.getoption(name, None) for name in _NARROWING)
            or any("::" in place for place in places)
        ):
            return []
        folder = config.invocation_params.dir
        above = [os.path.normpath(os.path.join(folder, place)) for place in places]
        return [
            test
            for test in sorted(self._before.entries.keys() - self._collected)
            if any(_below(str(config.rootpath / test.partition("::")[0]), one) for one in above)
        ]

    # -- the end ------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write what the tests did; a file that cannot be written fails the run."""
        self._gone = self._find_gone()
        if not self._seen:
            return
        try:
            self._before = update(self._settings.path, self._made, self._seen)
            self._after = read(self._settings.path)
        except BaselineError as error:
            self._error = str(error)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """What became of the baseline."""
        name = os.path.relpath(self._settings.path, self._config.invocation_params.dir)
        lines = self._updated() if self._settings.update else self._compared()
        if self._error:
            lines = [f"not written: {self._error}"]
        if self._gone:
            lines.append(_named(
                self._gone, "{} that there is no more (delete the block or blocks in the file)"
            ))  # fmt: skip
        if not lines:
            return
        terminalreporter.write_sep("=", f"baseline {name}")
        for line in lines:
            for part in wrap(line, 80, subsequent_indent="  ", break_on_hyphens=False):
                terminalreporter.write_line(part)

    def _compared(self) -> list[str]:
        states = Counter(self._states.values())
        lines = []
        judged = [
            f"{states[state]} {words}"
            for state, words in (
                ("same", "as before"), ("different", "different"), ("inconclusive", "inconclusive"),
            )
            if states[state]
        ]  # fmt: skip
        if judged:
            lines.append(f"tests: {', '.join(judged)}")
        for state, words in (
            ("candidate", "{} not judged: seen in one run only (--kobs-update-baseline confirms)"),
            ("new", "{} not judged: not in the file (--kobs-update-baseline, twice)"),
        ):
            if states[state]:
                lines.append(_named(self._in_state(state), words))
        return lines

    def _updated(self) -> list[str]:
        became: dict[str, list[str]] = {}
        for test in self._seen:
            became.setdefault(_became(test, self._before, self._after), []).append(test)
        lines = [
            _named(sorted(became[word]), about)
            for word, about in (
                ("new", "{} new: update once more, so that two runs agree"),
                ("confirmed", "{} confirmed by a second run"),
                ("changed", "{} changed: update once more, so that two runs agree"),
                ("same", "{} as before"),
            )
            if word in became
        ]
        varying = [
            test for test in self._seen
            if (entry := self._after.entries.get(test)) is not None
            and entry.varies - _entry(self._before, test).varies
        ]  # fmt: skip
        if varying:
            lines.append(_named(
                sorted(varying), "{} with facts that differ between two runs: marked ~, left out"
            ))  # fmt: skip
        unsure = self._in_state("inconclusive")
        if unsure:
            lines.append(_named(unsure, "{} not written: inconclusive"))
        return lines

    def _in_state(self, state: str) -> list[str]:
        return sorted(test for test, found in self._states.items() if found == state)


def _entry(baseline: Baseline, test: str) -> Entry:
    return baseline.entries.get(test) or Entry("", {})


def _became(test: str, before: Baseline, after: Baseline) -> str:
    was, now = before.entries.get(test), after.entries.get(test)
    if was is None or now is None:
        return "new"
    if not now.confirmed:
        return "changed"
    return "same" if was.confirmed else "confirmed"


def _named(tests: list[str], about: str) -> str:
    """`2 tests not judged: ...: test_a, test_b`."""
    number = "1 test" if len(tests) == 1 else f"{len(tests)} tests"
    more = f" and {len(tests) - _NAMED} more" if len(tests) > _NAMED else ""
    return f"{about.format(number)}: {', '.join(tests[:_NAMED])}{more}"


def _below(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip(os.sep) + os.sep)
