"""One field of many events, without decoding their payloads.

An event that was read from a ring keeps its payload's bytes until someone looks at it. A query
over thousands of events wants one value of each: taking that from the bytes is several times
cheaper than making the payload.
"""

from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct
from typing import Any, NamedTuple

from kobs.events import Event
from kobs.fields import Float, Integer, InternedName
from kobs.schema import PayloadType

_TO_MICROSECONDS = {"_ns": 0.001, "_us": 1.0, "_ms": 1000.0}


class Column:
    """A field of events; `pick` names it for each payload type, or says None where there is
    none. With `microseconds`, fields that end in `_ns` and `_ms` are converted."""

    def __init__(
        self, pick: Callable[[type[PayloadType]], str | None], *, microseconds: bool = False
    ) -> None:
        self._pick = pick
        self._microseconds = microseconds
        self._ways: dict[type[PayloadType], _Way] = {}

    def of(self, events: Sequence[Event]) -> list[Any]:
        """The value of each event, None where it has none."""
        values: list[Any] = []
        append = values.append
        last = source = None
        known: dict[int, str] = {}
        for event in events:
            cls = event.type
            if cls is not last:
                last = cls
                way = self._ways.get(cls) or self._way(cls)
                field, unpack, offset, interned, factor = way
            if field is None:
                append(None)
                continue
            decoder = event._decoder
            if decoder is None or unpack is None or decoder.__class__ is not partial:
                value = getattr(event.payload, field)
            else:
                data, strings = decoder.args
                value = unpack(data, offset)[0]
                if interned:
                    if strings != source:
                        source = strings
                        known = {}
                    if value not in known:
                        known[value] = strings(value)
                    value = known[value]
            append(value if factor == 1.0 else value * factor)
        return values

    def _way(self, cls: type[PayloadType]) -> "_Way":
        name = self._pick(cls)
        schema = cls.__kobs_schema__
        if name is None or name not in schema.field_names:
            way = _Way(None, None, 0, False, 1.0)
        else:
            field = schema.field(name)
            plain = isinstance(field.kind, Float | Integer | InternedName)
            way = _Way(
                name,
                Struct("=" + field.kind.code).unpack_from if plain else None,
                field.offset,
                isinstance(field.kind, InternedName),
                _TO_MICROSECONDS.get(name[-3:], 1.0) if self._microseconds else 1.0,
            )
        self._ways[cls] = way
        return way


class _Way(NamedTuple):
    """How to get at a field of a payload type."""

    field: str | None
    unpack: Callable[[bytes, int], tuple[Any, ...]] | None
    """Takes the value from the payload's bytes; None where that is not worth it."""
    offset: int
    interned: bool
    factor: float


def own_durations() -> Column:
    """`Event.duration_us` of many events."""
    return Column(lambda cls: cls.__kobs_schema__.duration_field, microseconds=True)


def names() -> Column:
    """`Event.name` of many events; names that are numbers stay numbers."""
    return Column(lambda cls: cls.__kobs_schema__.name_field)


def payload_field(name: str, *, microseconds: bool = False) -> Column:
    """A payload field of many events."""
    return Column(lambda cls: name, microseconds=microseconds)
