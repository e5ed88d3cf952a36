"""Tracing a chain: its events, where it began, its course, its critical path."""

import time

import pytest

from kobs.causality import CausalGraph, CausalityTracer
from kobs.collector import Collector
from kobs.context import causal_context
from kobs.events import Event
from kobs.levels import Category, Severity
from kobs.payloads import (
    MessageReceived,
    MessageSent,
    OperationSlow,
    ProcessCreated,
    ShmRead,
    ShmWritten,
    SyscallEnter,
)


def event(
    number: int, *, at_us: float = 0, parent: int = 0, link: int = 0, cid: int = 1, kind: str = ""
) -> Event:
    """An event with an id, as one that was read back has."""
    payload = {
        "": lambda: ProcessCreated(f"e{number}", 5),
        "send": lambda: MessageSent("q", number),
        "receive": lambda: MessageReceived("q", number),
        "write": lambda: ShmWritten("shm", number),
        "read": lambda: ShmRead("shm", number),
    }[kind]()
    made = Event(
        Severity.INFO, Category.PROCESS, payload,
        timestamp_ns=int((at_us or number) * 1000), parent=parent, link=link, causality_id=cid,
    )  # fmt: skip
    return made._with(id=number)


def ids(events: list[Event]) -> list[int]:
    return [found.id for found in events]


# A server: chain 1 takes a request, queues a job and goes on; the worker takes the job in a span
# of its own trace, chain 2, and does it; chain 3 has nothing to do with either.
SERVER = [
    event(1),
    event(2, parent=1),
    event(3, parent=1, kind="send", link=77),
    event(4, cid=2),
    event(5, cid=2, parent=4, kind="receive", link=77),
    event(6, cid=2, parent=5),
    event(7, parent=1),
    event(8, cid=2, parent=4),
    event(9, cid=3),
]


class TestTrace:
    def test_has_the_chains_events_and_what_was_reached_over_links(self) -> None:
        assert ids(CausalityTracer.trace(SERVER, 1)) == [1, 2, 3, 5, 6, 7]

    def test_has_what_led_to_the_chain_but_not_what_else_that_led_to(self) -> None:
        assert ids(CausalityTracer.trace(SERVER, 2)) == [1, 3, 4, 5, 6, 8]

    def test_of_an_unknown_chain_is_empty(self) -> None:
        assert CausalityTracer.trace(SERVER, 99) == []
        assert CausalityTracer.root_cause(SERVER, 99) is None
        assert CausalityTracer.timeline(SERVER, 99) == []
        assert CausalityTracer.critical_path(SERVER, 99) == []
        assert CausalityTracer.tree(SERVER, 99) == []

    def test_is_by_time_whatever_the_order_of_the_input(self) -> None:
        assert ids(CausalityTracer.trace(reversed(SERVER), 1)) == [1, 2, 3, 5, 6, 7]

    def test_takes_any_iterable_and_a_graph_that_was_made_before(self) -> None:
        graph = CausalGraph(SERVER)
        for source in (iter(SERVER), tuple(SERVER), (e for e in SERVER), graph):
            assert ids(CausalityTracer.trace(source, 3)) == [9]

    def test_follows_links_over_links(self) -> None:
        relay = [
            event(1, kind="send", link=5),
            event(2, cid=2, kind="receive", link=5),
            event(3, cid=2, parent=2, kind="write", link=6),
            event(4, cid=3, kind="read", link=6),
            event(5, cid=4, kind="read", link=6),
        ]
        assert ids(CausalityTracer.trace(relay, 1)) == [1, 2, 3, 4, 5]
        assert ids(CausalityTracer.trace(relay, 4)) == [1, 2, 3, 5]

    def test_events_that_were_never_recorded_belong_to_their_chain_too(self) -> None:
        made = [
            Event(Severity.INFO, Category.PROCESS, ProcessCreated("sh", 5), causality_id=cid)
            for cid in (7, 8, 7)
        ]
        assert CausalityTracer.trace(made, 7) == [made[0], made[2]]
        assert CausalityTracer.root_cause(made, 7) is made[0]


class TestRootCause:
    def test_is_the_first_event_of_a_chain(self) -> None:
        assert CausalityTracer.root_cause(SERVER, 1) is SERVER[0]

    def test_lies_in_the_chain_that_sent_what_this_one_received(self) -> None:
        assert CausalityTracer.root_cause(SERVER, 2) is SERVER[0]

    def test_is_the_earliest_known_one_where_the_true_one_was_lost(self) -> None:
        events = [event(5, parent=4), event(6, parent=5)]
        assert CausalityTracer.root_cause(events, 1) is events[0]
        gap = CausalityTracer.graph(events, 1).gaps[0]
        assert (gap.kind, gap.missing, gap.events) == ("parent", 4, [events[0]])


class TestTimeline:
    def test_has_offsets_from_the_first_event_and_depths(self) -> None:
        entries = CausalityTracer.timeline(SERVER, 1)
        assert [(e.event.id, e.offset_us, e.depth) for e in entries] == [
            (1, 0.0, 0), (2, 1.0, 1), (3, 2.0, 1), (5, 4.0, 2), (6, 5.0, 3), (7, 6.0, 1),
        ]  # fmt: skip


class TestCriticalPath:
    def test_leads_through_what_took_longest(self) -> None:
        events = [
            event(1, at_us=1),
            event(2, at_us=2, parent=1),
            event(3, at_us=3, parent=2),
            event(4, at_us=50, parent=1),
        ]
        assert ids(CausalityTracer.critical_path(events, 1)) == [1, 4]
        assert ids(CausalityTracer.longest_chain(events)) == [1, 2, 3]

    def test_crosses_links(self) -> None:
        assert ids(CausalityTracer.critical_path(SERVER, 1)) == [1, 7]
        assert ids(CausalityTracer.critical_path(SERVER[:6], 1)) == [1, 3, 5, 6]

    def test_is_not_led_astray_by_an_event_without_a_cause(self) -> None:
        events = [event(1), event(2, parent=1), event(9)]
        assert ids(CausalityTracer.critical_path(events, 1)) == [1, 2]


def test_a_chain_read_back_from_a_collector() -> None:
    with Collector(size=64) as collector:
        cid = collector.emit_causal(ProcessCreated("root", 1))
        root = collector.snapshot()[0]
        with causal_context(cid, parent=root.id):
            sent = collector.emit(MessageSent("jobs", 10), link=123)
            collector.emit(OperationSlow("request", 5.0, 1.0))
        with causal_context(cid + 1):
            received = collector.emit(MessageReceived("jobs", 10), link=123)
            collector.emit(SyscallEnter("read"), parent=received)
        events = collector.snapshot()
        trace = CausalityTracer.trace(events, cid)
        assert [found.type_name for found in trace] == [
            "ProcessCreated", "MessageSent", "OperationSlow", "MessageReceived", "SyscallEnter",
        ]  # fmt: skip
        assert CausalityTracer.root_cause(events, cid + 1) == root
        assert ids(CausalityTracer.longest_chain(events)) == [
            root.id, sent, received, trace[-1].id,
        ]  # fmt: skip


@pytest.mark.slow
def test_a_hundred_thousand_events_take_about_a_second() -> None:
    events = [
        event(
            n,
            parent=n - 1 if n % 100 else 0,
            cid=1 + n // 1000,
            link=1 + n // 200 if n % 200 in (0, 150) else 0,
            kind={0: "send", 150: "receive"}.get(n % 200, ""),
        )
        for n in range(1, 100_001)
    ]
    began = time.process_time()  # of ours alone, however busy the machine is
    graph = CausalGraph(events)
    assert len(graph.longest_chain()) == 100
    assert [(gap.kind, gap.missing) for gap in graph.gaps] == [("link", 1)]
    assert sum(edge.kind == "link" for edge in graph.edges) == 499
    assert graph.chain(50).critical_path()
    assert len(graph.tree()) == len(graph.roots)
    taken = time.process_time() - began
    assert taken < 10, f"{taken:.1f} s: not linear any more"  # 0.8 s on an idle core
