"""What was begun and does not end, what was sent and nobody takes."""

from typing import Any

import pytest

from kobs.collector import Collector
from kobs.errors import ConfigError
from kobs.events import FLAG_BEGIN, FLAG_END, Event
from kobs.levels import Category, Severity
from kobs.payloads import (
    IpcTimeout,
    MessageReceived,
    MessageSent,
    OperationSlow,
    PipeRead,
    PipeWritten,
    ProcessCreated,
    SpanBegan,
    SpanEnded,
    SyscallEnter,
    SyscallSlow,
)
from kobs.timeouts import TimeoutObserver

SECOND = 1_000_000_000
START = 1000 * SECOND


@pytest.fixture
def collector() -> Any:
    with Collector(size=256) as made:
        yield made


class TestWithACollector:
    def test_a_message_that_nobody_takes_is_told_once_caused_by_its_send(
        self, collector: Collector
    ) -> None:
        observer = TimeoutObserver(collector, ipc_timeout_ms=500)
        sent = collector.emit(
            MessageSent("jobs", 10), link=7, pid=42, causality_id=9, timestamp_ns=START
        )
        assert observer.check(now_ns=START + SECOND // 4) == []
        (timeout,) = observer.check(now_ns=START + SECOND)
        assert timeout.payload == IpcTimeout("jobs", 500.0)
        assert (timeout.cause, timeout.pid, timeout.waited_ms) == (sent, 42, 1000.0)
        assert observer.check(now_ns=START + 5 * SECOND) == []
        told = [found for found in collector.snapshot() if found.type is IpcTimeout]
        assert [(e.id, e.parent, e.causality_id, e.pid) for e in told] == [
            (timeout.id, sent, 9, 42)
        ]

    def test_a_message_that_was_taken_is_fine(self, collector: Collector) -> None:
        observer = TimeoutObserver(collector)
        collector.emit(MessageSent("jobs", 10), link=7, timestamp_ns=START)
        collector.emit(MessageReceived("jobs", 10), link=7, timestamp_ns=START + 1)
        assert observer.check(now_ns=START + 100 * SECOND) == []
        assert observer.waiting == 0

    def test_bytes_left_in_a_pipe_are_told_too(self, collector: Collector) -> None:
        observer = TimeoutObserver(collector)
        for token, pipe in ((7, "a"), (8, "b")):
            collector.emit(PipeWritten(pipe, 10), link=token, timestamp_ns=START)
        collector.emit(PipeRead("a", 10), link=7, timestamp_ns=START + 1)
        (timeout,) = observer.check(now_ns=START + 2 * SECOND)
        assert timeout.payload == IpcTimeout("b", 1000.0)

    def test_what_was_sent_before_the_observer_came_is_seen(self, collector: Collector) -> None:
        collector.emit(MessageSent("jobs", 10), link=7, timestamp_ns=START)
        assert len(TimeoutObserver(collector).check(now_ns=START + 2 * SECOND)) == 1

    def test_an_open_span_is_told_while_it_lasts_and_only_once(self, collector: Collector) -> None:
        observer = TimeoutObserver(collector, operation_timeout_ms=2000)
        scope = collector.emit_begin(SpanBegan("request"), causality_id=5, timestamp_ns=START)
        assert observer.check(now_ns=START + SECOND) == []
        (timeout,) = observer.check(now_ns=START + 3 * SECOND)
        assert timeout.payload == OperationSlow("request", 3000.0, 2000.0)
        assert (timeout.cause, timeout.causality_id) == (scope.event, 5)
        assert observer.check(now_ns=START + 9 * SECOND) == []
        collector.emit_end(scope, SpanEnded("request", 9e6))
        assert observer.check(now_ns=START + 99 * SECOND) == []

    def test_an_open_system_call_is_told_as_one(self, collector: Collector) -> None:
        observer = TimeoutObserver(collector)
        collector.emit_begin(SyscallEnter("flock"), timestamp_ns=START)
        (timeout,) = observer.check(now_ns=START + 2 * SECOND)
        assert timeout.payload == SyscallSlow("flock", 2000.0, 1000.0)

    def test_a_begin_that_was_overwritten_long_ago_is_told_all_the_same(self) -> None:
        with Collector(size=16) as collector:
            observer = TimeoutObserver(collector)
            collector.emit_begin(SpanBegan("request"), timestamp_ns=START)
            for _ in range(100):
                collector.process_created(1, "sh", 5)
            (timeout,) = observer.check(now_ns=START + 2 * SECOND)
            assert timeout.payload == OperationSlow("request", 2000.0, 1000.0)

    def test_where_events_were_lost_no_send_is_accused(self) -> None:
        with Collector(size=16) as collector:
            observer = TimeoutObserver(collector)
            collector.emit(MessageSent("jobs", 10), link=7, timestamp_ns=START)
            assert observer.check(now_ns=START) == []
            collector.emit(MessageReceived("jobs", 10), link=7, timestamp_ns=START)
            for _ in range(100):
                collector.process_created(1, "sh", 5)
            assert observer.check(now_ns=START + 9 * SECOND) == []
            assert observer.unsure == 1

    def test_the_longest_wait_comes_first(self, collector: Collector) -> None:
        observer = TimeoutObserver(collector)
        for n in (2, 1, 3):
            collector.emit(MessageSent("jobs", n), link=n, timestamp_ns=START - n * SECOND)
        collector.emit_begin(SpanBegan("request"), timestamp_ns=START - 10 * SECOND)
        found = observer.check(now_ns=START + SECOND)
        assert [timeout.waited_ms for timeout in found] == [11_000, 4000, 3000, 2000]

    def test_closing_it_or_the_collector_ends_the_matter(self, collector: Collector) -> None:
        with TimeoutObserver(collector) as observer:
            assert collector.stream_stats().active_subscribers == 1
        assert collector.stream_stats().active_subscribers == 0
        observer.close()
        other = TimeoutObserver(collector)
        collector.emit_begin(SpanBegan("request"), timestamp_ns=START)
        collector.close()
        assert other.check(now_ns=START + 9 * SECOND) == []

    def test_the_clock_can_be_given(self, collector: Collector) -> None:
        now = [START]
        observer = TimeoutObserver(collector, clock=lambda: now[0])
        collector.emit(MessageSent("jobs", 10), link=7, timestamp_ns=START)
        assert observer.check() == []
        now[0] += 2 * SECOND
        assert len(observer.check()) == 1


class TestWithoutACollector:
    def event(self, payload: Any, number: int, **header: Any) -> Event:
        flags = header.pop("flags", 0)
        made = Event(Severity.INFO, Category.IPC, payload, timestamp_ns=START, **header)
        return made._with(id=number, flags=flags)

    def test_events_are_given_and_nothing_is_emitted(self) -> None:
        observer = TimeoutObserver()
        observer.observe(self.event(SpanBegan("ended"), 1, flags=FLAG_BEGIN))
        observer.observe(self.event(SpanBegan("open"), 2, flags=FLAG_BEGIN))
        observer.observe(self.event(SpanEnded("ended", 5.0), 3, parent=1, flags=FLAG_END))
        observer.observe(self.event(MessageSent("q", 1), 4, link=9))
        observer.observe(self.event(ProcessCreated("sh"), 5, link=8))
        assert observer.waiting == 2
        found = observer.check(now_ns=START + 2 * SECOND)
        assert {timeout.payload for timeout in found} == {
            OperationSlow("open", 2000.0, 1000.0),
            IpcTimeout("q", 1000.0),
        }
        assert {timeout.id for timeout in found} == {0}
        assert observer.check(now_ns=START + 3 * SECOND) == []

    def test_memory_is_bounded(self) -> None:
        observer = TimeoutObserver(capacity=10)
        for n in range(1, 101):
            observer.observe(self.event(MessageSent("q", n), n, link=n))
            observer.observe(self.event(SpanBegan("s"), n, flags=FLAG_BEGIN))
        assert observer.waiting == 20
        assert observer.unsure == 180


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"ipc_timeout_ms": 0}, "ipc_timeout_ms=0: expected a number of milliseconds, above 0"),
        ({"operation_timeout_ms": "1 s"}, "operation_timeout_ms='1 s'"),
        ({"capacity": 0}, "capacity=0: expected an int, 1 or more"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TimeoutObserver(**arguments)
