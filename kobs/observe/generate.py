"""Wrappers as straight-line code: a function with the very parameters of what it wraps.

A generated function costs one call and no packing of arguments, is a function, coroutine
function, generator function or async generator function as the original is, and reports a wrong
call in the original's words. It delegates step by step where it must know how long something ran
without the time that it was suspended.

Everything it uses sits in closure cells (their names begin with `_kobs_`): its globals are the
original's, so that whatever looks names up through a function finds the same module.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

from kobs.errors import ObserveError
from kobs.inside import FILENAME
from kobs.observe.emissions import Emission
from kobs.observe.parameters import PREFIX, Parameters
from kobs.observe.targets import CO_ITERABLE_COROUTINE, Target, target_of
from kobs.observe.writing import Writer, indent

Words = tuple[tuple[str, ...], Callable[..., dict[str, Any]]]
"""Parameters of a wrapper, and a function of them."""


def check(function: Any, emission: Emission, *, static: bool) -> None:
    """Raise `ObserveError` if an emission does not fit a function that is being decorated."""
    if not isinstance(function, FunctionType):
        return
    outer, _, name = function.__qualname__.rpartition(".")
    owner = "" if outer.endswith("<locals>") else outer.rpartition(".")[2]
    bound = not static and bool(owner)
    try:
        Writer(target_of(function, owner=owner, name=name, bound=bound), (emission,)).source()
    except ObserveError:
        if not bound:
            raise
        try:  # @staticmethod may stand above @emits
            Writer(target_of(function, owner=owner, name=name, bound=False), (emission,)).source()
        except ObserveError:
            pass
        else:
            return
        raise


def build(
    target: Target, emissions: tuple[Emission, ...], names: dict[str, Any], like: Any
) -> FunctionType:
    """The wrapper: a function in whose closure are `names` (`original`, `route`, `lookup`,
    `failed`, `site`), and that in all else is like `like`."""
    writer = Writer(target, emissions)
    body = writer.source()
    cells = {f"{PREFIX}{name}": value for name, value in names.items()} | writer.names
    source = [f"def factory({', '.join(cells)}):", *indent(body), f"    return {PREFIX}wrapper"]
    space: dict[str, Any] = {}
    exec(compile("\n".join(source), FILENAME, "exec"), space)
    made: FunctionType = space["factory"](**cells)
    code = made.__code__
    flags = code.co_flags
    if getattr(getattr(like, "__code__", None), "co_flags", 0) & CO_ITERABLE_COROUTINE:
        flags |= CO_ITERABLE_COROUTINE
    name = getattr(like, "__name__", target.name)
    qualname = getattr(like, "__qualname__", name)
    code = code.replace(co_name=name, co_qualname=qualname, co_flags=flags)
    space = getattr(like, "__globals__", None) or space
    wrapper = FunctionType(code, space, name, None, made.__closure__)
    dress(wrapper, like, parameters=target.parameters)
    return wrapper


def words(target: Target, emission: Emission) -> Words:
    """What gives the fields of an emission that are known when the wrapper is called."""
    writer = Writer(target, (emission,))
    known = ", ".join(f"{name!r}: {value}" for name, value in writer.known(emission).items())
    parameters = target.parameters.names
    space: dict[str, Any] = dict(writer.names)
    source = f"lambda {', '.join(parameters)}: {{{known}}}"
    return parameters, eval(compile(source, "<kobs words>", "eval"), space)


def dress(wrapper: FunctionType, like: Any, *, parameters: Parameters) -> None:
    """Give a wrapper everything about the original that can be asked for."""
    wrapper.__dict__.update(getattr(like, "__dict__", {}))
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__", "__type_params__"):
        if hasattr(like, attribute):
            setattr(wrapper, attribute, getattr(like, attribute))
    if isinstance(like, FunctionType):
        if parameters.names == Parameters.of_function(like).names:
            wrapper.__defaults__ = like.__defaults__
            wrapper.__kwdefaults__ = like.__kwdefaults__
        wrapper.__annotations__ = like.__annotations__
    else:
        wrapper.__annotations__ = dict(getattr(like, "__annotations__", None) or {})
    wrapper.__wrapped__ = like  # type: ignore[attr-defined]
