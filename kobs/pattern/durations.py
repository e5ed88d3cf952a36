"""Lengths of time as they are written in patterns: `"5ms"`, `"1.5 s"`, a `timedelta`."""

import re
from datetime import timedelta

from kobs.errors import PatternError

_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zµ]+)\s*")


def nanoseconds_of(given: object, where: str) -> int:
    """A length of time in nanoseconds; `where` names the argument in the error.

    Raises `PatternError` for a number without a unit, for what is not understood, and for what is
    not longer than nothing.
    """
    if isinstance(given, timedelta):
        found = given // timedelta(microseconds=1) * 1000
    elif isinstance(given, str):
        match = _WRITTEN.fullmatch(given.replace("\u03bc", "µ"))
        if match is None or match[2] not in _UNITS:
            raise PatternError(
                f"{where}={given!r}: expected a number and a unit, one of "
                f"{', '.join(dict.fromkeys(_UNITS))}: '5ms', '1.5 s'"
            )
        found = round(float(match[1]) * _UNITS[match[2]])
    elif isinstance(given, int | float) and not isinstance(given, bool):
        raise PatternError(
            f"{where}={given!r}: of which unit? Write '{given}ms', '{given}s', or a timedelta"
        )
    else:
        raise PatternError(
            f"{where}={given!r}: expected a length of time, such as '5ms' or a timedelta"
        )
    if found <= 0:
        raise PatternError(f"{where}={given!r}: nothing happens within no time; give more than 0")
    return found


def written(nanoseconds: int) -> str:
    """A length of time as it is written in a pattern: `5ms`, `1.5s`."""
    for unit in ("min", "s", "ms", "us"):
        if nanoseconds >= _UNITS[unit]:
            return f"{nanoseconds / _UNITS[unit]:.6g}{unit}"
    return f"{nanoseconds}ns"
