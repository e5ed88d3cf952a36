"""Strings, schemas, the in-flight table and counters: in memory and in the file."""

import json
import threading

import pytest

from kobs._core.layout import IN_FLIGHT_ENTRIES, SlotHeader
from kobs.errors import SchemaError


@pytest.fixture
def ring(make, tmp_path):
    return make(64, path=tmp_path / "a.kobs")


def test_a_string_has_one_id_and_is_in_the_file_before_it_is_used(ring, core):
    attached = core.attach(ring.path)
    texts = ["read", "", "größe", "a" * 1000, "read", "\ud800"]
    ids = [ring.intern(text) for text in texts]
    assert ids[0] == ids[4] != ids[2]
    assert ids[1] == 0
    assert [ring.string(one) for one in ids[:1] + ids[2:4]] == ["read", "größe", "a" * 1000]
    assert [attached.string(one) for one in ids[2:4]] == ["größe", "a" * 1000]
    assert [attached.string(one) for one in (0, -1, 7_000_000, ids[3] + 1)] == ["?"] * 4


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


def test_a_begin_is_in_flight_until_its_end(ring, core):
    attached = core.attach(ring.path)
    first = ring.open_entry(101, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    second = ring.open_entry(102, 2, 2, 3, 4, 5, 6, 7, 8, 9)
    assert attached.open_events() == ring.open_events()
    assert attached.open_events()[0] == (101, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    ring.close_entry(first)
    ring.close_entry(-1)
    assert [entry.event for entry in attached.open_events()] == [102]
    ring.close_entry(second)
    assert attached.open_events() == []


def test_a_full_in_flight_table_is_counted_and_its_places_come_back(ring):
    indexes = [ring.open_entry(n + 1, n, 0, 0, 0, 0, 0, 0, 0, 0) for n in range(IN_FLIGHT_ENTRIES)]
    assert sorted(indexes) == list(range(IN_FLIGHT_ENTRIES))
    assert ring.open_entry(5000, 1, 0, 0, 0, 0, 0, 0, 0, 0) == -1
    assert ring.losses().in_flight_overflow == 1
    ring.close_entry(17)
    assert ring.open_entry(5000, 1, 0, 0, 0, 0, 0, 0, 0, 0) == 17
    assert len(ring.open_events()) == IN_FLIGHT_ENTRIES


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
