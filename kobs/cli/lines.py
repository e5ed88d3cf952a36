"""One event as one line: for `kobs tail`, `kobs query` and `kobs recover`.

A log record is a line with its fields, and the stack of its exception below it; the `LogAttributes`
that these come from have no line of their own then.
"""

import os
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import TYPE_CHECKING

from kobs.cli.render import SEVERITY_STYLES, Cell, Screen
from kobs.events import FLAG_BEGIN, FLAG_END, Event
from kobs.filters import EventFilter
from kobs.tracing.log_records import FILE, LINE, STACK, LogAssembler, Logged
from kobs.tracing.records import INCOMPLETE

if TYPE_CHECKING:
    from kobs.recording import Recording

_STACKS = ("exception.stacktrace", STACK)
"""What is told below a log record's line."""

TimeText = Callable[[int], str]


def times(recording: "Recording") -> TimeText:
    """Turns an event's time into text: the wall clock's `14:00:53.808123` (UTC), or seconds on
    the monotonic clock where that is not known."""
    from kobs.export.jsonl import wall_clock

    clock = wall_clock(recording)
    if clock is None:
        return lambda timestamp_ns: f"{timestamp_ns / 1e9:.6f}"
    return lambda timestamp_ns: clock(timestamp_ns)[11:26]


class Lines:
    """The lines of a recording's events."""

    def __init__(self, recording: "Recording") -> None:
        self._recording = recording
        self._time = times(recording)
        self._logs = LogAssembler()

    def is_part(self, event: Event) -> bool:
        """Whether an event has no line of its own: it is part of a log record, and is kept until
        that one comes."""
        if event.type_name != "LogAttributes":
            return False
        self._logs.observe(event)
        return True

    def show(self, out: Screen, events: Iterable[Event], indent: str = "") -> None:
        """The lines of events of which there are no more: parts of log records that are not among
        them are looked up."""
        shown = list(events)
        missing = {e.payload.overflow for e in shown if e.type_name == "LogRecorded"} - {0}
        told = [
            event
            for event in shown
            if event.type_name != "LogAttributes" or event.payload.record not in missing
        ]
        if missing:
            for part in self._parts():
                if part.payload.record in missing:
                    self._logs.observe(part)
        for event in told:
            self.line(out, event, indent)

    def line(self, out: Screen, event: Event, indent: str = "") -> None:
        """The line of an event, and a log record's stack."""
        logged = self._logs.observe(event)
        if logged is None:
            out.line(indent, *_cells(event, self._time, fields(event), cut=event.truncated))
            return
        cut = INCOMPLETE in logged.fields
        out.line(indent, *_cells(event, self._time, _said(logged), cut=cut))
        for key in _STACKS:
            for text in str(logged.fields.get(key, "")).splitlines():
                out.line(f"{indent}    ", Cell(text, "dim"))

    def _parts(self) -> Iterable[Event]:
        from kobs.query import Query

        parts = EventFilter().among("type_name", {"LogAttributes"})
        return self._recording.query(Query().passing(parts)).events


def _cells(event: Event, time: TimeText, told: str, *, cut: bool) -> list[Cell]:
    """Time, severity, process, type and what is told of an event."""
    style = SEVERITY_STYLES[event.severity.name]
    marks = ""
    if event.flags & FLAG_BEGIN:
        marks = " {"
    elif event.flags & FLAG_END:
        marks = " }"
    cells = [
        Cell(time(event.timestamp_ns), "dim"),
        Cell(f" {event.severity.name:<8}", style),
        Cell(f" {event.pid:<7}", "dim"),
        Cell(f" {event.type_name}{marks}", style if style not in ("", "dim") else "bold"),
        Cell(f"  {told}"),
    ]
    if event.causality_id:
        cells.append(Cell(f"  chain={event.causality_id:x}", "dim"))
    if cut:
        cells.append(Cell("  (cut)", "yellow"))
    return cells


def _said(logged: Logged) -> str:
    """Logger, message, fields and place of a log record."""
    pairs = [
        f" {key}={brief(value)}"
        for key, value in logged.fields.items()
        if key not in (*_STACKS, INCOMPLETE)
    ]
    place = os.path.basename(str(logged.attributes.get(FILE, "")))
    if line := logged.attributes.get(LINE):
        place += f":{line}"
    return f"{logged.logger}: {logged.message}{''.join(pairs)}" + (f"  ({place})" if place else "")


def fields(event: Event) -> str:
    """The payload as `name=value` pairs."""
    payload = event.payload
    return " ".join(
        f"{name}={brief(getattr(payload, name))}" for name in event.type.__kobs_schema__.field_names
    )


def brief(value: object) -> str:
    """A payload's value in a line of text."""
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and (" " in value or not value):
        return repr(value)
    return str(value)
