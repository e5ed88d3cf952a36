"""Log records in the ring, and how they are read back.

`LogRecorded` holds what fits in a slot. The rest (the whole of a long message, further fields, an
exception, a stack) is one JSON text, cut into `LogAttributes` that go before it: who reads by time
has all of a record when it comes.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from kobs.events import Event
from kobs.levels import Category, Severity
from kobs.payloads import LogRecorded, _declare
from kobs.schema import U16, U64, PayloadType, Text
from kobs.tracing.records import CUT, MAX_VALUE, OVERFLOW, encode, join_attributes

LOG_TYPES = frozenset({"LogRecorded", "LogAttributes"})
"""Types that log records are made of."""

MESSAGE = "kobs.log.message"
"""In the overflow records: the whole message, where it is longer than `LogRecorded` holds."""
LOGGER = "kobs.log.logger"
"""In the overflow records: the logger, where the recording has no room for more names."""
LEVEL = "kobs.log.level"
"""In the overflow records: the level in words, where the recording has no room for more names."""
MESSAGE_ERROR = "kobs.log.error"
"""Attribute: why the message could not be formatted; it is the text before formatting."""

FILE, LINE, FUNCTION = "code.file.path", "code.line.number", "code.function.name"
STACK = "code.stacktrace"
THREAD = "thread.name"

_NO_NAME = "?"
"""What a name is read back as that the recording had no room for."""
_DATA = 115
_MOST_PARTS = 4096
"""Overflow records of one log record: a sixteenth of a ring."""
_MOST_WAITING = 8192
"""Overflow records whose log record did not come yet; those of lost ones are forgotten."""

_SEVERITIES = (Severity.TRACE, Severity.DEBUG, Severity.INFO, Severity.WARN, Severity.ERROR,
               Severity.CRITICAL)  # fmt: skip

MESSAGE_BYTES: int = LogRecorded.__kobs_schema__.field("message").kind.size  # type: ignore[attr-defined]


@_declare(121, Category.PERFORMANCE, Severity.DEBUG)
class LogAttributes(PayloadType):
    """Part of what does not fit in a `LogRecorded`, which follows."""

    record: U64
    """Which log record: its `overflow`"""
    index: U16
    """Which part, from 0"""
    count: U16
    """How many parts there are"""
    data: Annotated[str, Text(_DATA)]
    """The part of the JSON text"""


class Logged(NamedTuple):
    """A log record with everything that is known of it."""

    logger: str
    message: str
    level: int
    """As `logging` numbers them."""
    level_name: str
    attributes: dict[str, Any]
    """What the program gave, and where it logged, by OpenTelemetry's conventions."""
    fields: dict[str, Any]
    """What the program gave alone."""


def severity_number(level: int) -> int:
    """OpenTelemetry's `SeverityNumber` of a level of `logging`, 0 (unspecified) for none.

    Ten levels of `logging` are four of OpenTelemetry's (10 is DEBUG, 11 DEBUG2, ... 13 to 19
    DEBUG4); below 10, where OpenTelemetry's SDK has none, it is TRACE from 5 (6 is TRACE2, ...).
    """
    if level < 10:
        return 0 if level <= 0 else 1 + min(3, max(0, level - 5))
    tens = min(level // 10, 5)
    return 1 + 4 * tens + min(3, level - 10 * tens)


def severity_of(level: int) -> Severity:
    """The severity of a level of `logging`."""
    return _SEVERITIES[max(0, severity_number(level) - 1) // 4]


def split(rest: Mapping[str, object]) -> list[str]:
    """The texts of the overflow records. A text of more than 64 K characters is cut, and fields
    that go beyond the most that there may be are left out; `CUT` counts both."""
    entries: list[str] = []
    room = _DATA * _MOST_PARTS - len(f'{{"{CUT}":{len(rest)}}}')
    cut = 0
    for key, value in rest.items():
        if isinstance(value, str) and len(value) > MAX_VALUE:
            value = value[:MAX_VALUE]
            cut += 1
        entry = encode({key: value})[1:-1]
        if len(entry) >= room:
            cut += 1
            continue
        room -= len(entry) + 1
        entries.append(entry)
    if cut:
        entries.append(f'"{CUT}":{cut}')
    text = f"{{{','.join(entries)}}}"
    return [text[at : at + _DATA] for at in range(0, len(text), _DATA)]


class LogAssembler:
    """Takes events by time and gives log records with all that belongs to them."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[tuple[int, int, str]]] = {}
        self._count = 0

    def observe(self, event: Event) -> Logged | None:
        """Take an event; the log record that it is, if it is one."""
        kind = event.type_name
        if kind == "LogAttributes":
            part = event.payload
            self._waiting.setdefault(part.record, []).append((part.index, part.count, part.data))
            self._count += 1
            while self._count > _MOST_WAITING:
                self._take(next(iter(self._waiting)))
            return None
        return self._joined(event.payload) if kind == "LogRecorded" else None

    def _joined(self, payload: Any) -> Logged:
        fields: dict[str, Any] = {}
        if payload.overflow:
            parts = self._take(payload.overflow)
            expected = parts[0][1] if parts else 1
            fields = join_attributes(
                {OVERFLOW: expected}, [(index, data) for index, _, data in parts]
            )
        message = fields.pop(MESSAGE, payload.message)
        logger = fields.pop(LOGGER, payload.logger)
        level_name = fields.pop(LEVEL, payload.level_name)
        place = {key: value for key, value in _place(payload) if value and value != _NO_NAME}
        for key in (FILE, FUNCTION, THREAD):  # where the recording had no room for more names
            if key not in place and key in fields:
                place[key] = fields.pop(key)
        return Logged(logger, message, payload.level, level_name, {**place, **fields}, fields)

    def _take(self, record: int) -> list[tuple[int, int, str]]:
        parts = self._waiting.pop(record, [])
        self._count -= len(parts)
        return parts


def _place(payload: Any) -> Iterator[tuple[str, object]]:
    yield FILE, payload.file
    yield LINE, payload.line
    yield FUNCTION, payload.function
    yield THREAD, payload.thread
