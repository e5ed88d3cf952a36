"""Where an event's fields come from: small descriptions that write themselves into a wrapper.

An extractor is not called when a method runs: it is turned once, when the class is decorated,
into the Python expression that reads the value. That is also when it is checked against the
method's signature.
"""

import keyword
from collections.abc import Callable
from types import FunctionType
from typing import Any, Protocol

from kobs.errors import ObserveError

NOTHING: Any = type("Nothing", (), {"__repr__": lambda self: "<nothing>"})()


class Code(Protocol):
    """What an extractor is written into: one emission of one method, at one moment."""

    this: str | None
    """Expression of the instance (or class); None in functions and static methods."""
    result: str | None
    """Expression of what the call returned; None where it has not."""
    error: str | None
    """Expression of what the call raised; None where it has not."""
    signature: str
    """The method's signature in words, for messages."""

    def constant(self, value: object) -> str:
        """A name under which the wrapper sees `value`."""
        ...

    def argument(self, key: str | int, default: object) -> str | None:
        """Expression of an argument; None if the signature has no such parameter."""
        ...

    def call(self) -> str:
        """Expression of the `Call`."""
        ...

    def mangled(self, attribute: str) -> str:
        """The name of an attribute as code inside the class would see it."""
        ...


class Extractor:
    """Says where a field's value comes from. Compose with `.map` and `len_of`."""

    __slots__ = ()

    @property
    def sees_call(self) -> bool:
        """It is a function of the whole call."""
        return False

    def expression(self, code: Code) -> str:
        """The Python expression of the value. Raises `ObserveError` where it does not fit."""
        raise NotImplementedError

    def map(self, function: Callable[[Any], object]) -> "Extractor":
        """The value after `function`: `arg("path").map(str)`."""
        return Mapped(self, function)


class Constant(Extractor):
    """A plain value."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def expression(self, code: Code) -> str:
        return code.constant(self.value)

    def __repr__(self) -> str:
        return repr(self.value)


class FromCall(Extractor):
    """What a plain function of the `Call` answers."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    @property
    def sees_call(self) -> bool:
        return True

    def expression(self, code: Code) -> str:
        return f"{code.constant(self.function)}({code.call()})"

    def __repr__(self) -> str:
        return f"{self.function.__name__}(call)"


class Mapped(Extractor):
    """A value after a function."""

    __slots__ = ("function", "inner")

    def __init__(self, inner: Extractor, function: Callable[[Any], object]) -> None:
        self.inner = inner
        self.function = function

    @property
    def sees_call(self) -> bool:
        return self.inner.sees_call

    def expression(self, code: Code) -> str:
        return f"{code.constant(self.function)}({self.inner.expression(code)})"

    def __repr__(self) -> str:
        return f"{self.inner!r}.map({getattr(self.function, '__name__', self.function)})"


class _Reaching(Extractor):
    """Something of the call, and a path of attributes (and indices) from there."""

    __slots__ = ("default", "path")
    name = ""

    def __init__(self, path: str, default: object) -> None:
        self.path = split_path(path, f"{self.name}({path!r})")
        self.default = default

    def __repr__(self) -> str:
        shown = repr(".".join(self.path)) if self.path else ""
        if self.default is not NOTHING:
            shown += f"{', ' if shown else ''}default={self.default!r}"
        return f"{self.name}({shown})"

    def start(self, code: Code) -> str | None:
        """Expression of what the path begins at; None where there is nothing."""
        raise NotImplementedError

    def why_not(self, code: Code) -> str:
        """What to say where there is nothing to begin at."""
        raise NotImplementedError

    def expression(self, code: Code) -> str:
        start = self.start(code)
        if start is None:
            if self.default is NOTHING:
                raise ObserveError(self.why_not(code))
            return code.constant(self.default)
        return reach_expression(code, start, self.path, self.default)


class Argument(_Reaching):
    """An argument of the call, by the name or position of its parameter."""

    __slots__ = ("keys",)
    name = "arg"

    def __init__(self, keys: tuple[str | int, ...], default: object) -> None:
        if not keys:
            raise ObserveError('arg(): expected the name of a parameter, as in arg("name")')
        self.default = default
        self.path = ()
        self.keys: list[tuple[str | int, tuple[str, ...]]] = []
        for key in keys:
            if isinstance(key, int):
                self.keys.append((key, ()))
                continue
            first, *rest = split_path(key, f"arg({key!r})") or ("",)
            self.keys.append((first, tuple(rest)))

    def __repr__(self) -> str:
        shown = [
            repr(".".join((key, *path))) if isinstance(key, str) else str(key)
            for key, path in self.keys
        ]
        if self.default is not NOTHING:
            shown.append(f"default={self.default!r}")
        return f"arg({', '.join(shown)})"

    def expression(self, code: Code) -> str:
        for key, path in self.keys:
            start = code.argument(key, self.default)
            if start is not None:
                return reach_expression(code, start, path, self.default)
        if self.default is not NOTHING:
            return code.constant(self.default)
        raise ObserveError(
            f"{self!r} names no parameter of {code.signature}; "
            "name one that is there, or give default=..."
        )


class Returned(_Reaching):
    """What the call returned."""

    __slots__ = ()
    name = "returned"

    def start(self, code: Code) -> str | None:
        return code.result

    def why_not(self, code: Code) -> str:
        return (
            f"{self!r} has no value where the call has not returned; "
            'use when="return", or give default=...'
        )


class Raised(_Reaching):
    """What the call raised."""

    __slots__ = ()
    name = "raised"

    def start(self, code: Code) -> str | None:
        return code.error

    def why_not(self, code: Code) -> str:
        return (
            f"{self!r} has no value where the call has not raised; "
            'use when="raise", or give default=...'
        )

    def expression(self, code: Code) -> str:
        if code.error is not None and not self.path:
            return f"{code.constant(describe_error)}({code.error})"
        return super().expression(code)


class This(_Reaching):
    """The instance whose method was called."""

    __slots__ = ()
    name = "this"

    def start(self, code: Code) -> str | None:
        return code.this

    def why_not(self, code: Code) -> str:
        return f"{self!r}: {code.signature} is called on no instance; use arg(...) or a plain value"


class LengthOf(Extractor):
    """The length of another extractor's value, 0 where it has none."""

    __slots__ = ("inner",)

    def __init__(self, inner: Extractor) -> None:
        self.inner = inner

    @property
    def sees_call(self) -> bool:
        return self.inner.sees_call

    def expression(self, code: Code) -> str:
        return f"{code.constant(length)}({self.inner.expression(code)})"

    def __repr__(self) -> str:
        return f"len_of({self.inner!r})"


def arg(*names: str | int, default: object = NOTHING) -> Any:
    """An argument of the call: its value however it was passed, defaults included.

    `arg("name")` takes the parameter of that name (or a keyword of `**kwargs`), `arg(0)` the
    first after `self`, `arg("request.size")` an attribute of one. With several names the first
    that the signature has is taken: `arg("path", "name", 0, default="")`.
    """
    return Argument(names, default)


def returned(path: str = "", *, default: object = NOTHING) -> Any:
    """What the call returned, or what a path from it leads to: `returned("pid")`,
    `returned("0.size")` (digits are indices)."""
    return Returned(path, default)


def this(path: str = "", *, default: object = NOTHING) -> Any:
    """The instance, or what a path from it leads to: `this("queue.name")`."""
    return This(path, default)


def raised(path: str = "", *, default: object = NOTHING) -> Any:
    """What the call raised, in words (`"OSError: [Errno 2] ..."`), or an attribute of it."""
    return Raised(path, default)


def len_of(inner: Any) -> Any:
    """The length of what another extractor gives: `len_of(arg("data"))`; 0 where it has none."""
    return LengthOf(extractor(inner))


def extractor(value: object) -> Extractor:
    """What was given for a field, as an `Extractor`: one already, a function of the call, or a
    plain value. Raises `ObserveError` for classes and other callables, which could mean either.
    """
    if isinstance(value, Extractor):
        return value
    if isinstance(value, FunctionType):
        return FromCall(value)
    if callable(value):
        raise ObserveError(
            f"{value!r}: expected arg(...), returned(...), this(...), a plain value, or a plain "
            f"function of the call; wrap it: lambda call: {getattr(value, '__name__', 'f')}(...)"
        )
    return Constant(value)


def split_path(path: object, where: str) -> tuple[str, ...]:
    """The steps of a dotted path. Raises `ObserveError` where one is no name and no index."""
    if not isinstance(path, str):
        raise ObserveError(f'{where}: expected a dotted path such as "request.size"')
    steps = tuple(path.split(".")) if path else ()
    for step in steps:
        if not (step.isdigit() or (step.isidentifier() and not keyword.iskeyword(step))):
            raise ObserveError(
                f"{where}: {step!r} is neither an attribute's name nor an index; "
                "a default is given by keyword: default=..."
            )
    return steps


def reach_expression(code: Code, start: str, path: tuple[str, ...], default: object) -> str:
    """Expression of what `path` leads to from `start`."""
    if not path:
        return start
    steps = tuple(step if step.isdigit() else code.mangled(step) for step in path)
    if default is NOTHING:
        return start + "".join(f"[{s}]" if s.isdigit() else f".{s}" for s in steps)
    return f"{code.constant(reach)}({start}, {steps!r}, {code.constant(default)})"


def reach(value: Any, steps: tuple[str, ...], default: object) -> object:
    """What a path leads to, the default where it breaks off."""
    try:
        for step in steps:
            value = value[int(step)] if step.isdigit() else getattr(value, step)
    except (AttributeError, LookupError, TypeError):
        return default
    return value


def length(value: Any) -> int:
    """`len`, 0 for what has none."""
    try:
        return len(value)
    except TypeError:
        return 0


def describe_error(error: BaseException) -> str:
    """An exception in words."""
    text = str(error)
    name = type(error).__name__
    return f"{name}: {text}" if text else name
