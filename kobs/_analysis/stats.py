"""Numbers about many values: count, mean, total and exact percentiles."""

from collections.abc import Iterable
from math import isfinite, nan
from typing import TYPE_CHECKING

from kobs.errors import ConfigError

if TYPE_CHECKING:
    from typing import Self

    from kobs._core._native import Sample


class Stats:
    """What a set of numbers looks like, in the unit they had.

    Percentiles are exact, by linear interpolation between closest ranks (type 7 of Hyndman and
    Fan, "Sample Quantiles in Statistical Packages", 1996; NumPy's default and
    `statistics.quantiles(method="inclusive")`). Without any value `count` is 0 and everything
    else but `total` is nan, which is neither below nor above a limit. Values that are not
    finite are left out and counted in `rejected`.
    """

    __slots__ = ("_sample", "_sorted", "_values", "count", "rejected", "total")

    def __init__(self, values: Iterable[float] = ()) -> None:
        kept = list(values)
        given = len(kept)
        total = sum(kept)
        if not isfinite(total):  # rare, so looked for only where the sum tells
            kept = [value for value in kept if isfinite(value)]
            total = sum(kept)
        self._sample: Sample | None = None
        self._values: list[float] | None = kept
        self._sorted = False
        self.count = len(kept)
        """How many values."""
        self.rejected = given - len(kept)
        """Values left out for not being finite."""
        self.total = float(total)
        """Their sum."""

    @classmethod
    def of_sample(cls, sample: "Sample") -> "Self":
        """Of values that the C core has."""
        made = cls.__new__(cls)
        made._sample = sample
        made._values = None
        made._sorted = False
        made.count = sample.count
        made.rejected = sample.rejected
        made.total = sample.total
        return made

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return self.total / self.count if self.count else nan

    @property
    def minimum(self) -> float:
        """The least value."""
        return self.percentile(0)

    @property
    def maximum(self) -> float:
        """The greatest value."""
        return self.percentile(100)

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
        """The value below which `q` percent lie, `q` from 0 to 100.

        Raises `ConfigError` for a `q` outside that range.
        """
        if not 0 <= q <= 100:
            raise ConfigError(f"percentile({q!r}): expected a number from 0 to 100")
        if self._sample is not None and isinstance(q, int | float):
            return self._sample.percentile(q)
        values = self._list()
        if not values:
            return nan
        if not self._sorted:
            values.sort()
            self._sorted = True
        rank = (len(values) - 1) * q / 100
        below = int(rank)
        low = values[below]
        part = rank - below
        return low + (values[below + 1] - low) * part if part else low

    def to_dict(self) -> dict[str, float | int | None]:
        """As JSON can write it; what is not known is None."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return {
            "count": self.count,
            "total": self.total,
            **{name: None if number != number else number for name, number in numbers.items()},
        }

    def _list(self) -> list[float]:
        if self._values is None:
            assert self._sample is not None
            self._values = self._sample.values()
        return self._values

    def __bool__(self) -> bool:
        return self.count > 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stats):
            return NotImplemented
        return sorted(self._list()) == sorted(other._list())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not self.count:
            return f"{type(self).__name__}(count=0)"
        numbers = ", ".join(f"{name}={getattr(self, name):.6g}" for name in _NUMBERS)
        return f"{type(self).__name__}(count={self.count}, {numbers})"


class DurationStats(Stats):
    """`Stats` of durations, in microseconds whatever unit the events had."""

    __slots__ = ()


_NUMBERS = ("mean", "minimum", "maximum", "p50", "p95", "p99")
