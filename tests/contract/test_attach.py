"""Files that are no recordings, or damaged ones: one clear line, or an honest part of it."""

import os
import re

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from kobs._core import layout
from kobs._core.layout import Header
from kobs.errors import RecordingError
from tests.thorough import many

PLAN = Header()
TOTAL = layout.plan(PLAN, 64)
MAIN = PLAN.lanes[0].offset
PRIORITY = PLAN.lanes[1].offset


@pytest.fixture
def recorded(make, writer, tmp_path):
    ring = make(64, path=tmp_path / "a.kobs")
    write = writer(ring)
    ring.add_schema(17, b"{}")
    begin = ring.begin_publisher("Q")
    begin(ring.intern("read"), 0, 2, 3, 5, 4, 0, 7, 6, 10, 0x21, 4, 9, 77)
    for number in range(100):
        write(number, lane=number % 10 == 0)
    ring.close()
    return tmp_path / "a.kobs"


def with_bytes(path, at, data):
    raw = bytearray(path.read_bytes())
    raw[at : at + len(data)] = data
    path.write_bytes(raw)


def refused(core, path):
    with pytest.raises(RecordingError) as caught:
        core.attach(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_a_whole_file_has_no_damage(core, recorded, numbers):
    attached = core.attach(str(recorded))
    assert sorted(numbers(attached.reader().read())) == sorted(
        [*range(0, 100, 10), *(n for n in range(29, 100) if n % 10)]
    )
    assert attached.damage == []
    assert attached.string(attached.open_events()[0].name) == "read"


def test_a_head_that_lags_far_is_damage_where_its_core_never_lags(
    core, make, writer, numbers, tmp_path
):
    """A thread of the Python core that is put aside between its event and the head counter, or just
    before, stores an old one over what others wrote meanwhile: any number of events."""
    path = tmp_path / "a.kobs"
    ring = make(64, path=path)
    write = writer(ring)
    for number in range(400):
        write(number)
    ring.close()
    with_bytes(
        path, PLAN.counters.offset + layout.Counters.heads.offset, (250).to_bytes(8, "little")
    )
    attached = core.attach(str(path))
    assert numbers(attached.reader().read()) == list(range(336, 400))
    told = ["the head counter of lane 0 says 250, its slots 400"]
    assert attached.damage == ([] if core.name == "python" else told)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a kobs recording: an empty file, a recording with b'KOBSRING'"),
        (b"PK\x03\x04 more", "not a kobs recording: it begins with b'PK\\x03\\x04 mor', a "),
        (b"KOBSRING", "truncated: 8 bytes, the header alone has 4,096; nothing is left"),
    ],
)
def test_a_file_that_is_no_recording_is_refused(core, tmp_path, content, message):
    path = tmp_path / "x"
    path.write_bytes(content)
    assert refused(core, path).startswith(message)


def test_what_cannot_be_opened_is_refused(core, tmp_path):
    assert refused(core, tmp_path / "none") == "cannot be read: No such file or directory"
    assert refused(core, tmp_path) == "cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("field", "data", "message"),
    [
        ("version", b"\x09\0\0\0", "format version 9; this kobs reads version 1: read it with"),
        ("byte_order", b"\x0a\x0b\x0c\x0d", "written on a machine of the other byte order"),
        ("byte_order", b"\0\0\0\0", "corrupted header: byte_order is 0, expected 168496141;"),
        ("slot_size", b"\0\0\0\0", "corrupted header: slot_size is 0, expected 192;"),
        ("lane_count", b"\xff\0\0\0", "corrupted header: lane_count is 255, expected 2;"),
        ("total_size", b"\xff" * 8, "corrupted header: total_size is 18446744073709551615"),
        ("strings", b"\xff" * 8, "corrupted header: strings.offset is 18446744073709551615"),
        ("lanes", b"\xff" * 8, "corrupted header: lanes[0].offset is 18446744073709551615"),
    ],
)
def test_a_damaged_header_is_refused(core, recorded, field, data, message):
    with_bytes(recorded, getattr(Header, field).offset, data)
    assert message in refused(core, recorded)


def test_a_file_cut_before_its_events_is_refused(core, recorded):
    os.truncate(recorded, MAIN - 1)
    assert refused(core, recorded) == (
        f"truncated: {MAIN - 1:,} of {TOTAL:,} bytes, and events begin at byte {MAIN:,}; "
        "nothing is left"
    )


def test_a_file_cut_within_its_events_gives_what_is_left(core, recorded, numbers):
    whole = numbers(core.attach(str(recorded)).reader().read())
    os.truncate(recorded, MAIN + 40 * layout.SLOT_SIZE + 5)
    attached = core.attach(str(recorded))
    assert attached.damage == [
        f"truncated: {MAIN + 40 * layout.SLOT_SIZE + 5:,} of {TOTAL:,} bytes; 24 of 64 slots of "
        "the main lane and 16 of 16 slots of the priority lane are left out"
    ]
    reader = attached.reader()
    left = numbers(reader.read())
    assert len(left) == 40
    assert set(left) < set(whole)
    assert reader.lost == 24 + 10
    assert attached.string(attached.open_events()[0].name) == "read"


def test_a_file_that_is_cut_while_it_is_read_is_refused_then(core, make, writer, tmp_path):
    ring = make(64, path=tmp_path / "a.kobs")
    writer(ring)(1)
    reader = core.attach(ring.path).reader()
    assert len(reader.read()) == 1
    os.truncate(ring.path, 8192)
    try:
        with pytest.raises(RecordingError, match=re.escape("was truncated to 8,192 of")):
            reader.read()
    finally:
        os.truncate(ring.path, TOTAL)


def look_at_everything(core, path):
    try:
        attached = core.attach(str(path))
    except RecordingError as error:
        one_line = "\n" not in str(error)
        assert one_line
        return
    reader = attached.reader()
    rounds = 0
    while slots := reader.read(1000):
        assert all(len(slot.data) == layout.SLOT_SIZE for slot in slots)
        rounds += 1
        assert rounds < 100
    list(attached.schemas())
    for entry in attached.open_events():
        attached.string(entry.name)
    attached.losses()
    attached.produced()
    attached.close()


changes = st.lists(
    st.tuples(
        st.one_of(
            st.integers(0, 1500),
            st.integers(0, PLAN.schema.offset + 200),
            st.integers(PLAN.strings.offset, PLAN.strings.offset + 64),
            st.integers(PLAN.in_flight.offset, PLAN.in_flight.offset + 64),
            st.integers(MAIN, TOTAL - 1),
        ),
        st.one_of(st.binary(min_size=1, max_size=16), st.just(b"\xff" * 8)),
    ),
    max_size=6,
)


@settings(
    max_examples=many(100),
    deadline=5000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes=changes, size=st.one_of(st.just(TOTAL), st.integers(0, TOTAL)))
def test_no_damage_whatsoever_does_more_than_a_recording_error(core, recorded, changes, size):
    damaged = recorded.with_name("damaged.kobs")
    raw = bytearray(recorded.read_bytes())
    for at, data in changes:
        raw[at : at + len(data)] = data
    damaged.write_bytes(raw[:size])
    look_at_everything(core, damaged)


@settings(max_examples=50, deadline=None)
@given(raw=st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(tmp_path_factory, raw):
    from kobs._core import select

    path = tmp_path_factory.mktemp("any") / "x"
    path.write_bytes(raw)
    look_at_everything(select("python"), path)
