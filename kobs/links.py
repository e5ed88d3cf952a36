"""The links table of a session: causes that travel between processes, found by a digest.

Who sends a message puts the cause under a key made of the message; who receives it makes the same
key and takes the cause: the message itself is not touched. The table is one file of fixed size
that all processes of the session map.

Python has no compare-and-swap on shared memory, so two processes may write one entry at the same
time. An entry carries a checksum: such a pair of writers costs a link, it never makes a wrong one.
"""

import os
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from kobs.context import Cause
from kobs.errors import SessionError

MAGIC = b"KOBSLINK"
ENTRIES = 8192
ENTRY_SIZE = 512
SIZE = (ENTRIES + 1) * ENTRY_SIZE
"""Bytes of the file; its first entry's place holds the magic."""
_PROBE = 16
"""How many places a key may lie at; a full neighbourhood loses its oldest entry."""

_BODY = struct.Struct("=QQQQQQQBxH")
"""key digest, put at (monotonic ns), link, causality id, trace high, parent, span id, sampled,
length of the origin that follows."""
_ORIGIN_ROOM = ENTRY_SIZE - 8 - _BODY.size - 4


class LinkRecord(NamedTuple):
    """What a sender left for a receiver."""

    link: int
    """The token that joins the send to its receive."""
    causality_id: int
    parent: int
    """The sending event's id."""
    span_id: int
    trace_high: int
    sampled: bool
    origin: str
    put_ns: int = 0
    """When it was left, on the monotonic clock, which all processes of a machine share."""

    @property
    def cause(self) -> Cause:
        """The cause that the receiver goes on with."""
        return Cause(self.causality_id, self.parent, self.span_id, self.sampled, self.trace_high)


def make_file(path: str) -> None:
    """Make the file of an empty table (mode 0600), all of it allocated: to write to a mapped sparse
    file on a full disk would be a SIGBUS. Raises `OSError` where it cannot be made."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, SIZE)
        os.pwrite(descriptor, MAGIC, 0)
    finally:
        os.close(descriptor)


class LinksTable:
    """The mapped table. An entry's first word is 0 where it is free, else a checksum of the rest
    (never 0), written last."""

    def __init__(self, path: str, view: memoryview) -> None:
        self.path = path
        self._memory = view
        self._words = view.cast("Q")

    @classmethod
    def create(cls, path: str) -> "LinksTable":
        """Make the file and map it. Raises `OSError` where it cannot be made or has no room."""
        make_file(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: str) -> "LinksTable":
        """Map the file of a session. Raises `SessionError` where it is none."""
        try:
            size = os.stat(path).st_size
            if size < SIZE:
                raise SessionError(
                    f"{path}: damaged: {size:,} bytes, a links table has {SIZE:,}; record again"
                )
            from kobs._core import memory  # not for those who only make the file

            view = memory.existing_writable(path, SIZE)
        except OSError as error:
            raise SessionError(f"{path}: cannot be opened: {error.strerror}") from None
        if bytes(view[: len(MAGIC)]) != MAGIC:
            raise SessionError(f"{path}: damaged: it does not begin with {MAGIC!r}; record again")
        return cls(path, view)

    def put(self, key: bytes, cause: Cause, link: int, origin: str = "") -> None:
        """Leave a cause under a key. Several under one key are kept side by side; where there is
        no room the oldest entry nearby goes.

        An origin that is too long is left out: none is better than a wrong one.
        """
        digest = _digest(key)
        raw = origin.encode("utf-8", "surrogatepass")
        if len(raw) > _ORIGIN_ROOM:
            raw = b""
        body = (
            _BODY.pack(
                digest,
                time.monotonic_ns(),
                link,
                cause.causality_id,
                cause.trace_high,
                cause.parent,
                cause.span_id,
                cause.sampled is not False,
                len(raw),
            )
            + raw
        )
        place = self._place(digest)
        self._words[place // 8] = 0
        self._memory[place + 8 : place + 8 + len(body)] = body
        self._words[place // 8] = zlib.crc32(body) | 1 << 32

    def take(self, key: bytes) -> LinkRecord | None:
        """The oldest cause under a key, which is gone then (queues are first in, first out);
        None if there is none."""
        found = min(self._find(key), default=None)
        if found is None:
            return None
        self._words[found[1] // 8] = 0
        return found[2]

    def peek(self, key: bytes) -> LinkRecord | None:
        """The newest cause under a key, which stays; None if there is none."""
        found = max(self._find(key), default=None)
        return None if found is None else found[2]

    def _find(self, key: bytes) -> Iterator[tuple[int, int, LinkRecord]]:
        """(time, place, record) of every whole entry under a key."""
        digest = _digest(key)
        for place in _places(digest):
            if not self._words[place // 8]:
                continue
            if self._words[place // 8 + 1] != digest:
                continue
            entry = self._read(place)
            if entry is not None and entry[0] == digest:
                yield entry[1], place, entry[2]

    def _read(self, place: int) -> tuple[int, int, LinkRecord] | None:
        raw = bytes(self._memory[place : place + ENTRY_SIZE])
        stamp = int.from_bytes(raw[:8], sys.byteorder)
        digest, put_ns, link, causality_id, high, parent, span_id, sampled, length = (
            _BODY.unpack_from(raw, 8)
        )
        end = 8 + _BODY.size + length
        if end > ENTRY_SIZE or stamp != zlib.crc32(raw[8:end]) | 1 << 32:
            return None
        origin = raw[8 + _BODY.size : end].decode("utf-8", "surrogatepass")
        record = LinkRecord(
            link, causality_id, parent, span_id, high, bool(sampled), origin, put_ns
        )
        return digest, put_ns, record

    def _place(self, digest: int) -> int:
        """A free place for a key, or that of the oldest entry nearby."""
        oldest = -1
        oldest_ns = 1 << 64
        for place in _places(digest):
            if not self._words[place // 8]:
                return place
            put_ns = self._words[place // 8 + 2]
            if put_ns < oldest_ns:
                oldest, oldest_ns = place, put_ns
        return oldest


def _places(digest: int) -> Iterator[int]:
    for step in range(_PROBE):
        yield (((digest + step) % ENTRIES) + 1) * ENTRY_SIZE


def _digest(key: bytes) -> int:
    from _blake2 import blake2b  # hashlib's; that loads OpenSSL too

    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little") or 1
