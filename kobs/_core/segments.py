"""A recording that goes on in further files: where a ticket's slot lies.

Segment `k` of a lane holds the tickets from `first + k * slots` to just below
`first + (k + 1) * slots`, in both lanes' own count: which file a ticket belongs to follows from
the ticket alone, so producers that cross into a new segment need not agree on anything. Segment 0
is the recording itself and stays; of the others the oldest are dropped.
"""

import ctypes
import os
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from time import monotonic

from kobs._core import layout, memory, notices
from kobs._core.layout import LANES, Counters, Header
from kobs._core.reader import Place

Mapped = tuple[int, memoryview, memoryview, int]
"""(half, bytes, 64-bit words, first claim): where the events of one half of a segment are written.

Halves are counted through: half `h` is the first or second one of segment `h >> 1`. What a slot is
claimed by is `first claim + index`: a slot of another file is another one."""

_WAIT_S = 0.05
"""How long a producer waits for another one that makes the segment its event belongs to. That is
rare: a segment is made while the one before it has half of its room left."""

_PATIENCE_S = 1.0
"""How long one making of a segment is waited for, by all events together. Whoever does not wait
loses events as fast as it can make them, and keeps the maker from the interpreter."""


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
        self.heads: list[Callable[[], int]] = []
        """One past the newest ticket of each lane."""
        self.last = 0
        """The newest segment there is."""
        self._path = path
        self._size: int = header.total_size
        self._allowed = max(2, header.keep_bytes // header.total_size)
        self._slots = [int(header.lanes[lane].slots) for lane in range(LANES)]
        self._first_ticket = first_ticket
        self._places: dict[int, tuple[memoryview, memoryview]] = {0: (base, base.cast("Q"))}
        self._files = [0]
        self._lock = allocate_lock()
        self._maker = 0
        self._patient_until = 0.0
        self._full = False
        self._dropped: set[tuple[int, int]] = set()
        self._count_dropped = count_dropped

    def locate(self, lane: int, half: int) -> Mapped | None:
        """Where to write the events of half a segment; None where that is not to be had in time:
        the event is lost. Makes the segment if nobody did; see `look_ahead`."""
        segment = half >> 1
        place = self._places.get(segment)
        if place is None:
            if not self._enter():
                return None
            try:
                if self._full and segment > self.last:
                    # No room for more: the newest segment is overwritten from here on.
                    segment = self.last
                place = self._places.get(segment) or self._make(segment)
                if place is None:
                    segment = self.last
                    place = self._places.get(segment) or self._map(segment)
            finally:
                self._leave()
        return (half, *place, segment * self._slots[lane])

    def look_ahead(self) -> None:
        """Make the segment that a lane goes on in, once it is in the second half of the one before.

        A producer that is first in a half calls it, after its event is written. Where another one
        makes a segment just now, that one looks again when it is done.
        """
        while (segment := self._wanted()) >= 0 and self._lock.acquire(False):
            try:
                self._begin_making()
                if segment not in self._places:
                    self._make(segment)
            finally:
                self._leave()

    def close(self) -> None:
        """Remove what was made ahead and no ticket got as far as."""
        reached = max(half >> 1 for half in self._halves())
        if self._lock.acquire(False):
            try:
                for segment in [n for n in self._files if n > reached]:
                    self._remove(segment)
                self.last = self._files[-1]
            finally:
                self._lock.release()

    # How

    def _halves(self) -> list[int]:
        """The half that the newest ticket of each lane is in."""
        return [
            2 * max(0, head() - 1 - self._first_ticket) // slots
            for head, slots in zip(self.heads, self._slots, strict=True)
        ]

    def _wanted(self) -> int:
        """A segment that a lane in the second half of the one before it will need; -1 for none."""
        if not self._full:
            for half in self._halves():
                if half + 1 >> 1 not in self._places:
                    return half + 1 >> 1
        return -1

    def _enter(self) -> bool:
        """Take the lock, if it can be had in time."""
        if not self._lock.acquire(False):
            left = self._patient_until - monotonic()
            # The maker itself: a signal handler, or a finalizer, in the midst of making.
            if left <= 0 or self._maker == get_ident():
                return False
            if not self._lock.acquire(timeout=min(left, _WAIT_S)):
                return False
        self._begin_making()
        return True

    def _begin_making(self) -> None:
        self._maker = get_ident()
        self._patient_until = monotonic() + _PATIENCE_S

    def _leave(self) -> None:
        self._maker = 0
        self._lock.release()

    def _make(self, segment: int) -> tuple[memoryview, memoryview] | None:
        """A new segment, or an old one mapped again; None where there is no room."""
        if segment in self._files:
            return self._map(segment)
        path = layout.segment_path(self._path, segment)
        self._make_room()
        try:
            view = memory.file(memory.hidden(path), self._size)
            self._copy_front(view, segment)
            memory.reveal(path)
        except BaseException as error:
            _unlink(memory.hidden(path))
            if not isinstance(error, OSError):
                raise  # A signal handler raised: the next one tries again.
            self._full = True
            notices.tell(
                f"no further segment {path}: {error.strerror}; "
                "the recording overwrites its newest part from here on",
                stacklevel=2,
            )
            return None
        self._files.append(segment)
        self._files.sort()
        self.last = self._files[-1]
        place = self._places[segment] = (view, view.cast("Q"))
        self._retire()
        return place

    def _map(self, segment: int) -> tuple[memoryview, memoryview]:
        view = memory.existing_writable(layout.segment_path(self._path, segment), self._size)
        place = self._places[segment] = (view, view.cast("Q"))
        return place

    def _copy_front(self, view: memoryview, segment: int) -> None:
        """A header, the schemas and the strings so far: the file says what it is, alone too."""
        base = self._places[0][0]
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

    def _make_room(self) -> None:
        """Drop the oldest further segments that no lane writes to, so that one more fits."""
        halves = self._halves()
        # What a lane was in half a segment ago, and will be in half a segment from now.
        used = {near >> 1 for half in halves for near in (half - 1, half, half + 1)}
        while len(self._files) >= self._allowed:
            oldest = next((n for n in self._files[1:] if n not in used), None)
            if oldest is None:
                return
            self._remove(oldest)
            for lane, slots in enumerate(self._slots):
                # A file may be made again for the lane that is slower; what the other one had
                # in it is counted once.
                if oldest < halves[lane] >> 1 and (lane, oldest) not in self._dropped:
                    self._dropped.add((lane, oldest))
                    self._count_dropped(slots)

    def _remove(self, segment: int) -> None:
        self._files.remove(segment)
        self._places.pop(segment, None)
        _unlink(layout.segment_path(self._path, segment))

    def _retire(self) -> None:
        """Unmap what producers have left behind, but for the newest few: a slow one may still
        be on its way to an older segment."""
        keep = {0, self.last, self.last - 1}
        for half in self._halves():
            keep |= {(half >> 1) - 1, half >> 1, half + 1 >> 1}
        for segment in [n for n in self._places if n not in keep]:
            del self._places[segment]
        for rebind in list(self.rebind):
            rebind()


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


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
        self._base = (memory_of_base, memory_of_base.cast("Q"))
        self._mapped: dict[int, tuple[memoryview, memoryview]] = {}
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
        return Place(*mapped, self._words[lane], ring)

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

    def _map(self, segment: int) -> tuple[memoryview, memoryview] | None:
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
        place = self._mapped[segment] = (view, view.cast("Q"))
        return place
