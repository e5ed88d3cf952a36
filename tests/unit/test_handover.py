"""Links from sends to receives, in a process and through a session."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kobs import (
    Collector,
    MessageReceived,
    MessageSent,
    ShmRead,
    ShmWritten,
    arg,
    causal_context,
    emits,
    handover,
    observe,
    returned,
)
from kobs.context import Cause, cause, origin
from kobs.handover import LinkStore
from kobs.session import Session


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector(size=256) as made:
        yield made


def by_id(obj: object) -> tuple[Any, ...]:
    return ("item", id(obj))


@pytest.fixture
def channel(collector: Collector) -> Any:
    @observe(collector=collector)
    class Channel:
        def __init__(self) -> None:
            self.items: list[object] = []
            self.seen: list[Cause | None] = []

        @emits(MessageSent, queue_id="c", sends=arg("item").map(by_id))
        def send(self, item: object, then: Any = None) -> bool:
            self.items.append(item)
            if then is not None:
                then()
            return True

        @emits(MessageReceived, queue_id="c", receives=returned().map(by_id))
        def receive(self) -> object:
            return self.items.pop(0)

        @emits(MessageSent, queue_id="c", sends=arg("item").map(by_id),
               where=lambda call: call.result)  # fmt: skip
        def offer(self, item: object) -> bool:
            self.items.append(item)
            return False

        @emits(MessageSent, queue_id="c", sends=returned().map(by_id))
        def make(self) -> object:
            self.items.append(made := object())
            return made

    return Channel()


class TestObservedChannels:
    def in_another_thread(self, work: Any) -> list[Any]:
        seen: list[Any] = []
        thread = threading.Thread(target=lambda: (work(), seen.append(cause.get())))
        thread.start()
        thread.join()
        return seen

    def test_a_receive_is_linked_and_continues_the_chain(
        self, channel: Any, collector: Collector
    ) -> None:
        with causal_context(77, parent=3):
            channel.send(object())
        (after,) = self.in_another_thread(channel.receive)
        sent, received = collector.snapshot()
        assert sent.link == received.link != 0
        assert (sent.causality_id, sent.parent) == (77, 3)
        assert (received.causality_id, received.parent) == (77, 0)
        assert (after.causality_id, after.parent) == (77, received.id)
        assert received.payload.wait_time_us > 0
        assert cause.get() is None

    def test_the_next_receive_replaces_the_cause(self, channel: Any, collector: Collector) -> None:
        for chain in (1, 2):
            with causal_context(chain):
                channel.send(object())
        (after,) = self.in_another_thread(lambda: (channel.receive(), channel.receive()))
        first, second = collector.snapshot()[2:]
        assert (first.causality_id, second.causality_id) == (1, 2)
        assert (second.parent, after.parent) == (0, second.id)

    def test_a_chain_that_was_sampled_out_stays_out(
        self, channel: Any, collector: Collector
    ) -> None:
        assert collector.sampler.rate == 100  # a sampler that is looked at decides from here on
        token = cause.set(Cause(77, 0, sampled=False))
        channel.send(object())
        cause.reset(token)
        (after,) = self.in_another_thread(channel.receive)
        assert collector.snapshot() == []
        assert (after.causality_id, after.sampled) == (77, False)

    def test_inside_a_scope_it_only_gets_the_link(self, channel: Any, collector: Collector) -> None:
        with causal_context(77):
            channel.send(object())
        token = cause.set(Cause(5, 9, in_scope=True))
        try:
            channel.receive()
            assert cause.get() == Cause(5, 9, in_scope=True)
        finally:
            cause.reset(token)
        sent, received = collector.snapshot()
        assert received.link == sent.link
        assert (received.causality_id, received.parent) == (5, 9)

    def test_the_origin_is_the_receiver_s(self, channel: Any, collector: Collector) -> None:
        token = origin.set("sender")
        channel.send(object())
        origin.reset(token)
        token = origin.set("receiver")
        channel.receive()
        origin.reset(token)
        assert [event.origin for event in collector.snapshot()] == ["sender", "receiver"]

    def test_a_receiver_may_be_faster_than_the_sender(
        self, channel: Any, collector: Collector
    ) -> None:
        channel.send(object(), then=lambda: self.in_another_thread(channel.receive))
        received, sent = collector.snapshot()
        assert (received.type_name, sent.type_name) == ("MessageReceived", "MessageSent")
        assert received.link == sent.link != 0

    def test_what_was_not_sent_is_withdrawn(self, channel: Any, collector: Collector) -> None:
        item = object()
        with pytest.raises(ZeroDivisionError):
            channel.send(item, then=lambda: 1 // 0)
        channel.offer(item)
        assert len(handover.store_of(collector)) == 0
        channel.receive()
        (event,) = collector.snapshot()
        assert (event.type_name, event.link) == ("MessageReceived", 0)

    def test_a_key_that_is_known_after_the_call(self, channel: Any, collector: Collector) -> None:
        channel.make()
        channel.receive()
        sent, received = collector.snapshot()
        assert sent.link == received.link != 0

    def test_many_may_read_what_is_shared(self, collector: Collector) -> None:
        @observe(collector=collector)
        class Memory:
            @emits(ShmWritten, name="m", size=1, sends=(b"m"), shared=True)
            def write(self) -> None: ...

            @emits(ShmRead, name="m", size=1, receives=b"m", shared=True)
            def read(self) -> None: ...

        memory = Memory()
        memory.write()
        memory.write()
        for _ in range(2):
            memory.read()
        first, second, *reads = collector.snapshot()
        assert first.link != second.link
        assert [read.link for read in reads] == [second.link, second.link]


class TestStore:
    def test_first_in_first_out_and_ambiguity(self) -> None:
        store = LinkStore()
        first, second = store.send(("k",)), store.send(("k",))
        one, two = store.receive(("k",)), store.receive(("k",))
        assert one is not None
        assert two is not None
        assert (one.link, two.link) == (first, second)
        assert (one.ambiguous, two.ambiguous) == (True, False)
        assert store.receive(("k",)) is None

    def test_it_is_bounded(self) -> None:
        store = LinkStore(limit=10)
        for i in range(100):
            store.send(("same",))
            store.send((i,))
        assert len(store) == 10
        assert store.receive((0,)) is None
        assert store.receive((99,)) is not None

    def test_the_send_event_becomes_the_parent(self) -> None:
        store = LinkStore()
        link = store.send(("k",), Cause(5, 1, trace_high=3, sampled=False))
        store.sent(link, 99)
        record = store.receive(("k",))
        assert record is not None
        assert record.cause == Cause(5, 99, trace_high=3, sampled=False)
        store.sent(link, 100)
        store.withdraw(link)

    def test_bytes_cross_processes_through_the_session(self, tmp_path: Path) -> None:
        session = Session.create("test", ["test"], root=str(tmp_path))
        with (
            Collector(size=64, session=session) as here,
            Collector(size=64, session=session) as there,
        ):
            sender, receiver = LinkStore(here), LinkStore(there)
            with causal_context(77, parent=3):
                link = sender.send(b"message")
                sender.send(("own",))
            record = receiver.receive(b"message")
            assert record is not None
            assert (record.link, record.cause.causality_id) == (link, 77)
            assert receiver.receive(b"message") is None
            assert receiver.receive(("own",)) is None
            sender.send(b"place", shared=True)
            assert receiver.receive(b"place", shared=True) is not None
            assert receiver.receive(b"place", shared=True) is not None

    def test_tokens_differ_between_recordings(self, tmp_path: Path) -> None:
        session = Session.create("test", ["test"], root=str(tmp_path))
        with Collector(size=64, session=session) as a, Collector(size=64, session=session) as b:
            assert LinkStore(a).send(("k",)) >> 44 != LinkStore(b).send(("k",)) >> 44
