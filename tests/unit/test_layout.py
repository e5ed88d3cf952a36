"""The format is what this test says; a change of it is a new version."""

import ctypes
import struct
from itertools import pairwise

import pytest

from kobs._core import layout
from kobs._core.layout import Counters, Header, InFlightEntry, ReaderEntry, SlotHeader


def test_a_slot_is_three_cache_lines():
    assert layout.SLOT_SIZE == 192 == 3 * layout.CACHE_LINE
    assert ctypes.sizeof(SlotHeader) == 64
    assert struct.calcsize(layout.SLOT_BODY_FORMAT) == 56


def test_the_body_format_is_the_slot_header_after_its_stamp():
    values = list(range(1, 12))
    raw = bytes(8) + struct.pack(layout.SLOT_BODY_FORMAT, *values)
    header = SlotHeader.from_buffer_copy(raw)
    assert [getattr(header, name) for name, _ in SlotHeader._fields_][1:] == values


@pytest.mark.parametrize(
    ("structure", "field", "offset"),
    [
        (Header, "version", 8),
        (Header, "byte_order", 12),
        (Header, "total_size", 32),
        (Header, "counters", 40),
        (Header, "lanes", 120),
        (Header, "recording", 152),
        (Header, "state", 168),
        (Header, "session", 232),
        (Header, "command", 280),
        (Header, "first_tickets", 1304),
        (Counters, "contended", 128),
        (SlotHeader, "type_id", 56),
        (InFlightEntry, "timestamp_ns", 8),
        (ReaderEntry, "cursors", 8),
    ],
)
def test_fields_lie_where_version_1_has_them(structure, field, offset):
    assert getattr(structure, field).offset == offset


@pytest.mark.parametrize("slots", [16, 64, 4096, 65_536, 1 << 20])
def test_parts_do_not_overlap_and_lanes_begin_on_pages(slots):
    header = Header()
    total = layout.plan(header, slots)
    parts = [(0, layout.PAGE)]
    for name in ("counters", "schema", "strings", "in_flight", "readers"):
        region = getattr(header, name)
        parts.append((region.offset, region.size))
    parts += [(lane.offset, lane.slots * layout.SLOT_SIZE) for lane in header.lanes]
    for (start, size), (following, _) in pairwise(parts):
        assert start + size <= following
    assert parts[-1][0] + parts[-1][1] <= total == header.total_size
    assert all(lane.offset % layout.PAGE == 0 for lane in header.lanes)
    assert all(lane.slots & (lane.slots - 1) == 0 for lane in header.lanes)


def test_stamps_tell_ticket_and_state():
    assert layout.finished(0) == 2
    assert layout.writing(0) == 3
    assert layout.finished(41) >> 1 == 42 == layout.writing(41) >> 1


def test_further_segments_are_named_after_their_recording():
    assert layout.segment_path("/s/00001-42.kobs", 0) == "/s/00001-42.kobs"
    assert layout.segment_path("/s/00001-42.kobs", 3) == "/s/00001-42.3.kobs"
