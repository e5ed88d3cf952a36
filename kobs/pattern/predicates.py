"""Patterns of one event: a type with conditions on its fields and header, and `&`, `|`, `~`."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, MethodType
from typing import Any

from kobs.errors import FieldError, PatternError
from kobs.events import Event
from kobs.fields import _CUTS, Boolean, Enumeration, Float, IdentifierKind, Text
from kobs.pattern.base import Pattern
from kobs.pattern.checks import Check, closeness
from kobs.pattern.values import NOTHING_BOUND, Bound, Cut, Variable, brief
from kobs.schema import Field, PayloadType

HEADER_FIELDS = ("pid", "tid", "severity", "category", "causality_id", "span_id", "parent", "link")

_NOT_COMPARED = (BuiltinFunctionType, MethodDescriptorType, MethodType)
_MISSING = object()


class EventPattern(Pattern):
    """A condition on a single event."""

    __slots__ = ()

    def matches(self, event: Event) -> bool:
        """The event meets the condition."""
        raise NotImplementedError

    def bind(self, event: Event, bound: Bound) -> Iterator[Bound]:
        """The ways in which the event meets the condition with variables bound as they are in
        `bound`: what they are bound to then. Nothing where it does not."""
        __tracebackhide__ = True
        if self.matches(event):
            yield bound

    def checks(self, event: Event, bound: Bound = NOTHING_BOUND) -> list[Check]:
        """Every single condition held against `event`, the type first."""
        raise NotImplementedError

    def variables(self) -> Iterator[str]:
        """The names of its variables, each as often as it stands there."""
        return iter(())

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

    __slots__ = ("_bound", "fields", "header", "type")

    def __init__(
        self,
        type: type[PayloadType],
        fields: Mapping[str, Any],
        header: Mapping[str, Any] | None = None,
    ) -> None:
        self.type = type
        self.fields = dict(fields)
        self.header = dict(header or {})
        self._bound = tuple(
            wanted.name
            for wanted in (*self.fields.values(), *self.header.values())
            if wanted.__class__ is Variable
        )

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
        if self._bound:
            return _any(self.bind(event, NOTHING_BOUND))
        for name, wanted in self.header.items():
            if not _holds(wanted, getattr(event, name)):
                return False
        if self.fields:
            payload = event.payload
            for name, wanted in self.fields.items():
                if not _field_holds(wanted, getattr(payload, name, _MISSING), event):
                    return False
        return True

    def bind(self, event: Event, bound: Bound) -> Iterator[Bound]:
        __tracebackhide__ = True
        if event.type is not self.type and event.type_name != self.type.__kobs_schema__.name:
            return
        now: Bound | None = bound
        for name, wanted in self.header.items():
            now = _held(wanted, getattr(event, name), event, now)
            if now is None:
                return
        payload = event.payload if self.fields else None
        for name, wanted in self.fields.items():
            now = _held(wanted, getattr(payload, name, _MISSING), event, now)
            if now is None:
                return
        if now is not None:
            yield now

    def variables(self) -> Iterator[str]:
        return iter(self._bound)

    def checks(self, event: Event, bound: Bound = NOTHING_BOUND) -> list[Check]:
        __tracebackhide__ = True
        own = self.type.__kobs_schema__.name
        same = event.type_name == own
        found = [Check("type", own, event.type_name, same)]
        payload = event.payload if same else None
        for name, wanted in self.fields.items():
            value = getattr(payload, name, _MISSING)
            met = same and _held(wanted, value, event, bound) is not None
            actual = "nothing" if value is _MISSING else brief(value)
            if value is not _MISSING and event.truncated and isinstance(value, str) and not met:
                actual += " (cut)"
            found.append(Check(name, _wanted(wanted, bound), actual, met))
        for name, wanted in self.header.items():
            value = getattr(event, name)
            met = _held(wanted, value, event, bound) is not None
            found.append(Check(name, _wanted(wanted, bound), brief(value), met))
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

    def matches(self, event: Event) -> bool:
        __tracebackhide__ = True
        return _any(self.bind(event, NOTHING_BOUND))

    def __repr__(self) -> str:
        return f" {self.symbol} ".join(_bracketed(part) for part in self.parts)


class AllOf(_Combined):
    """Every part holds for the event."""

    __slots__ = ()
    symbol = "&"

    def bind(self, event: Event, bound: Bound) -> Iterator[Bound]:
        __tracebackhide__ = True
        return _bind_all(self.parts, event, bound)

    def checks(self, event: Event, bound: Bound = NOTHING_BOUND) -> list[Check]:
        __tracebackhide__ = True
        found = [check for part in self.parts for check in part.checks(event, bound)]
        return list(dict.fromkeys(found))

    def variables(self) -> Iterator[str]:
        return (name for part in self.parts for name in part.variables())


class AnyOf(_Combined):
    """At least one part holds for the event."""

    __slots__ = ()
    symbol = "|"

    def __init__(self, *parts: EventPattern) -> None:
        super().__init__(*parts)
        names = [set(part.variables()) for part in self.parts]
        if any(one != names[0] for one in names):
            odd = sorted(names[0].union(*names) - names[0].intersection(*names))[0]
            raise PatternError(
                f"{self!r}: var({odd!r}) stands on one side of `|` only, so an event that matches "
                "the other side gives it no value: put it on both sides"
            )

    def bind(self, event: Event, bound: Bound) -> Iterator[Bound]:
        __tracebackhide__ = True
        for part in self.parts:
            yield from part.bind(event, bound)

    def checks(self, event: Event, bound: Bound = NOTHING_BOUND) -> list[Check]:
        __tracebackhide__ = True
        return max((part.checks(event, bound) for part in self.parts), key=closeness)

    def variables(self) -> Iterator[str]:
        return self.parts[0].variables()


class Not(EventPattern):
    """The part does not hold for the event."""

    __slots__ = ("part",)

    def __init__(self, part: EventPattern) -> None:
        self.part = part
        for name in part.variables():
            raise PatternError(
                f"~({part!r}): what does not match gives var({name!r}) no value; write a value, "
                "or a function, there"
            )

    def matches(self, event: Event) -> bool:
        __tracebackhide__ = True
        return not self.part.matches(event)

    def checks(self, event: Event, bound: Bound = NOTHING_BOUND) -> list[Check]:
        __tracebackhide__ = True
        met = self.matches(event)
        return [Check("not", repr(self.part), "it is not" if met else "it is", met)]

    def types(self) -> tuple[type[PayloadType], ...]:
        return self.part.types()

    def __repr__(self) -> str:
        return f"~{_bracketed(self.part)}"


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


def _comparable(field: Field, type_name: str, value: Any) -> Any:
    """The value to compare with, refused where it can never be equal."""
    where = f"{type_name}.{field.name}"
    _refuse_callable(f"{type_name}.like({field.name}=...)", value)
    kind = field.kind
    given = value.__class__
    if given is str and isinstance(kind, Text):
        data = value.encode("utf-8", "surrogateescape")
        if len(data) > kind.size:
            cut = Cut(value)
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
    if wanted.__class__ is Cut:
        return bool(event.truncated and actual == wanted.kept)
    return _holds(wanted, actual)


def _held(wanted: Any, actual: Any, event: Event, bound: Bound | None) -> Bound | None:
    """What variables are bound to once `actual` is what is wanted; None where it is not."""
    __tracebackhide__ = True
    if bound is None:
        return None
    if wanted.__class__ is not Variable:
        return bound if _field_holds(wanted, actual, event) else None
    if actual is _MISSING:
        return None
    if wanted.name in bound:
        return bound if bound[wanted.name] == actual else None
    return {**bound, wanted.name: actual}


def _bind_all(parts: tuple[EventPattern, ...], event: Event, bound: Bound) -> Iterator[Bound]:
    __tracebackhide__ = True
    if not parts:
        yield bound
        return
    for more in parts[0].bind(event, bound):
        yield from _bind_all(parts[1:], event, more)


def _any(ways: Iterator[Bound]) -> bool:
    __tracebackhide__ = True
    return next(ways, None) is not None


def _wanted(wanted: Any, bound: Bound) -> str:
    if wanted.__class__ is Variable and wanted.name in bound:
        return f"{brief(bound[wanted.name])} ({wanted!r})"
    return brief(wanted)


def _arguments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={brief(value)}" for name, value in values.items())


def _bracketed(part: EventPattern) -> str:
    return f"({part!r})" if isinstance(part, _Combined) else repr(part)
