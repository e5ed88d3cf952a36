"""The events of a test as a sequence that refuses to answer what it cannot know.

PYTEST_DONT_REWRITE
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, overload

from kobs.causality import CausalGraph
from kobs.errors import PatternError
from kobs.events import Event
from kobs.muted import muted
from kobs.pattern import (
    Count,
    Explanation,
    Inconclusive,
    Pattern,
    count as count_of,
    explain,
    explain_present,
    find,
)
from kobs.pattern.base import hint, shown
from kobs.pattern.chains import Chain
from kobs.pattern.explain import Narrator, fold
from kobs.pattern.predicates import AllOf, AnyOf, EventPattern, Like
from kobs.pattern.sharing import Sharing
from kobs.payloads import AnomalyDetected
from kobs.schema import PayloadType
from kobs_pytest.asserting.failing import FIRST_LINE
from kobs_pytest.asserting.scope import Scope
from kobs_pytest.capture.attempt import Note
from kobs_pytest.capture.checks import Check, Doubt
from kobs_pytest.capture.recordable import reason, unrecorded

if TYPE_CHECKING:
    from kobs._analysis.stats import Stats

MOST_LINES = 8
"""What pytest shows of an explanation."""


class Mark(NamedTuple):
    """A moment in a test."""

    timestamp_ns: int


class Events(Sequence[Event]):
    """What the test caused up to the moment this was read, in order of time.

    Reading it while the capture is incomplete makes the test inconclusive; that a pattern *is*
    there is sure in any case.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        scope: Scope,
        events: list[Event],
        incomplete: tuple[str, ...],
        conditions: tuple[Callable[[Event], bool], ...] = (),
    ) -> None:
        self._scope = scope
        self._events = events
        self._incomplete = incomplete
        self._conditions = conditions

    # -- narrowing down -----------------------------------------------------------------------

    def of(self, *types: type[PayloadType]) -> "Events":
        """Only events of these payload types."""
        for cls in types:
            if not (isinstance(cls, type) and issubclass(cls, PayloadType)):
                raise PatternError(f"events.of({shown(cls)}): expected payload types")
        names = {cls.__kobs_schema__.name for cls in types}
        return self._only(lambda event: event.type_name in names)

    def where(self, condition: Callable[[Event], bool] | EventPattern) -> "Events":
        """Only events for which `condition(event)` is true, or that a pattern of one event
        matches."""
        __tracebackhide__ = True
        if isinstance(condition, EventPattern):
            return self._only(condition.matches)
        if not callable(condition) or isinstance(condition, type):
            raise PatternError(
                f"events.where({shown(condition)}): expected a function of an event, or a pattern "
                "of one event such as FileOpened.like()"
            )
        return self._only(condition)

    def since(self, mark: Mark) -> "Events":
        """Only events from `kobs.mark()` on."""
        return self._only(lambda event: event.timestamp_ns >= mark.timestamp_ns)

    def by_pid(self) -> dict[int, "Events"]:
        """The events of each process that they are about, by its pid."""
        return {pid: self.where(_about(pid)) for pid in sorted({e.pid for e in self._read()})}

    def _only(self, condition: Callable[[Event], bool]) -> "Events":
        __tracebackhide__ = True
        return Events(
            self._scope,
            list(filter(condition, self._events)),
            self._incomplete,
            (*self._conditions, condition),
        )

    # -- numbers and tables -------------------------------------------------------------------

    def stats(self, field: str) -> "Stats":
        """Count, mean, total and exact percentiles of a payload field, in its own unit, over the
        events that have it. Raises `FieldError` where none of them has."""
        with muted():
            from kobs_pytest.asserting import tables

            return tables.stats(self._read(), field)

    def percentile(self, field: str, q: float) -> float:
        """The value of a payload field that `q` percent of the events are below, `q` from 0 to
        100: `percentile("duration_us", 99)`. nan without events. Raises `FieldError`."""
        return self.stats(field).percentile(q)

    def percentiles(self, field: str, *qs: float) -> dict[float, float]:
        """Several of them (50, 95 and 99 where none is named)."""
        found = self.stats(field)
        return {q: found.percentile(q) for q in qs or (50, 95, 99)}

    def to_arrow(self) -> Any:
        """A `pyarrow.Table`: a row an event, a column a header or payload field (null where a
        type has no such field). Raises `MissingExtraError` without pyarrow."""
        with muted():
            from kobs_pytest.asserting import tables

            return tables.to_arrow(self._read())

    def to_pandas(self) -> Any:
        """The same as a `pandas.DataFrame`. Raises `MissingExtraError` without pandas."""
        with muted():
            from kobs_pytest.asserting import tables

            return tables.to_pandas(self._read())

    # -- asking -------------------------------------------------------------------------------

    def __contains__(self, wanted: object) -> bool:
        """The pattern is there. Raises `Inconclusive` where it is not, but may have been."""
        __tracebackhide__ = True
        if isinstance(wanted, Event):
            found = wanted in self._events
            if not found:
                self._refuse_doubt("whether an event is there")
            return found
        if not isinstance(wanted, Pattern):
            raise PatternError(f"{shown(wanted)} in kobs.events: {hint(wanted)}")
        return self.holds(wanted)

    def holds(self, pattern: Pattern) -> bool:
        """As `pattern in events`."""
        __tracebackhide__ = True
        if isinstance(pattern, Count):
            return self._allowed(pattern)
        if find(pattern, self._events, self._scope.graph) is not None:
            return True
        self._refuse_doubt(f"whether {pattern!r} happened")
        self._refuse_kept_back(pattern)
        self._refuse_unrecorded(pattern)
        self._refuse_unattributed(pattern)
        return False

    def count(self, pattern: Pattern) -> int:
        """How many match. Raises `Inconclusive` where there may have been more."""
        __tracebackhide__ = True
        if isinstance(pattern, Count):
            raise PatternError(f"count({pattern!r}): count what is counted, without a number")
        number = count_of(pattern, self._events, self._scope.graph)
        self._refuse_more(pattern, number)
        return number

    def _allowed(self, pattern: Count) -> bool:
        """As many as the count allows; those that there may have been beside settle nothing where
        there are too many already, or as many as it takes with no limit above."""
        __tracebackhide__ = True
        number = count_of(pattern.pattern, self._events, self._scope.graph)
        most = pattern.most
        settled = number >= pattern.least if most is None else number > most
        if not settled:
            self._refuse_more(pattern.pattern, number)
        return pattern.allows(number)

    def _refuse_more(self, pattern: Pattern, number: int) -> None:
        __tracebackhide__ = True
        self._refuse_doubt(f"how often {pattern!r} happened")
        self._refuse_kept_back(pattern)
        if not number:
            self._refuse_unrecorded(pattern)
        self._refuse_unattributed(pattern)

    def first(self, pattern: Pattern) -> tuple[Event, ...] | None:
        """The first match, an event a step; None where there is none yet."""
        __tracebackhide__ = True
        return find(pattern, self._events, self._scope.graph)

    def why(self, pattern: Pattern, *, present: bool = False) -> list[str]:
        """At most eight lines on why it was not found, or (`present`) what was; more is kept
        for the report section."""
        __tracebackhide__ = True
        told = self.explained(pattern, present=present)
        sign = "not in" if present else "in"
        room = MOST_LINES - len(told.lines)
        return [*fold(f"{pattern!r} {sign} kobs.events", FIRST_LINE, max(1, room)), *told.lines]

    def explained(self, pattern: Pattern, *, present: bool) -> Explanation:
        """Why the pattern was not found, or (`present`) what was; the details are kept for the
        report section."""
        __tracebackhide__ = True
        scope = self._scope
        teller = explain_present if present else explain
        told = teller(pattern, self._events, scope.graph, numbered=scope.numbered,
                      start_ns=scope.start_ns)  # fmt: skip
        self.note(f"{'found' if present else 'nearest miss of'} {pattern!r}:", told)
        return told

    def note(self, title: str, told: Explanation) -> None:
        """Keep the details for the report section."""
        self._scope.tell(Note(title, told.details, told.about))

    def teller(self) -> Narrator:
        """What names events in messages."""
        return Narrator(self._scope.numbered, self._scope.start_ns)

    # -- for assertions ------------------------------------------------------------------------

    @property
    def known(self) -> list[Event]:
        """The events, for who says himself what may be missing."""
        return self._events

    def graph(self) -> CausalGraph:
        """Which event led to which."""
        return self._scope.graph()

    def sure_of(self, pattern: Pattern, question: str) -> None:
        """Raises `Inconclusive` where the capture cannot tell that there are no more of it."""
        __tracebackhide__ = True
        self._refuse_doubt(question)
        if isinstance(pattern, EventPattern) and not any(map(pattern.matches, self._events)):
            self._refuse_unrecorded(pattern)

    def unattributed(self, pattern: Pattern) -> list[Event]:
        """What may be the test's doing or not, of the types of a pattern."""
        return [
            event
            for event in self._scope.unattributed(_types_of(pattern))
            if all(condition(event) for condition in self._conditions)
        ]

    def with_others(self, others: Collection[Event]) -> list[Event]:
        """The events and others, in order of time, none twice."""
        both = {id(event): event for event in (*self._events, *others)}
        return sorted(both.values(), key=lambda event: (event.timestamp_ns, event.id))

    def _refuse_doubt(self, question: str) -> None:
        __tracebackhide__ = True
        if self._incomplete:
            raise Inconclusive(f"it is not known {question}", self._incomplete)

    def _refuse_kept_back(self, pattern: Pattern) -> None:
        """An anomaly that was not told is no absent one."""
        __tracebackhide__ = True
        types = _types_of(pattern)
        if types is None or AnomalyDetected in types:
            reasons = self._scope.kept_back()
            if reasons:
                raise Inconclusive("it is not known whether the test caused an anomaly", reasons)

    def _refuse_unrecorded(self, pattern: Pattern) -> None:
        """Absence of what nothing records is no evidence."""
        __tracebackhide__ = True
        types, recorder = _types_of(pattern) or (), self._scope.recorder
        each = [set(unrecorded(types, c, recorder.told_by_watches)) for c in recorder.collectors]
        missing = sorted(set.intersection(*each))
        if missing:
            self.refuse(
                f"whether {pattern!r} happened", Doubt(Check.unrecorded_type, reason(missing))
            )

    def _refuse_unattributed(self, pattern: Pattern) -> None:
        """A match that may or may not be the test's doing leaves absence open."""
        __tracebackhide__ = True
        others = self.unattributed(pattern)
        if not others:
            return
        if isinstance(pattern, Chain):
            others = self.with_others(others)
        found = find(pattern, others, self._scope.graph)
        if found is None:
            return
        mine = {id(event) for event in self._events}
        event = next(event for event in reversed(found) if id(event) not in mine)
        what = (
            f"{event.payload!r} (pid {event.pid}, thread {event.tid}) matches, but nothing says "
            "who caused it: a thread of a wider fixture, of an earlier test, or older than the test"
        )
        self.refuse(f"whether this test caused {pattern!r}", Doubt(Check.unattributed_match, what))

    def refuse(self, question: str, doubt: Doubt) -> None:
        """Raise `Inconclusive`, unless the check is suppressed."""
        __tracebackhide__ = True
        reasons = self._scope.unsuppressed((doubt,))
        if reasons:
            raise Inconclusive(f"it is not known {question}", reasons)

    # -- a sequence ---------------------------------------------------------------------------

    def _read(self) -> list[Event]:
        if self._incomplete:
            self._scope.doubt(self._incomplete)
        return self._events

    def __len__(self) -> int:
        return len(self._read())

    def __bool__(self) -> bool:
        return bool(self._events or self._read())

    def __iter__(self) -> Iterator[Event]:
        return iter(self._read())

    @overload
    def __getitem__(self, index: SupportsIndex) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> "Events": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "Event | Events":
        __tracebackhide__ = True
        events = self._read()
        if isinstance(index, slice):
            return Events(self._scope, events[index], self._incomplete, self._conditions)
        try:
            return events[index]
        except IndexError:
            raise IndexError(f"kobs.events[{index}]: there are {len(events)} events") from None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequence) and not isinstance(other, str):
            return list(self._read()) == list(other)
        return NotImplemented

    def __repr__(self) -> str:
        number = len(self._events)
        return "<1 event>" if number == 1 else f"<{number} events>"


def _about(pid: int) -> Callable[[Event], bool]:
    return lambda event: event.pid == pid


def _types_of(pattern: Pattern) -> Collection[type[PayloadType]] | None:
    """The only payload types that events of the pattern can have; None: any."""
    if isinstance(pattern, Like):
        return {pattern.type}
    if isinstance(pattern, Sharing):
        return _types_of(pattern.part)
    if isinstance(pattern, Count):
        return _types_of(pattern.pattern)
    if isinstance(pattern, AllOf):
        return next((types for part in pattern.parts if (types := _types_of(part))), None)
    parts: tuple[Pattern, ...] = ()
    if isinstance(pattern, AnyOf):
        parts = pattern.parts
    elif isinstance(pattern, Chain):
        parts = pattern.steps
    all_types = [_types_of(part) for part in parts]
    if not all_types or any(types is None for types in all_types):
        return None
    return {cls for types in all_types if types is not None for cls in types}
