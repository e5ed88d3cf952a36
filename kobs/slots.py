"""Slots looked at in C, without making events of them: what a decoder knows of payload types, told
to the C core. `None` wherever there is no C core, and then Python does all of it."""

from typing import TYPE_CHECKING, Any

from kobs._core import select
from kobs.fields import (
    Boolean,
    Enumeration,
    Float,
    IdentifierKind,
    Integer,
    InternedName,
    Json,
    Text,
)
from kobs.levels import Category, Severity
from kobs.schema import PayloadType, Schema

if TYPE_CHECKING:
    from kobs._core._native import Types
    from kobs.decoder import EventDecoder
    from kobs.schema import Field

_KINDS = (Boolean, Enumeration, Float, IdentifierKind, Integer, InternedName, Json, Text)
TO_MICROSECONDS = {"_ns": 0.001, "_us": 1.0, "_ms": 1000.0}
"""What a duration is multiplied with, by the ending of its field's name."""


def types_of(decoder: "EventDecoder") -> "Types | None":
    """The payload types and strings that a decoder knows, for the C core."""
    if select().name != "c":
        return None
    from kobs._core import _native

    def find(type_id: int) -> tuple[Any, ...] | None:
        schema = decoder.schema(type_id)
        return None if schema is None else describe(schema)

    return _native.Types(
        recording=decoder.source.recording,
        find=find,
        string=decoder.source.string,
        severities=tuple(Severity.__members__),
        categories=tuple(Category.__members__),
    )


def describe(schema: Schema) -> tuple[Any, ...]:
    """A payload type as `_native.Types` takes it."""
    plain = schema.cls.to_dict is PayloadType.to_dict
    names = list(schema.field_names)
    duration = schema.duration_field
    return (
        schema.name,
        schema.size,
        tuple(_column(field, plain) for field in schema.fields),
        names.index(schema.name_field) if schema.name_field else -1,
        names.index(duration) if duration else -1,
        TO_MICROSECONDS.get(duration[-3:], 1.0) if duration else 1.0,
    )


def _column(field: "Field", plain: bool) -> tuple[Any, ...]:
    kind = field.kind
    known = kind.native() if plain and type(kind) in _KINDS else None
    if known is None:
        return (field.name, None, field.offset, 0, None)
    name, size, _ = known
    extra: Any = None
    if isinstance(kind, Enumeration):
        extra = _Members(kind)
    elif isinstance(kind, Json):
        extra = _Mappings(kind)
    return (field.name, name, field.offset, size, extra)


class _Members:
    """The JSON of an enumeration's values."""

    def __init__(self, kind: Enumeration) -> None:
        self._kind = kind

    def __call__(self, value: int) -> bytes:
        from kobs.export.jsonl import dumps

        member = self._kind.decode((value,), str)
        return dumps(getattr(member, "name", member)).encode("ascii")


class _Mappings:
    """JSON as the export writes it, of JSON as payloads keep it."""

    def __init__(self, kind: Json) -> None:
        self._kind = kind

    def __call__(self, data: bytes) -> bytes:
        from kobs.export.jsonl import dumps

        return dumps(self._kind.decode((len(data), data), str)).encode("ascii")
