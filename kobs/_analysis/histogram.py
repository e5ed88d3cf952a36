"""A histogram of bounded size for values of any magnitude."""

from bisect import bisect_left
from collections.abc import Iterable
from math import ceil, exp2, frexp, isfinite, log2, nan
from typing import NamedTuple

FINEST_SCALE = 20
MOST_BUCKETS = 320

_FINEST = 1 << FINEST_SCALE

Buckets = tuple[tuple[int, int], ...]


class HistogramSnapshot(NamedTuple):
    """What a histogram held at a moment, in the unit of its values.

    Bucket i holds the values above `base**i` up to and with `base**(i + 1)`, with
    `base = 2 ** (2 ** -scale)`: the exponential histogram of OpenTelemetry's data model.
    """

    count: int  # type: ignore[assignment]
    total: float
    minimum: float
    """nan where there is no value."""
    maximum: float
    scale: int
    zero_count: int
    """Values of 0."""
    buckets: Buckets
    """(i, how many), by i."""
    negative: Buckets = ()
    """The same for values below 0, by their magnitude."""
    bounds: tuple[float, ...] = ()
    """Upper bounds that values were counted by too; none unless they were asked for."""
    by_bound: tuple[int, ...] = ()
    """How many values lie above the bound before and up to each bound; the last above all."""

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
        bucket, within 2.2 % of a true one where the largest value is up to a million times the
        smallest; nan where there is no value."""
        if not self.count:
            return nan
        rank = (self.count - 1) * q / 100
        seen = 0
        for index, number in reversed(self.negative):
            seen += number
            if rank < seen:
                return self._within(-self._middle(index))
        seen += self.zero_count
        if rank < seen:
            return 0.0
        for index, number in self.buckets:
            seen += number
            if rank < seen:
                return self._within(self._middle(index))
        return self.maximum

    def downscaled(self, most: int) -> "HistogramSnapshot":
        """The same values in buckets so wide that, of each sign, the lowest and the highest that
        holds any are less than `most` (2 or more: 1 has an edge at any scale) apart. Buckets are
        merged in pairs: every value stays in a bucket that holds it."""
        by, most = 0, max(2, most)
        for each in (self.buckets, self.negative):
            while each and (each[-1][0] >> by) - (each[0][0] >> by) >= most:
                by += 1
        return self._replace(
            scale=self.scale - by,
            buckets=_merged(self.buckets, by),
            negative=_merged(self.negative, by),
        )

    def to_dict(self) -> dict[str, float | int | None]:
        """As JSON can write it; what is not known is None."""
        names = ("mean", "minimum", "maximum", "p50", "p95", "p99")
        numbers = {name: getattr(self, name) for name in names}
        return {
            "count": self.count,
            "total": self.total,
            **{name: None if number != number else number for name, number in numbers.items()},
        }

    def _middle(self, index: int) -> float:
        try:
            return exp2((index + 0.5) * exp2(-self.scale))
        except OverflowError:
            return max(abs(self.minimum), abs(self.maximum))

    def _within(self, value: float) -> float:
        return min(max(value, self.minimum), self.maximum)


class Histogram:
    """Counts values in exponential buckets: 320 at most, whatever comes.

    It begins with buckets of a millionth of an octave; where the values fill more than fits,
    neighbours are merged in pairs, which doubles the width's logarithm. Over twenty octaves (a
    microsecond to a second) buckets end 4.4 % wide. See C. Masson and others, "DDSketch" (2019),
    and OpenTelemetry's metrics data model, "ExponentialHistogram".

    `bounds`: upper bounds, ascending, that values are counted by besides.
    """

    __slots__ = ("_bounds", "_buckets", "_by_bound", "_negative", "_shift", "_zeros", "count",
                 "maximum", "minimum", "rejected", "total")  # fmt: skip

    def __init__(self, bounds: tuple[float, ...] = ()) -> None:
        self._buckets: dict[int, int] = {}
        self._negative: dict[int, int] = {}
        self._shift = 0
        self._zeros = 0
        self._bounds = bounds
        self._by_bound = [0] * (len(bounds) + 1)
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
        if self._bounds:
            self._by_bound[bisect_left(self._bounds, value)] += 1
        if not value:
            self._zeros += 1
            return
        buckets = self._buckets if value > 0 else self._negative
        index = finest_index(abs(value))
        at = index >> self._shift
        known = buckets.get(at)
        if known is not None:
            buckets[at] = known + 1
            return
        while at not in buckets and len(self._buckets) + len(self._negative) >= MOST_BUCKETS:
            self._merge_pairs(1)
            buckets = self._buckets if value > 0 else self._negative
            at = index >> self._shift
        buckets[at] = buckets.get(at, 0) + 1

    def merge(self, other: "Histogram") -> None:
        """Count all that another one of the same bounds counted."""
        self._merge_pairs(max(0, other._shift - self._shift))
        by = self._shift - other._shift
        for own, theirs in (
            (self._buckets, other._buckets),
            (self._negative, other._negative),
        ):
            for index, number in theirs.items():
                own[index >> by] = own.get(index >> by, 0) + number
        while len(self._buckets) + len(self._negative) > MOST_BUCKETS:
            self._merge_pairs(1)
        self._by_bound = [a + b for a, b in zip(self._by_bound, other._by_bound, strict=True)]
        self._zeros += other._zeros
        self.count += other.count
        self.total += other.total
        self.rejected += other.rejected
        if not self.minimum <= other.minimum:
            self.minimum = other.minimum if other.count else self.minimum
        if not self.maximum >= other.maximum:
            self.maximum = other.maximum if other.count else self.maximum

    def snapshot(self) -> HistogramSnapshot:
        """What it holds now."""
        return HistogramSnapshot(
            self.count, self.total, self.minimum, self.maximum, FINEST_SCALE - self._shift,
            self._zeros, _sorted(self._buckets), _sorted(self._negative), self._bounds,
            tuple(self._by_bound) if self._bounds else (),
        )  # fmt: skip

    def _merge_pairs(self, by: int) -> None:
        if by:
            self._buckets = dict(_merged(self._buckets.items(), by))
            self._negative = dict(_merged(self._negative.items(), by))
            self._shift += by


def finest_index(value: float) -> int:
    """The bucket of a value above 0 at `FINEST_SCALE`; `index >> n` is its bucket n scales
    coarser.

    The mapping of OpenTelemetry's metrics data model, "ExponentialHistogram": i such that
    `base**i < value <= base**(i + 1)`, which is `ceil(log(value, base)) - 1`. Exponent and
    significand are taken apart, so that powers of two are exact and nothing else crosses one.
    """
    significand, exponent = frexp(value)  # value = significand * 2**exponent, from 0.5 to below 1
    octave = (exponent - 1) << FINEST_SCALE
    return octave + ceil(log2(2 * significand) * _FINEST) - 1


def _sorted(buckets: dict[int, int]) -> Buckets:
    return tuple(sorted(buckets.items()))


def _merged(buckets: Iterable[tuple[int, int]], by: int) -> Buckets:
    merged: dict[int, int] = {}
    for index, number in buckets:
        merged[index >> by] = merged.get(index >> by, 0) + number
    return _sorted(merged)
