"""The filter syntax of `KERNEL_LOG` and `RUST_LOG`: `info,kobs.queue=debug,noisy=off`.

It is the part of Rust's `env_logger` and `tracing` that is about levels and targets. Their
conditions on spans and fields (`target[span{field=value}]=level`) and on messages (`level/regex`)
are refused: a level of standard `logging` cannot say them.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping

from kobs.errors import ConfigError

TRACE = 5
OFF = logging.CRITICAL + 10

LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "off": OFF,
}
_NUMBERS = {"0": OFF, "1": logging.ERROR, "2": logging.WARNING, "3": logging.INFO,
            "4": logging.DEBUG, "5": TRACE}  # fmt: skip
_REFUSED = {"[": "spans", "{": "fields of spans", "/": "the text of messages"}
"""Marks of conditions that Rust's filters have beside levels."""
_TARGET = re.compile(r"[\w-]+(\.[\w-]+)*")


class LogFilter:
    """A default level and levels a target (a logger and those below it)."""

    def __init__(self, default: int = logging.INFO, targets: Mapping[str, int] | None = None):
        self.default = default
        self.targets = dict(targets or {})

    @classmethod
    def parse(cls, text: str, where: str = "level") -> "LogFilter":
        """Read a filter. A bare level is the default, `target=level` is a target's, a bare target
        lets everything of it pass; the last one said wins. Raises `ConfigError` naming `where`."""
        made = cls()
        for mark, what in _REFUSED.items():
            if mark in text:
                raise ConfigError(
                    f"{where}={text}: {what} ({mark!r}) cannot be filtered by here; "
                    'expected levels and target=level, for instance "info,kobs.queue=debug"'
                )
        for directive in filter(None, (part.strip() for part in text.split(","))):
            target, equals, level = (part.strip() for part in directive.partition("="))
            number = _level(level if equals else target)
            if not equals and number is not None:
                made.default = number
                continue
            target = target.replace("::", ".")
            if not _TARGET.fullmatch(target) or (equals and number is None):
                raise ConfigError(
                    f"{where}={text}: {directive!r} is neither a level ({', '.join(LEVELS)}) "
                    'nor target=level; expected for instance "info,kobs.queue=debug"'
                )
            made.targets[target] = TRACE if number is None else number
        return made

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> "LogFilter":
        """The filter in `KERNEL_LOG`, else in `RUST_LOG`, else `info`. Raises `ConfigError`."""
        env = os.environ if environ is None else environ
        for name in ("KERNEL_LOG", "RUST_LOG"):
            if env.get(name):
                return cls.parse(env[name], name)
        return cls()

    def levels(self) -> Iterator[tuple[str, int]]:
        """(logger name, level), the root's ("") first."""
        yield "", self.default
        yield from self.targets.items()


def _level(text: str) -> int | None:
    return LEVELS.get(text.lower(), _NUMBERS.get(text))
