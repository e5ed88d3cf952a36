"""A chain of causes and effects: its events, where it began, its course over time."""

from collections.abc import Iterable
from typing import NamedTuple

from kobs._analysis.graph import CausalGraph, Edge, Gap
from kobs._analysis.trees import TreeNode
from kobs.events import Event

__all__ = ["CausalGraph", "CausalityTracer", "Edge", "Gap", "TimelineEntry", "TreeNode"]


class TimelineEntry(NamedTuple):
    """When something in a chain happened."""

    offset_us: float
    """Microseconds since the first event."""
    depth: int
    """How many steps of cause and effect below a root."""
    event: Event


class CausalityTracer:
    """Looks at one chain among events of one or many recordings, in any order.

    `events` may be a `CausalGraph` too: who asks several questions makes it once. A chain is a
    graph, not a bag of events with one id: besides the events that carry its `causality_id` it
    has what led to them and what they led to in other chains, over links (a message that was
    received under a trace of its own). A `causality_id` that no event has makes an empty chain.
    """

    @staticmethod
    def trace(events: Iterable[Event] | CausalGraph, causality_id: int) -> list[Event]:
        """The events of the chain, by time."""
        return CausalityTracer.graph(events, causality_id).nodes

    @staticmethod
    def root_cause(events: Iterable[Event] | CausalGraph, causality_id: int) -> Event | None:
        """What the chain goes back to: the earliest of its events that has no known cause; None
        for an empty chain. Where its cause was lost, it is among the events of
        `graph(...).gaps`."""
        return next(iter(CausalityTracer.graph(events, causality_id).roots), None)

    @staticmethod
    def timeline(events: Iterable[Event] | CausalGraph, causality_id: int) -> list[TimelineEntry]:
        """The chain's course: each event with its time since the first one, and its depth."""
        graph = CausalityTracer.graph(events, causality_id)
        if not graph.nodes:
            return []
        first = graph.nodes[0].timestamp_ns
        return [
            TimelineEntry((event.timestamp_ns - first) / 1000, depth, event)
            for event, depth in zip(graph.nodes, graph.depths(), strict=True)
        ]

    @staticmethod
    def critical_path(events: Iterable[Event] | CausalGraph, causality_id: int) -> list[Event]:
        """The path through the chain that took longest, from its first to its last event."""
        return CausalityTracer.graph(events, causality_id).critical_path()

    @staticmethod
    def longest_chain(events: Iterable[Event] | CausalGraph) -> list[Event]:
        """The longest path of causes and effects among all the events, in number of events."""
        return _graph(events).longest_chain()

    @staticmethod
    def graph(
        events: Iterable[Event] | CausalGraph, causality_id: int | None = None
    ) -> CausalGraph:
        """The chain as a graph; without an id, the graph of all the events."""
        whole = _graph(events)
        return whole if causality_id is None else whole.chain(causality_id)

    @staticmethod
    def tree(
        events: Iterable[Event] | CausalGraph, causality_id: int | None = None
    ) -> list[TreeNode]:
        """The chain (or all there is) as trees, one for each root."""
        return CausalityTracer.graph(events, causality_id).tree()


def _graph(events: Iterable[Event] | CausalGraph) -> CausalGraph:
    return events if isinstance(events, CausalGraph) else CausalGraph(events)
