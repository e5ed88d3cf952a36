"""What a core is: the one contract that the Python core and the C core both fulfil.

A core knows bytes, lanes and stamps. It knows nothing of payload types: the collector tells it
the `struct` format of each type and gives it numbers.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from kobs._core.doorbell import Doorbell

Publisher = Callable[..., int]
"""`publish(lane, timestamp_ns, causality_id, parent, span_id, link, pid, tid, type_id,
severity_category, flags, origin, *payload_values) -> event id`, 0 if the event was lost.

Never waits, never raises for loss. `struct.error` if a payload value does not fit its format
(nothing is claimed then)."""


BeginPublisher = Callable[..., tuple[int, int]]
"""`publish(name, lane, ..., *payload_values) -> (event id, entry)`: as a `Publisher`, for an event
that opens a scope; `name` is an interned string's id.

Enters the begin in the in-flight table first, then publishes its event: what becomes of the event
does not matter to the entry. With `ids.NO_LANE` it is entered only. `entry` is what
`Ring.close_entry` takes, -1 where the table was full (counted) or the ring is closed. Where the
event is lost its id is 0, and the entry keeps an id of its own, in `ids.NO_LANE`. If publishing
raises the entry is free again."""


Writer = Callable[[bytes], int]
"""Publishes a body that is packed already; the event's id, 0 where it was lost (counted)."""


class Writers(NamedTuple):
    """A publisher in two steps: what packs a body, and what publishes one, by lane."""

    pack: Callable[..., bytes]
    """Takes what a `Publisher` takes after the lane."""
    write: tuple[Writer, ...]


class RawSlot(NamedTuple):
    """One finished slot, copied: which event it is, and its 192 bytes."""

    lane: int
    ticket: int
    data: bytes


class LossCounts(NamedTuple):
    """Events that were not kept, by cause, since the ring was made."""

    overwritten: int
    contended: int
    discarded: int
    sampled_out: int
    too_big: int
    errors: int
    in_flight_overflow: int
    strings_overflow: int
    segments_dropped: int
    filtered: int


class LeftOut(NamedTuple):
    """Events that were left out on purpose, by category (the index)."""

    sampled_out: tuple[int, ...]
    filtered: tuple[int, ...]


class Reader(Protocol):
    """A cursor a lane over a ring. Every reader sees every event; none delays a producer."""

    @property
    def lost(self) -> int:
        """How many events this reader will never see, exact, counted up to its cursors."""
        ...

    def read(self, limit: int = 1024) -> list[RawSlot]:
        """Finished slots past the cursors, oldest first, both lanes merged by timestamp;
        at most `limit`; empty when there is nothing new. An unfinished slot stops its lane
        for 10 ms at most, then counts as lost."""
        ...

    def seek_oldest(self) -> None:
        """Move to the oldest events still in the ring; what lies before is not counted as lost."""
        ...

    def seek_end(self) -> None:
        """Move past the newest events."""
        ...

    def position(self) -> tuple[int, ...]:
        """The cursors, one a lane: the ticket that will be read next."""
        ...

    def seek(self, position: tuple[int, ...]) -> None:
        """Move the cursors to `position`; `lost` starts again at 0."""
        ...

    def pending(self) -> int:
        """About how many events lie between the cursors and the heads."""
        ...

    def close(self) -> None:
        """Stop holding up a discarding ring (lossless readers); further reads give nothing."""
        ...


class OpenEvent(NamedTuple):
    """An entry of the in-flight table: a begin without its end. `event` is the begin event's id,
    or one in `ids.NO_LANE` where that found no slot."""

    event: int
    timestamp_ns: int
    causality_id: int
    span_id: int
    parent: int
    tid: int
    pid: int
    name: int
    origin: int
    type_id: int


class Ring(Protocol):
    """Memory for events, its producers' side and the way to readers."""

    recording: int
    """This recording's number in its session; part of every event id."""
    path: str | None
    """The file that backs the ring, None if it is anonymous."""
    slots: int
    """Slots of the main lane."""
    trace_high: int
    """The high 64 bits of every trace id that this recording mints."""
    segmented: bool
    """It goes on in further files."""
    closed: bool
    """It is closed: its publishers return 0."""
    doorbell: Doorbell
    """Wakes who waits for events of this ring; in a session, for those of any of its rings."""

    def publisher(self, payload_format: str) -> Publisher:
        """A callable that writes events whose payload has this `struct` format (without the
        byte-order character; standard sizes, no alignment: pad with `x`)."""
        ...

    def writers(self, payload_format: str) -> Writers:
        """The same in two steps."""
        ...

    def intern(self, text: str) -> int:
        """The id of `text` in the string region; 0 if the region is full (counted)."""
        ...

    def known(self, text: str) -> int | None:
        """What `intern` gave for `text` before; None where it was not asked."""
        ...

    def string(self, string_id: int) -> str:
        """The string of an id; an unknown one gives `"?"`."""
        ...

    def add_schema(self, type_id: int, record: bytes) -> None:
        """Append a payload type's JSON record to the schema region, once a type.

        Raises `SchemaError` where the region is full."""
        ...

    def begin_publisher(self, payload_format: str) -> BeginPublisher:
        """As `publisher`, for events that open a scope."""
        ...

    def close_entry(self, index: int) -> None:
        """Free an entry; -1, and an entry of another process's ring (of before a fork), is
        ignored."""
        ...

    def open_events(self) -> list[OpenEvent]:
        """The begins that have no end."""
        ...

    def count(self, cause: str, by: int = 1) -> None:
        """Add to a loss counter (a field of `LossCounts`, not `overwritten`)."""
        ...

    def leave_out(self, cause: str, category: int) -> None:
        """Count an event of a category that is left out on purpose: a field of `LeftOut`."""
        ...

    def left_out(self) -> LeftOut:
        """Of what was left out on purpose, how much was of each category."""
        ...

    def losses(self) -> LossCounts:
        """What was lost so far."""
        ...

    def produced(self) -> int:
        """How many events were published or lost after they had a ticket, over both lanes."""
        ...

    def reader(self, *, lossless: bool = False, oldest: bool = False) -> Reader:
        """A new reader at the end, or at the oldest event. A `lossless` one holds a ring with
        `overflow="discard"` from overwriting what it has not read."""
        ...

    def refresh_clocks(self) -> None:
        """Write a new pair of monotonic and wall time into the header."""
        ...

    def abandon(self) -> None:
        """In a forked child: let go of the parent's ring without a mark in it."""
        ...

    def leave(self) -> None:
        """The process is about to be gone, without running exit handlers: mark the ring as one
        whose writer left in order. Nothing is released, and other threads publish on: what they
        do until the process is gone is in the recording. In a forked child's copy of its parent's
        ring, nothing."""
        ...

    def close(self) -> None:
        """Mark the ring closed and release it; a file stays. Twice is once. Publishers of a
        closed ring return 0."""
        ...


class Core(Protocol):
    """A module that makes rings."""

    name: str
    """"python" or "c"."""

    def create(
        self,
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
    ) -> Ring:
        """Make a ring. Where `path` is given and its space cannot be had (`posix_fallocate`),
        the ring is anonymous, its `path` None, and a `RuntimeWarning` says why.

        `keep`: with a `path` and `overflow="overwrite"`, go on in further files
        (`layout.segment_path`) when a lane is full, up to this many bytes in all; then the oldest
        further file is dropped and its events counted (`segments_dropped`). 0: overwrite."""
        ...

    def attach(self, path: str) -> "AttachedRing":
        """Open a recording's file for reading. Raises `RecordingError` with one clear line."""
        ...


class AttachedRing(Protocol):
    """A recording's file opened for reading, while it is written or after; damage is tolerated
    where it can be and named where it cannot."""

    path: str
    recording: int
    pid: int
    ppid: int
    parent_event: int
    trace_high: int
    segment: int
    session: str
    command: str
    core: str

    @property
    def damage(self) -> list[str]:
        """What is wrong with the file and what was left out because of it; empty if nothing."""
        ...

    @property
    def refreshed_monotonic_ns(self) -> int:
        """The newer of the two pairs of clocks: monotonic time, nanoseconds."""
        ...

    @property
    def refreshed_wall_ns(self) -> int:
        """The wall time of that moment, nanoseconds since 1970 UTC."""
        ...

    @property
    def closed(self) -> bool:
        """The writer closed it, or left it, in order. False: it runs still, or was killed."""
        ...

    @property
    def alive(self) -> bool:
        """The process that writes it runs still (and did not close it)."""
        ...

    started_monotonic_ns: int
    started_wall_ns: int
    sampling_rate: float

    def schemas(self) -> Iterable[tuple[int, bytes]]:
        """(type id, JSON record) of every payload type in the recording."""
        ...

    def string(self, string_id: int) -> str:
        """The string of an id (new ones are looked for in the file); unknown gives `"?"`."""
        ...

    def open_events(self) -> list[OpenEvent]:
        """The in-flight table."""
        ...

    def left_out(self) -> LeftOut:
        """As `Ring.left_out`."""
        ...

    def losses(self) -> LossCounts:
        """What was lost so far."""
        ...

    def produced(self) -> int:
        """As `Ring.produced`."""
        ...

    def reader(self, *, oldest: bool = True) -> Reader:
        """A reader over the file; a live file is followed."""
        ...

    def close(self) -> None:
        """Release the mapping."""
        ...
