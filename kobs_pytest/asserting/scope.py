"""Whose events an assertion is about: a test's, or those of a part of it.

PYTEST_DONT_REWRITE
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from time import monotonic_ns
from typing import Protocol

from kobs.causality import CausalGraph
from kobs.context import origin
from kobs.events import Event
from kobs.pattern.causes import reached_from
from kobs.schema import PayloadType
from kobs_pytest.capture.attempt import PART, Attempt, Note
from kobs_pytest.capture.checks import Doubt
from kobs_pytest.capture.recorder import Recorder

_moment = attrgetter("timestamp_ns")


class Scope(Protocol):
    """What `Events` and the assertions ask; a test (`Attempt`) is one."""

    recorder: Recorder
    start_ns: int
    """When the test began, which is what messages count time from."""

    @property
    def numbered(self) -> Sequence[Event]:
        """The events that messages name by their place: all of the test."""
        ...

    def drain(self) -> None:
        """Take in what was recorded since the last time."""
        ...

    def current(self) -> list[Event]:
        """The scope's events, in order of time."""
        ...

    def graph(self) -> CausalGraph:
        """Which event led to which."""
        ...

    def unattributed(self, types: Collection[type[PayloadType]] | None) -> list[Event]:
        """What may be the scope's doing or not."""
        ...

    def incomplete(self) -> tuple[str, ...]:
        """Why something may be missing."""
        ...

    def kept_back(self) -> tuple[str, ...]:
        """Why there may be anomalies that were not told."""
        ...

    def unsuppressed(self, doubts: Iterable[Doubt]) -> tuple[str, ...]:
        """Those doubts whose check is not suppressed, in words."""
        ...

    def lost(self) -> int:
        """How many events were lost."""
        ...

    def doubt(self, reasons: Sequence[str]) -> None:
        """Something was read that may be incomplete."""
        ...

    def tell(self, note: Note) -> None:
        """Keep what an assertion had to tell, for the report section."""
        ...


class Part:
    """A part of a test: what was done on behalf of one block of code, and what that led to."""

    def __init__(self, whole: Attempt) -> None:
        self._whole = whole
        self.recorder = whole.recorder
        self.start_ns = whole.start_ns
        self._since = 0
        self._key = ""
        self._outer = ""
        self._graph: tuple[int, CausalGraph] | None = None

    def enter(self) -> None:
        """What runs here from now on is done on behalf of the part."""
        whole = self._whole
        with self.recorder.muted():
            self.recorder.begin_part()
        whole.captures += 1
        self._outer = origin.get()
        base = self._outer if whole.owns(self._outer) else whole.base + "c"
        self._key = f"{base}{PART}{whole.captures}"
        self._since = monotonic_ns()
        origin.set(self._key)

    def leave(self) -> None:
        """As before `enter`."""
        origin.set(self._outer)

    @property
    def numbered(self) -> Sequence[Event]:
        return self._whole.events

    def drain(self) -> None:
        self._whole.drain()

    def current(self) -> list[Event]:
        recent = self._recent()
        deeper = self._key + PART
        own = [e for e in recent if e.origin == self._key or e.origin.startswith(deeper)]
        found = {id(event) for event in own}
        found.update(id(event) for event, _ in reached_from(self.graph(), own))
        return [event for event in recent if id(event) in found]

    def graph(self) -> CausalGraph:
        """Of what happened since the part began: a test that has many parts is long."""
        whole = self._whole
        size = len(whole.events) + whole.unattributed_count
        if self._graph is None or self._graph[0] != size:
            joined = (e for e in whole.joined() if e.timestamp_ns >= self._since)
            self._graph = size, CausalGraph([*self._recent(), *joined])
        return self._graph[1]

    def unattributed(self, types: Collection[type[PayloadType]] | None) -> list[Event]:
        return [e for e in self._whole.unattributed(types) if e.timestamp_ns >= self._since]

    def incomplete(self) -> tuple[str, ...]:
        return self._whole.incomplete()

    def kept_back(self) -> tuple[str, ...]:
        return self._whole.kept_back()

    def unsuppressed(self, doubts: Iterable[Doubt]) -> tuple[str, ...]:
        return self._whole.unsuppressed(doubts)

    def lost(self) -> int:
        return self._whole.lost()

    def doubt(self, reasons: Sequence[str]) -> None:
        self._whole.doubt(reasons)

    def tell(self, note: Note) -> None:
        self._whole.tell(note)

    def _recent(self) -> list[Event]:
        events = self._whole.events
        return events[bisect_left(events, self._since, key=_moment) :]
