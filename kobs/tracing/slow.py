"""From when a span is slow."""

import sys
from array import array

from kobs.errors import ConfigError
from kobs.levels import Category

_SYSCALL = int(Category.SYSCALL)
_NETWORK = int(Category.NETWORK)
_PERFORMANCE = int(Category.PERFORMANCE)

slow_ms = array("d", [float("inf")] * len(Category))
"""Milliseconds, by the category of the span. The C core looks at the very numbers."""
slow_ms[_SYSCALL] = 10.0
slow_ms[_NETWORK] = slow_ms[_PERFORMANCE] = 100.0


def set_slow_thresholds(
    *, syscall_ms: float | None = None, operation_ms: float | None = None
) -> tuple[float, float]:
    """Set from how many milliseconds system calls and operations are slow; None leaves a
    threshold. Returns what they were before. Raises `ConfigError` for less than 0."""
    check_slow_thresholds(syscall_ms=syscall_ms, operation_ms=operation_ms)
    before = slow_ms[_SYSCALL], slow_ms[_PERFORMANCE]
    if syscall_ms is not None:
        slow_ms[_SYSCALL] = float(syscall_ms)
    if operation_ms is not None:
        slow_ms[_PERFORMANCE] = slow_ms[_NETWORK] = float(operation_ms)
    return before


def check_slow_thresholds(**thresholds: float | None) -> None:
    """Raises `ConfigError` for a threshold below 0."""
    for name, value in thresholds.items():
        if value is not None and not value >= 0:
            raise ConfigError(f"{name}={value}: expected milliseconds, 0 or more")


def warn_slow(name: str, is_syscall: bool, took_ms: float, threshold_ms: float) -> None:
    """Warn of a slow span in the program's log, where it has one: the logger `kobs.tracing`."""
    logging = sys.modules.get("logging")
    if logging is None:
        return
    logger = logging.getLogger("kobs.tracing")
    if logger.hasHandlers():  # else it would go to standard error, which is the program's
        what = "system call" if is_syscall else "operation"
        logger.warning(
            "%s %s took %.1f ms, slow is %.6g ms or more", what, name, took_ms, threshold_ms
        )
