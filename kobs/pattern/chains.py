"""Patterns of several events: `A >> B`, `A.then(B)`, `A * n`, `A.times(2, 5)`."""

from collections.abc import Iterator
from datetime import timedelta
from types import EllipsisType
from typing import NamedTuple

from kobs.errors import PatternError
from kobs.pattern.base import Pattern, require, shown
from kobs.pattern.durations import nanoseconds_of, written
from kobs.pattern.predicates import AllOf, AnyOf, EventPattern, Like


class Limit(NamedTuple):
    """From one step of a chain to a later one no more time may pass."""

    first: int
    last: int
    """Indices of the steps."""
    nanoseconds: int

    def __str__(self) -> str:
        return written(self.nanoseconds)


class Chain(Pattern):
    """Steps that follow one another: by cause (`>>`) or in time only (`then`)."""

    __slots__ = ("by_cause", "limits", "steps")

    def __init__(
        self,
        steps: tuple[EventPattern, ...],
        by_cause: tuple[bool, ...],
        limits: tuple[Limit, ...] = (),
    ) -> None:
        self.steps = steps
        self.by_cause = by_cause
        """For every step but the first: it is caused by the step before."""
        self.limits = limits

    def within(self, duration: str | timedelta) -> "Chain":
        """The same, from its first to its last event in at most `duration`: `"5ms"`, `"1.5 s"`,
        a `timedelta`. Raises `PatternError` for another."""
        limit = nanoseconds_of(duration, f"({self!r}).within(...): duration")
        return Chain(
            self.steps, self.by_cause, (*self.limits, Limit(0, len(self.steps) - 1, limit))
        )

    @property
    def plain(self) -> bool:
        """It has neither variables nor limits: any match of a step serves the next."""
        return not self.limits and next(self.variables(), None) is None

    def variables(self) -> Iterator[str]:
        return (name for step in self.steps for name in step.variables())

    @property
    def kind(self) -> str:
        return "a chain of events"

    def __repr__(self) -> str:
        return self._written(0, len(self.steps) - 1, self.limits)[0]

    def _written(self, first: int, last: int, limits: tuple[Limit, ...]) -> tuple[str, bool]:
        """Some of the steps as they are written, and whether a method can be called on the text
        as it is. Limits lie inside one another or apart: each was set on a chain of its own."""
        whole = [limit for limit in limits if limit[:2] == (first, last)]
        if whole:
            others = tuple(limit for limit in limits if limit is not whole[-1])
            text, callable_so_far = self._written(first, last, others)
            text = text if callable_so_far else f"({text})"
            return f"{text}.within('{whole[-1]}')", True
        text, callable_so_far = "", False
        place = first
        while place <= last:
            ends = [limit.last for limit in limits if limit.first == place and limit.last <= last]
            end = max(ends, default=place)
            if end > place:
                inner = tuple(x for x in limits if x.first >= place and x.last <= end)
                one, bare = self._written(place, end, inner)[0], ""
            else:
                one, bare = _step(self.steps[place]), repr(self.steps[place])
            if place == first:
                text, callable_so_far = one, not one.startswith("~")
            elif self.by_cause[place - 1]:
                text, callable_so_far = f"{text} >> {one}", False
            else:
                text = text if callable_so_far else f"({text})"
                text, callable_so_far = f"{text}.then({bare or one})", True
            place = end + 1
        return text, callable_so_far


class Count(Pattern):
    """So many matches: from `least` to `most`."""

    __slots__ = ("least", "most", "pattern")

    def __init__(self, pattern: Pattern, least: int, most: int | EllipsisType | None = ...) -> None:
        most = least if isinstance(most, EllipsisType) else most
        asked = f"({pattern!r})" + (f" * {least!r}" if most == least else
                                    f".times({least!r}, {most!r})")  # fmt: skip
        if isinstance(pattern, Count):
            raise PatternError(f"{asked}: a count cannot be counted again")
        if not _is_number(least) or not (most is None or _is_number(most)):
            raise PatternError(f"{asked}: expected how often it happens, a whole number from 0")
        if most is not None and most < least:
            raise PatternError(
                f"{asked}: the first must be the smaller, no number is both {least} or more and "
                f"{most} or less"
            )
        if least == 0 and most is None:
            raise PatternError(
                f"{asked}: any number is 0 or more, so this would say nothing: times(1, None) is "
                "once or more"
            )
        self.pattern = pattern
        self.least = least
        self.most = most
        """None: any number from `least`."""

    def allows(self, number: int) -> bool:
        """So many are right."""
        return self.least <= number and (self.most is None or number <= self.most)

    @property
    def expected(self) -> str:
        """How many, in words."""
        if self.most is None:
            return f"{self.least} or more"
        return (
            f"exactly {self.least}" if self.least == self.most else f"{self.least} to {self.most}"
        )

    def variables(self) -> Iterator[str]:
        return self.pattern.variables()

    @property
    def kind(self) -> str:
        return "a count"

    def __repr__(self) -> str:
        pattern = self.pattern
        plain = isinstance(pattern, EventPattern) and not isinstance(pattern, AllOf | AnyOf)
        if self.least == self.most:
            return f"{pattern!r} * {self.least}" if plain else f"({pattern!r}) * {self.least}"
        callee = repr(pattern) if isinstance(pattern, Like) else f"({pattern!r})"
        return f"{callee}.times({self.least}, {self.most})"


def chain(left: object, right: object, *, by_cause: bool) -> Chain:
    """`left >> right`, or `left.then(right)`. Raises `PatternError`."""
    sign = ">>" if by_cause else "then"
    steps: list[EventPattern] = []
    joins: list[bool] = []
    limits: list[Limit] = []
    for place, side in enumerate((left, right)):
        pattern = require(side, f"{shown(left)} {sign} {shown(right)}")
        if isinstance(pattern, Chain):
            start = len(steps)
            limits += [Limit(start + a, start + b, ns) for a, b, ns in pattern.limits]
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
    return Chain(tuple(steps), tuple(joins), tuple(limits))


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _step(step: EventPattern) -> str:
    return f"({step!r})" if isinstance(step, AllOf | AnyOf) else repr(step)
