"""The append-only regions (schemas, strings) and the in-flight table, written without a lock."""

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from itertools import count

from kobs._core import layout
from kobs._core.contract import OpenEvent
from kobs._core.layout import IN_FLIGHT_ENTRIES, InFlightEntry, RecordHead, RegionHead
from kobs.ids import NO_LANE, TICKET_MASK, id_prefix

_HEAD = ctypes.sizeof(RegionHead)
_RECORD = ctypes.sizeof(RecordHead)
_ENTRY = ctypes.sizeof(InFlightEntry)
_ENTRY_FORMAT = "=QQQQIIIHHII"
"""An `InFlightEntry` after its `event`."""


def record_size(length: int) -> int:
    """Bytes that a record of `length` takes, head and padding included."""
    return _RECORD + (length + 7) // 8 * 8


class Region:
    """Appends records to a region. Safe between threads and against signal handlers.

    A place is claimed by `dict.setdefault`, which is atomic; who finds a place taken goes on
    behind it. A claim is the record's size as a float: each is an object of its own, as small ints
    are not, so `is` tells whose, and the garbage collector walks none of them. In memory a record's
    length is written first and its id last: a record whose id is still 0 is skipped by readers, one
    whose length is 0 is the end.
    """

    def __init__(self, memory: memoryview, info: layout.RegionInfo) -> None:
        self._start = info.offset + _HEAD
        self._size = info.size - _HEAD
        self._memory = memory
        self._words = memory.cast("I")
        self._longs = memory.cast("Q")
        self._used_at = info.offset // 8
        self._claims: dict[int, float] = {}
        self._end = 0
        self._records = 0

    def append(self, data: bytes, record_id: int | None = None) -> int:
        """Append a record; its id, which is `position // 8 + 1` where none is given.

        -1 where the region is full.
        """
        size = record_size(len(data))
        claims = self._claims
        claim = float(size)
        at = self._end
        while True:
            if at + size > self._size:
                return -1
            held = claims.setdefault(at, claim)
            if held is claim:
                break
            at += int(held)
        if record_id is None:
            record_id = at // 8 + 1
        place = self._start + at
        self._words[place // 4 + 1] = len(data)
        self._memory[place + _RECORD : place + _RECORD + len(data)] = data
        self._words[place // 4] = record_id
        self._records += 1
        if at + size > self._end:
            self._end = at + size
            self._longs[self._used_at] = at + size
            self._longs[self._used_at + 1] = self._records
        return record_id


def read_record(memory: memoryview, info: layout.RegionInfo, at: int) -> tuple[int, bytes, int]:
    """(id, bytes, size) of the record at `at` bytes into a region; size 0 is the end.

    Trusts nothing that it reads: what would reach past the region counts as the end.
    """
    room = info.size - _HEAD - at
    if at < 0 or room < _RECORD:
        return 0, b"", 0
    place = info.offset + _HEAD + at
    record_id = int.from_bytes(memory[place : place + 4], sys.byteorder)
    length = int.from_bytes(memory[place + 4 : place + 8], sys.byteorder)
    if not (length or record_id) or length > room - _RECORD:
        return 0, b"", 0
    data = bytes(memory[place + _RECORD : place + _RECORD + length])
    return record_id, data, record_size(length)


def records(memory: memoryview, info: layout.RegionInfo) -> Iterator[tuple[int, bytes]]:
    """(id, bytes) of every complete record in a region."""
    at = 0
    while True:
        record_id, data, size = read_record(memory, info, at)
        if not size:
            return
        if record_id or at == 0:
            yield record_id, data
        at += size


def string_at(memory: memoryview, info: layout.RegionInfo, string_id: int) -> str | None:
    """The string whose id is `string_id` (its id tells its place); None if there is none."""
    if string_id <= 0:
        return None
    found, data, size = read_record(memory, info, (string_id - 1) * 8)
    if not size or found != string_id:
        return None
    return data.decode("utf-8", "replace")


class InFlightTable:
    """The begins that have no end yet.

    An entry is made before its begin event and does not need it: until `name_event`, or for good
    where the event found no slot, it has an id of its own (in `NO_LANE`).
    """

    def __init__(self, memory: memoryview, info: layout.RegionInfo, recording: int) -> None:
        self._free = list(range(IN_FLIGHT_ENTRIES - 1, -1, -1))
        self._memory = memory
        self._longs = memory.cast("Q")
        self._offset = info.offset
        self._pack_into = struct.Struct(_ENTRY_FORMAT).pack_into
        self._first = os.getpid() * IN_FLIGHT_ENTRIES
        """Entry 0 here. A scope that was open at a fork has one of the parent's table, which the
        child's must not take for its own."""
        self._prefix = id_prefix(recording, NO_LANE)
        self._next = count(1).__next__

    def open(
        self,
        timestamp_ns: int,
        causality_id: int,
        span_id: int,
        parent: int,
        tid: int,
        pid: int,
        name: int,
        origin: int,
        type_id: int,
    ) -> int:
        """Enter a begin; the entry, -1 where the table is full."""
        try:
            index = self._free.pop()
        except IndexError:
            return -1
        place = self._offset + index * _ENTRY
        self._pack_into(
            self._memory,
            place + 8,
            timestamp_ns,
            causality_id,
            span_id,
            parent,
            tid,
            name,
            origin,
            type_id,
            0,
            pid,
            0,
        )
        self._longs[place // 8] = self._prefix | self._next() & TICKET_MASK
        return self._first + index

    def name_event(self, entry: int, event: int) -> None:
        """The begin event of an entry has been published."""
        self._longs[(self._offset + (entry - self._first) * _ENTRY) // 8] = event

    def close(self, entry: int) -> None:
        """Free an entry."""
        index = entry - self._first
        if 0 <= index < IN_FLIGHT_ENTRIES:
            self._longs[(self._offset + index * _ENTRY) // 8] = 0
            self._free.append(index)


def open_events(memory: memoryview, info: layout.RegionInfo) -> list[OpenEvent]:
    """The entries of an in-flight table that are in use, oldest first."""
    found: list[OpenEvent] = []
    for index in range(IN_FLIGHT_ENTRIES):
        place = info.offset + index * _ENTRY
        raw = bytes(memory[place : place + _ENTRY])
        if bytes(memory[place : place + 8]) != raw[:8]:
            # Its event was published just now; once more.
            raw = bytes(memory[place : place + _ENTRY])
        entry = InFlightEntry.from_buffer_copy(raw)
        # Freed, or freed and taken again, while it was copied: it is not in flight, or will be
        # seen whole by the next look.
        if entry.event and bytes(memory[place : place + 8]) == raw[:8]:
            found.append(
                OpenEvent(
                    entry.event,
                    entry.timestamp_ns,
                    entry.causality_id,
                    entry.span_id,
                    entry.parent,
                    entry.tid,
                    entry.pid,
                    entry.name,
                    entry.origin,
                    entry.type_id,
                )
            )
    found.sort(key=lambda entry: entry.timestamp_ns)
    return found
