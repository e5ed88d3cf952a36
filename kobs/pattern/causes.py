"""Walking from causes to effects among the events of a list."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from kobs.causality import CausalGraph
from kobs.events import Event

Graph = Callable[[], CausalGraph]
"""Gives the graph of the events (and maybe of more); asked for only where a pattern needs it."""


def graph_of(events: Sequence[Event]) -> Graph:
    """What gives the graph of the events, made when it is first asked for."""
    made: list[CausalGraph] = []

    def graph() -> CausalGraph:
        if not made:
            made.append(CausalGraph(events))
        return made[0]

    return graph


def reached_from(graph: CausalGraph, starts: Iterable[Event]) -> list[tuple[Event, Event]]:
    """Every event that one of `starts` led to in one or more steps, with the start that it was
    first reached from, by time."""
    reached: dict[int, tuple[Event, Event]] = {}
    waiting = deque((start, start) for start in starts)
    while waiting:
        event, start = waiting.popleft()
        for effect in graph.children(event):
            if id(effect) not in reached:
                reached[id(effect)] = (effect, start)
                waiting.append((effect, start))
    return sorted(reached.values(), key=lambda pair: (pair[0].timestamp_ns, pair[0].id))


def cause_is_missing(graph: CausalGraph, event: Event) -> bool:
    """`event` has a cause that is not among the events."""
    return any(event is one for gap in graph.gaps for one in gap.events)
