"""The Python core: the readable reference, and the fallback where there is no compiler."""

import ctypes
import errno
import os
import struct
import sys
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

from kobs._core import layout, memory, notices, regions
from kobs._core.attached import attach
from kobs._core.contract import (
    BeginPublisher,
    LeftOut,
    LossCounts,
    OpenEvent,
    Publisher,
    Reader,
    Writers,
)
from kobs._core.doorbell import doorbell_of
from kobs._core.lanes import (
    DiscardingLane,
    Lane,
    counted,
    make_begin_publisher,
    make_publisher,
    make_writers,
    payload_packer,
)
from kobs._core.layout import CATEGORIES, LANES, Counters, Header, ReaderEntry, SlotHeader
from kobs._core.reader import LaneView, Place, RingReader
from kobs._core.segments import SegmentFinder, SegmentWriter
from kobs.errors import ClosedError, ConfigError, SchemaError

name = "python"

__all__ = ["PythonRing", "attach", "create", "name"]

_interpreter, _first_thread, _next_thread = (
    ctypes.pythonapi[function]  # not by attribute: those are shared with the program
    for function in (
        "PyInterpreterState_Get",
        "PyInterpreterState_ThreadHead",
        "PyThreadState_Next",
    )
)
_interpreter.restype = _first_thread.restype = _next_thread.restype = ctypes.c_void_p

COUNTED = LossCounts._fields[1:]
"""The causes of loss that are counted; `overwritten` follows from the heads."""


def create(
    *,
    slots: int,
    path: str | None,
    overflow: str,
    recording: int,
    session: str,
    trace_high: int,
    parent_event: int,
    sampling_rate: float,
    first_ticket: int = 0,
    keep: int = 0,
) -> "PythonRing":
    """Make a ring; see `contract.Core.create`."""
    return PythonRing(
        *prepare(
            name,
            slots=slots,
            path=path,
            overflow=overflow,
            recording=recording,
            session=session,
            trace_high=trace_high,
            parent_event=parent_event,
            sampling_rate=sampling_rate,
            first_ticket=first_ticket,
            keep=keep,
        )
    )


def prepare(
    core: str,
    *,
    slots: int,
    path: str | None,
    overflow: str,
    recording: int,
    session: str,
    trace_high: int,
    parent_event: int,
    sampling_rate: float,
    first_ticket: int,
    keep: int,
) -> tuple[memoryview, Header, str | None, int]:
    """Check what was asked for and get the memory: (memory, header, path, first ticket)."""
    if slots & (slots - 1) or not layout.MIN_SLOTS <= slots <= layout.MAX_SLOTS:
        raise ConfigError(
            f"a ring of {slots} slots was asked for; it must be a power of two from "
            f"{layout.MIN_SLOTS} to {layout.MAX_SLOTS}"
        )
    if overflow not in ("overwrite", "discard"):
        raise ConfigError(f"overflow={overflow!r}; it must be 'overwrite' or 'discard'")
    header = Header()
    size = layout.plan(header, slots)
    header.recording = recording
    header.pid = os.getpid()
    header.ppid = os.getppid()
    header.overflow = (
        layout.OVERFLOW_DISCARD if overflow == "discard" else layout.OVERFLOW_OVERWRITE
    )
    header.trace_high = trace_high
    header.parent_event = parent_event
    header.sampling_rate = sampling_rate
    header.session = session.encode("ascii", "replace")[:32]
    header.core = core.encode()
    header.command = _command()
    header.started_monotonic_ns = header.refreshed_monotonic_ns = time.monotonic_ns()
    header.started_wall_ns = header.refreshed_wall_ns = time.time_ns()
    header.first_tickets = (first_ticket,) * LANES
    path, view = _memory(path, size)
    header.keep_bytes = keep if path is not None and overflow == "overwrite" else 0
    return view, header, path, first_ticket


def _memory(path: str | None, size: int) -> tuple[str | None, memoryview]:
    if path is not None:
        try:
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, "it exists already")
            return path, memory.file(memory.hidden(path), size)
        except OSError as error:
            notices.tell(
                f"no recording at {path}: {error.strerror}; "
                f"events are kept in memory only ({size:,} bytes were needed)",
                stacklevel=3,
            )
    return None, memory.anonymous(size)


def _command() -> bytes:
    """The command line of this process, cut to what the header holds."""
    try:
        with open("/proc/self/cmdline", "rb") as file:
            command = file.read(4096).rstrip(b"\0").replace(b"\0", b" ")
    except OSError:
        command = " ".join(sys.argv).encode("utf-8", "surrogateescape")
    return command[:1023].decode("utf-8", "ignore").encode()


class PythonRing:
    """Fulfils `contract.Ring`."""

    def __init__(
        self, view: memoryview, header: Header, path: str | None, first_ticket: int
    ) -> None:
        self.recording: int = header.recording
        self.path = path
        self.slots: int = header.lanes[layout.MAIN_LANE].slots
        self.trace_high: int = header.trace_high
        self.closed = False
        self._owner = os.getpid()
        self._memory = view
        self._words = view.cast("Q")
        self._info = header
        self._counters = {
            cause: (
                count(1),
                (header.counters.offset + getattr(Counters, cause).offset) // 8,
            )
            for cause in COUNTED
        }
        self._by_category: dict[tuple[str, int], tuple[count[int], int]] = {}
        self._strings = regions.Region(view, header.strings)
        self._string_ids: dict[str, int] = {}
        self.known = self._string_ids.get
        self._schemas = regions.Region(view, header.schema)
        self._schema_types: set[int] = set()
        self._schemas.append(_slot_schema(), 0)
        self._in_flight = regions.InFlightTable(view, header.in_flight, header.recording)
        self._lossless: dict[int, int] = {}
        self._readers_lock = allocate_lock()
        self._stops: list[Callable[[], None]] = []
        self.doorbell = doorbell_of(path)
        self._segments = (
            SegmentWriter(header, path, view, first_ticket, self._count_dropped)
            if header.keep_bytes and path is not None
            else None
        )
        self.lanes = [self._lane(lane, first_ticket) for lane in range(LANES)]
        self.segmented = self._segments is not None
        if self._segments is not None:
            self._segments.heads = [lane.head for lane in self.lanes]
        view[: ctypes.sizeof(Header)] = bytes(header)
        if path is not None:
            memory.reveal(path)

    def _lane(self, lane: int, first_ticket: int) -> Lane:
        info = self._info.lanes[lane]
        arguments = (
            lane,
            self._memory,
            self._words,
            info.offset,
            info.slots,
            self._info.counters.offset // 8 + lane * 8,
            self.recording,
            first_ticket,
        )
        return self._make_lane(*arguments)

    def _make_lane(self, *arguments: Any) -> Lane:
        if self._info.overflow == layout.OVERFLOW_DISCARD:
            return DiscardingLane(*arguments, cursors=self._slowest)
        return Lane(*arguments)

    # Producers

    def publisher(self, payload_format: str) -> Publisher:
        return make_publisher(self.writers(payload_format))

    def writers(self, payload_format: str) -> Writers:
        self._check_open()
        writers, stop = make_writers(
            payload_format, self.lanes, self.count, self._segments, self.doorbell
        )
        self._stops.append(stop)
        return writers

    def begin_publisher(self, payload_format: str) -> BeginPublisher:
        publish = self.publisher(payload_format)
        pack = payload_packer(payload_format).pack
        begin, stop = make_begin_publisher(publish, pack, self._in_flight, self.count)
        self._stops.append(stop)
        return begin

    def intern(self, text: str) -> int:
        known = self._string_ids.get(text)
        return known if known is not None else self._intern_new(text)

    def _intern_new(self, text: str) -> int:
        """Put a string into the recording."""
        if not isinstance(text, str):
            raise TypeError(f"expected a str, got {type(text).__name__}")
        if self.closed:
            return 0
        string_id = self._strings.append(text.encode("utf-8", "surrogatepass"))
        if string_id < 0:
            self.count("strings_overflow")
            return 0
        return self._string_ids.setdefault(text, string_id)

    def string(self, string_id: int) -> str:
        text = regions.string_at(self._memory, self._info.strings, string_id)
        return "?" if text is None else text

    def add_schema(self, type_id: int, record: bytes) -> None:
        if type_id in self._schema_types:
            return
        if self._schemas.append(record, type_id) < 0:
            raise SchemaError(
                f"no room for the schema of payload type {type_id}: the ring's schema region "
                f"holds {self._info.schema.size} bytes"
            )
        self._schema_types.add(type_id)

    def close_entry(self, index: int) -> None:
        self._in_flight.close(index)

    def count(self, cause: str, by: int = 1) -> None:
        counter, word = self._counters[cause]
        if by > 1:
            # Consumes in one step: `next` is atomic, an addition would not be.
            deque(islice(counter, by - 1), maxlen=0)
        if by > 0:
            self._words[word] = next(counter)

    def leave_out(self, cause: str, category: int) -> None:
        self.count(cause)
        key = cause, category
        found = self._by_category.get(key)
        if found is None:
            word = self._word_of(cause, category)
            found = self._by_category.setdefault(key, (count(1), word))
        counter, word = found
        self._words[word] = next(counter)

    def left_out(self) -> LeftOut:
        return LeftOut(
            *(
                tuple(self._left_out_of(cause, category) for category in range(CATEGORIES))
                for cause in LeftOut._fields
            )
        )

    def _left_out_of(self, cause: str, category: int) -> int:
        found = self._by_category.get((cause, category))
        return counted(found[0]) - 1 if found is not None else 0

    def _word_of(self, cause: str, category: int) -> int:
        field = getattr(Counters, f"{cause}_by_category")
        return int(self._info.counters.offset + field.offset) // 8 + category

    def _count_dropped(self, events: int) -> None:
        self.count("segments_dropped", events)

    # Readers

    def open_events(self) -> list[OpenEvent]:
        return regions.open_events(self._memory, self._info.in_flight)

    def losses(self) -> LossCounts:
        files = self._segments.last + 1 if self._segments is not None else 1
        overwritten = sum(
            max(0, lane.head() - lane.first_ticket - lane.slots * files) for lane in self.lanes
        )
        return LossCounts(overwritten, *self._counts())

    def _counts(self) -> Iterator[int]:
        """The loss counters, in the order of `COUNTED`."""
        return (counted(counter) - 1 for counter, _ in self._counters.values())

    def produced(self) -> int:
        return sum(lane.head() - lane.first_ticket for lane in self.lanes)

    def reader(self, *, lossless: bool = False, oldest: bool = False) -> Reader:
        self._check_open()
        reader = self._make_reader(self._register() if lossless else None)
        if lossless:
            self._withdraw()
        if oldest:
            reader.seek_oldest()
        else:
            reader.seek_end()
        if lossless:
            self._withdraw()
        return reader

    def _make_reader(self, entry: int | None) -> Reader:
        """A reader; `entry` is a lossless one's in the reader table."""
        if entry is None:
            return RingReader(self._views())
        return RingReader(
            self._views(),
            on_move=lambda cursors: self._note(entry, cursors),
            on_close=lambda: self._unregister(entry),
        )

    def _withdraw(self) -> None:
        """Take back what was granted to producers: a lossless reader came that is behind it."""
        for lane in self.lanes:
            if isinstance(lane, DiscardingLane):
                lane.withdraw()

    def _views(self) -> list[LaneView]:
        if self._segments is None or self.path is None:
            return [_fixed_view(lane) for lane in self.lanes]
        first = [lane.first_ticket for lane in self.lanes]
        finder = SegmentFinder(self._info, self.path, self._memory, first)
        return [_segmented_view(lane, finder, self._segments) for lane in self.lanes]

    def _register(self) -> int:
        with self._readers_lock:
            entry = next((n for n in range(layout.READER_ENTRIES) if n not in self._lossless), None)
            if entry is None:
                raise ConfigError(
                    f"there are {layout.READER_ENTRIES} lossless readers already; close one first"
                )
            self._lossless[entry] = 0
        self._note(entry, tuple(lane.head() for lane in self.lanes))
        self._words[self._entry_word(entry)] = os.getpid()
        return entry

    def _unregister(self, entry: int) -> None:
        self._words[self._entry_word(entry)] = 0
        self._lossless.pop(entry, None)

    def _note(self, entry: int, cursors: tuple[int, ...]) -> None:
        word = self._entry_word(entry) + 1
        for lane, cursor in enumerate(cursors):
            self._words[word + lane] = cursor

    def _entry_word(self, entry: int) -> int:
        return int(self._info.readers.offset + entry * ctypes.sizeof(ReaderEntry)) // 8

    def _slowest(self, lane: int) -> int | None:
        """The cursor of the slowest lossless reader in a lane; None where there is none."""
        words = self._words
        cursors = [words[self._entry_word(entry) + 1 + lane] for entry in list(self._lossless)]
        return int(min(cursors)) if cursors else None

    # Life

    def refresh_clocks(self) -> None:
        at = Header.refreshed_monotonic_ns.offset // 8
        self._words[at] = time.monotonic_ns()
        self._words[at + 1] = time.time_ns()

    def abandon(self) -> None:
        self.closed = True
        for stop in self._stops:
            stop()
        self._stops.clear()

    def close(self) -> None:
        if self.closed:
            return
        self.abandon()
        if os.getpid() != self._owner:
            return  # A forked child lets go of its parent's ring; the parent goes on with it.
        self._write_counts()
        if self._segments is not None:
            self._segments.close()
        self._write_state(layout.STATE_CLOSED)

    def leave(self) -> None:
        if self.closed or os.getpid() != self._owner:
            return
        if _only_thread():
            self.close()  # Nobody is left to publish.
            return
        self._write_counts()
        self._write_state(layout.STATE_LEFT)

    def _write_state(self, state: int) -> None:
        self.refresh_clocks()
        at = Header.state.offset
        self._memory[at : at + 4] = state.to_bytes(4, sys.byteorder)

    def _write_counts(self) -> None:
        """Have the counts in memory exact, at the end: they may lag behind while it is written."""
        for counter, word in (*self._counters.values(), *self._by_category.values()):
            self._words[word] = counted(counter) - 1
        for lane in self.lanes:
            self._words[lane.head_word] = lane.head()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError("the ring is closed; make a new collector")


def _fixed_view(lane: Lane) -> LaneView:
    place = Place(lane.memory, lane.words, lane.base, True)
    return LaneView(lane.lane, lane.slots, lane.first_ticket, lane.head, lambda _ticket: place)


def _segmented_view(lane: Lane, finder: SegmentFinder, segments: SegmentWriter) -> LaneView:
    def oldest() -> int:
        return (
            lane.first_ticket if segments.last else max(lane.first_ticket, lane.head() - lane.slots)
        )

    return LaneView(
        lane.lane,
        lane.slots,
        lane.first_ticket,
        lane.head,
        lambda ticket: finder.locate(lane.lane, ticket),
        oldest,
    )


def _slot_schema() -> bytes:
    """Record 0 of the schema region: how a slot's header is laid out, for tools without kobs."""
    import json

    formats = {8: "Q", 4: "I", 2: "H", 1: "B"}
    fields = [
        {
            "name": field[0],
            "offset": getattr(SlotHeader, field[0]).offset,
            "format": formats[struct.calcsize(f"{getattr(SlotHeader, field[0]).size}s")],
        }
        for field in SlotHeader._fields_
    ]
    return json.dumps(
        {
            "slot_size": layout.SLOT_SIZE,
            "header": fields,
            "payload_offset": layout.SLOT_HEADER_SIZE,
            "stamp": "(ticket + 1) << 1 when finished, | 1 while it is written",
            "slot": "ticket & (slots - 1)",
            "severity_category": "severity | category << 4",
        },
        separators=(",", ":"),
    ).encode()


def _only_thread() -> bool:
    """This interpreter has no other thread. `sys._current_frames` would make objects of the frames
    of all interpreters, in the memory of this one: another cannot free them."""
    first = _first_thread(ctypes.c_void_p(_interpreter()))
    return not _next_thread(ctypes.c_void_p(first))
