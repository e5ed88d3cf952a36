"""A recording that goes on in further files: nothing is lost until the room is used up."""

import os
import resource
import threading

import pytest

from kobs._core.layout import Header, plan, segment_path

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
    assert files(tmp_path) == ["a.kobs", "a.7.kobs", "a.8.kobs", "a.9.kobs"]
    ring.close()
    attached = core.attach(ring.path)
    reader = attached.reader()
    assert numbers(read_all(reader)) == [*range(64), *range(448, 640)]
    assert reader.lost == attached.losses().segments_dropped == 384
    assert attached.losses().overwritten == 0


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
    for number in range(100):
        write(number)
    assert numbers(read_all(reader)) == list(range(100))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE - 1, hard))
    try:
        with pytest.warns(RuntimeWarning, match="overwrites its newest part") as caught:
            assert all(write(number) for number in range(100, 300))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(caught) == 1
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


def test_threads_that_cross_into_segments_together_tear_nothing_and_count_each_loss(
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
