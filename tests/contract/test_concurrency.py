"""Threads, signals, forks and other processes: nothing torn, everything accounted for."""

import os
import signal
import sys
import threading
import time

import pytest

MASK = (1 << 64) - 1
FREE_THREADED = "t" in sys.abiflags


def emit_number(publish, value, lane=0):
    """A number with checksums of itself, over the whole payload."""
    checks = (value * 31 & MASK,) * 14
    now = time.monotonic_ns()
    return publish(lane, now, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, value, value ^ MASK, *checks)


def emit_numbers(publish, source, count, lane_every=0):
    """Many of them; how many got in."""
    kept = 0
    for number in range(count):
        lane = 1 if lane_every and number % lane_every == 0 else 0
        kept += bool(emit_number(publish, source << 32 | number, lane))
    return kept


def checked(slots):
    """The numbers in slots, each of which is whole."""
    found = []
    for slot in slots:
        words = memoryview(slot.data).cast("Q").tolist()
        assert words[9] == words[8] ^ MASK
        assert set(words[10:24]) == {words[8] * 31 & MASK}
        assert words[0] == (slot.ticket + 1) << 1
        found.append(words[8])
    return found


@pytest.fixture(autouse=True)
def switch_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("slots", [32, 4096])
def test_threads_publish_and_read_together(make, slots):
    ring = make(slots)
    publish = ring.publisher("16Q")
    readers = [ring.reader() for _ in range(2)]
    kept = []
    got: list[list[int]] = [[], []]
    done = threading.Event()

    def write(source: int) -> None:
        kept.append(emit_numbers(publish, source, 3000, 50))

    def read(which: int) -> None:
        while True:
            last = done.is_set()
            found = checked(readers[which].read())
            got[which] += found
            if last and not found:
                if not readers[which].pending():
                    return
                time.sleep(0.001)

    writers = [threading.Thread(target=write, args=(source,)) for source in range(4)]
    observers = [threading.Thread(target=read, args=(which,)) for which in range(2)]
    for thread in [*observers, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in observers:
        thread.join()
    contended = ring.losses().contended
    assert ring.produced() == 12_000 == sum(kept) + contended
    for which in range(2):
        assert len(set(got[which])) == len(got[which])
        assert len(got[which]) + readers[which].lost == 12_000
        for source in range(4):
            mine = [value for value in got[which] if value >> 32 == source]
            low = [value for value in mine if value % (1 << 32) % 50]
            assert low == sorted(low), "order holds within a thread and lane"


def test_threads_fill_a_discarding_ring_and_none_is_unaccounted_for(make):
    ring = make(256, overflow="discard")
    publish = ring.publisher("16Q")
    reader = ring.reader(lossless=True)
    kept = []
    threads = [
        threading.Thread(target=lambda n=n: kept.append(emit_numbers(publish, n, 2000)))
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    got = []
    while any(thread.is_alive() for thread in threads):
        got += checked(reader.read())
    got += checked(reader.read())
    losses = ring.losses()
    # Where threads run in parallel, one that the kernel stops in the midst of a publish, for longer
    # than a reader waits, finishes an event that is lost already.
    late = reader.lost - losses.contended
    assert late >= 0 if FREE_THREADED else late == 0
    assert len(got) == sum(kept) - late
    assert sum(kept) + losses.discarded + losses.contended == 6000


def test_a_signal_handler_may_publish_in_the_middle_of_a_publish(make):
    ring = make(1024)
    publish = ring.publisher("16Q")
    reader = ring.reader()
    from_handler = []

    def handler(*_: object) -> None:
        value = 1 << 40 | len(from_handler)
        ring.intern(f"signal {value}")
        from_handler.append(emit_number(publish, value))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        got = []
        for source in range(40):
            emit_numbers(publish, source, 200)
            for number in range(20):
                ring.intern(f"{source} {number}")
            got += checked(reader.read())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    got += checked(reader.read())
    assert from_handler
    assert len(got) == 8000 + sum(map(bool, from_handler))
    assert reader.lost == 0 == sum(ring.losses()) - ring.losses().overwritten


def test_another_process_reads_while_this_one_writes(make, core, tmp_path):
    ring = make(512, path=tmp_path / "a.kobs")
    publish = ring.publisher("16Q")
    result, answer = os.pipe()
    ready, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            reader = core.attach(str(tmp_path / "a.kobs")).reader()
            os.write(go, b"x")
            got = []
            end = time.monotonic() + 20
            while len(got) + reader.lost < 20_000 and time.monotonic() < end:
                got += checked(reader.read())
            unique = len(set(got)) == len(got)
            os.write(answer, f"{len(got)} {reader.lost} {unique}".encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.read(ready, 1)
    emit_numbers(publish, 1, 20_000, 40)
    assert os.waitpid(pid, 0)[1] == 0
    count, lost, unique = os.read(result, 100).decode().split()
    for descriptor in (result, answer, ready, go):
        os.close(descriptor)
    assert int(count) + int(lost) == 20_000
    assert int(count) > 0
    assert unique == "True"


def test_a_child_that_writes_to_its_copy_of_a_ring_in_memory_leaves_the_parents_alone(make, writer):
    ring = make(64)
    reader = ring.reader()
    write = writer(ring)
    write(1)
    pid = os.fork()
    if pid == 0:
        for number in range(100):
            write(number)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(reader.read()) == 1
    assert ring.produced() == 1


def test_an_exception_from_a_signal_handler_blocks_no_slot(make):
    """KeyboardInterrupt may hit between any two steps of a publish."""

    class Interrupted(BaseException):
        pass

    def handler(*_: object) -> None:
        raise Interrupted

    ring = make(16)
    publish = ring.publisher("16Q")
    before = signal.signal(signal.SIGALRM, handler)
    interrupted = 0
    try:
        for attempt in range(150):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + attempt * 1e-6)
                while True:
                    emit_number(publish, attempt)
            except Interrupted:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 150
    assert all(emit_number(publish, number) for number in range(16))
    reader = ring.reader(oldest=True)
    assert checked(reader.read()) == list(range(16))
