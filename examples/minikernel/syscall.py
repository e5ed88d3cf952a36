"""System calls by name, on real descriptors, with the errors that the system really gives."""

import errno
import os
import time
from collections.abc import Callable

from kobs import observe

_CALLS: dict[str, Callable[..., object]] = {
    "close": os.close,
    "dup": os.dup,
    "fstat": os.fstat,
    "fsync": os.fsync,
    "ftruncate": os.ftruncate,
    "getpid": os.getpid,
    "lseek": os.lseek,
    "mkdir": os.mkdir,
    "nanosleep": time.sleep,
    "open": os.open,
    "pipe": os.pipe,
    "read": os.read,
    "rename": os.rename,
    "rmdir": os.rmdir,
    "sched_yield": os.sched_yield,
    "unlink": os.unlink,
    "write": os.write,
}


@observe("syscall")
class SyscallExecutor:
    """Makes system calls. One that takes longer than `slow_threshold_ms` counts as slow."""

    def __init__(self, *, slow_threshold_ms: float = 50.0) -> None:
        self.slow_threshold_ms = slow_threshold_ms
        self.calls = 0
        self.failures: dict[str, int] = {}

    def execute(self, name: str, *args: object) -> object:
        """Make the system call `name`; `OSError` with its errno if it fails (ENOSYS: no such)."""
        self.calls += 1
        try:
            call = _CALLS.get(name)
            if call is None:
                raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name)
            return call(*args)
        except OSError as error:
            code = errno.errorcode.get(error.errno or 0, "?")
            self.failures[code] = self.failures.get(code, 0) + 1
            raise

    @staticmethod
    def names() -> list[str]:
        """The system calls that `execute` knows."""
        return sorted(_CALLS)
