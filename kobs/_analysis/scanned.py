"""Conditions and queries over slots in C, where there is a C core and they have a form there; else
`None`, and Python does it over events. What they say is the same."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kobs._analysis.aggregations import Aggregation, AggregationType, Counts, QueryResult
from kobs._analysis.stats import DurationStats
from kobs._core.contract import RawSlot
from kobs.events import Event
from kobs.levels import Category, Severity

if TYPE_CHECKING:
    from kobs._core._native import Condition, Found, Ring as NativeRing
    from kobs.decoder import EventDecoder
    from kobs.query import Query

_ALL = (1 << 16) - 1
_LAST = (1 << 64) - 1
_EVERYTHING = 1 << 40
_WHOLE = 1 << 19
"""How many events of recordings are held at once for Python to look at."""
_NATIVE = {"category", "pid", "type_name", "causality_id", "name"}


def native_condition(
    decoder: "EventDecoder",
    *,
    severity: int = 0,
    among: Mapping[str, frozenset[Any]],
    since: int | None = None,
    until: int | None = None,
    slower: float | None = None,
) -> "Condition | None":
    """The native form of a filter's or a query's conditions (without its predicates)."""
    types = decoder.native
    if types is None:
        return None
    since, until = since or 0, _LAST if until is None else until
    if not (among.keys() <= _NATIVE and since <= _LAST and until >= 0):
        return None
    pids = chains = None
    if among:
        pids, chains = _numbers(among.get("pid")), _numbers(among.get("causality_id"))
        if pids is NotImplemented or chains is NotImplemented:
            return None
    categories = _ALL
    if "category" in among:
        categories = sum(1 << category for category in among["category"])
    from kobs._core import _native

    return _native.Condition(
        types, severity, categories, max(0, since), min(until, _LAST), pids, None, chains,
        among.get("type_name"), among.get("name"), slower,
    )  # fmt: skip


def _numbers(allowed: frozenset[Any] | None) -> Any:
    """Those that a header field can be; `NotImplemented` for what only Python can compare."""
    if allowed is None:
        return None
    if not all(isinstance(value, int) for value in allowed):
        return NotImplemented
    return tuple(int(value) for value in allowed if 0 <= value <= _LAST)


class Scan:
    """A query, and slots that it may look at itself: those of a ring, or given ones."""

    def __init__(
        self, query: "Query", decoder: "EventDecoder", source: "NativeRing | list[RawSlot] | None"
    ) -> None:
        self.query = query
        self.source = source
        self._decoder = decoder
        self._condition: Condition | None = None
        self._wanted = _wanted(query)

    def found(self, now_ns: int, start: tuple[int, ...] = (0, 0)) -> "Found | None":
        """What the native conditions let through; None where Python is to do all of it."""
        assert self.source is not None
        condition = self._condition
        if condition is None:
            condition = self.query.native(self._decoder, now_ns)
            if condition is None:
                return None
            if not self.query.looks_back:
                self._condition = condition
        return condition.scan(self.source, start, *self._wanted)

    def result(self, found: "Found", now_ns: int, lost: int) -> QueryResult:
        """What the query says."""
        query = self.query
        if query.predicates:
            return query.run(self._events(found), now_ns=now_ns, lost=lost)
        events: list[Event] | None = None
        aggregations: dict[str, Any] = {}
        for one in query.aggregations:
            if _is_native(one):
                aggregations[one.key] = _RESULTS[one.type](found)
            else:
                if events is None:
                    events = self._events(found)
                accumulator = one.start()
                accumulator.add(events)
                aggregations[one.key] = accumulator.result()
        if query.order is None and events is None:
            return QueryResult(partial(self._events, found), found.count, aggregations, lost)
        events = self._events(found) if events is None else events
        return QueryResult(query.returned(events), found.count, aggregations, lost)

    def _events(self, found: "Found") -> list[Event]:
        decode = self._decoder.decode
        slots: list[RawSlot] = found.slots(RawSlot)
        return [event for slot in slots if (event := decode(slot)) is not None]


Source = tuple["EventDecoder", Callable[[], Iterable[list[RawSlot]]]]
"""What decodes the slots of a recording, and what gives them anew, by time."""


class MergedScan(Scan):
    """The same of the slots of several recordings, or of one that goes on in further files."""

    def __init__(self, query: "Query", sources: Sequence[Source]) -> None:
        super().__init__(query, sources[0][0], None)
        self._sources = sources

    def found(self, now_ns: int, start: tuple[int, ...] = (0, 0)) -> "Found | None":
        query = self.query
        made = [query.native(decoder, now_ns) for decoder, _ in self._sources]
        keep, *wanted = self._wanted
        whole = query.order or query.predicates or not all(map(_is_native, query.aggregations))
        if whole:
            keep = min(keep, _WHOLE)
        found = _scan(made, self._sources, keep, *wanted)
        # More than that Python looks at as they come, and holds no more of them than it needs.
        return None if found is None or (whole and found.count > keep) else found

    def _events(self, found: "Found") -> list[Event]:
        decoders = [decoder.decode for decoder, _ in self._sources]
        slots: list[RawSlot] = found.slots(RawSlot)
        return [
            event
            for slot, source in zip(slots, found.sources(), strict=True)
            if (event := decoders[source](slot)) is not None
        ]


def last_ns(sources: Sequence[Source]) -> int:
    """When the last event was, 0 if there is none."""
    everything = [native_condition(decoder, among={}) for decoder, _ in sources]
    found = _scan(everything, sources, 0, False, False, False)
    return 0 if found is None else found.last_ns


def _scan(
    conditions: "list[Condition | None]", sources: Sequence[Source], *wanted: Any
) -> "Found | None":
    from kobs._core import _native

    given = []
    for condition, (_, portions) in zip(conditions, sources, strict=True):
        if condition is None:
            return None
        given.append((condition, portions()))
    return _native.scan(given, *wanted)


def _wanted(query: "Query") -> tuple[int, bool, bool, bool]:
    """How many events a scan is to keep; whether it is to keep durations, and count by process
    and by type."""
    whole = query.order or query.predicates
    keep = _EVERYTHING if whole or query.most is None else query.most
    durations = by_pid = by_type = False
    for one in query.aggregations:
        if not _is_native(one):
            keep = _EVERYTHING
        durations |= one.type is AggregationType.DURATION_STATS
        by_pid |= one.type is AggregationType.BY_PID
        by_type |= one.type is AggregationType.BY_TYPE
    return keep, durations, by_pid, by_type


def _is_native(one: Aggregation) -> bool:
    return one.type in _RESULTS and one.by is None and one.field is None


def _durations(found: "Found") -> DurationStats:
    return DurationStats.of_sample(found.durations)


def _counts(pairs: list[Any], name: Callable[[Any], Any]) -> Counts:
    counted: dict[Any, int] = {}
    for key, count in pairs:
        counted[name(key)] = counted.get(name(key), 0) + count
    return Counts(sorted(counted.items(), key=lambda item: item[1], reverse=True))


_RESULTS: dict[AggregationType, Callable[["Found"], Any]] = {
    AggregationType.COUNT: lambda found: found.count,
    AggregationType.DURATION_STATS: _durations,
    AggregationType.BY_CATEGORY: lambda found: _counts(found.by_category, Category),
    AggregationType.BY_SEVERITY: lambda found: _counts(found.by_severity, Severity),
    AggregationType.BY_PID: lambda found: _counts(found.by_pid, int),
    AggregationType.BY_TYPE: lambda found: _counts(found.by_type, str),
}
