"""Damages a seed as a string of bytes says: the same bytes, the same damage.

A fuzzer that changes bytes anywhere in 200 KB seldom meets what matters. So its input is a recipe:
which seed, and a few changes to what has a meaning in it (a field of a header, a record of a
region, a slot, an entry in flight, a JSON value), or to bytes anywhere.
"""

import ctypes
import json
import os
import struct
from collections.abc import Callable
from typing import Any

from kobs._core import layout
from kobs._core.layout import Counters, Header, InFlightEntry, SlotHeader
from tests.fuzz.seeds import Files, seeds

PLAN = Header()
TOTAL = layout.plan(PLAN, layout.MIN_SLOTS)
MOST_CHANGES = 12

_NUMBERS = (
    0, 1, 2, 3, 4, 7, 15, 16, 17, 31, 33, 63, 64, 127, 128, 191, 192, 255, 256, 1000, 1023, 1024,
    4095, 4096, 32767, 32768, 65535, 65536, (1 << 20) - 1, 1 << 20, (1 << 31) - 1, 1 << 31,
    (1 << 32) - 1, 1 << 32, 1 << 42, (1 << 62) + 5, (1 << 63) - 1, 1 << 63, (1 << 64) - 32,
    (1 << 64) - 1,
)  # fmt: skip
_JSON: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 255, 256, 1 << 70, -(1 << 70), 1.5, float("inf"), float("nan"),
    "", "x", "x" * 300, "a b", "class", "__class__", "__dict__", "__init__", "__slots__", "to_dict",
    "like", "mro", "_payload", "é", "\ud800", "\0", "u8", "i64", "f64", "bool", "name",
    "identifier", "text", "json", "enum", "u7", "Q", "999s", "?", "head", "tail", "SyscallExit",
    "ProcessTerminated", "exit_code", "name", "IPC", "INFO", [], {}, [[]], [{}], [None], {"": 0},
    {"mro": 1}, {"_a_": 1}, {"__x__": 2}, {"name": "a"}, {"A": 1, "B": 1}, {"A": 300}, {"A": -1},
)  # fmt: skip
_TEXTS = (
    b"", b"null", b"[", b"{}", b"[]", b"7", b'"', b"\xff\xfe", b"\0" * 8, b"1" * 5000,
    b"[" * 20_000, b'{"a":' * 3000, b"{" * 100, b"NaN", b"1e999", b"\n\n", b'{"version":1}',
)  # fmt: skip


class Choices:
    """Decisions, read from bytes; when they are used up, each is the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """The next `count` bytes, zeros behind the end."""
        found = self._data[self._at : self._at + count]
        self._at += count
        return found.ljust(count, b"\0")

    def below(self, limit: int) -> int:
        """A number from 0 to below `limit`."""
        width = 1 if limit <= 256 else 2 if limit <= 65_536 else 4
        return int.from_bytes(self.take(width), "little") % max(1, limit)

    def of(self, options: Any) -> Any:
        """One of them."""
        return options[self.below(len(options))]


def damaged(data: bytes) -> Files:
    """The files that the recipe `data` makes."""
    choices = Choices(data)
    files = dict(choices.of(seeds()))
    changes = 0
    while choices and changes < MOST_CHANGES:
        changes += 1
        name = choices.of(list(files)) if len(files) > 1 else next(iter(files))
        if name.endswith(".kobs"):
            content = bytearray(files[name])
            change = choices.of(_CHANGES)
            try:
                change(choices, content)
            except (struct.error, IndexError, ValueError):
                continue  # An earlier change cut away what this one is about.
            files[name] = bytes(content)
        else:
            files[name] = _text_changed(choices, files[name])
        if choices.below(64) == 63 and len(files) > 1:
            del files[choices.of(list(files)[1:])]
    return files


def _number(choices: Choices, old: int) -> int:
    how = choices.below(6)
    if how == 0:
        return old + choices.below(5) - 2
    if how == 1:
        return old ^ 1 << choices.below(64)
    if how == 2:
        return int.from_bytes(choices.take(8), "little")
    if how == 3:
        return os.getpid()  # A writer that is alive.
    if how == 4:
        return layout.finished(choices.below(64)) | choices.below(2)
    return int(choices.of(_NUMBERS))


def _change_word(choices: Choices, content: bytearray, at: int, size: int) -> None:
    old = int.from_bytes(content[at : at + size], "little")
    if at + size <= len(content):
        new = _number(choices, old) & (1 << 8 * size) - 1
        content[at : at + size] = new.to_bytes(size, "little")


def _change_field(
    choices: Choices, content: bytearray, at: int, structure: type[ctypes.Structure]
) -> None:
    field = getattr(structure, choices.of(structure._fields_)[0])
    words = max(1, field.size // 8)
    place = at + field.offset + 8 * choices.below(words)
    _change_word(choices, content, place, min(8, field.size))


def _header(choices: Choices, content: bytearray) -> None:
    _change_field(choices, content, 0, Header)


def _counter(choices: Choices, content: bytearray) -> None:
    line = choices.below(ctypes.sizeof(Counters) // layout.CACHE_LINE)
    _change_word(choices, content, PLAN.counters.offset + line * layout.CACHE_LINE, 8)


def _slot(choices: Choices, content: bytearray) -> None:
    at = _slot_at(choices)
    if choices.below(2):
        _change_field(choices, content, at, SlotHeader)
    else:
        at += layout.SLOT_HEADER_SIZE + choices.below(layout.PAYLOAD_SIZE)
        _change_word(choices, content, at, 1 << choices.below(4))


def _copied_slot(choices: Choices, content: bytearray) -> None:
    source, target = _slot_at(choices), _slot_at(choices)
    content[target : target + layout.SLOT_SIZE] = content[source : source + layout.SLOT_SIZE]


def _slot_at(choices: Choices) -> int:
    lane = PLAN.lanes[choices.below(layout.LANES)]
    return int(lane.offset + choices.below(lane.slots) * layout.SLOT_SIZE)


def _in_flight(choices: Choices, content: bytearray) -> None:
    entry = choices.of((0, 1, 2, layout.IN_FLIGHT_ENTRIES - 1))
    at = PLAN.in_flight.offset + entry * ctypes.sizeof(InFlightEntry)
    _change_field(choices, content, at, InFlightEntry)


def _region_record(choices: Choices, content: bytearray) -> None:
    """The head of a record, or of a region."""
    region = choices.of((PLAN.schema, PLAN.strings))
    places = [region.offset, region.offset + 8]
    at = region.offset + 16
    while len(places) < 200:
        record, length = struct.unpack_from("=II", content, at)
        if (not record and not length) or at + length > region.offset + region.size:
            break
        places += [at, at + 4, at + 8]
        at += 8 + (length + 7) // 8 * 8
    places += [at, at + 4]
    _change_word(choices, content, choices.of(places), 4)


def _schema(choices: Choices, content: bytearray) -> None:
    """A payload type's declaration, with a value in it replaced; the region is written anew."""
    start = PLAN.schema.offset + 16
    records = []
    at = start
    while True:
        record, length = struct.unpack_from("=II", content, at)
        if not record and not length:
            break
        records.append([record, bytes(content[at + 8 : at + 8 + length])])
        at += 8 + (length + 7) // 8 * 8
    record = choices.of(records)
    if choices.below(4) == 3:
        record[1] = choices.of(_TEXTS)
    else:
        record[1] = _json_changed(choices, record[1])
    new = b"".join(
        struct.pack("=II", number, len(text)) + text + bytes(-len(text) % 8)
        for number, text in records
    )
    if len(new) < PLAN.schema.size - 16:
        content[start : start + len(new) + 8] = new + bytes(8)


def _anywhere(choices: Choices, content: bytearray) -> None:
    at = choices.below(len(content))
    new = choices.take(choices.below(16) + 1)
    content[at : at + len(new)] = new


def _cut(choices: Choices, content: bytearray) -> None:
    part = choices.of((0, PLAN.counters.offset, PLAN.lanes[0].offset, PLAN.lanes[1].offset))
    del content[part + choices.below(5000) :]


def _longer(choices: Choices, content: bytearray) -> None:
    content += bytes(choices.below(5000))


_CHANGES: tuple[Callable[[Choices, bytearray], None], ...] = (
    _header,
    _counter,
    _slot,
    _slot,
    _copied_slot,
    _in_flight,
    _region_record,
    _schema,
    _schema,
    _anywhere,
    _cut,
    _longer,
)


def _text_changed(choices: Choices, text: bytes) -> bytes:
    how = choices.below(4)
    if how == 0:
        return bytes(choices.of(_TEXTS))
    if how == 1:
        at = choices.below(len(text) + 1)
        return text[:at] + choices.take(choices.below(8)) + text[at + choices.below(8) :]
    return _json_changed(choices, text)


def _json_changed(choices: Choices, text: bytes) -> bytes:
    """JSON with one value in it, or one key, replaced."""
    try:
        whole = json.loads(text)
        places: list[tuple[Any, Any]] = []
        _places(whole, places)
        if not places:
            return bytes(choices.of(_TEXTS))
        holder, key = choices.of(places)
        value = choices.of(_JSON)
        how = choices.below(8)
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, dict):
            holder[str(value)] = holder.pop(key)
        elif how == 2 and isinstance(holder, list):
            holder.append(holder[key])
        else:
            holder[key] = value
        return json.dumps(whole, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return bytes(choices.of(_TEXTS))


def _places(value: Any, found: list[tuple[Any, Any]]) -> None:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found.append((value, key))
            _places(value[key], found)
