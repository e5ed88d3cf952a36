"""Values that are far from what they were so far: online, in constant memory a metric."""

from collections.abc import Callable
from math import isfinite
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from kobs._analysis.baselines import METHODS, Baseline, Ewma, Mad, ZScore, distance
from kobs.config import anomaly_threshold
from kobs.errors import ConfigError

if TYPE_CHECKING:
    from kobs._core._native import Detector as NativeDetector

__all__ = ["METHODS", "Anomaly", "Baseline", "Detector", "Ewma", "Mad", "ZScore"]

_SECOND = 1_000_000_000
_REACH = 3.0
"""How far out an anomaly may lie, in thresholds, and enter the baseline as it is. At 1, the spread
of log-normal latencies is learned too small and twice as many of them are told (measured)."""


class Anomaly(NamedTuple):
    """A value that is far from what was usual."""

    metric: str
    value: float
    expected: float
    """What is usual: the mean (zscore, ewma) or the median (mad) so far."""
    deviation: float
    """How far out, in standard deviations; 1,000,000 at most."""
    count: int  # type: ignore[assignment]
    """Anomalies of this metric that this one stands for: itself, and those that were kept back
    since the last one that was told."""


class Detector:
    """Watches any number of metrics for values that are out of the ordinary.

    `threshold`: how many standard deviations make an anomaly. `min_samples`: values before the
    first verdict. `method`: `"zscore"`, `"ewma"`, `"mad"`, a name added to `METHODS`, or a
    callable that makes a `Baseline`. At most one anomaly a metric is told every `interval_s`
    seconds, with a count. Latencies are skewed: three standard deviations alone flag some 2 %
    of them.

    An anomalous value enters the baseline at three times the threshold at most, so that one
    outlier does not make the next look normal, and a metric with a long tail is still learned as
    it is; of several in a row only the first does. After `min_samples` in a row, that is what is
    normal now: the baseline begins anew with them.

    At most `max_metrics` metrics are kept; of more, those that were not seen for longest are
    forgotten (`forgotten` counts them). Values that are not finite are ignored (`rejected`).
    Raises `ConfigError` for an argument that is not allowed.
    """

    def __init__(
        self,
        *,
        threshold: float = 3.0,
        min_samples: int = 30,
        method: str | Callable[[], Baseline] = "zscore",
        max_metrics: int = 1024,
        interval_s: float = 1.0,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        self.threshold = anomaly_threshold(threshold)
        self.min_samples = _count(min_samples, "min_samples", 2)
        self.forgotten = 0
        """Metrics that had to make room for others."""
        self.rejected = 0
        """Values that were nan or infinite."""
        self.suppressed = 0
        """Anomalies kept back so far, over all metrics; `Anomaly.count` tells them later."""
        self._threshold_squared = self.threshold**2
        self._make = _method(method)
        self._interval = int(_seconds(interval_s) * _SECOND)
        self._clock = clock
        # Two generations make a forgetful table without bookkeeping on each use: what is used
        # moves to the young one; when that is full the old one goes.
        self._generation = max(1, _count(max_metrics, "max_metrics", 2) // 2)
        self._young: dict[str, _Metric] = {}
        self._old: dict[str, _Metric] = {}

    def observe(self, metric: str, value: float, *, now_ns: int | None = None) -> Anomaly | None:
        """Take in a value; an `Anomaly` if it is one and is to be told now.

        `now_ns` is the moment (default: the clock). May be called from many threads: two at
        once may lose a sample, no more.
        """
        known = self._young.get(metric) or self._find(metric)
        accept = known.accept
        if accept is not None and accept(value, self._threshold_squared):
            return None
        if not isfinite(value):
            self.rejected += 1
            return None
        baseline = known.baseline
        if baseline.count < self.min_samples:
            baseline.learn(value)
            if baseline.count == self.min_samples:
                known.hurry()
            return None
        expected, spread = baseline.judge(value)
        deviation = distance(value, expected, spread)
        if deviation <= self.threshold:
            known.successor = None
            known.hurry()
            baseline.learn(value)
            return None
        if known.successor is None:
            reach = _REACH * self.threshold * spread
            baseline.learn(min(max(value, expected - reach), expected + reach))
        self._learn_anew(known, value)
        now = self._clock() if now_ns is None else now_ns
        known.count += 1
        if known.told is not None and now - known.told < self._interval:
            self.suppressed += 1
            return None
        known.told = now
        count, known.count = known.count, 0
        return Anomaly(metric, value, expected, deviation, count)

    def native(self, core: Any, tell: Callable[..., None]) -> "NativeDetector | None":
        """The C core's detector that says of durations what this one would, and `tell`s it
        (type, name, value, expected, deviation, count, event); None for another method than
        the z-score, which it does not know. For kobs's own modules."""
        if self._make is not ZScore:
            return None
        made: NativeDetector = core.Detector(
            threshold=self.threshold,
            threshold_squared=self._threshold_squared,
            min_samples=self.min_samples,
            reach=_REACH,
            generation=self._generation,
            interval_ns=self._interval,
            tell=tell,
        )
        return made

    def baseline(self, metric: str) -> Baseline | None:
        """What was learned of a metric; None if it is not known."""
        known = self._young.get(metric) or self._old.get(metric)
        return None if known is None else known.baseline

    @property
    def metrics(self) -> list[str]:
        """The metrics that are known."""
        return [*self._old, *self._young]

    def reset(self) -> None:
        """Forget all that was learned."""
        self._young = {}
        self._old = {}
        self.forgotten = self.rejected = self.suppressed = 0

    def _find(self, metric: str) -> "_Metric":
        known = self._old.pop(metric, None) or _Metric(self._make())
        if len(self._young) >= self._generation:
            self.forgotten += len(self._old)
            self._old = self._young
            self._young = {}
        self._young[metric] = known
        return known

    def _learn_anew(self, known: "_Metric", value: float) -> None:
        known.accept = None
        successor = known.successor
        if successor is None:
            successor = known.successor = self._make()
        successor.learn(value)
        if successor.count >= self.min_samples:
            known.baseline = successor
            known.successor = None
            known.hurry()


class _Metric:
    """What the detector keeps of a metric."""

    __slots__ = ("accept", "baseline", "count", "successor", "told")

    def __init__(self, baseline: Baseline) -> None:
        self.accept: Callable[[float, float], bool] | None = None
        """The baseline's short way for normal values, if it has one and nothing else has to be
        done about them."""
        self.baseline = baseline
        self.successor: Baseline | None = None
        """Learns from anomalies in a row, and takes over if they do not end."""
        self.told: int | None = None
        self.count = 0

    def hurry(self) -> None:
        """Take the short way from here on."""
        self.accept = getattr(self.baseline, "accept", None)


def _method(given: object) -> Callable[[], Baseline]:
    if isinstance(given, str):
        found = METHODS.get(given)
        if found is None:
            from kobs import hooks

            added = hooks.detectors()
            if given not in added:
                known = ", ".join((*METHODS, *added))
                raise ConfigError(f"method={given!r}: expected one of {known}")
            found = added[given]
        return found
    if not callable(given):
        raise ConfigError(
            f"method={given!r}: expected one of {', '.join(METHODS)}, "
            "or a callable that makes a Baseline"
        )
    made = given()
    missing = [name for name in ("count", "judge", "learn") if not hasattr(made, name)]
    if missing:
        raise ConfigError(f"method={given!r}: what it makes has no {', '.join(missing)}")
    return given


def _count(given: object, name: str, least: int) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise ConfigError(f"{name}={given!r}: expected an int, {least} or more")
    return given


def _seconds(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < 1e9:
        raise ConfigError(f"interval_s={given!r}: expected a number of seconds, 0 or more")
    return float(given)
