"""What is exported, as slots by time: a live collector's ring, or the recordings of a session."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kobs._core.layout import LANES
from kobs.decoder import EventDecoder
from kobs.errors import SessionError
from kobs.export.otlp_encode import encode_resource
from kobs.export.otlp_marks import Marks, Tickets
from kobs.tracing.resource import Given, process_resource, recorded_resource

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from kobs._core.contract import RawSlot, Reader
    from kobs.collector import Collector
    from kobs.events import Event
    from kobs.recording import Part, Recording

CHUNK = 1024
"""Slots that are read at once, of each recording."""
_MOST_HELD = 8 * CHUNK
"""Slots of a recording that wait for older ones of others."""
_STEP_NS = 1_000_000
_SLACK_NS = 1_000_000
"""An event is in the ring at most this long after its time, or is put in order with later ones."""

_timestamp_of = Struct("=8xQ").unpack_from


class Source:
    """A recorded process: its clocks, its resource, and how far it was exported."""

    def __init__(
        self,
        recording: int,
        trace_high: int,
        attributes: dict[str, Any],
        decoder: EventDecoder,
        decode: "Callable[[RawSlot], Event | None]",
        path: str | None,
        clocks: tuple[tuple[int, int], ...],
    ) -> None:
        self.recording = recording
        self.trace_high = trace_high
        self.attributes = attributes
        """Of its resource."""
        self.pid = attributes.get("process.pid")
        self.resource = encode_resource(attributes)
        self.decoder = decoder
        self.decode = decode
        """The event of a slot; None where its bytes make no sense."""
        self.path = path
        """Its recording's file; None for a ring that is none."""
        self.clocks = clocks
        self.last_ns = max((monotonic for monotonic, _ in clocks), default=0)
        """Last sign of life that was seen."""
        self._sdk_resource: Resource | None = None

    @property
    def sdk_resource(self) -> "Resource":
        """Its resource, for the SDK's exporters."""
        if self._sdk_resource is None:
            from opentelemetry.sdk.resources import Resource

            self._sdk_resource = Resource(self.attributes)
        return self._sdk_resource

    def offset_ns(self, monotonic_ns: int) -> int:
        """Wall time minus monotonic time, by the nearest pair of clocks."""
        monotonic, wall = min(self.clocks, key=lambda pair: abs(pair[0] - monotonic_ns))
        return wall - monotonic

    def offsets(self) -> tuple[tuple[int, int], ...]:
        """(monotonic time, wall time minus it) of each pair of clocks."""
        return tuple((monotonic, wall - monotonic) for monotonic, wall in self.clocks)

    def set_clocks(self) -> None:
        """This process's own clocks, where the wall's was set or has drifted."""
        now = (time.monotonic_ns(), time.time_ns())
        if not self.clocks or abs(now[1] - now[0] - self.offset_ns(now[0])) > _STEP_NS:
            self.clocks = (now,)


class Run(NamedTuple):
    """Slots of one source that follow one another."""

    source: Source
    slots: "list[RawSlot]"


class Feed(Protocol):
    """A cursor of its own over everything there is to export."""

    @property
    def lost(self) -> int:
        """Events that went by unread."""
        ...

    def read(self, *, all_of_it: bool = False) -> list[Run]:
        """What is new, by time; empty if nothing is. `all_of_it`: nobody writes any more."""
        ...

    def close(self) -> None:
        """Stop reading."""
        ...


class RingFeed:
    """The ring of a live collector."""

    def __init__(self, collector: "Collector", source: Source) -> None:
        self._source = source
        self._reader = collector.ring.reader(oldest=True)

    @property
    def lost(self) -> int:
        return self._reader.lost

    def read(self, *, all_of_it: bool = False) -> list[Run]:
        slots = self._reader.read(CHUNK)
        return [Run(self._source, slots)] if slots else []

    def close(self) -> None:
        self._reader.close()


def ring_source(collector: "Collector", given: Given) -> Source:
    """This process, as it records itself."""
    ring = collector.ring
    session = collector.session.id if collector.session is not None else ""
    attributes = process_resource(given, session, ring.recording)
    decoder = EventDecoder(ring)
    source = Source(
        ring.recording, ring.trace_high, attributes, decoder, decoder.decode, ring.path, ()
    )
    source.set_clocks()
    return source


class RecordingSources:
    """The processes of a recording or session; more of them as they come."""

    def __init__(
        self, recording: "Recording", resource: Mapping[str, object] | None = None
    ) -> None:
        self.recording = recording
        given = Given.read()
        self._given = given._replace(otherwise={**given.otherwise, **(resource or {})})
        self.by_number: dict[int, Source] = {}
        """Those that are known, by the number of the recording."""
        self._known: dict[str, Source] = {}

    def look(self) -> dict[str, Source]:
        """The processes there are now, by their recordings' files."""
        try:
            self.recording.look()
        except SessionError:
            return self._known  # The folder was removed; what is open can still be read.
        for path, part in self.recording.parts.items():
            known = self._known.get(path)
            if known is None:
                known = self._known[path] = _part_source(path, part, self._given)
                self.by_number[known.recording] = known
            elif part.attached.refreshed_monotonic_ns:
                known.clocks = _clocks(part)
                known.last_ns = max(known.last_ns, part.attached.refreshed_monotonic_ns)
        return self._known

    def part(self, path: str) -> "Part":
        """What reads and decodes a file."""
        return self.recording.parts[path]


def _part_source(path: str, part: "Part", given: Given) -> Source:
    attached = part.attached
    return Source(
        attached.recording, attached.trace_high, recorded_resource(given, attached),
        part.decoder, part.decode, path, _clocks(part),
    )  # fmt: skip


def _clocks(part: "Part") -> tuple[tuple[int, int], ...]:
    ring = part.attached
    pairs = (
        (ring.started_monotonic_ns, ring.started_wall_ns),
        (ring.refreshed_monotonic_ns, ring.refreshed_wall_ns),
    )
    return tuple(pair for pair in pairs if pair[0]) or pairs[:1]


class RecordingFeed:
    """The recordings of a session, or one, merged by time; live ones are followed."""

    def __init__(self, sources: RecordingSources, progress: "Progress | None") -> None:
        self._sources = sources
        self._progress = progress
        self._readers: dict[str, Reader] = {}
        self._missed = 0
        self._held: list[tuple[int, Source, RawSlot]] = []

    @property
    def lost(self) -> int:
        """Sampling and filters are choices; for the others an exporter cannot make up."""
        lost = self._missed
        for path, reader in self._readers.items():
            losses = self._sources.part(path).attached.losses()
            lost += reader.lost + losses.contended + losses.discarded
            lost += losses.too_big + losses.errors
        return lost

    def read(self, *, all_of_it: bool = False) -> list[Run]:
        """What is read of one file may be newer than what is yet to be read of another: it is
        held back until the next time."""
        until = time.monotonic_ns() - _SLACK_NS
        if all_of_it:
            until = 1 << 64
        found = self._held
        held = Counter(source.recording for _, source, _ in found)
        newest = {source.recording: time_ns for time_ns, source, _ in found}
        for path, source in self._sources.look().items():
            if held[source.recording] >= _MOST_HELD:
                # The others have to come up with it; what is not read of it is newer.
                until = min(until, newest[source.recording])
                continue
            reader = self._readers.get(path)
            if reader is None:
                part = self._sources.part(path)
                reader = self._readers[path] = part.attached.reader(oldest=True)
                before = 0 if self._progress is None else sum(self._progress.sent(source))
                self._missed += max(0, part.attached.losses().overwritten - before)
            slots = reader.read(CHUNK)
            found += [(_timestamp_of(slot.data)[0], source, slot) for slot in slots]
            if len(slots) == CHUNK:
                until = min(until, found[-1][0])
        found.sort(key=_time)
        # A file that is read in one piece need not wait for others.
        ready = len(found)
        if len(self._readers) > 1:
            while ready and found[ready - 1][0] > until:
                ready -= 1
        self._held = found[ready:]
        runs: list[Run] = []
        for _, source, slot in found[:ready]:
            if not runs or runs[-1].source is not source:
                runs.append(Run(source, []))
            runs[-1].slots.append(slot)
        return runs

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()


def _time(found: tuple[int, Source, "RawSlot"]) -> int:
    return found[0]


class Progress:
    """How far one signal of the sources was exported, by their marks."""

    def __init__(self, signal: str, *, again: bool = False) -> None:
        self._signal = signal
        self._again = again
        self._marks: dict[int, Marks | None] = {}
        self._sent: dict[int, Tickets] = {}
        self._passed: dict[int, Tickets] = {}

    def sent(self, source: Source) -> Tickets:
        """What was exported of a source before: one past the last ticket, by lane."""
        found = self._sent.get(source.recording)
        if found is None:
            marks = self._marks[source.recording] = Marks(source.path) if source.path else None
            found = [0] * LANES
            if marks is not None and not self._again:
                found = marks.of(self._signal)
            self._sent[source.recording] = found
        return found

    def passed(self, run: Run) -> None:
        """These slots were looked at; what is of them is on its way."""
        tickets = self._passed.setdefault(run.source.recording, list(self.sent(run.source)))
        left = set(range(LANES))
        for slot in reversed(run.slots):
            if slot.lane in left:
                left.discard(slot.lane)
                tickets[slot.lane] = max(tickets[slot.lane], slot.ticket + 1)
                if not left:
                    return

    def where(self) -> dict[int, Tickets]:
        """What was looked at so far, by recording."""
        return {recording: list(tickets) for recording, tickets in self._passed.items()}

    def note(self, where: dict[int, Tickets]) -> None:
        """Everything up to there was taken."""
        for recording, tickets in where.items():
            marks = self._marks[recording]
            if marks is not None and any(
                new > old for new, old in zip(tickets, marks.of(self._signal), strict=True)
            ):
                marks.note(self._signal, tickets)

    def open_sent(self, source: Source) -> bool:
        """The spans that were open when the process was gone were exported before."""
        self.sent(source)
        marks = self._marks[source.recording]
        return marks is not None and marks.open_sent and not self._again

    def note_open(self, recordings: frozenset[int]) -> None:
        """Those of these recordings were taken."""
        for recording in recordings:
            marks = self._marks.get(recording)
            if marks is not None:
                marks.note(open_sent=True)
