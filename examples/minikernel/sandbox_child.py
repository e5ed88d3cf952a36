"""The sandbox's child: takes its order from standard input, closes the door, runs the code.

Started as a script with `-I`; it imports nothing of ours.
"""

import errno
import json
import os
import resource
import sys
from typing import Any

_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# Which capability an audit event takes, by the event's name or by what stands before its dot.
_CAPABILITY = {
    "ctypes": "native",
    "os.exec": "process",
    "os.fork": "process",
    "os.forkpty": "process",
    "os.posix_spawn": "process",
    "os.spawn": "process",
    "os.system": "process",
    "pty.spawn": "process",
    "subprocess.Popen": "process",
    "os.kill": "signal",
    "os.killpg": "signal",
    "signal.pthread_kill": "signal",
    "socket": "network",
    "os.chmod": "file.write",
    "os.chown": "file.write",
    "os.link": "file.write",
    "os.mkdir": "file.write",
    "os.remove": "file.write",
    "os.rename": "file.write",
    "os.rmdir": "file.write",
    "os.symlink": "file.write",
    "os.truncate": "file.write",
    "os.utime": "file.write",
    "os.listdir": "file.read",
    "os.scandir": "file.read",
}

_LIMITS = {
    "open_files": resource.RLIMIT_NOFILE,
    "file_size": resource.RLIMIT_FSIZE,
    "memory": resource.RLIMIT_AS,
    "cpu_seconds": resource.RLIMIT_CPU,
}


class _Guard:
    """The audit hook: lets pass, refuses, and says so to the parent."""

    def __init__(self, allow: list[str], folder: str, report_fd: int) -> None:
        self.allow = frozenset(allow)
        self.folder = folder
        self.report_fd = report_fd
        # What `import` reads is no capability.
        self.library = tuple({os.path.realpath(path) for path in (*sys.path, sys.base_prefix)})
        self.active = False

    def report(self, **what: str) -> None:
        line = json.dumps(what) + "\n"
        try:
            os.write(self.report_fd, line.encode())
        except BlockingIOError:
            pass

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open":
            writes = bool(args[2] & _WRITE_FLAGS)
            capability = "file.write" if writes else "file.read"
            operation = "open for writing" if writes else "open for reading"
        else:
            found = _CAPABILITY.get(event) or _CAPABILITY.get(event.partition(".")[0])
            if found is None:
                return
            capability, operation = found, event
        # Reporting and resolving paths must not come back here.
        self.active = False
        try:
            self._judge(capability, operation, args)
        finally:
            self.active = True

    def _judge(self, capability: str, operation: str, args: tuple[Any, ...]) -> None:
        path = None
        if capability.startswith("file.") and args and isinstance(args[0], str | bytes):
            path = os.path.realpath(os.fsdecode(args[0]))
            operation = f"{operation} {path}"
            if capability == "file.read" and _inside(path, *self.library):
                return
        if capability not in self.allow:
            self.report(kind="denied", capability=capability, operation=operation)
            raise PermissionError(errno.EPERM, f"the sandbox does not grant {capability}", path)
        if path is not None and not _inside(path, self.folder):
            self.report(kind="violation", description=f"{operation}: outside of its folder")
            raise PermissionError(errno.EPERM, "outside of the sandbox's folder", path)


def _inside(path: str, *folders: str) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


def _broken_limit(error: BaseException) -> str:
    """Which limit an exception that ended the code speaks of; empty for none."""
    if isinstance(error, MemoryError):
        return "wanted more memory than its limit"
    if isinstance(error, OSError):
        return {
            errno.EMFILE: "opened more files than its limit",
            errno.EFBIG: "wrote a file past its limit",
        }.get(error.errno or 0, "")
    return ""


def main() -> int:
    """Run the code of the order on standard input; 0 if it ran to its end."""
    order = json.load(sys.stdin)
    guard = _Guard(order["allow"], order["folder"], order["report_fd"])
    program = compile(order["code"], "<sandbox>", "exec")
    for name, limit in order["limits"].items():
        if limit is not None:
            # Between the two the system says SIGXCPU; past the second it says SIGKILL.
            hard = limit + 1 if name == "cpu_seconds" else limit
            resource.setrlimit(_LIMITS[name], (limit, hard))
    sys.addaudithook(guard)
    guard.active = True
    try:
        exec(program, {"__name__": "__main__"})
    except BaseException as error:
        guard.active = False
        broken = _broken_limit(error)
        if broken:
            guard.report(kind="violation", description=broken)
        guard.report(kind="error", error=f"{type(error).__name__}: {error}")
        return 1
    finally:
        guard.active = False
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
