"""Patterns of several events: `A >> B`, `A.then(B)`, `A * n`; and finding any pattern in events."""

from collections.abc import Sequence
from typing import NamedTuple

from kobs.causality import CausalGraph
from kobs.errors import PatternError
from kobs.events import Event
from kobs.pattern.base import Pattern, hint, require, shown
from kobs.pattern.causes import Graph, reached_from
from kobs.pattern.predicates import AllOf, AnyOf, EventPattern


class Chain(Pattern):
    """Steps that follow one another: by cause (`>>`) or in time only (`then`)."""

    __slots__ = ("by_cause", "steps")

    def __init__(self, steps: tuple[EventPattern, ...], by_cause: tuple[bool, ...]) -> None:
        self.steps = steps
        self.by_cause = by_cause
        """For every step but the first: it is caused by the step before."""

    @property
    def kind(self) -> str:
        return "a chain of events"

    def __repr__(self) -> str:
        text = _step(self.steps[0])
        callable_so_far = not text.startswith(("(", "~"))
        for step, by_cause in zip(self.steps[1:], self.by_cause, strict=True):
            if by_cause:
                text, callable_so_far = f"{text} >> {_step(step)}", False
            else:
                before = text if callable_so_far or _one_bracket(text) else f"({text})"
                text, callable_so_far = f"{before}.then({step!r})", True
        return text


class Count(Pattern):
    """Exactly so many matches."""

    __slots__ = ("pattern", "times")

    def __init__(self, pattern: Pattern, times: int) -> None:
        if isinstance(pattern, Count):
            raise PatternError(f"({pattern!r}) * {times!r}: a count cannot be counted again")
        if isinstance(times, bool) or not isinstance(times, int) or times < 0:
            raise PatternError(
                f"({pattern!r}) * {times!r}: expected how often it happens, a whole number from 0"
            )
        self.pattern = pattern
        self.times = times

    @property
    def kind(self) -> str:
        return "a count"

    def __repr__(self) -> str:
        plain = isinstance(self.pattern, EventPattern) and not isinstance(
            self.pattern, AllOf | AnyOf
        )
        return f"{self.pattern!r} * {self.times}" if plain else f"({self.pattern!r}) * {self.times}"


class Step(NamedTuple):
    """What one step of a chain found: every matching event with the match of the step before."""

    found: tuple[tuple[Event, Event | None], ...]


def chain(left: object, right: object, *, by_cause: bool) -> Chain:
    """`left >> right`, or `left.then(right)`. Raises `PatternError`."""
    sign = ">>" if by_cause else "then"
    steps: list[EventPattern] = []
    joins: list[bool] = []
    for place, side in enumerate((left, right)):
        pattern = require(side, f"{shown(left)} {sign} {shown(right)}")
        if isinstance(pattern, Chain):
            steps += pattern.steps
            joins += pattern.by_cause
        elif isinstance(pattern, EventPattern):
            steps.append(pattern)
        else:
            raise PatternError(
                f"{pattern!r} is {pattern.kind} and no step of a chain: assert it by itself"
            )
        if place == 0:
            joins.append(by_cause)
    return Chain(tuple(steps), tuple(joins))


def walk(pattern: Chain, events: Sequence[Event], graph: Graph) -> list[Step]:
    """What each step of the chain found, up to and with the first that found nothing.

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


def matches(pattern: Pattern, events: Sequence[Event], graph: Graph | None = None) -> list[Event]:
    """The events that match; of a chain those that complete it (its last step)."""
    __tracebackhide__ = True
    if isinstance(pattern, Count):
        pattern = pattern.pattern
    if isinstance(pattern, EventPattern):
        return [event for event in events if pattern.matches(event)]
    if isinstance(pattern, Chain):
        steps = walk(pattern, events, graph or (lambda: CausalGraph(events)))
        complete = len(steps) == len(pattern.steps)
        return [event for event, _ in steps[-1].found] if complete else []
    raise PatternError(f"{shown(pattern)} cannot be looked for: {hint(pattern)}")


def count(pattern: Pattern, events: Sequence[Event], graph: Graph | None = None) -> int:
    """How many events match; of a chain, how many complete it."""
    __tracebackhide__ = True
    return len(matches(pattern, events, graph))


def find(
    pattern: Pattern, events: Sequence[Event], graph: Graph | None = None
) -> tuple[Event, ...] | None:
    """The first match, one event a step; None where there is none.

    A count is found where it is met exactly; it gives all its events.
    """
    __tracebackhide__ = True
    if isinstance(pattern, Count):
        found = matches(pattern, events, graph)
        return tuple(found) if len(found) == pattern.times else None
    if isinstance(pattern, EventPattern):
        return next(((event,) for event in events if pattern.matches(event)), None)
    if isinstance(pattern, Chain):
        steps = walk(pattern, events, graph or (lambda: CausalGraph(events)))
        if len(steps) < len(pattern.steps) or not steps[-1].found:
            return None
        event, before = steps[-1].found[0]
        path = [event]
        for step in reversed(steps[:-1]):
            event, before = next(pair for pair in step.found if pair[0] is before)
            path.append(event)
        return tuple(reversed(path))
    raise PatternError(f"{shown(pattern)} cannot be looked for: {hint(pattern)}")


def _step(step: EventPattern) -> str:
    return f"({step!r})" if isinstance(step, AllOf | AnyOf) else repr(step)


def _one_bracket(text: str) -> bool:
    return text.startswith("(") and text.endswith(")") and " >> " not in text
