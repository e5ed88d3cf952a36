"""Reading recordings: one file, or all files of a session merged by time, live or after."""

import heapq
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from kobs._core import select
from kobs._core.contract import AttachedRing, LossCounts, RawSlot, Reader
from kobs.decoder import EventDecoder
from kobs.errors import ClosedError, RecordingError, SessionError
from kobs.events import Event
from kobs.filters import EventFilter
from kobs.session import Session

if TYPE_CHECKING:
    from kobs.query import Query, QueryResult

_CHUNK = 2048
_STALL_S = 0.011
"""A little more than an unfinished slot stops a reader."""
_POLL_FIRST_S = 0.002
_POLL_MOST_S = 0.05


class ProcessRecord(NamedTuple):
    """A recorded process. One that recorded more than once (an `exec`) has several."""

    pid: int
    ppid: int
    recording: int
    command: str
    started_wall_ns: int
    started_monotonic_ns: int
    closed: bool
    """It closed its recording in order."""
    parent_event: int
    """The event that started it; 0 if that is not known."""
    state: str
    """"exited", "running", or "killed": it is gone and did not close its recording."""
    exit_code: int | None
    """As `subprocess` gives it (negative: a signal); None where nobody saw it."""
    path: str
    """Its recording's file."""


class OpenRecord(NamedTuple):
    """A begin event that has no end: what was in flight."""

    event: int
    timestamp_ns: int
    causality_id: int
    span_id: int
    parent: int
    tid: int
    pid: int
    name: str
    origin: str
    type_name: str
    recording: int


def open_recording(path: "str | os.PathLike[str] | Session") -> "Recording":
    """Open a recording's file, or a session folder with all its recordings.

    Raises `RecordingError` or `SessionError` with one line that says what is wrong. In a session
    a file that cannot be read is left out and named in `damage`.
    """
    if isinstance(path, Session):
        return Recording(path.path, path)
    path = os.path.abspath(os.fspath(path))
    if os.path.isdir(path):
        return Recording(path, Session.open(path))
    if not os.path.exists(path):
        raise RecordingError(f"{path}: no such file or session")
    return Recording(path, None)


class _Part:
    """One recording's file with what decodes its events."""

    def __init__(self, attached: AttachedRing) -> None:
        self.attached = attached
        self.decoder = EventDecoder(attached, attached.schemas)
        self.undecoded = 0

    def decode(self, slot: RawSlot) -> Event | None:
        """The event of a slot; None (and counted) where its bytes make no sense."""
        try:
            event = self.decoder.decode(slot)
        except Exception:  # Bytes of a damaged file may be anything.
            event = None
        if event is None:
            self.undecoded += 1
        return event

    def events(self) -> Iterator[Event]:
        """What is there now, by time."""
        reader = self.attached.reader(oldest=True)
        left = reader.pending()
        idle = False
        while True:
            slots = reader.read(_CHUNK)
            for slot in slots:
                event = self.decode(slot)
                if event is not None:
                    yield event
            left -= len(slots)
            if slots and left > -_CHUNK:
                idle = False
            elif idle or not reader.pending() or left <= 0:
                return
            else:
                idle = True
                time.sleep(_STALL_S)


class Recording:
    """A recording or a session, opened for reading. Use it in a `with` block, or close it."""

    def __init__(self, path: str, session: Session | None) -> None:
        self.path = path
        self.session = session
        """The session; None for a single file."""
        self._core = select()
        self._parts: dict[str, _Part] = {}
        self._bad: dict[str, str] = {}
        self._exit_codes: dict[int, int] | None = None
        self._closed = False
        if session is None:
            self._parts[path] = _Part(self._core.attach(path))
        else:
            self._look()

    # What happened

    def events(self) -> Iterator[Event]:
        """The events that are there now, of all files, by time. Begins anew at each call."""
        self._refuse_closed()
        self._look()
        streams = [part.events() for part in self._parts.values()]
        return streams[0] if len(streams) == 1 else heapq.merge(*streams, key=_timestamp)

    def snapshot(self) -> list[Event]:
        """`events()` as a list."""
        return list(self.events())

    def query(self, query: "Query") -> "QueryResult":
        """Run a query over the events; `since` counts back from the end of the recording, or
        from now while it is written."""
        events = self.snapshot()
        if self.running:
            now_ns = time.monotonic_ns()
        else:
            ends = [part.attached.refreshed_monotonic_ns for part in self._parts.values()]
            now_ns = max([*ends, *(event.timestamp_ns for event in events[-1:])], default=0)
        return query.run(events, now_ns=now_ns)

    def subscribe(
        self, event_filter: EventFilter | None = None, *, oldest: bool = False
    ) -> "RecordingSubscriber":
        """A reader that goes on as events come, in processes that begin later too; from now on,
        or from the oldest event."""
        self._refuse_closed()
        return RecordingSubscriber(self, event_filter, oldest)

    def follow(
        self, timeout: float | None = None, *, event_filter: EventFilter | None = None
    ) -> Iterator[Event]:
        """All events, then new ones as they come, until none came for `timeout` seconds (None:
        until every recorded process has ended)."""
        return self.subscribe(event_filter, oldest=True).follow(timeout)

    # About it

    @property
    def session_info(self) -> dict[str, Any]:
        """What was run, when and how it ended: `session.json` and `exit.json`, or what a single
        file's header says of it."""
        if self.session is not None:
            return {**self.session.info, "exit": self.session.exit}
        attached = next(iter(self._parts.values())).attached
        return {
            "session": attached.session,
            "command": attached.command,
            "argv": [],
            "pid": attached.pid,
            "started_wall_ns": attached.started_wall_ns,
            "started_monotonic_ns": attached.started_monotonic_ns,
            "trace_high": f"{attached.trace_high:016x}",
            "exit": None,
        }

    @property
    def running(self) -> bool:
        """A recorded process runs still."""
        return any(part.attached.alive for part in self._parts.values())

    @property
    def processes(self) -> list[ProcessRecord]:
        """The recorded processes, in the order of their recordings."""
        self._refuse_closed()
        self._look()
        codes = self._codes()
        return [self._process(part.attached, codes) for part in self._parts.values()]

    @property
    def unobserved(self) -> list[dict[str, Any]]:
        """Children that were not recorded: pid, argv, reason."""
        return [] if self.session is None else self.session.unobserved()

    @property
    def damage(self) -> list[str]:
        """What is wrong with the files and what was left out because of it; empty if nothing."""
        found = list(self._bad.values())
        for path, part in self._parts.items():
            name = os.path.basename(path)
            found += [f"{name}: {line}" for line in part.attached.damage]
            if part.undecoded:
                found.append(f"{name}: {part.undecoded:,} events could not be decoded")
        return found

    def open_events(self) -> list[OpenRecord]:
        """The begins that have no end, of all processes, oldest first."""
        self._refuse_closed()
        self._look()
        found = []
        for part in self._parts.values():
            attached = part.attached
            for entry in attached.open_events():
                kind = part.decoder.type_of(entry.type_id)
                found.append(
                    OpenRecord(
                        entry.event,
                        entry.timestamp_ns,
                        entry.causality_id,
                        entry.span_id,
                        entry.parent,
                        entry.tid,
                        entry.pid,
                        attached.string(entry.name) if entry.name else "",
                        attached.string(entry.origin) if entry.origin else "",
                        kind.__name__ if kind is not None else "?",
                        attached.recording,
                    )
                )
        return sorted(found, key=lambda entry: entry.timestamp_ns)

    def losses(self) -> LossCounts:
        """What was lost so far, over all files, by cause."""
        parts = self.losses_by_recording().values()
        return LossCounts(*map(sum, zip(*parts, strict=True))) if parts else LossCounts(*(0,) * 10)

    def losses_by_recording(self) -> dict[int, LossCounts]:
        """What was lost so far, by recording number."""
        self._refuse_closed()
        self._look()
        return {part.attached.recording: part.attached.losses() for part in self._parts.values()}

    def produced(self) -> int:
        """How many events were published, kept or not."""
        return sum(part.attached.produced() for part in self._parts.values())

    def close(self) -> None:
        """Release the files. Twice is once."""
        self._closed = True
        for part in self._parts.values():
            part.attached.close()
        self._parts.clear()

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Recording {self.path}, {len(self._parts)} files>"

    # How

    def _look(self) -> None:
        """Open the recordings that came since the last look."""
        if self.session is None or self._closed:
            return
        paths = self.session.recordings()
        if len(paths) == len(self._parts) + len(self._bad) and not self._bad:
            return
        for path in paths:
            if path in self._parts:
                continue
            try:
                self._parts[path] = _Part(self._core.attach(path))
                self._bad.pop(path, None)
            except RecordingError as error:
                # It may be one that is just being made: the next look tries again.
                self._bad[path] = str(error).removeprefix(os.path.dirname(path) + os.sep)

    def _process(self, attached: AttachedRing, codes: dict[int, int]) -> ProcessRecord:
        closed = attached.closed
        running = attached.alive
        return ProcessRecord(
            attached.pid,
            attached.ppid,
            attached.recording,
            attached.command,
            attached.started_wall_ns,
            attached.started_monotonic_ns,
            closed,
            attached.parent_event,
            "exited" if closed else "running" if running else "killed",
            None if running else codes.get(attached.pid),
            attached.path,
        )

    def _codes(self) -> dict[int, int]:
        """Exit code by pid: what parents saw of their children, and `kobs run` of the program."""
        if self._exit_codes is not None:
            return self._exit_codes
        running = self.running
        codes: dict[int, int] = {}
        for part in self._parts.values():
            wanted = {
                type_id
                for type_id, record in part.attached.schemas()
                if b'"ProcessTerminated"' in record
            }
            if wanted:
                codes.update(_terminated(part, wanted))
        ended = self.session.exit if self.session is not None else None
        if ended is not None and self._parts and isinstance(ended.get("exit_code"), int):
            first = next(iter(self._parts.values())).attached
            codes.setdefault(first.pid, ended["exit_code"])
        if not running:
            self._exit_codes = codes
        return codes

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ClosedError(f"the recording {self.path} is closed; open it again")


def _terminated(part: _Part, types: set[int]) -> Iterator[tuple[int, int]]:
    """(pid, exit code) of the terminations that a recording tells of. Looks at the type ids
    alone, so that millions of other events are not decoded for it."""
    ids = {type_id.to_bytes(2, sys.byteorder) for type_id in types}
    reader = part.attached.reader(oldest=True)
    left = reader.pending()
    while left > -_CHUNK and (slots := reader.read(_CHUNK)):
        left -= len(slots)
        for slot in slots:
            if slot.data[56:58] in ids:
                event = part.decode(slot)
                code = getattr(event.payload, "exit_code", None) if event is not None else None
                if event is not None and isinstance(code, int):
                    yield event.pid, code


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
            if timeout is None and not running and quiet >= _STALL_S:
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
            recording._look()
        except SessionError:
            return  # The folder was removed; what is open can still be read.
        for path, part in recording._parts.items():
            if path not in self._readers:
                self._readers[path] = part.attached.reader(oldest=oldest)

    def _fill(self) -> bool:
        self._find(oldest=True)
        found: list[Event] = []
        for path, reader in self._readers.items():
            part = self._recording._parts[path]
            found += [e for slot in reader.read(_CHUNK) if (e := part.decode(slot)) is not None]
        found.sort(key=_timestamp)
        self._waiting.extend(found)
        return bool(found)

    def __iter__(self) -> Iterator[Event]:
        while not self._closed and (event := self.next()) is not None:
            yield event

    def __enter__(self) -> "RecordingSubscriber":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _timestamp(event: Event) -> int:
    return event.timestamp_ns
