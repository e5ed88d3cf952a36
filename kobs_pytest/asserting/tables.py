"""Events as numbers and as tables of other libraries, which are imported when they are asked for.

PYTEST_DONT_REWRITE
"""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from enum import IntEnum
from typing import Any

from kobs._analysis.columns import payload_field
from kobs._analysis.stats import Stats
from kobs.errors import FieldError, MissingExtraError
from kobs.events import Event
from kobs.schema import Field

HEADER = {
    "id": "uint64", "timestamp_ns": "uint64", "type": "string", "severity": "string",
    "category": "string", "pid": "uint32", "tid": "uint32", "causality_id": "uint64",
    "parent": "uint64", "span_id": "uint64", "link": "uint64", "origin": "string",
    "truncated": "bool", "partial": "bool",
}  # fmt: skip
"""Columns that every event has, with their Arrow types."""


def stats(events: Sequence[Event], field: str) -> Stats:
    """Numbers about a payload field. Raises `FieldError` where it is of none of the events, or no
    number."""
    types = {event.type for event in events}
    fields = {name: cls for cls in types for name in cls.__kobs_schema__.field_names}
    if events and field not in fields:
        near = get_close_matches(field, fields, n=1)
        raise FieldError(
            f"none of the events has a field {field!r}; "
            + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(fields))}")
        )
    values = [value for value in payload_field(field).of(events) if value is not None]
    for value in values:
        if not isinstance(value, int | float):
            raise FieldError(f"the field {field!r} is no number: {value!r}")
    return Stats(values)


def to_arrow(events: Sequence[Event]) -> Any:
    """A `pyarrow.Table`."""
    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError(
            "events.to_arrow() needs pyarrow, which is not installed: pip install 'kobs[arrow]'"
        ) from None
    columns = _columns(events)
    arrays = {
        name: pyarrow.array(values, type=_arrow_type(pyarrow, arrow))
        for name, (arrow, values) in columns.items()
    }
    return pyarrow.table(arrays)


def to_pandas(events: Sequence[Event]) -> Any:
    """A `pandas.DataFrame`; ids are whole numbers, which a column with gaps cannot be."""
    try:
        import pandas
    except ImportError:
        raise MissingExtraError(
            "events.to_pandas() needs pandas, which is not installed: pip install 'kobs[pandas]'"
        ) from None
    return pandas.DataFrame({
        name: pandas.Series(values, dtype=_pandas_type(arrow, values))
        for name, (arrow, values) in _columns(events).items()
    })  # fmt: skip


def _columns(events: Sequence[Event]) -> dict[str, tuple[str, list[Any]]]:
    """By name: the Arrow type and the value of each event. A payload field that is named as a
    header column, or that has another type in another payload type, is named `Type.field`."""
    columns: dict[str, tuple[str, list[Any]]] = {
        name: (arrow, [_header(event, name) for event in events]) for name, arrow in HEADER.items()
    }
    declared: dict[str, dict[str, list[str]]] = {}
    for cls in dict.fromkeys(event.type for event in events):
        for field in cls.__kobs_schema__.fields:
            kinds = declared.setdefault(field.name, {})
            kinds.setdefault(_kind(field), []).append(cls.__kobs_schema__.name)
    for name, kinds in declared.items():
        for arrow, names in kinds.items():
            if len(kinds) == 1 and name not in HEADER:
                columns[name] = arrow, [_value(e, name, arrow, names) for e in events]
                continue
            for one in names:
                columns[f"{one}.{name}"] = arrow, [_value(e, name, arrow, [one]) for e in events]
    return columns


def _header(event: Event, name: str) -> Any:
    if name == "type":
        return event.type_name
    value = getattr(event, name)
    return value.name if isinstance(value, IntEnum) else value


def _kind(field: Field) -> str:
    arrow = field.kind.arrow
    return "string" if arrow == "dictionary" else arrow


def _value(event: Event, name: str, arrow: str, types: Sequence[str]) -> Any:
    if event.type_name not in types:
        return None
    value = getattr(event.payload, name)
    if arrow != "string":
        return value
    if isinstance(value, IntEnum):
        return value.name
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _arrow_type(pyarrow: Any, name: str) -> Any:
    return pyarrow.bool_() if name == "bool" else getattr(pyarrow, name)()


def _pandas_type(arrow: str, values: Sequence[Any]) -> str:
    if arrow in ("string", "null"):
        return "object"
    if arrow == "bool":
        return "boolean" if None in values else "bool"
    if arrow.startswith("float"):
        return arrow
    return arrow.replace("uint", "UInt").replace("int", "Int") if None in values else arrow
