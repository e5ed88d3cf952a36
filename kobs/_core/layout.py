"""The format of a ring, byte by byte. These structures are its one definition.

A ring is one block of memory (anonymous, or a file: then it is a recording):

    Header            4096 bytes   who, when, where every other part lies
    Counters          4096 bytes   ticket heads and loss counts, one cache line each
    schema region     append-only  the slot layout, then one JSON record a payload type
    string region     append-only  interned strings; a string is there before its id is used
    in-flight table   1024 entries each begin until its end
    reader table      32 entries   cursors of lossless readers
    main lane         slots        events below WARN
    priority lane     slots        WARN and above, and boundaries (tests)

Integers have the byte order of the machine that wrote them (`Header.byte_order` tells).

A slot's `stamp` tells its state: 0 never used, `(ticket + 1) << 1` finished by that ticket,
`((ticket + 1) << 1) | 1` being written by it. A reader copies a slot only if the stamp is the
finished one before and after the copy.
"""

import ctypes
from ctypes import c_char, c_double, c_uint8, c_uint16, c_uint32, c_uint64

MAGIC = b"KOBSRING"
VERSION = 1
BYTE_ORDER_MARK = 0x0A0B0C0D
"""Reads as 0x0D0C0B0A on a machine of the other byte order."""

PAGE = 4096
CACHE_LINE = 64
SLOT_SIZE = 192
SLOT_HEADER_SIZE = 64
PAYLOAD_SIZE = SLOT_SIZE - SLOT_HEADER_SIZE

MAIN_LANE = 0
PRIORITY_LANE = 1
LANES = 2

CATEGORIES = 16
"""A category is four bits of a slot."""

DEFAULT_SLOTS = 65_536
MIN_SLOTS = 16
MAX_SLOTS = 1 << 24

IN_FLIGHT_ENTRIES = 1024
READER_ENTRIES = 32
SCHEMA_REGION = 96 * 1024
STRING_REGION = 256 * 1024

MAX_TICKET = (1 << 63) - 1 - (1 << 32)
"""A stamp has room for 2^63 tickets; readers take a head that claims more than this for damage."""

FLAG_TRUNCATED = 1
"""Text in the payload was cut."""
FLAG_PARTIAL = 2
"""The event belongs to a chain that was sampled out or thinned; it was kept for its severity."""
FLAG_BEGIN = 4
"""The event opens a scope (a span, a system call) that is in the in-flight table until its end."""
FLAG_END = 8
"""The event closes the scope whose begin event is its parent."""

STATE_OPEN = 0
STATE_CLOSED = 1
STATE_LEFT = 2
"""The process is leaving in order; until it is gone, its other threads may write on."""

OVERFLOW_OVERWRITE = 0
OVERFLOW_DISCARD = 1


class LaneInfo(ctypes.Structure):
    """Where a lane's slots lie; `slots` is a power of two."""

    _fields_ = [("offset", c_uint64), ("slots", c_uint64)]


class RegionInfo(ctypes.Structure):
    """Where a region or table lies; `size` in bytes."""

    _fields_ = [("offset", c_uint64), ("size", c_uint64)]


class Header(ctypes.Structure):
    """The first page of a ring. Times are nanoseconds; wall times since 1970 UTC.

    `keep_bytes` is 0 where the ring overwrites itself. Otherwise the recording goes on in further
    files when a lane is full: in segment `k` lie the tickets from `first_tickets[lane]` for as
    many as the lane has slots. Segment 0 holds what is not events (strings, schemas, in-flight
    table, counters) for all of them.
    """

    _fields_ = [
        ("magic", c_char * 8),
        ("version", c_uint32),
        ("byte_order", c_uint32),
        ("header_size", c_uint32),
        ("slot_size", c_uint32),
        ("slot_header_size", c_uint32),
        ("lane_count", c_uint32),
        ("total_size", c_uint64),
        ("counters", RegionInfo),
        ("schema", RegionInfo),
        ("strings", RegionInfo),
        ("in_flight", RegionInfo),
        ("readers", RegionInfo),
        ("lanes", LaneInfo * LANES),
        ("recording", c_uint32),
        ("segment", c_uint32),
        ("pid", c_uint32),
        ("ppid", c_uint32),
        ("state", c_uint32),
        ("overflow", c_uint32),
        ("trace_high", c_uint64),
        ("parent_event", c_uint64),
        ("started_monotonic_ns", c_uint64),
        ("started_wall_ns", c_uint64),
        ("refreshed_monotonic_ns", c_uint64),
        ("refreshed_wall_ns", c_uint64),
        ("sampling_rate", c_double),
        ("session", c_char * 32),
        ("core", c_char * 16),
        ("command", c_char * 1024),
        ("first_tickets", c_uint64 * LANES),
        ("keep_bytes", c_uint64),
    ]


class Counters(ctypes.Structure):
    """What producers count, a cache line each, so that they do not disturb one another.

    `heads[lane]` is one past the newest ticket claimed in that lane (it may lag for a moment:
    the slots' stamps are the truth). The rest are losses by cause; of what was left out on purpose
    also how many were of each category (rings of before these were counted have 0 there).
    """

    _fields_ = [
        ("heads", (c_uint64 * 8) * LANES),
        ("contended", c_uint64 * 8),
        ("discarded", c_uint64 * 8),
        ("sampled_out", c_uint64 * 8),
        ("too_big", c_uint64 * 8),
        ("errors", c_uint64 * 8),
        ("in_flight_overflow", c_uint64 * 8),
        ("strings_overflow", c_uint64 * 8),
        ("segments_dropped", c_uint64 * 8),
        ("filtered", c_uint64 * 8),
        ("sampled_out_by_category", c_uint64 * CATEGORIES),
        ("filtered_by_category", c_uint64 * CATEGORIES),
    ]


class RegionHead(ctypes.Structure):
    """Begins the schema and string regions; `used` counts the bytes after this head.

    Records follow one another, each a `RecordHead` and its bytes, padded to 8. `used` is moved
    after a record is complete.
    """

    _fields_ = [("used", c_uint64), ("records", c_uint64)]


class RecordHead(ctypes.Structure):
    """Begins a record: its id and length in bytes.

    In the schema region the id is a payload type's, and record 0 is the slot's own layout. In the
    string region it is `position // 8 + 1`, where `position` counts from the end of the region's
    head, so that a string is found without a search. The id is written last: a record whose id is
    0 behind the first was never finished, and one whose id and length are 0 is the end.
    """

    _fields_ = [("id", c_uint32), ("length", c_uint32)]


class SlotHeader(ctypes.Structure):
    """The first cache line of a slot; the payload follows it."""

    _fields_ = [
        ("stamp", c_uint64),
        ("timestamp_ns", c_uint64),
        ("causality_id", c_uint64),
        ("parent", c_uint64),
        ("span_id", c_uint64),
        ("link", c_uint64),
        ("pid", c_uint32),
        ("tid", c_uint32),
        ("type_id", c_uint16),
        ("severity_category", c_uint8),
        ("flags", c_uint8),
        ("origin", c_uint32),
    ]


SLOT_BODY_FORMAT = "=QQQQQIIHBBI"
"""`struct` format of a slot's header after its stamp; `severity_category` is
`severity | category << 4`."""


class InFlightEntry(ctypes.Structure):
    """A begin that has no end yet. `event` is 0 where the entry is free.

    It is written before the begin event, with an id in `NO_LANE` (an event's that there is not) as
    `event`; that becomes the begin event's id once it is published, and stays where it was lost.
    """

    _fields_ = [
        ("event", c_uint64),
        ("timestamp_ns", c_uint64),
        ("causality_id", c_uint64),
        ("span_id", c_uint64),
        ("parent", c_uint64),
        ("tid", c_uint32),
        ("name", c_uint32),
        ("origin", c_uint32),
        ("type_id", c_uint16),
        ("reserved", c_uint16),
        ("pid", c_uint32),
        ("reserved2", c_uint32),
    ]


class ReaderEntry(ctypes.Structure):
    """A lossless reader's cursors; `pid` is 0 where the entry is free."""

    _fields_ = [
        ("pid", c_uint32),
        ("reserved", c_uint32),
        ("cursors", c_uint64 * LANES),
        ("padding", c_uint64 * 5),
    ]


def finished(ticket: int) -> int:
    """The stamp of a slot that `ticket` has finished writing."""
    return (ticket + 1) << 1


def writing(ticket: int) -> int:
    """The stamp of a slot that `ticket` is writing."""
    return ((ticket + 1) << 1) | 1


def priority_slots(slots: int) -> int:
    """How many slots the priority lane has beside a main lane of `slots`."""
    return max(MIN_SLOTS, min(4096, slots // 16))


def segment_path(path: str, segment: int) -> str:
    """The file of a recording's further segment: `00001-42.kobs`, `00001-42.1.kobs`, ..."""
    return f"{path.removesuffix('.kobs')}.{segment}.kobs" if segment else path


def _align(offset: int, to: int) -> int:
    return -(-offset // to) * to


def plan(header: Header, slots: int) -> int:
    """Fill in where every part of a ring of `slots` lies; return its total size in bytes."""
    header.magic = MAGIC
    header.version = VERSION
    header.byte_order = BYTE_ORDER_MARK
    header.header_size = PAGE
    header.slot_size = SLOT_SIZE
    header.slot_header_size = SLOT_HEADER_SIZE
    header.lane_count = LANES
    offset = PAGE
    small = slots < 8192
    for region, size in (
        (header.counters, PAGE),
        (header.schema, SCHEMA_REGION),
        (header.strings, STRING_REGION // 4 if small else STRING_REGION),
        (header.in_flight, IN_FLIGHT_ENTRIES * ctypes.sizeof(InFlightEntry)),
        (header.readers, READER_ENTRIES * ctypes.sizeof(ReaderEntry)),
    ):
        region.offset = offset
        region.size = size
        offset = _align(offset + size, PAGE)
    for lane, count in ((MAIN_LANE, slots), (PRIORITY_LANE, priority_slots(slots))):
        header.lanes[lane].offset = offset
        header.lanes[lane].slots = count
        offset = _align(offset + count * SLOT_SIZE, PAGE)
    header.total_size = offset
    return offset


assert ctypes.sizeof(Header) <= PAGE
assert ctypes.sizeof(Counters) <= PAGE
assert ctypes.sizeof(SlotHeader) == SLOT_HEADER_SIZE
assert ctypes.sizeof(InFlightEntry) == CACHE_LINE
assert ctypes.sizeof(ReaderEntry) == CACHE_LINE
