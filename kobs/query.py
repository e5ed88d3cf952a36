"""Asking questions of events: which ones, in what order, and what they amount to.

    query = Query().category(Category.SYSCALL).since(timedelta(minutes=5))
    result = collector.query(query.aggregate(AggregationType.DURATION_STATS))
    result.events, result.count, result.aggregations["duration_stats"].p99

A query is a value: every method returns a new one. It runs over any sequence of events: a
collector's ring, a recording, a list.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from kobs._analysis.aggregations import (
    Accumulator,
    Aggregation,
    AggregationType,
    Counts,
    Health,
    QueryResult,
)
from kobs._analysis.conditions import (
    Condition,
    among,
    at_least,
    member_of,
    moment,
    nanoseconds,
    no_earlier_than,
    no_later_than,
    slower_than,
    where,
)
from kobs._analysis.scanned import native_condition
from kobs._analysis.stats import DurationStats, Stats
from kobs.errors import ConfigError
from kobs.events import Event
from kobs.filters import EventFilter
from kobs.levels import Category, Severity
from kobs.payloads import MemoryPressure, SyscallExit
from kobs.schema import PayloadType

if TYPE_CHECKING:
    from kobs._core._native import Condition as NativeCondition
    from kobs.decoder import EventDecoder

__all__ = [
    "Aggregation",
    "AggregationType",
    "CommonQueries",
    "Counts",
    "DurationStats",
    "Health",
    "Query",
    "QueryResult",
    "Stats",
]

_PORTION = 8192

_ORDERS: dict[str, Callable[[Event], Any]] = {
    "time": lambda event: event.timestamp_ns,
    "severity": lambda event: event.severity,
    "duration": lambda event: -1.0 if (d := event.duration_us) is None else d,
    "pid": lambda event: event.pid,
    "type": lambda event: event.type_name,
    "name": lambda event: event.name or "",
}


class Query:
    """A question about events. Every method returns a new query; conditions add up.

    `category`, `pid`, `type`, `name` and `causality` called several times mean any of what was
    given. Times are on the monotonic clock, relative to the moment the query runs.
    """

    __slots__ = ("_aggregations", "_among", "_limit", "_order", "_severity", "_slower", "_where",
                 "_window")  # fmt: skip

    def __init__(self) -> None:
        self._severity = Severity.TRACE
        self._among: dict[str, frozenset[Any]] = {}
        self._window: tuple[timedelta | int | None, timedelta | int | None] = (None, None)
        self._slower: float | None = None
        self._where: tuple[Callable[[Event], bool], ...] = ()
        self._order: tuple[Callable[[Event], Any], bool] | None = None
        self._limit: int | None = None
        self._aggregations: tuple[Aggregation, ...] = ()

    # -- which events -----------------------------------------------------------------------

    def category(self, *categories: Category) -> "Query":
        """Only events of these categories."""
        return self._only("category", [member_of(Category, c, "category") for c in categories])

    def severity(self, at_least: Severity) -> "Query":
        """Only events of this severity or above."""
        made = self._copy()
        made._severity = member_of(Severity, at_least, "severity")
        return made

    def since(self, ago: timedelta | int) -> "Query":
        """Only events that are no older than this (an int: no earlier than this many
        nanoseconds on the monotonic clock)."""
        made = self._copy()
        made._window = (moment(ago, "since"), self._window[1])
        return made

    def until(self, ago: timedelta | int) -> "Query":
        """Only events that are at least this old (an int: no later than this many nanoseconds
        on the monotonic clock)."""
        made = self._copy()
        made._window = (self._window[0], moment(ago, "until"))
        return made

    def pid(self, *pids: int) -> "Query":
        """Only events about these processes."""
        return self._only("pid", pids)

    def type(self, *types: type[PayloadType]) -> "Query":
        """Only events with these payload types."""
        for cls in types:
            if not (isinstance(cls, type) and issubclass(cls, PayloadType)):
                raise ConfigError(f"type({cls!r}): expected a payload type, e.g. kobs.SyscallExit")
        return self._only("type_name", [cls.__kobs_schema__.name for cls in types])

    def name(self, *names: str) -> "Query":
        """Only events that happened to these: the payload's name, operation, queue or path."""
        return self._only("name", names)

    def causality(self, *causality_ids: int) -> "Query":
        """Only events of these chains."""
        return self._only("causality_id", causality_ids)

    def slower_than(self, *, us: float = 0.0, ms: float = 0.0) -> "Query":
        """Only events with a duration of at least this."""
        threshold = us + ms * 1000.0
        if not 0 <= threshold < float("inf"):
            raise ConfigError(f"slower_than(us={us!r}, ms={ms!r}): expected 0 or more")
        made = self._copy()
        made._slower = threshold
        return made

    def where(self, predicate: Callable[[Event], bool]) -> "Query":
        """Only events for which `predicate(event)` is true."""
        made = self._copy()
        made._where = (*self._where, predicate)
        return made

    # -- what to return ---------------------------------------------------------------------

    def order_by(
        self, key: str | Callable[[Event], Any] = "time", *, descending: bool = False
    ) -> "Query":
        """Return events by `"time"`, `"duration"`, `"severity"`, `"pid"`, `"type"`, `"name"`
        or a function of the event; equal ones in the order the source gave them, which is also
        the order of all where this is not asked for."""
        if isinstance(key, str) and key not in _ORDERS:
            raise ConfigError(f"order_by({key!r}): expected {', '.join(_ORDERS)} or a function")
        made = self._copy()
        made._order = (_ORDERS[key] if isinstance(key, str) else key, descending)
        return made

    def limit(self, most: int) -> "Query":
        """Return this many events at most. `count` and aggregations cover all that match."""
        if isinstance(most, bool) or not isinstance(most, int) or most < 0:
            raise ConfigError(f"limit({most!r}): expected an int, 0 or more")
        made = self._copy()
        made._limit = most
        return made

    def aggregate(self, *aggregations: Aggregation | AggregationType) -> "Query":
        """Also say this about all matching events, whatever the limit."""
        made = self._copy()
        made._aggregations += tuple(
            one if isinstance(one, Aggregation) else Aggregation(one) for one in aggregations
        )
        return made

    # -- running ----------------------------------------------------------------------------

    def run(
        self, events: Iterable[Event], *, now_ns: int | None = None, lost: int = 0
    ) -> QueryResult:
        """Ask the question of `events`.

        `now_ns` is the moment that `since` and `until` count from (default: the monotonic
        clock now; for a recording of another time, its last moment). `lost` is how many events
        the source has lost; the result carries it.
        """
        conditions = self._conditions(monotonic_ns() if now_ns is None else now_ns)
        accumulators = [(one.key, one.start()) for one in self._aggregations]
        kept: list[Event] = []
        room = self._limit if self._order is None else None
        count = 0
        for portion in _portions(events):
            matching = portion
            for condition in conditions:
                matching = condition(matching)
            count += len(matching)
            for _, accumulator in accumulators:
                accumulator.add(matching)
            kept += matching if room is None else matching[: max(0, room - len(kept))]
        return QueryResult(self.returned(kept), count, _results(accumulators), lost)

    def matches(self, event: Event, *, now_ns: int | None = None) -> bool:
        """The event meets every condition."""
        return bool(self.limit(1).run((event,), now_ns=now_ns).count)

    # -- for kobs's own modules -------------------------------------------------------------

    def passing(self, event_filter: EventFilter) -> "Query":
        """Only events that pass a filter as well."""
        made = self._copy()
        made._severity = max(self._severity, event_filter.least)
        made._among = dict(self._among)
        for attribute, allowed in event_filter.allowed.items():
            made._among[attribute] = made._among.get(attribute, allowed) & allowed
        made._where += event_filter.predicates
        return made

    @property
    def aggregations(self) -> tuple[Aggregation, ...]:
        """What is to be said about all that match."""
        return self._aggregations

    @property
    def predicates(self) -> tuple[Callable[[Event], bool], ...]:
        """The conditions that only Python knows."""
        return self._where

    @property
    def order(self) -> tuple[Callable[[Event], Any], bool] | None:
        """How to sort what is returned, and whether the greatest comes first."""
        return self._order

    @property
    def most(self) -> int | None:
        """How many events are returned at most."""
        return self._limit

    @property
    def looks_back(self) -> bool:
        """What matches depends on the moment that it runs."""
        return any(isinstance(edge, timedelta) for edge in self._window)

    def native(self, decoder: "EventDecoder", now_ns: int) -> "NativeCondition | None":
        """All conditions but the predicates, for the C core; None where it cannot tell."""
        since, until = self._edges(now_ns)
        return native_condition(
            decoder, severity=self._severity, among=self._among, since=since, until=until,
            slower=self._slower,
        )  # fmt: skip

    def returned(self, matching: list[Event]) -> list[Event]:
        """Of all that match, or as many as are needed, those to return, in their order."""
        if self._order is not None:
            key, descending = self._order
            matching = sorted(matching, key=key, reverse=descending)
        return matching if self._limit is None else matching[: self._limit]

    # -- below: how -------------------------------------------------------------------------

    def _conditions(self, now_ns: int) -> list[Condition]:
        """Each takes a portion of events and gives those that pass; the cheap ones first."""
        conditions: list[Condition] = []
        if self._severity:
            conditions.append(at_least(self._severity))
        since, until = self._edges(now_ns)
        if since is not None:
            conditions.append(no_earlier_than(since))
        if until is not None:
            conditions.append(no_later_than(until))
        conditions += [among(attribute, allowed) for attribute, allowed in self._among.items()]
        if self._slower is not None:
            conditions.append(slower_than(self._slower))
        conditions += [where(predicate) for predicate in self._where]
        return conditions

    def _edges(self, now_ns: int) -> tuple[int | None, int | None]:
        since, until = self._window
        return (
            now_ns - nanoseconds(since) if isinstance(since, timedelta) else since,
            now_ns - nanoseconds(until) if isinstance(until, timedelta) else until,
        )

    def _only(self, attribute: str, values: Iterable[Any]) -> "Query":
        made = self._copy()
        made._among = {
            **self._among,
            attribute: self._among.get(attribute, frozenset()) | frozenset(values),
        }
        return made

    def _copy(self) -> "Query":
        made = Query.__new__(Query)
        for slot in Query.__slots__:
            setattr(made, slot, getattr(self, slot))
        return made

    def __repr__(self) -> str:
        parts = [f"severity >= {self._severity.name}"] if self._severity else []
        parts += [f"{name} in {sorted(map(str, few))}" for name, few in self._among.items()]
        for word, edge in zip(("since", "until"), self._window, strict=True):
            parts += [f"{word} {edge}"] if edge is not None else []
        parts += [f"duration >= {self._slower:g} µs"] if self._slower is not None else []
        parts += [f"where {predicate!r}" for predicate in self._where]
        parts += [f"limit {self._limit}"] if self._limit is not None else []
        parts += [one.key for one in self._aggregations]
        return f"Query({', '.join(parts)})"


class CommonQueries:
    """Queries that are asked often. `since` is how far back they look; None: all there is."""

    @staticmethod
    def slow_operations(threshold_ms: float, *, since: timedelta | None = None) -> Query:
        """Everything that took at least `threshold_ms`, the slowest first.

        A call that was reported as slow has an event for that and one for its end: both are
        here. Aggregations: `duration_stats`, `by_name`, `by_type`, `by_category`.
        """
        kinds = AggregationType
        return (
            _window(since)
            .slower_than(ms=_threshold(threshold_ms))
            .order_by("duration", descending=True)
            .aggregate(kinds.DURATION_STATS, kinds.BY_NAME, kinds.BY_TYPE, kinds.BY_CATEGORY)
        )

    @staticmethod
    def process_errors(pid: int, *, since: timedelta | None = None) -> Query:
        """Events of severity ERROR and above about one process.

        Aggregations: `by_type`, `by_category`, `by_severity`.
        """
        kinds = AggregationType
        return (
            _window(since)
            .pid(pid)
            .severity(Severity.ERROR)
            .aggregate(kinds.BY_TYPE, kinds.BY_CATEGORY, kinds.BY_SEVERITY)
        )

    @staticmethod
    def health_check(*, since: timedelta | None = None) -> Query:
        """How the program is: `aggregations["health"]` is a `Health` with `status` and
        `reasons`. All events are looked at; the hundred worst are returned.

        Aggregations: `health`, `by_severity`, `by_category`.
        """
        kinds = AggregationType
        return (
            _window(since)
            .order_by("severity", descending=True)
            .limit(100)
            .aggregate(kinds.HEALTH, kinds.BY_SEVERITY, kinds.BY_CATEGORY)
        )

    @staticmethod
    def memory_pressure(*, usage_pct: int = 0, since: timedelta | None = None) -> Query:
        """Readings of how full memory is, from `usage_pct` percent up.

        Aggregations: `by_severity`, `field_stats.usage_pct`, `field_stats.available_mb`.
        """
        query = _window(since).type(MemoryPressure)
        if usage_pct:
            query = query.where(lambda event: bool(event.payload.usage_pct >= usage_pct))
        return query.aggregate(
            AggregationType.BY_SEVERITY,
            Aggregation(AggregationType.FIELD_STATS, field="usage_pct"),
            Aggregation(AggregationType.FIELD_STATS, field="available_mb"),
        )

    @staticmethod
    def syscall_performance(*, name: str | None = None, since: timedelta | None = None) -> Query:
        """How long system calls took (`SyscallExit`), all or those called `name`.

        Aggregations: `duration_stats`, `by_name`, `duration_stats_by_name`, `by_pid`.
        """
        query = _window(since).type(SyscallExit)
        if name is not None:
            query = query.name(name)
        return query.aggregate(
            AggregationType.DURATION_STATS,
            AggregationType.BY_NAME,
            Aggregation(AggregationType.DURATION_STATS, by="name"),
            AggregationType.BY_PID,
        )

    @staticmethod
    def security_events(
        *, at_least: Severity = Severity.TRACE, since: timedelta | None = None
    ) -> Query:
        """Denials, grants, limits and violations, from severity `at_least` up.

        Aggregations: `by_type`, `by_severity`, `by_pid`.
        """
        kinds = AggregationType
        return (
            _window(since)
            .category(Category.SECURITY)
            .severity(at_least)
            .aggregate(kinds.BY_TYPE, kinds.BY_SEVERITY, kinds.BY_PID)
        )


def _window(since: timedelta | None) -> Query:
    return Query() if since is None else Query().since(since)


def _threshold(milliseconds: object) -> float:
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        raise ConfigError(f"threshold_ms={milliseconds!r}: expected a number, 0 or more")
    return float(milliseconds)


def _portions(events: Iterable[Event]) -> Iterator[Sequence[Event]]:
    """Sequences are one portion; anything else is never held whole."""
    if isinstance(events, list | tuple):
        yield events
        return
    iterator = iter(events)
    while portion := list(islice(iterator, _PORTION)):
        yield portion


def _results(accumulators: list[tuple[str, Accumulator]]) -> dict[str, Any]:
    return {key: accumulator.result() for key, accumulator in accumulators}
