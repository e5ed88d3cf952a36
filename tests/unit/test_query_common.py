"""The queries that are asked often: each does what its name and its arguments say."""

import time
from datetime import timedelta
from typing import Any

import pytest

from kobs.collector import Collector
from kobs.errors import ConfigError
from kobs.events import Event
from kobs.levels import Category, Severity, SyscallResult
from kobs.payloads import (
    FileSlow,
    MemoryPressure,
    OperationSlow,
    PermissionDenied,
    PermissionGranted,
    ProcessCreated,
    ResourceExhausted,
    SecurityViolation,
    SpanEnded,
    SyscallExit,
    SyscallSlow,
)
from kobs.query import CommonQueries, Health, Query
from kobs.schema import PayloadType

MINUTE = 60_000_000_000


def event(payload: PayloadType, severity: Severity | None = None, **header: Any) -> Event:
    schema = payload.__kobs_schema__
    return Event(
        schema.severity if severity is None else severity, schema.category, payload, **header
    )


def ago(minutes: float) -> int:
    return time.monotonic_ns() - int(minutes * MINUTE)


QUERIES = [
    lambda since: CommonQueries.slow_operations(0, since=since),
    lambda since: CommonQueries.process_errors(7, since=since),
    lambda since: CommonQueries.health_check(since=since),
    lambda since: CommonQueries.memory_pressure(since=since),
    lambda since: CommonQueries.syscall_performance(since=since),
    lambda since: CommonQueries.security_events(since=since),
]


@pytest.mark.parametrize("make", QUERIES)
def test_since_leaves_out_what_is_older(make: Any) -> None:
    one_of_each: list[PayloadType] = [
        SyscallExit("read", 1.0, SyscallResult.ERROR, 2),
        MemoryPressure(50, 100),
        SecurityViolation("x"),
    ]
    events = [
        event(payload, Severity.ERROR, pid=7, timestamp_ns=ago(minutes))
        for minutes in (10, 1)
        for payload in one_of_each
    ]
    whole, recent = make(None).run(events), make(timedelta(minutes=5)).run(events)
    assert recent.count == whole.count / 2 > 0
    assert all(found in events[3:] for found in recent)


class TestSlowOperations:
    EVENTS = [
        event(SyscallExit("read", 999.0, SyscallResult.SUCCESS)),
        event(SyscallExit("write", 1000.0, SyscallResult.SUCCESS)),
        event(SyscallSlow("fsync", 20.0, 1.0)),
        event(OperationSlow("job", 5.0, 1.0)),
        event(FileSlow("open", "/x", 3.0, 1.0)),
        event(SpanEnded("request", 2000.0)),
        event(ProcessCreated("sh", 5)),
    ]

    def test_finds_everything_at_or_over_the_threshold_the_slowest_first(self) -> None:
        result = CommonQueries.slow_operations(1).run(self.EVENTS)
        assert [found.name for found in result] == ["fsync", "job", "open", "request", "write"]
        assert result.aggregations["duration_stats"].maximum == 20_000
        assert result.aggregations["by_name"]["job"] == 1

    @pytest.mark.parametrize(("threshold_ms", "count"), [(0, 6), (3, 3), (5.1, 1), (20.1, 0)])
    def test_really_filters_by_its_threshold(self, threshold_ms: float, count: int) -> None:
        assert CommonQueries.slow_operations(threshold_ms).run(self.EVENTS).count == count

    @pytest.mark.parametrize("bad", [-1, "1", None, True])
    def test_refuses_a_threshold_that_is_none(self, bad: Any) -> None:
        with pytest.raises(ConfigError):
            CommonQueries.slow_operations(bad)


def test_process_errors_are_those_of_one_process() -> None:
    events = [
        event(ProcessCreated("sh", 5), severity, pid=pid) for severity in Severity for pid in (1, 2)
    ]
    result = CommonQueries.process_errors(2).run(events)
    assert [(e.pid, e.severity) for e in result] == [(2, Severity.ERROR), (2, Severity.CRITICAL)]
    assert result.aggregations["by_severity"] == {Severity.ERROR: 1, Severity.CRITICAL: 1}


class TestHealthCheck:
    def health(self, *events: Event) -> Health:
        found = CommonQueries.health_check().run(events).aggregations["health"]
        assert isinstance(found, Health)
        return found

    def test_nothing_wrong_is_healthy(self) -> None:
        assert self.health(event(ProcessCreated("sh", 5))) == Health("healthy", ())

    def test_no_events_at_all_is_said(self) -> None:
        assert self.health().reasons == ("nothing was recorded in this window",)

    def test_a_warning_degrades_and_names_what_it_was(self) -> None:
        denied = event(PermissionDenied("open", "root"))
        assert self.health(denied, denied) == Health("degraded", ("2 x PermissionDenied (WARN)",))

    @pytest.mark.parametrize(
        "payload", [SecurityViolation("escape"), ResourceExhausted("descriptors", 1024)]
    )
    def test_a_violation_or_an_exhausted_resource_is_unhealthy(self, payload: PayloadType) -> None:
        found = self.health(event(payload), event(PermissionDenied("open", "root")))
        assert found.status == "unhealthy"
        assert type(payload).__name__ in found.reasons[0]
        assert len(found.reasons) == 2

    def test_of_memory_readings_the_last_one_counts(self) -> None:
        full = event(MemoryPressure(95, 1), Severity.ERROR, timestamp_ns=1)
        tight = event(MemoryPressure(80, 1), Severity.WARN, timestamp_ns=2)
        fine = event(MemoryPressure(20, 1), timestamp_ns=3)
        assert self.health(full).status == "unhealthy"
        assert self.health(tight, full) == Health("degraded", ("memory is 80 % full",))
        assert self.health(full, tight, fine).status == "healthy"

    def test_the_worst_events_are_returned_and_all_are_counted(self) -> None:
        events = [event(ProcessCreated("sh", 5))] * 150 + [event(SecurityViolation("x"))]
        result = CommonQueries.health_check().run(events)
        assert result.count == 151
        assert len(result) == 100
        assert result.events[0].severity is Severity.CRITICAL
        assert result.aggregations["by_category"]["PROCESS"] == 150


def test_memory_pressure_finds_readings_from_a_share_up() -> None:
    events = [event(MemoryPressure(pct, 1000 - pct)) for pct in (10, 75, 92)]
    events.append(event(ProcessCreated("sh", 5)))
    assert CommonQueries.memory_pressure().run(events).count == 3
    result = CommonQueries.memory_pressure(usage_pct=75).run(events)
    assert [found.payload.usage_pct for found in result] == [75, 92]
    assert result.aggregations["field_stats.usage_pct"].maximum == 92
    assert result.aggregations["field_stats.available_mb"].minimum == 908


def test_syscall_performance_takes_each_call_once() -> None:
    ok = SyscallResult.SUCCESS
    events = [event(SyscallExit("read", float(n), ok), pid=n % 2) for n in range(101)]
    events += [event(SyscallExit("write", 7.0, ok)), event(SyscallSlow("read", 1.0, 1.0))]
    found = CommonQueries.syscall_performance().run(events).aggregations
    assert found["duration_stats"].count == 102
    assert found["by_name"] == {"read": 101, "write": 1}
    read = CommonQueries.syscall_performance(name="read").run(events).aggregations
    assert read["duration_stats"].p50 == 50
    assert read["duration_stats"].p99 == 99
    assert read["duration_stats_by_name"]["read"].p95 == 95
    assert read["by_pid"] == {0: 51, 1: 50}


def test_security_events_are_those_of_the_category_from_a_severity_up() -> None:
    events = [
        event(PermissionGranted("open", "r")),
        event(PermissionDenied("open", "w"), pid=5),
        event(SecurityViolation("x"), pid=5),
        event(ProcessCreated("sh", 5), Severity.CRITICAL),
    ]
    assert CommonQueries.security_events().run(events).count == 3
    result = CommonQueries.security_events(at_least=Severity.WARN).run(events)
    assert result.aggregations["by_type"] == {"PermissionDenied": 1, "SecurityViolation": 1}
    assert result.aggregations["by_pid"] == {5: 2}


def test_a_common_query_can_be_narrowed_further() -> None:
    events = [event(SyscallExit("read", 5.0, SyscallResult.SUCCESS), pid=pid) for pid in (1, 2)]
    query = CommonQueries.syscall_performance().pid(1).limit(10)
    assert isinstance(query, Query)
    assert query.run(events).events == events[:1]


def test_they_run_on_a_collector_without_a_subscriber() -> None:
    with Collector(size=64) as collector:
        collector.syscall_exit(42, "read", 12, True)
        collector.emit(event(ProcessCreated("sh", 5), Severity.ERROR, pid=42))
        stats = collector.query(CommonQueries.syscall_performance()).aggregations["duration_stats"]
        assert (stats.p50, stats.p95, stats.p99) == (12, 12, 12)
        assert collector.query(CommonQueries.process_errors(42)).count == 1
        assert collector.query(CommonQueries.process_errors(43)).count == 0
        found = collector.query(CommonQueries.health_check(since=timedelta(minutes=1)))
        assert found.aggregations["health"].status == "degraded"
        assert found.aggregations["by_category"][Category.PROCESS] == 1
