"""One JSON object a line: for `jq`, for other tools, and back into events.

Keys, always all of them, in this order:

    id            number   unique in the session; 0 none
    type          string   payload type
    timestamp_ns  number   monotonic nanoseconds
    severity      string   TRACE DEBUG INFO WARN ERROR CRITICAL
    category      string   PROCESS MEMORY SYSCALL NETWORK IPC SCHEDULER SECURITY ...
    pid           number   the process it is about
    tid           number   the thread that recorded it
    causality_id  number   the chain (low 64 bits of the trace id); 0 none
    parent        number   id of the event that caused it; 0 none
    span_id       number   current span; 0 none
    link          number   token that joins a send to its receive; 0 none
    origin        string   on whose behalf (a test); "" none
    truncated     boolean  text in the payload was cut
    partial       boolean  its chain was sampled out, it was kept for its severity
    payload       object   the type's fields by name; enumerations by name
    scope         string   "begin" or "end" of a scope (the end's parent is the begin); null
    recording     number   the recording (process) that it comes from
    time          string   wall time, ISO 8601 UTC with nanoseconds; null if unknown

Numbers are exact integers of up to 64 bits. Floats that JSON has no word for are the strings
"NaN", "Infinity" and "-Infinity". Text is ASCII with `\\u` escapes.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, BinaryIO

from kobs.errors import FieldError, SchemaError
from kobs.events import (
    FLAG_BEGIN,
    FLAG_END,
    FLAG_PARTIAL,
    FLAG_TRUNCATED,
    Category,
    Event,
    Severity,
)
from kobs.fields import Enumeration, Float
from kobs.schema import registered_types

if TYPE_CHECKING:
    from kobs._core.contract import RawSlot
    from kobs.export.excerpt import Excerpt
    from kobs.recording import Part, Recording

_LARGEST = (1 << 63) - 1
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def export_jsonl(recording: "Recording", file: BinaryIO) -> int:
    """Write the events of a recording or session by time; return how many."""
    clock = wall_clock(recording)
    offset = _offset_ns(recording)
    count = 0
    for part, slots in recording.portions():
        types = part.decoder.native

        def in_python(slot: "RawSlot", part: "Part" = part) -> bytes | None:
            event = part.decode(slot)
            return None if event is None else f"{line(event, clock)}\n".encode("ascii")

        if types is None or not -_LARGEST <= (offset or 0) <= _LARGEST:
            made = [text for slot in slots if (text := in_python(slot)) is not None]
            file.write(b"".join(made))
            count += len(made)
        else:
            lines, written, undecoded = types.lines(slots, offset, clock, in_python)
            file.write(lines)
            count += written
            part.undecoded += undecoded
    return count


def export_excerpt(excerpt: "Excerpt", file: BinaryIO) -> int:
    """Write the events of an excerpt; return how many."""
    clock = wall_clock(excerpt)
    count = 0
    for event in excerpt.events():
        file.write(f"{line(event, clock)}\n".encode("ascii"))
        count += 1
    return count


def line(event: Event, clock: "Clock | None" = None) -> str:
    """An event as one line of JSON, without the line's end."""
    return dumps(to_dict(event, clock))


def to_dict(event: Event, clock: "Clock | None" = None) -> dict[str, Any]:
    """The object of an event's line."""
    made = event.to_dict()
    flags = event.flags
    made["scope"] = "begin" if flags & FLAG_BEGIN else "end" if flags & FLAG_END else None
    made["recording"] = event.recording
    made["time"] = None if clock is None else clock(event.timestamp_ns)
    return made


def read_jsonl(lines: Iterable[str | bytes]) -> Iterator[Event]:
    """The events of exported lines. Raises `SchemaError` for a line that is none, or whose
    payload type this process does not know."""
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            made = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SchemaError(f"line {number} is no JSON: {error}") from None
        try:
            yield event_from_dict(made)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, SchemaError):
                raise
            raise SchemaError(f"line {number} is no exported event: {error!r}") from error


def event_from_dict(made: Mapping[str, Any]) -> Event:
    """The event of an object as `to_dict` makes it, in a recording again."""
    cls = registered_types().get(made["type"])
    if cls is None:
        raise SchemaError(
            f"the payload type {made['type']!r} is not declared here; import the module that "
            "declares it first"
        )
    values = {}
    for field in cls.__kobs_schema__.fields:
        value = made["payload"][field.name]
        if isinstance(field.kind, Enumeration) and isinstance(value, str):
            value = field.kind.members[value]
        elif isinstance(field.kind, Float) and isinstance(value, str):
            value = _NOT_FINITE[value]
        values[field.name] = value
    try:
        payload = cls(**values)
    except FieldError as error:
        raise SchemaError(str(error)) from error
    event = Event(
        Severity[made["severity"]],
        Category[made["category"]],
        payload,
        pid=made["pid"],
        tid=made["tid"],
        timestamp_ns=made["timestamp_ns"],
        causality_id=made["causality_id"],
        parent=made["parent"],
        span_id=made["span_id"],
        link=made["link"],
    )
    flags = FLAG_TRUNCATED * made["truncated"] | FLAG_PARTIAL * made["partial"]
    flags |= {"begin": FLAG_BEGIN, "end": FLAG_END, None: 0}[made["scope"]]
    for name, value in (("id", made["id"]), ("origin", made["origin"]), ("flags", flags)):
        object.__setattr__(event, name, value)
    return event


def dumps(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON that every reader takes."""
    separators = (",", ":") if indent is None else None
    try:
        return json.dumps(value, indent=indent, separators=separators, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(_plain(value), indent=indent, separators=separators, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


Clock = Callable[[int], str]


def wall_clock(recording: "Recording | Excerpt") -> "Clock | None":
    """Turns monotonic nanoseconds into wall time as text; None where that is not known."""
    offset = _offset_ns(recording)
    if offset is None:
        return None
    from datetime import UTC, datetime

    seconds: dict[int, str] = {}

    def at(timestamp_ns: int) -> str:
        second, rest = divmod(timestamp_ns + offset, 1_000_000_000)
        text = seconds.get(second)
        if text is None:
            seconds.clear()
            try:
                text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            except (ValueError, OverflowError, OSError):
                text = "9999-12-31T23:59:59"
            seconds[second] = text
        return f"{text}.{rest:09d}Z"

    return at


def _offset_ns(recording: "Recording | Excerpt") -> int | None:
    """Wall time minus monotonic time; None where it is not known."""
    info = recording.session_info
    wall = int(info.get("started_wall_ns") or 0)
    return wall - int(info.get("started_monotonic_ns") or 0) if wall else None
