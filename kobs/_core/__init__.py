"""Rings: the format, the contract that cores fulfil, and the selector that picks one."""

import os

from kobs._core.contract import Core
from kobs.errors import ConfigError, CoreUnavailableError

CORES = ("python", "c")


def select(wanted: str | None = None) -> Core:
    """The core to use: `wanted`, else what `KOBS_CORE` names, else the best there is.

    Raises `ConfigError` for a name that no core has, and `CoreUnavailableError` where the core
    that was asked for is not built here: a core that was asked for is never replaced silently.
    """
    asked = wanted or os.environ.get("KOBS_CORE") or None
    if asked is not None and asked not in CORES:
        raise ConfigError(f"KOBS_CORE={asked!r}; it must be 'python' or 'c'")
    if asked == "c":
        raise CoreUnavailableError(
            "KOBS_CORE=c was asked for, but this version of kobs has no C core; "
            "unset KOBS_CORE or set KOBS_CORE=python"
        )
    from kobs._core import python

    return python
