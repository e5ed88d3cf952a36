"""Finding patterns among events, in order of time."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from kobs.errors import PatternError
from kobs.events import Event
from kobs.pattern.base import Pattern, check_variables, hint, shown
from kobs.pattern.causes import Graph, graph_of, reached_from
from kobs.pattern.chains import Chain, Count
from kobs.pattern.predicates import EventPattern
from kobs.pattern.values import NOTHING_BOUND, Bound

Path = tuple[Event, ...]
"""An event a step, from the first on."""

_Index = dict[tuple[object, ...], tuple[list[Event], list[int]]]
"""Events and their places, by what variables are bound to."""

BROKEN_KEPT = 200
"""Paths that did not end: among so many the nearest miss is looked for."""


class Step(NamedTuple):
    """What one step of a chain found: every matching event with the match of the step before."""

    found: tuple[tuple[Event, Event | None], ...]


class Broken(NamedTuple):
    """A path that could not be gone on with, and what its variables are bound to."""

    path: Path
    bound: Bound


def matches(pattern: Pattern, events: Sequence[Event], graph: Graph | None = None) -> list[Event]:
    """The events that match; of a chain those that complete it (its last step)."""
    __tracebackhide__ = True
    check_variables(pattern)
    if isinstance(pattern, Count):
        pattern = pattern.pattern
    if isinstance(pattern, EventPattern):
        return [event for event in events if pattern.matches(event)]
    if isinstance(pattern, Chain):
        graph = graph or graph_of(events)
        if not pattern.plain:
            ends = {id(path[-1]): path[-1] for path in ChainSearch(pattern, events, graph).paths()}
            return sorted(ends.values(), key=_time)
        steps = walk(pattern, events, graph)
        complete = len(steps) == len(pattern.steps)
        return [event for event, _ in steps[-1].found] if complete else []
    raise PatternError(f"{shown(pattern)} cannot be looked for: {hint(pattern)}")


def count(pattern: Pattern, events: Sequence[Event], graph: Graph | None = None) -> int:
    """How many events match; of a chain, how many complete it."""
    __tracebackhide__ = True
    return len(matches(pattern, events, graph))


def find(pattern: Pattern, events: Sequence[Event], graph: Graph | None = None) -> Path | None:
    """The first match, one event a step; None where there is none.

    A count is found where it is met; it gives all its events.
    """
    __tracebackhide__ = True
    check_variables(pattern)
    if isinstance(pattern, Count):
        found = matches(pattern, events, graph)
        return tuple(found) if pattern.allows(len(found)) else None
    if isinstance(pattern, EventPattern):
        return next(((event,) for event in events if pattern.matches(event)), None)
    if isinstance(pattern, Chain):
        graph = graph or graph_of(events)
        if not pattern.plain:
            return next(ChainSearch(pattern, events, graph).paths(), None)
        steps = walk(pattern, events, graph)
        if len(steps) < len(pattern.steps) or not steps[-1].found:
            return None
        return next(_paths(steps))
    raise PatternError(f"{shown(pattern)} cannot be looked for: {hint(pattern)}")


def walk(pattern: Chain, events: Sequence[Event], graph: Graph) -> list[Step]:
    """What each step of a chain without variables and limits found, up to and with the first that
    found nothing.

    `events` are in order of time; `graph` gives their causes (and may know more events).
    """
    __tracebackhide__ = True
    first = pattern.steps[0]
    steps = [Step(tuple((event, None) for event in events if first.matches(event)))]
    allowed = {id(event) for event in events}
    for step, by_cause in zip(pattern.steps[1:], pattern.by_cause, strict=True):
        before = steps[-1].found
        if not before:
            break
        if by_cause:
            pairs = reached_from(graph(), [event for event, _ in before])
            found = tuple(
                (event, start)
                for event, start in pairs
                if id(event) in allowed and step.matches(event)
            )
        else:
            earliest = before[0][0]
            index = next(i for i, event in enumerate(events) if event is earliest)
            found = tuple((event, earliest) for event in events[index + 1 :] if step.matches(event))
        steps.append(Step(found))
    return steps


def broken(pattern: Chain, events: Sequence[Event], graph: Graph) -> list[Broken]:
    """The paths that got furthest of a chain that is not there; empty where not even its first
    step is."""
    __tracebackhide__ = True
    if not pattern.plain:
        search = ChainSearch(pattern, events, graph)
        for _ in search.paths():
            pass
        return search.furthest
    steps = walk(pattern, events, graph)
    if not steps[-1].found:
        steps.pop()
    if not steps:
        return []
    return [Broken(path, NOTHING_BOUND) for path in islice(_paths(steps), BROKEN_KEPT)]


class ChainSearch:
    """Looks for a chain whose steps depend on one another: by variables, or by limits of time.

    Every way to go on is tried, but none twice: where the same event was reached with the same
    bindings, in no less time, nothing new can follow.
    """

    def __init__(
        self,
        pattern: Chain,
        events: Sequence[Event],
        graph: Graph,
    ) -> None:
        self._pattern = pattern
        self._events = events
        self._graph = graph
        self._place = {id(event): index for index, event in enumerate(events)}
        self._seen: set[tuple[object, ...]] = set()
        self._candidates: dict[int, list[tuple[Event, Bound]]] = {}
        self._indexed: dict[tuple[object, ...], _Index] = {}
        self.furthest: list[Broken] = []
        """The paths that got furthest without coming to an end, after `paths` was exhausted."""

    def paths(self) -> Iterator[Path]:
        """The paths there are, no two with the same last event and the same bindings."""
        __tracebackhide__ = True
        first = self._pattern.steps[0]
        for event in self._events:
            for bound in first.bind(event, NOTHING_BOUND):
                yield from self._from((event,), bound)

    def path_from(self, start: Event) -> Path | None:
        """The first path that begins with an event; None where none does, and then `furthest`
        are those from there."""
        __tracebackhide__ = True
        self._seen.clear()
        self.furthest.clear()
        for bound in self._pattern.steps[0].bind(start, NOTHING_BOUND):
            path = next(self._from((start,), bound), None)
            if path is not None:
                return path
        return None

    def _from(self, start: Path, bound: Bound) -> Iterator[Path]:
        """Depth first, with a stack of its own: chains are short, what they lead through is not."""
        __tracebackhide__ = True
        steps = self._pattern.steps
        waiting = [iter([(start, bound)])]
        while waiting:
            following = next(waiting[-1], None)
            if following is None:
                waiting.pop()
                continue
            path, bound = following
            state = self._state(path, bound)
            if state in self._seen:
                continue
            self._seen.add(state)
            if len(path) == len(steps):
                yield path
                continue
            self._note(path, bound)
            waiting.append(self._onward(path, bound))

    def _onward(self, path: Path, bound: Bound) -> Iterator[tuple[Path, Bound]]:
        __tracebackhide__ = True
        place = len(path)
        step = self._pattern.steps[place]
        latest = self.latest(path)
        by_cause = self._pattern.by_cause[place - 1]
        for event in self.reachable(path) if by_cause else self._later(path, bound):
            if latest is not None and event.timestamp_ns > latest:
                if by_cause:
                    continue
                return
            for more in step.bind(event, bound):
                yield (*path, event), more

    def reachable(self, path: Path) -> Sequence[Event]:
        """What the next step may be, whatever it looks like: by time."""
        if self._pattern.by_cause[len(path) - 1]:
            reached = reached_from(self._graph(), [path[-1]])
            return [event for event, _ in reached if id(event) in self._place]
        return self._events[self._place[id(path[-1])] + 1 :]

    def _later(self, path: Path, bound: Bound) -> Iterator[Event]:
        """Of what came later, what the next step may be; found by the variables that are bound,
        so that a step of many events is not looked through for each event before it."""
        __tracebackhide__ = True
        place = len(path)
        known = self._candidates.get(place)
        if known is None:
            step = self._pattern.steps[place]
            known = self._candidates[place] = [
                (event, own) for event in self._events for own in step.bind(event, NOTHING_BOUND)
            ]
        if not known:
            return iter(())
        names = tuple(name for name in known[0][1] if name in bound)
        index = self._indexed.get((place, *names))
        if index is None:
            index = self._indexed[(place, *names)] = {}
            for event, own in known:
                events, places = index.setdefault(tuple(own[name] for name in names), ([], []))
                events.append(event)
                places.append(self._place[id(event)])
        events, places = index.get(tuple(bound[name] for name in names), ([], []))
        return islice(events, bisect_right(places, self._place[id(path[-1])]), None)

    def latest(self, path: Path) -> int | None:
        """Until when the next step must have happened; None for no limit."""
        limits = [
            path[limit.first].timestamp_ns + limit.nanoseconds
            for limit in self._pattern.limits
            if limit.first < len(path) <= limit.last
        ]
        return min(limits, default=None)

    def _state(self, path: Path, bound: Bound) -> tuple[object, ...]:
        begun = (
            path[limit.first].timestamp_ns
            for limit in self._pattern.limits
            if limit.first < len(path) - 1 < limit.last
        )
        return (len(path), id(path[-1]), *bound.items(), *begun)

    def _note(self, path: Path, bound: Bound) -> None:
        known = self.furthest
        if known and len(known[0].path) > len(path):
            return
        if known and len(known[0].path) < len(path):
            known.clear()
        if len(known) < BROKEN_KEPT:
            known.append(Broken(path, bound))


def _paths(steps: Sequence[Step]) -> Iterator[Path]:
    """A path to each of the events that the last step found."""
    before = [{id(event): (event, start) for event, start in step.found} for step in steps]
    for last, _ in steps[-1].found:
        path = []
        event: Event | None = last
        for known in reversed(before):
            event, start = known[id(event)]
            path.append(event)
            event = start
        yield tuple(reversed(path))


def _time(event: Event) -> tuple[int, int]:
    return event.timestamp_ns, event.id
