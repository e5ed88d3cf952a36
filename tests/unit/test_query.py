"""Queries: which events they find, in what order, and what they say about them."""

import json
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from kobs.collector import Collector
from kobs.errors import ConfigError
from kobs.events import Event
from kobs.levels import Category, Severity, SyscallResult
from kobs.payloads import (
    FileOpened,
    FileSlow,
    MemoryAllocated,
    MessageReceived,
    OperationSlow,
    ProcessCreated,
    SyscallExit,
    SyscallSlow,
)
from kobs.query import Aggregation, AggregationType, Query
from kobs.recording import open_recording

SECOND = 1_000_000_000


def exit_of(name: str, duration_us: float, **header: Any) -> Event:
    severity = header.pop("severity", Severity.DEBUG)
    payload = SyscallExit(name, duration_us, SyscallResult.SUCCESS)
    return Event(severity, Category.SYSCALL, payload, **header)


def at(seconds: float) -> Event:
    return exit_of("read", 1.0, timestamp_ns=int(seconds * SECOND))


PAYLOADS = st.one_of(
    st.builds(ProcessCreated, st.sampled_from(["sh", "ls"])),
    st.builds(MemoryAllocated, st.integers(0, 1000), st.integers(0, 5)),
    st.builds(
        SyscallExit,
        st.sampled_from(["read", "write"]),
        st.floats(0, 1e6),
        st.just(SyscallResult(0)),
    ),
    st.builds(OperationSlow, st.sampled_from(["read", "job"]), st.floats(0, 1e3), st.just(1.0)),
)
EVENTS = st.builds(
    Event,
    st.sampled_from(Severity),
    st.sampled_from(Category),
    PAYLOADS,
    pid=st.integers(1, 4),
    timestamp_ns=st.integers(0, 100 * SECOND),
    causality_id=st.integers(0, 3),
)


class TestConditions:
    @given(
        st.lists(EVENTS, max_size=30),
        st.sampled_from(Severity),
        st.sets(st.sampled_from(Category), min_size=1),
        st.sets(st.integers(1, 4), min_size=1),
        st.integers(0, 100),
        st.integers(0, 100),
    )
    def test_together_find_what_a_list_comprehension_finds(
        self,
        events: list[Event],
        severity: Severity,
        categories: set[Category],
        pids: set[int],
        since: int,
        until: int,
    ) -> None:
        query = (
            Query()
            .severity(severity)
            .category(*categories)
            .pid(*pids)
            .since(timedelta(seconds=since))
            .until(timedelta(seconds=until))
        )
        now = 100 * SECOND
        assert query.run(events, now_ns=now).events == [
            event
            for event in events
            if event.severity >= severity
            and event.category in categories
            and event.pid in pids
            and now - since * SECOND <= event.timestamp_ns <= now - until * SECOND
        ]

    @given(st.lists(EVENTS, max_size=30), st.floats(0, 1e6))
    def test_slower_than_compares_durations_whatever_their_unit(
        self, events: list[Event], threshold: float
    ) -> None:
        assert Query().slower_than(us=threshold).run(events).events == [
            event
            for event in events
            if (getattr(event.payload, "duration_us", None) is not None
                and event.payload.duration_us >= threshold)
            or (getattr(event.payload, "duration_ms", None) is not None
                and event.payload.duration_ms * 1000 >= threshold)
        ]  # fmt: skip

    @given(st.lists(EVENTS, max_size=30))
    def test_by_type_name_chain_and_predicate(self, events: list[Event]) -> None:
        found = Query().type(SyscallExit).type(OperationSlow).run(events).events
        assert found == [e for e in events if type(e.payload) in (SyscallExit, OperationSlow)]
        found = Query().name("read", "sh").run(events).events
        assert found == [e for e in events if e.name in ("read", "sh")]
        found = Query().causality(1, 2).where(lambda e: e.pid == 1).run(events).events
        assert found == [e for e in events if e.causality_id in (1, 2) and e.pid == 1]

    def test_times_are_relative_to_the_moment_the_query_runs(self) -> None:
        now = time.monotonic_ns()
        events = [exit_of("read", 1.0, timestamp_ns=now - ago * SECOND) for ago in (600, 200, 1)]
        query = Query().since(timedelta(minutes=5))
        assert query.run(events).events == events[1:]
        assert query.until(timedelta(minutes=1)).run(events).events == events[1:2]
        assert query.run(events, now_ns=now + 250 * SECOND).events == events[2:]

    def test_times_can_be_moments_of_the_monotonic_clock(self) -> None:
        events = [at(1), at(2), at(3)]
        assert Query().since(2 * SECOND).run(events).events == events[1:]
        assert Query().until(2 * SECOND).run(events).events == events[:2]

    def test_the_edges_of_a_window_belong_to_it(self) -> None:
        events = [at(1), at(2), at(3)]
        query = Query().since(timedelta(seconds=2)).until(timedelta(seconds=1))
        assert query.run(events, now_ns=3 * SECOND).events == [events[0], events[1]]

    def test_matches_asks_about_one_event(self) -> None:
        query = Query().name("read").severity(Severity.WARN)
        assert query.matches(exit_of("read", 1, severity=Severity.WARN))
        assert not query.matches(exit_of("read", 1))


class TestBuilder:
    def test_every_method_returns_a_new_query_and_changes_none(self) -> None:
        base = Query()
        before = repr(base)
        made = [
            base.category(Category.IPC), base.severity(Severity.WARN),
            base.since(timedelta(1)), base.until(timedelta(1)), base.pid(1),
            base.type(SyscallExit), base.name("x"), base.causality(1), base.slower_than(ms=1),
            base.where(bool), base.order_by("time"), base.limit(1),
            base.aggregate(AggregationType.COUNT),
        ]  # fmt: skip
        assert all(query is not base for query in made)
        assert repr(base) == before
        assert len(base.run([at(1), at(2)]).events) == 2

    def test_a_query_can_be_branched(self) -> None:
        base = Query().pid(1)
        one, two = base.name("read"), base.name("write")
        events = [exit_of("read", 1, pid=1), exit_of("write", 1, pid=1)]
        assert one.run(events).events == events[:1]
        assert two.run(events).events == events[1:]

    @pytest.mark.parametrize(
        ("build", "says"),
        [
            (lambda: Query().severity(17), r"severity\(17\): expected Severity.TRACE"),
            (lambda: Query().category("IPC"), r"category\('IPC'\): expected Category.PROCESS"),
            (lambda: Query().since(5.0), r"since\(5.0\): expected a timedelta"),
            (lambda: Query().since(timedelta(-1)), "how long ago"),
            (lambda: Query().until("1 h"), r"until\('1 h'\)"),
            (lambda: Query().limit(-1), r"limit\(-1\): expected an int, 0 or more"),
            (lambda: Query().limit(True), r"limit\(True\)"),
            (lambda: Query().order_by("colour"), r"order_by\('colour'\): expected time"),
            (lambda: Query().type(int), r"type\(<class 'int'>\)"),
            (lambda: Query().slower_than(ms=-1), "slower_than"),
            (lambda: Query().aggregate("count"), r"Aggregation\('count'\)"),
            (lambda: Aggregation(AggregationType.SUM), "needs the name of a payload field"),
            (lambda: Aggregation(AggregationType.COUNT, field="size"), "has no field"),
            (lambda: Aggregation(AggregationType.COUNT, by="colour"), "expected one of category"),
            (lambda: Aggregation(AggregationType.BY_PID, by="pid"), "groups already"),
        ],
    )
    def test_refuses_bad_arguments_by_name(self, build: Any, says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            build()


class TestOrderAndLimit:
    def test_events_keep_the_order_of_the_source(self) -> None:
        events = [at(3), at(1), at(2)]
        assert Query().run(events).events == events

    def test_order_by_sorts_and_limit_then_cuts(self) -> None:
        events = [exit_of(str(n), float(n % 7), timestamp_ns=n) for n in range(20)]
        found = Query().order_by("duration", descending=True).limit(3).run(events)
        assert [event.payload.duration_us for event in found.events] == [6, 6, 5]
        assert [event.timestamp_ns for event in found.events] == [6, 13, 5]

    def test_order_by_takes_a_function(self) -> None:
        events = [at(2), at(1)]
        found = Query().order_by(lambda event: event.timestamp_ns).run(events)
        assert found.events == [events[1], events[0]]

    def test_limit_cuts_the_events_but_not_what_is_said_about_them(self) -> None:
        events = [exit_of("read", float(n)) for n in range(100)]
        result = (
            Query().limit(10).aggregate(AggregationType.DURATION_STATS, AggregationType.COUNT)
        ).run(events)
        assert result.events == events[:10]
        assert len(result) == 10
        assert result.count == 100
        assert result.aggregations["count"] == 100
        assert result.aggregations["duration_stats"].maximum == 99

    def test_limit_0_returns_the_aggregations_alone(self) -> None:
        result = Query().limit(0).run([at(1)])
        assert result.events == []
        assert result.count == 1

    def test_an_iterator_of_many_events_gives_the_same_as_their_list(self) -> None:
        events = [exit_of("read", float(n), pid=n % 5) for n in range(20_000)]
        query = Query().pid(3).limit(5).aggregate(AggregationType.DURATION_STATS)
        one, other = query.run(events), query.run(iter(events))
        assert one.to_dict() == other.to_dict()
        assert one.count == 4000


class TestAggregations:
    @given(st.lists(EVENTS, max_size=30))
    def test_counts_are_those_of_a_counter(self, events: list[Event]) -> None:
        kinds = AggregationType
        result = (
            Query()
            .aggregate(kinds.BY_CATEGORY, kinds.BY_SEVERITY, kinds.BY_PID, kinds.BY_TYPE)
            .aggregate(kinds.BY_NAME, kinds.COUNT)
            .run(events)
            .aggregations
        )
        assert result["by_category"] == Counter(event.category for event in events)
        assert result["by_severity"] == Counter(event.severity for event in events)
        assert result["by_pid"] == Counter(event.pid for event in events)
        assert result["by_type"] == Counter(event.type_name for event in events)
        named = [event.name for event in events if event.name is not None]
        assert result["by_name"] == Counter(named)
        assert result["count"] == len(events)

    def test_counts_know_names_and_say_0_for_what_is_not_there(self) -> None:
        found = Query().aggregate(AggregationType.BY_CATEGORY).run([at(1)]).aggregations
        counts = found["by_category"]
        assert counts[Category.SYSCALL] == counts["SYSCALL"] == 1
        assert counts[Category.IPC] == counts["IPC"] == 0
        assert dict(counts) == {Category.SYSCALL: 1}

    def test_duration_stats_take_every_duration_in_microseconds(self) -> None:
        events = [
            exit_of("read", 500.0),
            Event(Severity.WARN, Category.SYSCALL, SyscallSlow("read", 2.0, 1.0)),
            Event(Severity.WARN, Category.FILESYSTEM, FileSlow("open", "/x", 4.0, 1.0)),
            Event(Severity.DEBUG, Category.FILESYSTEM, FileOpened("/x", "r", 100.0)),
            Event(Severity.INFO, Category.PROCESS, ProcessCreated("sh", 5)),
        ]
        stats = Query().aggregate(AggregationType.DURATION_STATS).run(events)
        found = stats.aggregations["duration_stats"]
        assert found.count == 4
        assert (found.minimum, found.maximum, found.total) == (100.0, 4000.0, 6600.0)
        assert found.mean == 1650.0
        assert found.p50 == 1250.0

    def test_of_a_field_in_its_own_unit_or_as_a_duration(self) -> None:
        events = [
            Event(Severity.DEBUG, Category.IPC, MessageReceived("q", size, wait))
            for size, wait in ((10, 1.0), (30, 3.0))
        ]
        found = (
            Query()
            .aggregate(
                Aggregation(AggregationType.SUM, field="size"),
                Aggregation(AggregationType.FIELD_STATS, field="size"),
                Aggregation(AggregationType.DURATION_STATS, field="wait_time_us", key="wait"),
            )
            .run([*events, at(1)])
            .aggregations
        )
        assert found["sum.size"] == 40.0
        assert found["field_stats.size"].mean == 20.0
        assert found["wait"].maximum == 3.0

    def test_by_gives_one_result_a_group(self) -> None:
        events = [exit_of("read", 1.0), exit_of("read", 3.0), exit_of("write", 5.0)]
        found = (
            Query()
            .aggregate(Aggregation(AggregationType.DURATION_STATS, by="name"))
            .aggregate(Aggregation(AggregationType.COUNT, by="severity"))
            .run(events)
            .aggregations
        )
        assert {k: v.mean for k, v in found["duration_stats_by_name"].items()} == {
            "read": 2.0,
            "write": 5.0,
        }
        assert found["count_by_severity"] == {Severity.DEBUG: 3}

    def test_the_same_aggregation_twice_is_told_once(self) -> None:
        query = Query().aggregate(AggregationType.COUNT).aggregate(AggregationType.COUNT)
        assert query.run([at(1)]).aggregations == {"count": 1}


class TestResult:
    def test_carries_what_the_source_had_lost(self) -> None:
        result = Query().run([at(1)], lost=3)
        assert result.lost == 3
        assert not result.complete
        assert "3 lost" in repr(result)
        assert Query().run([at(1)]).complete

    def test_is_written_as_json(self) -> None:
        kinds = AggregationType
        result = (
            Query().aggregate(kinds.BY_SEVERITY, kinds.DURATION_STATS, kinds.HEALTH).run([at(1)])
        )
        read = json.loads(json.dumps(result.to_dict()))
        assert read["aggregations"]["by_severity"] == {"DEBUG": 1}
        assert read["aggregations"]["duration_stats"]["count"] == 1
        assert read["aggregations"]["health"] == {"status": "healthy", "reasons": []}
        assert read["events"][0]["payload"]["name"] == "read"

    def test_is_true_where_something_matched(self) -> None:
        assert Query().limit(0).run([at(1)])
        assert not Query().run([])


class TestOnACollector:
    def test_a_query_sees_what_is_in_the_ring_and_consumes_nothing(self) -> None:
        with Collector(size=64) as collector:
            subscriber = collector.subscribe()
            for n in range(10):
                collector.syscall_exit(42, "read", float(n), True)
            query = Query().pid(42).since(timedelta(minutes=1)).aggregate(AggregationType.BY_PID)
            assert collector.query(query).count == 10
            assert collector.query(query).aggregations["by_pid"] == {42: 10}
            assert len(list(subscriber)) == 10

    def test_events_read_back_are_filtered_by_their_payload(self) -> None:
        with Collector(size=64) as collector:
            collector.syscall_exit(1, "read", 5.0, True)
            collector.syscall_exit(1, "write", 5000.0, True)
            found = collector.query(Query().slower_than(ms=5))
            assert [event.payload.name for event in found] == ["write"]

    def test_events_that_were_overwritten_are_told_as_lost(self) -> None:
        with Collector(size=16) as collector:
            for n in range(16):
                collector.process_created(n, "sh", 5)
            assert collector.query(Query()).complete
            for n in range(84):
                collector.process_created(n, "sh", 5)
            result = collector.query(Query())
            assert (result.count, result.lost) == (16, 84)

    def test_what_was_forgotten_by_a_reset_is_not_lost(self) -> None:
        with Collector(size=16) as collector:
            for n in range(50):
                collector.process_created(n, "sh", 5)
            collector.reset()
            collector.process_created(1, "sh", 5)
            result = collector.query(Query())
            assert (result.count, result.lost) == (1, 0)

    def test_events_that_were_discarded_are_told_as_lost(self) -> None:
        with Collector(size=16, overflow="discard") as collector:
            reader = collector.subscribe(lossless=True)
            for n in range(20):
                collector.process_created(n, "sh", 5)
            assert collector.query(Query()).lost == 4
            assert collector.query(Query(), reader).count == 16

    def test_a_recording_tells_what_it_lost_too(self, tmp_path: Path) -> None:
        path = tmp_path / "small.kobs"
        with Collector(size=16, path=path) as collector:
            for n in range(20):
                collector.process_created(n, "sh", 5)
        with open_recording(path) as recording:
            result = recording.query(Query())
        assert (result.count, result.lost) == (16, 4)
