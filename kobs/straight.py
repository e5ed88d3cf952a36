"""Methods of the collector that make an event: in C where the C core is to be had.

What is decorated here is a Python method, and stays one with the Python core. With the C core it
is called only where a call is not plain: for the first event of a type, and where something does
not fit, of which it says what.
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from kobs.errors import CoreUnavailableError
from kobs.events import Event
from kobs.schema import PayloadType

if TYPE_CHECKING:
    from kobs._core._native import Method

F = TypeVar("F", bound=Callable[..., int])


def makes(
    cls: type[PayloadType],
    *,
    levels: Sequence[tuple[int, int]] = (),
    **chosen: tuple[str, object, object],
) -> Callable[[F], F]:
    """Decorate a method that makes an event of a payload type: its parameters are `pid` and fields
    by their names. `chosen`: a parameter that is a bool, as (field, value if false, value if true).
    `levels`: the severity goes by the first field, as (above, severity), rising; the type's own
    below them all."""

    def decorate(function: F) -> F:
        method = _method()
        if method is None:
            return function
        code = function.__code__
        fields = cls.__kobs_schema__.field_names
        parameters: list[tuple[str, int] | tuple[str, int, object, object]] = []
        for name in code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]:
            if name in chosen:
                field, *values = chosen[name]
                parameters.append((name, fields.index(field), values[0], values[1]))
            else:
                parameters.append((name, -1 if name == "pid" else fields.index(name)))
        made: Any = method(function, cls, tuple(parameters), tuple(levels))
        return made  # type: ignore[no-any-return]

    return decorate


def takes_payload(function: F) -> F:
    """Decorate `emit`."""
    method = _method()
    if method is None:
        return function
    made: Any = method(function, Event)
    return made  # type: ignore[no-any-return]


def _method() -> "type[Method] | None":
    """What makes a method in C; None with the Python core."""
    if os.environ.get("KOBS_CORE") == "python":
        return None
    try:
        from kobs._core import native
    except (ImportError, CoreUnavailableError):  # a collector that is made says it
        return None
    return native.Method
