"""One attempt at one test: what it caused, and how sure that is.

PYTEST_DONT_REWRITE
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from time import monotonic_ns
from typing import Any, NamedTuple

import pytest

from kobs._core.contract import LossCounts
from kobs.causality import CausalGraph
from kobs.collector import global_collector
from kobs.context import Cause, cause, origin
from kobs.events import Event
from kobs.ids import mint_id
from kobs.pattern import Inconclusive
from kobs.payloads import ProcessCreated
from kobs.schema import PayloadType
from kobs_pytest.capture.boundaries import TestBegan, TestEnded
from kobs_pytest.capture.checks import Check, Doubt
from kobs_pytest.capture.children import Children, losses_by_cause
from kobs_pytest.capture.recorder import Recorder
from kobs_pytest.capture.tap import Raw, Tap, Whose

UNATTRIBUTED_KEPT = 100_000
"""Events without an origin that are held against patterns; more make absence inconclusive."""

PART = "/"
"""Begins what is added to an origin for a part of a test that is captured by itself."""
_PHASES = ("", "s", "c", "t")
"""What follows a test's own origin: nothing for its boundaries, and the first letter of each
phase."""

_CAUSE_WORDS = {
    "contended": "were given up because their slot was being written",
    "discarded": "were dropped because the ring was full",
    "sampled_out": "were left out by sampling",
    "too_big": "were too big",
    "errors": "met an error inside kobs",
    "strings_overflow": "had names for which there was no room",
    "segments_dropped": "were dropped with old segments",
    "filtered": "were filtered out by level",
}


_NO_DIGITS = str.maketrans("", "", "0123456789")

_get_origin, _get_cause, _set_cause = origin.get, cause.get, cause.set
set_origin = origin.variable.set
"""As `origin.set`, for a test's origins: that there are some is said when it begins."""


class Note(NamedTuple):
    """What an assertion had to tell: for the report section of a failure."""

    title: str
    details: tuple[str, ...]
    about: tuple[Event, ...]


class Attempt:
    """A test that is running, from setup to teardown."""

    # What every test begins with, none of it mutable: a test that asks for nothing sets nothing.
    outcome = "passed"
    unattributed_count = 0
    """How many events happened meanwhile that may be the test's doing, or not."""
    elsewhere = 0
    """How many events others caused meanwhile."""
    suppress: frozenset[Check] = frozenset()
    """Checks that this test does without."""
    doubts: tuple[str, ...] = ()
    """Why what the test read may be incomplete; empty if it read nothing doubtful."""
    tracker: Any = None
    """What tracks the makings of what the test may leave behind, where it asks for that."""
    inside: Cause | None = None
    """The ambient cause of what happens in the phase that is running; None: it begins chains of its
    own."""
    attach: Callable[[Cause], Callable[[], None]] | None = None
    """Makes `inside` known to others' tracing; gives what takes it back."""
    begun = 0
    """Id of its `TestBegan`; 0 if that was not recorded."""
    _losses: LossCounts | None = None
    _kept_back_before = 0
    _begin_read = False
    _undecoded = 0
    _graph: CausalGraph | None = None
    _closed = False
    captures = 0
    """How many parts of the test were captured by themselves."""

    def __init__(
        self, recorder: Recorder, item: pytest.Item | None, nodeid: str, number: int, tried: int
    ) -> None:
        self.recorder = recorder
        self.item = item
        self.nodeid = nodeid
        self.tried = tried if tried < 256 else 255
        self._outer_origin = _get_origin()
        self._outer_cause = _get_cause()
        self.base = f"{recorder.tag}.{number}.{tried}"
        """The origin of the test's own boundaries."""
        self.cause = Cause(mint_id(), 0)
        """The chain of the test's own boundaries: each test is a trace of its own, which
        sampling never leaves out. What the test does begins chains of its own."""
        self.events: list[Event] = []
        """What the test caused, in order of time, without the test's own boundaries."""
        self.notes: list[Note] = []
        self.suppressed: dict[str, str] = {}
        """Doubts that were put aside because their check is suppressed, in order; of those that
        differ in their numbers only, the last."""
        self._unattributed: list[Raw] = []
        self._phases: list[int] = []
        """When each phase began and ended, in turn."""
        self._known: dict[int, Event] = {}
        """Those of them that were decoded, by their place."""
        self.start_ns = monotonic_ns()

    def watch_losses(self) -> None:
        """Count losses from here on: only who asserts on events needs to know them."""
        if self._losses is None:
            self._losses = self.recorder.losses()
            self._kept_back_before = self.recorder.anomalies_kept_back()
            self.recorder.children.begin()

    def enter(self, phase: str) -> str:
        """Run what follows on behalf of a phase (setup, call, teardown), with no cause from
        before but `inside`; the origin of everything that it causes."""
        key = self.base + phase[0]
        self._phases.append(monotonic_ns())
        set_origin(key)
        if _get_cause() is not self.inside:
            _set_cause(self.inside)
        return key

    @property
    def phase_began_ns(self) -> int:
        """When the phase that runs began; 0 between two."""
        return self._phases[-1] if len(self._phases) % 2 else 0

    def leave(self) -> None:
        """Have the origin and the cause that were ambient before the test began."""
        set_origin(self._outer_origin)
        self._phases.append(monotonic_ns())
        if _get_cause() is not self._outer_cause:
            _set_cause(self._outer_cause)

    def drain(self) -> None:
        """Take in what was recorded since the last time, here and in child processes."""
        if self._closed:
            return
        known = len(self.events), len(self._unattributed)
        with self.recorder.muted():
            if not self.recorder.collector.closed:
                for tap in self._taps():
                    self._take(tap.read(self._whose))
            self._take(self._children().read(self._whose))
        if known != (len(self.events), len(self._unattributed)):
            self.events.sort(key=_by_time)
            self._graph = None

    def _taps(self) -> list[Tap]:
        return self.recorder.taps

    def _children(self) -> Children:
        return self.recorder.children

    def graph(self) -> CausalGraph:
        """Which event led to which, among all that are known: a path may lead through events
        that nobody is known to have caused."""
        if self._graph is None:
            self._graph = CausalGraph([*self.events, *self.joined()])
        return self._graph

    def joined(self) -> list[Event]:
        """What nobody is known to have caused, and paths may lead through all the same."""
        return self._decoded(lambda raw: raw.joined)

    @property
    def numbered(self) -> Sequence[Event]:
        """The events as messages number them."""
        return self.events

    def current(self) -> list[Event]:
        """What the test caused so far."""
        return list(self.events)

    def unattributed(self, types: Collection[type[PayloadType]] | None) -> list[Event]:
        """What happened meanwhile and may be the test's doing or not, of these types (None:
        of all)."""
        found = self._decoded(lambda raw: types is None or raw.type in types)
        return [event for event in found if not self._by_pytest(event)]

    def _by_pytest(self, event: Event) -> bool:
        """It happened in the thread that runs the test, between its phases: there pytest runs."""
        if event.tid != self.recorder.tid:
            return False
        return bisect_right(self._phases, event.timestamp_ns) % 2 == 0

    def _decoded(self, wanted: Callable[[Raw], bool]) -> list[Event]:
        """Of what is unattributed, what is wanted. Always the same objects: a graph knows them."""
        found = []
        for index, raw in enumerate(self._unattributed):
            if wanted(raw):
                event = self._known.get(index)
                if event is None and (event := raw.event()) is not None:
                    self._known[index] = event
                if event is not None:
                    found.append(event)
        return found

    def _take(self, new: Iterator[tuple[Whose, Raw]]) -> None:
        for whose, raw in new:
            if whose is Whose.CAUSED:
                event = raw.event()
                if event is None:
                    self._undecoded += 1
                elif event.type is TestBegan or event.type is TestEnded:
                    self._begin_read = self._begin_read or event.id == self.begun
                else:
                    self.events.append(event)
            elif whose is Whose.ELSEWHERE:
                self.elsewhere += 1
            else:
                self.unattributed_count += 1
                if len(self._unattributed) < UNATTRIBUTED_KEPT:
                    self._unattributed.append(raw)

    def owns(self, key: str) -> bool:
        """It is an origin of this test: of a phase, or of a part."""
        base = self.base
        return key.startswith(base) and key[len(base) :].partition(PART)[0] in _PHASES

    def _whose(self, key: str) -> Whose:
        if self.owns(key):
            return Whose.CAUSED
        if not key or key.startswith(self.recorder.tag):
            return Whose.UNATTRIBUTED
        return Whose.ELSEWHERE

    def incomplete(self) -> tuple[str, ...]:
        """Why the capture may lack something that the test caused; empty if it lacks nothing, or
        nothing that is not suppressed."""
        recorder = self.recorder
        collector = recorder.collector
        found: list[Doubt] = []

        def doubt(check: Check, what: str) -> None:
            found.append(Doubt(check, what))

        if collector.closed:
            doubt(Check.closed, "the collector was closed: nothing is captured any more")
        elif recorder.is_on and global_collector() is not collector:
            doubt(
                Check.other_collector,
                "the test made another collector the process-wide one: what goes there is not seen",
            )
        if collector.sampling_rate() < 100:
            doubt(Check.sampling, f"sampling is at {collector.sampling_rate():g} %")
        overwritten = self._overwritten()
        if overwritten:
            doubt(
                Check.overflow,
                f"the ring overflowed: {overwritten} events were overwritten before "
                f"they were read (it holds {collector.ring.slots})",
            )
        for lost_to, number in self._losses_by_cause().items():
            check = Check.sampling if lost_to == "sampled_out" else Check[lost_to]
            doubt(check, f"{number} events {_CAUSE_WORDS[lost_to]}")
        if not found and not self._begin_read:
            doubt(Check.begin_not_read, "the test's own begin event cannot be read back")
        beyond = self.unattributed_count - len(self._unattributed)
        if beyond:
            doubt(
                Check.unattributed_overflow,
                f"{beyond} events that may be the test's or not were too many to keep",
            )
        if self._undecoded:
            doubt(
                Check.undecoded, f"{self._undecoded} events are of types that their recording lacks"
            )
        if recorder.unwatched:
            doubt(Check.unwatched, f"the standard library is not watched: {recorder.unwatched}")
        created = [event for event in self.events if event.type is ProcessCreated]
        with recorder.muted():
            found += self._children().doubts(created)
        return self.unsuppressed(found)

    def kept_back(self) -> tuple[str, ...]:
        """Why there may be anomalies that were not told: an earlier test's stands for one of this
        test. Empty if there are none, or the check is suppressed."""
        number = self.recorder.anomalies_kept_back() - self._kept_back_before
        if number <= 0:
            return ()
        which = "1 anomaly was" if number == 1 else f"{number} anomalies were"
        what = f"{which} not told: of a metric one a second is, whoever caused it"
        return self.unsuppressed((Doubt(Check.anomaly_kept_back, what),))

    def unsuppressed(self, doubts: Iterable[Doubt]) -> tuple[str, ...]:
        """Those doubts whose check is not suppressed, in words; the others are remembered, for
        the summary."""
        kept = []
        for doubt in doubts:
            if doubt.check in self.suppress:
                told = str(doubt)
                numbered = doubt.check.name.startswith("child")  # by pid
                self.suppressed[told if numbered else told.translate(_NO_DIGITS)] = told
            else:
                kept.append(doubt.told())
        return tuple(kept)

    def lost(self) -> int:
        """Events since the test began that were lost, whoever caused them."""
        with self.recorder.muted():
            below = self._children().missing()
        return self._overwritten() + sum(self._losses_by_cause().values()) + below

    def _overwritten(self) -> int:
        return sum(tap.lost for tap in self._taps())

    def _losses_by_cause(self) -> dict[str, int]:
        if self._losses is None:
            return {}
        return losses_by_cause(self.recorder.losses(), self._losses)

    def doubt(self, reasons: Sequence[str]) -> None:
        """The test read what may be incomplete: it cannot pass any more."""
        self.doubts = tuple(reasons)

    def verdict(self) -> Inconclusive:
        """What a test ends with that read an incomplete capture."""
        made = Inconclusive("the test read kobs.events while they were incomplete", self.doubts)
        made.at_end = True
        return made

    def reported(self, report: pytest.TestReport, inconclusive: bool) -> None:
        """A phase was reported: remember the worst outcome."""
        if inconclusive:
            self.outcome = "inconclusive"
        elif report.outcome != "passed" and self.outcome == "passed":
            self.outcome = report.outcome

    def tell(self, note: Note) -> None:
        """Keep what an assertion had to tell."""
        self.notes.append(note)

    def close(self) -> None:
        """Nobody reads any more."""
        self._closed = True
        self.item = None


def _by_time(event: Event) -> tuple[int, int]:
    return event.timestamp_ns, event.id
