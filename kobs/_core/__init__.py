"""Rings: the format, the contract that cores fulfil, and the selector that picks one."""

import os
import sys
from typing import TYPE_CHECKING

from kobs.errors import ConfigError, CoreUnavailableError

if TYPE_CHECKING:
    from kobs._core.contract import Core

CORES = ("c", "python")
"""The best first."""


def select(wanted: str | None = None) -> "Core":
    """The core to use: `wanted`, else what `KOBS_CORE` names, else the best there is.

    Raises `ConfigError` for a name that no core has, and `CoreUnavailableError` where the core
    that was asked for is not to be had here: a core that was asked for is never replaced silently.
    """
    asked = wanted or os.environ.get("KOBS_CORE") or None
    if asked is not None and asked not in CORES:
        raise ConfigError(f"KOBS_CORE={asked!r}; it must be 'c' or 'python'")
    if asked != "python":
        try:
            from kobs._core import native

            return native
        except (ImportError, CoreUnavailableError) as error:
            if asked == "c":
                raise CoreUnavailableError(
                    f"KOBS_CORE=c was asked for, but {why_not(error)}; "
                    "unset KOBS_CORE or set KOBS_CORE=python"
                ) from None
            _say_once(why_not(error))
    from kobs._core import python

    return python


def why_not(error: Exception) -> str:
    """Why the C core is not to be had, in words."""
    if isinstance(error, ModuleNotFoundError) and error.name == "kobs._core._native":
        return (
            "the C core is not built here for Python "
            f"{sys.version_info.major}.{sys.version_info.minor} (there was no compiler when kobs "
            "was installed)"
        )
    return str(error)


fallen_back: list[str] = []
"""Why the Python core was taken though nobody asked for it."""


def _say_once(reason: str) -> None:
    if not fallen_back:
        fallen_back.append(reason)
        # Who wants to know has logging already; nobody else is to pay for its import.
        if "logging" in sys.modules:
            sys.modules["logging"].getLogger("kobs").debug("Python core: %s", reason)
