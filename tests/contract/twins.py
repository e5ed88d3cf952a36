"""Slots of every payload type, with whatever bytes: what both cores are asked about."""

import os
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Annotated, Any
from unittest import mock

from hypothesis import strategies as st

from kobs._core.contract import RawSlot
from kobs._core.layout import PAYLOAD_SIZE, SLOT_BODY_FORMAT
from kobs.decoder import EventDecoder
from kobs.fields import Json, Text
from kobs.levels import Category
from kobs.schema import (
    F64,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Bool,
    Identifier,
    Name,
    PayloadType,
    event_type,
    registered_types,
)

STRINGS = {
    1: "read", 2: "write", 3: "", 4: 'a "quoted" \\ name\n', 5: "naïve \x7f\x00\ud800", 6: "🐟",
    7: "12", 8: "None",
}  # fmt: skip


class Colour(IntEnum):
    RED = 0
    GREEN = 200


class Word(str):
    """A string of a program's own kind."""

    def __str__(self) -> str:
        return f"the word {self!r}"


@event_type(category=Category.IPC)
class TwinOfAllKinds(PayloadType):
    """Every kind of field."""

    name: Name
    u8: U8
    u16: U16
    u32: U32
    u64: U64
    i32: I32
    i64: I64
    yes: Bool
    who: Identifier
    colour: Colour
    duration_us: F64
    text: Annotated[str, Text(20)]
    tail: Annotated[str, Text(8, keep="tail")]
    json: Annotated[dict[str, object], Json(30)]


@event_type(category=Category.IPC)
class TwinOfOwnMaking(PayloadType):
    """Says itself what it is as JSON."""

    size: U32

    def to_dict(self) -> dict[str, Any]:
        return {"big": self.size > 9, "nan": float("nan")}


@event_type(category=Category.IPC)
class TwinInNanoseconds(PayloadType):
    """A duration that is no float."""

    path: Annotated[str, Text(16)]
    duration_ms: U32


class Source:
    """A recording's number and strings."""

    recording = 5

    def string(self, string_id: int) -> str:
        return STRINGS.get(string_id, "?")


def decoder() -> EventDecoder:
    """One that has the C core, whichever is asked for elsewhere."""
    with mock.patch.dict(os.environ, {"KOBS_CORE": "c"}):
        made = EventDecoder(Source())
        assert made.native is not None
    return made


TYPES = {cls.__kobs_schema__.type_id: cls.__kobs_schema__ for cls in registered_types().values()}

durations = st.one_of(
    st.integers(0, 10**9).map(lambda ns: ns / 1000),
    st.floats(),
    st.floats(-1e3, 1e3).map(lambda value: round(value, 3)),
    st.sampled_from([0.0, -0.0, 0.001, 0.0001, 1e15, 1e16, 12.5, 1e-5, 123456789012.345]),
)
texts = st.one_of(
    st.binary(max_size=20), st.text(max_size=12).map(lambda text: text.encode("utf-8", "replace"))
)
jsons = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([
        b"{}", b'{"a":1}', b'{"a":-0}', b'{"a":01}', b'{"a":1,"a":2}', b'{"a":1.50}', b'{"a":1.5}',
        b'{"a":true,"b":null}', b'{"a":[1]}', b'{ "a":1}', b'{"a":"\\u00e9"}', b'{"a":NaN}',
        b'{"a":1e5}', b'{"a":1e999}', b'{"a":-}', b'{"a":"x"', b'{"a":1}}', b"[]", b"", b'{"a":+1}',
        b'{"a":100000.0}', b'{"a":1e+16}', b'{"a":12345678901234567890}', b'{"a":false}',
        b'{"\x7f":1}', b'{"a":\x00}', b'{"a":1,}',
    ]),
)  # fmt: skip


@st.composite
def payloads(draw: Callable[..., Any], schema: Any) -> bytes:
    """The bytes of a payload; some of them make no sense."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(min_size=PAYLOAD_SIZE, max_size=PAYLOAD_SIZE))  # type: ignore[no-any-return]
    data = bytearray(PAYLOAD_SIZE)
    for field in schema.fields:
        kind = field.kind
        if kind.code == "d":
            made = struct.pack("=d", draw(durations))
        elif kind.name == "name":
            made = struct.pack("=I", draw(st.integers(0, 9)))
        elif kind.name == "identifier":
            made = struct.pack(
                "=Q", draw(st.sampled_from([7, 12, 1 << 62, 1 << 63 | 1, 1 << 63 | 7]))
            )
        elif kind.values == 2:
            inner = draw(jsons if kind.name == "json" else texts)[: kind.size]
            length = draw(st.sampled_from([len(inner)] * 9 + [255]))
            made = struct.pack("=" + kind.code, length, inner)
        else:
            size = struct.calcsize("=" + kind.code)
            made = draw(st.binary(min_size=size, max_size=size) | st.just(bytes(size)))
        data[field.offset : field.offset + len(made)] = made
    return bytes(data)


@st.composite
def slots(draw: Callable[..., Any], types: Any = None, small: bool = False) -> RawSlot:
    """A finished slot."""
    type_id = draw(st.sampled_from(sorted(TYPES) if types is None else types))
    schema = TYPES.get(type_id)
    payload = draw(payloads(schema)) if schema is not None else bytes(PAYLOAD_SIZE)
    few = st.integers(0, 3)
    word = few if small else st.one_of(few, st.integers(0, (1 << 64) - 1))
    half = few if small else st.one_of(few, st.integers(0, (1 << 32) - 1))
    level = draw(st.integers(0, 5)) | draw(st.integers(0, 9)) << 4
    if draw(st.integers(0, 19)) == 0:
        level = draw(st.integers(0, 255))
    ticket = draw(st.integers(0, (1 << 50)))
    body = struct.pack(
        SLOT_BODY_FORMAT, draw(word), draw(word), draw(word), draw(word), draw(word), draw(half),
        draw(half), type_id, level, draw(st.integers(0, 15)),
        draw(st.sampled_from([0, 0, 1, 4, 99])),
    )  # fmt: skip
    return RawSlot(
        draw(st.integers(0, 1)), ticket, struct.pack("=Q", (ticket + 1) << 1) + body + payload
    )
