"""A slot that its producer does not finish: no reader waits long, nothing torn is ever read.

The stalled producer is played by writing stamps into the ring's file from outside.
"""

import mmap
import time

import pytest

from kobs._core.layout import SLOT_SIZE, Header, finished, writing


class Slots:
    """The stamps of a recording's main lane, to read and to write."""

    def __init__(self, path: object) -> None:
        with open(str(path), "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._offset = Header.from_buffer_copy(self._map[:4096]).lanes[0].offset

    def __setitem__(self, index: int, stamp: int) -> None:
        at = self._offset + index * SLOT_SIZE
        self._map[at : at + 8] = stamp.to_bytes(8, "little")

    def __getitem__(self, index: int) -> int:
        at = self._offset + index * SLOT_SIZE
        return int.from_bytes(self._map[at : at + 8], "little")

    def scribble(self, index: int) -> None:
        at = self._offset + index * SLOT_SIZE + 64
        self._map[at : at + 8] = b"\xff" * 8


@pytest.fixture
def ring(make, tmp_path):
    return make(64, path=tmp_path / "a.kobs")


@pytest.fixture
def slots(ring):
    return Slots(ring.path)


@pytest.fixture(params=["live", "attached"])
def reader(request, ring, core):
    return ring.reader() if request.param == "live" else core.attach(ring.path).reader()


def until(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "it never came true"


def test_an_unfinished_slot_stops_its_lane_for_10_ms_only(ring, slots, reader, writer, numbers):
    write = writer(ring)
    for number in range(5):
        write(number)
    write(100, lane=1)
    slots[2] = writing(2)
    began = time.monotonic()
    assert numbers(reader.read()) == [0, 1, 100], "the other lane goes on"
    got: list[int] = []
    until(lambda: got.extend(numbers(reader.read())) or got)
    assert time.monotonic() - began >= 0.01
    assert got == [3, 4]
    assert reader.lost == 1


def test_a_slot_that_is_finished_in_time_is_read(ring, slots, reader, writer, numbers):
    write = writer(ring)
    for number in range(3):
        write(number)
    slots[1] = writing(1)
    assert numbers(reader.read()) == [0]
    slots[1] = finished(1)
    assert numbers(reader.read()) == [1, 2]
    assert reader.lost == 0


def test_what_counted_as_lost_is_never_delivered_later(ring, slots, reader, writer, numbers):
    write = writer(ring)
    for number in range(3):
        write(number)
    slots[1] = writing(1)
    got: list[int] = []
    until(lambda: got.extend(numbers(reader.read())) or 2 in got)
    slots[1] = finished(1)
    write(3)
    assert numbers(reader.read()) == [3]
    assert reader.lost == 1


def test_many_unfinished_slots_stop_a_reader_once(ring, slots, reader, writer, numbers):
    write = writer(ring)
    for number in range(40):
        write(number)
    for index in range(1, 39):
        slots[index] = writing(index)
    got: list[int] = []
    lost: set[int] = set()

    def read() -> bool:
        got.extend(numbers(reader.read()))
        lost.add(reader.lost)
        return 39 in got

    until(read)
    assert lost == {0, 38}, "each had its own 10 ms"
    assert got == [0, 39]
    assert reader.lost == 38


def test_a_producer_that_was_lapped_gives_up(ring, slots, reader, writer, numbers):
    write = writer(ring)
    slots[0] = finished(64)
    assert write(0) == 0
    assert ring.losses().contended == 1
    assert write(1)
    assert slots[0] == finished(64), "the newer event is left alone"


def test_an_old_event_under_a_writing_stamp_is_not_read(ring, slots, core, writer, numbers):
    """A producer was killed half way through its copy: the old stamp is gone, the body torn."""
    write = writer(ring)
    for number in range(68):
        write(number)
    slots[4] = writing(68)
    slots.scribble(4)
    ring.close()
    reader = core.attach(ring.path).reader()
    assert numbers(reader.read()) == list(range(5, 68))
    assert reader.lost == 1
