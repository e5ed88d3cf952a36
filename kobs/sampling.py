"""Which chains are kept, and how many, so that recording stays cheap.

The decision falls where a chain begins and holds for all of it. It follows from the chain's id
alone, so that every thread and process that knows the id and the rate comes to the same answer,
and a chain that is kept at one rate is kept at every higher one.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from math import isfinite
from time import perf_counter, process_time

from kobs.config import sampling_rate
from kobs.errors import ConfigError
from kobs.gate import CHAIN_LIMIT, CHAINS_REMEMBERED, CHECK_EVERY
from kobs.ids import mint_id
from kobs.levels import Category, Severity

TARGET = 1.0
"""Percent of CPU time that recording may take."""
LOWEST_RATE = 0.01
"""Adaptation does not go below this: a hundredth of a percent of the chains is always seen."""
GLANCE_S = 0.05
FLOOD = 100_000.0
"""Where more events than this are recorded per second of CPU time, for `GLANCE_S` of it, the
sampler does not wait for the second to end: a ring would be full of them by then."""
DEFAULT_COST_NS = 1000.0
"""What an event is taken to cost until `calibrate` has measured it."""
_SPAN = 1 << 64
_MASK = _SPAN - 1


class SampleDecision(Enum):
    """What becomes of an event."""

    KEEP = "keep"
    DROP = "drop"
    PARTIAL = "partial"
    """Kept for its severity, though its chain is not, and marked so."""


class Sampler:
    """Decides for chains. Severity WARN and above is never dropped.

    `rate`: percent of chains that are kept. `category_rates`: the same for chains that begin
    with an event of a category. With `adaptive`, the sampler measures what recording costs
    (events x cost of one / CPU time of the process) and lowers all rates in proportion, at most
    once per second of CPU time, so that it stays under `target` percent; it goes back up when
    there is room, never above the rates that were given. Where a flood begins (`FLOOD`) it does
    not wait for the second to end. `events` tells how many events were recorded so far; without
    it, `count_events` does. `cost_ns` is what one costs, until `calibration`, asked when the first
    measurement is due (a short program never gets there), gives something to `calibrate` with.

    Raises `ConfigError` naming the argument, what was given and what is allowed.
    """

    def __init__(
        self,
        rate: float = 100.0,
        *,
        category_rates: Mapping[Category, float] | None = None,
        adaptive: bool = False,
        target: float = TARGET,
        cost_ns: float = DEFAULT_COST_NS,
        events: Callable[[], int] | None = None,
        cpu_time: Callable[[], float] = process_time,
        calibration: Callable[[], Callable[[], object]] | None = None,
    ) -> None:
        self.changed: Callable[[], None] | None = None
        """Called when decisions are others from here on; for kobs's own modules."""
        self._bounds: dict[int, int] = {}
        self._rate = sampling_rate(rate, "rate")
        self._category_rates: dict[int, float] = {}
        for category, percent in (category_rates or {}).items():
            self.set_category_rate(category, percent)
        self._adaptive = adaptive
        self.target = _number(target, "target", above=0.0, most=100.0)
        self.cost_ns = _number(cost_ns, "cost_ns", above=0.0, most=1e9)
        self.overhead = 0.0
        """Percent of CPU time that recording took when last measured or told."""
        self._scale = 1.0
        self._events = events
        self._counted = 0
        self._cpu_time = cpu_time
        self._calibration = calibration
        self._emit: Callable[[], object] | None = None
        self._last = (cpu_time(), self._total())
        self._glanced = self._last
        self._adapted_at = float("-inf")
        self._until_check = CHECK_EVERY

    @property
    def adaptive(self) -> bool:
        """It measures its own overhead. `update_overhead` works in either case."""
        return self._adaptive

    @adaptive.setter
    def adaptive(self, adaptive: bool) -> None:
        self._adaptive = adaptive
        self._decide_anew()

    @property
    def rate(self) -> float:
        """Percent of new chains that are kept now; assign to it to change it from here on."""
        return self._adapted(self._rate)

    @rate.setter
    def rate(self, percent: float) -> None:
        self._rate = sampling_rate(percent, "rate")
        self._decide_anew()

    @property
    def category_rates(self) -> dict[Category, float]:
        """The rates in force now of the categories that have one of their own."""
        return {Category(c): self._adapted(rate) for c, rate in self._category_rates.items()}

    def set_category_rate(self, category: Category, percent: float | None) -> None:
        """Give a category a rate of its own; None takes it back."""
        try:
            known = Category(category)
        except ValueError:
            allowed = ", ".join(f"Category.{name}" for name in Category.__members__)
            raise ConfigError(f"category_rates[{category!r}]: expected one of {allowed}") from None
        if percent is None:
            self._category_rates.pop(known, None)
        else:
            where = f"category_rates[{known.name}]"
            self._category_rates[known] = sampling_rate(percent, where)
        self._decide_anew()

    # -- deciding ---------------------------------------------------------------------------

    def decide(self, category: int, severity: int, causality_id: int = 0) -> SampleDecision:
        """What becomes of an event that begins a chain; 0 is a chain without an id, for which
        chance decides."""
        if self.keeps(causality_id or mint_id(), category):
            return SampleDecision.KEEP
        return decision_for_dropped(severity)

    def keeps(self, causality_id: int, category: int = -1) -> bool:
        """The decision for a chain."""
        if self._adaptive:
            self._until_check -= 1
            if self._until_check <= 0:
                self._until_check = CHECK_EVERY
                self.measure()
        bound = self._bounds.get(category)
        if bound is None:
            bound = self.bound(category)
        return bound == _SPAN or spread_bits(causality_id) < bound

    def bound(self, category: int) -> int:
        """The share of chains that is kept, of 2**64; for kobs's own modules."""
        rate = self._adapted(self._category_rates.get(category, self._rate))
        bound = self._bounds[category] = round(_SPAN * rate / 100)
        return bound

    def _decide_anew(self) -> None:
        self._bounds = {}
        if self.changed is not None:
            self.changed()

    # -- adapting ---------------------------------------------------------------------------

    def update_overhead(self, percent: float) -> None:
        """Tell what recording costs at the present rate, in percent of CPU time. Acts at once:
        over the target all rates go down in proportion, well under it they go back up."""
        self._adapt(_number(percent, "update_overhead", above=None, most=float("inf")))

    def count_events(self, count: int = 1) -> None:
        """Say that events were recorded, where there is no `events` callable."""
        self._counted += count

    def calibrate(self, emit: Callable[[], object], *, rounds: int = 200) -> float:
        """Measure what one event costs, in nanoseconds, and go by that: the least mean of five
        goes of `rounds` calls of `emit`."""
        best = float("inf")
        for _ in range(5):
            began = perf_counter()
            for _ in range(rounds):
                emit()
            best = min(best, perf_counter() - began)
        self.cost_ns = max(1.0, best / rounds * 1e9)
        return self.cost_ns

    def measure(self) -> float | None:
        """Take the overhead since the last measurement and adapt to it; the percentage, or None
        where that is less than a second of CPU time ago and no flood has begun since."""
        now = self._cpu_time()
        glanced, seen = self._glanced
        if now - glanced < GLANCE_S:
            return None
        total = self._total()
        self._glanced = (now, total)
        since, counted = self._last
        flood = (total - seen) / (now - glanced)
        if now - since < 1.0 and (flood < FLOOD or now - self._adapted_at < 1.0):
            return None
        if self._calibration is not None:
            # Kept, since it holds itself: let go of, it would be garbage that the program sees
            # the collector find (`gc.collect`).
            self._emit = self._calibration()
            self.calibrate(self._emit)
            self._calibration = None
        self._last = (now, total)
        # A total that begins anew (a fork) is no gain.
        per_second = max(0.0, (total - counted) / (now - since))
        if flood >= FLOOD:
            per_second = max(per_second, flood)
        before = self._scale
        self._adapt(per_second * self.cost_ns / 1e7)
        if self._scale != before:
            self._adapted_at = now
        return self.overhead

    def _adapt(self, percent: float) -> None:
        self.overhead = percent
        if percent > self.target:
            self._scale = max(LOWEST_RATE / 100, self._scale * self.target / percent)
        elif percent < self.target / 2 and self._scale < 1.0:
            # Up by no more than what would use three quarters of the target, and by no more
            # than double: load that comes back is not let in all at once.
            room = 0.75 * self.target / percent if percent else 2.0
            self._scale = min(1.0, self._scale * min(2.0, room))
        else:
            return
        self._decide_anew()

    def _adapted(self, rate: float) -> float:
        return rate if self._scale == 1.0 else max(min(rate, LOWEST_RATE), rate * self._scale)

    def _total(self) -> int:
        return self._counted if self._events is None else self._events()

    def __repr__(self) -> str:
        return f"<Sampler {self.rate:g} %{', adaptive' if self.adaptive else ''}>"


class ChainThinner:
    """Keeps a chain that never ends from filling the ring: past `limit` events of a chain, those
    below INFO are dropped and the others marked partial.

    Remembers at most `chains` chains; those that were quiet for longest are forgotten, and
    count from 0 if they speak again.
    """

    def __init__(self, limit: int = CHAIN_LIMIT, *, chains: int = CHAINS_REMEMBERED) -> None:
        self.limit = _whole(limit, "limit", 1)
        self.dropped = 0
        """Events dropped so far."""
        self._generation = max(1, _whole(chains, "chains", 2) // 2)
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def decide(self, causality_id: int, severity: int) -> SampleDecision:
        """Count an event of a chain (0: of none, which is never thinned) and say what becomes
        of it."""
        if not causality_id:
            return SampleDecision.KEEP
        young = self._young
        count = young.get(causality_id)
        if count is None:
            count = self._old.pop(causality_id, 0)
            if len(young) >= self._generation:
                self._old = young
                young = self._young = {}
        young[causality_id] = count + 1
        if count < self.limit:
            return SampleDecision.KEEP
        if severity >= Severity.INFO:
            return SampleDecision.PARTIAL
        self.dropped += 1
        return SampleDecision.DROP

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


def decision_for_dropped(severity: int) -> SampleDecision:
    """What becomes of an event whose chain is not kept."""
    return SampleDecision.PARTIAL if severity >= Severity.WARN else SampleDecision.DROP


def spread_bits(causality_id: int) -> int:
    """The 64 bits of a chain's id, mixed so that ids which follow one another lie far apart.

    The finaliser of splitmix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
    Generators", 2014): a bijection, the same in every process.
    """
    bits = (causality_id + 0x9E3779B97F4A7C15) & _MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return bits ^ (bits >> 31)


def _number(given: object, name: str, *, above: float | None, most: float) -> float:
    allowed = "0 or more" if above is None else f"above {above:g}, at most {most:g}"
    if (
        isinstance(given, bool)
        or not isinstance(given, int | float)
        or not isfinite(given)
        or given < 0
        or (above is not None and given <= above)
        or given > most
    ):
        raise ConfigError(f"{name}={given!r}: expected a number, {allowed}")
    return float(given)


def _whole(given: object, name: str, least: int) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise ConfigError(f"{name}={given!r}: expected an int, {least} or more")
    return given
