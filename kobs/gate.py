"""What stands between an emitter and the ring where not everything is kept, and the detector
behind it that looks at durations."""

from typing import TYPE_CHECKING, Protocol

from kobs._core.layout import FLAG_PARTIAL
from kobs.errors import ClosedError
from kobs.ids import mint_id
from kobs.levels import Severity
from kobs.payloads import AnomalyDetected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kobs._core._native import Decider as NativeDecider, Detector as NativeDetector
    from kobs._core.contract import Ring
    from kobs.anomaly import Detector
    from kobs.emitters import Emitter
    from kobs.levels import Category
    from kobs.sampling import ChainThinner, Sampler

CHAINS_REMEMBERED = 4096
"""Chains whose decision is known; the oldest are forgotten, and decided again by their id."""
CHAIN_LIMIT = 10_000
"""Events of one chain that are kept whatever their severity; see `sampling.ChainThinner`."""
CHECK_EVERY = 64
"""After this many decisions an adaptive sampler looks whether it is time to measure."""
CHECK_MS = 5.0
"""With the C core: not before this long after it last did. Looking costs as much as the events of
many decisions, and a flood makes so many in a tenth of a millisecond."""

DROP = -1
THINNED = -2
"""The chain is kept, and too long: as `DROP`, but a scope that begins is in flight all the same."""


class Owner(Protocol):
    """What the gate and the watch need of their collector."""

    ring: "Ring"

    def calibrate(self) -> "Callable[[], object]":
        """Something that costs what recording an event costs, and leaves no trace."""
        ...

    def emitter(self, cls: type[AnomalyDetected]) -> "Emitter":
        """The emitter of a payload type."""
        ...


class Gate:
    """Decides for every event of a collector that does not keep everything, or is closed.

    `up[0]` is what emitters test: while it is false, nothing here is asked.
    """

    def __init__(
        self,
        owner: Owner,
        rate: float,
        *,
        adaptive: bool,
        category_rates: "Mapping[Category, float] | None" = None,
    ) -> None:
        self._owner = owner
        self._rate = rate
        self._category_rates = dict(category_rates or {})
        self._adaptive = adaptive
        self._sampler: Sampler | None = None
        self._thinner: ChainThinner | None = None
        self._native: NativeDecider | None = None
        self._decided: dict[int, bool] = {}
        self._closed = False
        self.up = [False]
        self.set()

    @property
    def adaptive(self) -> bool:
        """Fewer chains are kept where recording costs too much."""
        return self._adaptive

    @property
    def sampler(self) -> "Sampler":
        """What decides which chains are kept; made when it is first needed."""
        if self._sampler is None:
            from kobs.sampling import ChainThinner, Sampler

            self._sampler = Sampler(
                self._rate,
                category_rates=self._category_rates,
                adaptive=self._adaptive,
                events=lambda: self._owner.ring.produced(),
                calibration=self._owner.calibrate,
            )
            self._thinner = ChainThinner()
            self._sampler.changed = self._decide_anew
            self._decide_anew()
        return self._sampler

    @property
    def rate(self) -> float:
        """Percent of new chains that are kept now."""
        return self._rate if self._sampler is None else self._sampler.rate

    def set(self) -> None:
        """Go up or down, after a change of rate."""
        self.up[0] = (
            self._closed
            or self._adaptive
            or self.rate < 100
            or bool(self._category_rates if self._sampler is None else self._sampler.category_rates)
        )

    def close(self) -> None:
        """Let nothing through any more."""
        self._closed = True
        if self._native is not None:
            self._native.close()
        self.set()

    def refuse_closed(self) -> None:
        """Raise `ClosedError` after `close`."""
        if self._closed:
            raise ClosedError("this collector is closed; make a new one to record on")

    def forget(self) -> None:
        """Drop the decisions that were taken."""
        self._decided.clear()
        if self._native is not None:
            self._native.forget()

    def decider(self) -> "Callable[[int, int, int, bool | None], int]":
        """`decide`, or what does the same in the C core and calls back only to learn a rate that
        has changed, and to measure."""
        return self._native_decider() or self.decide

    def rewire(self) -> None:
        """In a forked child: count in its ring, and have chance be another."""
        ring = getattr(self._owner.ring, "native", None)
        if self._native is not None and ring is not None:
            self._native.rewire(ring, mint_id())

    def decide(self, severity: int, category: int, causality_id: int, sampled: bool | None) -> int:
        """Flags to add to the event's, or `DROP` or `THINNED` (counted).

        `sampled` is the ambient chain's decision, None where there is none. Raises
        `ClosedError` after `close`.
        """
        native = self._native_decider()
        if native is not None:
            return native(severity, category, causality_id, sampled)
        self.refuse_closed()
        if sampled is None or not causality_id:  # a parent alone is no chain, and decides nothing
            sampled = self.sampled(causality_id, category)
        if not sampled:
            if severity >= Severity.WARN:
                return FLAG_PARTIAL
            self._owner.ring.leave_out("sampled_out", category)
            return DROP
        if self._thinner is None or not causality_id:
            return 0
        name = self._thinner.decide(causality_id, severity).name
        if name == "DROP":
            self._owner.ring.leave_out("sampled_out", category)
            return THINNED
        return FLAG_PARTIAL if name == "PARTIAL" else 0

    def sampled(self, causality_id: int, category: int) -> bool:
        """A chain's decision, taken once; without a chain, an event's."""
        native = self._native_decider()
        if native is not None:
            return native.sampled(causality_id, category)
        if not causality_id:
            return self.sampler.keeps(mint_id(), category)
        known = self._decided.get(causality_id)
        if known is None:
            known = self.sampler.keeps(causality_id, category)
            if len(self._decided) >= CHAINS_REMEMBERED:
                self._decided.pop(next(iter(self._decided)), None)
            self._decided[causality_id] = known
        return known

    def _native_decider(self) -> "NativeDecider | None":
        if self._native is None:
            ring = getattr(self._owner.ring, "native", None)
            if ring is None:
                return None
            from kobs._core import _native

            self._native = _native.Decider(
                ring=ring,
                bound=lambda category: self.sampler.bound(category),
                measure=lambda: self.sampler.measure(),
                refuse=self.refuse_closed,
                check_every=CHECK_EVERY,
                check_ms=CHECK_MS,
                remembered=CHAINS_REMEMBERED,
                limit=CHAIN_LIMIT,
                generation=CHAINS_REMEMBERED // 2,
                chance=mint_id(),
                adaptive=self._adaptive,
            )
            if self._sampler is not None:
                self._decide_anew()
            if self._closed:
                self._native.close()
        return self._native

    def _decide_anew(self) -> None:
        if self._native is not None and self._sampler is not None:
            self._native.update(self._sampler.adaptive)


class DurationWatch:
    """Gives every duration to the detector and tells of anomalies as events of their own.

    With the C core the detector is the C core's, which does the same to the last bit and calls
    back only to tell of an anomaly.
    """

    def __init__(self, owner: Owner, threshold: float) -> None:
        self._owner = owner
        self._threshold = threshold
        self._detector: Detector | None = None
        self._native: NativeDetector | None = None
        self._metrics: dict[tuple[str, str], str] = {}

    def forget(self) -> None:
        """Drop the baselines that were learned."""
        self._detector = None
        if self._native is not None:
            self._native.reset()

    @property
    def kept_back(self) -> int:
        """Anomalies that were not told: of each metric one a second is."""
        detector = self._native if self._native is not None else self._detector
        return 0 if detector is None else detector.suppressed

    def of(self, type_name: str) -> "Callable[[str, float, int], None]":
        """What the emitter of a payload type calls with (name, duration, event id)."""
        if self._native is None and hasattr(self._owner.ring, "native"):
            self._native = self._native_detector()
        if self._native is not None:
            return self._native.of(type_name)

        def analyse(name: str, duration_us: float, event: int) -> None:
            detector = self._detector
            if detector is None:
                from kobs.anomaly import Detector

                detector = self._detector = Detector(threshold=self._threshold)
            metric = self._metrics.get((type_name, name)) or self._metric(type_name, name)
            anomaly = detector.observe(metric, duration_us)
            if anomaly is not None:
                self._owner.emitter(AnomalyDetected)(
                    metric, anomaly.value, anomaly.expected, anomaly.deviation, anomaly.count,
                    parent=event,
                )  # fmt: skip

        return analyse

    def _native_detector(self) -> "NativeDetector | None":
        from kobs._core import _native
        from kobs.anomaly import Detector

        return Detector(threshold=self._threshold).native(_native, self._tell)

    def _tell(
        self, type_name: str, name: str, value: float, expected: float, deviation: float,
        count: int, event: int,
    ) -> None:  # fmt: skip
        metric = self._metrics.get((type_name, name)) or self._metric(type_name, name)
        self._owner.emitter(AnomalyDetected)(
            metric, value, expected, deviation, count, parent=event
        )

    def _metric(self, type_name: str, name: str) -> str:
        metric = f"{type_name}.{name}.duration_us" if name else f"{type_name}.duration_us"
        if len(self._metrics) < CHAINS_REMEMBERED:
            self._metrics[type_name, name] = metric
        return metric
