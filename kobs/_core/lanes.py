"""The producers' side: tickets, claims and the publisher closures.

Python has no compare-and-swap. `dict.setdefault` stands in for it: it is atomic under the GIL and
on free-threaded builds, it does not wait, and who finds a slot taken gives up and counts a loss.
"""

import struct
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from itertools import count

from kobs._core.contract import BeginPublisher, Publisher, Writer, Writers
from kobs._core.doorbell import Doorbell
from kobs._core.layout import PAYLOAD_SIZE, SLOT_BODY_FORMAT, SLOT_SIZE
from kobs._core.regions import InFlightTable
from kobs._core.segments import Mapped, SegmentWriter
from kobs.errors import SchemaError
from kobs.ids import NO_LANE, TICKET_MASK, id_prefix

_GRANT = 1024
"""Tickets that a discarding lane hands out at a time."""


class Lane:
    """A lane of a ring as its producers see it."""

    def __init__(
        self,
        lane: int,
        memory: memoryview,
        words: memoryview,
        offset: int,
        slots: int,
        head_word: int,
        recording: int,
        first_ticket: int,
    ) -> None:
        self.lane = lane
        self.memory = memory
        self.words = words
        self.base = offset // 8
        self.slots = slots
        self.head_word = head_word
        self.prefix = id_prefix(recording, lane)
        self.first_ticket = first_ticket
        self.writing: dict[int, int] = {}
        """Slot → the ticket whose producer is writing it. A slot is its index, in further files
        counted on from the first file's."""
        self._counter = count(first_ticket)
        self.take: Callable[[], int] = self._counter.__next__
        words[head_word] = first_ticket

    def head(self) -> int:
        """One past the newest ticket, exactly."""
        return counted(self._counter)

    def refill(self) -> int:
        """The next ticket of a lane that had none left; -1 where the event is to be discarded."""
        return -1


class DiscardingLane(Lane):
    """A lane that hands out only tickets that no lossless reader still needs the slot of."""

    def __init__(self, *args: object, cursors: Callable[[int], int | None]) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._tickets: deque[int] = deque()
        self._granted = self.first_ticket
        self._lock = allocate_lock()
        self._cursors = cursors
        self.take = self._tickets.popleft

    def head(self) -> int:
        return self._granted - len(self._tickets)

    def refill(self) -> int:
        if not self._lock.acquire(False):
            # Someone else refills just now; if that is done already there is a ticket.
            try:
                return self._tickets.popleft()
            except IndexError:
                return -1
        try:
            self._grant()
        finally:
            self._lock.release()
        try:
            return self._tickets.popleft()
        except IndexError:
            return -1

    def _grant(self) -> None:
        slowest = self._cursors(self.lane)
        start = self._granted
        limit = (start if slowest is None else slowest) + self.slots
        end = min(limit, start + _GRANT)
        if end > start:
            self._granted = end
            self._tickets.extend(range(start, end))

    def withdraw(self) -> None:
        """Take back tickets that nobody has: a lossless reader came that is behind them."""
        with self._lock:
            taken = self._tickets
            kept = []
            while True:
                try:
                    kept.append(taken.popleft())
                except IndexError:
                    break
            if kept:
                self._granted = kept[0]


def counted(counter: "count[int]") -> int:
    """What `next(counter)` would give, without taking it. (`repr` is the only way that lasts:
    pickling of `itertools` objects, the other one, is deprecated.)"""
    return int(repr(counter)[6:-1])


def payload_packer(payload_format: str) -> struct.Struct:
    """What packs a slot's header (after its stamp) and a payload. Raises `SchemaError` for what
    is no `struct` format or does not fit a slot."""
    try:
        packer = struct.Struct(SLOT_BODY_FORMAT + payload_format)
    except struct.error as error:
        raise SchemaError(
            f"payload format {payload_format!r} is no struct format: {error}"
        ) from None
    limit = struct.calcsize(SLOT_BODY_FORMAT) + PAYLOAD_SIZE
    if packer.size > limit:
        raise SchemaError(
            f"a payload of format {payload_format!r} takes {packer.size - limit + PAYLOAD_SIZE} "
            f"bytes; a slot holds {PAYLOAD_SIZE}"
        )
    return packer


def make_writers(
    payload_format: str,
    lanes: list[Lane],
    count_loss: Callable[[str], None],
    segments: SegmentWriter | None,
    doorbell: Doorbell,
) -> tuple[Writers, Callable[[], None]]:
    """Writers for payloads of `payload_format`, and what makes them write nothing any more."""
    packer = payload_packer(payload_format)
    made = [
        _lane_writer(packer.size, lane, count_loss, doorbell)
        if segments is None
        else _segmented_writer(packer.size, lane, count_loss, segments, doorbell)
        for lane in lanes
    ]

    def stop_all() -> None:
        for _, stop in made:
            stop()

    return Writers(packer.pack, tuple(write for write, _ in made)), stop_all


def make_publisher(writers: Writers) -> Publisher:
    """A publisher that packs and writes."""
    pack, write = writers

    def publish(lane: int, *body: object) -> int:
        # Packed before a ticket is taken: a value that does not fit leaves no gap.
        return write[lane](pack(*body))

    return publish


def _lane_writer(
    size: int, state: Lane, count_loss: Callable[[str], None], doorbell: Doorbell
) -> tuple[Writer, Callable[[], None]]:
    take = state.take
    refill = state.refill
    count = count_loss
    writing = state.writing
    mask = state.slots - 1
    first_byte = state.base * 8
    memory = state.memory
    words = state.words
    head_word = state.head_word
    prefix = state.prefix
    put = _stamped(size)
    ticket_mask = TICKET_MASK
    waiting = doorbell.words
    wake = doorbell.ring

    def write(body: bytes) -> int:
        try:
            ticket = take()
        except IndexError:
            ticket = refill()
            if ticket < 0:
                count("discarded")
                return 0
        index = ticket & mask
        try:
            if writing.setdefault(index, ticket) != ticket:
                count("contended")
                return 0
            start = first_byte + index * SLOT_SIZE
            word = start >> 3
            end = ticket + 1
            stamp = end << 1
            if words[word] >= stamp:
                del writing[index]
                count("contended")  # Lapped while it was stalled.
                return 0
            put(memory, start, stamp | 1, body)
            words[word] = stamp
            words[head_word] = end
            del writing[index]
        except BaseException:
            # A signal handler raised (KeyboardInterrupt), anywhere above: no claim may stay.
            if writing.get(index) == ticket:
                del writing[index]
            count("errors")
            raise
        if waiting[0]:
            wake()
        return prefix | ticket & ticket_mask

    def stop() -> None:
        nonlocal take, refill, count
        take, refill, count = _stopped, _none_left, _not_counted

    return write, stop


def _stamped(size: int) -> Callable[..., None]:
    """What writes the stamp of a slot and then a body of `size` bytes: (memory, offset, stamp,
    body)."""
    return struct.Struct(f"Q{size}s").pack_into


def _segmented_writer(
    size: int,
    state: Lane,
    count_loss: Callable[[str], None],
    segments: SegmentWriter,
    doorbell: Doorbell,
) -> tuple[Writer, Callable[[], None]]:
    """As `_lane_writer`, for a lane that goes on in further files: a comparison more before and
    one after."""
    mine = state.lane
    take = state.take
    count = count_loss
    writing = state.writing
    mask = state.slots - 1
    first_byte = state.base * 8
    first_ticket = state.first_ticket
    to_half = mask.bit_length() - 1
    heads = state.words
    head_word = state.head_word
    prefix = state.prefix
    put = _stamped(size)
    ticket_mask = TICKET_MASK
    waiting = doorbell.words
    wake = doorbell.ring
    locate = segments.locate
    look_ahead = segments.look_ahead
    nowhere: Mapped = (-1, state.memory, state.words, 0)
    here = nowhere

    def write(body: bytes) -> int:
        nonlocal here
        try:
            ticket = take()
        except IndexError:
            return 0
        # One look at `here`: another thread may move it to a newer segment at any time.
        half, memory, words, first_claim = here
        wanted = ticket - first_ticket >> to_half
        if wanted != half:
            place = locate(mine, wanted)
            if place is None:
                count("contended")
                return 0
            here = place
            _, memory, words, first_claim = place
        index = ticket & mask
        slot = first_claim + index
        try:
            if writing.setdefault(slot, ticket) != ticket:
                count("contended")
                return 0
            start = first_byte + index * SLOT_SIZE
            word = start >> 3
            end = ticket + 1
            stamp = end << 1
            if words[word] >= stamp:
                del writing[slot]
                count("contended")  # Lapped while it was stalled.
                return 0
            put(memory, start, stamp | 1, body)
            words[word] = stamp
            heads[head_word] = end
            del writing[slot]
        except BaseException:
            # A signal handler raised (KeyboardInterrupt), anywhere above: no claim may stay.
            if writing.get(slot) == ticket:
                del writing[slot]
            count("errors")
            raise
        if waiting[0]:
            wake()
        if wanted != half:
            look_ahead()
        return prefix | ticket & ticket_mask

    def rebind() -> None:
        nonlocal here
        here = nowhere

    def stop() -> None:
        nonlocal take, count
        take, count = _stopped, _not_counted
        rebind()

    segments.rebind.append(rebind)
    return write, stop


def make_begin_publisher(
    publish: Publisher,
    pack: Callable[..., bytes],
    table: InFlightTable,
    count_loss: Callable[[str], None],
) -> tuple[BeginPublisher, Callable[[], None]]:
    """A publisher that enters its events in the in-flight table first. `pack` is called where
    nothing is published, and refuses what `publish` would refuse."""
    enter: Callable[..., int] = table.open
    name_event = table.name_event
    close = table.close
    count = count_loss

    def begin(
        name: int,
        lane: int,
        timestamp_ns: int,
        causality_id: int,
        parent: int,
        span_id: int,
        link: int,
        pid: int,
        tid: int,
        type_id: int,
        severity_category: int,
        flags: int,
        origin: int,
        *payload: object,
    ) -> tuple[int, int]:
        entry = enter(timestamp_ns, causality_id, span_id, parent, tid, pid, name, origin, type_id)
        if entry < 0:
            count("in_flight_overflow")
        header = (
            timestamp_ns, causality_id, parent, span_id, link, pid, tid, type_id,
            severity_category, flags, origin,
        )  # fmt: skip
        try:
            if lane == NO_LANE:
                pack(*header, *payload)
                return 0, entry
            event = publish(lane, *header, *payload)
        except BaseException:
            close(entry)
            raise
        if event and entry >= 0:
            name_event(entry, event)
        return event, entry

    def stop() -> None:
        nonlocal enter, count
        enter, count = _no_entry, _not_counted

    return begin, stop


def _no_entry(*_: int) -> int:
    return -1


def _stopped() -> int:
    raise IndexError


def _none_left() -> int:
    return -1


def _not_counted(cause: str) -> None:
    """A closed ring counts nothing."""
