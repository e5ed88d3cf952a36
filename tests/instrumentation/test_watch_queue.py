"""The queue watch, in this process."""

import asyncio
import collections
import copy
import gc
import importlib
import inspect
import pickle
import queue
import random
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

import kobs
from kobs import IpcTimeout, MessageReceived, MessageSent, QueueDepth
from kobs._core import select
from kobs.context import Cause, cause, origin
from kobs_instrumentation.watch import _patch, queue as watch
from kobs_instrumentation.watch._watch import errors_go_to


@pytest.fixture
def collector() -> Iterator[kobs.Collector]:
    token = cause.set(None)
    with kobs.Collector(size=4096) as made:
        undo = watch.install(lambda: made)
        yield made
        undo()
    cause.reset(token)


def of(collector: kobs.Collector, *types: type) -> list[kobs.Event]:
    return [event for event in collector.snapshot() if isinstance(event.payload, types)]


def pairs(collector: kobs.Collector) -> list[tuple[int, int]]:
    """(number of the send, number of the receive) of what is joined by a link."""
    sent = [e.link for e in of(collector, MessageSent)]
    received = [e.link for e in of(collector, MessageReceived)]
    return [(sent.index(link), at) for at, link in enumerate(received) if link]


def test_an_item_stays_the_same_object(collector: kobs.Collector) -> None:
    item, waiting = object(), queue.Queue()
    waiting.put(item)
    assert waiting.queue[0] is item
    assert vars(waiting).keys() == vars(queue.Queue()).keys()
    assert waiting.get() is item


def test_the_sender_s_chain_is_the_receiver_s_until_the_next_receive(
    collector: kobs.Collector,
) -> None:
    waiting: queue.Queue[int] = queue.Queue()
    for chain in (11, 22):
        cause.set(Cause(chain, 0))
        waiting.put(chain)
    cause.set(Cause(99, 0))
    chains = []
    for _ in range(2):
        assert waiting.get() == cause.get().causality_id
        chains.append(cause.get().causality_id)
    assert chains == [11, 22]
    assert [e.causality_id for e in of(collector, MessageReceived)] == [11, 22]


@pytest.mark.says("wait time")
def test_a_receive_tells_how_long_the_item_waited(collector: kobs.Collector) -> None:
    waiting: queue.Queue[int] = queue.Queue()
    before = time.monotonic_ns()
    waiting.put(1)
    put = time.monotonic_ns()
    time.sleep(0.01)
    taken = time.monotonic_ns()
    waiting.get()
    after = time.monotonic_ns()
    (received,) = of(collector, MessageReceived)
    assert (taken - put) / 1e3 <= received.payload.wait_time_us <= (after - before) / 1e3


def test_a_send_outside_of_any_chain_begins_one(collector: kobs.Collector) -> None:
    waiting: queue.Queue[int] = queue.Queue()
    waiting.put(1)
    waiting.put(2)
    one, two = of(collector, MessageSent)
    assert 0 != one.causality_id != two.causality_id != 0
    assert cause.get() is None


def test_origin_is_never_replaced(collector: kobs.Collector) -> None:
    waiting: queue.Queue[int] = queue.Queue()
    token = origin.set("sender")
    waiting.put(1)
    origin.set("receiver")
    waiting.get()
    assert origin.get() == "receiver"
    origin.reset(token)
    waiting.put(1)
    waiting.get()
    assert origin.get() == ""


KINDS = {
    "first in, first out": (queue.Queue, [(0, 0), (1, 1), (2, 2)]),
    "last in, first out": (queue.LifoQueue, [(2, 0), (1, 1), (0, 2)]),
    "by priority": (queue.PriorityQueue, [(2, 0), (0, 1), (1, 2)]),
}


@pytest.mark.parametrize(("kind", "expected"), KINDS.values(), ids=KINDS.keys())
def test_each_receive_has_its_send(
    collector: kobs.Collector, kind: type, expected: list[tuple[int, int]]
) -> None:
    waiting = kind()
    for item in ([3], [5], [1]):
        waiting.put(item)
    for _ in range(3):
        waiting.get()
    assert pairs(collector) == expected


@pytest.mark.parametrize(("kind", "expected"), KINDS.values(), ids=KINDS.keys())
def test_one_object_sent_three_times(
    collector: kobs.Collector, kind: type, expected: list[tuple[int, int]]
) -> None:
    waiting = kind()
    for _ in range(3):
        waiting.put(None if kind is not queue.PriorityQueue else 1)
    for _ in range(3):
        waiting.get()
    if kind is queue.PriorityQueue:  # which of them came out is not known until one is left
        assert pairs(collector) == [(2, 2)]
    else:
        assert pairs(collector) == expected


def test_a_queue_of_ones_own(collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    class Newest(queue.Queue):
        def _init(self, maxsize: int) -> None:
            self.items: list[Any] = []

        def _qsize(self) -> int:
            return len(self.items)

        def _put(self, item: Any) -> None:
            self.items[:] = [item]

        def _get(self) -> Any:
            return self.items.pop()

    errors: list[tuple[str, BaseException]] = []
    monkeypatch.setattr(_patch, "on_error", lambda *error: errors.append(error))
    waiting = Newest()
    waiting.put("old")
    waiting.put("new")
    assert waiting.get() == "new"
    assert pairs(collector) == [(1, 0)]
    assert errors == []  # its depth is not known


@pytest.mark.says("timeouts")
def test_timeouts_are_told_and_a_send_that_failed_is_none(collector: kobs.Collector) -> None:
    waiting: queue.Queue[int] = queue.Queue(1)
    with pytest.raises(queue.Empty):
        waiting.get(timeout=0.001)
    with pytest.raises(queue.Empty):
        waiting.get_nowait()
    waiting.put(1)
    with pytest.raises(queue.Full):
        waiting.put(2, True, 0.002)
    with pytest.raises(queue.Full):
        waiting.put_nowait(3)
    assert [e.payload.timeout_ms for e in of(collector, IpcTimeout)] == [1.0, 2.0]
    assert len(of(collector, MessageSent)) == 1
    assert waiting.get() == 1
    assert pairs(collector) == [(0, 0)]


@pytest.mark.says("queue depth")
def test_depth_is_told_as_it_doubles_fills_and_falls(collector: kobs.Collector) -> None:
    waiting: queue.Queue[int] = queue.Queue(40)
    for number in range(40):
        waiting.put(number)
    for _ in range(40):
        waiting.get()
    depths = [(e.payload.depth, e.payload.capacity) for e in of(collector, QueueDepth)]
    assert depths == [(8, 40), (16, 40), (32, 40), (40, 40), (10, 40), (2, 40), (0, 40)]


@pytest.mark.parametrize("capacity", [0, 3, 20])
def test_depth_is_told_at_each_put_and_get_that_brings_it_about(
    collector: kobs.Collector, capacity: int
) -> None:
    """However seldom it is measured, of hundreds of puts and gets none is late."""
    chance = random.Random(capacity)
    waiting: queue.Queue[int] = queue.Queue(capacity)
    depth, told, expected = 0, 0, []
    for step in range(1200):
        puts = chance.random() < (0.75 if step % 400 < 200 else 0.25)
        if puts and not waiting.full():
            waiting.put(step)
            depth += 1
        elif not puts and depth:
            waiting.get()
            depth -= 1
        risen = depth >= max(8, 2 * told) or (depth == capacity != told)
        if risen or (told and depth <= told // 4):
            told = depth
            expected.append(depth)
    assert len(expected) > 3
    assert [e.payload.depth for e in of(collector, QueueDepth)] == expected


def test_the_label_is_one_queue_s(collector: kobs.Collector) -> None:
    one, two = queue.Queue(), queue.LifoQueue()
    for waiting in (one, two, one):
        waiting.put(1)
    first, second, third = [e.payload.queue_id for e in of(collector, MessageSent)]
    assert first == third != second
    assert first.startswith("Queue-")
    assert second.startswith("LifoQueue-")


def test_a_queue_is_not_kept_alive(collector: kobs.Collector) -> None:
    gc.collect()  # or a queue of an earlier test goes in the middle of this one
    before = len(watch._queues)
    waiting = queue.Queue()
    waiting.put(object())
    assert len(watch._queues) == before + 1
    del waiting
    gc.collect()
    assert len(watch._queues) == before


def test_asyncio(collector: kobs.Collector) -> None:
    async def consume(waiting: asyncio.Queue[str], found: list[int]) -> None:
        for _ in range(2):
            await waiting.get()
            found.append(cause.get().causality_id)

    async def main() -> list[int]:
        waiting: asyncio.Queue[str] = asyncio.Queue(1)
        found: list[int] = []
        consumer = asyncio.create_task(consume(waiting, found))
        for chain in (11, 22):
            cause.set(Cause(chain, 0))
            await waiting.put(str(chain))
        await consumer
        assert cause.get().causality_id == 22
        return found

    assert asyncio.run(main()) == [11, 22]
    assert pairs(collector) == [(0, 0), (1, 1)]
    assert all(e.payload.wait_time_us > 0 for e in of(collector, MessageReceived))


def test_many_threads_every_receive_has_the_send_of_its_item(collector: kobs.Collector) -> None:
    waiting: queue.Queue[Any] = queue.Queue()
    wrong: list[Any] = []

    def produce(first: int) -> None:
        for number in range(first, first + 200):
            cause.set(Cause(number, 0))
            waiting.put([number])

    def consume() -> None:
        while (item := waiting.get()) is not None:
            if cause.get().causality_id != item[0]:
                wrong.append(item)

    consumers = [threading.Thread(target=consume) for _ in range(3)]
    producers = [threading.Thread(target=produce, args=(1 + n * 1000,)) for n in range(3)]
    for thread in consumers + producers:
        thread.start()
    for thread in producers:
        thread.join()
    for _ in consumers:
        waiting.put(None)
    for thread in consumers:
        thread.join()
    assert wrong == []
    assert len(pairs(collector)) == 603


def test_without_events_cause_is_still_carried() -> None:
    with kobs.Collector(size=16) as collector:
        undo = watch.install(lambda: collector, events=False)
        waiting: queue.Queue[int] = queue.Queue()
        token = cause.set(Cause(11, 5))
        waiting.put(1)
        cause.set(None)
        waiting.get()
        assert cause.get().causality_id == 11
        cause.reset(token)
        undo()
        assert collector.snapshot() == []


@pytest.mark.skipif(select().name != "c", reason="SimpleQueue is a C type")
def test_a_queue_is_asked_nothing(collector: kobs.Collector) -> None:
    asked = []

    class Curious(queue.SimpleQueue):  # type: ignore[type-arg]
        def qsize(self) -> int:
            asked.append("qsize")
            return 0

    curious = Curious()
    for number in range(20):
        curious.put(number)
    assert asked == []
    depths = [e.payload.depth for e in collector.snapshot() if isinstance(e.payload, QueueDepth)]
    assert depths == [8, 16]


class Items(collections.deque):  # type: ignore[type-arg]
    """A container that notices when it is counted."""

    counted = 0

    def __len__(self) -> int:
        type(self).counted += 1
        return super().__len__()


class Counting(queue.Queue):  # type: ignore[type-arg]
    def _init(self, maxsize: int) -> None:
        self.queue = Items()


class Noticing(queue.Queue):  # type: ignore[type-arg]
    """A queue that notices what it is asked for."""

    def __getattribute__(self, name: str) -> Any:
        asked.append(name)
        return super().__getattribute__(name)


class Unlimited(asyncio.Queue):  # type: ignore[type-arg]
    @property
    def maxsize(self) -> int:
        asked.append("maxsize")
        return 0


asked: list[str] = []


def use_of(kind: type) -> tuple[list[str], int]:
    """What putting and getting asks a queue for, and how often it counts its items."""
    asked.clear()
    Items.counted = 0
    waiting = kind()
    put, get = waiting.put, waiting.get
    if kind is Unlimited:
        put, get = waiting.put_nowait, waiting.get_nowait
    for number in range(20):
        put(number)
    for number in range(20):
        assert get() == number
    return list(asked), Items.counted


@pytest.mark.parametrize("kind", [Counting, Noticing, Unlimited])
def test_what_a_program_makes_of_a_queue_is_asked_no_more_than_without(kind: type) -> None:
    bare = use_of(kind)
    with kobs.Collector(size=256) as collector:
        undo = watch.install(lambda: collector)
        token = cause.set(None)
        watched = use_of(kind)
        cause.reset(token)
        undo()
        assert len(pairs(collector)) == 20
        assert collector.losses().errors == 0
    assert watched == bare


@pytest.mark.skipif(select().name != "c", reason="SimpleQueue is a C type")
@pytest.mark.parametrize("leave", [True, False], ids=["there", "not-there"])
def test_a_module_that_was_imported_afresh(
    collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch, leave: bool
) -> None:
    """Another import of the C module makes another type, and need not stay in `sys.modules`."""
    monkeypatch.delitem(sys.modules, "_queue")
    other = importlib.import_module("_queue").SimpleQueue
    if not leave:
        del sys.modules["_queue"]
    undo = errors_go_to(lambda: collector)
    for kind in (queue.SimpleQueue, other):
        waiting = kind()
        for number in range(8):
            waiting.put(number)
        waiting.get()
    undo()
    assert collector.losses().errors == 0
    assert [event.payload.depth for event in of(collector, QueueDepth)] == [8, 8]
    assert len(of(collector, MessageSent)) == 16


def test_it_comes_back_over_what_another_put_back(collector: kobs.Collector) -> None:
    ours = queue.Queue.put
    theirs = lambda self, *args: ours(self, *args)  # noqa: E731
    queue.Queue.put = theirs  # type: ignore[method-assign,assignment]
    with kobs.Collector(size=64) as late:
        watch.install(lambda: late)()
    assert queue.Queue.put is theirs
    queue.Queue.put = ours  # type: ignore[method-assign]
    queue.Queue().put(1)
    assert len(of(collector, MessageSent)) == 1


def test_a_method_stays_what_it_was_to_whoever_asks(collector: kobs.Collector) -> None:
    for method in (queue.Queue.put, queue.Queue.get, asyncio.Queue.put_nowait):
        assert inspect.isfunction(method)
        assert inspect.signature(method) == inspect.signature(method.__wrapped__)  # type: ignore[attr-defined]
        assert pickle.loads(pickle.dumps(method)) is method
        assert copy.copy(method) is method
        assert method.__code__.co_name == method.__name__


@pytest.mark.parametrize("wrong", [(), (1, 2, 3, 4, 5)])
def test_a_call_that_does_not_fit_fails_as_without(
    collector: kobs.Collector, wrong: tuple[int, ...]
) -> None:
    waiting: queue.Queue[int] = queue.Queue()
    with pytest.raises(TypeError, match=r"^Queue\.put\(\) "):
        waiting.put(*wrong)
    with pytest.raises(TypeError, match=r"^Queue\.put\(\) "):
        queue.Queue.put()  # type: ignore[call-arg]
    assert of(collector, MessageSent) == []
    waiting.put(2)
    waiting.get()
    assert pairs(collector) == [(0, 0)]


def test_an_error_that_passes_through_has_no_frame_of_ours(collector: kobs.Collector) -> None:
    with pytest.raises(queue.Empty) as caught:
        queue.Queue().get_nowait()
    files = {frame.filename for frame in traceback.extract_tb(caught.tb)}
    assert files == {__file__, queue.__file__}


def test_the_oldest_of_too_many_sends_are_forgotten(
    collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_PENDING", 3)
    waiting: queue.Queue[Any] = queue.Queue()
    items = [[number] for number in range(5)]
    for item in items:
        waiting.put(item)
    for _ in items:
        waiting.get()
    assert pairs(collector) == [(2, 2), (3, 3), (4, 4)]


def test_many_sends_of_few_objects(collector: kobs.Collector) -> None:
    """However the same objects follow one another, each receive has its send."""
    waiting: queue.Queue[int] = queue.Queue()
    order = [number * 7 % 11 % 5 for number in range(300)]
    for number in order[:200]:
        waiting.put(number)
    for number in order[200:]:
        assert waiting.get() is not None
        waiting.put(number)
    for _ in range(200):
        waiting.get()
    assert pairs(collector) == [(n, n) for n in range(300)]


def test_inside_a_scope_a_receive_keeps_the_cause(collector: kobs.Collector) -> None:
    waiting: queue.Queue[int] = queue.Queue()
    cause.set(Cause(11, 5))
    waiting.put(1)
    scope = Cause(22, 7, 9, True, 3, in_scope=True)
    cause.set(scope)
    waiting.get()
    assert cause.get() is scope
    (received,) = of(collector, MessageReceived)
    assert (received.causality_id, received.parent, received.span_id) == (22, 7, 9)
    assert pairs(collector) == [(0, 0)]


def test_what_is_known_of_the_sender_s_trace_goes_on(collector: kobs.Collector) -> None:
    waiting: queue.Queue[int] = queue.Queue()
    cause.set(Cause(11, 5, 6, False, 77))
    waiting.put(1)
    cause.set(None)
    waiting.get()
    (sent,), (received,) = of(collector, MessageSent), of(collector, MessageReceived)
    assert (sent.causality_id, sent.parent, sent.span_id) == (11, 5, 6)
    assert (received.causality_id, received.parent, received.span_id) == (11, 0, 0)
    assert cause.get() == Cause(11, received.id, 0, False, 77)
    assert type(cause.get()) is Cause


def test_a_message_of_a_chain_that_is_dropped_leaves_its_receiver_in_it() -> None:
    with kobs.Collector(size=64, sampling=0) as collector:
        undo = watch.install(lambda: collector)
        token = cause.set(None)
        waiting: queue.Queue[int] = queue.Queue()
        waiting.put(1)
        waiting.get()
        chain = cause.get()
        undo()
        cause.reset(token)
        assert collector.snapshot() == []
        assert collector.losses().sampled_out == 2
    assert chain == Cause(chain.causality_id, 0, 0, False)
    assert chain.causality_id


def test_of_one_object_sent_in_many_chains_each_goes_on_in_its_own() -> None:
    """Dropped ones keep their place among those that are kept, and their chain for what warns."""
    waiting: queue.Queue[None] = queue.Queue()
    with kobs.Collector(size=8192, sampling=50) as collector:
        undo = watch.install(lambda: collector)
        token = cause.set(None)
        for _ in range(400):
            waiting.put(None)
        adopted = []
        for _ in range(400):
            waiting.get()
            adopted.append(cause.get())
            collector.emit(kobs.OperationSlow("work", 2.0, 1.0))
        cause.reset(token)
        undo()
        left_out = collector.ring.left_out().sampled_out[kobs.Category.IPC]
        sent, received = of(collector, MessageSent), of(collector, MessageReceived)
        slow = of(collector, kobs.OperationSlow)
    chains = [(each.causality_id, each.sampled) for each in adopted if each is not None]
    kept = [chain for chain, sampled in chains if sampled]
    assert len(set(chains)) == 400
    assert 100 < len(kept) < 300
    assert [event.causality_id for event in sent] == kept
    assert [event.causality_id for event in received] == kept
    assert [event.link for event in sent] == [event.link for event in received]
    assert left_out >= 2 * (400 - len(kept))  # and a depth now and then
    assert [(event.causality_id, not event.partial) for event in slow] == chains


def test_the_collector_may_be_another_at_each_call() -> None:
    with kobs.Collector(size=64) as one, kobs.Collector(size=64) as other:
        now = [one]
        undo = watch.install(lambda: now[0])
        token = cause.set(None)
        waiting: queue.Queue[int] = queue.Queue()
        waiting.put(1)
        now[0] = other
        waiting.get()
        found = [len(of(c, MessageSent, MessageReceived)) for c in (one, other)]
        other.close()
        waiting.put(2)
        undo()
        cause.reset(token)
    assert found == [1, 1]
