"""Data points of metrics: what they are called, what they count, where exemplars point."""

import gc
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import (
    cpython_attributes,
    error_attributes,
    process_attributes,
    rpc_attributes,
    server_attributes,
)
from opentelemetry.semconv._incubating.metrics import cpython_metrics, process_metrics, rpc_metrics

from kobs import bridge
from kobs._analysis.histogram import HistogramSnapshot
from kobs.collector import Collector
from kobs.context import EXPORT_ORIGIN, cause
from kobs.errors import ConfigError
from kobs.export import metric_names as names
from kobs.export.metric_calls import ERROR, METHOD, METRICS as CALLS, SERVER, STATUS_CODE, SYSTEM
from kobs.export.metric_points import Metric, Metrics, Point
from kobs.export.metric_source import MetricSource, recorded_metrics
from kobs.export.otlp_send import quietly
from kobs.levels import Category, SyscallResult
from kobs.metrics import RULES
from kobs.payloads import (
    GcPaused,
    MemoryPressure,
    MetricUpdate,
    ProcessCreated,
    QueueDepth,
    SyscallExit,
)
from kobs.recording import open_recording
from kobs.schema import PayloadType, event_type
from kobs.session import Session
from kobs.tracing import span_grpc, span_operation

CORES = ["python", pytest.param("c", marks=pytest.mark.c_core)]


@event_type(category=Category.IPC, name="JobDoneForPoints")
class JobDoneForPoints(PayloadType):
    """A type that the table of rules does not have."""

    job: str
    duration_ms: float


@pytest.fixture(params=CORES)
def collector(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Collector]:
    monkeypatch.setenv("KOBS_CORE", request.param)
    with Collector(size=1024) as made:
        yield made


def read(collector: Collector, name: str = "read", duration_us: float = 10.0, **more: Any) -> None:
    collector.emit(SyscallExit(name, duration_us, SyscallResult.SUCCESS), **more)


def metric(metrics: Metrics, name: str) -> Metric:
    (found,) = [one for one in metrics.metrics if one.name == name]
    return found


def points(metrics: Metrics, name: str) -> list[Point]:
    return [point for one in metrics.metrics if one.name == name for point in one.points]


def value(metrics: Metrics, name: str, **attributes: Any) -> Any:
    """The value of the one series whose attributes include these (`_` for `.`)."""
    wanted = {(key.replace("_", "."), value) for key, value in attributes.items()}
    (found,) = [point for point in points(metrics, name) if wanted <= set(point.attributes)]
    return found.value


class TestNames:
    def test_there_is_one_for_every_metric_of_the_rules(self) -> None:
        metrics = {rule.metric for rules in RULES.values() for rule in rules}
        assert metrics <= set(names.INSTRUMENTS)

    def test_each_is_of_one_metric(self) -> None:
        every = [*names.INSTRUMENTS.values(), *names.GAUGES.values()]
        called = [instrument.name for instrument in every]
        assert len(called) == len(set(called))
        assert all(instrument.description for instrument in every)

    @pytest.mark.parametrize(
        ("instrument", "constant", "convention"),
        [
            (names.GC_COLLECTIONS, "CPYTHON_GC_COLLECTIONS", cpython_metrics),
            (names.GC_COLLECTED, "CPYTHON_GC_COLLECTED_OBJECTS", cpython_metrics),
            (names.GC_UNCOLLECTABLE, "CPYTHON_GC_UNCOLLECTABLE_OBJECTS", cpython_metrics),
            (names.INSTRUMENTS["memory.resident"], "PROCESS_MEMORY_USAGE", process_metrics),
            (names.GAUGES["scheduler.preemptions"], "PROCESS_CONTEXT_SWITCHES", process_metrics),
            (names.INSTRUMENTS[CALLS["client"]], "RPC_CLIENT_CALL_DURATION", rpc_metrics),
            (names.INSTRUMENTS[CALLS["server"]], "RPC_SERVER_CALL_DURATION", rpc_metrics),
        ],
    )
    def test_are_the_semantic_conventions_where_there_is_one(
        self, instrument: names.Instrument, constant: str, convention: Any
    ) -> None:
        from opentelemetry.sdk.metrics import MeterProvider

        assert instrument.name == getattr(convention, constant)
        meter = MeterProvider(shutdown_on_exit=False).get_meter("test")
        theirs: Any = getattr(convention, f"create_{constant.lower()}")(meter)
        assert instrument.unit == theirs.unit
        assert instrument.description == theirs.description

    def test_of_attributes_too(self) -> None:
        assert names.GC_GENERATION == cpython_attributes.CPYTHON_GC_GENERATION
        fixed = names.GAUGES["scheduler.preemptions"].fixed
        assert list(fixed) == [process_attributes.PROCESS_CONTEXT_SWITCH_TYPE]
        assert (METHOD, SYSTEM, STATUS_CODE, ERROR, *SERVER) == (
            rpc_attributes.RPC_METHOD, rpc_attributes.RPC_SYSTEM_NAME,
            rpc_attributes.RPC_RESPONSE_STATUS_CODE, error_attributes.ERROR_TYPE,
            server_attributes.SERVER_ADDRESS, server_attributes.SERVER_PORT,
        )  # fmt: skip
        for metric_name in CALLS.values():
            assert names.INSTRUMENTS[metric_name].fixed == {SYSTEM: "grpc"}


class TestRemoteCalls:
    def test_have_histograms_of_their_sides(self, collector: Collector) -> None:
        source = MetricSource(collector)
        for kind in ("client", "client", "server"):
            with span_grpc("shop.Orders/Place", kind=kind, collector=collector) as call:
                call.record(STATUS_CODE, "OK").record("server.address", "shop").record("rows", 3)
        with span_operation("shop.Orders/Place", kind="client", collector=collector):
            pass
        metrics = source.collect()
        (client,) = points(metrics, "rpc.client.call.duration")
        (served,) = points(metrics, "rpc.server.call.duration")
        about = {METHOD: "shop.Orders/Place", SYSTEM: "grpc", STATUS_CODE: "OK"}
        assert dict(client.attributes) == {**about, "server.address": "shop"}
        assert dict(served.attributes) == about
        assert isinstance(client.value, HistogramSnapshot)
        ended = [e.payload for e in collector.snapshot() if e.type_name == "SpanEnded"][:2]
        assert client.value.count == 2
        assert client.value.total == pytest.approx(sum(one.duration_us for one in ended) / 1e6)
        assert served.exemplars[0].trace_id == int(call.trace_id, 16)

    def test_say_what_went_wrong_however_long_the_rest_is(self, collector: Collector) -> None:
        source = MetricSource(collector)
        with span_grpc("shop.Orders/Place", collector=collector) as call:
            call.record("long", "x" * 5000).record(STATUS_CODE, "UNKNOWN")
            call.record_error(KeyError("apples"))
        with span_grpc("shop.Orders/Place", collector=collector) as call:
            call.record_error("no apples")
        found = [
            dict(point.attributes) for point in points(source.collect(), "rpc.server.call.duration")
        ]
        assert [(one.get(STATUS_CODE), one[ERROR]) for one in found] == [
            ("UNKNOWN", "KeyError"), (None, "_OTHER"),
        ]  # fmt: skip

    def test_of_which_the_begin_is_not_known_are_left_out(self) -> None:
        with Collector(size=16) as small:
            with span_grpc("shop.Orders/Place", collector=small):
                for number in range(20):
                    read(small, str(number))
                source = MetricSource(small)
            assert not points(source.collect(), "rpc.server.call.duration")


class TestPoints:
    def test_tell_series_apart_by_attributes_and_durations_in_seconds(
        self, collector: Collector
    ) -> None:
        read(collector, "read", 10.0)
        read(collector, "read", 30.0)
        read(collector, "open", 2_000_000.0)
        found = MetricSource(collector).collect()
        duration = metric(found, "kobs.syscall.duration")
        assert (duration.unit, duration.kind, len(duration.points)) == ("s", "histogram", 2)
        reads: HistogramSnapshot = value(found, "kobs.syscall.duration", kobs_syscall="read")
        assert (reads.count, reads.minimum, reads.maximum) == (2, 1e-5, 3e-5)
        opens: HistogramSnapshot = value(found, "kobs.syscall.duration", kobs_syscall="open")
        assert opens.total == 2.0
        assert value(found, "kobs.syscall.calls") == 3

    def test_have_what_can_be_rare_from_0(self, collector: Collector) -> None:
        read(collector)
        found = MetricSource(collector).collect()
        assert value(found, "kobs.syscall.errors") == 0
        assert points(found, "kobs.process.created") == []

    def test_of_gauges_have_base_units(self, collector: Collector) -> None:
        collector.emit(MemoryPressure(50, 3))
        collector.emit(QueueDepth("jobs", 7, 10))
        collector.emit(MetricUpdate("shop.orders", 4.0, {"zone": "b"}))
        found = MetricSource(collector).collect()
        assert value(found, "kobs.memory.utilization") == 0.5
        assert value(found, "kobs.memory.available") == 3 * 1024 * 1024
        assert value(found, "kobs.ipc.queue_depth", messaging_destination_name="jobs") == 7
        assert value(found, "shop.orders", zone="b") == 4.0

    def test_of_what_kobs_reads_of_the_process_are_sums(self, collector: Collector) -> None:
        collector.emit(MetricUpdate("memory.resident", 5e7))
        collector.emit(MetricUpdate("scheduler.preemptions", 3.0))
        found = MetricSource(collector).collect()
        assert metric(found, "process.memory.usage").kind == "updown"
        switches = metric(found, "process.context_switches")
        assert switches.kind == "total"
        assert switches.points == [Point((("process.context_switch.type", "involuntary"),), 3.0)]

    def test_of_the_garbage_collector_are_the_interpreters_own(self, collector: Collector) -> None:
        source = MetricSource(collector)
        before = gc.get_stats()[2]["collections"]
        gc.collect()
        gc.collect()
        found = source.collect()
        made = value(found, "cpython.gc.collections", cpython_gc_generation=2)
        assert 2 <= made <= gc.get_stats()[2]["collections"] - before + 2
        collector.emit(GcPaused(2, 1500.0, 10))
        pause: HistogramSnapshot = value(source.collect(), "kobs.gc.pause", cpython_gc_generation=2)
        assert pause.total == 0.0015

    def test_of_a_types_own_are_told_by_its_name(self, collector: Collector) -> None:
        collector.emit(JobDoneForPoints("x", 2.0))
        found = MetricSource(collector).collect()
        took: HistogramSnapshot = value(found, "kobs.event.duration", kobs_type="JobDoneForPoints")
        assert took.total == 0.002
        assert value(found, "kobs.event.recorded", kobs_type="JobDoneForPoints") == 1

    def test_are_of_a_bounded_number_of_series_and_the_rest_is_one(
        self, collector: Collector
    ) -> None:
        source = MetricSource(collector)
        for number in range(2500):
            read(collector, f"call{number}")
            if number % 500 == 0:
                source.read()
        found = source.collect()
        durations = points(found, "kobs.syscall.duration")
        assert len(durations) <= 2049
        overflowed: HistogramSnapshot = value(
            found, "kobs.syscall.duration", otel_metric_overflow=True
        )
        assert overflowed.count == 2500 - (len(durations) - 1)
        assert value(found, "kobs.metric.overflowed") == overflowed.count
        assert sum(point.value.count for point in durations) == 2500  # type: ignore[union-attr]

    def test_are_not_of_what_exporting_sets_off(self, collector: Collector) -> None:
        read(collector)
        with quietly(foreign=True):
            read(collector)
        assert collector.snapshot()[1].origin == EXPORT_ORIGIN
        assert value(MetricSource(collector).collect(), "kobs.syscall.calls") == 1


class TestWhatWasNotRecorded:
    @pytest.mark.parametrize("core", CORES)
    def test_is_counted_before_sampling(self, core: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KOBS_CORE", core)
        with Collector(size=4096, sampling=30, hide=["syscall:write"]) as collector:
            source = MetricSource(collector)
            for _ in range(300):
                read(collector, "read")
                read(collector, "write")
                collector.emit(ProcessCreated("sh", 5))
            found = source.collect()
        recorded = value(found, "kobs.event.recorded", kobs_type="SyscallExit")
        assert 0 < recorded < 300
        assert value(found, "kobs.event.happened", kobs_category="syscall") == 600
        assert value(found, "kobs.event.happened", kobs_category="process") == 300
        left = {point.attributes: point.value for point in points(found, "kobs.event.left_out")}
        syscalls = (("kobs.category", "syscall"),)
        assert left[(*syscalls, ("kobs.cause", "sampled_out"))] == 300 - recorded
        assert left[(*syscalls, ("kobs.cause", "filtered"))] == 300

    @pytest.mark.parametrize("core", CORES)
    def test_is_counted_where_the_ring_ran_over(
        self, core: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KOBS_CORE", core)
        with Collector(size=16) as collector:
            for _ in range(20):
                read(collector)
            source = MetricSource(collector)
            found = source.collect()
            assert value(found, "kobs.syscall.calls") == 16
            assert value(found, "kobs.event.lost", kobs_cause="unread") == 4
            for _ in range(30):
                read(collector)
            found = source.collect()
            assert value(found, "kobs.syscall.calls") == 32
            assert value(found, "kobs.event.lost", kobs_cause="unread") == 18

    def test_is_nothing_where_the_ring_is_read_in_time(self, collector: Collector) -> None:
        source = MetricSource(collector)
        for _ in range(10):
            for _ in range(900):
                read(collector)
            source.read()
        found = source.collect()
        assert value(found, "kobs.syscall.calls") == 9000
        assert value(found, "kobs.event.lost", kobs_cause="unread") == 0


class TestExemplars:
    def test_point_to_the_span_that_a_value_is_of(self, collector: Collector) -> None:
        with span_operation("load", collector=collector) as span:
            read(collector, duration_us=123.0)
        (point,) = points(MetricSource(collector).collect(), "kobs.syscall.duration")
        (exemplar,) = point.exemplars
        assert f"{exemplar.trace_id:032x}" == span.trace_id
        assert f"{exemplar.span_id:016x}" == span.span_id
        assert exemplar.value == 123e-6
        assert collector.counts_from.wall_ns <= exemplar.time_ns <= time.time_ns()

    def test_have_another_tracers_whole_trace_id(self, collector: Collector) -> None:
        cause.set(bridge.parse_traceparent("00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"))
        with span_operation("load", collector=collector):
            read(collector)
        (point,) = points(MetricSource(collector).collect(), "kobs.syscall.duration")
        assert [exemplar.trace_id for exemplar in point.exemplars] == [int("ab" * 16, 16)]

    def test_are_not_of_traces_that_are_not_exported(self, collector: Collector) -> None:
        cause.set(bridge.parse_traceparent("00-" + "ab" * 16 + "-" + "cd" * 8 + "-00"))
        with span_operation("load", collector=collector):
            read(collector)
        cause.set(None)
        read(collector)
        (point,) = points(MetricSource(collector).collect(), "kobs.syscall.duration")
        assert point.exemplars == ()

    @pytest.mark.parametrize(("given", "number"), [("always_on", 1), ("always_off", 0)])
    def test_are_of_what_the_filter_says(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch, given: str, number: int
    ) -> None:
        monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", given)
        read(collector)
        (point,) = points(MetricSource(collector).collect(), "kobs.syscall.duration")
        assert len(point.exemplars) == number

    def test_an_unknown_filter_is_refused(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "some")
        with pytest.raises(ConfigError, match="OTEL_METRICS_EXEMPLAR_FILTER=some: "):
            MetricSource(collector)

    def test_are_few_the_newest_and_of_every_magnitude(self, collector: Collector) -> None:
        with span_operation("load", collector=collector):
            read(collector, duration_us=900_000.0)
            for number in range(200):
                read(collector, duration_us=10.0 + number / 100)
        (point,) = points(MetricSource(collector).collect(), "kobs.syscall.duration")
        assert [exemplar.value for exemplar in point.exemplars] == [0.9, 11.99e-6]
        with span_operation("load", collector=collector):
            for number in range(60):
                read(collector, "wide", duration_us=2.0**number)
        found = MetricSource(collector).collect()
        (wide,) = [
            point for point in points(found, "kobs.syscall.duration")
            if ("kobs.syscall", "wide") in point.attributes
        ]  # fmt: skip
        assert len(wide.exemplars) == 8


class TestDelta:
    def test_gives_each_event_once(self, collector: Collector) -> None:
        source = MetricSource(collector, delta=True)
        read(collector)
        collector.emit(MemoryPressure(50, 3))
        first = source.collect()
        read(collector)
        read(collector)
        second = source.collect()
        assert (first.delta, second.start_ns) == (True, first.time_ns)
        assert first.since_ns == second.since_ns == first.start_ns
        assert [value(each, "kobs.syscall.calls") for each in (first, second)] == [1, 2]
        assert value(second, "kobs.syscall.duration").count == 2
        assert value(second, "kobs.memory.utilization") == 0.5
        third = source.collect()
        assert points(third, "kobs.syscall.calls") == []
        assert value(third, "kobs.event.lost", kobs_cause="unread") == 0

    def test_that_was_given_back_comes_again(self, collector: Collector) -> None:
        source = MetricSource(collector, delta=True)
        with span_operation("load", collector=collector):
            read(collector, duration_us=5.0)
        first = source.collect()
        with span_operation("load", collector=collector):
            read(collector, duration_us=5000.0)
        source.give_back()
        second = source.collect()
        assert second.start_ns == first.start_ns
        assert value(second, "kobs.syscall.calls") == 2
        (point,) = points(second, "kobs.syscall.duration")
        assert (point.value.minimum, point.value.maximum) == (5e-6, 5e-3)  # type: ignore[union-attr]
        assert [exemplar.value for exemplar in point.exemplars] == [5e-6, 5e-3]
        source.give_back()
        source.give_back()
        assert value(source.collect(), "kobs.syscall.calls") == 2

    def test_is_of_what_was_left_out_too(self) -> None:
        with Collector(size=64, hide=["syscall:write"]) as collector:
            source = MetricSource(collector, delta=True)
            read(collector, "write")
            assert value(source.collect(), "kobs.event.happened", kobs_category="syscall") == 1
            read(collector, "write")
            read(collector, "write")
            found = source.collect()
            assert value(found, "kobs.event.happened", kobs_category="syscall") == 2
            source.give_back()
            read(collector, "write")
            found = source.collect()
            (left,) = points(found, "kobs.event.left_out")
            assert left.value == 3


class TestLife:
    def test_reset_begins_anew(self, collector: Collector) -> None:
        source = MetricSource(collector)
        read(collector)
        first = source.collect()
        collector.reset()
        read(collector, "open")
        second = source.collect()
        assert second.start_ns > first.start_ns
        assert value(second, "kobs.syscall.calls") == 1
        assert value(second, "kobs.event.lost", kobs_cause="unread") == 0

    def test_a_forked_child_counts_its_own(self, collector: Collector) -> None:
        source = MetricSource(collector)
        read(collector)
        source.read()
        read_end, write_end = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                read(collector)
                read(collector)
                found = source.collect()
                told = [value(found, "kobs.syscall.calls"), found.start_ns]
                os.write(write_end, json.dumps(told).encode())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        os.close(write_end)
        with open(read_end, "rb") as file:
            calls, start_ns = json.loads(file.read())
        found = source.collect()
        assert calls == 2
        assert start_ns > found.start_ns
        assert value(found, "kobs.syscall.calls") == 1

    def test_closed_it_tells_what_it_had(self, collector: Collector) -> None:
        source = MetricSource(collector)
        read(collector)
        source.read()
        source.close()
        read(collector)
        found = source.collect()
        assert value(found, "kobs.syscall.calls") == 1
        assert value(found, "kobs.event.lost", kobs_cause="unread") == 1

    def test_of_a_closed_collector_it_tells_what_it_missed(self, collector: Collector) -> None:
        source = MetricSource(collector)
        read(collector)
        source.read()
        collector.reset()
        for _ in range(3):
            read(collector)
        source.read()
        read(collector)
        collector.close()
        found = source.collect()
        assert value(found, "kobs.syscall.calls") == 3
        assert value(found, "kobs.event.lost", kobs_cause="unread") == 1

    def test_without_a_collector_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="init_collector"):
            MetricSource()


class TestRecordings:
    def test_are_told_by_process(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        session = Session.create("shop", ["python", "shop.py"])
        with Collector(session=session, size=64, hide=["syscall:write"]) as collector:
            with span_operation("load", collector=collector) as span:
                read(collector)
            read(collector, "write")
            live = MetricSource(collector).collect()
        with Collector(session=session, size=16) as other:
            for _ in range(20):
                read(other)
        with open_recording(session.path) as recording:
            (first, found), (second, overrun) = recorded_metrics(recording)
        assert first.recording != second.recording
        own = [one for one in live.metrics if not one.name.startswith("cpython.")]
        assert {one.name for one in found.metrics} == {one.name for one in own}
        for one in own:
            if one.kind != "histogram":
                assert metric(found, one.name) == one
        (point,) = points(found, "kobs.syscall.duration")
        assert [f"{exemplar.trace_id:032x}" for exemplar in point.exemplars] == [span.trace_id]
        assert found.start_ns <= point.exemplars[0].time_ns <= found.time_ns
        assert value(overrun, "kobs.event.lost", kobs_cause="unread") == 4
