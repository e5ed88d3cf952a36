"""Bounded queues between threads, and between processes that share nothing but a folder."""

import fcntl
import itertools
import os
import queue
import select
import shutil
import struct
import tempfile
import termios
import time
from pathlib import Path
from typing import NamedTuple, Protocol

from kobs import observe


class Message(NamedTuple):
    """What came out of a queue."""

    body: bytes
    wait_time_us: float
    """From its send to its receive."""


class Depth(NamedTuple):
    """How full a queue is."""

    depth: int
    capacity: int


class _Queue(Protocol):
    capacity: int

    def put(self, body: bytes, timeout: float | None) -> None: ...
    def get(self, timeout: float | None) -> Message: ...
    def count(self) -> int: ...
    def close(self) -> None: ...


@observe("queue")
class QueueManager:
    """Queues by name. A send waits while its queue is full, a receive while it is empty."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    def create(self, queue_id: str, *, capacity: int) -> None:
        """Make a queue between the threads of this process."""
        self._add(queue_id, _ThreadQueue(capacity))

    def create_shared(self, queue_id: str, *, capacity: int) -> str:
        """Make a queue between processes; the folder that another process gives to `attach`."""
        made = _FolderQueue.make(capacity)
        self._add(queue_id, made)
        return str(made.folder)

    def attach(self, queue_id: str, folder: str) -> None:
        """Join a queue that another process has made."""
        self._add(queue_id, _FolderQueue(Path(folder)))

    def send(self, queue_id: str, body: bytes, *, timeout: float | None = None) -> None:
        """Put a message; `TimeoutError` if the queue is still full after `timeout` seconds."""
        self._queue(queue_id).put(body, timeout)

    def receive(self, queue_id: str, *, timeout: float | None = None) -> Message:
        """Take the oldest message; `TimeoutError` if there is none after `timeout` seconds."""
        return self._queue(queue_id).get(timeout)

    def depth(self, queue_id: str) -> Depth:
        """How many messages wait, and how many may."""
        found = self._queue(queue_id)
        return Depth(found.count(), found.capacity)

    def close(self, queue_id: str) -> None:
        """Leave a queue; the one who made it also removes it, with what is still in it."""
        self._queue(queue_id).close()
        del self._queues[queue_id]

    def close_all(self) -> None:
        """Leave every queue."""
        for queue_id in list(self._queues):
            self.close(queue_id)

    def _add(self, queue_id: str, made: _Queue) -> None:
        if queue_id in self._queues:
            made.close()
            raise ValueError(f"there is a queue {queue_id!r} already")
        self._queues[queue_id] = made

    def _queue(self, queue_id: str) -> _Queue:
        try:
            return self._queues[queue_id]
        except KeyError:
            raise ValueError(f"no queue {queue_id!r}; queues: {sorted(self._queues)}") from None


class _ThreadQueue:
    """`queue.Queue`, with the time of each send beside the message."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._items: queue.Queue[tuple[int, bytes]] = queue.Queue(capacity)

    def put(self, body: bytes, timeout: float | None) -> None:
        try:
            self._items.put((time.monotonic_ns(), body), timeout=timeout)
        except queue.Full:
            raise TimeoutError(f"the queue is still full after {timeout} s") from None

    def get(self, timeout: float | None) -> Message:
        try:
            sent_ns, body = self._items.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"the queue is still empty after {timeout} s") from None
        return Message(body, (time.monotonic_ns() - sent_ns) / 1000)

    def count(self) -> int:
        return self._items.qsize()

    def close(self) -> None:
        pass


class _FolderQueue:
    """A folder with a file a message, and two named pipes that count like semaphores.

    A byte in `items` stands for a message that may be taken, a byte in `slots` for one that may
    be put; the system lets exactly one process read each byte, so nobody needs a lock.
    """

    _serial = itertools.count()

    def __init__(self, folder: Path, *, owner: bool = False) -> None:
        self.folder = folder
        self.capacity = int((folder / "capacity").read_text())
        self._owner = owner
        # Opened for both: a named pipe without a reader and a writer loses what is in it.
        self._items = os.open(folder / "items", os.O_RDWR | os.O_NONBLOCK)
        self._slots = os.open(folder / "slots", os.O_RDWR | os.O_NONBLOCK)

    @classmethod
    def make(cls, capacity: int) -> "_FolderQueue":
        if not 1 <= capacity <= 4096:
            raise ValueError(f"capacity = {capacity}: a shared queue takes 1 to 4096 messages")
        folder = Path(tempfile.mkdtemp(prefix="minikernel-queue-"))
        (folder / "capacity").write_text(str(capacity))
        (folder / "messages").mkdir()
        os.mkfifo(folder / "items", 0o600)
        os.mkfifo(folder / "slots", 0o600)
        made = cls(folder, owner=True)
        os.write(made._slots, b"." * capacity)
        return made

    def put(self, body: bytes, timeout: float | None) -> None:
        _take(self._slots, timeout, "full")
        name = f"{time.monotonic_ns():020d}-{os.getpid()}-{next(self._serial)}"
        written = self.folder / name
        written.write_bytes(body)
        written.rename(self.folder / "messages" / name)
        os.write(self._items, b".")

    def get(self, timeout: float | None) -> Message:
        _take(self._items, timeout, "empty")
        while True:
            oldest = min((self.folder / "messages").iterdir(), key=lambda path: path.name)
            mine = self.folder / f"taken-{os.getpid()}-{next(self._serial)}"
            try:
                oldest.rename(mine)
            except FileNotFoundError:
                continue  # another process took that one; a message is left for each byte
            break
        body = mine.read_bytes()
        mine.unlink()
        os.write(self._slots, b".")
        # The monotonic clock is the same in every process of the machine.
        sent_ns = int(oldest.name.split("-")[0])
        return Message(body, (time.monotonic_ns() - sent_ns) / 1000)

    def count(self) -> int:
        waiting = fcntl.ioctl(self._items, termios.FIONREAD, b"\0" * 4)
        return int(struct.unpack("i", waiting)[0])

    def close(self) -> None:
        os.close(self._items)
        os.close(self._slots)
        if self._owner:
            shutil.rmtree(self.folder)


def _take(counter: int, timeout: float | None, state: str) -> None:
    """Take one byte, waiting for it if need be."""
    deadline = None if timeout is None else time.monotonic() + timeout
    ready = select.poll()
    ready.register(counter, select.POLLIN)
    while True:
        try:
            os.read(counter, 1)
        except BlockingIOError:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"the queue is still {state} after {timeout} s") from None
            ready.poll(None if left is None else left * 1000)
        else:
            return
