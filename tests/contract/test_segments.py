"""A recording that goes on in further files: nothing is lost until the room is used up."""

import os
import resource
import threading
import time
import warnings

import pytest

from kobs._core import memory, segments
from kobs._core.layout import Header, plan, segment_path
from kobs.ids import NO_LANE, split_id

SIZE = plan(Header(), 64)


def files(tmp_path):
    return sorted(os.listdir(tmp_path), key=lambda name: (len(name), name))


def test_many_rings_worth_is_read_back_by_live_late_and_inner_readers(
    make, core, writer, numbers, read_all, tmp_path
):
    ring = make(64, path=tmp_path / "a.kobs", keep=1 << 30)
    live = core.attach(ring.path).reader()
    write = writer(ring)
    got = []
    for number in range(1000):
        write(number, lane=number % 7 == 0)
        if number % 37 == 0:
            got += numbers(live.read())
    got += numbers(read_all(live))
    assert got == list(range(1000))
    assert numbers(read_all(ring.reader(oldest=True))) == list(range(1000))
    assert live.lost == sum(ring.losses()) == 0
    ring.close()
    attached = core.attach(ring.path)
    reader = attached.reader()
    assert numbers(read_all(reader)) == list(range(1000))
    assert (reader.lost, attached.produced(), attached.damage) == (0, 1000, [])
    assert files(tmp_path)[:3] == ["a.kobs", "a.1.kobs", "a.2.kobs"]
    assert len(files(tmp_path)) == 14


def test_beyond_the_room_the_oldest_further_file_goes_and_is_counted(
    make, core, writer, numbers, read_all, tmp_path
):
    ring = make(64, path=tmp_path / "a.kobs", keep=4 * SIZE)
    write = writer(ring)
    for number in range(640):
        write(number)
        assert len(files(tmp_path)) <= 4
        if number == 600:
            assert files(tmp_path) == ["a.kobs", "a.7.kobs", "a.8.kobs", "a.9.kobs"]
            reader = core.attach(ring.path).reader()
            assert numbers(read_all(reader)) == [*range(64), *range(448, 601)]
            assert reader.lost == ring.losses().segments_dropped == 384
    # The next one is there already, and has taken the room of the oldest.
    assert files(tmp_path) == ["a.kobs", "a.8.kobs", "a.9.kobs", "a.10.kobs"]
    ring.close()
    attached = core.attach(ring.path)
    reader = attached.reader()
    assert numbers(read_all(reader)) == [*range(64), *range(512, 640)]
    assert reader.lost == attached.losses().segments_dropped == 448
    assert attached.losses().overwritten == 0


def test_the_next_file_is_made_while_there_is_half_of_the_room_left(
    make, core, writer, numbers, read_all, tmp_path
):
    ring = make(64, path=tmp_path / "a.kobs", keep=1 << 30)
    write = writer(ring)
    for number in range(32):
        write(number)
    assert files(tmp_path) == ["a.kobs"]
    write(32)
    assert files(tmp_path) == ["a.kobs", "a.1.kobs"]
    for number in range(33, 96):
        write(number)
    assert files(tmp_path) == ["a.kobs", "a.1.kobs"]
    write(96)
    assert files(tmp_path) == ["a.kobs", "a.1.kobs", "a.2.kobs"]
    assert numbers(read_all(core.attach(ring.path).reader())) == list(range(97))


def test_a_file_that_was_made_ahead_and_not_needed_is_removed_at_the_end(
    make, core, writer, numbers, read_all, tmp_path
):
    ring = make(64, path=tmp_path / "a.kobs", keep=1 << 30)
    write = writer(ring)
    for number in range(100):
        write(number)
    ring.close()
    assert files(tmp_path) == ["a.kobs", "a.1.kobs"]
    attached = core.attach(ring.path)
    assert numbers(read_all(attached.reader())) == list(range(100))
    assert (sum(attached.losses()), attached.damage) == (0, [])


def test_a_slow_lane_gets_its_file_again_and_nothing_is_counted_twice(
    make, core, writer, numbers, read_all, tmp_path
):
    ring = make(64, path=tmp_path / "a.kobs", keep=5 * SIZE)
    write = writer(ring)
    for number in range(1000):
        write(number, lane=number % 10 == 0)
    ring.close()
    attached = core.attach(ring.path)
    reader = attached.reader()
    kept = numbers(read_all(reader))
    assert kept == sorted(kept)
    assert len(kept) + reader.lost == 1000
    assert attached.losses().segments_dropped == reader.lost


def test_where_there_is_no_room_for_a_further_file_the_newest_is_overwritten(
    make, core, writer, numbers, read_all, tmp_path
):
    ring = make(64, path=tmp_path / "a.kobs", keep=1 << 30)
    reader = core.attach(ring.path).reader()
    write = writer(ring)
    for number in range(90):
        write(number)
    assert numbers(read_all(reader)) == list(range(90))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE - 1, hard))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert all(write(number) for number in range(90, 100))
            assert numbers(read_all(reader)) == list(range(90, 100))
            assert all(write(number) for number in range(100, 300))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (warning,) = caught
    assert warning.category is RuntimeWarning
    assert "overwrites its newest part" in str(warning.message)
    for number in range(300, 400):
        assert write(number)
    assert files(tmp_path) == ["a.kobs", "a.1.kobs"]
    assert numbers(read_all(reader)) == list(range(336, 400))
    assert reader.lost == 236
    ring.close()
    late = core.attach(ring.path).reader()
    assert numbers(read_all(late)) == [*range(64), *range(336, 400)]
    assert ring.losses().overwritten == 272 == late.lost


def test_a_further_file_alone_says_what_it_is(make, core, writer, numbers, read_all, tmp_path):
    ring = make(64, path=tmp_path / "a.kobs", keep=1 << 30)
    name = ring.intern("read")
    ring.add_schema(3, b"{}")
    write = writer(ring)
    for number in range(150):
        write(number)
    ring.close()
    attached = core.attach(segment_path(ring.path, 1))
    assert (attached.segment, attached.string(name)) == (1, "read")
    assert (3, b"{}") in list(attached.schemas())
    assert numbers(read_all(attached.reader())) == list(range(64, 128))


def test_a_missing_and_a_cut_segment_are_told(make, core, writer, numbers, read_all, tmp_path):
    ring = make(64, path=tmp_path / "a.kobs", keep=1 << 30)
    write = writer(ring)
    for number in range(64 * 5):
        write(number)
    ring.close()
    os.unlink(segment_path(ring.path, 1))
    os.truncate(segment_path(ring.path, 3), 10_000)
    attached = core.attach(ring.path)
    reader = attached.reader()
    assert numbers(read_all(reader)) == [*range(64), *range(128, 192), *range(256, 320)]
    assert reader.lost == 128
    assert "a.3.kobs has 10,000 of" in attached.damage[0]


@pytest.fixture
def slow_files(monkeypatch):
    """Further files do not come before `.set()`; `.making` tells that one is asked for."""
    let, asked, make_file = threading.Event(), threading.Event(), memory.file

    def file(path, size):
        if ".kobs.new" in path and not path.endswith("a.kobs.new"):
            asked.set()
            assert let.wait(10)
        return make_file(path, size)

    monkeypatch.setattr(memory, "file", file)
    let.making = asked
    yield let
    let.set()


def in_thread(write, values):
    thread = threading.Thread(target=lambda: [write(value) for value in values])
    thread.start()
    return thread


def test_while_one_makes_the_next_file_the_others_go_on(
    make, writer, numbers, read_all, tmp_path, slow_files, monkeypatch
):
    monkeypatch.setattr(segments, "_WAIT_S", 60.0)
    monkeypatch.setattr(segments, "_PATIENCE_S", 60.0)
    ring = make(64, path=tmp_path / "a.kobs", keep=1 << 30)
    first, second = writer(ring), writer(ring)
    reader = ring.reader()
    maker = in_thread(first, range(33))
    assert slow_files.making.wait(10)
    for number in range(33, 64):
        assert second(number)
    # The event of the one that makes it is not held up either.
    assert sorted(numbers(read_all(reader))) == list(range(64))
    later = in_thread(second, range(64, 70))
    slow_files.set()
    maker.join()
    later.join()
    assert numbers(read_all(reader)) == list(range(64, 70))
    assert reader.lost == sum(ring.losses()) == 0


def test_a_file_that_does_not_come_is_waited_for_50_ms_an_event_and_then_no_more(
    make, writer, numbers, read_all, tmp_path, slow_files, monkeypatch
):
    monkeypatch.setattr(segments, "_PATIENCE_S", 0.12)
    ring = make(64, path=tmp_path / "a.kobs", keep=1 << 30)
    first, second = writer(ring), writer(ring)
    maker = in_thread(first, range(33))
    assert slow_files.making.wait(10)
    assert all(second(number) for number in range(33, 64))
    began = time.monotonic()
    assert not any(second(number) for number in range(64, 128))
    assert time.monotonic() - began < 1
    assert ring.losses().contended == 64
    slow_files.set()
    maker.join()
    assert all(second(number) for number in range(128, 200))
    assert ring.losses().contended == 64
    assert numbers(read_all(ring.reader(oldest=True))) == [*range(64), *range(128, 200)]


def test_a_begin_whose_event_is_lost_meanwhile_is_in_flight(
    make, core, writer, tmp_path, slow_files
):
    ring = make(64, path=tmp_path / "a.kobs", keep=1 << 30)
    first, second = writer(ring), writer(ring)
    maker = in_thread(first, range(33))
    assert slow_files.making.wait(10)
    assert all(second(number) for number in range(33, 64))
    begin = ring.begin_publisher("Q")
    event, entry = begin(8, 0, 1, 2, 4, 3, 0, 6, 5, 10, 0x21, 4, 9, 77)
    assert (event, ring.losses().contended) == (0, 1)
    attached = core.attach(ring.path)
    (listed,) = attached.open_events()
    assert listed[1:] == (1, 2, 3, 4, 5, 6, 8, 9, 10)
    assert split_id(listed.event)[:2] == (7, NO_LANE)
    ring.close_entry(entry)
    assert attached.open_events() == []
    slow_files.set()
    maker.join()


def test_who_makes_the_file_does_not_wait_for_itself(make, writer, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "_WAIT_S", 30.0)
    monkeypatch.setattr(segments, "_PATIENCE_S", 30.0)
    ring = make(64, path=tmp_path / "a.kobs", keep=1 << 30)
    write, inside = writer(ring), writer(ring)
    make_file, kept = memory.file, []

    def file(path, size):
        if not kept:  # A signal handler, or a finalizer, that emits a lot.
            began = time.monotonic()
            kept.extend([bool(inside(number)) for number in range(64)])
            assert time.monotonic() - began < 30
        return make_file(path, size)

    monkeypatch.setattr(memory, "file", file)
    for number in range(33):
        assert write(number)
    assert kept == [True] * 31 + [False] * 33
    assert write(0)
    assert ring.losses().contended == 33


def test_a_signal_handler_that_raises_while_a_file_is_made_leaves_nothing_behind(
    make, writer, tmp_path, monkeypatch
):
    ring = make(64, path=tmp_path / "a.kobs", keep=1 << 30)
    write = writer(ring)
    reveal = memory.reveal

    def interrupted(path):
        monkeypatch.setattr(memory, "reveal", reveal)
        raise KeyboardInterrupt

    monkeypatch.setattr(memory, "reveal", interrupted)
    for number in range(32):
        write(number)
    with pytest.raises(KeyboardInterrupt):
        write(32)
    assert files(tmp_path) == ["a.kobs"]
    for number in range(33, 70):
        assert write(number)
    assert files(tmp_path) == ["a.kobs", "a.1.kobs"]
    assert sum(ring.losses()) == 0


def test_threads_that_cross_into_segments_together_lose_and_tear_nothing(
    make, core, writer, numbers, read_all, tmp_path
):
    ring = make(1024, path=tmp_path / "a.kobs", keep=1 << 30)
    publish = [writer(ring, "QQ") for _ in range(4)]
    barrier = threading.Barrier(4)

    def work(mine: int) -> None:
        barrier.wait()
        for number in range(5000):
            publish[mine](mine * 10_000 + number, ~(mine * 10_000 + number) & 0xFFFFFFFFFFFFFFFF)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ring.close()
    reader = core.attach(ring.path).reader()
    slots = read_all(reader)
    assert all(
        int.from_bytes(s.data[64:72], "little") == ~int.from_bytes(s.data[72:80], "little") % 2**64
        for s in slots
    )
    got = numbers(slots)
    assert len(set(got)) == len(got)
    assert len(got) + ring.losses().contended == 20_000 == ring.produced()
    # None where the files come as fast as usual: who waits for a late one loses an event in 50 ms.
    assert ring.losses().contended < 100
