"""What is usual for a metric, learned online in constant memory.

A method is any class with `count`, `judge` and `learn` (`Baseline`); `Detector(method=...)` takes
its class, or the name it has in `METHODS`.
"""

from collections.abc import Callable
from math import sqrt
from typing import Protocol

LARGEST_DEVIATION = 1e6
"""No deviation is told larger than this: from a constant, every distance is without bound."""

_RESOLUTION = 1e-6
"""A spread smaller than this share of the mean is taken for this: a constant metric has none."""
_SMALLEST_SPREAD = 1e-9
"""The same where the mean is 0."""


class Baseline(Protocol):
    """What a metric's values were so far."""

    count: int
    """Values learned."""

    def judge(self, value: float) -> tuple[float, float]:
        """(what was expected, the spread): how far `value` is out is their distance over the
        spread, in standard deviations. Before the first value (0, 0)."""
        ...

    def learn(self, value: float) -> None:
        """Take a value in."""
        ...


class ZScore:
    """Mean and standard deviation of all values.

    B. P. Welford, "Note on a method for calculating corrected sums of squares and products",
    Technometrics 4 (1962): exact in one pass, no catastrophic cancellation.
    """

    __slots__ = ("_squares", "count", "mean")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    @property
    def deviation(self) -> float:
        """The population standard deviation."""
        return sqrt(max(0.0, self._squares) / self.count) if self.count else 0.0

    def judge(self, value: float) -> tuple[float, float]:
        return self.mean, self.deviation

    def learn(self, value: float) -> None:
        count = self.count + 1
        distance = value - self.mean
        mean = self.mean + distance / count
        self._squares += distance * (value - mean)
        self.mean = mean
        self.count = count

    def accept(self, value: float, threshold_squared: float) -> bool:
        """`judge` and `learn` in one, for the many values that are plainly normal: false, and
        nothing learned, where the value may be an anomaly."""
        count = self.count
        mean = self.mean
        distance = value - mean
        squares = self._squares
        if not 0.0 < distance * distance * count <= threshold_squared * squares and distance:
            return False
        count += 1
        step = distance / count
        self._squares = squares + distance * (distance - step)
        self.mean = mean + step
        self.count = count
        return True


class Ewma:
    """Exponentially weighted mean and deviation: the last `span` values or so, for metrics that
    drift.

    T. Finch, "Incremental calculation of weighted mean and variance" (2009), section 9. The
    first values weigh alike, so that the baseline does not hang on the very first.
    """

    __slots__ = ("_variance", "_weight", "count", "mean")

    def __init__(self, span: int = 100) -> None:
        self.count = 0
        self.mean = 0.0
        self._variance = 0.0
        self._weight = 2.0 / (span + 1)

    def judge(self, value: float) -> tuple[float, float]:
        return self.mean, sqrt(max(0.0, self._variance))

    def learn(self, value: float) -> None:
        self.count += 1
        weight = max(self._weight, 1.0 / self.count)
        distance = value - self.mean
        step = weight * distance
        self.mean += step
        self._variance = (1 - weight) * (self._variance + distance * step)


class Mad:
    """Median and median absolute deviation of the last `window` values: outliers and skew move
    it little.

    F. R. Hampel, "The influence curve and its role in robust estimation" (1974); times 1.4826
    the median deviation is the standard deviation of a normal distribution. Where more than half
    of the values are the same, the mean deviation times 1.2533 stands in for it (Iglewicz and
    Hoaglin, "How to Detect and Handle Outliers", 1993). Taken anew every eighth value.
    """

    __slots__ = ("_at", "_fresh", "_median", "_spread", "_window", "count")

    def __init__(self, window: int = 128) -> None:
        self.count = 0
        self._window = [0.0] * window
        self._at = 0
        self._median = self._spread = 0.0
        self._fresh = False

    def judge(self, value: float) -> tuple[float, float]:
        if not self._fresh:
            self._fresh = True
            values = sorted(self._window[: self.count])
            self._median = _median(values)
            distances = sorted(abs(v - self._median) for v in values)
            self._spread = 1.4826 * _median(distances)
            if not self._spread and distances:
                self._spread = 1.2533 * sum(distances) / len(distances)
        return self._median, self._spread

    def learn(self, value: float) -> None:
        self._window[self._at] = value
        self._at = (self._at + 1) % len(self._window)
        self.count += 1
        if self.count % 8 == 0 or self.count < 64:
            self._fresh = False


METHODS: dict[str, Callable[[], Baseline]] = {"zscore": ZScore, "ewma": Ewma, "mad": Mad}
"""The methods by name; add to it to give one of your own a name."""


def distance(value: float, expected: float, spread: float) -> float:
    """How far `value` is from what was expected, in standard deviations, never below 0."""
    least = max(_RESOLUTION * abs(expected), _SMALLEST_SPREAD)
    # In this order a mean that values near the largest number have made nan gives the largest.
    return min(LARGEST_DEVIATION, abs(value - expected) / max(least, spread))


def _median(values: list[float]) -> float:
    if not values:
        return 0.0
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
