"""Whatever line of the core a process is killed at, its recording is whole.

A trace function takes a copy of the files at every line that the core runs, as a kill would leave
them, and every copy is read.
"""

import shutil
import sys

import pytest

from kobs._core import select
from kobs._core.contract import RawSlot
from kobs.errors import RecordingError
from kobs.ids import NO_LANE, event_id

MASK = (1 << 64) - 1


def emit(publish, value, lane=0):
    return publish(lane, value, value, 0, 0, 0, 0, 0, 0, 0, 0, 0, value, value ^ MASK, value * 3)


def is_whole(slot: RawSlot) -> bool:
    words = memoryview(slot.data).cast("Q").tolist()
    value = words[1]
    return (
        words[0] == (slot.ticket + 1) << 1
        and (words[2], words[8], words[9], words[10]) == (value, value, value ^ MASK, value * 3)
        and value == slot.ticket + 1
    )


class KillAtEveryLine:
    """Copies the folder at every line that runs in the core."""

    def __init__(self, folder, copies) -> None:
        self.folder = folder
        self.copies = copies
        self.count = 0

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self.before)

    def _call(self, frame, event, argument):
        return self._line if "_core" in frame.f_code.co_filename else None

    def _line(self, frame, event, argument):
        sys.settrace(None)
        shutil.copytree(self.folder, self.copies / f"{self.count:04}")
        self.count += 1
        sys.settrace(self._call)
        return self._line


def read(folder):
    attached = select("python").attach(str(folder / "a.kobs"))
    assert attached.damage == []
    reader = attached.reader()
    slots = []
    while found := reader.read():
        slots += found
    assert all(map(is_whole, slots))
    return attached, [slot.ticket for slot in slots if slot.lane == 0], reader


@pytest.fixture
def create(tmp_path):
    (tmp_path / "run").mkdir()

    def make(**options):
        return select("python").create(
            slots=16, path=str(tmp_path / "run" / "a.kobs"), overflow="overwrite", recording=1,
            session="", trace_high=0, parent_event=0, sampling_rate=100.0, **options,
        )  # fmt: skip

    return make


def test_killed_while_it_publishes(create, tmp_path):
    ring = create()
    publish = ring.publisher("3Q")
    for value in range(1, 19):
        emit(publish, value)
    with KillAtEveryLine(tmp_path / "run", tmp_path / "copies") as kills:
        emit(publish, 19)
        emit(publish, 20)
    assert kills.count > 20
    seen = set()
    for copy in sorted((tmp_path / "copies").iterdir()):
        _, tickets, reader = read(copy)
        # 18 events before: at most two of the oldest may be gone, and the newest come one by one.
        assert tickets == list(range(tickets[0], tickets[-1] + 1))
        assert (tickets[0], tickets[-1]) in {(2, 17), (3, 17), (3, 18), (4, 18), (4, 19)}
        assert reader.lost <= 1
        seen.add((tickets[0], tickets[-1]))
    assert {(2, 17), (3, 18), (4, 19)} <= seen


def test_killed_while_it_goes_on_to_a_further_segment(create, tmp_path):
    ring = create(keep=1 << 30)
    publish = ring.publisher("3Q")
    for value in range(1, 9):
        emit(publish, value)
    with KillAtEveryLine(tmp_path / "run", tmp_path / "copies") as kills:
        for value in range(9, 18):
            emit(publish, value)  # The segment is made at the first, and gone on to at the last.
    assert kills.count > 40
    ends = []
    made = 0
    for copy in sorted((tmp_path / "copies").iterdir()):
        _, tickets, _ = read(copy)
        assert tickets == list(range(len(tickets)))
        ends.append(len(tickets))
        made += (copy / "a.1.kobs").exists()
    assert ends == sorted(ends)
    assert set(ends) == set(range(8, 18))
    assert 40 < made < kills.count


def test_killed_while_it_interns_and_opens_a_scope(create, tmp_path):
    ring = create()
    begin = ring.begin_publisher("3Q")
    with KillAtEveryLine(tmp_path / "run", tmp_path / "copies"):
        name = ring.intern("read")
        event, _ = begin(name, 0, 1, 1, 9, 8, 0, 11, 10, 12, 0, 0, 0, 1, 1 ^ MASK, 3)
        ring.add_schema(3, b"{}")
    listed = []
    for copy in sorted((tmp_path / "copies").iterdir()):
        attached, tickets, _ = read(copy)
        # What can be read is in flight.
        assert len(tickets) <= len(attached.open_events())
        assert attached.string(name) in ("?", "read")
        assert [record for record in attached.schemas() if record[0]] in ([], [(3, b"{}")])
        for entry in attached.open_events():
            assert entry[1:] == (1, 1, 8, 9, 10, 11, name, 0, 12)
            assert attached.string(name) == "read"
            listed.append(entry.event)
    assert set(listed) == {event_id(1, NO_LANE, 1), event}
    assert listed[-1] == event


def test_killed_while_it_makes_its_recording(create, tmp_path):
    with KillAtEveryLine(tmp_path / "run", tmp_path / "copies"):
        create()
    opened = 0
    for copy in sorted((tmp_path / "copies").iterdir()):
        if (copy / "a.kobs").exists():
            read(copy)
            opened += 1
        else:
            with pytest.raises(RecordingError):
                read(copy)
    assert opened
