"""Where exported metrics come from: a collector while it records, or a recording.

What is counted is read from the ring, off the program's path. The ring holds 65,536 events unless
told otherwise: who exports seldom reads more often (`read`), else what went by in between is
`kobs.event.lost`.
"""

import gc
import os
import threading
import time
import weakref
from itertools import islice
from typing import TYPE_CHECKING

from kobs._analysis.series import Counts, Traced
from kobs._core.contract import LeftOut, LossCounts
from kobs.collector import Collector, CountsFrom, global_collector
from kobs.context import EXPORT_ORIGIN
from kobs.errors import ConfigError
from kobs.export import metric_names as names
from kobs.export.metric_points import Apart, Metric, Metrics, Point, make_series, points_of

if TYPE_CHECKING:
    from kobs._core.contract import AttachedRing
    from kobs.recording import Recording

MOST_AT_ONCE = 1 << 18
"""Events of a recording that are read at once: a program may write faster than they are read."""

_NONE_LEFT_OUT = LeftOut((), ())


class MetricSource:
    """The metrics of a collector, from the oldest event in its ring on. Any thread may ask.

    `collector` None: the process-wide one. `delta`: each `collect` gives what came since the one
    before. Raises `ConfigError` without a collector.
    """

    def __init__(self, collector: Collector | None = None, *, delta: bool = False) -> None:
        collector = collector if collector is not None else global_collector()
        if collector is None:
            raise ConfigError(
                "metrics have no collector: give one, or call kobs.init_collector first"
            )
        self.delta = delta
        self.collector = collector
        self._series = make_series()
        self._subscriber = collector.subscribe(oldest=True)
        self._lock = threading.Lock()
        self._from = collector.counts_from
        self._skipped = self._ran_past()
        self._consumed = 0
        """Events that were read before counting began."""
        self._given = Apart(_NONE_LEFT_OUT, {})
        self._given_gc = gc.get_stats()
        self._start_ns = self._from.wall_ns
        self._taken: _Taken | None = None
        _live.add(self)

    def read(self) -> None:
        """Count what is new in the ring."""
        with self._lock:
            self._read()

    def collect(self) -> Metrics:
        """The metrics now. With `delta`, what a later `collect` gives begins here; `give_back`
        undoes that."""
        with self._lock:
            self._read()
            now_ns = time.time_ns()
            apart, collections = self._apart(), gc.get_stats()
            counts = self._series.take() if self.delta else self._series.counts
            metrics = points_of(
                self._series, counts, _since(apart, self._given),
                trace_high=lambda recording: self.collector.ring.trace_high,
                offset_ns=_wall_minus_monotonic,
            )  # fmt: skip
            metrics += _garbage_collector(collections, self._given_gc)
            made = Metrics(self._from.wall_ns, self._start_ns, now_ns, self.delta, metrics)
            if self.delta:
                self._taken = _Taken(counts, self._given, self._given_gc, self._start_ns)
                self._given, self._given_gc, self._start_ns = apart, collections, now_ns
            return made

    def give_back(self) -> None:
        """What `collect` gave last did not arrive: the next one gives it again. Where nothing is
        `delta` it does so in any case."""
        with self._lock:
            taken, self._taken = self._taken, None
            if taken is not None:
                self._series.give_back(taken.counts)
                self._given, self._given_gc = taken.given, taken.given_gc
                self._start_ns = taken.start_ns

    def close(self) -> None:
        """Read no more."""
        self._subscriber.close()
        _live.discard(self)

    # -- below: how -------------------------------------------------------------------------

    def _read(self) -> None:
        begun = self.collector.counts_from
        if begun is not self._from:  # it was reset, or this is a forked child
            self._begin_anew(begun)
        if not self._subscriber.closed:
            for event in self._subscriber:
                if event.origin != EXPORT_ORIGIN:
                    self._series.observe(event)

    def _begin_anew(self, begun: CountsFrom) -> None:
        self._series.reset()
        self._from = begun
        self._skipped = -self._subscriber.lost
        self._consumed = self._subscriber.consumed
        self._given, self._given_gc = Apart(_NONE_LEFT_OUT, {}), gc.get_stats()
        self._start_ns = begun.wall_ns
        self._taken = None

    def _ran_past(self) -> int:
        """Events that were overwritten before anyone read them for metrics."""
        began = self._from.position or (0,) * len(self._subscriber.position)
        return sum(self._subscriber.position) - sum(began)

    def _apart(self) -> Apart:
        losses, subscriber = self.collector.losses(), self._subscriber
        unread = self._skipped + subscriber.lost
        if subscriber.closed:  # what came after the last read is there no more
            produced = self.collector.ring.produced() - self._from.produced
            unread = max(unread, produced - (subscriber.consumed - self._consumed))
        return Apart(self.collector.left_out(), _lost(losses, unread))

    def _after_fork(self) -> None:
        """In a forked child: the parent exports what was counted so far."""
        self._lock = threading.Lock()
        self._begin_anew(self.collector.counts_from)


class _Taken:
    """What the last `collect` took away."""

    def __init__(
        self, counts: Counts, given: Apart, given_gc: list[dict[str, int]], start_ns: int
    ) -> None:
        self.counts = counts
        self.given = given
        self.given_gc = given_gc
        self.start_ns = start_ns


_live: weakref.WeakSet[MetricSource] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for source in list(_live):
        source._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


class RecordedMetrics:
    """The metrics of each process of a recording or session, while it is written or after."""

    def __init__(self, recording: "Recording") -> None:
        self._recording = recording
        self._subscriber = recording.subscribe(oldest=True)
        self._processes: dict[int, _Process] = {}
        self._traces: dict[int, Traced] = {}  # what one process adopted another may go on with

    def read(self) -> None:
        """Count what is new: all of it, or as much as `MOST_AT_ONCE` where that is less."""
        for event in islice(self._subscriber, MOST_AT_ONCE):
            process = self._processes.get(event.recording)
            if process is None:
                process = self._processes[event.recording] = _Process(self._traces)
            process.seen += 1
            process.last_ns = max(process.last_ns, event.timestamp_ns)
            if event.origin != EXPORT_ORIGIN:
                process.series.observe(event)

    def read_all(self) -> None:
        """Count all that is there by now."""
        left = self._recording.produced()
        while left > 0:
            self.read()
            left -= MOST_AT_ONCE

    def collect(self) -> list[tuple["AttachedRing", Metrics]]:
        """The metrics of what was read, by process: cumulative, up to its last sign of life."""
        return [
            (part.attached, self._metrics(path, part.attached))
            for path, part in self._recording.parts.items()
        ]

    def close(self) -> None:
        """Read no more."""
        self._subscriber.close()

    def _metrics(self, path: str, attached: "AttachedRing") -> Metrics:
        process = self._processes.get(attached.recording) or _Process(self._traces)
        unread = self._subscriber.lost_of(path)
        if not attached.alive:  # else some may be on their way
            unread = max(unread, attached.produced() - process.seen)
        start_ns = attached.started_wall_ns
        offset_ns = start_ns - attached.started_monotonic_ns
        metrics = points_of(
            process.series,
            process.series.counts,
            Apart(attached.left_out(), _lost(attached.losses(), unread)),
            trace_high=lambda _: attached.trace_high,
            offset_ns=lambda _: offset_ns,
        )
        end_ns = max(process.last_ns, attached.refreshed_monotonic_ns) + offset_ns
        return Metrics(start_ns, start_ns, max(start_ns, end_ns), False, metrics)


class _Process:
    """What was read of a recorded process."""

    def __init__(self, traces: dict[int, Traced]) -> None:
        self.series = make_series()
        self.series.traces = traces
        self.seen = 0
        self.last_ns = 0


def recorded_metrics(recording: "Recording") -> list[tuple["AttachedRing", Metrics]]:
    """The metrics of each process of a recording or session as it is now."""
    recorded = RecordedMetrics(recording)
    recorded.read_all()
    recorded.close()
    return recorded.collect()


def _lost(losses: LossCounts, unread: int) -> dict[str, int]:
    return {
        "unread": unread,
        "discarded": losses.discarded,
        "too_big": losses.too_big,
        "errors": losses.errors,
    }


def _since(now: Apart, before: Apart) -> Apart:
    left_out = now.left_out
    if before.left_out.sampled_out:
        left_out = LeftOut(
            *(
                tuple(a - b for a, b in zip(*each, strict=True))
                for each in zip(now.left_out, before.left_out, strict=True)
            )
        )
    lost = {cause: number - before.lost.get(cause, 0) for cause, number in now.lost.items()}
    return Apart(left_out, lost)


def _garbage_collector(now: list[dict[str, int]], before: list[dict[str, int]]) -> list[Metric]:
    """The interpreter's own counts of its garbage collector, by OpenTelemetry's conventions. Kobs
    tells of long collections one by one; these are all."""
    metrics = []
    for instrument, key in (
        (names.GC_COLLECTIONS, "collections"),
        (names.GC_COLLECTED, "collected"),
        (names.GC_UNCOLLECTABLE, "uncollectable"),
    ):
        points = [
            Point(
                ((names.GC_GENERATION, generation),),
                stats[key] - before[generation][key],
            )
            for generation, stats in enumerate(now)
        ]
        metrics.append(
            Metric(instrument.name, instrument.unit, instrument.description, "sum", points)
        )
    return metrics


def _wall_minus_monotonic(_: int) -> int:
    return time.time_ns() - time.monotonic_ns()
