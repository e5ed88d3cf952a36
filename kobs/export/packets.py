"""The packets of a Perfetto trace, as bytes. Field numbers are those of Perfetto's
`perfetto_trace.proto`; each function names the message it writes."""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from kobs.events import Event
from kobs.export.protobuf import double, fixed64, integer, message, string

if TYPE_CHECKING:
    from kobs.recording import ProcessRecord

_MONOTONIC = 3
_REALTIME = 1
_SEQUENCE = integer(10, 1)
_CLEARED = 1
_NEEDS_STATE = integer(13, 2)
_CLOCK = integer(58, _MONOTONIC)
_FIXED_PART = _CLOCK + _SEQUENCE + _NEEDS_STATE
_MOST_NAMES = 4096
_TRUE = integer(2, 1)
_UNITS = {"": b"", "items": integer(3, 2)}


def wrap(packet: bytes) -> bytes:
    """A `TracePacket` of a `Trace`."""
    return message(1, packet)


class Names:
    """Strings that repeat, as ids (`InternedData`)."""

    def __init__(self) -> None:
        self._events: dict[str, int] = {}
        self._categories: dict[str, int] = {}
        self._keys: dict[str, int] = {}

    def event(self, name: str, *, bounded: bool = True) -> int | str:
        """An event's name: its id, or the name itself where there are too many to intern."""
        number = self._events.get(name)
        if number is None:
            if not bounded or len(self._events) >= _MOST_NAMES:
                return name
            number = self._events[name] = len(self._events) + 1
        return number

    def category(self, name: str) -> int:
        """The id of a category."""
        return self._categories.setdefault(name, len(self._categories) + 1)

    def key(self, name: str) -> int:
        """The id of a debug annotation's name."""
        return self._keys.setdefault(name, len(self._keys) + 1)

    def interned(self) -> bytes:
        """The packet that defines all ids; it stands before the first use."""
        data = b"".join(
            message(field, integer(1, number) + string(2, name))
            for field, table in ((1, self._categories), (2, self._events), (3, self._keys))
            for name, number in table.items()
        )
        return _SEQUENCE + integer(13, _CLEARED) + message(12, data)


class Annotations:
    """An event's fields as `DebugAnnotation`s: what the UI shows for a selected slice."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._headers: dict[str, bytes] = {}
        self._commons: dict[tuple[object, ...], bytes] = {}

    def event(self, event: Event, begin: Event | None = None, *, in_flight: bool = False) -> bytes:
        """All of an event: the payload's fields, and its header as `event`. `begin` is the
        event that opened the slice."""
        parts = []
        if begin is not None:
            parts += self._payload(begin, event.type.__kobs_schema__.field_names)
        parts += self._payload(event)
        entries = [self._common(event)]
        for name, value in (
            ("id", event.id),
            ("begin_id", begin.id if begin is not None else 0),
            ("parent", (begin or event).parent),
            ("causality_id", event.causality_id),
            ("span_id", event.span_id),
            ("link", event.link),
        ):
            if value:
                entries.append(message(11, self._name(name) + integer(7, value)))
        if event.origin:
            entries.append(message(11, self._name("origin") + string(6, event.origin)))
        if event.flags or in_flight:
            for name, flag in (
                ("truncated", event.truncated),
                ("partial", event.partial),
                ("in_flight", in_flight),
            ):
                if flag:
                    entries.append(message(11, self._name(name) + _TRUE))
        parts.append(message(4, self._name("event") + b"".join(entries)))
        return b"".join(parts)

    def _common(self, event: Event) -> bytes:
        """Type, severity and process: the same again and again."""
        key = event.type, event.severity, event.pid
        made = self._commons.get(key)
        if made is None:
            made = b"".join(
                message(11, self._name(name) + value)
                for name, value in (
                    ("type", string(6, event.type_name)),
                    ("severity", string(6, event.severity.name)),
                    ("pid", integer(3, event.pid)),
                )
            )
            if len(self._commons) < _MOST_NAMES:
                self._commons[key] = made
        return made

    def _payload(self, event: Event, without: Sequence[str] = ()) -> list[bytes]:
        payload: Any = event.payload
        return [
            message(4, self._name(name) + _value(getattr(payload, name)))
            for name in event.type.__kobs_schema__.field_names
            if name not in without
        ]

    def _name(self, name: str) -> bytes:
        made = self._headers.get(name)
        if made is None:
            made = self._headers[name] = integer(1, self._names.key(name))
        return made


def _value(value: object) -> bytes:
    if isinstance(value, bool):
        return integer(2, value)
    if isinstance(value, IntEnum):
        return string(6, value.name)
    if isinstance(value, int):
        if -(1 << 63) <= value < 1 << 64:
            return integer(4, value) if value < 0 else integer(3, value)
        return string(6, str(value))
    if isinstance(value, float):
        return double(5, value)
    if isinstance(value, dict):
        return b"".join(
            message(11, string(10, str(key)) + _value(entry)) for key, entry in value.items()
        )
    if isinstance(value, list | tuple):
        return b"".join(message(12, _value(entry)) for entry in value)
    return string(6, str(value))


def track_event(
    kind: int,
    track: int,
    name: int | str = 0,
    category: int = 0,
    annotations: bytes = b"",
    flows: Sequence[int] = (),
) -> bytes:
    """A `TrackEvent`; the names are ids, or the name itself."""
    parts = [integer(9, kind), integer(11, track)]
    if isinstance(name, str):
        parts.append(string(23, name))
    elif name:
        parts.append(integer(10, name))
    if category:
        parts.append(integer(3, category))
    parts.append(annotations)
    parts += [fixed64(47, flow) for flow in flows]
    return b"".join(parts)


def counter_event(kind: int, track: int, value: float) -> bytes:
    """A `TrackEvent` with a counter's value."""
    if isinstance(value, int) and value < 1 << 63:
        amount = integer(30, value)
    else:
        amount = double(44, float(value))
    return integer(9, kind) + integer(11, track) + amount


def track_packet(time: int, body: bytes, flows: Iterable[int] = ()) -> bytes:
    """The packet of a `TrackEvent`, with the arrows that leave from it."""
    more = b"".join([fixed64(47, flow) for flow in flows])
    return wrap(integer(8, time) + _FIXED_PART + message(11, body + more))


def _descriptor(data: bytes) -> bytes:
    return wrap(_SEQUENCE + message(60, data))


def process_descriptor(track: int, pid: int, command: str) -> bytes:
    """A process's `TrackDescriptor`."""
    words = command.split()
    process = integer(1, pid) + b"".join(string(2, word) for word in words)
    process += string(6, command or f"process {pid}")
    return _descriptor(integer(1, track) + message(3, process))


def thread_descriptor(track: int, parent: int, pid: int, tid: int) -> bytes:
    """A thread's `TrackDescriptor`."""
    name = "main thread" if tid == pid else f"thread {tid}" if tid else "(thread unknown)"
    thread = integer(1, pid) + integer(2, tid) + string(5, name)
    return _descriptor(integer(1, track) + integer(5, parent) + message(4, thread))


def lane_descriptor(track: int, parent: int) -> bytes:
    """The `TrackDescriptor` of a further track of a thread."""
    return _descriptor(integer(1, track) + integer(5, parent) + string(2, "concurrent"))


def counter_descriptor(track: int, parent: int, name: str, unit: str) -> bytes:
    """A counter's `TrackDescriptor`."""
    counter = _UNITS[unit] if unit in _UNITS else string(6, unit)
    return _descriptor(
        integer(1, track) + integer(5, parent) + string(2, name) + message(8, counter)
    )


def clock_snapshot(monotonic_ns: int, wall_ns: int) -> bytes:
    """A `ClockSnapshot`: times in the trace are monotonic, and when that was by the wall clock."""
    clocks = message(1, integer(1, _MONOTONIC) + integer(2, monotonic_ns))
    if wall_ns:
        clocks += message(1, integer(1, _REALTIME) + integer(2, wall_ns))
    return wrap(
        integer(8, monotonic_ns) + _CLOCK + _SEQUENCE + message(6, clocks + integer(2, _MONOTONIC))
    )


def process_tree(records: "Iterable[ProcessRecord]") -> bytes:
    """A `ProcessTree`: who started whom."""
    processes = b"".join(
        message(
            1,
            integer(1, record.pid)
            + integer(2, record.ppid)
            + b"".join(string(3, word) for word in record.command.split()),
        )
        for record in records
    )
    return wrap(_SEQUENCE + message(2, processes))
