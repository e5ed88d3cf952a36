"""Waking those who wait for events: in this process, and in all processes of a session.

Two words of memory that a ring's producers and whoever waits share: in a session a page of its
file `doorbell`, which every process maps, else a page of the ring's own. `waiting` is set by who is
about to wait and looks for events once more after that; a producer that finds it set after an
event is published takes it back, counts `rung` up, and wakes all who wait (futex(2)). So a
producer makes a system call at most once for each time that somebody begins to wait.

Setting `waiting` is not ordered with a producer's look at it: an event that is published in these
very nanoseconds wakes nobody. Who waits therefore looks again after `MOST_S` in any case.
"""

import ctypes
import os
import time

from kobs._core import memory
from kobs._core.doorbell_file import FILE, SIZE

MOST_S = 0.1
"""Longest sleep without a look, seconds."""
_POLL_S = 0.001
"""Between looks where the machine's number of the system call is not known."""

_WAIT, _WAKE = 0, 1
_ALL = 0x7FFF_FFFF
_NUMBERS = {
    "x86_64": 202, "aarch64": 98, "riscv64": 98, "i686": 240, "i386": 240, "armv7l": 240,
    "ppc64le": 221, "s390x": 238,
}  # fmt: skip
"""What futex is called in each kernel's table, by the machine."""


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class Doorbell:
    """The two words, mapped."""

    def __init__(self, view: memoryview) -> None:
        self.memory = view
        self.words = view[:8].cast("I")
        """`waiting` and `rung`."""
        self._rung = ctypes.addressof(ctypes.c_uint32.from_buffer(view, 4))

    def arm(self) -> int:
        """Say that somebody is about to wait; what `wait` takes. Look for events between the
        two."""
        rung = int(self.words[1])
        self.words[0] = 1
        return rung

    def wait(self, rung: int, timeout: float) -> None:
        """Sleep until an event was published after `arm`, `timeout` seconds and `MOST_S` at
        most. Lets other threads run."""
        timeout = min(timeout, MOST_S)
        if timeout <= 0:
            return
        if _FUTEX is None:
            time.sleep(min(timeout, _POLL_S))
            return
        span = _Timespec(int(timeout), int(timeout % 1 * 1e9))
        _syscall(_FUTEX, self._rung, _WAIT, rung, ctypes.addressof(span), None, 0)

    def ring(self) -> None:
        """Wake all who wait."""
        self.words[0] = 0
        self.words[1] = self.words[1] + 1 & 0xFFFF_FFFF
        if _FUTEX is not None:
            _syscall(_FUTEX, self._rung, _WAKE, _ALL, None, None, 0)


def doorbell_of(recording: str | None) -> Doorbell:
    """The doorbell of a recording's session; one of its own where there is none."""
    if recording is not None:
        path = os.path.join(os.path.dirname(recording), FILE)
        try:
            if os.stat(path).st_size >= SIZE:
                return Doorbell(memory.existing_writable(path, SIZE))
        except OSError:
            pass
    return Doorbell(memory.anonymous(SIZE))


_FUTEX = _NUMBERS.get(os.uname().machine)
_syscall = ctypes.CDLL(None).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (
    ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p,
    ctypes.c_void_p, ctypes.c_uint32,
)  # fmt: skip
