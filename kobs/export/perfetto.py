"""A recording as a Perfetto trace, for the Perfetto UI.

The native format (TrackEvent protobuf) rather than Chrome's JSON: event ids, flows and
nanoseconds are 64-bit integers there and stay exact, and packets can be written one by one.

- Every process and thread is a track, named; processes say who started them.
- What has a duration is a slice that ends at its timestamp; a begin and its end are one slice;
  a begin without an end (in flight when the process was killed, or still) is a slice without an
  end. Slices that would cross are on further tracks of the thread (`kobs.export.slices`).
- All else is an instant. Queue depth, memory and metrics are counter tracks.
- An arrow goes from parent to child where they are on different threads, and from each send to
  its receive.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from kobs._analysis.graph import RECEIVES, SENDS
from kobs.events import FLAG_BEGIN, FLAG_END, Event
from kobs.export.packets import (
    Annotations,
    Names,
    clock_snapshot,
    counter_descriptor,
    counter_event,
    lane_descriptor,
    process_descriptor,
    process_tree,
    thread_descriptor,
    track_event,
    track_packet,
    wrap,
)
from kobs.export.slices import FOREVER, Lanes, NewTrack, Places
from kobs.export.spool import Spool
from kobs.fields import IdentifierKind, InternedName
from kobs.ids import split_id
from kobs.levels import Severity

if TYPE_CHECKING:
    from kobs.export.excerpt import Excerpt
    from kobs.recording import Recording

SLICE_BEGIN, SLICE_END, INSTANT, COUNTER = 1, 2, 3, 4

_RETOLD = {"SyscallSlow", "FileSlow", "OperationSlow", "BudgetExceeded", "SchedulerLatency"}
"""Types with a duration that another event shows already, or that is none of the thread's."""
_BARE = {"SyscallExit", "SpanEnded", "SyscallEnter", "SpanBegan"}
"""Types whose slices have the name alone: `read`, not `SyscallExit read`."""
_LINKS_REMEMBERED = 65_536


class Totals:
    """What an export wrote."""

    def __init__(self) -> None:
        self.events = 0
        self.slices = 0
        self.unfinished = 0
        self.instants = 0
        self.counters = 0
        self.flows = 0
        self.tracks = 0


def export_perfetto(
    recording: "Recording | Excerpt", file: BinaryIO, *, spool_folder: str | None = None
) -> Totals:
    """Write the events of a recording or session to `file`; return what was written.

    Events are kept in a temporary file in `spool_folder` meanwhile, not in memory. Raises
    `OSError` where the disk is full.
    """
    exporter = _Exporter(recording, spool_folder)
    try:
        exporter.take(recording.events())
        exporter.finish()
        for packet in exporter.packets():
            file.write(packet)
    finally:
        exporter.spool.close()
    return exporter.totals


class _Thread:
    __slots__ = ("index", "lanes", "pid", "tid", "track")

    def __init__(self, index: int, pid: int, tid: int, new_track: NewTrack) -> None:
        self.index = index
        self.pid = pid
        self.tid = tid
        self.track = new_track()
        self.lanes = Lanes(self.track, new_track)


class _Exporter:
    def __init__(self, recording: "Recording | Excerpt", spool_folder: str | None) -> None:
        self.recording = recording
        self.totals = Totals()
        self.spool = Spool(spool_folder)
        self.new_track = NewTrack()
        self.names = Names()
        self.annotate = Annotations(self.names)
        self.places = Places()
        self.processes: dict[int, int] = {}
        self.threads: dict[tuple[int, int], _Thread] = {}
        self.counters: dict[tuple[int, str], tuple[int, str]] = {}
        self.begun: dict[int, Event] = {}
        self.senders: dict[int, int] = {}
        self.flows: dict[int, list[int]] = {}
        self.pids = {p.recording: p.pid for p in recording.processes}
        self.last_time = 0

    # -- events ------------------------------------------------------------------------------

    def take(self, events: Iterable[Event]) -> None:
        for event in events:
            self.totals.events += 1
            self.last_time = max(self.last_time, event.timestamp_ns)
            thread = self.thread(event)
            if event.flags & FLAG_BEGIN:
                self.places.put(event.id, thread.index, event.timestamp_ns)
                self.begun[event.id] = event
                continue
            if event.flags & FLAG_END and event.parent in self.begun:
                begin = self.begun.pop(event.parent)
                self.places.put(event.id, thread.index, begin.timestamp_ns)
                self.slice(self.thread(begin), begin.timestamp_ns, event, begin)
                continue
            start = event.timestamp_ns - _duration_ns(event)
            self.places.put(event.id, thread.index, start)
            if self.count(event) and event.severity < Severity.WARN:
                continue
            if start < event.timestamp_ns:
                self.slice(thread, start, event)
            else:
                self.instant(thread, event)

    def slice(self, thread: _Thread, start: int, event: Event, begin: Event | None = None) -> None:
        """A slice from `start` to the event's time, on a track where it nests."""
        end = event.timestamp_ns
        track = thread.lanes.place(start, end) if start < end else 0
        if not track:
            self.instant(thread, event)
            return
        first = begin or event
        early: list[int] = []
        late: list[int] = []
        for flow, cause in self.incoming(first, thread, same=begin.id if begin else 0):
            (early if cause <= start else late).append(flow)
        if begin is not None:
            late += [flow for flow, _ in self.incoming(event, thread, same=begin.id)]
        body = track_event(
            SLICE_BEGIN, track, self.name(event), self.category(event),
            self.annotate.event(event, begin), early,
        )  # fmt: skip
        self.spool.add(
            start, body, opens=True, event=event.id, partner=begin.id if begin is not None else 0
        )
        if late:  # the cause came while the slice was open: an arrow to its begin would go back
            body = track_event(INSTANT, track, self.names.event("cause"), 0, b"", late)
            self.spool.add(end, body)
        self.spool.add(end, track_event(SLICE_END, track))
        self.totals.slices += 1

    def instant(self, thread: _Thread, event: Event) -> None:
        track = thread.lanes.mark(event.timestamp_ns)
        flows = [flow for flow, _ in self.incoming(event, thread)]
        body = track_event(
            INSTANT,
            track,
            self.name(event),
            self.category(event),
            self.annotate.event(event),
            flows,
        )
        self.spool.add(event.timestamp_ns, body, event=event.id)
        self.totals.instants += 1

    def finish(self) -> None:
        """Begins without an end: unfinished slices if they are in flight, else instants."""
        in_flight = {entry.event for entry in self.recording.open_events()}
        left = sorted(self.begun.values(), key=lambda begin: begin.timestamp_ns, reverse=True)
        for begin in left:
            if begin.id not in in_flight:
                self.instant(self.thread(begin), begin)
        for begin in left:
            if begin.id not in in_flight:
                continue
            thread = self.thread(begin)
            track = thread.lanes.place(begin.timestamp_ns, FOREVER)
            if not track:
                self.instant(thread, begin)
                continue
            flows = [flow for flow, _ in self.incoming(begin, thread)]
            body = track_event(
                SLICE_BEGIN, track, self.name(begin), self.category(begin),
                self.annotate.event(begin, in_flight=True), flows,
            )  # fmt: skip
            self.spool.add(begin.timestamp_ns, body, opens=True, event=begin.id)
            self.totals.unfinished += 1
        self.begun.clear()

    def count(self, event: Event) -> bool:
        """Write the event to its counter track; False if its type is no counter."""
        payload: Any = event.payload
        kind = event.type_name
        if kind == "QueueDepth":
            values = [(f"queue {payload.queue_id}", payload.depth, "items")]
        elif kind == "MemoryPressure":
            values = [
                ("memory used", payload.usage_pct, "%"),
                ("memory available", payload.available_mb, "MiB"),
            ]
        elif kind == "MetricUpdate":
            labels = ", ".join(f"{key}={value}" for key, value in payload.labels.items())
            values = [
                (f"{payload.name} {{{labels}}}" if labels else payload.name, payload.value, "")
            ]
        else:
            return False
        pid = self.pid(event)
        for name, value, unit in values:
            track, _ = self.counters.setdefault((pid, name), (0, unit))
            if not track:
                self.process(pid)
                track = self.new_track()
                self.counters[pid, name] = track, unit
            self.spool.add(event.timestamp_ns, counter_event(COUNTER, track, value))
            self.totals.counters += 1
        return True

    # -- causes ------------------------------------------------------------------------------

    def incoming(
        self, event: Event, thread: _Thread, *, same: int = 0
    ) -> Iterator[tuple[int, int]]:
        """(flow id, start of the cause) for each arrow that ends at this event. `same` is an
        event that is shown by the same slice."""
        sender = 0
        if event.link:
            kind = event.type_name
            sender = self.senders.get(event.link, 0)
            if kind in SENDS or not (sender or kind in RECEIVES):
                self.senders[event.link] = event.id
                sender = 0
                if len(self.senders) > _LINKS_REMEMBERED:
                    del self.senders[next(iter(self.senders))]
        for source in {event.parent, sender} - {0, same, event.id}:
            place = self.places.get(source)
            if place is None or (place[0] == thread.index and source != sender):
                continue
            if place[1] > event.timestamp_ns:
                continue  # recorded after its effect: the UI would turn the arrow round
            self.totals.flows += 1
            self.flows.setdefault(source, []).append(self.totals.flows)
            yield self.totals.flows, place[1]

    # -- names and tracks --------------------------------------------------------------------

    def pid(self, event: Event) -> int:
        number = split_id(event.id)[0]
        pid = self.pids.get(number)
        if pid is None:  # a process that began after the recording was opened
            self.pids.update((p.recording, p.pid) for p in self.recording.processes)
            pid = self.pids.setdefault(number, event.pid)
        return pid

    def process(self, pid: int) -> int:
        track = self.processes.get(pid)
        if track is None:
            track = self.processes[pid] = self.new_track()
        return track

    def thread(self, event: Event) -> _Thread:
        key = self.pid(event), event.tid
        thread = self.threads.get(key)
        if thread is None:
            self.process(key[0])
            thread = self.threads[key] = _Thread(len(self.threads) + 1, *key, self.new_track)
        return thread

    def name(self, event: Event) -> int | str:
        schema = event.type.__kobs_schema__
        kind = schema.name
        if schema.name_field is None:
            return self.names.event(kind)
        name = event.name or ""
        field = schema.field(schema.name_field)
        if schema.name_field == "path":
            name = name.rpartition("/")[2] or name
        if kind not in _BARE:
            name = f"{kind} {name}"
        return self.names.event(name, bounded=isinstance(field.kind, InternedName | IdentifierKind))

    def category(self, event: Event) -> int:
        return self.names.category(event.category.name.lower())

    # -- the file ----------------------------------------------------------------------------

    def packets(self) -> Iterator[bytes]:
        """The whole trace, packet by packet."""
        records = list(self.recording.processes)
        info = self.recording.session_info
        for record in records:
            self.process(record.pid)
        self.totals.tracks = len(self.processes) + len(self.threads) + len(self.counters)
        self.totals.tracks += len(self.new_track.parents)
        yield clock_snapshot(
            int(info.get("started_monotonic_ns") or 0), int(info.get("started_wall_ns") or 0)
        )
        yield process_tree(records)
        by_pid = {record.pid: record for record in reversed(records)}
        for pid, track in self.processes.items():
            command = by_pid[pid].command if pid in by_pid else ""
            yield process_descriptor(track, pid, command)
        for thread in self.threads.values():
            yield thread_descriptor(
                thread.track, self.processes[thread.pid], thread.pid, thread.tid
            )
        for track, parent in self.new_track.parents.items():
            yield lane_descriptor(track, parent)
        for (pid, name), (track, unit) in self.counters.items():
            yield counter_descriptor(track, self.processes[pid], name, unit)
        yield wrap(self.names.interned())
        for time, event, partner, body in self.spool.sorted():
            flows = self.flows.get(event)
            more = self.flows.get(partner) if partner else None
            yield track_packet(time, body, [*(flows or ()), *(more or ())])


def _duration_ns(event: Event) -> int:
    if event.type_name in _RETOLD:
        return 0
    duration = event.duration_us
    if duration is None or not 0 < duration * 1000 <= event.timestamp_ns:
        return 0
    return round(duration * 1000)
