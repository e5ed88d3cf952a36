"""Hooks of built-in functions: the C core calls them from the function's C entry, the Python core
has none (the watches put stand-ins in the functions' places then)."""

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
