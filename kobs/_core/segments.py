"""A recording that goes on in further files: where a ticket's slot lies.

Segment `k` of a lane holds the tickets from `first + k * slots` to just below
`first + (k + 1) * slots`, in both lanes' own count: which file a ticket belongs to follows from
the ticket alone, so producers that cross into a new segment need not agree on anything. Segment 0
is the recording itself and stays; of the others the oldest are dropped.
"""

import ctypes
import os
from _thread import allocate_lock
from collections.abc import Callable

from kobs._core import layout, memory, notices
from kobs._core.layout import LANES, Counters, Header
from kobs._core.reader import Place

Mapped = tuple[int, memoryview, memoryview]
"""(segment, its bytes, its 64-bit words)."""

_WAIT_S = 0.05
"""How long a producer waits for another one that makes the next segment: the one place where a
producer may wait, once in a ring's worth of events."""


class SegmentWriter:
    """Makes, finds and drops the segments of a recording that is being written."""

    def __init__(
        self,
        header: Header,
        path: str,
        base: memoryview,
        first_ticket: int,
        count_dropped: Callable[[int], None],
    ) -> None:
        self.rebind: list[Callable[[], None]] = []
        """Make a publisher let go of the segment that it wrote to last."""
        self.last = 0
        """The newest segment there is."""
        self._path = path
        self._size: int = header.total_size
        self._allowed = max(2, header.keep_bytes // header.total_size)
        self._slots = [int(header.lanes[lane].slots) for lane in range(LANES)]
        self._first_ticket = first_ticket
        self._places: dict[int, Mapped] = {0: (0, base, base.cast("Q"))}
        self._files = [0]
        self._current = [0] * LANES
        self._lock = allocate_lock()
        self._wait_s = _WAIT_S
        self._full = False
        self._dropped: set[tuple[int, int]] = set()
        self._count_dropped = count_dropped

    def locate(self, lane: int, segment: int) -> Mapped | None:
        """Where to write events of a segment; None where that is not to be had: the event is
        lost. Makes the segment if it is new."""
        place = self._places.get(segment)
        if place is not None and self._current[lane] >= segment:
            return place
        if not self._lock.acquire(timeout=self._wait_s):
            self._wait_s = 0.0  # Not once an event, should it be held for good.
            return None
        try:
            place = self._places.get(segment)
            if place is None:
                if self._full and segment > self.last:
                    # No room for more: the newest segment is overwritten from here on.
                    place = self._places.get(self.last) or self._map(self.last)
                    return (segment, place[1], place[2])
                place = self._make(segment)
                self._wait_s = _WAIT_S
            if segment > self._current[lane]:
                self._current[lane] = segment
                self._retire()
            return place
        finally:
            self._lock.release()

    def _make(self, segment: int) -> Mapped:
        if segment in self._files:
            return self._map(segment)
        path = layout.segment_path(self._path, segment)
        self._make_room(segment)
        try:
            view = memory.file(memory.hidden(path), self._size)
            self._copy_front(view, segment)
            memory.reveal(path)
        except OSError as error:
            self._full = True
            notices.tell(
                f"no further segment {path}: {error.strerror}; "
                "the recording overwrites its newest part from here on",
                stacklevel=2,
            )
            place = self._places.get(self.last) or self._map(self.last)
            return (segment, place[1], place[2])
        self._files.append(segment)
        self._files.sort()
        self.last = self._files[-1]
        place = self._places[segment] = (segment, view, view.cast("Q"))
        return place

    def _map(self, segment: int) -> Mapped:
        view = memory.existing_writable(layout.segment_path(self._path, segment), self._size)
        place = self._places[segment] = (segment, view, view.cast("Q"))
        return place

    def _copy_front(self, view: memoryview, segment: int) -> None:
        """A header, the schemas and the strings so far: the file says what it is, alone too."""
        base = self._places[0][1]
        header = Header.from_buffer_copy(bytes(base[: layout.PAGE]))
        header.segment = segment
        for lane in range(LANES):
            first = self._first_ticket + segment * self._slots[lane]
            header.first_tickets[lane] = first
            at = header.counters.offset + Counters.heads.offset + lane * layout.CACHE_LINE
            view[at : at + 8] = ctypes.string_at(ctypes.byref(ctypes.c_uint64(first)), 8)
        for region in (header.schema, header.strings):
            end = region.offset + region.size
            view[region.offset : end] = base[region.offset : end]
        view[: ctypes.sizeof(Header)] = bytes(header)

    def _make_room(self, wanted: int) -> None:
        """Drop the oldest further segments that no lane writes to, so that one more fits."""
        while len(self._files) >= self._allowed:
            oldest = next((n for n in self._files[1:] if n not in self._current), None)
            if oldest is None or oldest == wanted:
                return
            self._files.remove(oldest)
            self._places.pop(oldest, None)
            try:
                os.unlink(layout.segment_path(self._path, oldest))
            except OSError:
                pass
            for lane, slots in enumerate(self._slots):
                # A file may be made again for the lane that is slower; what the other one had
                # in it is counted once.
                if oldest < self._current[lane] and (lane, oldest) not in self._dropped:
                    self._dropped.add((lane, oldest))
                    self._count_dropped(slots)

    def _retire(self) -> None:
        """Unmap what producers have left behind, but for the newest few: a slow one may still
        be on its way to an older segment."""
        keep = {0, self.last, self.last - 1, *self._current, *(n - 1 for n in self._current)}
        for segment in [n for n in self._places if n not in keep]:
            del self._places[segment]
        for rebind in list(self.rebind):
            rebind()


class SegmentFinder:
    """Finds the memory of a ticket's slot for readers, mapping further files as they are needed."""

    def __init__(
        self, header: Header, path: str, memory_of_base: memoryview, first_tickets: list[int]
    ) -> None:
        self._path = path
        self._size: int = header.total_size
        self._slots = [int(header.lanes[lane].slots) for lane in range(LANES)]
        self._words = [header.lanes[lane].offset // 8 for lane in range(LANES)]
        self._first = first_tickets
        self._base: Mapped = (0, memory_of_base, memory_of_base.cast("Q"))
        self._mapped: dict[int, Mapped] = {}
        self.damage: list[str] = []

    def locate(self, lane: int, ticket: int) -> Place | int:
        """Where `ticket` lies, or the next ticket whose segment is not gone."""
        slots = self._slots[lane]
        first = self._first[lane]
        segment = (ticket - first) // slots
        mapped = self._base if segment <= 0 else self._mapped.get(segment) or self._map(segment)
        ring = False
        if mapped is None:
            numbers = self.numbers()
            following = next((number for number in numbers if number > segment), None)
            if following is not None:
                return first + following * slots
            # Not made yet, or there was no room for it: then the newest one is overwritten.
            ring = True
            newest = numbers[-1]
            mapped = self._base if newest == 0 else self._mapped.get(newest) or self._map(newest)
            if mapped is None:
                return ticket
        return Place(mapped[1], mapped[2], self._words[lane], ring)

    def numbers(self) -> list[int]:
        """The segments that there are, in order."""
        folder, name = os.path.split(self._path)
        stem = name.removesuffix(".kobs") + "."
        found = [0]
        try:
            names = os.listdir(folder or ".")
        except OSError:
            return found
        for entry in names:
            middle = entry[len(stem) : -len(".kobs")]
            if entry.startswith(stem) and entry.endswith(".kobs") and middle.isdecimal():
                found.append(int(middle))
        return sorted(found)

    def _map(self, segment: int) -> Mapped | None:
        path = layout.segment_path(self._path, segment)
        try:
            size = os.stat(path).st_size
            if size < self._size:
                self.damage.append(f"{path} has {size:,} of {self._size:,} bytes and is left out")
                return None
            view = memory.existing(path, self._size)
        except OSError:
            return None
        while len(self._mapped) > 4:
            del self._mapped[next(iter(self._mapped))]
        place = self._mapped[segment] = (segment, view, view.cast("Q"))
        return place
