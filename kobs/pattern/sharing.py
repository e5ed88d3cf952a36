"""Patterns of one event with fields that must be equal in several steps, whatever their value."""

from collections.abc import Iterator

from kobs.errors import FieldError, PatternError
from kobs.events import Event
from kobs.pattern.checks import Check
from kobs.pattern.predicates import HEADER_FIELDS, EventPattern
from kobs.pattern.values import NOTHING_BOUND, Bound, brief
from kobs.schema import PayloadType

_MISSING = object()


class Sharing(EventPattern):
    """The part, with fields (of the payload, or else of the header) equal to those of every other
    step that shares them."""

    __slots__ = ("fields", "part")

    def __init__(self, part: EventPattern, fields: tuple[str, ...]) -> None:
        self.part = part
        self.fields = fields
        for field in fields:
            for cls in part.types():
                known = cls.__kobs_schema__.field_names
                if field not in known and field not in HEADER_FIELDS:
                    raise FieldError(
                        f"same={field!r}: {cls.__name__} has no such field; it has "
                        f"{', '.join(known) or 'none'}, and the header "
                        f"{', '.join(HEADER_FIELDS)}"
                    )

    def matches(self, event: Event) -> bool:
        __tracebackhide__ = True
        return self.part.matches(event)

    def bind(self, event: Event, bound: Bound) -> Iterator[Bound]:
        __tracebackhide__ = True
        for more in self.part.bind(event, bound):
            now = dict(more)
            for field in self.fields:
                value = _value(event, field)
                if value is _MISSING or now.setdefault(_name(field), value) != value:
                    break
            else:
                yield now

    def checks(self, event: Event, bound: Bound = NOTHING_BOUND) -> list[Check]:
        __tracebackhide__ = True
        found = self.part.checks(event, bound)
        for field in self.fields:
            value = _value(event, field)
            wanted = bound.get(_name(field), value)
            actual = "nothing" if value is _MISSING else brief(value)
            expected = "the same" if wanted is _MISSING else f"{brief(wanted)}, the same"
            found.append(Check(field, expected, actual, value is not _MISSING and wanted == value))
        return found

    def types(self) -> tuple[type[PayloadType], ...]:
        return self.part.types()

    def variables(self) -> Iterator[str]:
        return self.part.variables()

    def __repr__(self) -> str:
        return repr(self.part)


def shared_fields(same: object) -> tuple[str, ...]:
    """The names in `same=`: one, or several in a tuple or list. Raises `PatternError`."""
    if isinstance(same, str):
        return (same,)
    if isinstance(same, tuple | list) and all(isinstance(field, str) for field in same):
        return tuple(same)
    raise PatternError(
        f"same={same!r}: expected the name of a field that must be equal, or a tuple of names"
    )


def _name(field: str) -> str:
    return f"same {field}"


def _value(event: Event, field: str) -> object:
    if field in event.type.__kobs_schema__.field_names:
        return getattr(event.payload, field)
    return getattr(event, field) if field in HEADER_FIELDS else _MISSING
