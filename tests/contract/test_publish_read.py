"""What is published is read, whole, in order, by everyone; what is lost is counted exactly."""

import gc
import struct

import pytest

from kobs._core.layout import SlotHeader, finished
from kobs.errors import ClosedError, ConfigError, SchemaError
from kobs.ids import TICKET_MASK, split_id


def test_every_header_field_and_the_payload_come_back(make, core):
    ring = make()
    reader = ring.reader()
    event = ring.publisher("BxHd")(0, 1, 2, 3, 4, 5, 6, 7, 8, 0x12, 10, 11, 12, 13, 0.5)
    (slot,) = reader.read()
    header = SlotHeader.from_buffer_copy(slot.data)
    found = {name: getattr(header, name) for name, _ in SlotHeader._fields_}
    assert found == {
        "stamp": finished(0),
        "timestamp_ns": 1,
        "causality_id": 2,
        "parent": 3,
        "span_id": 4,
        "link": 5,
        "pid": 6,
        "tid": 7,
        "type_id": 8,
        "severity_category": 0x12,
        "flags": 10,
        "origin": 11,
    }
    assert struct.unpack_from("=BxHd", slot.data, 64) == (12, 13, 0.5)
    assert (slot.lane, slot.ticket) == (0, 0)
    assert split_id(event) == (7, 0, 0)


def test_ids_tell_recording_lane_and_ticket(make, writer):
    write = writer(make(recording=1_048_575))
    assert [split_id(write(0, lane=lane)) for lane in (0, 1, 1, 0)] == [
        (1_048_575, 0, 0),
        (1_048_575, 1, 0),
        (1_048_575, 1, 1),
        (1_048_575, 0, 1),
    ]


def test_every_reader_sees_every_event(make, writer, numbers):
    ring = make()
    readers = [ring.reader() for _ in range(3)]
    write = writer(ring)
    for number in range(10):
        write(number)
    assert [numbers(reader.read()) for reader in readers] == [list(range(10))] * 3
    assert [reader.read() for reader in readers] == [[], [], []]


def test_a_reader_begins_at_the_end_or_at_the_oldest(make, writer, numbers):
    ring = make()
    write = writer(ring)
    for number in range(100):
        write(number)
    late, oldest = ring.reader(), ring.reader(oldest=True)
    write(100)
    assert numbers(late.read()) == [100]
    # `oldest` began at 36; 100 then overwrote it.
    assert numbers(oldest.read()) == list(range(37, 101))
    assert (late.lost, oldest.lost) == (0, 1)


@pytest.mark.parametrize("events", [0, 1, 63, 64, 65, 128, 129, 1000])
def test_what_was_overwritten_is_counted_exactly(make, writer, numbers, events):
    ring = make(64)
    reader = ring.reader()
    write = writer(ring)
    for number in range(events):
        write(number)
    kept = min(events, 64)
    assert numbers(reader.read()) == list(range(events - kept, events))
    assert reader.lost == events - kept == ring.losses().overwritten
    assert ring.produced() == events


def test_a_flood_of_one_lane_leaves_the_other_alone(make, writer, numbers):
    ring = make(64)
    reader = ring.reader()
    write = writer(ring)
    write(1_000_000, lane=1)
    for number in range(1000):
        write(number)
    assert numbers(reader.read()) == [1_000_000, *range(936, 1000)]
    assert reader.lost == 936


def test_lanes_are_merged_by_time_and_the_limit_holds(make, writer, numbers):
    ring = make(64)
    reader = ring.reader()
    write = writer(ring)
    for number in range(24):
        write(number, lane=number % 3 == 0)
    assert numbers(reader.read(5)) == [0, 1, 2, 3, 4]
    assert reader.pending() == 19
    assert numbers(reader.read(100)) == list(range(5, 24))
    assert reader.pending() == 0


def test_a_reader_goes_back_to_a_position(make, writer, numbers):
    ring = make(64)
    reader = ring.reader()
    write = writer(ring)
    for number in range(10):
        write(number)
    reader.read(4)
    position = reader.position()
    assert position == (4, 0)
    assert numbers(reader.read()) == list(range(4, 10))
    reader.seek(position)
    assert numbers(reader.read()) == list(range(4, 10))
    reader.seek_oldest()
    assert numbers(reader.read()) == list(range(10))
    reader.seek_oldest()
    reader.seek_end()
    assert reader.read() == []
    assert reader.lost == 0


def test_a_closed_reader_gives_nothing(make, writer):
    ring = make()
    reader = ring.reader()
    writer(ring)(1)
    reader.close()
    reader.close()
    assert reader.read() == []


def test_a_value_that_does_not_fit_leaves_no_gap(make, writer, numbers):
    ring = make()
    reader = ring.reader()
    publish = ring.publisher("B")
    with pytest.raises(struct.error):
        publish(0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 256)
    with pytest.raises(struct.error):
        publish(0, 1 << 64, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1)
    writer(ring)(5)
    (slot,) = reader.read()
    assert slot.ticket == 0
    assert ring.produced() == 1
    assert sum(ring.losses()) == 0


def test_a_format_that_no_slot_holds_is_refused(make):
    ring = make()
    with pytest.raises(SchemaError, match="takes 136 bytes; a slot holds 128"):
        ring.publisher("17Q")
    with pytest.raises(SchemaError, match="'Z'"):
        ring.publisher("Z")
    ring.publisher("16Q")


def test_tickets_go_on_past_the_42_bits_of_an_id(make, writer, numbers):
    first = (1 << 42) - 100
    ring = make(64, first_ticket=first)
    reader = ring.reader()
    write = writer(ring)
    ids = [write(number) for number in range(200)]
    assert split_id(ids[99]) == (7, 0, TICKET_MASK)
    assert split_id(ids[100]) == (7, 0, 0)
    slots = reader.read()
    assert numbers(slots) == list(range(136, 200))
    assert slots[-1].ticket == first + 199
    assert reader.lost == 136 == ring.losses().overwritten
    assert ring.produced() == 200


def test_a_closed_ring_publishes_nothing(make, writer):
    ring = make()
    write = writer(ring)
    reader = ring.reader()
    assert write(1)
    ring.close()
    ring.close()
    assert write(2) == 0
    assert write(2, lane=1) == 0
    assert ring.produced() == 1
    assert sum(ring.losses()) == 0
    assert len(reader.read()) == 1
    with pytest.raises(ClosedError):
        ring.publisher("Q")
    with pytest.raises(ClosedError):
        ring.reader()


@pytest.mark.parametrize("slots", [0, 8, 100, -64, 1 << 25])
def test_sizes_that_no_ring_has_are_refused(make, slots):
    with pytest.raises(ConfigError, match=f"{slots} slots.*power of two from 16 to 16777216"):
        make(slots)


def test_an_unknown_overflow_is_refused(make):
    with pytest.raises(ConfigError, match=r"'block'.*'overwrite' or 'discard'"):
        make(overflow="block")


@pytest.mark.c_core
@pytest.mark.parametrize("core", ["c"], indirect=True)
def test_slots_that_were_read_are_nothing_that_the_garbage_collector_walks(make, writer):
    ring = make()
    reader = ring.reader()
    writer(ring)(1)
    (slot,) = reader.read()
    assert not gc.is_tracked(slot)
