"""The conditions of a query: each takes a portion of events and gives those that pass.

They are list comprehensions of their own, because a call for each event costs more than the
comparison does.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import IntEnum
from typing import Any, TypeVar

from kobs._analysis import columns
from kobs.errors import ConfigError
from kobs.events import Event
from kobs.levels import Severity

Condition = Callable[[Sequence[Event]], list[Event]]
Member = TypeVar("Member", bound=IntEnum)


def at_least(severity: Severity) -> Condition:
    """Events of this severity or above."""
    return lambda events: [event for event in events if event.severity >= severity]


def no_earlier_than(moment_ns: int) -> Condition:
    """Events of this moment and after."""
    return lambda events: [event for event in events if event.timestamp_ns >= moment_ns]


def no_later_than(moment_ns: int) -> Condition:
    """Events of this moment and before."""
    return lambda events: [event for event in events if event.timestamp_ns <= moment_ns]


def among(attribute: str, allowed: frozenset[Any]) -> Condition:
    """Events whose attribute has one of these values."""
    if attribute == "pid":
        return lambda events: [event for event in events if event.pid in allowed]
    if attribute == "category":
        return lambda events: [event for event in events if event.category in allowed]
    if attribute == "causality_id":
        return lambda events: [event for event in events if event.causality_id in allowed]
    if attribute == "name":
        column = columns.names()
        return lambda events: [
            event
            for event, name in zip(events, column.of(events), strict=True)
            if name is not None and str(name) in allowed
        ]
    return _of_types(allowed)


def _of_types(allowed: frozenset[str]) -> Condition:
    def of_types(events: Sequence[Event]) -> list[Event]:
        found = {event.type for event in events}
        classes = {cls for cls in found if cls.__kobs_schema__.name in allowed}
        return [event for event in events if event.type in classes]

    return of_types


def slower_than(threshold_us: float) -> Condition:
    """Events with a duration of at least this."""
    column = columns.own_durations()
    return lambda events: [
        event
        for event, duration in zip(events, column.of(events), strict=True)
        if duration is not None and duration >= threshold_us
    ]


def where(predicate: Callable[[Event], bool]) -> Condition:
    """Events that the predicate says yes to."""
    return lambda events: [event for event in events if predicate(event)]


def nanoseconds(span: timedelta) -> int:
    """A `timedelta` in whole nanoseconds, without the detour over a float."""
    return (span.days * 86_400_000_000 + span.seconds * 1_000_000 + span.microseconds) * 1000


def moment(given: object, name: str) -> timedelta | int:
    """What `since` and `until` take. Raises `ConfigError` naming the method."""
    if isinstance(given, timedelta):
        if given < timedelta(0):
            raise ConfigError(f"{name}({given!r}): expected a timedelta of 0 or more: how long ago")
        return given
    if isinstance(given, bool) or not isinstance(given, int):
        raise ConfigError(
            f"{name}({given!r}): expected a timedelta (how long ago), "
            "or an int (nanoseconds on the monotonic clock)"
        )
    return given


def member_of(members: type[Member], given: Any, name: str) -> Member:
    """The member of an enumeration. Raises `ConfigError` naming the method and what it takes."""
    try:
        return members(given)
    except ValueError:
        allowed = ", ".join(f"{members.__name__}.{member.name}" for member in members)
        raise ConfigError(f"{name}({given!r}): expected {allowed}") from None
