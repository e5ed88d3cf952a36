"""Each event of the vocabulary `queue`, each field held against what really happened."""

import threading
import time
from typing import Any

import pytest
from minikernel import (
    QueueManager,
)

from kobs import (
    IpcTimeout,
    MessageReceived,
    MessageSent,
    QueueDepth,
)

SUBSYSTEM = "queue"


def test_MessageSent__what_was_sent_and_where(stage: Any) -> None:
    queues = stage.watch(QueueManager())
    queues.create("orders", capacity=2)
    queues.send("orders", b"12345")
    queues.send("orders", "grün".encode())
    assert [event.payload for event in stage.all(MessageSent)] == [
        MessageSent("orders", 5),
        MessageSent("orders", 5),
    ]


def test_MessageReceived__what_came_and_how_long_it_had_waited(stage: Any) -> None:
    queues = stage.watch(QueueManager())
    queues.create("orders", capacity=2)
    began = time.perf_counter()
    queues.send("orders", b"first")
    queues.send("orders", b"second")
    threading.Event().wait(0.02)
    messages = [queues.receive("orders"), queues.receive("orders")]
    took_us = (time.perf_counter() - began) * 1e6
    events = stage.all(MessageReceived)
    assert [event.payload.size for event in events] == [5, 6]
    assert [event.payload.queue_id for event in events] == ["orders", "orders"]
    assert [event.payload.wait_time_us for event in events] == [m.wait_time_us for m in messages]
    assert all(20_000 <= event.payload.wait_time_us <= took_us for event in events)
    # Each receive is joined to its own send.
    assert [event.link for event in events] == [event.link for event in stage.all(MessageSent)]
    assert events[0].link != events[1].link


def test_IpcTimeout__nobody_at_the_other_end(stage: Any) -> None:
    queues = stage.watch(QueueManager())
    queues.create("orders", capacity=1)
    with pytest.raises(TimeoutError):
        queues.receive("orders", timeout=0.01)
    queues.send("orders", b"x")
    with pytest.raises(TimeoutError):
        queues.send("orders", b"y", timeout=0.02)
    assert [event.payload for event in stage.all(IpcTimeout)] == [
        IpcTimeout("orders", 10),
        IpcTimeout("orders", 20),
    ]
    assert len(stage.all(MessageSent)) == 1
    assert stage.all(MessageReceived) == []


def test_QueueDepth__how_full_it_is(stage: Any) -> None:
    queues = stage.watch(QueueManager())
    queues.create("here", capacity=3)
    queues.create_shared("there", capacity=5)
    for queue_id in ("here", "there"):
        queues.send(queue_id, b"1")
        queues.send(queue_id, b"2")
        queues.depth(queue_id)
    queues.close_all()
    assert [event.payload for event in stage.all(QueueDepth)] == [
        QueueDepth("here", 2, 3),
        QueueDepth("there", 2, 5),
    ]


def test_every_event_of_the_vocabulary_has_a_test_of_its_own(unproven: set[str]) -> None:
    assert unproven == set()
