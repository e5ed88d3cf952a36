"""Where slices go, so that on each track of a timeline they nest and never cross.

One thread's calls nest by themselves; what several asyncio tasks of one thread do does not. A
slice that would cross another one of its track goes to a further track (a *lane*) of that
thread.
"""

from array import array
from bisect import bisect_left

from kobs.ids import TICKET_BITS, TICKET_MASK

FOREVER = 1 << 63

_MOST_LANES = 256
_REMEMBERED = 8192


class Lane:
    """One track. Slices come in the order of their ends, so only the outermost ones so far
    matter: a new slice swallows those it contains and may not begin inside another."""

    __slots__ = ("_ends", "_floor", "_last_end", "_starts", "track")

    def __init__(self, track: int) -> None:
        self.track = track
        self._starts = array("Q")
        self._ends = array("Q")
        self._floor = 0
        self._last_end = 0

    def place(self, start: int, end: int) -> bool:
        """Take the slice if it fits here."""
        if end < self._last_end or start < self._floor:
            return False
        at = bisect_left(self._starts, start)
        if at and self._ends[at - 1] > start:
            return False
        del self._starts[at:], self._ends[at:]
        self._starts.append(start)
        self._ends.append(end)
        self._last_end = end
        if at >= _REMEMBERED:
            self._floor = self._ends[at // 2]
            del self._starts[: at // 2 + 1], self._ends[: at // 2 + 1]
        return True

    def mark(self, timestamp: int) -> bool:
        """Take an instant if time has not gone past it here."""
        if timestamp < self._last_end:
            return False
        self._last_end = timestamp
        return True


class Lanes:
    """The tracks of one thread. `new_track` makes a track and gives its id."""

    __slots__ = ("_lanes", "_new_track")

    def __init__(self, first_track: int, new_track: "NewTrack") -> None:
        self._lanes = [Lane(first_track)]
        self._new_track = new_track

    def place(self, start: int, end: int) -> int:
        """The track for a slice; 0 where so much overlaps that no track is left."""
        for lane in self._lanes:
            if lane.place(start, end):
                return lane.track
        more = self._more()
        return more.track if more is not None and more.place(start, end) else 0

    def mark(self, timestamp: int) -> int:
        """The track for an instant: the thread's own unless its time runs backwards."""
        for lane in self._lanes:
            if lane.mark(timestamp):
                return lane.track
        more = self._more()
        if more is None:
            return self._lanes[0].track
        more.mark(timestamp)
        return more.track

    def _more(self) -> Lane | None:
        if len(self._lanes) >= _MOST_LANES:
            return None
        lane = Lane(self._new_track(self._lanes[0].track))
        self._lanes.append(lane)
        return lane


class NewTrack:
    """Gives ids to tracks and remembers the parent of each lane."""

    def __init__(self) -> None:
        self.parents: dict[int, int] = {}
        self._last = 0

    def __call__(self, parent: int = 0) -> int:
        self._last += 1
        if parent:
            self.parents[self._last] = parent
        return self._last


class Places:
    """Thread and start of every event seen, by event id, in 12 bytes each."""

    _FAR = 1 << 20

    def __init__(self) -> None:
        self._parts: dict[int, tuple[int, array[int], array[int]]] = {}
        self._odd: dict[int, tuple[int, int]] = {}

    def put(self, event: int, thread: int, start: int) -> None:
        """Remember that the event is on `thread` (a small number from 1) from `start` on."""
        ticket = event & TICKET_MASK
        part = self._parts.get(event >> TICKET_BITS)
        if part is None:
            part = self._parts[event >> TICKET_BITS] = (ticket, array("I"), array("Q"))
        base, threads, starts = part
        gap = ticket - base - len(threads)
        if gap == 0:
            threads.append(thread)
            starts.append(start)
        elif 0 < gap < self._FAR:
            threads.frombytes(bytes(4 * gap))
            starts.frombytes(bytes(8 * gap))
            threads.append(thread)
            starts.append(start)
        elif -len(threads) <= gap < 0:
            threads[ticket - base] = thread
            starts[ticket - base] = start
        else:
            self._odd[event] = thread, start

    def get(self, event: int) -> tuple[int, int] | None:
        """(thread, start) of an event; None for one that was not seen."""
        part = self._parts.get(event >> TICKET_BITS)
        if part is not None:
            base, threads, starts = part
            at = (event & TICKET_MASK) - base
            if 0 <= at < len(threads) and threads[at]:
                return threads[at], starts[at]
        return self._odd.get(event)
