"""Strings, schemas, the in-flight table and counters: in memory and in the file."""

import gc
import json
import struct
import threading

import pytest

from kobs._core.layout import IN_FLIGHT_ENTRIES, SlotHeader
from kobs.context import origin as cause_origin
from kobs.decoder import EventDecoder
from kobs.emitters import ThreadIds, make_emitter
from kobs.errors import SchemaError
from kobs.ids import NO_LANE, event_id, split_id
from kobs.payloads import QueueDepth, SpanBegan


@pytest.fixture
def ring(make, tmp_path):
    return make(64, path=tmp_path / "a.kobs")


def test_the_garbage_collector_has_no_more_to_walk_for_each_string(ring):
    ring.intern("the first")
    gc.collect()
    before = len(gc.get_objects())
    for number in range(100):
        ring.intern(f"string {number}")
    gc.collect()
    assert len(gc.get_objects()) < before + 50


def test_a_string_has_one_id_and_is_in_the_file_before_it_is_used(ring, core):
    attached = core.attach(ring.path)
    texts = ["read", "", "größe", "a" * 1000, "read", "\ud800"]
    ids = [ring.intern(text) for text in texts]
    assert ids[0] == ids[4] != ids[2]
    assert 0 not in ids
    assert [ring.string(one) for one in ids[:4]] == ["read", "", "größe", "a" * 1000]
    assert [attached.string(one) for one in ids[1:4]] == ["", "größe", "a" * 1000]
    assert [attached.string(one) for one in (0, -1, 7_000_000, ids[3] + 1)] == ["?"] * 4


def test_an_empty_name_is_read_back_as_one(ring, core):
    options = {"gate": [False], "threads": [ThreadIds()], "decide": None, "analyse": None}
    emitted, _ = make_emitter(QueueDepth.__kobs_schema__, ring, 4711, **options)
    begin, _ = make_emitter(SpanBegan.__kobs_schema__, ring, 4711, begins=True, **options)
    before = cause_origin.set("")
    try:
        emitted("", 1, 2)
        begin("", "", 3)
    finally:
        cause_origin.reset(before)
    slots = ring.reader(oldest=True).read(9)
    for source in (ring, core.attach(ring.path)):
        decode = EventDecoder(source).decode
        depth, began = (decode(slot) for slot in slots)
        assert depth.payload == QueueDepth("", 1, 2)
        assert began.payload == SpanBegan("", "", 3)
        assert depth.origin == began.origin == ""
        assert [source.string(entry.name) for entry in source.open_events()] == [""]
    assert not struct.unpack_from("=I", slots[0].data, SlotHeader.origin.offset)[0]


def test_a_full_string_region_gives_0_and_counts(ring):
    ids = [ring.intern(f"{number:0500}") for number in range(300)]
    full = ids.count(0)
    assert full == ring.losses().strings_overflow > 100
    assert ring.string(ids[0]) == f"{0:0500}"
    assert ring.intern(f"{0:0500}") == ids[0]


def test_threads_that_intern_at_once_get_strings_that_are_right(make):
    ring = make(16_384)
    found: list[tuple[str, int]] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for number in range(800):
            text = f"name {number}"
            found.append((text, ring.intern(text)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(string_id and ring.string(string_id) == text for text, string_id in found)


def test_schemas_are_in_the_file_once_and_first_the_slots_own_layout(ring, core):
    ring.add_schema(5, b'{"name":"A"}')
    ring.add_schema(6, b"{}")
    ring.add_schema(5, b'{"name":"A"}')
    records = list(core.attach(ring.path).schemas())
    assert records[1:] == [(5, b'{"name":"A"}'), (6, b"{}")]
    assert records[0][0] == 0
    described = json.loads(records[0][1])
    assert [(field["name"], field["offset"]) for field in described["header"]] == [
        (name, getattr(SlotHeader, name).offset) for name, _ in SlotHeader._fields_
    ]
    assert described["payload_offset"] == 64


def test_a_full_schema_region_is_refused(ring):
    for type_id in range(1, 24):
        ring.add_schema(type_id, b"x" * 4000)
    with pytest.raises(SchemaError, match="no room for the schema of payload type 24: the ring's"):
        ring.add_schema(24, b"x" * 8000)


def begin(publish, lane=0, name=8, timestamp_ns=1):
    return publish(name, lane, timestamp_ns, 2, 4, 3, 0, 6, 5, 10, 0x21, 4, 9, 77)


def test_a_begin_is_in_flight_until_its_end(ring, core, read_all):
    attached = core.attach(ring.path)
    publish = ring.begin_publisher("Q")
    event, first = begin(publish)
    other, second = begin(publish, lane=1, timestamp_ns=2)
    assert (split_id(event), split_id(other)) == ((7, 0, 0), (7, 1, 0))
    assert attached.open_events() == ring.open_events()
    assert attached.open_events()[0] == (event, 1, 2, 3, 4, 5, 6, 8, 9, 10)
    ring.close_entry(first)
    ring.close_entry(-1)
    assert [entry.event for entry in attached.open_events()] == [other]
    ring.close_entry(second)
    assert attached.open_events() == []
    assert [event_id(7, s.lane, s.ticket) for s in read_all(attached.reader())] == [event, other]


def test_a_begin_whose_event_is_discarded_is_in_flight_and_has_an_id_of_its_own(make, read_all):
    ring = make(16, overflow="discard")
    reader = ring.reader(lossless=True)
    publish = ring.begin_publisher("Q")
    events, entries = zip(*(begin(publish, timestamp_ns=n) for n in range(20)), strict=True)
    assert all(events[:16])
    assert events[16:] == (0,) * 4
    listed = ring.open_events()
    assert [entry.timestamp_ns for entry in listed] == list(range(20))
    assert [entry.event for entry in listed[:16]] == list(events[:16])
    assert all(entry[1:] == (n, 2, 3, 4, 5, 6, 8, 9, 10) for n, entry in enumerate(listed))
    own = [entry.event for entry in listed[16:]]
    assert len(set(own)) == 4
    assert {split_id(event)[:2] for event in own} == {(7, NO_LANE)}
    for entry in entries:
        ring.close_entry(entry)
    assert ring.open_events() == []
    assert ring.losses().discarded == 4
    assert len(read_all(reader)) == 16


def test_a_begin_in_no_lane_is_in_flight_and_not_published(ring, read_all):
    event, entry = begin(ring.begin_publisher("Q"), lane=NO_LANE)
    assert event == 0
    (listed,) = ring.open_events()
    assert listed[1:] == (1, 2, 3, 4, 5, 6, 8, 9, 10)
    assert split_id(listed.event)[:2] == (7, NO_LANE)
    ring.close_entry(entry)
    assert ring.open_events() == []
    assert (ring.produced(), sum(ring.losses()), read_all(ring.reader())) == (0, 0, [])


@pytest.mark.parametrize("lane", [0, NO_LANE])
def test_a_begin_that_cannot_be_packed_is_not_in_flight(ring, lane):
    publish = ring.begin_publisher("B")
    with pytest.raises(struct.error):
        publish(8, lane, 1, 2, 4, 3, 0, 6, 5, 10, 0x21, 4, 9, 256)
    assert ring.open_events() == []


def test_a_closed_ring_takes_no_begin(ring, core):
    publish = ring.begin_publisher("Q")
    ring.close()
    assert begin(publish) == (0, -1)
    attached = core.attach(ring.path)
    assert attached.open_events() == []
    assert sum(attached.losses()) == 0


def test_a_full_in_flight_table_is_counted_and_its_places_come_back(ring):
    publish = ring.begin_publisher("Q")
    entries = [begin(publish)[1] for _ in range(IN_FLIGHT_ENTRIES)]
    assert len(set(entries)) == IN_FLIGHT_ENTRIES
    event, entry = begin(publish)
    assert event
    assert entry == -1
    assert ring.losses().in_flight_overflow == 1
    ring.close_entry(entries[17])
    assert begin(publish)[1] == entries[17]
    assert len(ring.open_events()) == IN_FLIGHT_ENTRIES


def test_an_entry_of_another_process_is_not_closed_here(ring):
    """A scope that was open at a fork ends in the child, which has a ring of its own."""
    _, entry = begin(ring.begin_publisher("Q"))
    ring.close_entry(entry + IN_FLIGHT_ENTRIES)
    assert len(ring.open_events()) == 1


def test_losses_are_counted_by_cause_and_read_from_the_file(ring, core):
    causes = [cause for cause in ring.losses()._fields if cause != "overwritten"]
    for times, cause in enumerate(causes, 1):
        ring.count(cause)
        ring.count(cause, times)
    expected = dict(zip(causes, range(2, 2 + len(causes)), strict=True))
    assert ring.losses()._asdict() == {"overwritten": 0, **expected}
    assert core.attach(ring.path).losses() == ring.losses()


def test_threads_that_count_at_once_lose_no_count(ring):
    def work() -> None:
        for _ in range(2000):
            ring.count("filtered")
            ring.count("too_big", 3)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ring.losses().filtered == 8000
    assert ring.losses().too_big == 24_000
