"""What a query says about all the events it matches: counts, statistics, health."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, IntEnum
from typing import Any, NamedTuple, Protocol

from kobs._analysis import columns
from kobs._analysis.stats import DurationStats, Stats
from kobs.errors import ConfigError
from kobs.events import Event
from kobs.levels import Severity


class AggregationType(Enum):
    """The kinds of aggregation; the value is the key in `QueryResult.aggregations`."""

    COUNT = "count"
    """How many events, as an int."""
    BY_CATEGORY = "by_category"
    """`Counts` by `Category`."""
    BY_SEVERITY = "by_severity"
    """`Counts` by `Severity`."""
    BY_PID = "by_pid"
    """`Counts` by the process that the events are about."""
    BY_TYPE = "by_type"
    """`Counts` by the name of the payload type."""
    BY_NAME = "by_name"
    """`Counts` by what the events happened to: the payload's name, operation, queue, path."""
    DURATION_STATS = "duration_stats"
    """`DurationStats` in microseconds, of the events that have a duration."""
    FIELD_STATS = "field_stats"
    """`Stats` of a numeric payload field, in its own unit; needs `field`."""
    SUM = "sum"
    """The sum of a numeric payload field, as a float; needs `field`."""
    HEALTH = "health"
    """`Health`: a status and its reasons."""


class Counts(dict[Any, int]):
    """How many events have which value; what none has counts 0.

    Categories and severities can be looked up by name too: `counts["SYSCALL"]`.
    """

    def __missing__(self, key: object) -> int:
        if isinstance(key, str):
            for known, count in self.items():
                if isinstance(known, IntEnum) and known.name == key:
                    return count
        return 0


class Health(NamedTuple):
    """How a program is, judged by its events.

    `"unhealthy"`: something was CRITICAL, a resource ran out, or the last memory reading is over
    90 %. `"degraded"`: anything else of severity WARN and above, or the last memory reading is
    over 75 %. `"healthy"`: none of these.
    """

    status: str
    """`"healthy"`, `"degraded"` or `"unhealthy"`."""
    reasons: tuple[str, ...]
    """Why, the worst first; empty where there is nothing to say."""


class Aggregation:
    """One aggregation of a query.

    `field` names the payload field that DURATION_STATS (default: the type's own duration),
    FIELD_STATS and SUM look at; in DURATION_STATS a field that ends in `_ms`, `_us` or `_ns`
    is taken in that unit. `by` groups: one result for each category, severity, pid, type,
    name, tid, causality_id or origin, in a dict. `key` is the name in
    `QueryResult.aggregations`; by default the type's value, with `.field` and `_by_...`
    behind it where they are given.
    """

    __slots__ = ("by", "field", "key", "type")

    def __init__(
        self,
        type: AggregationType,
        *,
        field: str | None = None,
        by: str | None = None,
        key: str | None = None,
    ) -> None:
        if not isinstance(type, AggregationType):
            raise ConfigError(
                f"Aggregation({type!r}): expected one of "
                f"{', '.join(str(member) for member in AggregationType)}"
            )
        if field is not None and type not in _FIELD:
            raise ConfigError(f"{type} has no field; given was field={field!r}")
        if field is None and type in _FIELD_NEEDED:
            raise ConfigError(f'{type} needs the name of a payload field: field="size"')
        if by is not None and by not in GROUPS:
            raise ConfigError(f"by={by!r}: expected one of {', '.join(GROUPS)}")
        if by is not None and type in _COUNTED_BY:
            raise ConfigError(f"{type} groups already; given was by={by!r}")
        self.type = type
        self.field = field
        self.by = by
        self.key = key or "".join(
            (type.value, f".{field}" if field else "", f"_by_{by}" if by else "")
        )

    def start(self) -> "Accumulator":
        """A new accumulator of this aggregation."""
        counted = _COUNTED_BY.get(self.type)
        if counted is not None:
            return _Count(GROUPS[counted]())
        if self.type is AggregationType.COUNT and self.by is not None:
            return _Count(GROUPS[self.by]())
        if self.by is not None:
            return _Grouped(GROUPS[self.by](), self._single)
        return self._single()

    def _single(self) -> "Accumulator":
        if self.type is AggregationType.COUNT:
            return _Total()
        if self.type is AggregationType.HEALTH:
            return _HealthOf()
        field = self.field
        if self.type is AggregationType.DURATION_STATS:
            durations = (
                columns.own_durations()
                if field is None
                else columns.payload_field(field, microseconds=True)
            )
            return _Numbers(durations, DurationStats)
        assert field is not None
        finish = Stats if self.type is AggregationType.FIELD_STATS else _sum
        return _Numbers(columns.payload_field(field), finish)

    def __repr__(self) -> str:
        extra = f", field={self.field!r}" if self.field else ""
        extra += f", by={self.by!r}" if self.by else ""
        return f"Aggregation({self.type}{extra})"


class QueryResult:
    """What a query found."""

    __slots__ = ("_events", "aggregations", "count", "lost")

    def __init__(
        self,
        events: list[Event] | Callable[[], list[Event]],
        count: int,
        aggregations: dict[str, Any],
        lost: int = 0,
    ) -> None:
        self._events = events
        self.count = count
        """How many events match, whatever the limit."""
        self.aggregations = aggregations
        """By key (`"by_category"`, `"by_severity"`, `"by_pid"`, `"duration_stats"`, ...), each
        over all matching events, whatever the limit."""
        self.lost = lost
        """Events that the source had lost before the query ran: what they would have added is
        not known."""

    @property
    def events(self) -> list[Event]:
        """The matching events, in the order asked for, at most `limit`."""
        if not isinstance(self._events, list):
            self._events = self._events()
        return self._events

    @property
    def complete(self) -> bool:
        """The source had lost nothing."""
        return not self.lost

    def to_dict(self) -> dict[str, Any]:
        """As JSON can write it."""
        return {
            "count": self.count,
            "lost": self.lost,
            "aggregations": {key: _plain(value) for key, value in self.aggregations.items()},
            "events": [event.to_dict() for event in self.events],
        }

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __bool__(self) -> bool:
        return self.count > 0

    def __repr__(self) -> str:
        lost = f", {self.lost} lost before" if self.lost else ""
        keys = ", ".join(self.aggregations)
        return f"<QueryResult {self.count} match, {len(self.events)} returned{lost}; {keys}>"


class Accumulator(Protocol):
    """Takes events in portions, then says the result."""

    def add(self, events: Sequence[Event]) -> None:
        """Take a portion."""
        ...

    def result(self) -> Any:
        """The aggregation over all that was taken."""
        ...


Keys = Callable[[Sequence[Event]], list[Any]]

_NUMBERS = (int, float)  # a tuple: `int | float` would be made anew for every value

GROUPS: dict[str, Callable[[], Keys]] = {
    "category": lambda: lambda events: [event.category for event in events],
    "severity": lambda: lambda events: [event.severity for event in events],
    "pid": lambda: lambda events: [event.pid for event in events],
    "type": lambda: _type_names,
    "name": lambda: _names(columns.names()),
    "tid": lambda: lambda events: [event.tid for event in events],
    "causality_id": lambda: lambda events: [event.causality_id for event in events],
    "origin": lambda: lambda events: [event.origin for event in events],
}
"""What events can be grouped by; each makes a function that gives the group of many events."""

_COUNTED_BY = {
    AggregationType.BY_CATEGORY: "category",
    AggregationType.BY_SEVERITY: "severity",
    AggregationType.BY_PID: "pid",
    AggregationType.BY_TYPE: "type",
    AggregationType.BY_NAME: "name",
}
_FIELD_NEEDED = (AggregationType.FIELD_STATS, AggregationType.SUM)
_FIELD = (*_FIELD_NEEDED, AggregationType.DURATION_STATS)


def _type_names(events: Sequence[Event]) -> list[str]:
    classes = [event.type for event in events]
    names = {cls: cls.__kobs_schema__.name for cls in set(classes)}
    return [names[cls] for cls in classes]


def _names(column: columns.Column) -> Keys:
    return lambda events: [None if name is None else str(name) for name in column.of(events)]


def _sum(values: list[float]) -> float:
    return Stats(values).total


def _plain(value: Any) -> Any:
    if isinstance(value, Stats):
        return value.to_dict()
    if isinstance(value, Health):
        return {"status": value.status, "reasons": list(value.reasons)}
    if isinstance(value, dict):
        return {
            key.name if isinstance(key, IntEnum) else str(key): _plain(inner)
            for key, inner in value.items()
        }
    return value


class _Total:
    def __init__(self) -> None:
        self._count = 0

    def add(self, events: Sequence[Event]) -> None:
        self._count += len(events)

    def result(self) -> int:
        return self._count


class _Count:
    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._counter: Counter[Any] = Counter()

    def add(self, events: Sequence[Event]) -> None:
        self._counter.update(self._keys(events))

    def result(self) -> Counts:
        self._counter.pop(None, 0)  # events without a name
        return Counts(self._counter.most_common())


class _Numbers:
    def __init__(self, column: columns.Column, finish: Callable[[list[float]], Any]) -> None:
        self._column = column
        self._finish = finish
        self._values: list[float] = []

    def add(self, events: Sequence[Event]) -> None:
        values = self._column.of(events)
        self._values += [value for value in values if isinstance(value, _NUMBERS)]

    def result(self) -> Any:
        return self._finish(self._values)


class _Grouped:
    def __init__(self, keys: Keys, start: Callable[[], Accumulator]) -> None:
        self._keys = keys
        self._start = start
        self._parts: dict[Any, Accumulator] = {}

    def add(self, events: Sequence[Event]) -> None:
        portions: dict[Any, list[Event]] = {}
        for group, event in zip(self._keys(events), events, strict=True):
            if group in portions:
                portions[group].append(event)
            else:
                portions[group] = [event]
        portions.pop(None, None)
        for group, portion in portions.items():
            if group not in self._parts:
                self._parts[group] = self._start()
            self._parts[group].add(portion)

    def result(self) -> dict[Any, Any]:
        return {group: part.result() for group, part in self._parts.items()}


class _HealthOf:
    def __init__(self) -> None:
        self._events = 0
        self._problems: Counter[tuple[Severity, str]] = Counter()
        self._memory: Event | None = None

    def add(self, events: Sequence[Event]) -> None:
        self._events += len(events)
        for event in events:
            if event.type_name == "MemoryPressure":  # a reading: the last one counts
                if self._memory is None or event.timestamp_ns >= self._memory.timestamp_ns:
                    self._memory = event
            elif event.severity >= Severity.WARN:
                self._problems[event.severity, event.type_name] += 1

    def result(self) -> Health:
        worst = 0
        reasons = []
        for (severity, name), count in sorted(
            self._problems.items(), key=lambda item: (-item[0][0], -item[1], item[0][1])
        ):
            reasons.append(f"{count} x {name} ({severity.name})")
            bad = severity >= Severity.CRITICAL or name == "ResourceExhausted"
            worst = max(worst, 2 if bad else 1)
        if self._memory is not None and self._memory.payload.usage_pct > 75:
            used = self._memory.payload.usage_pct
            reasons.insert(0, f"memory is {used} % full")
            worst = max(worst, 2 if used > 90 else 1)
        if not self._events:
            reasons.append("nothing was recorded in this window")
        return Health(("healthy", "degraded", "unhealthy")[worst], tuple(reasons))
