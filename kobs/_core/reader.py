"""Reading a ring: cursors, torn slots, losses. It serves live rings and files alike."""

import os
import struct
import time
from _thread import RLock
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from kobs._core.contract import RawSlot
from kobs._core.layout import SLOT_SIZE

STALL_NS = 10_000_000
"""How long an unfinished slot stops its lane."""

_PROBE = 64
"""How far past the head counter to look: heads may lag behind the stamps by a moment."""

_WORDS = SLOT_SIZE // 8
_timestamp_of = struct.Struct("=8xQ").unpack_from


class Place(NamedTuple):
    """The memory where a ticket's slot lies."""

    memory: memoryview
    words: memoryview
    """The same, as 64-bit words."""
    base: int
    """The word of slot 0."""
    ring: bool
    """Newer tickets overwrite this memory. False: it is a segment, newer ones go elsewhere."""


class LaneView:
    """A lane as readers see it."""

    __slots__ = ("_oldest", "first", "head", "lane", "locate", "slots")

    def __init__(
        self,
        lane: int,
        slots: int,
        first: int,
        head: Callable[[], int],
        locate: Callable[[int], "Place | int"],
        oldest: Callable[[], int] | None = None,
    ) -> None:
        self.lane = lane
        self.slots = slots
        self.first = first
        """The lane's first ticket."""
        self.head = head
        """One past the newest ticket; may lag."""
        self.locate = locate
        """Where a ticket's slot lies; if that part of the recording is gone, the next ticket
        that is not."""
        self._oldest = oldest

    def oldest(self) -> int:
        """The oldest ticket that can still be there."""
        if self._oldest is not None:
            return self._oldest()
        return max(self.first, self.head() - self.slots)


class LaneCursor:
    """One reader's place in one lane, and what it has copied but not yet handed out."""

    __slots__ = (
        "at",
        "buffer",
        "lost",
        "settled",
        "stale_before",
        "stalled_at",
        "stalled_head",
        "stalled_ns",
        "view",
    )

    def __init__(self, view: LaneView, settled: bool) -> None:
        self.view = view
        self.at = view.first
        self.lost = 0
        self.buffer: deque[tuple[int, RawSlot]] = deque()
        self.stalled_at = -1
        self.stalled_ns = 0
        self.stalled_head = 0
        self.stale_before = 0
        self.settled = settled

    def move(self, ticket: int) -> None:
        self.at = ticket
        self.buffer.clear()
        self.stalled_at = -1
        self.stale_before = 0

    def position(self) -> int:
        return self.buffer[0][1].ticket if self.buffer else self.at

    def fill(self, limit: int) -> None:
        """Copy finished slots until `limit` are in the buffer or there is nothing more."""
        view = self.view
        buffer = self.buffer
        mask = view.slots - 1
        at = self.at
        head = -1
        span_end = -1
        while len(buffer) < limit:
            if at >= span_end:
                # The head first: a segment is there before its tickets are.
                head = max(head, view.head())
                place = view.locate(at)
                if isinstance(place, int):
                    following = max(at, min(place, head))
                else:
                    following = max(at, head - view.slots) if place.ring else at
                if following > at:
                    self.lost += following - at
                    at = following
                    continue
                if isinstance(place, int):
                    break
                memory, words, base, ring = place
                span_end = at + view.slots - (at - view.first) % view.slots
                if ring:
                    span_end = max(span_end, head)
            word = base + (at & mask) * _WORDS
            stamp = words[word]
            wanted = (at + 1) << 1
            if stamp == wanted:
                data = bytes(memory[word * 8 : word * 8 + SLOT_SIZE])
                if words[word] == wanted:
                    buffer.append((_timestamp_of(data)[0], RawSlot(view.lane, at, data)))
                    at += 1
                    continue
                stamp = words[word]
            newest = (stamp >> 1) - 1
            if newest >= head:
                head = max(head, view.head())
            if newest > at and (newest & mask) == (at & mask) and newest < head + view.slots:
                # Overwritten. What is a full ring behind is gone as well.
                head = max(head, newest + 1, view.head())
                following = max(at + 1, head - view.slots)
                self.lost += following - at
                at = following
                span_end = -1
                continue
            if at >= head:
                head = self._head(at, words, base, mask)
                if at >= head:
                    break
            if not self._given_up(at, head):
                break
            self.lost += 1
            at += 1
        self.at = at

    def _head(self, at: int, words: memoryview, base: int, mask: int) -> int:
        """One past the newest ticket, from the counter and from the stamps that follow `at`."""
        head = self.view.head()
        if head > at:
            return head
        first = at & mask
        last = min(first + _PROBE, mask + 1)
        stamps = words[base + first * _WORDS : base + last * _WORDS : _WORDS].tolist()
        for distance, stamp in enumerate(stamps):
            if (stamp >> 1) - 1 == at + distance:
                head = at + distance + 1
        return head

    def _given_up(self, at: int, head: int) -> bool:
        """Whether an unfinished slot has been waited for long enough.

        Tickets that were out when the wait began are as old as the one that is waited for, so
        they are not waited for again.
        """
        if self.settled or at < self.stale_before or head - at > self.view.slots:
            return True
        now = time.monotonic_ns()
        if self.stalled_at != at:
            self.stalled_at = at
            self.stalled_ns = now
            self.stale_before = min(self.stale_before, at)
            self.stalled_head = head
            return False
        if now - self.stalled_ns < STALL_NS:
            return False
        self.stale_before = self.stalled_head
        return True


_forks = 0
"""How many forks made this process, since kobs was imported."""


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class RingReader:
    """Fulfils `contract.Reader` over lane views."""

    def __init__(
        self,
        views: list[LaneView],
        *,
        settled: bool = False,
        on_move: Callable[[tuple[int, ...]], None] | None = None,
        on_close: Callable[[], None] | None = None,
        before_read: Callable[[], None] | None = None,
    ) -> None:
        self._lanes = [LaneCursor(view, settled) for view in views]
        self._on_move = on_move
        self._on_close = on_close
        self._before_read = before_read
        self._closed = False
        self._lock = RLock()
        self._inside = False
        self._forks = _forks

    @property
    def lost(self) -> int:
        return sum(lane.lost for lane in self._lanes)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """One thread at a time. Gives False where this very thread is in here already: a signal
        handler or a finalizer reads in the midst of a read."""
        while not self._lock.acquire(False):
            if self._forks == _forks:
                self._lock.acquire()
                break
            # Whoever was in here is not in this process.
            self._lock, self._inside, self._forks = RLock(), False, _forks
        outer = self._inside
        try:
            self._inside = True
            yield not outer
        finally:
            self._inside = outer
            self._lock.release()

    def read(self, limit: int = 1024) -> list[RawSlot]:
        if self._closed:
            return []
        if self._before_read is not None:
            self._before_read()
        with self._alone() as alone:
            if not alone:
                return []
            for lane in self._lanes:
                if len(lane.buffer) < limit:
                    lane.fill(limit)
            out = self._merge(limit)
            if self._on_move is not None:
                self._on_move(tuple(lane.at for lane in self._lanes))
            return out

    def _merge(self, limit: int) -> list[RawSlot]:
        filled = [lane.buffer for lane in self._lanes if lane.buffer]
        out: list[RawSlot] = []
        while filled and len(out) < limit:
            if len(filled) == 1:
                buffer = filled[0]
                out += [buffer.popleft()[1] for _ in range(min(limit - len(out), len(buffer)))]
                break
            oldest = min(filled, key=_first_time)
            out.append(oldest.popleft()[1])
            if not oldest:
                filled.remove(oldest)
        return out

    def seek_oldest(self) -> None:
        self.seek(tuple(lane.view.oldest() for lane in self._lanes))

    def seek_end(self) -> None:
        self.seek(tuple(lane.view.head() for lane in self._lanes))

    def position(self) -> tuple[int, ...]:
        return tuple(lane.position() for lane in self._lanes)

    def seek(self, position: tuple[int, ...]) -> None:
        if len(position) != len(self._lanes):
            raise ValueError(
                f"seek(position): expected {len(self._lanes)} tickets, got {len(position)}"
            )
        with self._alone() as alone:
            if not alone:
                raise RuntimeError("this thread is in the middle of a read")
            for lane, ticket in zip(self._lanes, position, strict=True):
                lane.move(max(ticket, lane.view.first))
                lane.lost = 0
            if self._on_move is not None and not self._closed:
                self._on_move(tuple(lane.at for lane in self._lanes))

    def pending(self) -> int:
        return sum(max(0, lane.view.head() - lane.position()) for lane in self._lanes)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._on_close is not None:
                self._on_close()


def _first_time(buffer: "deque[tuple[int, RawSlot]]") -> int:
    return buffer[0][0]
