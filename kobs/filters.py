"""Which events a subscriber sees."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kobs._core.contract import RawSlot
from kobs.events import Event
from kobs.levels import Category, Severity
from kobs.schema import PayloadType

if TYPE_CHECKING:
    from kobs._core._native import Condition
    from kobs.decoder import EventDecoder

Predicate = Callable[[Event], bool]


class EventFilter:
    """A condition on events. Every method returns a new filter; conditions add up.

    `category`, `pid` and `type` called several times mean any of what was given.
    """

    __slots__ = ("_allowed", "_predicates", "_severity")

    def __init__(self) -> None:
        self._severity = Severity.TRACE
        self._allowed: dict[str, frozenset[Any]] = {}
        self._predicates: tuple[Predicate, ...] = ()

    def severity(self, at_least: Severity) -> "EventFilter":
        """Only events of this severity or above."""
        made = self._copy()
        made._severity = Severity(at_least)
        return made

    def category(self, *categories: Category) -> "EventFilter":
        """Only events of these categories."""
        return self.among("category", map(Category, categories))

    def pid(self, *pids: int) -> "EventFilter":
        """Only events about these processes."""
        return self.among("pid", pids)

    def type(self, *types: type[PayloadType]) -> "EventFilter":
        """Only events with these payload types."""
        return self.among("type_name", (cls.__kobs_schema__.name for cls in types))

    def causality(self, *causality_ids: int) -> "EventFilter":
        """Only events of these chains."""
        return self.among("causality_id", causality_ids)

    def where(self, predicate: Predicate) -> "EventFilter":
        """Only events for which `predicate(event)` is true."""
        made = self._copy()
        made._predicates = (*self._predicates, predicate)
        return made

    # -- for kobs's own modules ---------------------------------------------------------------

    def among(self, attribute: str, values: Iterable[Any]) -> "EventFilter":
        """Only events whose attribute has one of these values."""
        made = self._copy()
        made._allowed[attribute] = self._allowed.get(attribute, frozenset()) | frozenset(values)
        return made

    @property
    def least(self) -> Severity:
        """The lowest severity that passes."""
        return self._severity

    @property
    def allowed(self) -> Mapping[str, frozenset[Any]]:
        """The values that attributes may have."""
        return self._allowed

    def native(self, decoder: "EventDecoder") -> "Condition | None":
        """All conditions but those of `where`, for the C core; None where it cannot tell."""
        from kobs._analysis.scanned import native_condition

        return native_condition(decoder, severity=self._severity, among=self._allowed)

    @property
    def predicates(self) -> tuple[Predicate, ...]:
        """The conditions of `where`."""
        return self._predicates

    def matches(self, event: Event) -> bool:
        """The event meets every condition."""
        if event.severity < self._severity:
            return False
        for attribute, allowed in self._allowed.items():
            if getattr(event, attribute) not in allowed:
                return False
        return all(predicate(event) for predicate in self._predicates)

    def _copy(self) -> "EventFilter":
        made = EventFilter()
        made._severity = self._severity
        made._allowed = dict(self._allowed)
        made._predicates = self._predicates
        return made

    def __repr__(self) -> str:
        parts = [f"severity>={self._severity.name}"] if self._severity else []
        parts += [f"{name} in {sorted(map(str, few))}" for name, few in self._allowed.items()]
        parts += [f"where {predicate!r}" for predicate in self._predicates]
        return f"EventFilter({', '.join(parts)})"


class SlotFilter:
    """Makes events of slots that pass a filter; with the C core no event is made of one that
    does not."""

    def __init__(self, event_filter: EventFilter | None, decoder: "EventDecoder") -> None:
        self._filter = event_filter
        self._decode = decoder.decode
        self._native = None if event_filter is None else event_filter.native(decoder)

    def __call__(self, slot: RawSlot) -> Event | None:
        """The event of a slot; None where it does not pass, or makes no sense."""
        event_filter = self._filter
        if event_filter is None:
            return self._decode(slot)
        verdict = None if self._native is None else self._native.matches(slot)
        if verdict is False:
            return None
        event = self._decode(slot)
        if event is None:
            return None
        if verdict is None:
            return event if event_filter.matches(event) else None
        return event if all(says(event) for says in event_filter.predicates) else None
