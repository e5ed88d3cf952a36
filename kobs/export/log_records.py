"""What a log record of a program is in OTLP: OpenTelemetry's data model of logs.

Knows no encoder: whoever encodes adds the times, the trace and span id, and the resource.
"""

from typing import Any, NamedTuple

from kobs.events import Event
from kobs.tracing.log_records import Logged, severity_number


class LogFields(NamedTuple):
    """The fields of an OTLP log record that tell what was logged."""

    severity_number: int
    """1 to 24; 0 where the level has none."""
    severity_text: str
    body: str
    attributes: dict[str, Any]
    event_name: str
    """Empty: it is no event of OpenTelemetry's."""
    scope: str
    """Name of the instrumentation scope: the logger."""


def log_fields(event: Event, logged: Logged) -> LogFields:
    """What OTLP says of a log record; `logged` is what a `LogAssembler` made of the event."""
    attributes: dict[str, Any] = {"kobs.event.id": f"{event.id:016x}", "thread.id": event.tid}
    if event.origin:
        attributes["kobs.origin"] = event.origin
    if event.partial:
        attributes["kobs.partial"] = True
    attributes.update(logged.attributes)
    return LogFields(
        severity_number(logged.level), logged.level_name, logged.message, attributes, "",
        logged.logger,
    )  # fmt: skip
