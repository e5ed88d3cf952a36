"""A program with 10,000 events a second: the CPU time of a tenth of a second of it.

It begins with a ring whose memory the kernel has not given yet: every 21st event is a page fault. A
program that goes on is measured beside it: its ring has been written once. The same program with an
empty function in the emitter's place stands beside both. `time.process_time`
takes the place of the wall clock, in pyperf's hands: what the program sleeps costs nothing.
"""

from collections.abc import Callable
from time import perf_counter, process_time, sleep
from typing import Any

from benchmarks.subject import Loop, main
from benchmarks.subjects.calls import written

TICKS = 10
"""Of a hundredth of a second each."""
EVENTS = 100
"""In a tick."""


def busy(call: Callable[..., Any], ok: object) -> Callable[[int], float]:
    """The program."""

    def time_loops(loops: int) -> float:
        began = process_time()
        start = perf_counter()
        for tick in range(1, loops * TICKS + 1):
            for _ in range(EVENTS):
                call("read", 12, ok, 0)
            pause = start + tick / 100 - perf_counter()
            if pause > 0:
                sleep(pause)
        return process_time() - began

    return time_loops


def emitting() -> Callable[[int], float]:
    """With an event with a duration a call, into a new ring."""
    from kobs import Collector, SyscallExit, SyscallResult

    return busy(Collector().emitter(SyscallExit), SyscallResult.SUCCESS)


def going_on() -> Callable[[int], float]:
    """The same, once around the ring."""
    from kobs import SyscallExit, SyscallResult

    return busy(written().emitter(SyscallExit), SyscallResult.SUCCESS)


def idling() -> Callable[[int], float]:
    """With nothing."""

    def nothing(name: str, duration_us: float, result: object, errno: int) -> None:
        pass

    return busy(nothing, None)


SUBJECTS = {
    "busy_emitting": Loop(emitting),
    "busy_going_on": Loop(going_on),
    "busy_idling": Loop(idling),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
