"""Numbers for people: durations, sizes, counts, percentiles."""

import math
from array import array

from kobs._analysis.stats import Stats

ABSENT = "·"
"""Stands where a table has nothing to say."""


def duration(us: float) -> str:
    """Microseconds in the unit that reads best, three digits: `12.3 µs`, `4.56 ms`, `2 min 3 s`."""
    if not math.isfinite(us):
        return str(us)
    if abs(us) < 0.9995:
        return f"{us * 1000:.0f} ns"
    for unit in ("µs", "ms"):
        if abs(us) < 999.5:
            return f"{_three(us)} {unit}"
        us /= 1000
    if abs(us) < 99.95:
        return f"{_three(us)} s"
    minutes, seconds = divmod(round(us), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _three(value: float) -> str:
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}"


def size(octets: float) -> str:
    """Bytes: `512 B`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(octets) < 1024:
            return f"{octets:.0f} B" if unit == "B" else f"{_three(octets)} {unit}"
        octets /= 1024
    return f"{_three(octets)} TiB"


def count(number: int, noun: str = "", plural: str = "") -> str:
    """`1 event`, `12,345 events`; the number alone without a noun."""
    if not noun:
        return f"{number:,}"
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


class Durations:
    """Durations of one operation in microseconds; at most 65,536 are kept exactly, past that
    every second one, every fourth, ... while count, total and most stay exact."""

    __slots__ = ("_step", "_values", "count", "errors", "most", "total")

    _LIMIT = 65_536

    def __init__(self) -> None:
        self._values = array("d")
        self._step = 1
        self.count = 0
        self.total = 0.0
        self.most = 0.0
        self.errors = 0
        """How many of them failed."""

    def add(self, us: float) -> None:
        """Take one more."""
        if us > self.most:
            self.most = us
        self.total += us
        if self.count % self._step == 0:
            if len(self._values) >= self._LIMIT:
                self._values = self._values[::2]
                self._step *= 2
                if self.count % self._step == 0:
                    self._values.append(us)
            else:
                self._values.append(us)
        self.count += 1

    def percentiles(self, *percents: float) -> list[float]:
        """The percentiles asked for; zeros where there is nothing."""
        stats = Stats(self._values)
        return [stats.percentile(percent) if stats else 0.0 for percent in percents]
