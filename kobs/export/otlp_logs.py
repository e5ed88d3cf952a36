"""Events as log records, in OpenTelemetry's terms but without its SDK.

`log_data` is the one place that says what a log record has of an event; both the encoder of OTLP
and the objects for the SDK's exporters are made of it. What the program logged is a log record as
OpenTelemetry's data model of logs has it; any other event is one with an event name.
"""

from typing import Any, NamedTuple

from kobs.events import Event
from kobs.levels import Severity
from kobs.tracing.log_records import Logged, severity_number


class LogData(NamedTuple):
    """What a log record has beside its time, trace and resource."""

    severity_number: int
    """1 to 24, as OpenTelemetry has it; 0 where a level of `logging` has none."""
    severity_text: str
    body: Any
    attributes: dict[str, Any]
    event_name: str = ""
    """Empty: it is a log record, and no event."""
    scope: str = ""
    """Name of its instrumentation scope: the logger. Empty: kobs's own."""


SEVERITY_NUMBERS = {
    Severity.TRACE: 1,
    Severity.DEBUG: 5,
    Severity.INFO: 9,
    Severity.WARN: 13,
    Severity.ERROR: 17,
    Severity.CRITICAL: 21,
}

_CONVENTIONS = {
    ("ProcessTerminated", "exit_code"): "process.exit.code",
    ("ProcessCreated", "name"): "process.executable.name",
    ("ConnectionEstablished", "protocol"): "network.transport",
    ("ConnectionEstablished", "local_port"): "network.local.port",
    ("ConnectionEstablished", "remote_addr"): "network.peer.address",
    ("NetworkError", "error"): "error.type",
    ("MessageSent", "queue_id"): "messaging.destination.name",
    ("MessageSent", "size"): "messaging.message.body.size",
    ("MessageReceived", "queue_id"): "messaging.destination.name",
    ("MessageReceived", "size"): "messaging.message.body.size",
    ("FileOpened", "path"): "file.path",
    ("FileSlow", "path"): "file.path",
    ("FileChanged", "path"): "file.path",
    ("MountChanged", "path"): "file.path",
}
"""Payload fields that OpenTelemetry's semantic conventions have a name for; the others are
`kobs.` and their own name."""


def log_data(event: Event, logged: Logged | None = None) -> LogData:
    """What a log record has of an event; `logged` is what a `LogAssembler` made of it where it is
    a program's log record."""
    return _of_event(event) if logged is None else _of_record(event, logged)


def _of_record(event: Event, logged: Logged) -> LogData:
    attributes = {
        "kobs.event.id": f"{event.id:016x}",
        "process.pid": event.pid,
        "thread.id": event.tid,
        **_marks(event),
        **logged.attributes,
    }
    return LogData(
        severity_number(logged.level), logged.level_name, logged.message, attributes,
        scope=logged.logger,
    )  # fmt: skip


def _of_event(event: Event) -> LogData:
    type_name = event.type_name
    attributes = common_attributes(event)
    for name, value in event.payload.to_dict().items():
        key = _CONVENTIONS.get((type_name, name), f"kobs.{name}")
        attributes[key] = str(value) if key == "messaging.destination.name" else value
    return LogData(
        SEVERITY_NUMBERS[event.severity], event.severity.name, repr(event.payload), attributes,
        event_name(type_name),
    )  # fmt: skip


def common_attributes(event: Event) -> dict[str, Any]:
    """The attributes that the log record of every event has, whatever its type."""
    attributes: dict[str, Any] = {
        "kobs.type": event.type_name,
        "kobs.category": event.category.name,
        "kobs.event.id": f"{event.id:016x}",
        "process.pid": event.pid,
        "thread.id": event.tid,
    }
    for key, number in (("kobs.event.parent", event.parent), ("kobs.link", event.link)):
        if number:
            attributes[key] = f"{number:016x}"
    attributes.update(_marks(event))
    if event.truncated:
        attributes["kobs.truncated"] = True
    return attributes


def _marks(event: Event) -> dict[str, Any]:
    marks: dict[str, Any] = {"kobs.origin": event.origin} if event.origin else {}
    return {**marks, "kobs.partial": True} if event.partial else marks


def event_name(type_name: str) -> str:
    """The name of a payload type as an OpenTelemetry event: `kobs.syscall_exit`."""
    return "kobs." + "".join(
        f"_{char.lower()}" if char.isupper() and at else char.lower()
        for at, char in enumerate(type_name)
    )
