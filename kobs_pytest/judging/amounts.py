"""Amounts in budgets: numbers of events, durations, bytes; from text, and as text.

PYTEST_DONT_REWRITE
"""

import re
from collections.abc import Mapping
from datetime import timedelta

from kobs.errors import ConfigError

_US = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6, "min": 60e6}
_BYTES = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-zµ]+)\s*")


def number(value: object, where: str) -> float:
    """A number of events. Raises `ConfigError`."""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{where}={value!r}: expected a number of events, 0 or more")
    return float(value)


def microseconds(value: object, where: str) -> float:
    """A duration: a `timedelta`, or a number with its unit. Raises `ConfigError`."""
    if isinstance(value, timedelta):
        return value / timedelta(microseconds=1)
    return _with_unit(value, where, _US, "a duration with its unit, such as '5ms', or a timedelta")


def size(value: object, where: str) -> float:
    """A number of bytes: an integer, or a number with its unit. Raises `ConfigError`."""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return float(value)
    return _with_unit(value, where, _BYTES, "a number of bytes, or one with its unit, as '64KiB'")


def _with_unit(value: object, where: str, units: Mapping[str, float], expected: str) -> float:
    found = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[2] not in units:
        raise ConfigError(f"{where}={value!r}: expected {expected} (units: {', '.join(units)})")
    return float(found[1]) * units[found[2]]


def shown(amount: float, unit: str) -> str:
    """An amount in a table; `unit` is events, us or bytes."""
    if amount != amount:
        return "-"
    if unit == "us":
        for name in ("s", "ms"):
            if amount >= _US[name]:
                return f"{amount / _US[name]:.4g} {name}"
        return f"{amount:.4g} us"
    if unit == "bytes":
        for name in ("GiB", "MiB", "KiB"):
            if amount >= _BYTES[name]:
                return f"{amount / _BYTES[name]:.4g} {name}"
        return f"{amount:g} B"
    return f"{amount:g}"
