"""Patterns of one event: a type with conditions on its fields and header, and `&`, `|`, `~`."""

import os
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from enum import IntEnum
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, MethodType
from typing import Any, NamedTuple

from kobs.errors import FieldError, PatternError
from kobs.events import Event
from kobs.fields import _CUTS, Boolean, Enumeration, Float, IdentifierKind, Text
from kobs.pattern.base import Pattern
from kobs.schema import Field, PayloadType

HEADER_FIELDS = ("pid", "tid", "severity", "category", "causality_id", "span_id", "parent", "link")

_NOT_COMPARED = (BuiltinFunctionType, MethodDescriptorType, MethodType)
_MISSING = object()


class Check(NamedTuple):
    """One condition of a pattern, held against one event."""

    name: str
    wanted: str
    actual: str
    met: bool


class EventPattern(Pattern):
    """A condition on a single event."""

    __slots__ = ()

    def matches(self, event: Event) -> bool:
        """The event meets the condition."""
        raise NotImplementedError

    def checks(self, event: Event) -> list[Check]:
        """Every single condition held against `event`, the type first."""
        raise NotImplementedError

    def types(self) -> tuple[type[PayloadType], ...]:
        """The payload types that it speaks of."""
        raise NotImplementedError

    def __and__(self, other: object) -> "EventPattern":
        """Both hold for the same event."""
        if not isinstance(other, EventPattern):
            self._refuse("&", other)
        return AllOf(self, other)

    def __or__(self, other: object) -> "EventPattern":
        """At least one holds for the event."""
        if not isinstance(other, EventPattern):
            self._refuse("|", other)
        return AnyOf(self, other)

    def __invert__(self) -> "EventPattern":
        """It does not hold for the event (any other event matches, of whatever type)."""
        return Not(self)

    @property
    def one_event(self) -> bool:
        return True

    @property
    def kind(self) -> str:
        return "a pattern of one event"


class Like(EventPattern):
    """An event of one payload type whose fields and header match."""

    __slots__ = ("fields", "header", "type")

    def __init__(
        self,
        type: type[PayloadType],
        fields: Mapping[str, Any],
        header: Mapping[str, Any] | None = None,
    ) -> None:
        self.type = type
        self.fields = dict(fields)
        self.header = dict(header or {})

    def on(self, **header: Any) -> "Like":
        """The same with conditions on the header: `pid`, `tid`, `severity`, `category`, ....

        They match as fields do: `severity=Severity.WARN` is exactly WARN. Raises `FieldError`
        for a name that the header does not have.
        """
        for name, wanted in header.items():
            if name not in HEADER_FIELDS:
                raise FieldError(
                    f"an event's header has no field {name!r}; "
                    f"on() takes {', '.join(HEADER_FIELDS)}"
                )
            _refuse_callable(f"{self!r}.on({name}=...)", wanted)
        return Like(self.type, self.fields, {**self.header, **header})

    def matches(self, event: Event) -> bool:
        __tracebackhide__ = True
        if event.type is not self.type and event.type_name != self.type.__kobs_schema__.name:
            return False
        for name, wanted in self.header.items():
            if not _holds(wanted, getattr(event, name)):
                return False
        if self.fields:
            payload = event.payload
            for name, wanted in self.fields.items():
                if not _field_holds(wanted, getattr(payload, name, _MISSING), event):
                    return False
        return True

    def checks(self, event: Event) -> list[Check]:
        __tracebackhide__ = True
        own = self.type.__kobs_schema__.name
        same = event.type_name == own
        found = [Check("type", own, event.type_name, same)]
        payload = event.payload if same else None
        for name, wanted in self.fields.items():
            value = getattr(payload, name, _MISSING)
            met = same and _field_holds(wanted, value, event)
            actual = "nothing" if value is _MISSING else brief(value)
            if value is not _MISSING and event.truncated and isinstance(value, str) and not met:
                actual += " (cut)"
            found.append(Check(name, brief(wanted), actual, met))
        for name, wanted in self.header.items():
            value = getattr(event, name)
            found.append(Check(name, brief(wanted), brief(value), _holds(wanted, value)))
        return found

    def types(self) -> tuple[type[PayloadType], ...]:
        return (self.type,)

    def __repr__(self) -> str:
        text = f"{self.type.__kobs_schema__.name}.like({_arguments(self.fields)})"
        return f"{text}.on({_arguments(self.header)})" if self.header else text


class _Combined(EventPattern):
    __slots__ = ("parts",)
    symbol = ""

    parts: tuple[EventPattern, ...]

    def __init__(self, *parts: EventPattern) -> None:
        flat: list[EventPattern] = []
        for part in parts:
            alike = isinstance(part, _Combined) and type(part) is type(self)
            flat.extend(part.parts if alike else (part,))  # type: ignore[attr-defined]
        self.parts = tuple(flat)

    def types(self) -> tuple[type[PayloadType], ...]:
        return tuple(dict.fromkeys(cls for part in self.parts for cls in part.types()))

    def __repr__(self) -> str:
        return f" {self.symbol} ".join(_bracketed(part) for part in self.parts)


class AllOf(_Combined):
    """Every part holds for the event."""

    __slots__ = ()
    symbol = "&"

    def matches(self, event: Event) -> bool:
        __tracebackhide__ = True
        return all(part.matches(event) for part in self.parts)

    def checks(self, event: Event) -> list[Check]:
        __tracebackhide__ = True
        found = [check for part in self.parts for check in part.checks(event)]
        return list(dict.fromkeys(found))


class AnyOf(_Combined):
    """At least one part holds for the event."""

    __slots__ = ()
    symbol = "|"

    def matches(self, event: Event) -> bool:
        __tracebackhide__ = True
        return any(part.matches(event) for part in self.parts)

    def checks(self, event: Event) -> list[Check]:
        __tracebackhide__ = True
        return max((part.checks(event) for part in self.parts), key=closeness)


class Not(EventPattern):
    """The part does not hold for the event."""

    __slots__ = ("part",)

    def __init__(self, part: EventPattern) -> None:
        self.part = part

    def matches(self, event: Event) -> bool:
        __tracebackhide__ = True
        return not self.part.matches(event)

    def checks(self, event: Event) -> list[Check]:
        __tracebackhide__ = True
        met = self.matches(event)
        return [Check("not", repr(self.part), "it is not" if met else "it is", met)]

    def types(self) -> tuple[type[PayloadType], ...]:
        return self.part.types()

    def __repr__(self) -> str:
        return f"~{_bracketed(self.part)}"


class Between:
    """Equal to what lies from `low` to `high`, both included; not to what has no such order."""

    __slots__ = ("high", "low")

    def __init__(self, low: Any, high: Any) -> None:
        if not low <= high:
            raise PatternError(
                f"between({low!r}, {high!r}): the first must be the smaller, nothing lies between"
            )
        self.low = low
        self.high = high

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Between):
            return bool(self.low == other.low and self.high == other.high)
        try:
            return bool(self.low <= other <= self.high)
        except TypeError:
            return False

    def __hash__(self) -> int:
        return hash((Between, self.low, self.high))

    def __repr__(self) -> str:
        return f"between({self.low!r}, {self.high!r})"


def between(low: Any, high: Any) -> Between:
    """A value from `low` to `high`, both included: `like(duration_us=between(0, 500))`."""
    return Between(low, high)


def like(type: type[PayloadType], /, **fields: Any) -> Like:
    """An event of `type` whose fields match; `Type.like(...)` is the same.

    A value matches by `==` (so `between(a, b)` and whatever else defines it works), a plain
    function by its answer; classes are never called. Raises `FieldError` for a field that the
    type does not have and for a value that the field can never have, `PatternError` for a
    callable that would not be called.
    """
    schema = type.__kobs_schema__
    wanted: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in schema.field_names:
            raise FieldError(_unknown(schema.unknown(name), schema.name, name, schema.field_names))
        wanted[name] = _comparable(schema.field(name), schema.name, value)
    return Like(type, wanted)


class _Cut(str):
    """A string longer than its field: equal to what the field keeps of it."""

    __slots__ = ("kept",)
    kept: str


def _comparable(field: Field, type_name: str, value: Any) -> Any:
    """The value to compare with, refused where it can never be equal."""
    where = f"{type_name}.{field.name}"
    _refuse_callable(f"{type_name}.like({field.name}=...)", value)
    kind = field.kind
    given = value.__class__
    if given is str and isinstance(kind, Text):
        data = value.encode("utf-8", "surrogateescape")
        if len(data) > kind.size:
            cut = _Cut(value)
            cut.kept = _CUTS[kind.keep](data, kind.size).decode("utf-8", "surrogateescape")
            return cut
    elif (
        value is None
        or given in (str, bytes)
        or (given is int and not isinstance(kind, Float | Boolean | Enumeration | IdentifierKind))
    ):
        kind.check(value, where)
    return value


def _refuse_callable(where: str, value: Any) -> None:
    if isinstance(value, _NOT_COMPARED):
        raise PatternError(
            f"{where}: {value!r} would be compared, not called: only plain functions are "
            "predicates, so write `lambda value: ...`"
        )
    if isinstance(value, type) and type(value).__eq__ is type.__eq__:
        raise PatternError(
            f"{where}: the class {value.__name__} would be compared, not called, and no value "
            f"equals it: write `lambda value: isinstance(value, {value.__name__})`"
        )


def _unknown(message: str, type_name: str, name: str, known: Iterable[str]) -> str:
    if name in HEADER_FIELDS:
        return f"{message}. {name} stands in the header: {type_name}.like(...).on({name}=...)"
    close = get_close_matches(name, list(known), n=1)
    return f"{message}. Did you mean {close[0]!r}?" if close else message


def _holds(wanted: Any, actual: Any) -> bool:
    __tracebackhide__ = True
    if wanted.__class__ is FunctionType:
        return bool(wanted(actual))
    return bool(wanted == actual)


def _field_holds(wanted: Any, actual: Any, event: Event) -> bool:
    __tracebackhide__ = True
    if actual is _MISSING:
        return False
    if wanted.__class__ is _Cut:
        return bool(event.truncated and actual == wanted.kept)
    return _holds(wanted, actual)


def closeness(checks: list[Check]) -> tuple[int, int, float]:
    """How near an event came: the type first, then conditions met, then how alike the rest is."""
    of_type = sum(check.met for check in checks if check.name == "type")
    others = [check for check in checks if check.name != "type"]
    met = sum(check.met for check in others)
    alike = sum(_alike(check) for check in others if not check.met)
    return of_type, met - len(others), alike


def _alike(check: Check) -> float:
    try:
        wanted, actual = float(check.wanted), float(check.actual)
        return 1.0 / (1.0 + abs(wanted - actual))
    except ValueError:
        from difflib import SequenceMatcher

        return SequenceMatcher(None, check.wanted, check.actual).ratio()


def brief(value: Any) -> str:
    """A value in one short piece: enums by name, functions by where they stand."""
    if value.__class__ is _Cut:
        return str.__repr__(value)
    if isinstance(value, IntEnum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, FunctionType):
        return _function(value)
    return repr(value)


def _function(function: Callable[..., Any]) -> str:
    name: str = function.__name__
    if name != "<lambda>":
        return name
    code = function.__code__
    return f"<lambda at {os.path.basename(code.co_filename)}:{code.co_firstlineno}>"


def _arguments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={brief(value)}" for name, value in values.items())


def _bracketed(part: EventPattern) -> str:
    return f"({part!r})" if isinstance(part, _Combined) else repr(part)
