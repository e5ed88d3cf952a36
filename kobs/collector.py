"""The collector: where events go in, and where readers come from."""

import _thread
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from kobs import config
from kobs._core import select
from kobs._core.contract import LeftOut, LossCounts, OpenEvent, RawSlot, Reader, Ring
from kobs._core.layout import CATEGORIES
from kobs.context import cause
from kobs.decoder import EventDecoder
from kobs.emitters import ThreadIds
from kobs.emitting import Emitting, OpenScope as OpenScope
from kobs.errors import ConfigError, KobsError
from kobs.events import Event
from kobs.filters import EventFilter
from kobs.gate import DurationWatch, Gate
from kobs.hiding import Hiding, parse
from kobs.ids import mint_id
from kobs.levels import Category
from kobs.stream import StreamStats, Subscriber, Subscribers

if TYPE_CHECKING:
    from kobs._analysis.scanned import Scan
    from kobs._core._native import Ring as NativeRing
    from kobs.metrics import MetricsCollector, MetricsSnapshot
    from kobs.query import Query, QueryResult
    from kobs.sampling import Sampler
    from kobs.session import Session

CHILD_SLOTS = 4096
"""Slots of the ring that a forked child begins with."""

_CHUNK = 2048


class Collector(Emitting):
    """Takes events and lets many readers see them.

    `size`: slots of the ring, a power of two. `path`: a file that keeps the recording; else
    memory. `sampling`: percent of chains that are kept. `threshold`: standard deviations that
    make an anomaly. `overflow`: `"overwrite"` (a flight recorder) or `"discard"` (what is new
    is dropped while the slowest lossless subscriber is a full ring behind). `adaptive`: lower
    the sampling rate where recording costs too much. `category_rates`: percent of the chains that
    begin with an event of a category. `hide`: what is not recorded, for instance
    `["syscall:read", "file:/tmp/*", "FileChanged"]` (see `kobs.hiding`). `session`: a
    session folder to record into. What is not given comes from the environment
    (`KERNEL_SAMPLING_RATE`, `KERNEL_CATEGORY_RATES`, `KERNEL_STREAM_SIZE`,
    `KERNEL_ANOMALY_THRESHOLD`, `KOBS_HIDE`, `KOBS_SESSION`), then from defaults.

    Raises `ConfigError` for a value that is not allowed.
    """

    def __init__(
        self,
        *,
        size: int | None = None,
        path: str | os.PathLike[str] | None = None,
        sampling: float | None = None,
        threshold: float | None = None,
        overflow: str = "overwrite",
        adaptive: bool = False,
        session: "Session | str | os.PathLike[str] | None" = None,
        keep: int | None = None,
        parent_event: int = 0,
        trace_high: int | None = None,
        category_rates: Mapping[Category, float] | None = None,
        hide: Iterable[str] | None = None,
    ) -> None:
        settings = config.Settings.from_environment()
        if overflow not in ("overwrite", "discard"):
            raise ConfigError(f'overflow={overflow!r}: expected "overwrite" or "discard"')
        if path is not None and session is not None:
            raise ConfigError("path and session were both given; a session names its files itself")
        self._size = config.stream_size(size, default=settings.stream_size)
        rate = config.sampling_rate(sampling, default=settings.sampling_rate)
        deviations = config.anomaly_threshold(threshold, default=settings.anomaly_threshold)
        rates = (
            dict(settings.category_rates)
            if category_rates is None
            else config.category_rates(category_rates)
        )
        super().__init__(
            Gate(self, rate, adaptive=adaptive, category_rates=rates),
            DurationWatch(self, deviations),
            os.getpid(),
            Hiding(settings.hide if hide is None else parse(hide)),
        )
        self._overflow = overflow
        self._keep = keep
        self.session = self._open_session(path, session, settings.session)
        """The session that the recording belongs to; None for a collector of its own."""
        if trace_high is None:
            trace_high = self.session.trace_high if self.session is not None else mint_id()
        self._core = select()
        self._subscribers = Subscribers()
        self._closed = False
        self._metrics: MetricsCollector | None = None
        self._metrics_subscriber: Subscriber | None = None
        self.ring = self._make_ring(os.fspath(path) if path else None, trace_high, parent_event)
        self._decoder = EventDecoder(self.ring)
        self._base = self._zero()
        self._asked: Scan | None = None
        _live.add(self)

    # -- reading ----------------------------------------------------------------------------

    def subscribe(
        self,
        event_filter: EventFilter | None = None,
        *,
        lossless: bool = False,
        oldest: bool = False,
    ) -> Subscriber:
        """A reader with a cursor of its own, from now on or from the oldest event there is.

        A `lossless` one holds up a collector with `overflow="discard"`.
        """
        reader = self._reader(lossless=lossless, oldest=oldest)
        made = Subscriber(reader, self._decoder, event_filter, lossless=lossless)
        self._subscribers.add(made)
        weakref.finalize(made, reader.close)
        return made

    def snapshot(self) -> list[Event]:
        """The events that are in the ring now, by time. Consumes nothing from anyone."""
        subscriber = self.subscribe(oldest=True)
        events = list(subscriber)
        subscriber.close()
        self._subscribers.discard(subscriber)
        return events

    def query(self, query: "Query", subscriber: Subscriber | None = None) -> "QueryResult":
        """Run a query over what is in the ring now, or over what is new to a subscriber."""
        if subscriber is not None:
            return query.run(list(subscriber), lost=subscriber.lost)
        native = getattr(self.ring, "native", None)
        if native is not None:
            result = self._scanned(query, native)
            if result is not None:
                return result
        produced = self.ring.produced() - self._base.produced
        events = self.snapshot()
        return query.run(events, lost=self._missed(produced, len(events)))

    def open_events(self) -> list[OpenEvent]:
        """The begins that have no end yet."""
        return self.ring.open_events()

    def stream_stats(self) -> StreamStats:
        """What went through since the collector was made or reset."""
        losses = self.losses()
        active = [subscriber for subscriber in self._subscribers if not subscriber.closed]
        return StreamStats(
            events_produced=self.ring.produced() - self._base.produced,
            events_consumed=sum(subscriber.consumed for subscriber in self._subscribers),
            events_dropped=(losses.discarded + losses.contended + losses.too_big + losses.errors),
            active_subscribers=len(active),
            events_sampled_out=losses.sampled_out,
        )

    def losses(self) -> LossCounts:
        """What was not kept, by cause, since the collector was made or reset."""
        return LossCounts(
            *(
                max(0, now - before)
                for now, before in zip(self.ring.losses(), self._base.losses, strict=True)
            )
        )

    def left_out(self) -> LeftOut:
        """Of what was left out on purpose since the collector was made or reset, how much was of
        each category."""
        return LeftOut(
            *(
                tuple(max(0, now - before) for now, before in zip(*each, strict=True))
                for each in zip(self.ring.left_out(), self._base.left_out, strict=True)
            )
        )

    @property
    def counts_from(self) -> "CountsFrom":
        """Where its counts begin: another object after `reset`, and in a forked child."""
        return self._base

    def metrics(self) -> "MetricsSnapshot":
        """Counters, gauges and histograms of the events so far."""
        if self._metrics is None or self._metrics_subscriber is None:
            from kobs.metrics import MetricsCollector

            self._metrics = MetricsCollector()
            self._metrics_subscriber = self.subscribe(oldest=True)
            self._subscribers.discard(self._metrics_subscriber)
        produced = self.ring.produced() - self._base.produced
        for event in self._metrics_subscriber:
            self._metrics.observe(event)
        lost = self._missed(produced, self._metrics.events)
        return self._metrics.snapshot(lost=lost, left_out=self.left_out())

    # -- sampling ---------------------------------------------------------------------------

    @property
    def sampler(self) -> "Sampler":
        """What decides which chains are kept. Rates may be changed through it; they hold for
        chains that begin later."""
        self.gate.up[0] = True
        return self.gate.sampler

    def sampling_rate(self) -> float:
        """Percent of new chains that are kept now."""
        return self.gate.rate

    def update_overhead(self, percent: float) -> None:
        """Tell the sampler what recording costs, in percent of CPU time."""
        self.gate.sampler.update_overhead(percent)
        self.gate.set()

    # -- life -------------------------------------------------------------------------------

    @property
    def path(self) -> str | None:
        """The recording's file; None for a ring in memory."""
        return self.ring.path

    @property
    def recording(self) -> int:
        """The recording's number in its session."""
        return self.ring.recording

    @property
    def closed(self) -> bool:
        """`close` was called."""
        return self._closed

    def reset(self) -> None:
        """Forget: readers go to the end, counts begin at 0, learned baselines are dropped.

        A recording's file keeps what it has.
        """
        self.gate.refuse_closed()
        for subscriber in self._subscribers:
            subscriber.seek_end()
            subscriber.consumed = 0
        self.durations.forget()
        self.gate.forget()
        self._metrics = None
        self._metrics_subscriber = None
        self._base = self._mark()

    def close(self) -> None:
        """Close the recording; later calls of `emit` raise `ClosedError`. Twice is once."""
        if self._closed:
            return
        self._closed = True
        self.gate.close()
        _live.discard(self)
        for subscriber in self._subscribers:
            subscriber.close()
        self.ring.close()

    def __enter__(self) -> "Collector":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        where = self.path or "memory"
        state = "closed" if self._closed else f"{self.ring.slots} slots"
        return f"<Collector recording {self.recording} in {where}, {state}>"

    # -- below: how -------------------------------------------------------------------------

    def _open_session(
        self, path: object, given: "Session | str | os.PathLike[str] | None", environment: str
    ) -> "Session | None":
        if path is not None:
            return None
        if given is None and default_session is not None:
            return default_session
        if given is None and not environment:
            return None
        from kobs.session import Session

        if given is None:
            return Session.open(environment)
        return given if isinstance(given, Session) else Session.open(os.fspath(given))

    def _make_ring(self, path: str | None, trace_high: int, parent_event: int) -> Ring:
        number = 1
        session_id = ""
        if self.session is not None:
            number = self.session.next_recording()
            path = self.session.recording_path(number, self._pid)
            session_id = self.session.id
        options: dict[str, Any] = {}
        if self._keep is not None:
            options["keep"] = self._keep
        return self._core.create(
            slots=self._size, path=path, overflow=self._overflow, recording=number,
            session=session_id, trace_high=trace_high, parent_event=parent_event,
            sampling_rate=self.gate.rate, **options,
        )  # fmt: skip

    def _reader(self, *, lossless: bool = False, oldest: bool = False) -> Reader:
        self.gate.refuse_closed()
        reader = self.ring.reader(lossless=lossless, oldest=oldest)
        if oldest and self._base.position is not None:
            reader.seek(tuple(map(max, reader.position(), self._base.position)))
        return reader

    def _missed(self, produced: int, seen: int) -> int:
        """How many events whoever saw `seen` of all that were `produced` did not see, and those
        that never got as far."""
        losses = self.losses()
        return max(0, produced - seen) + losses.discarded + losses.too_big + losses.errors

    def _scanned(self, query: "Query", native: "NativeRing") -> "QueryResult | None":
        """A query that the C core answers straight from the ring; None where it cannot."""
        self.gate.refuse_closed()
        if self.ring.segmented:
            return self._scanned_files(query)
        scan = self._asked
        if scan is None or scan.query is not query or scan.source is not native:
            from kobs._analysis.scanned import Scan

            # The same query is often asked again: what it comes to here is remembered.
            scan = self._asked = Scan(query, self._decoder, native)
        base = self._base
        now_ns = monotonic_ns()
        found = scan.found(now_ns, base.position or (0, 0))
        if found is None:
            return None
        before = base.losses
        lost = max(0, found.produced - base.produced - found.seen)
        lost += max(0, found.discarded - before.discarded)
        lost += max(0, found.too_big - before.too_big) + max(0, found.errors - before.errors)
        return scan.result(found, now_ns, lost)

    def _scanned_files(self, query: "Query") -> "QueryResult | None":
        from kobs._analysis.scanned import MergedScan

        def portions() -> Iterator[list[RawSlot]]:
            reader = self._reader(oldest=True)
            left = reader.pending()
            while left > 0 and (slots := reader.read(min(_CHUNK, left))):
                yield slots
                left -= len(slots)
            reader.close()

        now_ns = monotonic_ns()
        produced = self.ring.produced() - self._base.produced
        scan = MergedScan(query, [(self._decoder, portions)])
        found = scan.found(now_ns)
        if found is None:
            return None
        return scan.result(found, now_ns, self._missed(produced, found.seen))

    def _zero(self) -> "CountsFrom":
        losses, left_out = LossCounts(*(0 for _ in LossCounts._fields)), (0,) * CATEGORIES
        return CountsFrom(None, 0, losses, LeftOut(left_out, left_out), time_ns())

    def _mark(self) -> "CountsFrom":
        reader = self.ring.reader()
        position = reader.position()
        reader.close()
        ring = self.ring
        return CountsFrom(position, ring.produced(), ring.losses(), ring.left_out(), time_ns())

    def _after_fork(self) -> None:
        """In a forked child: a recording of its own; the parent's is not touched again."""
        ambient = cause.get()
        self._pid = os.getpid()
        self.threads[0] = ThreadIds()
        if self._keep != 0:  # else one ring is all there is, and as large as was asked for
            self._size = min(self._size, CHILD_SLOTS)
        old = self.ring
        parent = ambient.parent if ambient else 0
        try:
            self.ring = self._make_ring(None, old.trace_high, parent)
        except (KobsError, OSError):  # the session is gone; the parent's ring is not ours
            self.session = None
            self.ring = self._make_ring(None, old.trace_high, parent)
        getattr(old, "abandon", lambda: None)()
        self.gate.rewire()
        self._decoder = EventDecoder(self.ring)
        self._base = self._zero()
        self._asked = None
        self._metrics = None
        self._metrics_subscriber = None
        for rewire in self._rewirings:
            rewire(self.ring, self._pid)
        for subscriber in self._subscribers:
            subscriber.rewire(self.ring.reader(lossless=subscriber.lossless), self._decoder)


class CountsFrom(NamedTuple):
    """Where a collector's counts begin."""

    position: tuple[int, ...] | None
    """Tickets, by lane; None: the ring's first."""
    produced: int
    losses: LossCounts
    left_out: LeftOut
    wall_ns: int
    """When that was, in nanoseconds since 1970 UTC."""


_live: weakref.WeakSet[Collector] = weakref.WeakSet()
_global: Collector | None = None
_watchers: list[Callable[[Collector | None], None]] = []
default_session: "Session | None" = None
"""The session that collectors without a path record into; set by the start-up hook of
`kobs run`."""


def init_collector(collector: Collector | None = None) -> Collector:
    """Make `collector` (or a new one) the process-wide one; a second call replaces the first."""
    _set_global(made := collector if collector is not None else Collector())
    return made


def global_collector() -> Collector | None:
    """The process-wide collector; None before `init_collector`."""
    return _global


def clear_collector() -> None:
    """Have no process-wide collector."""
    _set_global(None)


def watch_global_collector(watcher: Callable[[Collector | None], None]) -> None:
    """Have `watcher` told whenever the process-wide collector is another: observed methods ask
    nobody on a call, their routes are laid anew then."""
    _watchers.append(watcher)


def _set_global(collector: Collector | None) -> None:
    global _global
    _global = collector
    for watcher in _watchers:
        watcher(collector)


def _after_fork_in_child() -> None:
    for collector in list(_live):
        collector._after_fork()


_IMPORTED_WHEN_NEEDED = [
    "kobs.anomaly", "kobs.sampling", "kobs.slots", "kobs.query", "kobs.metrics", "_blake2", "json",
]  # fmt: skip
"""What an event, a filter or a question may be the first to import; none of it has hooks for `fork`
of its own, which would be called after a fork that they did not see begin."""


def _before_fork() -> None:
    """Have no thread in the middle of an import of ours: in the child that module would never be
    done, and its lock never be free. Programs with one thread are spared the time."""
    if _live and _IMPORTED_WHEN_NEEDED and _thread._count():
        from importlib import import_module

        for name in _IMPORTED_WHEN_NEEDED:
            try:
                import_module(name)
            except ImportError:
                pass  # who needs it is told then
        _IMPORTED_WHEN_NEEDED.clear()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
