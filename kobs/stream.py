"""Reading a live collector: subscribers, and publishing in batches."""

import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, NamedTuple

from kobs._core.contract import RawSlot, Reader
from kobs.decoder import EventDecoder
from kobs.errors import ClosedError, ConfigError
from kobs.events import Event
from kobs.filters import EventFilter, SlotFilter
from kobs.schema import PayloadType

if TYPE_CHECKING:
    from kobs.collector import Collector

_CHUNK = 1024
_POLL_FIRST = 0.000_5
_POLL_MOST = 0.01


class StreamStats(NamedTuple):
    """What went through a collector since it was made or reset."""

    events_produced: int
    """Events that were given to the ring, kept or lost there."""
    events_consumed: int
    """Events handed to subscribers, each subscriber counting."""
    events_dropped: int
    """Events that never got into the ring: discarded, contended, too big, in error."""
    active_subscribers: int
    """Subscribers that are not closed."""
    events_sampled_out: int
    """Events left out by sampling; not part of `events_dropped`."""


class Subscriber:
    """A cursor of its own over a collector's events: every subscriber sees every event.

    Iterating gives what is there now; `follow` and `async for` wait for more.
    """

    def __init__(
        self,
        reader: Reader,
        decoder: EventDecoder,
        event_filter: EventFilter | None = None,
        *,
        lossless: bool = False,
    ) -> None:
        self._reader = reader
        self._decoder = decoder
        self._filter = event_filter
        self._passing = SlotFilter(event_filter, decoder)
        self._waiting: deque[RawSlot] = deque()
        self._closed = False
        self.lossless = lossless
        """It holds up a collector with `overflow="discard"`."""
        self.consumed = 0
        """Events handed out so far."""

    @property
    def lost(self) -> int:
        """Events that went by unseen: overwritten before this subscriber read them."""
        return self._reader.lost

    @property
    def position(self) -> tuple[int, ...]:
        """The tickets that are read next, one a lane."""
        return self._reader.position()

    @property
    def closed(self) -> bool:
        """`close` was called."""
        return self._closed

    def next(self) -> Event | None:
        """The next event that passes the filter; None if there is none now.

        Raises `ClosedError` after `close`.
        """
        if self._closed:
            raise ClosedError("this subscriber is closed; subscribe again to read on")
        while True:
            while (slot := self._first()) is not None:
                event = self._passing(slot)
                if event is not None:
                    self.consumed += 1
                    return event
            if not self._fill():
                return None

    def filter(self, event_filter: EventFilter) -> "Subscriber":
        """See only events that match from here on; the same subscriber, for chaining."""
        self._filter = event_filter
        self._passing = SlotFilter(event_filter, self._decoder)
        return self

    def follow(self, timeout: float | None = None) -> Iterator[Event]:
        """Events as they come, until none came for `timeout` seconds (None: until closed)."""
        patience = _Patience(timeout)
        while not self._closed:
            event = self.next()
            if event is not None:
                patience.reset()
                yield event
            elif patience.exhausted:
                return
            else:
                time.sleep(patience.pause())

    def close(self) -> None:
        """Stop reading. Twice is once."""
        if not self._closed:
            self._closed = True
            self._reader.close()

    def seek_end(self) -> None:
        """Skip everything that is there now."""
        self._waiting.clear()
        self._reader.seek_end()

    def rewire(self, reader: Reader, decoder: EventDecoder) -> None:
        """Go on with another ring (after a fork)."""
        self._waiting.clear()
        self._reader = reader
        self._decoder = decoder
        self._passing = SlotFilter(self._filter, decoder)

    def _first(self) -> RawSlot | None:
        """The next slot that waits; a signal handler or another thread may have taken it."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _fill(self, limit: int = _CHUNK) -> int:
        slots = self._reader.read(limit)
        self._waiting.extend(slots)
        return len(slots)

    def __iter__(self) -> Iterator[Event]:
        remaining = self._reader.pending()  # what comes meanwhile is not "now": this ends
        while not self._closed:
            while (slot := self._first()) is not None:
                event = self._passing(slot)
                if event is not None:
                    self.consumed += 1
                    yield event
            if remaining <= 0:
                return
            read = self._fill(min(_CHUNK, remaining))
            if not read:
                return
            remaining -= read

    async def __aiter__(self) -> AsyncIterator[Event]:
        import asyncio

        patience = _Patience(None)
        while not self._closed:
            event = self.next()
            if event is not None:
                patience.reset()
                yield event
            else:
                await asyncio.sleep(patience.pause())

    def __enter__(self) -> "Subscriber":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Patience:
    """How long to wait between looks: short at first, 10 ms at most."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self.reset()

    def reset(self) -> None:
        self._pause = _POLL_FIRST
        self._until = None if self._timeout is None else time.monotonic() + self._timeout

    @property
    def exhausted(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def pause(self) -> float:
        pause = self._pause
        self._pause = min(_POLL_MOST, pause * 2)
        if self._until is not None:
            pause = max(0.0, min(pause, self._until - time.monotonic()))
        return pause


class BatchPublisher:
    """Collects events and emits them together; flushes at `max_batch` and when closed."""

    def __init__(self, collector: "Collector", *, max_batch: int = 256) -> None:
        if max_batch < 1:
            raise ConfigError(f"max_batch={max_batch}: expected at least 1")
        self._collector = collector
        self._max = max_batch
        self._batch: list[tuple[Event | PayloadType, int]] = []

    def __len__(self) -> int:
        return len(self._batch)

    def add(self, event: Event | PayloadType) -> None:
        """Keep an event for the next flush; its time is now unless the event has one."""
        self._batch.append((event, time.monotonic_ns()))
        if len(self._batch) >= self._max:
            self.flush()

    def flush(self) -> int:
        """Emit what was kept; how many events got into the ring."""
        batch, self._batch = self._batch, []
        emitted = 0
        for event, now in batch:
            timestamp = event.timestamp_ns if isinstance(event, Event) else 0
            emitted += bool(self._collector.emit(event, timestamp_ns=timestamp or now))
        return emitted

    def __enter__(self) -> "BatchPublisher":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()


class Subscribers:
    """The subscribers of a collector that somebody still holds. Threads may add, discard and look
    at them at any time."""

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[Subscriber]] = {}

    def add(self, subscriber: Subscriber) -> None:
        """Know it until it goes."""
        known, key = self._known, id(subscriber)

        def forget(gone: "weakref.ref[Subscriber]") -> None:
            if known.get(key) is gone:
                known.pop(key, None)

        known[key] = weakref.ref(subscriber, forget)

    def discard(self, subscriber: Subscriber) -> None:
        """Know it no longer; what is not known is no error."""
        self._known.pop(id(subscriber), None)

    def __iter__(self) -> Iterator[Subscriber]:
        """Those that are there now."""
        found = [known() for known in self._known.copy().values()]
        return iter([subscriber for subscriber in found if subscriber is not None])
