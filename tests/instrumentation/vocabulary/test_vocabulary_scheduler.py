"""Each event of the vocabulary `scheduler`, each field held against what really happened."""

import time
from itertools import pairwise
from typing import Any

import pytest
from minikernel import (
    Scheduler,
    scheduler as example,
)
from minikernel.scheduler import Body, Sleep, WaitFor

from kobs import (
    ContextSwitch,
    CpuThrottled,
    LoopStalled,
    ProcessPreempted,
    SchedulerLatency,
)

SUBSYSTEM = "scheduler"


class Clock:
    """What the example's scheduler reads. Time passes where a task says so and nowhere else,
    however busy the machine is."""

    thread_time_ns = staticmethod(time.thread_time_ns)

    def __init__(self) -> None:
        self.now_ns = 1

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    spin = sleep


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(example, "time", made)
    return made


def test_ContextSwitch__every_hand_over_and_why(stage: Any, clock: Clock) -> None:
    scheduler = stage.watch(Scheduler(quantum_ms=1000))

    def sleeper() -> Body:
        yield Sleep(0.01)

    def waiter() -> Body:
        yield WaitFor("go")

    def notifier() -> Body:
        scheduler.notify("go")
        yield None

    pids = [
        scheduler.submit("sleeper", sleeper(), priority=3),
        scheduler.submit("waiter", waiter(), priority=2),
        scheduler.submit("notifier", notifier(), priority=1),
    ]
    assert pids == [1, 2, 3]
    scheduler.run()
    switches = [
        (e.payload.from_pid, e.payload.to_pid, e.payload.reason) for e in stage.all(ContextSwitch)
    ]
    # The sleep ends at some point of the rest: each way through is one chain of hand-overs.
    assert switches[0] == (0, 1, "start")
    assert switches[1] == (1, 2, "sleep")
    assert switches[-1][1:] == (0, "exit")
    for before, after in pairwise(switches):
        assert before[1] == after[0]
    reasons = {reason for _, _, reason in switches}
    assert reasons == {"start", "sleep", "wait", "preempted", "exit"}


def test_ProcessPreempted__what_was_left_of_the_time_slice(stage: Any, clock: Clock) -> None:
    scheduler = stage.watch(Scheduler(quantum_ms=200))

    def urgent() -> Body:
        yield WaitFor("go")

    def worker() -> Body:
        scheduler.notify("go")
        clock.spin(0.01)
        yield None  # loses the processor with most of its slice left
        clock.spin(0.21)
        yield None  # and here with nothing left
        yield None

    scheduler.submit("urgent", urgent(), priority=1)
    pid = scheduler.submit("worker", worker())
    scheduler.run()
    early, late, *_ = stage.all(ProcessPreempted)
    assert (early.pid, late.pid) == (pid, pid)
    assert early.payload.quantum_remaining_us == 190_000
    assert late.payload.quantum_remaining_us == 0


def test_SchedulerLatency__from_being_ready_to_running(stage: Any, clock: Clock) -> None:
    scheduler = stage.watch(Scheduler(quantum_ms=1))

    def busy() -> Body:
        clock.spin(0.02)
        yield None

    def patient() -> Body:
        yield None

    first = scheduler.submit("busy", busy(), priority=1)
    second = scheduler.submit("patient", patient())
    clock.spin(0.005)
    scheduler.run()
    waits = [(event.pid, event.payload.wake_to_run_us) for event in stage.all(SchedulerLatency)]
    # The urgent task waited for its turn alone, the other for the urgent one too.
    assert waits[0] == (first, 5_000)
    assert (second, 25_000) in waits
    assert {pid for pid, _ in waits} == {first, second}


def test_LoopStalled__the_step_that_held_the_processor(stage: Any, clock: Clock) -> None:
    scheduler = stage.watch(Scheduler(stall_ms=20))

    def hog() -> Body:
        clock.spin(0.03)
        yield None

    pid = scheduler.submit("hog", hog())
    scheduler.run()
    event = stage.one(LoopStalled)
    assert event.pid == pid
    assert event.payload.duration_ms == 30
    line = hog.__code__.co_firstlineno + 2
    assert event.payload.stack == f"hog (hog:{line})"


def test_CpuThrottled__who_used_more_than_the_share(stage: Any) -> None:
    scheduler = stage.watch(Scheduler(quantum_ms=5, cpu_limit_pct=5, window_ms=10))

    def cruncher() -> Body:
        until = time.monotonic() + 30
        while not stage.all(CpuThrottled) and time.monotonic() < until:
            end = time.thread_time() + 0.001
            while time.thread_time() < end:
                pass
            yield None

    pid = scheduler.submit("cruncher", cruncher())
    began = time.perf_counter()
    scheduler.run()
    took_ms = (time.perf_counter() - began) * 1000
    events = stage.all(CpuThrottled)
    assert {event.pid for event in events} == {pid}
    assert all(5 <= event.payload.usage_pct <= 100 for event in events)
    held_ms = sum(event.payload.duration_ms for event in events)
    assert 0 < held_ms <= took_ms


def test_every_event_of_the_vocabulary_has_a_test_of_its_own(unproven: set[str]) -> None:
    assert unproven == set()
