"""Watches system calls: the wrappers in `os`, `_socket`, `select`, `fcntl`, and `time.sleep`.

A call that returned or failed is a `SyscallExit` with its duration, result and error number, one
that took long a `SyscallSlow` as well. Calls that wait (`sleep`, `select`, locks, `accept`, ...)
begin with a `SyscallEnter`, which is the parent of the two: it tells what a process that hangs or
was killed was waiting for. Calls whose arguments do not fit are no system calls.

With the C core a call that is not recorded costs two readings of the clock and nothing of Python.
"""

import errno
import sys
from time import monotonic_ns
from types import FrameType
from typing import Any, NamedTuple

from kobs._core import hooking
from kobs.context import cause
from kobs.levels import Category, Severity, SyscallResult
from kobs.payloads import SyscallEnter, SyscallExit, SyscallSlow
from kobs_instrumentation.watch import _own, _patch
from kobs_instrumentation.watch._patch import Patcher
from kobs_instrumentation.watch._watch import AimedWatch, GetCollector, Undo, first_in_second

SLOW_MS = 100.0
"""From how long on a system call counts as slow."""

SHORT_US = 50.0
"""Where sampling is adaptive: of calls that took less and did not fail, only `SHORTS_A_SECOND` of
each function are recorded in a second, and those that are part of a chain that is kept."""
SHORTS_A_SECOND = 100
WARNINGS_A_SECOND = 100
"""Failed calls of each function that are warnings, in a second; further ones have the severity of
calls that did not fail."""

EXPECTED = frozenset(
    (
        errno.EAGAIN, errno.EWOULDBLOCK, errno.EINPROGRESS, errno.EALREADY, errno.EINTR,
        errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.ECHILD, errno.ESRCH, errno.ENODATA,
        errno.ENOTTY, errno.ESPIPE, 0,
    )
)  # fmt: skip
"""Errors that are as good as an answer: no warning. 0: no error number, as of a timeout."""

UNREACHABLE = (
    "methods of sockets, select.poll and select.epoll",
    "functions of os, select, fcntl and time imported by name before the watch",
)
"""What this watch cannot see with the Python core."""

UNSEEN = (
    "system calls that C code makes itself: of extension modules, and of files opened by open()",
)
"""What it cannot see with either core."""

_BYTES = (
    "read", "write", "pread", "pwrite", "readv", "writev", "preadv", "pwritev", "sendfile",
    "copy_file_range", "splice",
)  # fmt: skip
_WAITS = ("wait", "waitpid", "wait3", "wait4", "waitid")
_OS = (
    "open", "close", *_BYTES, "fsync", "fdatasync", "sync", "ftruncate", "truncate", "lseek",
    "posix_fallocate", "posix_fadvise", "dup", "dup2", "pipe", "pipe2", "memfd_create", "eventfd",
    "eventfd_read", "eventfd_write", "stat", "lstat", "fstat", "statvfs", "fstatvfs", "access",
    "chmod", "fchmod", "lchmod", "chown", "fchown", "lchown", "utime", "link", "symlink",
    "readlink", "rename", "replace", "unlink", "remove", "rmdir", "mkdir", "mkfifo", "mknod",
    "chdir", "fchdir", "chroot", "getcwd", "listdir", "scandir", "getxattr", "setxattr",
    "listxattr", "removexattr", "lockf", "kill", "killpg", *_WAITS, "getrandom", "urandom",
    "getpriority", "setpriority", "nice", "setuid", "setgid", "setsid", "sched_setaffinity",
)  # fmt: skip
_SOCKET_BYTES = (
    "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "send", "sendall",
    "sendto", "sendmsg",
)  # fmt: skip
_SOCKET_WAITS = ("_accept", "connect", "connect_ex")
_SOCKET = (*_SOCKET_BYTES, *_SOCKET_WAITS, "bind", "listen", "shutdown", "setsockopt", "close")


class Function(NamedTuple):
    """A wrapper of a system call."""

    name: str
    """What its events call it."""
    waits: bool = False
    """It may wait for something else to happen."""
    patient: bool = False
    """Waiting is what it is for: however long it takes, it is not slow."""
    counts_bytes: bool = False
    """It returns bytes, or how many."""


class _Timed:
    """The hooks of one function, with the Python core. The C core's twin is `hook_timed.c`."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.calls = self.unrecorded = self.bytes = 0
        self._warnings = [0, 0]
        self._shorts = [0, 0]

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        collector = _watch.collector()
        if collector is None or collector.closed:
            return None
        began, entered = monotonic_ns(), 0
        if self.function.waits and (
            not collector.gate.adaptive
            or first_in_second(self._shorts, began, SHORTS_A_SECOND)
            or _chain_is_kept() is not None
        ):
            entered = _watch.emit(SyscallEnter, self.function.name, timestamp_ns=began)
        return began, entered, collector.gate.adaptive

    def after(self, state: tuple[int, int, bool], result: Any) -> None:
        began, entered, adaptive = state
        ended = monotonic_ns()
        self.calls += 1
        if self.function.counts_bytes:
            size = len(result) if type(result) is bytes else result
            self.bytes += size if type(size) is int and size > 0 else 0
        short = adaptive and not entered and ended - began < SHORT_US * 1e3
        recorded = not short or first_in_second(self._shorts, ended, SHORTS_A_SECOND)
        if not recorded and not _chain_is_kept():
            self.unrecorded += 1
            collector = _watch.collector()
            if collector is not None and not collector.closed:
                collector.ring.leave_out("sampled_out", Category.SYSCALL)
            return
        self._tell(began, ended, entered, SyscallResult.SUCCESS, 0, {})

    def failed(self, state: tuple[int, int, bool], error: BaseException) -> None:
        began, entered, _ = state
        ended = monotonic_ns()
        self.calls += 1
        if isinstance(error, OSError):
            number = error.errno if isinstance(error.errno, int) and error.errno > 0 else 0
        elif isinstance(error, TypeError | ValueError | OverflowError):
            return
        else:
            number = 0
        warn = number not in EXPECTED and first_in_second(self._warnings, ended, WARNINGS_A_SECOND)
        header = {"severity": Severity.WARN} if warn else {}
        self._tell(began, ended, entered, SyscallResult.ERROR, number, header)

    def _tell(
        self,
        began: int,
        ended: int,
        entered: int,
        result: SyscallResult,
        number: int,
        header: dict[str, Any],
    ) -> None:
        if _by_interpreter():
            return
        inside: dict[str, Any] = {"timestamp_ns": ended, **({"parent": entered} if entered else {})}
        took, name = ended - began, self.function.name
        _watch.emit(SyscallExit, name, took / 1e3, result, number, **inside, **header)
        if took >= SLOW_MS * 1e6 and not self.function.patient:
            _watch.emit(SyscallSlow, name, took / 1e6, SLOW_MS, **inside)


def _chain_is_kept() -> bool | None:
    """Whether the chain that the call is part of is kept; None where it is part of none."""
    ambient = cause.get()
    if ambient is None or not ambient.causality_id:
        return None
    return ambient.sampled is not False


def _by_interpreter() -> bool:
    """Importing modules is the interpreter's own doing."""
    frame: FrameType | None = sys._getframe(3)  # behind `_tell` and the hook
    while frame is not None and frame.f_code.co_filename in (_patch.STAND_IN, _patch.__file__):
        frame = frame.f_back
    return _own.is_interpreter(frame)


class _SyscallWatch(AimedWatch):
    def __init__(self) -> None:
        self.timed: list[tuple[Function, Any]] = []
        super().__init__("syscall", self._put)

    def aim(self) -> None:
        for function, hook in self.timed:
            self._aim_one(function, hook)

    def _aim_one(self, function: Function, hook: Any) -> None:
        if isinstance(hook, _Timed):
            return
        collector = self.collector()
        if collector is None or collector.closed:
            hook.aim(None, None, None, 0.0, SLOW_MS)
            return
        hook.aim(
            collector.emitter(SyscallEnter) if function.waits else None,
            collector.emitter(SyscallExit),
            None if function.patient else collector.emitter(SyscallSlow),
            SHORT_US if collector.gate.adaptive else 0.0,
            SLOW_MS,
        )

    def _put(self, patcher: Patcher) -> None:
        self.timed.clear()
        for name in _OS:
            waits = name in _WAITS
            function = Function(name, waits, waits, name in _BYTES)
            self._function(patcher, function, ("posix", "os"))
        self._function(patcher, Function("sleep", waits=True), ("time",))
        patcher.when_imported("select", lambda module: self._select(patcher, module))
        patcher.when_imported("fcntl", lambda module: self._fcntl(patcher))
        patcher.when_imported("_socket", lambda module: self._sockets(patcher, module))

    def _select(self, patcher: Patcher, module: Any) -> None:
        self._function(patcher, Function("select", waits=True, patient=True), ("select",))
        waiting = Function("poll", waits=True, patient=True)
        if hasattr(module, "poll"):
            self._method(patcher, type(module.poll()), "poll", waiting)
        for kind, name in (("epoll", "poll"), ("kqueue", "control")):
            if hasattr(module, kind):
                self._method(patcher, getattr(module, kind), name, waiting._replace(name=kind))

    def _fcntl(self, patcher: Patcher) -> None:
        for name in ("flock", "lockf"):
            self._function(patcher, Function(name, waits=True), ("fcntl",))
        for name in ("fcntl", "ioctl"):
            self._function(patcher, Function(name), ("fcntl",))

    def _sockets(self, patcher: Patcher, module: Any) -> None:
        for name in _SOCKET:
            waits = name in _SOCKET_WAITS
            function = Function(name.lstrip("_"), waits, name == "_accept", name in _SOCKET_BYTES)
            self._method(patcher, module.socket, name, function)
        for name in ("socketpair", "getaddrinfo", "gethostbyname"):
            if hasattr(module, name):
                self._function(patcher, Function(name), ("_socket", "socket"))

    def _function(self, patcher: Patcher, function: Function, modules: tuple[str, ...]) -> None:
        found = getattr(sys.modules[modules[0]], function.name, None)
        hook = self._hook(function)
        if found is None or (hook is not None and self._hooked(patcher, function, hook, found)):
            return
        timed = _Timed(function)
        names = tuple((module, function.name) for module in modules)
        patcher.builtin(names, timed.before, timed.after, timed.failed)
        self.timed.append((function, timed))

    def _method(self, patcher: Patcher, owner: type, name: str, function: Function) -> None:
        hook = self._hook(function)
        if hook is not None:
            self._hooked(patcher, function, hook, vars(owner).get(name))

    def _hook(self, function: Function) -> Any:
        if hooking.native is None:
            return None
        return hooking.native.TimedHook(
            name=function.name, where=f"syscall.{function.name}", expected=EXPECTED,
            succeeded=SyscallResult.SUCCESS, erred=SyscallResult.ERROR,
            counts_bytes=function.counts_bytes, tell=self.aim_failed,
        )  # fmt: skip

    def _hooked(self, patcher: Patcher, function: Function, hook: Any, found: Any) -> bool:
        if not patcher.hook(found, hook):
            return False
        self.timed.append((function, hook))
        self._aim_one(function, hook)
        return True


_watch = _SyscallWatch()


class Calls(NamedTuple):
    """What was counted of the calls of one function since the watch was put in place."""

    calls: int
    unrecorded: int
    """Of these, short ones that were not recorded."""
    bytes: int
    """What they returned: bytes, or how many."""


def calls() -> dict[str, Calls]:
    """The calls of each function that was called, by name."""
    found: dict[str, Calls] = {}
    for function, hook in _watch.timed:
        if hook.calls:
            before = found.get(function.name, Calls(0, 0, 0))
            now = (hook.calls, hook.unrecorded, hook.bytes)
            found[function.name] = Calls(*(a + b for a, b in zip(before, now, strict=True)))
    return found


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch system calls; returns what takes it back.

    `get_collector` is asked when the watch is put in place and when the process-wide collector is
    another, not at each event.
    """
    return _watch.install(get_collector, events=events)
