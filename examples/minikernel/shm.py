"""Shared memory segments by name, and the ones that nobody uses any more."""

import fcntl
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from kobs import observe

_SEGMENTS = Path("/dev/shm")
_tracker_lock = threading.Lock()


@observe("shm")
class ShmManager:
    """Makes, finds, reads and writes segments. The one who makes a segment destroys it.

    Who has a segment mapped keeps a shared lock on its file, which the system drops when the
    process ends, however it ends: so it can be told which segments nobody uses any more.
    """

    def __init__(self) -> None:
        self._segments: dict[str, SharedMemory] = {}
        self._locks: dict[str, int] = {}

    def create(self, name: str, size: int) -> None:
        """Make a segment of `size` bytes; `FileExistsError` if there is one of that name."""
        self._keep(name, _open(name, create=True, size=size))

    def attach(self, name: str) -> int:
        """Map a segment that exists; its size. `FileNotFoundError` if there is none."""
        return self._segment(name).size

    def write(self, name: str, data: bytes, *, offset: int = 0) -> int:
        """Copy `data` into the segment, which is attached if need be; how many bytes."""
        segment = self._segment(name)
        _fits(segment, offset, len(data))
        _bytes_of(segment)[offset : offset + len(data)] = data
        return len(data)

    def read(self, name: str, size: int | None = None, *, offset: int = 0) -> bytes:
        """A copy of `size` bytes of the segment (all of it), which is attached if need be."""
        segment = self._segment(name)
        length = segment.size - offset if size is None else size
        _fits(segment, offset, length)
        return bytes(_bytes_of(segment)[offset : offset + length])

    def detach(self, name: str) -> None:
        """Unmap the segment here; it stays for others."""
        self._release(name).close()

    def destroy(self, name: str) -> None:
        """Remove the segment from the system."""
        self._segment(name)
        segment = self._release(name)
        segment.close()
        with _untracked():
            segment.unlink()

    def names(self) -> list[str]:
        """The segments that are mapped here."""
        return sorted(self._segments)

    def leaks(self, prefix: str) -> list[str]:
        """The segments whose name begins with `prefix` and that no manager has mapped, in any
        process."""
        names = (entry.name for entry in _SEGMENTS.iterdir() if entry.name.startswith(prefix))
        return sorted(name for name in names if _is_unused(name))

    def close(self) -> None:
        """Unmap every segment here."""
        for name in self.names():
            self.detach(name)

    def _segment(self, name: str) -> SharedMemory:
        segment = self._segments.get(name)
        if segment is None:
            segment = self._keep(name, _open(name))
        return segment

    def _keep(self, name: str, segment: SharedMemory) -> SharedMemory:
        self._segments[name] = segment
        self._locks[name] = os.open(_SEGMENTS / name, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._locks[name], fcntl.LOCK_SH)
        return segment

    def _release(self, name: str) -> SharedMemory:
        os.close(self._locks.pop(name))
        return self._segments.pop(name)


def _fits(segment: SharedMemory, offset: int, length: int) -> None:
    if offset < 0 or length < 0 or offset + length > segment.size:
        raise ValueError(
            f"bytes {offset} to {offset + length} are not all inside {segment.name!r}, "
            f"which has {segment.size} bytes"
        )


def _bytes_of(segment: SharedMemory) -> memoryview:
    if segment.buf is None:
        raise ValueError(f"{segment.name!r} is closed")
    return segment.buf


def _open(name: str, *, create: bool = False, size: int = 0) -> SharedMemory:
    if sys.version_info >= (3, 13):
        return SharedMemory(name, create=create, size=size, track=False)
    with _untracked():
        return SharedMemory(name, create=create, size=size)


@contextmanager
def _untracked() -> Iterator[None]:
    """Keep the standard library's resource tracker out of it, as `track=False` does from 3.13 on.

    Before 3.13 a process that only attaches registers the segment as its own: when it ends, its
    tracker removes the segment under the feet of everybody else.
    """
    if sys.version_info >= (3, 13):
        yield
        return
    with _tracker_lock:
        kept = resource_tracker.register, resource_tracker.unregister
        resource_tracker.register = resource_tracker.unregister = _ignore
        try:
            yield
        finally:
            resource_tracker.register, resource_tracker.unregister = kept


def _ignore(name: object, rtype: str) -> None:
    pass


def _is_unused(name: str) -> bool:
    """Nobody holds a lock on the segment."""
    try:
        file = os.open(_SEGMENTS / name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # destroyed meanwhile
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True
