"""What the fixture `kobs_session` gives: the events of all captured tests, and parts of tests.

PYTEST_DONT_REWRITE
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import pytest

from kobs.context import origin
from kobs.decoder import EventDecoder
from kobs.errors import KobsError
from kobs.events import Event
from kobs_pytest.asserting.assertions import Assertions
from kobs_pytest.capture.attempt import Attempt, Note
from kobs_pytest.capture.checks import Doubt
from kobs_pytest.capture.children import Children
from kobs_pytest.capture.recorder import Recorder
from kobs_pytest.capture.tap import Tap, Whose
from kobs_pytest.features import Feature

if TYPE_CHECKING:
    from kobs_pytest.runtime import Runtime

SESSION = pytest.StashKey["KobsSession"]()


class WholeRun(Attempt):
    """All that is captured from here on, whoever caused it."""

    _begin_read = True

    def __init__(self, recorder: Recorder, current: Callable[[], Attempt | None]) -> None:
        super().__init__(recorder, None, "", 0, 0)
        self.base = recorder.tag
        self._current = current
        self._read: list[Tap] = []
        self._session_children: Children | None = None
        self.watch_losses()
        self._taps()

    def watch_losses(self) -> None:
        self._losses = self.recorder.losses()
        self._kept_back_before = self.recorder.anomalies_kept_back()
        self._children().begin()

    def _taps(self) -> list[Tap]:
        """A cursor of its own over each recording of this process."""
        for collector in self.recorder.collectors[len(self._read) :]:
            ring = collector.ring
            reader = ring.reader(oldest=bool(self._read))
            self._read.append(Tap(ring, reader, EventDecoder(ring)))
        return self._read

    def _children(self) -> Children:
        children = self._session_children
        if children is None:
            session = self.recorder.session
            assert session is not None  # the recorder made it with its collector
            children = self._session_children = Children(session)
        children.own = self.recorder.children.own
        return children

    def owns(self, key: str) -> bool:
        return key.startswith(self.base)

    def _whose(self, key: str) -> Whose:
        return Whose.CAUSED if not key or self.owns(key) else Whose.ELSEWHERE

    def _by_pytest(self, event: Event) -> bool:
        """What pytest does between tests is of the run."""
        return False

    def unsuppressed(self, doubts: Iterable[Doubt]) -> tuple[str, ...]:
        """As the test that asks has it."""
        current = self._current()
        return super().unsuppressed(doubts) if current is None else current.unsuppressed(doubts)

    def doubt(self, reasons: Sequence[str]) -> None:
        """The test that reads it cannot pass any more."""
        current = self._current()
        if current is not None:
            current.doubt(reasons)

    def tell(self, note: Note) -> None:
        current = self._current()
        if current is not None:
            current.notes.append(note)

    def release(self) -> None:
        """Let go of the cursors and files."""
        self.close()
        for tap in self._read:
            tap.reader.close()
        if self._session_children is not None:
            self._session_children.close()


class KobsSession(Assertions):
    """What all tests that are captured and their fixtures caused since this was first asked for,
    and assertions on it; `capture()` captures a part of the test that runs."""

    def __init__(self, runtime: "Runtime") -> None:
        self._runtime = runtime
        self.run = WholeRun(runtime.recorder, runtime.current)
        super().__init__(self.run)

    def _whole(self) -> Attempt:
        """The test that runs; in a fixture of wider scope, which belongs to none, the run."""
        current = self._runtime.current()
        if current is None:
            raise KobsError(
                "kobs_session.capture() outside of a test: nothing is captured there; use it in "
                "a test, or in a fixture"
            )
        return current if current.owns(origin.get()) else self.run

    def __repr__(self) -> str:
        return "<kobs_session>"


class Reading(Feature):
    """Takes in what a test caused when it is over, before it can be overwritten."""

    name = "session"

    def __init__(self, runtime: "Runtime", run: WholeRun) -> None:
        super().__init__(runtime)
        self._run = run

    def reported(self, attempt: Attempt, item: pytest.Item, report: pytest.TestReport) -> None:
        """After each phase."""
        self._run.drain()

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        """The run is over."""
        self._run.release()


def session_of(runtime: "Runtime") -> KobsSession:
    """The run's `kobs_session`; made the first time."""
    known = runtime.config.stash.get(SESSION, None)
    if known is None:
        known = runtime.config.stash[SESSION] = KobsSession(runtime)
        runtime.add(Reading(runtime, known.run))
    return known
