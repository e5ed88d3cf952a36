"""Subscribers see every event, each with a cursor of its own."""

import asyncio
import os
import threading

import pytest

from kobs import (
    BatchPublisher,
    Collector,
    ContextSwitch,
    EventFilter,
    ProcessCreated,
    ProcessTerminated,
    Severity,
)
from kobs.errors import ClosedError, ConfigError


def test_every_subscriber_sees_every_event() -> None:
    with Collector(size=64) as collector:
        first, second = collector.subscribe(), collector.subscribe()
        for number in range(5):
            collector.emit(ProcessTerminated(number))
        assert [event.payload.exit_code for event in first] == [0, 1, 2, 3, 4]
        assert [event.payload.exit_code for event in second] == [0, 1, 2, 3, 4]
        assert first.next() is None


def test_a_subscriber_begins_now_or_at_the_oldest_event() -> None:
    with Collector(size=64) as collector:
        collector.emit(ProcessTerminated(1))
        now, oldest = collector.subscribe(), collector.subscribe(oldest=True)
        collector.emit(ProcessTerminated(2))
        assert [event.payload.exit_code for event in now] == [2]
        assert [event.payload.exit_code for event in oldest] == [1, 2]


def test_reading_what_is_there_ends_though_a_producer_never_stops() -> None:
    with Collector(size=64) as collector:
        subscriber = collector.subscribe()
        collector.emit(ProcessTerminated(0))
        collector.emit(ProcessTerminated(1))
        seen = 0
        for _ in subscriber:  # each event read makes another
            collector.emit(ProcessTerminated(seen))
            seen += 1
            assert seen <= 2
        assert seen == 2


def test_a_filter_leaves_out_what_does_not_match() -> None:
    with Collector(size=64) as collector:
        warn = collector.subscribe().filter(EventFilter().severity(Severity.WARN))
        collector.emit(ProcessTerminated(1))
        collector.emit(ProcessTerminated(2), severity=Severity.ERROR)
        assert [event.payload.exit_code for event in warn] == [2]


def test_what_went_by_is_counted_exactly() -> None:
    with Collector(size=64) as collector:
        subscriber = collector.subscribe()
        for number in range(100):
            collector.emit(ProcessTerminated(number))
        assert [event.payload.exit_code for event in subscriber] == list(range(36, 100))
        assert subscriber.lost == 36


def test_a_flood_never_evicts_what_is_warn_or_above() -> None:
    with Collector(size=64) as collector:
        subscriber = collector.subscribe(oldest=True)
        collector.emit(ProcessTerminated(-9), severity=Severity.ERROR)
        for number in range(1000):
            collector.emit(ContextSwitch(number, 0, "await"))
        events = list(subscriber)
        assert events[0].payload == ProcessTerminated(-9)
        assert len(events) == 65
        assert subscriber.lost == 1000 - 64


def test_discard_drops_what_is_new_while_a_lossless_subscriber_is_a_ring_behind() -> None:
    with Collector(size=64, overflow="discard") as collector:
        subscriber = collector.subscribe(lossless=True)
        for number in range(100):
            collector.emit(ProcessTerminated(number))
        assert collector.stream_stats().events_dropped == 36
        assert [event.payload.exit_code for event in subscriber] == list(range(64))
        assert subscriber.lost == 0
        assert collector.emit(ProcessTerminated(100))
        assert [event.payload.exit_code for event in subscriber] == [100]


def test_follow_waits_for_events_of_another_thread() -> None:
    with Collector(size=64) as collector:
        subscriber = collector.subscribe()
        started = threading.Event()

        def produce() -> None:
            started.wait(60)
            for number in range(3):
                collector.emit(ProcessTerminated(number))

        thread = threading.Thread(target=produce)
        thread.start()
        seen = []
        started.set()
        for event in subscriber.follow(timeout=60):
            seen.append(event.payload.exit_code)
            if len(seen) == 3:
                break
        thread.join()
        assert seen == [0, 1, 2]
        assert list(subscriber.follow(timeout=0.01)) == []


def test_async_for_waits_for_events() -> None:
    async def main(collector: Collector) -> list[int]:
        subscriber = collector.subscribe()
        seen: list[int] = []

        async def consume() -> None:
            async for event in subscriber:
                seen.append(event.payload.exit_code)
                if len(seen) == 2:
                    subscriber.close()

        task = asyncio.create_task(consume())
        await asyncio.sleep(0)
        collector.emit(ProcessTerminated(1))
        collector.emit(ProcessTerminated(2))
        await asyncio.wait_for(task, 5)
        return seen

    with Collector(size=64) as collector:
        assert asyncio.run(main(collector)) == [1, 2]


def test_a_closed_subscriber_says_so() -> None:
    with Collector(size=64) as collector:
        subscriber = collector.subscribe()
        subscriber.close()
        subscriber.close()
        with pytest.raises(ClosedError, match="subscribe again"):
            subscriber.next()
        assert list(subscriber) == []


def test_stats_count_what_went_through() -> None:
    with Collector(size=64) as collector:
        first, _second = collector.subscribe(), collector.subscribe()
        for number in range(3):
            collector.emit(ProcessTerminated(number))
        list(first)
        stats = collector.stream_stats()
        assert stats.events_produced == 3
        assert stats.events_consumed == 3
        assert stats.events_dropped == 0
        assert stats.active_subscribers == 2
        first.close()
        assert collector.stream_stats().active_subscribers == 1
        assert collector.stream_stats().events_consumed == 3


def test_a_batch_is_emitted_together_with_the_times_of_its_events() -> None:
    with Collector(size=64) as collector:
        with BatchPublisher(collector, max_batch=3) as batch:
            batch.add(ProcessCreated("a"))
            batch.add(ProcessCreated("b"))
            assert collector.snapshot() == []
            batch.add(ProcessCreated("c"))
            assert len(collector.snapshot()) == 3
            batch.add(ProcessCreated("d"))
        events = collector.snapshot()
        assert [event.payload.name for event in events] == ["a", "b", "c", "d"]
        assert len({event.timestamp_ns for event in events}) == 4
    with pytest.raises(ConfigError, match="max_batch=0: expected at least 1"):
        BatchPublisher(collector, max_batch=0)


def test_a_forked_child_has_a_recording_of_its_own() -> None:
    with Collector(size=64) as collector:
        collector.emit(ProcessTerminated(1))
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            collector.emit(ProcessTerminated(2))
            seen = [(e.payload.exit_code, e.pid == os.getpid()) for e in collector.snapshot()]
            os.write(write_end, repr(seen).encode())
            os._exit(0)
        os.waitpid(child, 0)
        answer = os.read(read_end, 1000).decode()
        os.close(read_end)
        os.close(write_end)
        assert answer == "[(2, True)]"
        assert [event.payload.exit_code for event in collector.snapshot()] == [1]
