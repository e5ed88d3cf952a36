"""Reading a recording's file, while it is written or after, whole or damaged."""

import os
import sys
import time
from collections.abc import Callable, Iterator

from kobs._core import layout, memory, regions
from kobs._core.contract import AttachedRing, LeftOut, LossCounts, OpenEvent, Reader
from kobs._core.layout import CATEGORIES, LANES, PAGE, SLOT_SIZE, Counters, Header
from kobs._core.reader import LaneView, Place, RingReader
from kobs._core.segments import SegmentFinder
from kobs.errors import RecordingError
from kobs.ids import MAX_RECORDING

COUNTED = LossCounts._fields[1:]
_WORDS = SLOT_SIZE // 8
_PRODUCERS = 1024
"""More threads than a process has that was killed while all of them wrote an event."""


def attach(path: str) -> AttachedRing:
    """Open a recording's file for reading; see `contract.Core.attach`."""
    return open_file(path, AttachedFile)


def open_file(path: str, made: "type[AttachedFile]") -> AttachedRing:
    """As `attach`, with readers of one core's or the other's making."""
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            front = file.read(PAGE)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from None
    header = _checked_header(path, front, size)
    damage: list[str] = []
    total = header.total_size
    if size >= total:
        try:
            view = memory.existing(path, total)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be mapped: {error.strerror}") from None
    else:
        view = _padded(path, _whole_slots(header, size), total)
        damage.append(_missing(header, size))
    return made(path, header, view, damage)


def _checked_header(path: str, front: bytes, size: int) -> Header:
    """The header, if everything in it is as this version writes it."""
    if not front.startswith(layout.MAGIC):
        found = "an empty file" if not front else f"it begins with {front[:8]!r}"
        raise RecordingError(
            f"{path}: not a kobs recording: {found}, a recording with {layout.MAGIC!r}"
        )
    if len(front) < PAGE:
        raise RecordingError(
            f"{path}: truncated: {size:,} bytes, the header alone has {PAGE:,}; nothing is left"
        )
    header = Header.from_buffer_copy(front)
    if header.byte_order != layout.BYTE_ORDER_MARK:
        swapped = int.from_bytes(layout.BYTE_ORDER_MARK.to_bytes(4, "big"), "little")
        if header.byte_order == swapped:
            raise RecordingError(
                f"{path}: written on a machine of the other byte order than this one "
                f"({sys.byteorder}-endian); read it on a machine like the one that wrote it"
            )
        raise _corrupted(path, "byte_order", header.byte_order, layout.BYTE_ORDER_MARK)
    if header.version != layout.VERSION:
        raise RecordingError(
            f"{path}: format version {header.version}; this kobs reads version "
            f"{layout.VERSION}: read it with the kobs that recorded it"
        )
    if header.recording > MAX_RECORDING:
        raise _corrupted(path, "recording", header.recording, f"at most {MAX_RECORDING}")
    slots = header.lanes[layout.MAIN_LANE].slots
    if slots & (slots - 1) or not layout.MIN_SLOTS <= slots <= layout.MAX_SLOTS:
        raise _corrupted(path, "lanes[0].slots", slots, "a power of two")
    expected = Header()
    layout.plan(expected, slots)
    for name in ("header_size", "slot_size", "slot_header_size", "lane_count", "total_size"):
        if getattr(header, name) != getattr(expected, name):
            raise _corrupted(path, name, getattr(header, name), getattr(expected, name))
    for name in ("counters", "schema", "strings", "in_flight", "readers"):
        found, wanted = getattr(header, name), getattr(expected, name)
        if (found.offset, found.size) != (wanted.offset, wanted.size):
            raise _corrupted(path, f"{name}.offset", found.offset, wanted.offset)
    for lane in range(LANES):
        if (header.lanes[lane].offset, header.lanes[lane].slots) != (
            expected.lanes[lane].offset,
            expected.lanes[lane].slots,
        ):
            raise _corrupted(
                path,
                f"lanes[{lane}].offset",
                header.lanes[lane].offset,
                expected.lanes[lane].offset,
            )
        first_ticket = header.first_tickets[lane]
        if first_ticket > layout.MAX_TICKET:
            raise _corrupted(
                path, f"first_tickets[{lane}]", first_ticket, f"at most {layout.MAX_TICKET}"
            )
    first = header.lanes[layout.MAIN_LANE].offset
    if size < first:
        raise RecordingError(
            f"{path}: truncated: {size:,} of {header.total_size:,} bytes, and events begin at "
            f"byte {first:,}; nothing is left"
        )
    return header


def _corrupted(path: str, field: str, found: object, expected: object) -> RecordingError:
    return RecordingError(
        f"{path}: corrupted header: {field} is {found}, expected {expected}; "
        "the file was damaged after it was written, and cannot be read"
    )


def _padded(path: str, size: int, total: int) -> memoryview:
    """A copy of a truncated file, with unused slots where bytes are missing."""
    view = memory.anonymous(total)
    at = 0
    try:
        with open(path, "rb") as file:
            while at < size and (read := file.readinto(view[at : min(size, at + (1 << 20))])):
                at += read
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from None
    return view.toreadonly()


def _whole_slots(header: Header, size: int) -> int:
    """`size` without the slot that is cut: its stamp may be there, and its event torn."""
    for lane in header.lanes:
        if lane.offset <= size < lane.offset + lane.slots * SLOT_SIZE:
            return int(size - (size - lane.offset) % SLOT_SIZE)
    return size


def _missing(header: Header, size: int) -> str:
    gone = []
    for lane, title in ((layout.MAIN_LANE, "main"), (layout.PRIORITY_LANE, "priority")):
        info = header.lanes[lane]
        left = max(0, min(info.slots, (size - info.offset) // SLOT_SIZE))
        if left < info.slots:
            gone.append(f"{info.slots - left:,} of {info.slots:,} slots of the {title} lane")
    what = " and ".join(gone) or "no slot"
    return f"truncated: {size:,} of {header.total_size:,} bytes; {what} are left out"


class AttachedFile:
    """Fulfils `contract.AttachedRing`."""

    def __init__(self, path: str, header: Header, view: memoryview, damage: list[str]) -> None:
        self.path = path
        self.recording: int = header.recording
        self.pid: int = header.pid
        self.ppid: int = header.ppid
        self.parent_event: int = header.parent_event
        self.trace_high: int = header.trace_high
        self.segment: int = header.segment
        self.slots: int = header.lanes[layout.MAIN_LANE].slots
        self.session = header.session.decode("ascii", "replace")
        self.command = header.command.decode("utf-8", "replace")
        self.core = header.core.decode("ascii", "replace")
        self.started_monotonic_ns: int = header.started_monotonic_ns
        self.started_wall_ns: int = header.started_wall_ns
        self.sampling_rate: float = header.sampling_rate
        self._damage = damage
        self._info = header
        self._memory = view
        self._words = view.cast("Q")
        self._first = [int(header.first_tickets[lane]) for lane in range(LANES)]
        self._segmented = bool(header.keep_bytes) and not header.segment
        self._finder = SegmentFinder(header, path, view, self._first)
        self._whole = not damage
        self._live = self._whole and self.alive
        self._settled_heads: dict[int, int] = {}
        if not self._live:
            self._settle()

    @property
    def damage(self) -> list[str]:
        """What is wrong with the file and what was left out because of it."""
        return self._damage + self._finder.damage

    @property
    def closed(self) -> bool:
        """The writer closed it, or left it, in order."""
        return self._state != layout.STATE_OPEN

    @property
    def alive(self) -> bool:
        """The process that writes it runs still, and did not close it."""
        if self._state == layout.STATE_CLOSED:
            return False
        return process_alive(self.pid, self.started_monotonic_ns)

    @property
    def _state(self) -> int:
        at = Header.state.offset
        return int.from_bytes(self._memory[at : at + 4], sys.byteorder)

    @property
    def refreshed_monotonic_ns(self) -> int:
        return int(self._words[Header.refreshed_monotonic_ns.offset // 8])

    @property
    def refreshed_wall_ns(self) -> int:
        return int(self._words[Header.refreshed_wall_ns.offset // 8])

    def schemas(self) -> Iterator[tuple[int, bytes]]:
        """(type id, JSON record) of every payload type, record 0 (the slot layout) first."""
        return regions.records(self._memory, self._info.schema)

    def string(self, string_id: int) -> str:
        """The string of an id; an unknown one gives `"?"`."""
        text = regions.string_at(self._memory, self._info.strings, string_id)
        return "?" if text is None else text

    def open_events(self) -> list[OpenEvent]:
        """The in-flight table."""
        return regions.open_events(self._memory, self._info.in_flight)

    def losses(self) -> LossCounts:
        """What was lost so far."""
        base = self._info.counters.offset
        counts = [self._words[(base + getattr(Counters, cause).offset) // 8] for cause in COUNTED]
        overwritten = 0
        for lane in range(LANES):
            room = self._info.lanes[lane].slots
            if self._segmented:
                room *= self._finder.numbers()[-1] + 1
            overwritten += max(0, self._head(lane) - self._first[lane] - room)
        return LossCounts(overwritten, *counts)

    def left_out(self) -> LeftOut:
        """Of what was left out on purpose, how much was of each category."""
        base = self._info.counters.offset
        made = []
        for cause in LeftOut._fields:
            first = (base + getattr(Counters, f"{cause}_by_category").offset) // 8
            made.append(tuple(self._words[first + at] for at in range(CATEGORIES)))
        return LeftOut(*made)

    def produced(self) -> int:
        """How many events had a ticket, over both lanes."""
        return sum(max(0, self._head(lane) - self._first[lane]) for lane in range(LANES))

    def reader(self, *, oldest: bool = True) -> Reader:
        """A reader over the recording, all its segments; a live one is followed."""
        reader = self._make_reader(
            settled=not self._live, before_read=self._check_size if self._whole else None
        )
        if oldest:
            reader.seek_oldest()
        else:
            reader.seek_end()
        return reader

    def close(self) -> None:
        """Release the mapping (once no reader uses it)."""
        self._finder = SegmentFinder(self._info, self.path, self._memory, self._first)

    # How

    def _make_reader(self, *, settled: bool, before_read: Callable[[], None] | None) -> Reader:
        views = [self._view(lane) for lane in range(LANES)]
        return RingReader(views, settled=settled, before_read=before_read)

    def _view(self, lane: int) -> LaneView:
        info = self._info.lanes[lane]
        slots: int = info.slots
        first = self._first[lane]
        place = Place(self._memory, self._words, info.offset // 8, True)
        finder = self._finder
        if not self._segmented:
            return LaneView(
                lane, info.slots, first, lambda: self._head(lane), lambda _ticket: place
            )
        return LaneView(
            lane,
            info.slots,
            first,
            lambda: self._head(lane),
            lambda ticket: finder.locate(lane, ticket),
            lambda: first if finder.numbers()[-1] else max(first, self._head(lane) - slots),
        )

    def _head(self, lane: int) -> int:
        settled = self._settled_heads.get(lane)
        if settled is not None:
            return settled
        head = int(self._words[self._info.counters.offset // 8 + lane * 8])
        return min(head, layout.MAX_TICKET)

    def _unfinished(self) -> int:
        """How many tickets may have been taken by the C core and never written: one a thread, and
        those whose event was given up."""
        at = self._info.counters.offset + Counters.contended.offset
        return (_PRODUCERS + int(self._words[at // 8])) if self.core == "c" else 0

    def _settle(self) -> None:
        """Find the heads of a recording that nobody writes any more.

        A killed writer may have finished slots without moving the head counter (Python core, by
        whatever its other threads wrote meanwhile) or moved it without finishing them (C core), and
        either may be damaged; where they disagree, the one that more slots agree with is believed.
        """
        for lane in range(LANES):
            head = self._head(lane)
            slots = self._info.lanes[lane].slots
            words, base = self._words, self._info.lanes[lane].offset // 8
            if self._segmented and self._first[lane] < head:
                place = self._finder.locate(lane, head - 1)
                if isinstance(place, Place):
                    words, base = place.words, place.base
            stamps = words[base : base + slots * _WORDS : _WORDS].tolist()
            tickets = [
                ticket
                for index, stamp in enumerate(stamps)
                if stamp > 1 and (ticket := (stamp >> 1) - 1) & (slots - 1) == index
            ]
            newest = max(tickets, default=self._first[lane] - 1) + 1
            if head > newest and head - newest <= self._unfinished() and tickets:
                newest = head  # taken, and the writer was killed before they were written
            elif not head <= newest <= head + slots:
                support = {
                    candidate: sum(candidate - slots <= ticket < candidate for ticket in tickets)
                    for candidate in (head, newest)
                }
                if support[newest] < support[head] or not tickets:
                    newest = head
                elif not self._segmented and (self.core == "c" or head > newest):
                    self._damage.append(
                        f"the head counter of lane {lane} says {head:,}, its slots {newest:,}"
                    )
            self._settled_heads[lane] = min(newest, layout.MAX_TICKET)

    def _check_size(self) -> None:
        """Reading mapped memory behind a file's end is a SIGBUS, so look before each read."""
        try:
            size = os.stat(self.path).st_size
        except OSError:
            return  # Deleted: the mapping stays whole.
        if size < self._info.total_size:
            raise RecordingError(
                f"{self.path}: was truncated to {size:,} of {self._info.total_size:,} bytes while "
                "it was read; open it again for what is left"
            )


def process_alive(pid: int, since_monotonic_ns: int) -> bool:
    """Whether the process `pid`, which was there at a monotonic time, runs still.

    A process that began later only has the same number.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    if fields[0] in (b"Z", b"X"):
        return False
    now = time.monotonic_ns()
    if since_monotonic_ns > now:
        return False  # Recorded before the last boot.
    ticks = os.sysconf("SC_CLK_TCK")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / ticks
    return age + 2 / ticks >= (now - since_monotonic_ns) / 1e9
