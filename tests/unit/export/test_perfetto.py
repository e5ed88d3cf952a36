"""The Perfetto trace, read back with Perfetto's own schema and played as its UI plays it."""

import io
import math
import os
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

from kobs.collector import Collector
from kobs.events import Event
from kobs.export.perfetto import Totals, export_perfetto
from kobs.levels import SyscallResult
from kobs.payloads import (
    FileOpened,
    MemoryPressure,
    MessageReceived,
    MessageSent,
    MetricUpdate,
    ProcessCreated,
    QueueDepth,
    SpanBegan,
    SpanEnded,
    SyscallEnter,
    SyscallExit,
)
from kobs.recording import open_recording
from kobs.session import Session

BEGIN, END, INSTANT, COUNTER = (
    schema.TrackEvent.TYPE_SLICE_BEGIN,
    schema.TrackEvent.TYPE_SLICE_END,
    schema.TrackEvent.TYPE_INSTANT,
    schema.TrackEvent.TYPE_COUNTER,
)
MONOTONIC = schema.BUILTIN_CLOCK_MONOTONIC


class Slice(NamedTuple):
    """A slice as the UI shows it; an instant has no duration, an unfinished one None."""

    name: str
    category: str
    track: int
    start: int
    duration: int | None
    depth: int
    arguments: dict[str, Any]

    @property
    def ids(self) -> set[int]:
        """The events that it shows."""
        event = self.arguments.get("event", {})
        return {event[key] for key in ("id", "begin_id") if key in event}


class Played:
    """What the UI makes of a trace: packets by time, a stack of slices a track, flows from the
    slice that starts first to the one that starts later."""

    def __init__(self, data: bytes) -> None:
        self.trace = schema.Trace()
        self.trace.ParseFromString(data)
        _no_unknown_fields(self.trace)
        self.tracks: dict[int, Any] = {}
        self.slices: list[Slice] = []
        self.counters: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.flows: set[tuple[int, int]] = set()
        self._flows: dict[int, list[int]] = defaultdict(list)
        self._names: dict[str, dict[int, str]] = {}
        self._stacks: dict[int, list[int]] = defaultdict(list)
        for packet in self.trace.packet:
            if packet.HasField("track_descriptor"):
                descriptor = packet.track_descriptor
                assert descriptor.uuid not in self.tracks, "a track is described twice"
                assert not descriptor.parent_uuid or descriptor.parent_uuid in self.tracks
                self.tracks[descriptor.uuid] = descriptor
            if packet.HasField("interned_data"):
                self._intern(packet.interned_data)
        last: dict[int, int] = defaultdict(int)
        for packet in self.trace.packet:
            if packet.HasField("track_event"):
                assert packet.timestamp_clock_id == MONOTONIC
                track = packet.track_event.track_uuid
                assert packet.timestamp >= last[track], "time goes back on a track"
                last[track] = packet.timestamp
                self._play(packet.timestamp, packet.track_event)
        for stack in self._stacks.values():
            for at in stack:
                self.slices[at] = self.slices[at]._replace(duration=None)
        for ends in self._flows.values():
            assert len(ends) == 2, "an arrow has two ends"
            ends.sort(key=lambda at: self.slices[at].start)
            self.flows.add((ends[0], ends[1]))

    def _intern(self, data: Any) -> None:
        for field, entries in data.ListFields():
            table = {entry.iid: entry.name for entry in entries}
            assert len(table) == len(entries), "an id is used twice"
            assert len(set(table.values())) == len(table)
            self._names[field.name] = table

    def _play(self, at: int, event: Any) -> None:
        track, stack = event.track_uuid, self._stacks[event.track_uuid]
        descriptor = self.tracks[track]
        if event.type == COUNTER:
            field = event.WhichOneof("counter_value_field")
            self.counters[descriptor.name].append((at, getattr(event, field)))
            return
        if event.type == END:
            assert stack, "a slice ends that never began"
            opened = self.slices[stack[-1]]
            self.slices[stack.pop()] = opened._replace(duration=at - opened.start)
            return
        name = event.name or self._names["event_names"][event.name_iid]
        categories = [self._names["event_categories"][iid] for iid in event.category_iids]
        arguments: dict[str, Any] = {}
        for annotation in event.debug_annotations:
            self._argument(annotation, arguments)
        number = len(self.slices)
        made = Slice(name, " ".join(categories), track, at, 0, len(stack), arguments)
        self.slices.append(made)
        if event.type == BEGIN:
            stack.append(number)
        for flow in event.flow_ids:
            self._flows[flow].append(number)

    def _argument(self, annotation: Any, into: dict[str, Any]) -> None:
        key = annotation.name or self._names["debug_annotation_names"][annotation.name_iid]
        assert key not in into, f"{key} is there twice"
        if annotation.dict_entries:
            into[key] = {}
            for entry in annotation.dict_entries:
                self._argument(entry, into[key])
            return
        field = annotation.WhichOneof("value")
        into[key] = None if field is None else getattr(annotation, field)

    def thread_of(self, played: Slice) -> tuple[int, int]:
        """(pid, tid) of the thread that a slice is drawn in."""
        descriptor = self.tracks[played.track]
        while not descriptor.HasField("thread"):
            descriptor = self.tracks[descriptor.parent_uuid]
        return descriptor.thread.pid, descriptor.thread.tid

    def named(self, name: str) -> list[Slice]:
        """The slices of that name."""
        return [played for played in self.slices if played.name == name]

    def arrows(self) -> set[tuple[str, str]]:
        """Names of the slices that arrows join."""
        return {(self.slices[a].name, self.slices[b].name) for a, b in self.flows}


def _no_unknown_fields(message: Any) -> None:
    from google.protobuf.unknown_fields import UnknownFieldSet

    assert not len(UnknownFieldSet(message)), f"{message.DESCRIPTOR.name} has an unknown field"
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                _no_unknown_fields(part)


def played(path: object) -> tuple[Played, Totals, list[Event]]:
    """A recording's trace as the UI plays it, what the export says it wrote, and the events."""
    with open_recording(path) as recording:  # type: ignore[arg-type]
        file = io.BytesIO()
        totals = export_perfetto(recording, file)
        return Played(file.getvalue()), totals, recording.snapshot()


def read(duration_us: float) -> SyscallExit:
    """A read that took so long."""
    return SyscallExit(name="read", duration_us=duration_us, result=SyscallResult.SUCCESS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a recording goes."""
    return tmp_path / "a.kobs"


class TestSlices:
    def test_end_at_the_events_time(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            collector.emit(read(2.5), timestamp_ns=10_000)
        trace, totals, _ = played(path)
        [slice_] = trace.named("read")
        assert (slice_.start, slice_.duration) == (7_500, 2_500)
        assert slice_.category == "syscall"
        assert slice_.arguments["duration_us"] == 2.5
        assert slice_.arguments["result"] == "SUCCESS"
        assert slice_.arguments["event"]["severity"] == "DEBUG"
        assert (totals.events, totals.slices, totals.instants) == (1, 1, 0)

    def test_what_has_no_duration_is_an_instant(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            collector.emit(ProcessCreated(name="sh"), timestamp_ns=10)
            collector.emit(read(0.0), timestamp_ns=20)
        trace, totals, _ = played(path)
        assert [(s.name, s.start, s.duration) for s in trace.slices] == [
            ("ProcessCreated sh", 10, 0),
            ("read", 20, 0),
        ]
        assert totals.instants == 2

    @pytest.mark.parametrize("duration", [math.nan, math.inf, -1.0, 1e300])
    def test_a_duration_that_cannot_be_is_an_instant(self, path: Path, duration: float) -> None:
        with Collector(path=path, size=64) as collector:
            collector.emit(read(duration), timestamp_ns=20)
        trace, _, _ = played(path)
        assert [(s.start, s.duration) for s in trace.slices] == [(20, 0)]

    def test_nest_where_one_contains_the_other(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            collector.emit(read(1.0), timestamp_ns=3_000, tid=1)
            collector.emit(read(1.0), timestamp_ns=5_000, tid=1)
            collector.emit(FileOpened(path="/x/y", mode="r", duration_us=8.0),
                           timestamp_ns=9_000, tid=1)  # fmt: skip
        trace, _, _ = played(path)
        [outer] = trace.named("FileOpened y")
        assert [s.depth for s in trace.named("read")] == [outer.depth + 1] * 2
        assert len({s.track for s in trace.slices}) == 1

    def test_that_start_together_nest_by_their_ends(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            for end in (2_000, 3_000, 9_000):
                collector.emit(read((end - 1_000) / 1000), timestamp_ns=end, tid=1)
        trace, _, _ = played(path)
        assert sorted((s.duration, s.depth) for s in trace.slices) == [
            (1_000, 2), (2_000, 1), (8_000, 0),
        ]  # fmt: skip

    def test_follow_one_another_without_a_gap(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            for end in (2_000, 3_000, 4_000):
                collector.emit(read(1.0), timestamp_ns=end, tid=1)
        trace, _, _ = played(path)
        assert [(s.start, s.duration, s.depth) for s in trace.slices] == [
            (1_000, 1_000, 0), (2_000, 1_000, 0), (3_000, 1_000, 0),
        ]  # fmt: skip

    def test_that_would_cross_are_on_further_tracks_of_the_thread(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            for end in (5_000, 6_000, 7_000):
                collector.emit(read(3.0), timestamp_ns=end, tid=8)
        trace, _, _ = played(path)
        assert len({s.track for s in trace.slices}) == 3
        assert {trace.thread_of(s) for s in trace.slices} == {(os.getpid(), 8)}
        assert all(s.duration == 3_000 for s in trace.slices)

    def test_a_begin_and_its_end_are_one_slice(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            scope = collector.emit_begin(
                SpanBegan(name="request", kind="server"), timestamp_ns=1_000
            )
            collector.emit(read(1.0), timestamp_ns=3_000, parent=scope.event)
            end = SpanEnded(
                name="request", duration_us=4.0, status="ok", attributes={"a": [1, "b"]}
            )
            collector.emit_end(scope, end, timestamp_ns=5_000)
        trace, totals, _ = played(path)
        [request] = trace.named("request")
        [inner] = trace.named("read")
        assert (request.start, request.duration) == (1_000, 4_000)
        assert inner.depth == request.depth + 1
        assert request.arguments["kind"] == "server"
        assert request.arguments["status"] == "ok"
        assert len(request.ids) == 2
        assert totals.slices == 2

    def test_a_begin_without_an_end_is_an_unfinished_slice(self, path: Path) -> None:
        collector = Collector(path=path, size=64)
        collector.emit_begin(SpanBegan(name="outer"), timestamp_ns=1_000)
        collector.emit_begin(SyscallEnter(name="flock"), timestamp_ns=2_000)
        collector.emit(read(1.0), timestamp_ns=9_000)
        trace, totals, _ = played(path)
        [outer], [flock] = trace.named("outer"), trace.named("flock")
        assert outer.duration is None
        assert flock.duration is None
        assert flock.arguments["event"]["in_flight"] is True
        assert flock.depth > outer.depth
        assert totals.unfinished == 2
        collector.close()

    def test_a_begin_whose_end_was_lost_is_not_shown_as_in_flight(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            collector.emit(SpanBegan(name="odd"), timestamp_ns=1_000, flags=4)
        trace, totals, _ = played(path)
        assert [(s.name, s.duration) for s in trace.slices] == [("odd", 0)]
        assert totals.unfinished == 0


class TestTracks:
    def test_processes_and_threads_are_named(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            collector.emit(read(1.0), tid=os.getpid())
            collector.emit(read(1.0), tid=77)
        trace, totals, _ = played(path)
        threads = [t.thread for t in trace.tracks.values() if t.HasField("thread")]
        [process] = [t.process for t in trace.tracks.values() if t.HasField("process")]
        assert process.pid == os.getpid()
        assert "pytest" in process.process_name or "python" in process.process_name
        assert {t.tid: t.thread_name for t in threads} == {
            os.getpid(): "main thread",
            77: "thread 77",
        }
        assert totals.tracks == len(trace.tracks)

    def test_the_process_tree_says_who_started_whom(self, tmp_path: Path) -> None:
        made = Session.create("tree", ["tree"], root=tmp_path)
        collector = Collector(session=made, size=64)
        collector.emit(ProcessCreated(name="child"))
        pid = os.fork()
        if pid == 0:
            collector.emit(read(1.0))
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        collector.close()
        trace, _, _ = played(made)
        [tree] = [p.process_tree for p in trace.trace.packet if p.HasField("process_tree")]
        assert {p.pid: p.ppid for p in tree.processes}[pid] == os.getpid()
        assert {t.process.pid for t in trace.tracks.values() if t.HasField("process")} == {
            pid,
            os.getpid(),
        }

    def test_clocks_say_when_it_was(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            collector.emit(read(1.0))
        trace, _, _ = played(path)
        snapshot = trace.trace.packet[0].clock_snapshot
        clocks = {clock.clock_id: clock.timestamp for clock in snapshot.clocks}
        assert snapshot.primary_trace_clock == MONOTONIC
        assert set(clocks) == {MONOTONIC, schema.BUILTIN_CLOCK_REALTIME}
        with open_recording(path) as recording:
            assert clocks[MONOTONIC] == recording.session_info["started_monotonic_ns"]

    def test_depths_memory_and_metrics_are_counters(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            for depth in (1, 5, 2):
                collector.emit(QueueDepth(queue_id="jobs", depth=depth), timestamp_ns=depth * 10)
            collector.emit(MemoryPressure(usage_pct=50, available_mb=10))
            collector.emit(MetricUpdate(name="load", value=0.5, labels={"cpu": 1}))
        trace, totals, _ = played(path)
        assert sorted(trace.counters["queue jobs"]) == [(10, 1), (20, 2), (50, 5)]
        assert [value for _, value in trace.counters["memory used"]] == [50]
        assert [value for _, value in trace.counters["memory available"]] == [10]
        assert [value for _, value in trace.counters["load {cpu=1}"]] == [0.5]
        assert totals.counters == 6
        assert not trace.slices

    def test_a_counter_that_warns_is_an_instant_too(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            collector.memory_pressure(95, 1)
        trace, _, _ = played(path)
        assert [s.name for s in trace.slices] == ["MemoryPressure"]


class TestArrows:
    def test_go_from_parent_to_child_on_another_thread(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            cause = collector.emit(ProcessCreated(name="a"), tid=1, timestamp_ns=10)
            collector.emit(ProcessCreated(name="b"), tid=2, parent=cause, timestamp_ns=20)
            collector.emit(ProcessCreated(name="c"), tid=3, parent=cause, timestamp_ns=30)
            collector.emit(ProcessCreated(name="d"), tid=1, parent=cause, timestamp_ns=40)
        trace, totals, _ = played(path)
        assert trace.arrows() == {
            ("ProcessCreated a", "ProcessCreated b"),
            ("ProcessCreated a", "ProcessCreated c"),
        }
        assert totals.flows == 2

    def test_go_from_a_send_to_each_receive(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            collector.emit(MessageSent(queue_id="q"), link=9, timestamp_ns=10)
            for at in (20, 30):
                collector.emit(MessageReceived(queue_id="q"), link=9, timestamp_ns=at)
        trace, _, _ = played(path)
        assert trace.arrows() == {("MessageSent q", "MessageReceived q")}
        assert len(trace.flows) == 2

    def test_a_link_that_is_the_parent_too_is_one_arrow(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            sent = collector.emit(MessageSent(queue_id="q"), link=9, timestamp_ns=10, tid=1)
            collector.emit(
                MessageReceived(queue_id="q"), link=9, parent=sent, timestamp_ns=20, tid=2
            )
        _, totals, _ = played(path)
        assert totals.flows == 1

    def test_to_a_call_that_waited_end_where_the_cause_came(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            cause = collector.emit(ProcessCreated(name="cause"), tid=1, timestamp_ns=50_000)
            collector.emit(read(90.0), tid=2, parent=cause, timestamp_ns=100_000)
        trace, _, _ = played(path)
        assert trace.arrows() == {("ProcessCreated cause", "cause")}
        [(_, target)] = trace.flows
        [waited] = trace.named("read")
        assert trace.slices[target].start == waited.start + (waited.duration or 0)
        assert trace.slices[target].track == waited.track

    def test_never_go_back_from_a_receive_to_a_send_that_was_recorded_late(
        self, path: Path
    ) -> None:
        with Collector(path=path, size=64) as collector:
            collector.emit(MessageReceived(queue_id="q"), link=9, timestamp_ns=10, tid=1)
            sent = collector.emit(MessageSent(queue_id="q"), link=9, timestamp_ns=20, tid=2)
            collector.emit(MessageReceived(queue_id="q"), link=9, timestamp_ns=30, tid=3)
            collector.emit(ProcessCreated(name="x"), parent=sent, timestamp_ns=15, tid=4)
        trace, totals, _ = played(path)
        assert trace.arrows() == {("MessageSent q", "MessageReceived q")}
        assert totals.flows == 1

    def test_from_inside_a_scope_start_at_the_scope(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            scope = collector.emit_begin(SpanBegan(name="request"), timestamp_ns=1_000, tid=1)
            collector.emit(
                ProcessCreated(name="child"), parent=scope.event, tid=2, timestamp_ns=2_000
            )
            collector.emit_end(
                scope, SpanEnded(name="request", duration_us=4.0), timestamp_ns=5_000, tid=1
            )
        trace, _, _ = played(path)
        assert trace.arrows() == {("request", "ProcessCreated child")}

    def test_whose_cause_is_lost_are_not_drawn(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            collector.emit(ProcessCreated(name="x"), parent=(1 << 44) | 12345)
        _, totals, _ = played(path)
        assert totals.flows == 0


class TestWhole:
    def test_every_event_is_shown_once(self, path: Path) -> None:
        with Collector(path=path, size=4096) as collector:
            _mixed(collector, 500)
        trace, totals, events = played(path)
        shown = [event for slice_ in trace.slices for event in slice_.ids]
        assert len(shown) == len(set(shown))
        counted = {e.id for e in events if e.type_name == "QueueDepth"}
        assert set(shown) == {event.id for event in events} - counted
        assert totals.events == len(events)

    def test_slices_last_as_long_as_the_events(self, path: Path) -> None:
        with Collector(path=path, size=4096) as collector:
            _mixed(collector, 500)
        trace, _, events = played(path)
        by_id = {event.id: event for event in events}
        for slice_ in trace.slices:
            if slice_.name != "read":
                continue
            event = by_id[slice_.arguments["event"]["id"]]
            assert slice_.start + (slice_.duration or 0) == event.timestamp_ns
            assert slice_.duration == round((event.duration_us or 0) * 1000)

    def test_text_is_utf8_whatever_the_program_said(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            collector.emit(ProcessCreated(name="caf\u00e9 \U0001f600 \udcff\x00"))
            collector.emit(SpanBegan(name="\udc80"))
        trace, _, _ = played(path)
        assert trace.slices[0].name == "ProcessCreated caf\u00e9 \U0001f600 \\udcff\x00"

    def test_names_without_end_are_not_interned(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            for number in range(10):
                collector.emit(ProcessCreated(name=f"p{number}"))
        trace, _, _ = played(path)
        assert "event_names" not in trace._names
        assert len(trace.slices) == 10

    def test_an_empty_recording_is_a_trace_without_events(self, path: Path) -> None:
        Collector(path=path, size=64).close()
        trace, totals, _ = played(path)
        assert not trace.slices
        assert totals.events == 0

    def test_time_that_goes_back_in_the_recording_goes_forward_on_tracks(self, path: Path) -> None:
        with Collector(path=path, size=64) as collector:
            for at in (50_000, 20_000, 40_000, 10_000, 60_000):
                collector.emit(read(5.0), timestamp_ns=at, tid=1)
                collector.emit(ProcessCreated(name="x"), timestamp_ns=at - 1, tid=1)
        trace, _, _ = played(path)
        assert len(trace.slices) == 10


def _mixed(collector: Collector, count: int) -> None:
    """Calls, scopes, messages and counters on three threads, deterministic."""
    import random

    dice = random.Random(7)
    at = 1_000_000_000
    previous = 0
    for number in range(count):
        at += dice.randrange(1, 50_000)
        tid = dice.randrange(1, 4)
        match number % 5:
            case 0:
                scope = collector.emit_begin(SpanBegan(name="work"), timestamp_ns=at, tid=tid)
                at += dice.randrange(1, 9_000)
                collector.emit_end(
                    scope, SpanEnded(name="work", duration_us=1.0), timestamp_ns=at, tid=tid
                )
            case 1:
                previous = collector.emit(
                    MessageSent(queue_id="q"), link=number + 1, timestamp_ns=at, tid=tid
                )
            case 2:
                collector.emit(MessageReceived(queue_id="q"), link=number, timestamp_ns=at, tid=tid)
            case 3:
                collector.emit(read(dice.random() * 90), timestamp_ns=at, tid=tid, parent=previous)
            case _:
                collector.emit(QueueDepth(queue_id="q", depth=number), timestamp_ns=at, tid=tid)
