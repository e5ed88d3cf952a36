"""What nothing can be cheaper than: empty calls, clocks, atomics, stores, `struct.pack_into`."""

from collections.abc import Callable
from typing import Any

from benchmarks import native
from benchmarks.subject import Absent, Loop, Statement, Subject, main


def built() -> None:
    """Raise `Absent` where the floors in C are not to be had."""
    native.build()


def in_c(name: str) -> Loop:
    """A loop in C."""

    def check() -> None:
        if not hasattr(native.load(), name):
            raise Absent(f"this machine has no {name}")

    return Loop(lambda: getattr(native.load(), name), check)


def empty() -> Any:
    """A C function that takes anything and does nothing."""
    return native.load().empty


def empty_python() -> Callable[[], None]:
    """A Python function that does nothing."""

    def function() -> None:
        pass

    return function


def pack_into() -> Any:
    """What the Python core writes of a `ContextSwitch`: as many bytes, in one `pack_into`."""
    import struct
    import time

    from kobs import ContextSwitch
    from kobs._core.layout import SLOT_BODY_FORMAT

    packer = struct.Struct(SLOT_BODY_FORMAT + ContextSwitch.__kobs_schema__.format)
    return bytearray(192), packer.pack_into, time.monotonic_ns


def clock() -> Any:
    """The clock that events are stamped with."""
    import time

    return time.monotonic_ns


class Bare:
    """A class that nobody watches."""

    def work(self) -> int:
        """Do nothing much."""
        return 3


def forward() -> Any:
    """The same behind a method descriptor in C that passes calls on and does nothing else."""

    class Forwarded:
        work = native.load().Forward(Bare.work)

    return Forwarded()


SUBJECTS: dict[str, Subject] = {
    "call_c_0": Statement("function()", "function", empty, check=built),
    "call_c_4": Statement('function("read", 12, 0, 0)', "function", empty, check=built),
    "call_python": Statement("function()", "function", empty_python),
    "clock_python": Statement("clock()", "clock", clock),
    "pack_and_clock": Statement(
        "pack_into(buffer, 0, clock(), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2, 3)",
        "buffer, pack_into, clock",
        pack_into,
    ),
    "bare": Statement("watched.work()", "watched", Bare),
    "forward": Statement("watched.work()", "watched", forward, check=built),
    "clock_gettime": in_c("clock_gettime"),
    "rdtsc": in_c("rdtsc"),
    "fetch_add": in_c("fetch_add"),
    "compare_exchange": in_c("compare_exchange"),
    "store_slot": in_c("store_slot"),
    "change_context": in_c("change_context"),
    "add_slot": in_c("add_slot"),
    "copy_slot": in_c("copy_slot"),
    "copy_line": in_c("copy_line"),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
