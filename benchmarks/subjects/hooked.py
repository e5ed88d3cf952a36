"""Calls that are watched, in the steady state of a flood: most of them are left out."""

import os
import queue
from typing import Any

from benchmarks.subject import Statement, Subject, main

READ = "read(zero, 1)"
LETTER = "put(1); get()"


def watched(rate: float) -> None:
    """Watch everything, and keep so many percent of the chains."""
    from kobs import Collector
    from kobs_instrumentation import registry

    collector = Collector(adaptive=True)
    collector.gate.sampler.rate = rate
    registry.enable(collector)


def reading() -> Any:
    """A call that takes no time to speak of."""
    return os.read, os.open("/dev/zero", os.O_RDONLY)


def reading_left_out() -> Any:
    """The same, watched."""
    watched(0.0)
    return reading()


def reading_passed() -> Any:
    """The same, hooked for nobody."""
    from kobs_instrumentation.watch import syscall

    syscall.install(lambda: None)
    return reading()


def letters() -> Any:
    """A queue in one thread: nobody waits for anybody."""
    box: queue.Queue[int] = queue.Queue()
    return box.put, box.get


def letters_watched(rate: float) -> Any:
    """The same, watched."""
    watched(rate)
    return letters()


SUBJECTS: dict[str, Subject] = {
    "read_left_out": Statement(READ, "read, zero", reading_left_out),
    "read_passed": Statement(READ, "read, zero", reading_passed),
    "letter_left_out": Statement(LETTER, "put, get", lambda: letters_watched(0.0)),
    "letter_recorded": Statement(LETTER, "put, get", lambda: letters_watched(100.0)),
}
BARE: dict[str, Subject] = {
    "read_bare": Statement(READ, "read, zero", reading),
    "letter_bare": Statement(LETTER, "put, get", letters),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS | BARE)
