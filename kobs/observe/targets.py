"""What wrappers are written for: a method, its parameters, and how the original is called."""

from types import FunctionType
from typing import Any, NamedTuple

from kobs.observe.parameters import PREFIX, Arguments, Parameters

CO_GENERATOR, CO_COROUTINE = 0x20, 0x80
CO_ITERABLE_COROUTINE, CO_ASYNC_GENERATOR = 0x100, 0x200

PLAIN, COROUTINE, GENERATOR, ASYNC_GENERATOR = "plain", "coroutine", "generator", "async generator"

DIRECT, INHERITED, BY_WRAPT = "direct", "inherited", "by wrapt"
"""How a wrapper is called, and calls: in place of the original; going on along the instance's
resolution order; by wrapt, with what it wraps among its arguments."""


class Target(NamedTuple):
    """What a wrapper is written for."""

    name: str
    """Name of the method."""
    label: str
    """Its signature in words, for messages."""
    owner: str
    """Name of the class, which mangles private attributes; empty for functions."""
    parameters: Parameters
    """The wrapper's own."""
    arguments: Arguments
    this: str | None
    """Expression of the instance or class."""
    call: str
    """Expression that calls the original."""
    style: str
    scope: bool = False
    """The first `when="call"` emission and the first at the end open and close a scope."""
    looks_up: bool = True
    """The instance may have a collector of its own."""
    way: str = DIRECT


def style_of(function: object) -> str:
    """What calling the function gives: a result, a coroutine, a generator, an async generator."""
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    if flags & CO_COROUTINE:
        return COROUTINE
    if flags & CO_ASYNC_GENERATOR:
        return ASYNC_GENERATOR
    return GENERATOR if flags & CO_GENERATOR else PLAIN


def target_of(
    function: FunctionType, *, owner: str, name: str, bound: bool, scope: bool = False
) -> Target:
    """The target for a wrapper that takes the place of a plain function."""
    own = Parameters.of_function(function)
    inner = Parameters.of_callable(function) if hasattr(function, "__wrapped__") else None
    if not own.writable:
        own = Parameters(varargs=f"{PREFIX}args", varkw=f"{PREFIX}kwargs")
        inner = inner or Parameters.of_function(function)
    this = None
    if bound:
        this = own.positional[0] if own.positional else f"{own.varargs}[0]"
    return Target(
        name=name,
        label=label_of(owner, name, inner or own),
        owner=owner,
        parameters=own,
        arguments=Arguments(own, inner, bound=int(bound)),
        this=this,
        call=f"{PREFIX}original({own.forwarded()})",
        style=style_of(function),
        scope=scope,
        looks_up=bound,
    )


def label_of(owner: str, name: str, parameters: Parameters) -> str:
    """A method's signature in words, for messages."""
    return f"{owner + '.' if owner else ''}{name}({parameters.declaration()})"


def inherited_target(
    cls: type, name: str, function: Any, bound: bool, scope: bool
) -> tuple[Target, dict[str, Any]]:
    """A wrapper for what the class inherits goes on along the instance's own resolution order,
    as the call would without it: another class may stand between."""
    this = f"{PREFIX}this"
    own = Parameters(
        (this,) if bound else (),
        positional_only=int(bound),
        varargs=f"{PREFIX}args",
        varkw=f"{PREFIX}kwargs",
    )
    inner = Parameters.of_callable(function)
    start = f"{PREFIX}super({PREFIX}class, {this if bound else PREFIX + 'class'})"
    target = Target(
        name=name,
        label=label_of(cls.__name__, name, inner or own),
        owner=cls.__name__,
        parameters=own,
        arguments=Arguments(own, inner, bound=int(bound)),
        this=this if bound else None,
        call=f"{start}.{name}({own.forwarded(int(bound))})",
        style=style_of(function),
        scope=scope,
        looks_up=bound,
        way=INHERITED,
    )
    return target, {"super": super, "class": cls}


def c_method_target(cls: type, name: str, function: Any, scope: bool) -> Target:
    """The target for a method that is no Python function: called on the instance, unread."""
    own = Parameters(
        (f"{PREFIX}this",),
        positional_only=1,
        varargs=f"{PREFIX}args",
        varkw=f"{PREFIX}kwargs",
    )
    inner = Parameters.of_callable(function)
    return Target(
        name=name,
        label=label_of(cls.__name__, name, inner or own),
        owner=cls.__name__,
        parameters=own,
        arguments=Arguments(own, inner, bound=1),
        this=f"{PREFIX}this",
        call=f"{PREFIX}original({own.forwarded()})",
        style=style_of(function),
        scope=scope,
    )


def wrapped_target(cls: type, name: str, value: Any, scope: bool) -> Target:
    """The target for a wrapper that wrapt calls: `(wrapped, instance, args, kwargs)`."""
    wrapped, instance, args, kwargs = (
        f"{PREFIX}{part}" for part in ("wrapped", "instance", "args", "kwargs")
    )
    inner = Parameters.of_callable(value)
    if inner is not None:
        inner.positional = inner.positional[1:]
        inner.positional_only = max(0, inner.positional_only - 1)
    packed = Parameters(varargs=args, varkw=kwargs)
    return Target(
        name=name,
        label=label_of(cls.__name__, name, inner or packed),
        owner=cls.__name__,
        parameters=Parameters((wrapped, instance, args, kwargs)),
        arguments=Arguments(packed, inner, bound=0),
        this=instance,
        call=f"{wrapped}(*{args}, **{kwargs})",
        style=style_of(value),
        scope=scope,
        way=BY_WRAPT,
    )
