"""Events as log records, in OpenTelemetry's terms but without its SDK.

`log_data` is the one place that says what a log record has of an event; both the encoder of OTLP
and the objects for the SDK's exporters are made of it. A payload type that is more than an event (a
record of the program's own logging, say) has its own function in `_OWN`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kobs.events import Event
from kobs.levels import Severity


class LogData(NamedTuple):
    """What a log record has beside its time, trace and resource."""

    severity_number: int
    """1 to 24, as OpenTelemetry has it."""
    severity_text: str
    body: Any
    attributes: dict[str, Any]
    event_name: str = ""
    """Empty: it is a log record, and no event."""


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


def log_data(event: Event) -> LogData:
    """What a log record has of an event."""
    return _OWN.get(event.type_name, _of_event)(event)


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


_OWN: dict[str, Callable[[Event], LogData]] = {}
"""Payload types, by name, that are not told as events are."""


def common_attributes(event: Event) -> dict[str, Any]:
    """The attributes that every log record of an event has, whatever its type."""
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
    if event.origin:
        attributes["kobs.origin"] = event.origin
    for key, flag in (("kobs.truncated", event.truncated), ("kobs.partial", event.partial)):
        if flag:
            attributes[key] = True
    return attributes


def event_name(type_name: str) -> str:
    """The name of a payload type as an OpenTelemetry event: `kobs.syscall_exit`."""
    return "kobs." + "".join(
        f"_{char.lower()}" if char.isupper() and at else char.lower()
        for at, char in enumerate(type_name)
    )
