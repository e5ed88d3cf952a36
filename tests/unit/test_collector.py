"""The collector's own promises: the convenience methods, chains, sampling, reset, close."""

import os
import threading

import pytest

import kobs
from kobs import (
    AnomalyDetected,
    Category,
    Collector,
    Event,
    EventFilter,
    MemoryPressure,
    ProcessCreated,
    ProcessTerminated,
    Severity,
    SpanBegan,
    SpanEnded,
    SyscallExit,
    SyscallResult,
    causal_context,
    global_collector,
    init_collector,
)
from kobs.collector import clear_collector
from kobs.errors import ClosedError, FieldTypeError
from kobs.gate import CHAIN_LIMIT
from kobs.ids import NO_LANE


@pytest.fixture
def collector() -> kobs.Collector:
    with Collector(size=256) as made:
        yield made


def test_the_convenience_methods_emit_their_types(collector: Collector) -> None:
    collector.syscall_exit(42, "read", 12, True)
    collector.process_created(42, "sh", 5)
    collector.process_terminated(42, -9)
    collector.resource_cleanup(42, "fd", 3)
    collector.memory_pressure(50, 100)
    collector.slow_operation("load", 120.0, 100.0)
    assert [event.type_name for event in collector.snapshot()] == [
        "SyscallExit", "ProcessCreated", "ProcessTerminated", "ResourceReclaimed",
        "MemoryPressure", "OperationSlow",
    ]  # fmt: skip
    assert all(event.pid == 42 for event in collector.snapshot()[:4])


@pytest.mark.parametrize(
    ("usage", "severity"),
    [(75, Severity.INFO), (76, Severity.WARN), (90, Severity.WARN), (91, Severity.ERROR)],
)
def test_memory_pressure_rises_with_use(
    collector: Collector, usage: int, severity: Severity
) -> None:
    collector.memory_pressure(usage, 10)
    (event,) = collector.snapshot()
    assert event.severity is severity
    assert event.payload == MemoryPressure(usage, 10)


def test_what_is_not_said_is_filled_in(collector: Collector) -> None:
    collector.emit(ProcessCreated("sh"))
    (event,) = collector.snapshot()
    assert event.pid == os.getpid()
    assert event.tid == threading.get_native_id()
    assert event.timestamp_ns > 0
    assert (event.severity, event.category) == (Severity.INFO, Category.PROCESS)


def test_a_causal_emit_begins_a_chain_and_sets_no_context(collector: Collector) -> None:
    chain = collector.emit_causal(ProcessCreated("sh"))
    collector.emit_in_chain(ProcessTerminated(0), chain)
    collector.emit(ProcessTerminated(1))
    created, ended, other = collector.snapshot()
    assert chain == created.causality_id == ended.causality_id != 0
    assert other.causality_id == 0


def test_a_causal_emit_inside_a_chain_joins_it(collector: Collector) -> None:
    with causal_context(77):
        assert collector.emit_causal(ProcessCreated("sh")) == 77


def test_a_scope_is_in_flight_until_it_ends(collector: Collector) -> None:
    scope = collector.emit_begin(SpanBegan("load"), causality_id=5)
    (entry,) = collector.open_events()
    assert entry.event == scope.event
    assert collector.ring.string(entry.name) == "load"
    collector.emit_end(scope, SpanEnded("load", 3.0), causality_id=5)
    assert collector.open_events() == []
    began, ended = collector.snapshot()
    assert ended.parent == began.id


def test_a_scope_whose_begin_event_is_discarded_is_in_flight_until_it_ends() -> None:
    with Collector(size=16, overflow="discard") as collector:
        reader = collector.subscribe(lossless=True)
        for _ in range(16):
            collector.emit(SpanEnded("full", 1.0))
        with causal_context(77):
            scope = collector.emit_begin(SpanBegan("load"), timestamp_ns=5, pid=9)
        with kobs.span_operation("inner", collector=collector):
            first, second = collector.open_events()
            assert (first.timestamp_ns, first.pid, first.causality_id) == (5, 9, 77)
            names = [collector.ring.string(entry.name) for entry in (first, second)]
            assert names == ["load", "inner"]
        assert scope.event == 0
        assert collector.open_events() == [first]
        collector.emit_end(scope, SpanEnded("load", 3.0))
        assert collector.open_events() == []
        assert [event.payload.name for event in reader] == ["full"] * 16


def test_a_scope_that_is_sampled_out_is_not_in_flight() -> None:
    with Collector(size=16, sampling=0) as collector:
        scope = collector.emit_begin(SpanBegan("load"))
        assert (scope, collector.open_events()) == ((0, -1), [])


def test_a_scope_of_a_chain_that_is_thinned_is_in_flight_until_it_ends() -> None:
    with Collector(size=16, adaptive=True) as collector:
        with causal_context(77):
            for _ in range(CHAIN_LIMIT):
                collector.emit(SpanEnded("long", 1.0))
            scope = collector.emit_begin(SpanBegan("load"), timestamp_ns=5)
            with kobs.span_operation("inner", collector=collector):
                first, second = collector.open_events()
                assert (first.timestamp_ns, first.causality_id) == (5, 77)
                assert {entry.event >> 42 & 3 for entry in (first, second)} == {NO_LANE}
                names = [collector.ring.string(entry.name) for entry in (first, second)]
                assert names == ["load", "inner"]
            assert scope.event == 0
            assert collector.open_events() == [first]
            collector.emit_end(scope, SpanEnded("load", 3.0))
        assert collector.open_events() == []
        assert {event.payload.name for event in collector.snapshot()} == {"long"}
        assert collector.losses().sampled_out == 4


def test_a_scope_that_was_open_at_a_fork_closes_nothing_in_the_child() -> None:
    with Collector(size=16) as collector:
        outer = collector.emit_begin(SpanBegan("outer"))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                collector.emit_begin(SpanBegan("inner"))
                collector.emit_end(outer, SpanEnded("outer", 1.0))
                code = int(len(collector.open_events()) != 1)
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert len(collector.open_events()) == 1


def test_sampling_keeps_or_drops_whole_chains_and_everything_from_warn_up() -> None:
    with Collector(size=4096, sampling=50) as collector:
        for chain in range(1, 201):
            for _ in range(3):
                collector.emit_in_chain(ProcessTerminated(0), chain)
            collector.emit(ProcessTerminated(1), causality_id=chain, severity=Severity.ERROR)
        events = collector.snapshot()
        errors = [event for event in events if event.severity is Severity.ERROR]
        kept = [event for event in events if event.severity is not Severity.ERROR]
        per_chain = [sum(e.causality_id == chain for e in kept) for chain in range(1, 201)]
        assert set(per_chain) == {0, 3}
        assert len(errors) == 200
        partial = {event.causality_id for event in errors if event.partial}
        assert partial == {chain for chain in range(1, 201) if not per_chain[chain - 1]}
        assert collector.stream_stats().events_sampled_out == 600 - len(kept)


def test_a_dropped_chain_stays_dropped_where_it_is_entered_again() -> None:
    with Collector(size=64, sampling=0) as collector:
        chain = collector.emit_causal(ProcessTerminated(0))
        with causal_context(chain):
            assert collector.emit(ProcessTerminated(0)) == 0
    with Collector(size=64) as collector, causal_context(5):
        assert collector.emit(ProcessTerminated(0)) != 0


def test_no_sampling_at_all_keeps_nothing_below_warn() -> None:
    with Collector(size=64, sampling=0) as collector:
        assert collector.emit(ProcessTerminated(0)) == 0
        assert collector.emit(ProcessTerminated(0), severity=Severity.WARN) != 0
        assert collector.stream_stats().events_sampled_out == 1


def test_reported_overhead_lowers_the_rate() -> None:
    with Collector(size=64, adaptive=True) as collector:
        before = collector.sampling_rate()
        collector.update_overhead(50)
        assert collector.sampling_rate() < before


def test_an_outlier_is_an_event_caused_by_what_set_it_off(collector: Collector) -> None:
    emit = collector.emitter(SyscallExit)
    for number in range(100):
        emit("read", 10 + number % 3, SyscallResult.SUCCESS)
    outlier = emit("read", 5000, SyscallResult.SUCCESS)
    anomalies = list(collector.subscribe(EventFilter().type(AnomalyDetected), oldest=True))
    assert [event.parent for event in anomalies] == [outlier]
    payload = anomalies[0].payload
    assert payload.metric == "SyscallExit.read.duration_us"
    assert payload.value == 5000
    assert 10 <= payload.expected <= 12
    assert anomalies[0].severity is Severity.WARN


def test_metrics_count_what_happened(collector: Collector) -> None:
    collector.process_created(1, "sh", 5)
    collector.syscall_exit(1, "read", 12, True)
    collector.syscall_exit(1, "read", 14, False, errno=4)
    snapshot = collector.metrics()
    assert snapshot.counters["process.created"] == 1
    assert snapshot.counters["syscall.total"] == 2
    collector.syscall_exit(1, "read", 12, True)
    assert collector.metrics().counters["syscall.total"] == 3


def test_a_query_needs_no_subscriber_and_consumes_nothing(collector: Collector) -> None:
    subscriber = collector.subscribe()
    collector.syscall_exit(1, "read", 10, True)
    collector.syscall_exit(1, "read", 30, True)
    result = collector.query(kobs.CommonQueries.syscall_performance())
    assert result.count == 2
    assert result.aggregations["duration_stats"].p50 == 20
    assert len(list(subscriber)) == 2
    assert collector.query(kobs.Query(), subscriber).count == 0


def test_slow_operations_filters_by_its_threshold(collector: Collector) -> None:
    for milliseconds in (5.0, 15.0, 25.0):
        collector.slow_operation(f"op{milliseconds}", milliseconds, 1.0)
    result = collector.query(kobs.CommonQueries.slow_operations(15))
    assert {event.payload.operation for event in result.events} == {"op15.0", "op25.0"}


def test_reset_forgets(collector: Collector) -> None:
    subscriber = collector.subscribe(oldest=True)
    collector.process_created(1, "sh", 5)
    collector.metrics()
    collector.reset()
    assert collector.snapshot() == []
    assert list(subscriber) == []
    assert collector.stream_stats()[:3] == (0, 0, 0)
    assert collector.metrics().counters.get("process.created", 0) == 0
    collector.process_created(2, "sh", 5)
    assert len(collector.snapshot()) == 1
    assert collector.metrics().counters["process.created"] == 1


def test_a_closed_collector_says_so(collector: Collector) -> None:
    emit = collector.emitter(ProcessTerminated)
    collector.close()
    collector.close()
    for use in (
        lambda: emit(1),
        lambda: collector.emit(ProcessTerminated(1)),
        lambda: collector.emit(ProcessCreated("a type not emitted before")),
        collector.subscribe,
    ):
        with pytest.raises(ClosedError, match="this collector is closed"):
            use()


def test_something_that_is_no_event_is_refused(collector: Collector) -> None:
    with pytest.raises(FieldTypeError, match="expected an Event or a payload"):
        collector.emit("sh")  # type: ignore[arg-type]
    with pytest.raises(FieldTypeError, match="expected a payload type"):
        collector.emitter(str)  # type: ignore[arg-type]


def test_a_header_field_out_of_range_is_refused_by_name(collector: Collector) -> None:
    with pytest.raises(FieldTypeError, match="header pid=-1: expected 0 to 4294967295"):
        collector.emit(ProcessCreated("sh"), pid=-1)


def test_the_process_wide_collector_is_the_last_one_given(collector: Collector) -> None:
    before = global_collector()
    try:
        assert init_collector(collector) is collector
        assert global_collector() is collector
        with Collector(size=16) as second:
            init_collector(second)
            assert global_collector() is second
    finally:
        clear_collector() if before is None else init_collector(before)


def test_a_default_collector_stays_under_14_megabytes() -> None:
    with Collector() as collector:
        assert collector.ring.slots == 65_536
        assert _ring_bytes(collector) < 14_000_000


def _ring_bytes(collector: Collector) -> int:
    from kobs._core.layout import Header, plan

    return plan(Header(), collector.ring.slots)


def test_many_threads_lose_nothing_that_is_not_counted() -> None:
    with Collector(size=16_384) as collector:
        emit = collector.emitter(ProcessTerminated)

        def work(number: int) -> None:
            for step in range(2000):
                emit(number * 10_000 + step)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen = [event.payload.exit_code for event in collector.snapshot()]
        assert len(seen) == len(set(seen))
        assert len(seen) + collector.losses().contended == 8000
        for number in range(4):
            own = [code for code in seen if code // 10_000 == number]
            assert own == sorted(own)


def test_an_event_of_an_event_keeps_its_own_header(collector: Collector) -> None:
    event = Event(Severity.CRITICAL, Category.SECURITY, ProcessCreated("sh"), pid=3, causality_id=4)
    collector.emit(event, pid=9)
    (seen,) = collector.snapshot()
    assert (seen.pid, seen.causality_id, seen.severity) == (9, 4, Severity.CRITICAL)
