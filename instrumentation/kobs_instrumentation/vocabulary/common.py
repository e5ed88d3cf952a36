"""What the vocabularies share: values made from several places of a call, and small conversions.

A vocabulary fits classes that it has never seen. So a field is looked for under the usual names:
in what the method returned, then among its arguments, then on the instance; and where it is
nowhere, there is no event rather than one that claims something.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard

from kobs.observe import Emission, Extractor, returned, this
from kobs.observe.extractors import Code, extractor
from kobs.schema import PayloadType

CONTENT = ("body", "message", "msg", "data", "payload", "item", "content")
"""Usual names of what is sent or written."""


class Combined(Extractor):
    """What a function makes of the values of several other extractors.

    Unlike a function of the call it names what it reads, so that a wrapper reads no more, and a
    key made of arguments alone is known before the call.
    """

    __slots__ = ("function", "inner")

    def __init__(self, function: Callable[..., object], inner: Iterable[Extractor]) -> None:
        self.function = function
        self.inner = tuple(inner)

    @property
    def sees_call(self) -> bool:
        return any(inner.sees_call for inner in self.inner)

    def expression(self, code: Code) -> str:
        values = ", ".join(inner.expression(code) for inner in self.inner)
        return f"{code.constant(self.function)}({values})"

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", "f")
        return f"{name}({', '.join(map(repr, self.inner))})"


class Given(Extractor):
    """An argument under the first of several names that there is.

    Unlike `arg`, a method that takes `**kwargs` may be given any of the names.
    """

    __slots__ = ("default", "names")

    def __init__(self, names: tuple[str | int, ...], default: object) -> None:
        self.names = names
        self.default = default

    def expression(self, code: Code) -> str:
        maybe: list[str] = []
        for name in self.names:
            found = code.argument(name, None)
            if found is not None:
                maybe.append(found)
                if found.isidentifier():  # a parameter of its own: there for certain
                    break
        default = code.constant(self.default)
        if not maybe:
            return default
        if len(maybe) == 1 and self.default is None:
            return maybe[0]
        return f"{code.constant(_first_known)}({', '.join([*maybe, default])})"

    def __repr__(self) -> str:
        return f"given({', '.join(map(repr, self.names))}, default={self.default!r})"


def combine(function: Callable[..., object], *inner: object) -> Any:
    """An extractor of `function(values…)`; `inner` are extractors, functions of the call or
    plain values."""
    return Combined(function, map(extractor, inner))


def told(*names: str, plain: bool = False, default: object = None) -> Any:
    """What a call says about something, under the first name that is there.

    An attribute (or key) of what was returned, else an argument, else an attribute of the
    instance, else `default`. `plain`: a number that was returned is the answer itself.
    """

    def told_value(result: object, argument: object, instance: object) -> object:
        if plain and is_number(result):
            return result
        found = _attribute(result, names)
        if found is None:
            found = argument
        if found is None:
            found = _attribute(instance, names)
        return default if found is None else found

    told_value.__name__ = f"told[{', '.join(names)}]"
    return combine(told_value, returned(default=None), given(*names), this(default=None))


def given(*names: str | int, default: object = None) -> Any:
    """An argument under the first of several usual names; a number is a position. Not given, or
    None, it is `default`."""
    return Given(names, default)


def known(value: Any) -> Any:
    """A condition: there is such a value."""
    return extractor(value).map(is_known)


def both(first: Any, second: Any) -> Any:
    """A condition: two conditions at once."""
    return combine(_both, first, second)


def emission(
    type: type[PayloadType],
    *,
    fields: Mapping[str, object],
    pid: object = None,
    **more: Any,
) -> Emission:
    """An `Emission`, and its subject where there is one to be found."""
    header = {} if pid is None else {"pid": extractor(pid).map(pid_of)}
    return Emission(type, fields=fields, header={**header, **more.pop("header", {})}, **more)


def is_known(value: object) -> bool:
    """There is a value."""
    return value is not None


def is_number(value: object) -> TypeGuard[int | float]:
    """An int or float that is no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_positive(value: object) -> bool:
    """A number above zero."""
    return isinstance(value, int | float) and value > 0


def number(value: Any) -> Any:
    """A number as itself; None for everything else."""
    return value if is_number(value) else None


def whole(value: Any) -> int | None:
    """A number of bytes, things, … as an int that is not negative; None if it is no number."""
    return max(0, int(value)) if is_number(value) else None


def at_most_255(value: Any) -> int:
    """A number as a priority or percentage fits into its field."""
    return min(255, max(0, int(value))) if is_number(value) else 0


def pid_of(value: Any) -> int | None:
    """A pid: the number itself, or the `pid` of a process object; None if it is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value > 0 else None
    found = getattr(value, "pid", None)
    return found if isinstance(found, int) and found > 0 else None


def identifier(value: Any) -> int | str | None:
    """What identifies a region, queue or pipe: a number or name, or that of an object."""
    if isinstance(value, int | str) and not isinstance(value, bool):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    found = _attribute(value, ("region_id", "queue_id", "pipe_id", "id", "name"))
    return found if isinstance(found, int | str) else None


def text(value: object) -> str:
    """A name or description as text; bytes are decoded."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value)


def size_of(value: Any) -> int:
    """How many bytes something has: what is a number says so itself; 0 if unknown."""
    value = content_of(value)
    if is_number(value):
        return max(0, int(value))
    if isinstance(value, str):
        return len(value.encode(errors="replace"))
    if isinstance(value, memoryview):
        return value.nbytes
    return len(value) if isinstance(value, bytes | bytearray) else 0


def count_of(value: Any) -> int | None:
    """How many: a number says so itself, a collection by its length; None for anything else."""
    if is_number(value):
        return max(0, int(value))
    return len(value) if isinstance(value, list | tuple | set | frozenset | dict) else None


def content_of(value: Any) -> Any:
    """What a message object holds; bytes, text and numbers are themselves."""
    if value is None or isinstance(value, bytes | bytearray | memoryview | str | int | float):
        return value
    found = _attribute(value, CONTENT)
    return value if found is None else found


def _first_known(*values: object) -> object:
    return next((value for value in values if value is not None), None)


def _both(first: object, second: object) -> bool:
    return bool(first) and bool(second)


def _attribute(value: Any, names: Iterable[str]) -> Any:
    """The first of several attributes (or keys) that is there and is not None."""
    if value is None or isinstance(value, str | bytes | bytearray | int | float):
        return None
    is_mapping = isinstance(value, Mapping)
    for name in names:
        found = value.get(name) if is_mapping else getattr(value, name, None)
        if found is not None and not callable(found):
            return found
    return None
