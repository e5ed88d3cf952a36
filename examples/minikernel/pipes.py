"""The system's pipes, by number, with what went through them."""

import os
import time
from dataclasses import dataclass, field

from kobs import observe


@dataclass
class _Pipe:
    read_fd: int
    write_fd: int
    opened: float = field(default_factory=time.monotonic)
    written: int = 0
    read: int = 0


@observe("pipe")
class PipeManager:
    """Pipes with an id each. Every read and write is one of the system's."""

    def __init__(self) -> None:
        self._pipes: dict[int, _Pipe] = {}
        self._next_id = 1

    def create(self) -> int:
        """Make a pipe; its id."""
        read_fd, write_fd = os.pipe()
        pipe_id = self._next_id
        self._next_id += 1
        self._pipes[pipe_id] = _Pipe(read_fd, write_fd)
        return pipe_id

    def write(self, pipe_id: int, data: bytes) -> int:
        """Write to the pipe; how many bytes it took, which may be fewer than there are."""
        pipe = self._pipe(pipe_id)
        taken = os.write(pipe.write_fd, data)
        pipe.written += taken
        return taken

    def read(self, pipe_id: int, size: int = 65536) -> bytes:
        """Up to `size` bytes, as soon as there are any; empty when every writer has closed."""
        pipe = self._pipe(pipe_id)
        data = os.read(pipe.read_fd, size)
        pipe.read += len(data)
        return data

    def write_end(self, pipe_id: int) -> int:
        """The descriptor to hand to a child that shall write."""
        return self._pipe(pipe_id).write_fd

    def close_writer(self, pipe_id: int) -> None:
        """Close this process's writing end, so that the reader sees the end of the stream."""
        pipe = self._pipe(pipe_id)
        if pipe.write_fd >= 0:
            os.close(pipe.write_fd)
            pipe.write_fd = -1

    def throughput(self, pipe_id: int) -> float:
        """Bytes a second that were read from the pipe since it was made."""
        pipe = self._pipe(pipe_id)
        return pipe.read / (time.monotonic() - pipe.opened)

    def close(self, pipe_id: int) -> None:
        """Close both ends."""
        self.close_writer(pipe_id)
        os.close(self._pipes.pop(pipe_id).read_fd)

    def close_all(self) -> None:
        """Close every pipe."""
        for pipe_id in list(self._pipes):
            self.close(pipe_id)

    def _pipe(self, pipe_id: int) -> _Pipe:
        try:
            return self._pipes[pipe_id]
        except KeyError:
            raise ValueError(f"no pipe {pipe_id}; pipes: {sorted(self._pipes)}") from None
