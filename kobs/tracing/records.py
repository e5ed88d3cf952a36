"""What a span writes into the ring beside `SpanBegan` and `SpanEnded`, and how it is read back.

`SpanEnded.attributes` holds what fits in a slot. The rest is one JSON text, cut into
`SpanAttributes` records whose parent is the span's begin event; `SpanEnded.attributes` then says
under `OVERFLOW` how many records there are, so that a lost one is noticed. The attributes of a
span's events and links, and its details, overflow in the same way, into records whose parent is
the record that they belong to.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Annotated, Any

from kobs.levels import Category, Severity
from kobs.payloads import SpanEnded, _declare
from kobs.schema import I64, U8, U16, U32, U64, Bool, Json, Name, PayloadType, Text

OVERFLOW = ""
"""Key in `SpanEnded.attributes`: how many overflow records belong to the begin event. (An
attribute cannot have an empty key.)"""
CUT = "kobs.attributes.cut"
"""Attribute: how many values were longer than `MAX_VALUE` and were cut."""
INCOMPLETE = "kobs.attributes.incomplete"
"""Attribute: overflow records were lost; some attributes are missing."""

NAME = "kobs.span.name"
"""Attribute: the span's name, where the recording's table of names is full."""

DROPPED = "kobs.attributes.dropped"
"""Attribute of a `SpanNoted` or `SpanLinked`: how many attributes a limit left out."""
LINK_STATE = "kobs.link.trace_state"
"""Attribute of a `SpanLinked`: the W3C tracestate of the other span."""
LINK_FLAGS = "kobs.link.flags"
"""Attribute of a `SpanLinked`: the W3C trace flags of the other span, where they are not 1."""
LINK_REMOTE = "kobs.link.remote"
"""Attribute of a `SpanLinked`: the other span is another process's."""

MAX_VALUE = 64 * 1024
"""Characters of one value (of a text itself, of all else as JSON); what is longer is cut and
counted in `CUT`. A multiple of 4, so that base64 stays whole."""
_LONG = 1 << 63
_DATA = 120
_MAX_RECORDS = 65_535
_INLINE: int = SpanEnded.__kobs_schema__.field("attributes").kind.size  # type: ignore[attr-defined]
_MARK = 10
"""Room for `,"":65535` beside the attributes in the slot."""


@_declare(102, Category.PERFORMANCE, Severity.DEBUG)
class SpanAttributes(PayloadType):
    """Part of what does not fit in a record of a span; its parent is that record, for `SpanEnded`
    the begin event."""

    index: U16
    """Which part, from 0"""
    count: U16
    """How many parts there are"""
    data: Annotated[str, Text(_DATA)]
    """The part of the JSON text"""


@_declare(103, Category.PERFORMANCE, Severity.DEBUG)
class SpanLinked(PayloadType):
    """A span has a link to another one; its parent is the begin event."""

    trace_high: U64
    """High half of the other span's trace id"""
    trace_low: U64
    """Low half of the other span's trace id"""
    linked_span: U64
    """The other span's id"""
    attributes: Annotated[Mapping[str, object], Json(100)] = {}
    """Attributes of the link"""


@_declare(104, Category.PERFORMANCE, Severity.DEBUG)
class TraceAdopted(PayloadType):
    """A span began as the child of a span that another tracer made: this chain's whole trace id."""

    trace_high: U64
    """High half of the trace id"""
    trace_low: U64
    """Low half of the trace id"""
    sampled: Bool = True
    """The other tracer's sampled flag; where false nothing of the trace is exported"""
    trace_state: Annotated[str, Text(100)] = ""
    """W3C tracestate"""
    trace_flags: U8 = 1
    """W3C trace flags"""
    remote: Bool = False
    """The span that is the parent here is another process's"""
    parts: U16 = 0
    """How many `SpanAttributes` hold the tracestate, where it does not fit here"""


@_declare(105, Category.PERFORMANCE, Severity.DEBUG)
class SpanNoted(PayloadType):
    """Something happened at a moment of a span (OpenTelemetry's span events); its parent is the
    begin event."""

    name: Name
    """What happened"""
    time_ns: I64
    """When, in monotonic nanoseconds"""
    attributes: Annotated[Mapping[str, object], Json(110)] = {}
    """Attributes of it"""


@_declare(106, Category.PERFORMANCE, Severity.DEBUG)
class SpanDetailed(PayloadType):
    """What few spans have; its parent is the begin event. What is said later counts."""

    instrumentation: Name = "-"
    """The instrumentation scope as JSON: a list of name, version, schema URL and attributes; "-":
    not said here"""
    provider: U32 = 0
    """Which provider of this process made it; 0: none, it is kobs's own"""
    trace_flags: U8 = 255
    """W3C trace flags; 255: those of its trace"""
    details: Annotated[Mapping[str, object], Json(116)] = {}
    """trace_state, remote (its parent is another process's), parent (trace flags and tracestate of
    its parent's context, where they are not its own), began_ns and ended_ns (as they were
    given, monotonic), status (its description), dropped (attributes, events and links that limits
    left out)"""


def scope_text(
    name: str, version: str | None, schema_url: str | None, attributes: Mapping[str, object] | None
) -> str:
    """An instrumentation scope as `SpanDetailed.instrumentation` has it."""
    known = {text_of(key): plain(value) for key, value in (attributes or {}).items()}
    return encode([text_of(name), text_of(version or ""), text_of(schema_url or ""), known])


def certainly_fits(attributes: Mapping[str, Any]) -> bool:
    """The attributes fit in the slot, by a bound that costs less than encoding them."""
    room = _INLINE - 2
    for key, value in attributes.items():
        room -= 4 + (len(key) if _escapes_nothing(key) else 12 * len(key))
        cls = value.__class__
        if cls is str:
            room -= 2 + (len(value) if _escapes_nothing(value) else 12 * len(value))
        elif cls is float or cls is bool or (cls is int and -_LONG < value < _LONG):
            room -= 24
        else:
            return False
    return room >= 0


def _escapes_nothing(text: str) -> bool:
    return text.isascii() and text.replace(".", "_").isidentifier()


def split_attributes(
    attributes: Mapping[str, object], room: int = _INLINE
) -> tuple[Mapping[str, object], list[str]]:
    """(what goes into `SpanEnded.attributes`, or another field of `room` bytes; the texts of the
    overflow records)."""
    text = encode(attributes)
    if len(text) <= room:
        return attributes, []
    inline: dict[str, object] = {}
    rest: dict[str, object] = {}
    room -= 2 + _MARK
    cut = 0
    for key, value in attributes.items():
        if _may_be_long(value) and (shorter := _cut(value)) is not value:
            value = shorter
            cut += 1
        size = len(encode({key: value})) - 1
        if size <= room:
            inline[key] = value
            room -= size
        else:
            rest[key] = value
    if cut:
        rest[CUT] = cut
    parts = cut_up(encode(rest))
    if len(parts) > _MAX_RECORDS:
        parts = []
    inline[OVERFLOW] = len(parts) or _MAX_RECORDS
    return inline, parts


def _may_be_long(value: object) -> bool:
    return isinstance(value, str | list | dict) and (
        not isinstance(value, str) or len(value) > MAX_VALUE
    )


def _cut(value: object) -> object:
    """The value itself, or the first `MAX_VALUE` characters of it: of a text, of bytes as base64,
    of the elements of a list or mapping."""
    if isinstance(value, str):
        return value if len(value) <= MAX_VALUE else value[:MAX_VALUE]
    if isinstance(value, dict) and value.keys() == {"$bytes"}:
        text = str(value["$bytes"])
        return value if len(text) <= MAX_VALUE else {"$bytes": text[:MAX_VALUE]}
    if isinstance(value, list):
        kept: list[object] = []
        room = MAX_VALUE
        for one in value:
            room -= len(encode(one)) + 1
            if room < 0:
                return kept
            kept.append(one)
        return value
    if isinstance(value, dict):
        some: dict[str, object] = {}
        room = MAX_VALUE
        for key, one in value.items():
            room -= len(encode({key: one}))
            if room < 0:
                return some
            some[key] = one
    return value


def cut_up(text: str) -> list[str]:
    """ASCII text as the overflow records hold it."""
    return [text[at : at + _DATA] for at in range(0, len(text), _DATA)]


def room_of(payload: type[PayloadType], field: str) -> int:
    """Bytes of JSON that a field takes."""
    size: int = payload.__kobs_schema__.field(field).kind.size  # type: ignore[attr-defined]
    return size


def join_attributes(
    inline: Mapping[str, Any], records: Iterable[tuple[int, str]]
) -> dict[str, Any]:
    """A span's attributes from `SpanEnded.attributes` and the (index, data) of its overflow
    records; `INCOMPLETE` is among them if records are missing."""
    attributes = {key: restore(value) for key, value in inline.items() if key != OVERFLOW}
    expected = inline.get(OVERFLOW, 0)
    if not expected:
        return attributes
    parts = dict(records)
    complete = expected == len(parts)
    if complete:
        import json

        try:
            rest = json.loads("".join(parts[index] for index in sorted(parts)))
            attributes.update((key, restore(value)) for key, value in rest.items())
        except (ValueError, AttributeError, RecursionError):
            complete = False
    if not complete:
        attributes[INCOMPLETE] = True
    return attributes


def encode(attributes: object) -> str:
    """Plain attributes as compact JSON in ASCII."""
    global _encode
    if _encode is None:
        from json import JSONEncoder

        _encode = JSONEncoder(separators=(",", ":")).encode
    return _encode(attributes)


_encode: Callable[[object], str] | None = None


def plain(value: object, depth: int = 0, *, members_by_value: bool = False) -> object:
    """A copy of a value that JSON can say and that no one else can change.

    Bytes come back as bytes; an enumeration's member becomes its name, with `members_by_value` the
    text or number that it is; what JSON has no word for, or what is nested deeper than 8 levels,
    becomes text.
    """
    if isinstance(value, Enum):
        return _member_value(value) if members_by_value else value.name
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        from base64 import b64encode

        return {"$bytes": b64encode(bytes(value)).decode("ascii")}
    if depth < 8:
        if isinstance(value, list | tuple | set | frozenset):
            return [plain(one, depth + 1, members_by_value=members_by_value) for one in value]
        if isinstance(value, Mapping):
            return {
                text_of(key): plain(one, depth + 1, members_by_value=members_by_value)
                for key, one in value.items()
            }
    return text_of(value)


def _member_value(member: Enum) -> object:
    if isinstance(member, str):
        return str.__str__(member)
    if isinstance(member, int):
        return int(member)
    return float(member) if isinstance(member, float) else text_of(member)


def text_of(value: object) -> str:
    """`str(value)`, whatever the value's `__str__` does."""
    try:
        return str(value)
    except Exception as error:  # a program's __str__ may be broken
        return f"<{type(value).__name__}: no text, {type(error).__name__}>"


def restore(value: Any) -> Any:
    """A value that was recorded as it was before `plain`."""
    if isinstance(value, dict):
        if value.keys() == {"$bytes"}:
            from base64 import b64decode

            return b64decode(value["$bytes"])
        return {key: restore(one) for key, one in value.items()}
    return [restore(one) for one in value] if isinstance(value, list) else value
