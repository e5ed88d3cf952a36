"""Emissions: which event a call makes, when, and where its fields come from."""

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, TypeVar

from kobs.errors import FieldError, ObserveError
from kobs.fields import Enumeration
from kobs.levels import SyscallResult
from kobs.observe.extractors import Code, Constant, Extractor, extractor
from kobs.schema import Field, PayloadType

HEADER_FIELDS = ("pid", "severity", "link", "causality_id", "parent", "span_id")
"""Fields of an event's header that an emission may fill."""

MOMENTS = ("call", "return", "raise", "exit")
"""When an emission can happen: before the call, after it returned, raised, or either."""

_DURATIONS = ("duration_us", "duration_ms")

MARK = "__kobs_emits__"
"""The attribute in which `emits` leaves its emissions on a function."""

F = TypeVar("F")


class Call:
    """One call, for plain functions of it: `pid=lambda call: call.result.pid`."""

    __slots__ = ("arguments", "duration_us", "error", "instance", "method", "result")

    def __init__(
        self,
        instance: Any,
        method: str,
        arguments: dict[str, Any],
        result: Any,
        error: BaseException | None,
        duration_us: float,
    ) -> None:
        self.instance = instance
        """The instance (or class); None in functions and static methods."""
        self.method = method
        """Name of the method."""
        self.arguments = arguments
        """The arguments by parameter, defaults included; `*args` is a tuple, `**kwargs` a dict."""
        self.result = result
        """What it returned; None where it has not."""
        self.error = error
        """What it raised; None where it has not."""
        self.duration_us = duration_us
        """How long it ran, in microseconds, 0 where it was not measured."""


class Emission:
    """One event that a call makes.

    `type`: the payload type. `fields` and `header`: extractors (`arg`, `returned`, ...), plain
    functions of the `Call`, or plain values, by field name. `when`: "call", "return", "raise" or
    "exit" (return or raise); unless given "exit" for types that have a `result`, else "return".
    `where`: an extractor or function of the call; no event where it is false. `threshold_ms`: no
    event where the call took less; an extractor or a number of milliseconds.

    `sends` and `receives`: an extractor of a key (a tuple or bytes). What is sent under a key
    and received under the same one is joined by `event.link`, and the receiver continues the
    sender's chain (see `kobs.handover`). `shared`: what is sent is a place that many may read
    and that the next send overwrites, not a message that one receives.

    `duration_us`, `duration_ms`, `threshold_ms`, `result`, `errno`, `name` and `operation` (the
    method's name) fill by themselves where they are not given. Raises `ObserveError` for what
    can be refused without knowing the method.
    """

    __slots__ = (
        "fields", "header", "receives", "sends", "shared", "threshold_ms", "type", "when",
        "where",
    )  # fmt: skip

    def __init__(
        self,
        type: type[PayloadType],
        *,
        fields: Mapping[str, object] | None = None,
        header: Mapping[str, object] | None = None,
        when: str | None = None,
        where: object = None,
        threshold_ms: object = None,
        sends: object = None,
        receives: object = None,
        shared: bool = False,
    ) -> None:
        self.type = type
        self.shared = shared
        if not (isinstance(type, _type) and issubclass(type, PayloadType)):
            raise ObserveError(
                f"{type!r} is no payload type; expected one such as kobs.ProcessCreated, "
                "or a class declared with kobs.event_type"
            )
        schema = type.__kobs_schema__
        if when is None:
            exits = any(is_result(field) for field in schema.fields)
            when = "exit" if exits and receives is None and sends is None else "return"
        if when not in MOMENTS:
            raise ObserveError(f"{schema.name}: when={when!r}; expected one of {_quoted(MOMENTS)}")
        self.when = when
        for name in fields or ():
            if name not in schema.field_names:
                raise ObserveError(schema.unknown(name))
        for name in header or ():
            if name not in HEADER_FIELDS:
                raise ObserveError(
                    f"{schema.name}: {name!r} is no header field that an emission can fill; "
                    f"those are {', '.join(HEADER_FIELDS)}"
                )
        if sends is not None and receives is not None:
            raise ObserveError(f"{schema.name}: an emission sends or receives, not both")
        if sends is not None and when not in ("call", "return"):
            raise ObserveError(f'{schema.name}: sends=... needs when="return" or when="call"')
        if when != "return" and receives is not None:
            raise ObserveError(f'{schema.name}: receives=... needs when="return"')
        self.fields = {name: extractor(value) for name, value in (fields or {}).items()}
        self.header = {name: extractor(value) for name, value in (header or {}).items()}
        self.where = None if where is None else extractor(where)
        self.threshold_ms = None if threshold_ms is None else extractor(threshold_ms)
        self.sends = None if sends is None else extractor(sends)
        self.receives = None if receives is None else extractor(receives)
        for name, given in self.fields.items():
            if isinstance(given, Constant):
                try:
                    schema.check(name, given.value)
                except FieldError as error:
                    raise ObserveError(str(error)) from None

    @property
    def name(self) -> str:
        """Name of the payload type."""
        return self.type.__kobs_schema__.name

    @property
    def measured(self) -> bool:
        """It needs to know how long the call took."""
        if self.when == "call":
            return False
        given = (*self.fields.values(), *self.header.values(), self.where)
        return (
            self.threshold_ms is not None
            or any(f.name in _DURATIONS and f.name not in self.fields for f in self._fields)
            or any(value.sees_call for value in given if value is not None)
        )

    @property
    def _fields(self) -> tuple[Field, ...]:
        return self.type.__kobs_schema__.fields

    def arguments(self, code: Code, moment: "Moment") -> list[str]:
        """The payload's fields as source of a call's arguments. Raises `ObserveError` where an
        extractor does not fit, naming type, field and method."""
        written: list[str] = []
        positional = True
        for field in self._fields:
            given = self.fields.get(field.name)
            if given is not None:
                value: str | None = self._written(given, f"{self.name}.{field.name}", code)
            else:
                value = moment.automatic(field, self, code)
            if value is None and field.required:
                raise ObserveError(
                    f"{self.name} on {code.signature} needs {field.name!r}: "
                    f'give {field.name}=arg("..."), returned(...), this(...) or a value'
                )
            if value is None:
                positional = False
            else:
                written.append(value if positional else f"{field.name}={value}")
        return written

    def header_arguments(self, code: Code) -> list[str]:
        """The header fields as source of a call's keyword arguments."""
        return [
            f"{name}={self._written(given, f'{self.name}, header {name}', code)}"
            for name, given in self.header.items()
        ]

    def condition(self, code: Code, moment: "Moment") -> str | None:
        """Source of the test that decides whether there is an event; None for always."""
        tests = []
        if self.threshold_ms is not None and moment.duration is not None:
            limit = self._written(self.threshold_ms, f"{self.name}, threshold_ms", code)
            tests.append(f"{moment.duration} >= {limit} * 1000000")
        if self.where is not None:
            tests.append(self._written(self.where, f"{self.name}, where", code))
        return " and ".join(tests) if tests else None

    def key(self, code: Code) -> str:
        """Source of the key that is sent or received under."""
        given = self.sends or self.receives
        assert given is not None
        return self._written(given, f"{self.name}, {'sends' if self.sends else 'receives'}", code)

    @staticmethod
    def _written(given: Extractor, where: str, code: Code) -> str:
        try:
            return given.expression(code)
        except ObserveError as error:
            raise ObserveError(f"{where} = {given!r} on {code.signature}: {error}") from None

    def __repr__(self) -> str:
        parts = [f"{name}={value!r}" for name, value in {**self.fields, **self.header}.items()]
        return f"Emission({', '.join([self.name, *parts, f'when={self.when!r}'])})"


class Moment:
    """What is known of a call at the moment of an emission: what fills by itself."""

    def __init__(self, *, method: str, duration: str | None, error: str | None) -> None:
        self.method = method
        self.duration = duration
        """Expression of the nanoseconds it ran; None where it was not measured."""
        self.error = error
        """Expression of what it raised; None where it has not."""

    def automatic(self, field: Field, emission: Emission, code: Code) -> str | None:
        """Source of a field that was not given; None for its default."""
        name = field.name
        if name in ("name", "operation"):
            return code.constant(self.method)
        if name == "threshold_ms" and emission.threshold_ms is not None:
            return emission.threshold_ms.expression(code)
        if name == "duration_us" and self.duration is not None:
            return f"{self.duration} / 1000"
        if name == "duration_ms" and self.duration is not None:
            return f"{self.duration} / 1000000"
        if is_result(field):
            return code.constant(SyscallResult.ERROR if self.error else SyscallResult.SUCCESS)
        if name == "errno" and self.error is not None:
            return f"{code.constant(errno_of)}({self.error})"
        return None


def emits(
    type: type[PayloadType],
    *,
    when: str | None = None,
    where: object = None,
    threshold_ms: object = None,
    sends: object = None,
    receives: object = None,
    shared: bool = False,
    **fields: object,
) -> Callable[[F], F]:
    """Say which event a method makes: `@emits(ProcessCreated, name=arg("name"), pid=returned())`.

    Takes the payload's fields and the header fields `pid`, `severity`, `link`, `causality_id`,
    `parent`, `span_id` by name (a payload's own field first), and what `Emission` takes. Stacks;
    goes under `@property`, `@staticmethod` and `@classmethod` or over them. The method's class
    must be observed: `@observe`. Raises `ObserveError` here and now for field names and
    extractors that do not fit the method.
    """

    def mark(method: F) -> F:
        function = marked_function(method)
        if function is None:
            raise ObserveError(
                f"@emits on {method!r}: expected a function, property, staticmethod or "
                "classmethod; put @emits directly over the def"
            )
        names = getattr(type, "__kobs_schema__", None)
        own = names.field_names if names is not None else ()
        try:
            emission = Emission(
                type,
                fields={k: v for k, v in fields.items() if k in own or k not in HEADER_FIELDS},
                header={k: v for k, v in fields.items() if k in HEADER_FIELDS and k not in own},
                when=when,
                where=where,
                threshold_ms=threshold_ms,
                sends=sends,
                receives=receives,
                shared=shared,
            )
            from kobs.observe.generate import check

            check(function, emission, static=isinstance(method, staticmethod))
        except ObserveError as error:
            where_ = getattr(function, "__qualname__", function)
            raise ObserveError(f"@emits on {where_}: {error}") from None
        # decorators apply from below: what stands on top in the source comes first
        setattr(function, MARK, (emission, *getattr(function, MARK, ())))
        return method

    return mark


def marked_function(method: object) -> Any:
    """The function that carries the emissions of a method, whatever wraps it; None if there is
    none."""
    if isinstance(method, staticmethod | classmethod):
        method = method.__func__
    if isinstance(method, property):
        method = method.fget
    if isinstance(method, FunctionType):
        return method
    return method if callable(method) and hasattr(method, "__dict__") else None


def is_result(field: Field) -> bool:
    """The field says success or error."""
    return isinstance(field.kind, Enumeration) and field.kind.members is SyscallResult


def errno_of(error: BaseException) -> int:
    """The error number of an `OSError`, 0 for what has none."""
    number = error.errno if isinstance(error, OSError) else None
    return number if isinstance(number, int) else 0


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)


_type = type
