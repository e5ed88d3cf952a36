"""How full memory is: the limits that hold for this process, and what is used of them.

Read in a way that the program cannot notice: through libc, with the interpreter lock held. There
is no audit event, no other thread runs meanwhile, and no descriptor outlives the call.
"""

import ctypes
import os
import resource
from collections.abc import Iterator
from typing import NamedTuple

_UNLIMITED = 1 << 60
"""From here on a limit is none; version 1 of cgroups says so with a number."""
_MEBI = 1 << 20
_BUFFER = 8192
_Buffer = ctypes.c_char * _BUFFER

_libc = ctypes.PyDLL(None)
_open, _read, _close = _libc.open, _libc.read, _libc.close
_open.argtypes = (ctypes.c_char_p, ctypes.c_int)
_read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
_read.restype = ctypes.c_ssize_t
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """The limit that is nearest."""

    source: str
    """`cgroup`, `address space` (RLIMIT_AS) or `total` (this process beside the machine's)."""
    used: int
    """Bytes. Of a cgroup without the file cache that the kernel would drop first."""
    limit: int
    """Bytes."""

    @property
    def percent(self) -> float:
        """Used share of the limit."""
        return 100.0 * self.used / self.limit if self.limit else 0.0

    @property
    def available_mb(self) -> int:
        """MiB left below the limit."""
        return max(0, self.limit - self.used) // _MEBI


class _Group(NamedTuple):
    """The files of one cgroup that has a say in how much memory this process may have."""

    limits: tuple[str, ...]
    used: str
    stat: str
    inactive: bytes
    """The line of `stat` that says how much is file cache not used of late."""


class Limits:
    """The limits of this process. `root` is where `/proc` and `/sys` lie."""

    def __init__(self, root: str = "") -> None:
        self._root = root
        self._groups = tuple(self._find_groups())
        self._pressure = [
            path
            for group in self._groups
            if os.path.exists(path := os.path.join(os.path.dirname(group.used), "memory.pressure"))
        ][:1] or [f"{root}/proc/pressure/memory"]

    def resident(self) -> tuple[int, int]:
        """(address space, resident) bytes of this process; zeros where that cannot be read."""
        words = read(f"{self._root}/proc/self/statm").split()
        if len(words) < 2:
            return 0, 0
        return int(words[0]) * _PAGE, int(words[1]) * _PAGE

    def usage(self) -> Usage | None:
        """The limit that most of is used; None where nothing is known."""
        mapped, resident = self.resident()
        found = list(self._of_groups())
        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if 0 < most < _UNLIMITED:
            found.append(Usage("address space", mapped, most))
        if not found:
            total = self._total()
            if total:
                found.append(Usage("total", resident, total))
        return max(found, key=lambda usage: usage.percent, default=None)

    def stalled(self) -> float:
        """Percent of the last ten seconds in which some task waited for memory (PSI)."""
        for line in read(self._pressure[0]).splitlines():
            words = line.split()
            if words and words[0] == b"some":
                for word in words[1:]:
                    name, _, value = word.partition(b"=")
                    if name == b"avg10":
                        return float(value)
        return 0.0

    def _total(self) -> int:
        for line in read(f"{self._root}/proc/meminfo").splitlines():
            if line.startswith(b"MemTotal:"):
                return int(line.split()[1]) * 1024
        return 0

    def _of_groups(self) -> Iterator[Usage]:
        for group in self._groups:
            limits = [limit for path in group.limits if 0 < (limit := _number(path)) < _UNLIMITED]
            if limits:
                cache = _line(group.stat, group.inactive)
                yield Usage("cgroup", max(0, _number(group.used) - cache), min(limits))

    def _find_groups(self) -> Iterator[_Group]:
        """The process's cgroup and those above it, of whichever version has the memory."""
        for line in read(f"{self._root}/proc/self/cgroup").decode().splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if "memory" in controllers.split(","):
                top = f"{self._root}/sys/fs/cgroup/memory"
                for folder in _upwards(top, path):
                    yield _Group(
                        (f"{folder}/memory.limit_in_bytes",),
                        f"{folder}/memory.usage_in_bytes",
                        f"{folder}/memory.stat",
                        b"total_inactive_file",
                    )
            elif number == "0" and not controllers:
                for folder in _upwards(f"{self._root}/sys/fs/cgroup", path):
                    yield _Group(
                        (f"{folder}/memory.max", f"{folder}/memory.high"),
                        f"{folder}/memory.current",
                        f"{folder}/memory.stat",
                        b"inactive_file",
                    )


def read(path: str) -> bytes:
    """What a small file says; empty where it cannot be read."""
    descriptor = _open(os.fsencode(path), os.O_RDONLY | os.O_CLOEXEC)
    if descriptor < 0:
        return b""
    try:
        buffer = _Buffer()
        size = _read(descriptor, buffer, _BUFFER)
        return buffer.raw[: max(0, size)]
    finally:
        _close(descriptor)


def read_whole(path: str) -> bytes:
    """What a file of any size says; empty where it cannot be read."""
    descriptor = _open(os.fsencode(path), os.O_RDONLY | os.O_CLOEXEC)
    if descriptor < 0:
        return b""
    try:
        buffer, parts = _Buffer(), []
        while (size := _read(descriptor, buffer, _BUFFER)) > 0:
            parts.append(buffer.raw[:size])
        return b"".join(parts)
    finally:
        _close(descriptor)


def _upwards(top: str, path: str) -> Iterator[str]:
    """The folders of a cgroup and those above it, that have memory files. In a container the
    path may be the host's: then only the top is there."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        folder = "/".join((top, *parts[:count]))
        if any(os.path.exists(f"{folder}/memory.{name}") for name in ("current", "usage_in_bytes")):
            yield folder


def _number(path: str) -> int:
    text = read(path).strip()
    return int(text) if text.isdigit() else 0


def _line(path: str, name: bytes) -> int:
    for line in read(path).splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name:
            return int(words[1])
    return 0
