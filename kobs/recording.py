"""Reading recordings: one file, or all files of a session merged by time, live or after."""

import heapq
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from kobs._core import select
from kobs._core.contract import AttachedRing, LeftOut, LossCounts, RawSlot, Reader
from kobs._core.layout import CATEGORIES
from kobs.decoder import EventDecoder
from kobs.errors import ClosedError, RecordingError
from kobs.events import Event
from kobs.filters import EventFilter
from kobs.session import Session

if TYPE_CHECKING:
    from kobs._analysis.scanned import Source
    from kobs.following import RecordingSubscriber
    from kobs.query import Query, QueryResult

CHUNK = 2048
STALL_S = 0.011
"""A little more than an unfinished slot stops a reader."""


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


def process_record(attached: AttachedRing, codes: dict[int, int]) -> ProcessRecord:
    """What an attached ring says of its process; `codes`: exit codes by pid."""
    running, closed = attached.alive, attached.closed
    return ProcessRecord(
        attached.pid,
        attached.ppid,
        attached.recording,
        attached.command,
        attached.started_wall_ns,
        attached.started_monotonic_ns,
        closed,
        attached.parent_event,
        "running" if running else "exited" if closed else "killed",
        None if running else codes.get(attached.pid),
        attached.path,
    )


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


class Part:
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

    def types_named(self, name: bytes) -> set[int]:
        """The ids of the payload types that have `name` (as JSON) in their declaration."""
        return {type_id for type_id, record in self.attached.schemas() if name in record}

    def events(self) -> Iterator[Event]:
        """What is there now, by time."""
        for slots in self.portions():
            for slot in slots:
                event = self.decode(slot)
                if event is not None:
                    yield event

    def portions(self) -> Iterator[list[RawSlot]]:
        """The slots of what is there now, by time."""
        reader = self.attached.reader(oldest=True)
        left = reader.pending()
        idle = False
        while True:
            slots = reader.read(CHUNK)
            yield slots
            left -= len(slots)
            if slots and left > -CHUNK:
                idle = False
            elif idle or not reader.pending() or left <= 0:
                return
            else:
                idle = True
                time.sleep(STALL_S)


class Recording:
    """A recording or a session, opened for reading. Use it in a `with` block, or close it."""

    def __init__(self, path: str, session: Session | None) -> None:
        self.path = path
        self.session = session
        """The session; None for a single file."""
        self._core = select()
        self.parts: dict[str, Part] = {}
        """The files that are open, by path; for kobs's own modules."""
        self._bad: dict[str, str] = {}
        self._exit_codes: dict[int, int] = {}
        self._scanners: dict[str, Reader] = {}
        self._closed = False
        if session is None:
            self.parts[path] = Part(self._core.attach(path))
        else:
            self.look()

    # What happened

    def events(self) -> Iterator[Event]:
        """The events that are there now, of all files, by time. Begins anew at each call."""
        self._refuse_closed()
        self.look()
        streams = [part.events() for part in self.parts.values()]
        return streams[0] if len(streams) == 1 else heapq.merge(*streams, key=_timestamp)

    def portions(self) -> Iterator[tuple[Part, list[RawSlot]]]:
        """The slots of what is there now, of all files, by time, as they follow one another in
        one file; for kobs's own modules."""
        self._refuse_closed()
        self.look()
        parts = list(self.parts.values())
        if len(parts) == 1:
            for slots in parts[0].portions():
                yield parts[0], slots
            return
        merged = heapq.merge(*map(_timed, parts), key=_first)
        for part, run in groupby(merged, key=_part):
            while slots := [slot for _, _, slot in islice(run, CHUNK)]:
                yield part, slots

    def snapshot(self) -> list[Event]:
        """`events()` as a list."""
        return list(self.events())

    def query(self, query: "Query", *, now_ns: int | None = None) -> "QueryResult":
        """Run a query over the events; `since` counts back from `now_ns` (default: the end of the
        recording, or now while it is written)."""
        self._refuse_closed()
        self.look()
        if now_ns is None:
            now_ns = self._moment(query)
        result = self._scanned(query, now_ns)
        if result is None:
            seen = _Counted(self.events())
            result = query.run(seen, now_ns=now_ns)
            result.lost = self._missed(seen.count)
        return result

    def last_ns(self) -> int:
        """When the last event was, monotonic; 0 if there is none."""
        self._refuse_closed()
        self.look()
        sources = self._sources()
        if sources is None:
            undecoded = [part.undecoded for part in self.parts.values()]
            last = max((event.timestamp_ns for event in self.events()), default=0)
            for part, before in zip(self.parts.values(), undecoded, strict=True):
                part.undecoded = before
            return last
        from kobs._analysis.scanned import last_ns

        return last_ns(sources)

    def subscribe(
        self, event_filter: EventFilter | None = None, *, oldest: bool = False
    ) -> "RecordingSubscriber":
        """A reader that goes on as events come, in processes that begin later too; from now on,
        or from the oldest event."""
        from kobs.following import RecordingSubscriber

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
        attached = next(iter(self.parts.values())).attached
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
        return any(part.attached.alive for part in self.parts.values())

    @property
    def processes(self) -> list[ProcessRecord]:
        """The recorded processes, in the order of their recordings."""
        self._refuse_closed()
        self.look()
        codes = self._codes()
        return [process_record(part.attached, codes) for part in self.parts.values()]

    @property
    def unobserved(self) -> list[dict[str, Any]]:
        """Children that were not recorded: pid, argv, reason."""
        return [] if self.session is None else self.session.unobserved()

    @property
    def damage(self) -> list[str]:
        """What is wrong with the files and what was left out because of it; empty if nothing."""
        found = list(self._bad.values())
        for path, part in self.parts.items():
            name = os.path.basename(path)
            found += [f"{name}: {line}" for line in part.attached.damage + part.decoder.damage]
            if part.undecoded:
                found.append(f"{name}: {part.undecoded:,} events could not be decoded")
        return found

    def open_events(self) -> list[OpenRecord]:
        """The begins that have no end, of all processes, oldest first."""
        self._refuse_closed()
        self.look()
        found = []
        for part in self.parts.values():
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
        self.look()
        return {part.attached.recording: part.attached.losses() for part in self.parts.values()}

    def left_out(self) -> LeftOut:
        """Of what was left out on purpose, how much was of each category, over all files."""
        self._refuse_closed()
        self.look()
        each = [part.attached.left_out() for part in self.parts.values()]
        none = (0,) * CATEGORIES
        return LeftOut(
            *(
                tuple(map(sum, zip(none, *(getattr(one, cause) for one in each), strict=True)))
                for cause in LeftOut._fields
            )
        )

    def produced(self) -> int:
        """How many events were published, kept or not."""
        return sum(part.attached.produced() for part in self.parts.values())

    def close(self) -> None:
        """Release the files. Twice is once."""
        self._closed = True
        for part in self.parts.values():
            part.attached.close()
        self.parts.clear()

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Recording {self.path}, {len(self.parts)} files>"

    # How

    def look(self) -> None:
        """Open the recordings that came since the last look."""
        if self.session is None or self._closed:
            return
        paths = self.session.recordings()
        if len(paths) == len(self.parts) + len(self._bad) and not self._bad:
            return
        for path in paths:
            if path in self.parts:
                continue
            try:
                self.parts[path] = Part(self._core.attach(path))
                self._bad.pop(path, None)
            except RecordingError as error:
                # It may be one that is just being made: the next look tries again.
                self._bad[path] = str(error).removeprefix(os.path.dirname(path) + os.sep)

    def _moment(self, query: "Query") -> int:
        """What `since` counts back from."""
        if self.running or not query.looks_back:
            return time.monotonic_ns()
        ends = [part.attached.refreshed_monotonic_ns for part in self.parts.values()]
        return max([self.last_ns(), *ends])

    def _missed(self, seen: int) -> int:
        losses = self.losses()
        lost = max(0, self.produced() - seen)
        return lost + losses.discarded + losses.too_big + losses.errors

    def _scanned(self, query: "Query", now_ns: int) -> "QueryResult | None":
        """A query that the C core answers straight from the slots; None where it cannot."""
        sources = self._sources()
        if sources is None:
            return None
        from kobs._analysis.scanned import MergedScan

        parts = list(self.parts.values())
        scan = MergedScan(query, sources)
        found = scan.found(now_ns)
        if found is None:
            return None
        for part, undecoded in zip(parts, found.undecoded, strict=True):
            part.undecoded += undecoded
        return scan.result(found, now_ns, self._missed(found.seen))

    def _sources(self) -> "list[Source] | None":
        """What the C core may look at itself; None without it."""
        parts = list(self.parts.values())
        if not parts or any(part.decoder.native is None for part in parts):
            return None
        return [(part.decoder, part.portions) for part in parts]

    def _codes(self) -> dict[int, int]:
        """Exit code by pid: what parents saw of their children, and `kobs run` of the program."""
        codes = self._exit_codes
        for path, part in self.parts.items():
            wanted = part.types_named(b'"ProcessTerminated"')
            if wanted:
                # Each event is looked at once, however often someone asks.
                reader = self._scanners.get(path)
                if reader is None:
                    reader = self._scanners[path] = part.attached.reader(oldest=True)
                codes.update(_terminated(part, reader, wanted))
        ended = self.session.exit if self.session is not None else None
        if ended is not None and self.parts:
            code, number = ended.get("exit_code"), ended.get("signal")
            first = next(iter(self.parts.values())).attached
            if isinstance(number, int):
                codes.setdefault(first.pid, -number)
            elif isinstance(code, int):
                codes.setdefault(first.pid, code)
        return codes

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ClosedError(f"the recording {self.path} is closed; open it again")


class _Counted:
    """Events, and how many of them there were."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self.count = 0

    def __iter__(self) -> Iterator[Event]:
        for event in self._events:
            self.count += 1
            yield event


def _terminated(part: Part, reader: Reader, types: set[int]) -> Iterator[tuple[int, int]]:
    """(pid, exit code) of the terminations that a reader has not given yet. Looks at the type
    ids alone, so that millions of other events are not decoded for it."""
    ids = {type_id.to_bytes(2, sys.byteorder) for type_id in types}
    left = reader.pending()
    while left > -CHUNK and (slots := reader.read(CHUNK)):
        left -= len(slots)
        for slot in slots:
            if slot.data[56:58] in ids:
                event = part.decode(slot)
                code = getattr(event.payload, "exit_code", None) if event is not None else None
                if event is not None and isinstance(code, int):
                    yield event.pid, code


def _timestamp(event: Event) -> int:
    return event.timestamp_ns


_timestamp_of = Struct("=8xQ").unpack_from
_Timed = tuple[int, Part, RawSlot]
_first: Callable[[_Timed], int] = itemgetter(0)
_part: Callable[[_Timed], Part] = itemgetter(1)


def _timed(part: Part) -> Iterator[_Timed]:
    for slots in part.portions():
        for slot in slots:
            yield _timestamp_of(slot.data)[0], part, slot
