"""The causal graph: its edges, its gaps, and that it has no circles whatever it is given."""

import itertools
from typing import Any

import pytest
from hypothesis import given, strategies as st

from kobs.causality import CausalGraph
from kobs.events import Event
from kobs.levels import Category, Severity
from kobs.payloads import (
    MessageReceived,
    MessageSent,
    PipeRead,
    PipeWritten,
    ProcessCreated,
    ProcessStateChanged,
    ShmRead,
    ShmWritten,
    SyscallEnter,
)
from kobs.schema import PayloadType

PLAIN = ProcessStateChanged("a", "b")


def event(
    number: int, payload: PayloadType = PLAIN, *, at: int | None = None, **header: Any
) -> Event:
    made = Event(
        Severity.INFO, Category.IPC, payload, timestamp_ns=number if at is None else at, **header
    )
    return made._with(id=number)


def edges(graph: CausalGraph) -> set[tuple[int, int, str]]:
    return {(edge.source.id, edge.target.id, edge.kind) for edge in graph.edges}


def ids(events: list[Event]) -> list[int]:
    return [found.id for found in events]


def test_events_spread_to_all_that_they_led_to() -> None:
    graph = CausalGraph(
        [event(1), event(2, parent=1), event(3, parent=2), event(4), event(5, parent=4)]
    )
    assert ids(graph.spread(lambda node: node.id in (2, 5))) == [2, 3, 5]
    assert graph.spread(lambda _: False) == []


class TestEdges:
    def test_a_parent_is_the_event_whose_id_is_named(self) -> None:
        graph = CausalGraph([event(1), event(2, parent=1), event(3, parent=1)])
        assert edges(graph) == {(1, 2, "parent"), (1, 3, "parent")}
        assert ids(graph.children(1)) == [2, 3]
        assert ids(graph.causes(3)) == [1]
        assert ids(graph.roots) == [1]

    @pytest.mark.parametrize(
        ("send", "receive"),
        [
            (MessageSent("q"), MessageReceived("q")),
            (PipeWritten("p", 1), PipeRead("p", 1)),
            (ShmWritten("s", 1), ShmRead("s", 1)),
            (ProcessCreated("sh"), PLAIN),
        ],
    )
    def test_a_link_leads_from_send_to_receive_even_if_the_send_was_recorded_later(
        self, send: PayloadType, receive: PayloadType
    ) -> None:
        sent, received = event(5, send, link=9), event(2, receive, link=9)
        assert edges(CausalGraph([sent, received])) == {(5, 2, "link")}

    def test_among_other_types_the_earliest_sends(self) -> None:
        made = [event(n, SyscallEnter("x"), link=9) for n in (3, 1, 2)]
        assert edges(CausalGraph(made)) == {(1, 2, "link"), (1, 3, "link")}

    def test_several_may_receive_what_one_sent(self) -> None:
        made = [event(1, ShmWritten("s", 1), link=9)]
        made += [event(n, ShmRead("s", 1), link=9) for n in (2, 3)]
        assert edges(CausalGraph(made)) == {(1, 2, "link"), (1, 3, "link")}

    def test_what_was_received_is_from_the_last_send_before_it(self) -> None:
        write, read = ShmWritten("s", 1), ShmRead("s", 1)
        made = [event(n, write if n % 2 else read, link=9) for n in range(1, 7)]
        assert edges(CausalGraph(made)) == {(1, 2, "link"), (3, 4, "link"), (5, 6, "link")}

    def test_no_link_is_no_token(self) -> None:
        assert (
            edges(CausalGraph([event(1, MessageSent("q")), event(2, MessageReceived("q"))]))
            == set()
        )

    def test_a_receive_may_have_a_parent_and_a_sender(self) -> None:
        graph = CausalGraph(
            [
                event(1, MessageSent("q"), link=9),
                event(2),
                event(3, MessageReceived("q"), link=9, parent=2),
            ]
        )
        assert edges(graph) == {(1, 3, "link"), (2, 3, "parent")}
        assert ids(graph.causes(3)) == [2, 1]

    def test_a_sender_that_is_the_parent_is_one_edge(self) -> None:
        graph = CausalGraph(
            [event(1, MessageSent("q"), link=9), event(2, MessageReceived("q"), link=9, parent=1)]
        )
        assert edges(graph) == {(1, 2, "link")}
        assert len(graph.tree()[0].children) == 1

    def test_an_event_given_twice_counts_once(self) -> None:
        made = [event(1), event(2, parent=1)]
        assert len(CausalGraph([*made, *made])) == 2

    def test_events_of_several_recordings_are_one_graph(self) -> None:
        other = 2 << 44  # ids carry the recording's number
        graph = CausalGraph([event(1), event(other | 1, parent=1, at=50)])
        assert edges(graph) == {(1, other | 1, "parent")}


class TestGaps:
    def test_a_lost_parent_is_named_with_what_it_caused(self) -> None:
        graph = CausalGraph([event(5, parent=4), event(6, parent=4), event(7, parent=6)])
        assert [(gap.kind, gap.missing, ids(gap.events)) for gap in graph.gaps] == [
            ("parent", 4, [5, 6])
        ]
        assert ids(graph.roots) == [5, 6]
        assert [node.lost_cause for node in graph.tree()] == [True, True]

    def test_a_receive_without_its_send_is_one(self) -> None:
        graph = CausalGraph([event(5, MessageReceived("q"), link=9)])
        assert [(gap.kind, gap.missing, ids(gap.events)) for gap in graph.gaps] == [
            ("link", 9, [5])
        ]

    def test_a_send_that_nobody_received_is_none(self) -> None:
        assert CausalGraph([event(5, MessageSent("q"), link=9)]).gaps == []

    def test_what_a_chain_leaves_out_is_none(self) -> None:
        graph = CausalGraph(
            [
                event(1, MessageSent("q"), link=9, causality_id=1),
                event(2, causality_id=2),
                event(3, MessageReceived("q"), link=9, parent=2, causality_id=2),
            ]
        )
        chain = graph.chain(1)
        assert ids(chain.nodes) == [1, 3]
        assert chain.gaps == []
        assert edges(chain) == {(1, 3, "link")}


class TestCircles:
    def test_an_event_that_names_itself_is_cut(self) -> None:
        graph = CausalGraph([event(1, parent=1)])
        assert edges(graph) == set()
        assert [(cut.source.id, cut.target.id) for cut in graph.cut] == [(1, 1)]

    def test_two_that_name_each_other_keep_one_edge(self) -> None:
        graph = CausalGraph([event(1, parent=2), event(2, parent=1)])
        assert len(graph.edges) == len(graph.cut) == 1
        assert len(graph.longest_chain()) == 2

    @given(
        st.lists(
            st.tuples(st.integers(0, 12), st.integers(0, 4), st.integers(0, 5), st.booleans()),
            max_size=12,
        )
    )
    def test_whatever_is_given_every_walk_ends(
        self, made: list[tuple[int, int, int, bool]]
    ) -> None:
        events = [
            event(
                number,
                ShmWritten("s", 1) if sends else ShmRead("s", 1),
                at=at,
                parent=parent,
                link=link,
                causality_id=at % 3,
            )
            for number, (parent, link, at, sends) in enumerate(made, 1)
        ]
        graph = CausalGraph(events)
        steps = {found.id: 0 for found in graph.nodes}
        for _ in range(len(steps) + 1):  # the longest path is shorter than the number of nodes
            for edge in graph.edges:
                steps[edge.target.id] = max(steps[edge.target.id], steps[edge.source.id] + 1)
        assert max(steps.values(), default=0) < max(1, len(steps))
        assert len(graph.longest_chain()) == max(steps.values(), default=-1) + 1
        for path in (graph.longest_chain(), graph.critical_path()):
            for cause, effect in itertools.pairwise(path):
                assert effect in graph.children(cause)
        own = [node for root in graph.tree() for _, node in root.walk() if not node.reference]
        assert sorted(node.event.id for node in own) == sorted(steps)
        for part in range(3):
            assert set(graph.chain(part).nodes) <= set(graph.nodes)
        assert graph.to_dot().startswith("digraph")


class TestReach:
    GRAPH = CausalGraph([event(1), event(2, parent=1), event(3, parent=2), event(4, parent=1)])

    def test_leads_to_means_one_step_or_more(self) -> None:
        assert self.GRAPH.leads_to(1, 2)
        assert self.GRAPH.leads_to(1, 3)
        assert not self.GRAPH.leads_to(3, 1)
        assert not self.GRAPH.leads_to(2, 4)
        assert not self.GRAPH.leads_to(1, 1)
        assert not self.GRAPH.leads_to(99, 1)

    def test_ancestors_and_descendants_do_not_include_the_event(self) -> None:
        assert ids(self.GRAPH.ancestors(3)) == [1, 2]
        assert ids(self.GRAPH.descendants(1)) == [2, 3, 4]
        assert self.GRAPH.descendants(99) == self.GRAPH.ancestors(99) == []

    def test_events_may_be_asked_for_by_themselves(self) -> None:
        first = self.GRAPH.nodes[0]
        assert ids(self.GRAPH.children(first)) == [2, 4]
        unrecorded = Event(Severity.INFO, Category.IPC, PLAIN)
        assert CausalGraph([unrecorded]).children(unrecorded) == []
        assert self.GRAPH.children(unrecorded) == []


class TestTree:
    def test_hangs_each_event_once_and_refers_to_it_from_a_second_cause(self) -> None:
        graph = CausalGraph(
            [
                event(1, MessageSent("q"), link=9),
                event(2),
                event(3, MessageReceived("q"), link=9, parent=2),
                event(4, parent=3),
            ]
        )
        drawn = [
            (depth, node.event.id, node.edge, node.reference)
            for root in graph.tree()
            for depth, node in root.walk()
        ]
        assert drawn == [
            (0, 1, "root", False),
            (1, 3, "link", True),
            (0, 2, "root", False),
            (1, 3, "parent", False),
            (2, 4, "parent", False),
        ]

    def test_of_a_chain_hangs_a_receive_on_its_send(self) -> None:
        graph = CausalGraph(
            [
                event(1, MessageSent("q"), link=9, causality_id=1),
                event(2, causality_id=2),
                event(3, MessageReceived("q"), link=9, parent=2, causality_id=2),
            ]
        )
        (root,) = graph.chain(1).tree()
        assert [(n.event.id, n.edge, n.reference) for n in root.children] == [(3, "link", False)]

    def test_a_chain_of_any_length_can_be_walked(self) -> None:
        graph = CausalGraph([event(n, parent=n - 1) for n in range(1, 20_001)])
        (root,) = graph.tree()
        assert max(depth for depth, _ in root.walk()) == 19_999
        assert graph.depths()[-1] == 19_999


def test_the_dot_language_is_quoted() -> None:
    graph = CausalGraph(
        [event(1, MessageSent('a"b\\c\nd'), link=9), event(2, MessageReceived("q"), link=9)]
    )
    dot = graph.to_dot()
    assert 'label="MessageSent a\\"b\\\\c\\nd\\npid 0, INFO"' in dot
    assert "e0 -> e1 [style=dashed];" in dot
