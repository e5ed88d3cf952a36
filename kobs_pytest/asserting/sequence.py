"""The events of a test as a sequence that refuses to answer what it cannot know.

PYTEST_DONT_REWRITE
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple, SupportsIndex, overload

from kobs.errors import PatternError
from kobs.events import Event
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
from kobs.pattern.explain import fold
from kobs.pattern.predicates import AllOf, AnyOf, Like
from kobs.schema import PayloadType
from kobs_pytest.capture.attempt import Attempt, Note
from kobs_pytest.capture.checks import Check, Doubt
from kobs_pytest.capture.recordable import reason, unrecorded

MOST_LINES = 8
"""What pytest shows of an explanation."""
FIRST_LINE = 49
"""What pytest leaves of 80 columns after `E       AssertionError: assert `."""


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
        attempt: Attempt,
        events: list[Event],
        incomplete: tuple[str, ...],
        conditions: tuple[Callable[[Event], bool], ...] = (),
    ) -> None:
        self._attempt = attempt
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

    def where(self, condition: Callable[[Event], bool]) -> "Events":
        """Only events for which `condition(event)` is true."""
        return self._only(condition)

    def since(self, mark: Mark) -> "Events":
        """Only events from `kobs.mark()` on."""
        return self._only(lambda event: event.timestamp_ns >= mark.timestamp_ns)

    def _only(self, condition: Callable[[Event], bool]) -> "Events":
        return Events(
            self._attempt,
            [event for event in self._events if condition(event)],
            self._incomplete,
            (*self._conditions, condition),
        )

    @property
    def known(self) -> list[Event]:
        """The events, for who says himself what may be missing."""
        return self._events

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
            return self.count(pattern.pattern, most=pattern.times) == pattern.times
        if find(pattern, self._events, self._attempt.graph) is not None:
            return True
        self._refuse_doubt(f"whether {pattern!r} happened")
        self._refuse_unrecorded(pattern)
        self._refuse_unattributed(pattern)
        return False

    def count(self, pattern: Pattern, *, most: int | None = None) -> int:
        """How many match. Raises `Inconclusive` where there may have been more (unless more
        than `most` are there in any case)."""
        __tracebackhide__ = True
        if isinstance(pattern, Count):
            raise PatternError(f"count({pattern!r}): count what is counted, without `*`")
        number = count_of(pattern, self._events, self._attempt.graph)
        if most is None or number <= most:
            self._refuse_doubt(f"how often {pattern!r} happened")
            if not number:
                self._refuse_unrecorded(pattern)
            self._refuse_unattributed(pattern)
        return number

    def first(self, pattern: Pattern) -> tuple[Event, ...] | None:
        """The first match, an event a step; None where there is none yet."""
        __tracebackhide__ = True
        return find(pattern, self._events, self._attempt.graph)

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
        attempt = self._attempt
        teller = explain_present if present else explain
        told = teller(pattern, self._events, attempt.graph, numbered=attempt.events,
                      start_ns=attempt.start_ns)  # fmt: skip
        title = f"{'found' if present else 'nearest miss of'} {pattern!r}:"
        attempt.notes.append(Note(title, told.details, told.about))
        return told

    def _refuse_doubt(self, question: str) -> None:
        __tracebackhide__ = True
        if self._incomplete:
            raise Inconclusive(f"it is not known {question}", self._incomplete)

    def _refuse_unrecorded(self, pattern: Pattern) -> None:
        """Absence of what nothing records is no evidence."""
        __tracebackhide__ = True
        recorder = self._attempt.recorder
        missing = unrecorded(_types_of(pattern) or (), recorder.collector, recorder.told_by_watches)
        if missing:
            self._refuse(
                f"whether {pattern!r} happened", Doubt(Check.unrecorded_type, reason(missing))
            )

    def _refuse_unattributed(self, pattern: Pattern) -> None:
        """A match that may or may not be the test's doing leaves absence open."""
        __tracebackhide__ = True
        others = [
            event
            for event in self._attempt.unattributed(_types_of(pattern))
            if all(condition(event) for condition in self._conditions)
        ]
        if not others:
            return
        if isinstance(pattern, Chain):
            others = sorted(self._events + others, key=lambda event: event.timestamp_ns)
        found = find(pattern, others, self._attempt.graph)
        if found is None:
            return
        mine = {id(event) for event in self._events}
        event = next(event for event in reversed(found) if id(event) not in mine)
        what = (
            f"{event.payload!r} (pid {event.pid}, thread {event.tid}) matches, but nothing says "
            "who caused it: a thread of a wider fixture, of an earlier test, or older than the test"
        )
        self._refuse(f"whether this test caused {pattern!r}", Doubt(Check.unattributed_match, what))

    def _refuse(self, question: str, doubt: Doubt) -> None:
        __tracebackhide__ = True
        reasons = self._attempt.unsuppressed((doubt,))
        if reasons:
            raise Inconclusive(f"it is not known {question}", reasons)

    # -- a sequence ---------------------------------------------------------------------------

    def _read(self) -> list[Event]:
        if self._incomplete:
            self._attempt.doubt(self._incomplete)
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
        events = self._read()
        if isinstance(index, slice):
            return Events(self._attempt, events[index], self._incomplete, self._conditions)
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


def _types_of(pattern: Pattern) -> Collection[type[PayloadType]] | None:
    """The only payload types that events of the pattern can have; None: any."""
    if isinstance(pattern, Like):
        return {pattern.type}
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
