"""One event as one line: for `kobs tail`, `kobs query` and `kobs recover`."""

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING

from kobs.cli.render import SEVERITY_STYLES, Cell
from kobs.events import FLAG_BEGIN, FLAG_END, Event

if TYPE_CHECKING:
    from kobs.recording import Recording

TimeText = Callable[[int], str]


def times(recording: "Recording") -> TimeText:
    """Turns an event's time into text: the wall clock's `14:00:53.808123` (UTC), or seconds on
    the monotonic clock where that is not known."""
    from kobs.export.jsonl import wall_clock

    clock = wall_clock(recording)
    if clock is None:
        return lambda timestamp_ns: f"{timestamp_ns / 1e9:.6f}"
    return lambda timestamp_ns: clock(timestamp_ns)[11:26]


def event_line(event: Event, time: TimeText) -> tuple[Cell, ...]:
    """Time, severity, process, type and payload of an event."""
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
        Cell(f"  {fields(event)}"),
    ]
    if event.causality_id:
        cells.append(Cell(f"  chain={event.causality_id:x}", "dim"))
    if event.truncated:
        cells.append(Cell("  (cut)", "yellow"))
    return tuple(cells)


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
