"""From a slot's bytes to an event."""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from operator import attrgetter
from struct import Struct
from typing import TYPE_CHECKING, Any, Literal, Protocol

from kobs._core.contract import RawSlot
from kobs._core.layout import SLOT_BODY_FORMAT, SLOT_HEADER_SIZE
from kobs.errors import SchemaError
from kobs.events import Event, _Fields, _restore
from kobs.ids import event_id
from kobs.levels import Category, Severity
from kobs.schema import PayloadType, Schema, registered_types, schema_from_record

if TYPE_CHECKING:
    from kobs._core._native import Types

_HEADER = Struct("=Q" + SLOT_BODY_FORMAT[1:]).unpack_from
_SEVERITIES = list(Severity)
_CATEGORIES = list(Category)
_FREE_THREADED = "t" in sys.abiflags
_ALL_FIELDS = attrgetter(*_Fields.__slots__)


class Source(Protocol):
    """What the decoder needs of a ring or an attached recording."""

    recording: int

    def string(self, string_id: int) -> str:
        """The string of an id."""
        ...


def field_reader(cls: type[PayloadType], name: str) -> Callable[[Event], Any]:
    """What gives one field of events of a payload type: only that field is decoded where the
    payload was not looked at."""
    (field,) = [field for field in cls.__kobs_schema__.fields if field.name == name]
    unpack = Struct("=" + field.kind.code).unpack_from
    offset, decode = field.offset, field.kind.decode

    def read(event: Event) -> Any:
        undecoded = event._decoder
        if undecoded is None:
            return getattr(event.payload, name)
        data, strings = undecoded.args
        return decode(unpack(data, offset), strings)

    return read


class EventDecoder:
    """Makes events of slots; payloads are decoded when someone looks at them.

    `schemas` gives the (type id, JSON record) pairs of a recording's header; without it the
    types are this process's own.
    """

    def __init__(
        self, source: Source, schemas: Callable[[], Iterable[tuple[int, bytes]]] | None = None
    ) -> None:
        self.source = source
        self._records = schemas
        self._types: dict[int, Schema] = {}
        self._refused: set[int] = set()
        self._native: Types | Literal[False] | None = False

    @property
    def native(self) -> "Types | None":
        """What the C core needs to look at slots itself; None without it."""
        if self._native is False:
            from kobs.slots import types_of

            self._native = types_of(self)
        return self._native

    def decode(self, slot: RawSlot) -> Event | None:
        """The event of a slot; None where its type is not declared in the recording."""
        (
            _stamp, timestamp_ns, causality_id, parent, span_id, link, pid, tid, type_id,
            severity_category, flags, origin,
        ) = _HEADER(slot.data)  # fmt: skip
        schema = self._types.get(type_id) or self._find(type_id)
        if schema is None:
            return None
        severity = severity_category & 15
        category = severity_category >> 4
        if severity >= len(_SEVERITIES) or category >= len(_CATEGORIES):
            return None
        event = object.__new__(_Fields)
        event.severity = _SEVERITIES[severity]
        event.category = _CATEGORIES[category]
        event.type = schema.cls
        event.pid = pid
        event.tid = tid
        event.timestamp_ns = timestamp_ns
        event.causality_id = causality_id
        event.parent = parent
        event.span_id = span_id
        event.link = link
        event.id = event_id(self.source.recording, slot.lane, slot.ticket)
        event.flags = flags
        event.origin = self.source.string(origin) if origin else ""
        event._payload = None
        event._decoder = partial(schema.decode, slot.data[SLOT_HEADER_SIZE:], self.source.string)
        if _FREE_THREADED:  # where a change of class has every other thread stop
            return _restore(_ALL_FIELDS(event))
        event.__class__ = Event
        return event  # type: ignore[return-value]

    @property
    def damage(self) -> list[str]:
        """The declarations that make no sense, a line each."""
        return [
            f"the declaration of payload type {type_id} makes no sense"
            for type_id in sorted(self._refused)
        ]

    def schema(self, type_id: int) -> Schema | None:
        """The schema of a type id; None where it is not declared."""
        return self._types.get(type_id) or self._find(type_id)

    def type_of(self, type_id: int) -> type[PayloadType] | None:
        """The payload class of a type id; None where it is not declared."""
        schema = self.schema(type_id)
        return None if schema is None else schema.cls

    def _find(self, type_id: int) -> Schema | None:
        if self._records is None:
            for cls in registered_types().values():
                schema = cls.__kobs_schema__
                self._types.setdefault(schema.type_id, schema)
        else:
            for known, record in self._records():
                if not known or known in self._types or known in self._refused:
                    continue
                try:
                    self._types[known] = schema_from_record(known, record)
                except SchemaError:
                    # It costs the events of this type, not those of the types behind it.
                    self._refused.add(known)
        return self._types.get(type_id)
