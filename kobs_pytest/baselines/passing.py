"""`--kobs-passing`: a failing test beside the run in which it passed.

Whatever takes time is imported and read when a test fails.

PYTEST_DONT_REWRITE
"""

import os
from textwrap import wrap
from typing import TYPE_CHECKING

import pytest

from kobs.errors import KobsError
from kobs_pytest.capture.attempt import Attempt
from kobs_pytest.features import Feature
from kobs_pytest.options import given
from kobs_pytest.runtime import Runtime

if TYPE_CHECKING:
    from kobs._analysis.normal import Normalizer
    from kobs_pytest.baselines.stored import StoredRun, StoredRuns

LATEST, NONE = "latest", "no"
MOST_LINES = 40
MOST_TESTS = 50
"""Failing tests of a process that are looked up; where more fail, they do not fail apart."""
WIDTH = 78


class Passing(Feature):
    """Adds a section to failing tests."""

    name = "passing"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        value, self._where = given(runtime.config, "kobs_passing")
        self._asked = value is not None
        self._session = str(value or LATEST)
        if self._session not in (LATEST, NONE):
            self._session = self._found(self._session)
        self._stored: StoredRuns | None = None
        self._normalizer: Normalizer | None = None
        self._left = 0 if self._session == NONE else MOST_TESTS

    def _found(self, name: str) -> str:
        from kobs.cli.targets import find
        from kobs.session import Session

        try:
            return Session.open(os.path.abspath(find(name))).path
        except KobsError as error:
            raise pytest.UsageError(
                f"{self._where}={name}: {error}; expected a session, {LATEST!r} or {NONE!r}"
            ) from None

    def reported(self, attempt: Attempt, item: pytest.Item, report: pytest.TestReport) -> None:
        """Say where a test that fails parts from when it passed."""
        if report.outcome != "failed" or report.when == "teardown" or not self._left:
            return
        if hasattr(report, "kobs_inconclusive"):
            return
        self._left -= 1
        with self.runtime.recorder.muted():
            text = self._text(attempt, report.when or "call")
        if text:
            title = f"Captured kobs {report.when}, beside the run in which it passed"
            report.sections.append((title, text))

    def _text(self, attempt: Attempt, phase: str) -> str:
        run = self._runs().find(attempt.nodeid, phase)
        if run is not None:
            return "\n".join(self._compared(attempt, run, phase))
        if not self._asked:
            return ""
        where = "any session that is kept" if self._session == LATEST else _shown(self._session)
        return _folded(f"this test did not pass in {where}")

    def _runs(self) -> "StoredRuns":
        if self._stored is None:
            from kobs.session import sessions_root
            from kobs_pytest.baselines.stored import StoredRuns, sessions_below

            sessions = [self._session]
            if self._session == LATEST:
                own = self.runtime.recorder.session_path
                roots = [sessions_root(), *([os.path.dirname(own)] if own else [])]
                sessions = sessions_below(*roots, but=own)
            self._stored = StoredRuns(sessions)
        return self._stored

    def _compared(self, attempt: Attempt, run: "StoredRun", phase: str) -> list[str]:
        from kobs._analysis.shapes import of_phase
        from kobs._analysis.traces import parts, tally, told, trace
        from kobs.pattern.explain import Narrator
        from kobs_pytest.baselines.settings import normalizer_of
        from kobs_pytest.baselines.told import capped

        if self._normalizer is None:
            self._normalizer = normalizer_of(self.runtime.config)
        attempt.drain()
        events = of_phase(attempt.graph(), attempt.base, phase)
        before, now = trace(run.events, self._normalizer), trace(events, self._normalizer)
        found = parts(before, now)
        lines = [_folded(f"passed in {_shown(run.session)}")]
        doubts = []
        if run.lost:
            doubts.append(f"it lacks {run.lost} events: what is new here may have been there")
        if attempt.incomplete():
            doubts.append("this capture is incomplete: what is missing here may be there")
        lines += doubts
        if not found:
            what = "no difference in what was seen" if doubts else "it did the same"
            return [*lines, f"{what}: {len(now)} events"]
        number = tally(found)
        lines.append(
            f"{number.missing} missing (-), {number.new} new (+), {number.changed} changed (~), "
            f"{len(now) - number.new - number.changed} the same"
        )
        teller = Narrator(attempt.events, attempt.start_ns)
        last = found[0].same[-1:]
        at = f"after {teller.head(last[0].event)}" if last else "with the first event"
        lines.append(f"they part {at}")
        return [*lines, *capped(told(found, teller.head, width=WIDTH), MOST_LINES)]


def _shown(session: str) -> str:
    """What the command `kobs` knows a session by: its name, where it lies with the others."""
    from kobs.session import sessions_root

    root, name = os.path.split(session)
    return name if root == sessions_root() else session


def _folded(text: str) -> str:
    return "\n".join(wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False,
                          break_long_words=False))  # fmt: skip


feature = Passing
