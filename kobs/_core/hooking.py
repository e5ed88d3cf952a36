"""Hooks of built-in functions: the C core calls them from the function's C entry, the Python core
has none (the watches put stand-ins in the functions' places then)."""

from collections.abc import Callable
from functools import partial
from typing import Any

from kobs._core import select
from kobs.errors import KobsError


def _native() -> Any:
    try:
        core = select()
    except KobsError:  # told to whoever makes a collector
        return None
    return getattr(core, "hooks", None)


native: Any = _native()
"""The extension module, with `Hook`, `TimedHook` and `Busy`; None with the Python core."""


def unseen(function: Callable[..., Any]) -> Callable[..., Any]:
    """What the interpreter itself calls, for instance when an object goes: with the C core nothing
    of it is seen by the program's profilers and debuggers."""
    return function if native is None else partial(native.call_unseen, function)
