"""Producers that are stopped in the middle of publishing, while others lap the ring.

With the C core they are processes that share a ring's memory, stopped by the kernel at any
instruction; with the Python core they are threads, stopped at any line.
"""

import ctypes
import mmap
import os
import random
import signal
import sys
import threading
import time
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from kobs._core import hooking, segments, select
from kobs._core.contract import Ring
from kobs._core.lanes import payload_packer
from tests.stress.checked import FORMAT, emit_number, numbers

if TYPE_CHECKING:
    from kobs._core.native import NativeRing

SLOTS = 16
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def make(core: str, path: str, *, keep: int = 0) -> Ring:
    return select(core).create(
        slots=SLOTS, path=path, overflow="overwrite", recording=7, session="", trace_high=0,
        parent_event=0, sampling_rate=100.0, keep=keep,
    )  # fmt: skip


class Producer:
    """A process that publishes into this one's ring without end. Its fork is the kernel's alone:
    nothing of kobs is told that it is another process."""

    def __init__(self, ring: "NativeRing", number: int) -> None:
        self.counts = memoryview(mmap.mmap(-1, 16)).cast("Q")
        """How many were kept, and how many were not."""
        publish = ring.native.publish
        bodies: list[bytes] = []
        pack = payload_packer(FORMAT).pack
        for each in range(256):  # packed before: more of its time is in the middle of a publish
            emit_number(lambda lane, *body: bodies.append(pack(*body)), number << 40 | each)
        self.pid: int = _libc.fork()
        if self.pid == 0:
            try:
                _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                for body in cycle(bodies):
                    self.counts[not publish(0, body)] += 1
            finally:
                os._exit(1)

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


def being_written(ring) -> list[int]:
    """The stamps of slots that somebody is in the middle of writing."""
    lane = ring.lanes[0]
    stamps = [lane.words[lane.base + 24 * index] for index in range(SLOTS)]
    return [stamp for stamp in stamps if stamp & 1]


class Readers:
    """Every kind of reader of a ring, and what each has read."""

    def __init__(self, ring: Ring, path: str) -> None:
        self.ring = ring
        attached = [select(name).attach(path) for name in ("c", "python")]
        self.all = [ring.reader(), *(each.reader() for each in attached)]
        self.got: list[list[int]] = [[] for _ in self.all]
        self.last = [-1] * len(self.all)

    def read(self) -> None:
        for index, reader in enumerate(self.all):
            slots = reader.read()
            for slot in slots:
                assert slot.ticket > self.last[index], "delivered twice, or out of order"
                self.last[index] = slot.ticket
            self.got[index] += numbers(slots)

    def finish(self) -> None:
        """Read to the end: every ticket was delivered or is lost."""
        deadline = time.monotonic() + 30
        while any(reader.pending() for reader in self.all):
            assert time.monotonic() < deadline, "a reader does not get past what was left"
            self.read()
        for reader, found in zip(self.all, self.got, strict=True):
            assert len(found) + reader.lost == self.ring.produced()


@pytest.mark.c_core
def test_processes_are_stopped_and_killed_in_the_middle_of_a_publish(tmp_path, factor):
    path = str(tmp_path / "a.kobs")
    ring = make("c", path)
    publish = ring.publisher(FORMAT)
    readers = Readers(ring, path)
    chance = random.Random(1)
    producers: list[Producer] = []
    kept = refused = caught = stops = 0
    try:
        producers += [Producer(ring, 1), Producer(ring, 2)]
        deadline = time.monotonic() + 60 * factor
        while caught < 10 * factor:
            assert time.monotonic() < deadline, f"{caught} of {stops} were caught in the middle"
            time.sleep(chance.random() * 0.0005)
            for producer in producers:
                producer.stop()
            stops += len(producers)
            caught += len(being_written(ring))
            for _ in range(2 * SLOTS):  # two laps: none of it waits for those who are stopped
                if emit_number(publish, kept + refused + 1):
                    kept += 1
                else:
                    refused += 1
            readers.read()
            for producer in producers:
                producer.go_on()
        for producer in producers:
            producer.kill()
        stuck = len(being_written(ring))
        produced, contended = ring.produced(), ring.losses().contended
        kept += sum(producer.counts[0] for producer in producers)
        refused += sum(producer.counts[1] for producer in producers)
        # Each of the killed may have been between its ticket and its count.
        assert 0 <= produced - kept - refused <= len(producers)
        assert 0 <= produced - kept - contended <= len(producers)
        # What they left half written costs its slot, every lap, and nothing else.
        written = [emit_number(publish, 3 << 40 | number) for number in range(4 * SLOTS)]
        assert written.count(0) == 4 * stuck == ring.losses().contended - contended
        readers.finish()
        for found in readers.got:
            assert len([value for value in found if value >> 40 == 3]) == SLOTS - stuck
    finally:
        for producer in producers:
            producer.kill()
    print(f"{caught} of {stops} stopped in the middle, {ring.produced()} produced")


def _show_lines_of_kobs(shown: bool) -> None:
    if hooking.native is not None:
        hooking.native.show_own(shown)


class StallingThread(threading.Thread):
    """Publishes one number, and stops before the line `at` of the core (counted from the first
    that it runs)."""

    def __init__(self, publish, value: int, at: int) -> None:
        super().__init__()
        self.publish, self.value, self.at = publish, value, at
        self.stalled, self.go_on = threading.Event(), threading.Event()
        self.lines = 0
        self.result = 0

    def run(self) -> None:
        sys.settrace(self.trace)
        _show_lines_of_kobs(True)
        try:
            self.result = emit_number(self.publish, self.value)
        finally:
            _show_lines_of_kobs(False)
            sys.settrace(None)
            self.stalled.set()

    def trace(self, frame, event, argument):
        if "_core" not in frame.f_code.co_filename:
            return None
        if event == "line":
            if self.lines == self.at:
                self.stalled.set()
                assert self.go_on.wait(30)
            self.lines += 1
        return self.trace


@pytest.mark.parametrize("keep", [0, 1 << 20], ids=["one ring", "further segments"])
def test_a_thread_is_stopped_at_any_line_of_the_core(core, tmp_path, monkeypatch, factor, keep):
    monkeypatch.setattr(segments, "_PATIENCE_S", 0.002)  # for who is stopped making a segment
    lines = caught = 0
    every = 3 if keep and factor == 1 else 1
    for at in range(0, 400, every):
        folder = tmp_path / str(at)
        folder.mkdir()
        path = str(folder / "a.kobs")
        ring = make(core.name, path, keep=keep)
        publish = ring.publisher(FORMAT)
        readers = Readers(ring, path)
        for _ in range(SLOTS // 2):  # the next is the first of its half of a segment
            assert emit_number(publish, 1)
        thread = StallingThread(publish, 2, at)
        thread.start()
        assert thread.stalled.wait(30)
        caught += len(being_written(ring))
        lapping = [emit_number(publish, 10 + number) for number in range(3 * SLOTS)]
        readers.read()
        thread.go_on.set()
        thread.join()
        after = [emit_number(publish, 100 + number) for number in range(SLOTS)]
        assert all(after), "nothing is left half written"
        assert lapping.count(0) + (thread.result == 0) == ring.losses().contended
        assert ring.produced() == SLOTS // 2 + 1 + 4 * SLOTS
        others = ring.losses()._replace(overwritten=0, contended=0, segments_dropped=0)
        assert sum(others) == 0
        readers.finish()
        for found in readers.got:
            assert set(range(100, 100 + SLOTS)) <= set(found)
            assert thread.result or 2 not in found
        ring.close()
        lines = at
        if thread.lines <= at:
            break  # it ran to its end: every line was stopped at
    assert lines > (15 if core.name == "python" else 3 if keep else 0)
    if core.name == "python":
        assert caught > 0, "between claim and finish, too"
