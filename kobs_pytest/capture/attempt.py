"""One attempt at one test: what it caused, and how sure that is.

PYTEST_DONT_REWRITE
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from time import monotonic_ns
from typing import NamedTuple

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
from kobs_pytest.capture.children import losses_by_cause
from kobs_pytest.capture.recorder import Recorder
from kobs_pytest.capture.tap import Raw, Whose

UNATTRIBUTED_KEPT = 100_000
"""Events without an origin that are held against patterns; more make absence inconclusive."""

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
    doubts: tuple[str, ...] = ()
    """Why what the test read may be incomplete; empty if it read nothing doubtful."""
    inside: Cause | None = None
    """The ambient cause of what happens in the phase that is running; None: it begins chains of its
    own."""
    attach: Callable[[Cause], Callable[[], None]] | None = None
    """Makes `inside` known to others' tracing; gives what takes it back."""
    begun = 0
    """Id of its `TestBegan`; 0 if that was not recorded."""
    _losses: LossCounts | None = None
    _begin_read = False
    _undecoded = 0
    _graph: CausalGraph | None = None
    _closed = False

    def __init__(
        self, recorder: Recorder, item: pytest.Item, nodeid: str, number: int, tried: int
    ) -> None:
        self.recorder = recorder
        self.item: pytest.Item | None = item
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
        self._unattributed: list[Raw] = []
        self.start_ns = monotonic_ns()

    def watch_losses(self) -> None:
        """Count losses from here on: only who asserts on events needs to know them."""
        if self._losses is None:
            self._losses = self.recorder.collector.ring.losses()
            self.recorder.children.begin()

    def enter(self, phase: str) -> str:
        """Run what follows on behalf of a phase (setup, call, teardown), with no cause from
        before but `inside`; the origin of everything that it causes."""
        key = self.base + phase[0]
        set_origin(key)
        if _get_cause() is not self.inside:
            _set_cause(self.inside)
        return key

    def leave(self) -> None:
        """Have the origin and the cause that were ambient before the test began."""
        set_origin(self._outer_origin)
        if _get_cause() is not self._outer_cause:
            _set_cause(self._outer_cause)

    def drain(self) -> None:
        """Take in what was recorded since the last time, here and in child processes."""
        if self._closed:
            return
        known = len(self.events), len(self._unattributed)
        with self.recorder.muted():
            if not self.recorder.collector.closed:
                for tap in self.recorder.taps:
                    self._take(tap.read(self._whose))
            self._take(self.recorder.children.read(self._whose))
        if known != (len(self.events), len(self._unattributed)):
            self.events.sort(key=_by_time)
            self._graph = None

    def graph(self) -> CausalGraph:
        """Which event led to which, among all that are known: a path may lead through events
        that nobody is known to have caused."""
        if self._graph is None:
            between = (raw.event() for raw in self._unattributed if raw.joined)
            self._graph = CausalGraph([*self.events, *(e for e in between if e is not None)])
        return self._graph

    def unattributed(self, types: Collection[type[PayloadType]] | None) -> list[Event]:
        """What happened meanwhile and may be the test's doing or not, of these types (None:
        of all)."""
        found = (raw.event() for raw in self._unattributed if types is None or raw.type in types)
        return [event for event in found if event is not None]

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

    def _whose(self, key: str) -> Whose:
        if key.startswith(self.base) and key[len(self.base) :] in _PHASES:
            return Whose.CAUSED
        if not key or key.startswith(self.recorder.tag):
            return Whose.UNATTRIBUTED
        return Whose.ELSEWHERE

    def incomplete(self) -> tuple[str, ...]:
        """Why the capture may lack something that the test caused; empty if it lacks nothing."""
        recorder = self.recorder
        collector = recorder.collector
        reasons: list[str] = []
        if collector.closed:
            reasons.append("the collector was closed: nothing is captured any more")
        elif recorder.is_on and global_collector() is not collector:
            reasons.append(
                "the test made another collector the process-wide one: what goes there is not seen"
            )
        if collector.sampling_rate() < 100:
            reasons.append(f"sampling is at {collector.sampling_rate():g} %")
        overwritten = self._overwritten()
        if overwritten:
            reasons.append(
                f"the ring overflowed: {overwritten} events were overwritten before "
                f"they were read (it holds {collector.ring.slots}; --kobs-size)"
            )
        causes = self._losses_by_cause()
        reasons += [f"{number} events {_CAUSE_WORDS[cause]}" for cause, number in causes.items()]
        if not reasons and not self._begin_read:
            reasons.append("the test's own begin event cannot be read back")
        beyond = self.unattributed_count - len(self._unattributed)
        if beyond:
            reasons.append(f"{beyond} events that may be the test's or not were too many to keep")
        if self._undecoded:
            reasons.append(f"{self._undecoded} events are of types that their recording lacks")
        if recorder.unwatched:
            reasons.append(f"the standard library is not watched: {recorder.unwatched}")
        created = [event for event in self.events if event.type is ProcessCreated]
        with recorder.muted():
            reasons += recorder.children.doubts(created)
        return tuple(reasons)

    def lost(self) -> int:
        """Events since the test began that were lost, whoever caused them."""
        with self.recorder.muted():
            below = self.recorder.children.missing()
        return self._overwritten() + sum(self._losses_by_cause().values()) + below

    def _overwritten(self) -> int:
        return sum(tap.lost for tap in self.recorder.taps)

    def _losses_by_cause(self) -> dict[str, int]:
        if self._losses is None:
            return {}
        return losses_by_cause(self.recorder.collector.ring.losses(), self._losses)

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

    def close(self) -> None:
        """Nobody reads any more."""
        self._closed = True
        self.item = None


def _by_time(event: Event) -> tuple[int, int]:
    return event.timestamp_ns, event.id
