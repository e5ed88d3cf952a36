"""kill -9 at any moment leaves a recording that opens, holds no torn event, and lists what was
in flight."""

import mmap
import os
import random
import signal
import threading
import time

import pytest

from kobs import Collector, Event, event_type, open_recording
from kobs._core import select
from kobs.events import Category
from kobs.schema import U64
from kobs.session import Session

KILLS = int(os.environ.get("KOBS_KILLS") or 50)
"""A core; `make crash` kills 1,000 times."""
NAMES = 1000
"""Different names of steps: a table of names is bounded, and full on a fast machine otherwise."""
AT_ONCE = 2
SPREAD_S = 0.03
MASK = (1 << 64) - 1


@event_type(category=Category.PERFORMANCE)
class Checked:
    """A number with checksums of itself all over its slot."""

    value: U64
    inverse: U64
    first: U64
    second: U64
    third: U64
    last: U64


@event_type(category=Category.PERFORMANCE)
class Step:
    """Something that takes its time."""

    name: str


def whole(event: Event) -> bool:
    payload = event.payload
    if isinstance(payload, Checked):
        product = payload.value * 31 & MASK
        return (payload.inverse, payload.first, payload.second, payload.third, payload.last) == (
            payload.value ^ MASK, product, product, product, product
        ) and event.causality_id == payload.value  # fmt: skip
    return isinstance(payload, Step)


def work(session: Session, number: int, state: memoryview) -> None:
    """Emit until killed. `state[0]` is odd while a begin is in flight for certain."""
    collector = Collector(
        session=session, size=64, overflow="overwrite", keep=(1 << 22) if number % 2 else None
    )
    emit = collector.emitter(Checked)

    def flood(source: int) -> None:
        value = source << 40
        while True:
            value += 1
            product = value * 31 & MASK
            emit(value, value ^ MASK, product, product, product, product, causality_id=value)

    if number % 5 == 0:
        threading.Thread(target=flood, args=(2,), daemon=True).start()
    step = 0
    while True:
        scope = collector.emit_begin(Step(name=f"step {step % NAMES}"))
        state[0] = 2 * step + 1
        for value in range(step * 10, step * 10 + 7):
            product = value * 31 & MASK
            emit(value, value ^ MASK, product, product, product, product, causality_id=value)
        state[0] = 2 * step + 2
        collector.emit_end(scope, Step(name=f"step {step % NAMES}"))
        step += 1


@pytest.mark.slow
@pytest.mark.parametrize("core", ["python", pytest.param("c", marks=pytest.mark.c_core)])
def test_kills(tmp_path, monkeypatch, core):
    monkeypatch.setenv("KOBS_CORE", core)
    assert select().name == core
    seed = int(os.environ.get("KOBS_CRASH_SEED") or time.time_ns() % 1_000_000)
    random_ = random.Random(seed)
    print(f"KOBS_CRASH_SEED={seed}")
    session = Session.create("crash", ["crash"], root=tmp_path)
    Collector(size=64).close()  # Everything is imported before the first fork.
    states = memoryview(mmap.mmap(-1, KILLS * 8)).cast("Q")
    running: dict[int, float] = {}
    numbers: dict[int, int] = {}
    started = 0
    while started < KILLS or running:
        while started < KILLS and len(running) < AT_ONCE:
            pid = os.fork()
            if pid == 0:
                try:
                    work(session, started, states[started : started + 1])
                finally:
                    os._exit(1)
            numbers[pid] = started
            running[pid] = time.monotonic() + random_.random() ** 2 * SPREAD_S
            started += 1
        pid = min(running, key=running.__getitem__)
        time.sleep(max(0.0, running.pop(pid) - time.monotonic()))
        if numbers[pid] % 4:
            # Most are at work when they are killed, however long the machine took to start them.
            deadline = time.monotonic() + 30
            while not states[numbers[pid]]:
                assert time.monotonic() < deadline, "the child does not begin"
                time.sleep(0.001)
            time.sleep(random_.random() * SPREAD_S)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "the child ended by itself"

    with open_recording(session.path) as recording:
        events = recording.snapshot()
        assert [event for event in events if not whole(event)] == []
        values = [(e.recording, e.payload.value) for e in events if isinstance(e.payload, Checked)]
        assert len(set(values)) == len(values), "an old event under a new stamp"
        assert recording.damage == []
        processes = recording.processes
        assert {process.state for process in processes} == {"killed"}
        in_flight: dict[int, list[str]] = {}
        by_recording = {process.recording: process.pid for process in processes}
        for entry in recording.open_events():
            assert entry.type_name == "Step"
            in_flight.setdefault(by_recording[entry.recording], []).append(entry.name)
        certain = 0
        for pid, number in numbers.items():
            state = states[number]
            listed = in_flight.get(pid, [])
            assert len(listed) <= 1
            if state % 2:
                certain += 1
                assert listed == [f"step {state // 2 % NAMES}"]
    print(f"{len(processes)} processes, {certain} certain")
    assert len(processes) > KILLS * 0.6, "most children lived long enough to begin"
    assert certain > KILLS * 0.2
