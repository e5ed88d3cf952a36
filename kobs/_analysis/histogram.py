"""A histogram of bounded size for values of any magnitude."""

from math import exp2, floor, isfinite, log2, nan
from typing import NamedTuple

FINEST_SCALE = 4
MOST_BUCKETS = 320


class HistogramSnapshot(NamedTuple):
    """What a histogram held at a moment, in the unit of its values.

    Bucket i holds the values from `base**i` to below `base**(i + 1)`, with
    `base = 2 ** (2 ** -scale)`: the exponential histogram of OpenTelemetry's data model, but for
    values that lie on an edge to the last bit.
    """

    count: int  # type: ignore[assignment]
    total: float
    minimum: float
    """nan where there is no value."""
    maximum: float
    scale: int
    zero_count: int
    """Values of 0 and below."""
    buckets: tuple[tuple[int, int], ...]
    """(i, how many), by i."""

    @property
    def mean(self) -> float:
        """The arithmetic mean; nan where there is no value."""
        return self.total / self.count if self.count else nan

    @property
    def p50(self) -> float:
        """The median."""
        return self.percentile(50)

    @property
    def p95(self) -> float:
        """95 of 100 values are at most this."""
        return self.percentile(95)

    @property
    def p99(self) -> float:
        """99 of 100 values are at most this."""
        return self.percentile(99)

    def percentile(self, q: float) -> float:
        """About the value below which `q` percent lie (0 to 100): the geometric middle of its
        bucket, within 2.2 % of a true one at the finest scale; nan where there is no value."""
        if not self.count:
            return nan
        rank = (self.count - 1) * q / 100
        seen = self.zero_count
        if rank < seen:
            return min(0.0, self.maximum)
        for index, number in self.buckets:
            seen += number
            if rank < seen:
                middle = exp2((index + 0.5) * exp2(-self.scale))
                return min(max(middle, self.minimum), self.maximum)
        return self.maximum

    def to_dict(self) -> dict[str, float | int | None]:
        """As JSON can write it; what is not known is None."""
        names = ("mean", "minimum", "maximum", "p50", "p95", "p99")
        numbers = {name: getattr(self, name) for name in names}
        return {
            "count": self.count,
            "total": self.total,
            **{name: None if number != number else number for name, number in numbers.items()},
        }


class Histogram:
    """Counts values in exponential buckets: 320 at most, whatever comes.

    It begins with buckets 4.4 % wide; where the values span more than fits, neighbours are
    merged in pairs, which doubles the width's logarithm. See C. Masson and others, "DDSketch"
    (2019), and OpenTelemetry's exponential histogram.
    """

    __slots__ = ("_buckets", "_factor", "_scale", "_zeros", "count", "maximum", "minimum",
                 "rejected", "total")  # fmt: skip

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._scale = FINEST_SCALE
        self._factor = 2.0**FINEST_SCALE
        self._zeros = 0
        self.count = 0
        self.total = 0.0
        self.minimum = nan
        self.maximum = nan
        self.rejected = 0
        """Values that were nan or infinite."""

    def observe(self, value: float) -> None:
        """Count a value."""
        if not isfinite(value):
            self.rejected += 1
            return
        self.count += 1
        self.total += value
        if not value >= self.minimum:
            self.minimum = value
        if not value <= self.maximum:
            self.maximum = value
        if value <= 0:
            self._zeros += 1
            return
        index = floor(log2(value) * self._factor)
        known = self._buckets.get(index)
        if known is None and len(self._buckets) >= MOST_BUCKETS:
            self._merge()
            self._buckets[index >> 1] = self._buckets.get(index >> 1, 0) + 1
        else:
            self._buckets[index] = (known or 0) + 1

    def snapshot(self) -> HistogramSnapshot:
        """What it holds now."""
        return HistogramSnapshot(
            self.count, self.total, self.minimum, self.maximum, self._scale, self._zeros,
            tuple(sorted(self._buckets.items())),
        )  # fmt: skip

    def _merge(self) -> None:
        merged: dict[int, int] = {}
        for index, number in self._buckets.items():
            merged[index >> 1] = merged.get(index >> 1, 0) + number
        self._buckets = merged
        self._scale -= 1
        self._factor /= 2
