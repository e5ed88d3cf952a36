"""Packets in a temporary file, given back in the order of time.

A slice is known when it ends; its begin belongs further up. So that a recording of any length
can be exported, packets wait in a file and only their times in memory (25 bytes a packet).
"""

import tempfile
from array import array
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from struct import Struct

_HEAD = Struct("<QQQI")


class Spool:
    """Write packets with `add`, then read them once with `sorted`."""

    def __init__(self, folder: str | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=1 << 16)  # noqa: SIM115
        self._times = array("Q")
        self._offsets = array("Q")
        self._opens = bytearray()
        self._size = 0

    def add(
        self, time: int, data: bytes, *, opens: bool = False, event: int = 0, partner: int = 0
    ) -> None:
        """Keep a packet. `opens` marks the begin of a slice; `event` and `partner` are the ids
        of the events that it shows."""
        self._times.append(time)
        self._offsets.append(self._size)
        self._opens.append(opens)
        self._file.write(_HEAD.pack(time, event, partner, len(data)))
        self._file.write(data)
        self._size += _HEAD.size + len(data)

    def sorted(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(time, event, partner, data) by time. At the same time ends and instants stand in the
        order they were added, before begins; of begins the last added (the outermost) is first."""
        self._file.flush()
        if not self._size:
            return
        count = len(self._times)
        order = [at for at in range(count) if not self._opens[at]]
        order += [at for at in range(count - 1, -1, -1) if self._opens[at]]
        order.sort(key=self._times.__getitem__)
        with mmap(self._file.fileno(), self._size, access=ACCESS_READ) as memory:
            for at in order:
                offset = self._offsets[at]
                time, event, partner, length = _HEAD.unpack_from(memory, offset)
                offset += _HEAD.size
                yield time, event, partner, memory[offset : offset + length]

    def close(self) -> None:
        """Give the temporary file back."""
        self._file.close()
