"""Following a recording or session while it is written."""

import time
from collections import deque
from collections.abc import Iterator

from kobs._core.contract import Reader
from kobs.errors import ClosedError, SessionError
from kobs.events import Event
from kobs.filters import EventFilter
from kobs.recording import CHUNK, STALL_S, Recording

_POLL_FIRST_S = 0.002
_POLL_MOST_S = 0.05


class RecordingSubscriber:
    """Follows a recording or session from outside; the counterpart of `kobs.Subscriber`."""

    def __init__(
        self, recording: Recording, event_filter: EventFilter | None, oldest: bool
    ) -> None:
        self._recording = recording
        self._filter = event_filter
        self._readers: dict[str, Reader] = {}
        self._waiting: deque[Event] = deque()
        self._closed = False
        self._find(oldest)

    @property
    def lost(self) -> int:
        """Events that went by unseen."""
        return sum(reader.lost for reader in self._readers.values())

    def lost_of(self, path: str) -> int:
        """Events of one of the files that went by unseen."""
        reader = self._readers.get(path)
        return 0 if reader is None else reader.lost

    @property
    def closed(self) -> bool:
        """`close` was called."""
        return self._closed

    def filter(self, event_filter: EventFilter) -> "RecordingSubscriber":
        """See only events that match from here on; the same subscriber, for chaining."""
        self._filter = event_filter
        return self

    def next(self) -> Event | None:
        """The next event that passes the filter; None if there is none now."""
        if self._closed:
            raise ClosedError("this subscriber is closed; subscribe again to read on")
        while self._waiting or self._fill():
            event = self._waiting.popleft()
            if self._filter is None or self._filter.matches(event):
                return event
        return None

    def follow(self, timeout: float | None = None) -> Iterator[Event]:
        """Events as they come, until none came for `timeout` seconds (None: until every
        recorded process has ended)."""
        pause = _POLL_FIRST_S
        quiet_since = time.monotonic()
        while not self._closed:
            event = self.next()
            if event is None:
                # Asked before the last look: what ended before it has written all it will.
                running = self._recording.running
                event = self.next()
            if event is not None:
                yield event
                pause = _POLL_FIRST_S
                quiet_since = time.monotonic()
                continue
            quiet = time.monotonic() - quiet_since
            if timeout is not None and quiet >= timeout:
                return
            if timeout is None and not running and quiet >= STALL_S:
                return
            time.sleep(pause)
            pause = min(_POLL_MOST_S, pause * 2)

    def close(self) -> None:
        """Stop reading. Twice is once."""
        self._closed = True
        for reader in self._readers.values():
            reader.close()

    def _find(self, oldest: bool) -> None:
        """Begin to read recordings that came since the last look."""
        recording = self._recording
        try:
            recording.look()
        except SessionError:
            return  # The folder was removed; what is open can still be read.
        for path, part in recording.parts.items():
            if path not in self._readers:
                self._readers[path] = part.attached.reader(oldest=oldest)

    def _fill(self) -> bool:
        self._find(oldest=True)
        found: list[Event] = []
        for path, reader in self._readers.items():
            part = self._recording.parts[path]
            found += [e for slot in reader.read(CHUNK) if (e := part.decode(slot)) is not None]
        found.sort(key=lambda event: event.timestamp_ns)
        self._waiting.extend(found)
        return bool(found)

    def __iter__(self) -> Iterator[Event]:
        while not self._closed and (event := self.next()) is not None:
            yield event

    def __enter__(self) -> "RecordingSubscriber":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
