"""Pipes by their descriptors, and which write a read got its bytes from.

A pipe is known by its inode, so that both its ends, and every process that has one, mean the same.
Bytes come out as they went in: a write is remembered under its offset from the pipe's beginning,
and the reader who has got that far finds it. That holds while every byte is seen, one process
writes and one reads. Where that is not known a pipe is not linked, rather than wrongly.
"""

import ctypes
import os
from collections import deque
from collections.abc import Iterable
from stat import S_ISFIFO
from typing import TYPE_CHECKING, NamedTuple

from kobs._core import hooking
from kobs.context import Cause
from kobs.handover import Sent

if TYPE_CHECKING:
    from kobs.collector import Collector
    from kobs.session import Session

_REMEMBERED = 4096
"""Writes into one pipe that were not read yet; a pipe with more is not linked any more."""
_NAMED = 1000
"""Pipes that get a name; later ones are told by number, so that names do not fill a recording."""
_SEARCHED = 256
"""Without `/proc`, descriptors below this are looked at for pipes from before the watch."""
_PREFIX = 8
"""Bytes that a reader compares with what was written, before it believes it got them."""
_SECOND = 1_000_000_000

_F_GETFL = 3
_fstat = os.fstat
_fcntl = ctypes.PyDLL(None).fcntl


class Write(NamedTuple):
    """A write that was not read yet."""

    offset: int
    size: int
    prefix: bytes
    sent: Sent
    writer: int
    """The process."""


class Rate:
    """Bytes a second, in one direction."""

    __slots__ = ("began_ns", "bytes", "calls", "last_ns")

    def __init__(self) -> None:
        self.bytes = self.calls = 0
        self.began_ns = self.last_ns = 0

    def add(self, size: int, began_ns: int, now_ns: int) -> float | None:
        """A call moved so many bytes; the rate, once a second."""
        if not self.calls:
            self.began_ns = began_ns
        self.calls += 1
        self.bytes += size
        self.last_ns = now_ns
        return self.take() if now_ns - self.began_ns >= _SECOND else None

    def take(self) -> float | None:
        """The rate since it was taken last; None where there is too little to tell one."""
        took_ns = self.last_ns - self.began_ns
        rate = self.bytes / (took_ns / 1e9) if self.calls > 1 and took_ns > 0 else None
        self.bytes = self.calls = 0
        return rate


class Pipe:
    """What this process knows of a pipe."""

    __slots__ = (
        "current", "current_end", "in_read", "in_write", "inode", "label", "linked", "read_rate",
        "readers", "seen", "shared", "waiting", "write_rate", "writer", "writers", "written",
    )  # fmt: skip

    def __init__(self, inode: int, *, linked: bool) -> None:
        self.inode = inode
        self.label: str | int = inode
        if len(_named) < _NAMED or inode in _named:
            self.label = _named.setdefault(inode, f"pipe-{inode}")
        self.linked = linked
        """Every byte was seen so far, and who wrote it is known."""
        self.shared = False
        """Another process has it too."""
        self.readers: set[int] = set()
        self.writers: set[int] = set()
        """The descriptors of its ends in this process."""
        self.written = self.seen = 0
        """Bytes that went in and came out in this process."""
        self.waiting: deque[Write] = deque()
        self.current: Sent | None = None
        self.current_end = 0
        """The write that was read from last, and where its bytes end."""
        self.writer = 0
        """The process whose writes are read here."""
        self.in_read = self.in_write = 0
        """Calls that are under way."""
        self.read_rate, self.write_rate = Rate(), Rate()

    def no_longer_linked(self) -> None:
        """Something happens to its bytes that is not seen."""
        self.linked = False
        self.waiting.clear()

    # -- writing

    def begin_write(self, collector: "Collector", sent: Sent, data: bytes, size: int) -> int:
        """So many bytes are about to be written; their offset, -1 where it is not known."""
        self.in_write += 1
        if self.in_write > 1 or len(self.waiting) >= _REMEMBERED:  # which comes first?
            self.no_longer_linked()
        if not self.linked:
            return -1
        write = Write(self.written, size, data, sent, os.getpid())
        self.written += size
        session = collector.session if self.shared or not self.readers else None
        if session is not None:
            _leave(session, self.inode, write)
        else:
            self.waiting.append(write)
        return write.offset

    def end_write(self, collector: "Collector", offset: int, size: int, written: int) -> None:
        """`written` of the `size` bytes that were to be written have been."""
        self.in_write = max(0, self.in_write - 1)
        if not self.linked or offset < 0 or written == size:
            return
        self.written = offset + written
        session = collector.session
        if self.waiting and self.waiting[-1].offset == offset:
            write = self.waiting.pop()
            if written:
                self.waiting.append(write._replace(size=written))
        elif session is not None:
            found = _find(session, self.inode, offset)
            if found is not None and written:
                _leave(session, self.inode, found._replace(size=written))

    # -- reading

    def end_read(self, collector: "Collector", data: bytes, size: int) -> Sent | None:
        """So many bytes, which begin with `data`, were read: the write they are from; the first,
        if they are from several."""
        begin = self.seen
        self.seen = end = begin + size
        if not self.linked or not size or (self.shared and not self._reads_alone(collector)):
            return None
        first = self.current if begin < self.current_end else None
        at = max(begin, self.current_end)
        while at < end:
            write = self._take(collector, at, data[at - begin : at - begin + _PREFIX])
            if write is None:
                self.current, self.current_end = None, end
                break
            first = first or write.sent
            self.current, self.current_end = write.sent, at + write.size
            at += write.size
        return first

    def _take(self, collector: "Collector", offset: int, data: bytes) -> Write | None:
        while self.waiting and self.waiting[0].offset < offset:
            self.waiting.popleft()
        write = None
        if self.waiting and self.waiting[0].offset == offset:
            write = self.waiting.popleft()
        elif collector.session is not None:
            write = _find(collector.session, self.inode, offset)
        if write is None:
            return None
        compared = min(len(data), len(write.prefix))
        if data[:compared] != write.prefix[:compared] or self.writer not in (0, write.writer):
            self.no_longer_linked()
            return None
        self.writer = write.writer
        return write

    def _reads_alone(self, collector: "Collector") -> bool:
        """No other process has read from it."""
        session = collector.session
        if session is None:
            return False
        key, pid = b"pipe reader %d" % self.inode, os.getpid()
        record = session.peek_link(key)
        if record is None:
            session.put_link(key, Cause(0, pid), 0)
        elif record.parent != pid:
            if record.parent:
                session.put_link(key, Cause(0, 0), 0)
            self.no_longer_linked()
        return self.linked


def _leave(session: "Session", inode: int, write: Write) -> None:
    """Let a reader in another process know of a write."""
    note = f"{write.writer} {write.size} {write.prefix.hex()} {write.sent.origin}"
    key = b"pipe %d %d" % (inode, write.offset)
    session.put_link(key, write.sent.cause, write.sent.link, note)


def _find(session: "Session", inode: int, offset: int) -> Write | None:
    record = session.take_link(b"pipe %d %d" % (inode, offset))
    if record is None:
        return None
    writer, size, prefix, scope = record.origin.split(" ", 3)
    sent = Sent(record.link, record.cause, scope, timestamp_ns=record.put_ns)
    return Write(offset, int(size), bytes.fromhex(prefix), sent, int(writer))


# -- by descriptor -----------------------------------------------------------------------------

pipes: dict[int, Pipe] = {}
"""By descriptor: the pipes that this process has an end of."""
_named: dict[int, str] = {}


def made(reader: int, writer: int) -> None:
    """The program has made a pipe."""
    for descriptor in (reader, writer):
        closed(descriptor)
    pipe = Pipe(_fstat(reader).st_ino, linked=True)
    pipe.readers.add(reader)
    pipe.writers.add(writer)
    pipes[reader] = pipes[writer] = pipe


def of(descriptor: int) -> Pipe | None:
    """The pipe of a descriptor that is one; None where it is something else by now."""
    pipe = pipes.get(descriptor)
    if pipe is None:
        return None
    try:
        if _fstat(descriptor).st_ino == pipe.inode:
            return pipe
    except OSError:
        pass
    closed(descriptor)
    return None


def duplicated(descriptor: int, copy: int) -> None:
    """A descriptor has another number too."""
    closed(copy)
    pipe = pipes.get(descriptor)
    if pipe is not None:
        pipes[copy] = pipe
        (pipe.readers if descriptor in pipe.readers else pipe.writers).add(copy)


def closed(descriptor: int) -> Pipe | None:
    """A descriptor is no longer a pipe's; the pipe, if this was its last one here."""
    pipe = pipes.pop(descriptor, None)
    if pipe is None:
        return None
    pipe.readers.discard(descriptor)
    pipe.writers.discard(descriptor)
    return None if pipe.readers or pipe.writers else pipe


def find_those_there_are() -> None:
    """Pipes that this process has made before the watch: it has both ends. Their bytes were not
    all seen. Of those that it was given, what others do with them is theirs."""
    ends: dict[int, list[int]] = {}
    for descriptor in _descriptors():
        try:
            found = _fstat(descriptor)
        except OSError:
            continue
        if S_ISFIFO(found.st_mode) and descriptor not in pipes:
            ends.setdefault(found.st_ino, []).append(descriptor)
    for inode, descriptors in ends.items():
        readers = {each for each in descriptors if not _fcntl(each, _F_GETFL) & os.O_ACCMODE}
        if readers and len(readers) < len(descriptors):
            pipe = Pipe(inode, linked=False)
            pipe.readers |= readers
            pipe.writers.update(set(descriptors) - readers)
            pipes.update(dict.fromkeys(descriptors, pipe))


def _descriptors() -> Iterable[int]:
    """Those that are open, without the standard ones; without `/proc` those that may be."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return range(3, _SEARCHED)
    return [number for number in map(int, names) if number > 2]


def take_standard_input(*, linked: bool) -> None:
    """Standard input of a process that begins, if it is a pipe: who started this process began it
    for this process."""
    try:
        found = _fstat(0)
    except OSError:
        return
    if S_ISFIFO(found.st_mode):
        pipe = pipes[0] = Pipe(found.st_ino, linked=linked)
        pipe.readers.add(0)


def forget() -> None:
    """The watch ends."""
    pipes.clear()
    _named.clear()


def _forked() -> None:
    for pipe in list(pipes.values()):  # other threads go on making pipes
        pipe.shared = True


def _forked_here() -> None:
    for pipe in pipes.values():
        pipe.shared = True
        pipe.in_read = pipe.in_write = 0


os.register_at_fork(
    after_in_parent=hooking.unseen(_forked), after_in_child=hooking.unseen(_forked_here)
)
