"""Shapes of causal chains: what led to what, as texts that are the same in every run.

The shape of an event is the types of what led to it, the first cause first, and its own normal
form:

    MessageSent > MessageReceived > FileOpened(path='<tmp>/letter', mode='w')

How many events have which shape says what happened, without order and time. Only types that are
declared stable take part; where another one lies between two that are, they are joined over it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kobs._analysis.graph import CausalGraph
from kobs._analysis.normal import Normalizer, type_name
from kobs.events import Event

ARROW = " > "
ANY = "(...)"
"""Stands for any fields: `FileOpened(...)`."""
_MOST_ABOVE = 5
"""Causes that a shape names; a longer chain begins with `...`."""


class Median(NamedTuple):
    """What an operation took in the middle."""

    us: float
    samples: int


def of_phase(graph: CausalGraph, origin: str, phase: str) -> list[Event]:
    """What a phase of a test (setup, call, teardown) did, in parts that were captured by themselves
    too, and what that led to, whoever did it."""
    key = origin + phase[0]
    return graph.spread(lambda event: event.origin.partition("/")[0] == key)


def shapes(events: Iterable[Event], graph: CausalGraph, normalizer: Normalizer) -> Counter[str]:
    """How many of `events`, which are in `graph`, have which shape."""
    above: dict[int, tuple[str, ...]] = {}
    found: Counter[str] = Counter()
    for event in events:
        if event.type.__kobs_schema__.stable:
            path = _path(event, graph, above)
            found[ARROW.join((*path, normalizer.event(event)))] += 1
    return found


def _path(event: Event, graph: CausalGraph, above: dict[int, tuple[str, ...]]) -> tuple[str, ...]:
    """The types of what led to an event; `above` keeps what is known."""
    waiting = []
    current = event
    while id(current) not in above:
        waiting.append(current)
        causes = graph.causes(current)
        if not causes:
            above[id(current)] = ()
            break
        current = causes[0]
    for effect in reversed(waiting):
        causes = graph.causes(effect)
        if not causes:
            continue
        cause = causes[0]
        path = above[id(cause)]
        if cause.type.__kobs_schema__.stable:
            path = (*path, type_name(cause))
            if len(path) > _MOST_ABOVE:
                path = ("...", *path[-_MOST_ABOVE:])
        above[id(effect)] = path
    return above[id(event)]


def path_of(shape: str) -> str:
    """A shape without the fields: `MessageSent > MessageReceived > FileOpened`."""
    return shape.partition("(")[0]


def type_of(shape: str) -> str:
    """The payload type of a shape."""
    return path_of(shape).rpartition(ARROW)[2]


def form_of(shape: str) -> str:
    """The normal form of the events of a shape, without what led to them."""
    return type_of(shape) + shape[len(path_of(shape)) :]


def in_order(shape: str) -> tuple[list[str], str]:
    """A key that sorts shapes: causes before what they led to."""
    return path_of(shape).split(ARROW), shape


def by_type(counts: Mapping[str, int]) -> Counter[str]:
    """The number of events by payload type, of a number by shape."""
    found: Counter[str] = Counter()
    for shape, number in counts.items():
        found[type_of(shape)] += number
    return found


def medians(events: Iterable[Event], normalizer: Normalizer, least: int) -> dict[str, Median]:
    """The median duration by operation (`SpanEnded(name='parse')`; what is about paths is one
    operation), of stable types and of operations with `least` samples or more."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for event in events:
        schema = event.type.__kobs_schema__
        if schema.duration_field is None or not schema.stable:
            continue
        duration_us = event.duration_us
        if duration_us is None or not duration_us > 0:
            continue
        name = "" if schema.name_field in (None, "path") else str(event.name)
        about = f"{schema.name_field}={normalizer.text(name)!r}" if name else ""
        values[f"{type_name(event)}({about})"].append(duration_us)
    return {
        operation: Median(_middle(taken), len(taken))
        for operation, taken in values.items()
        if len(taken) >= least
    }


def _middle(values: list[float]) -> float:
    values.sort()
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


class Change(NamedTuple):
    """A shape that another number of events has now."""

    shape: str
    before: int
    now: int


def changes(
    before: Mapping[str, int], now: Mapping[str, int], varies: Iterable[str] = ()
) -> list[Change]:
    """Where two numbers by shape differ, in order. `varies` names shapes that do not count;
    `PATH(...)` stands for all those of this path that `before` does not have."""
    exempt = set(varies)
    found = []
    for shape in {*before, *now}:
        was, is_now = before.get(shape, 0), now.get(shape, 0)
        if was == is_now or shape in exempt:
            continue
        if shape not in before and path_of(shape) + ANY in exempt:
            continue
        found.append(Change(shape, was, is_now))
    return sorted(found, key=lambda change: in_order(change.shape))
