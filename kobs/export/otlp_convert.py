"""From kobs's events to the objects of OpenTelemetry's SDK.

The SDK's logs API is private still (`_logs`): from 1.39 on it is what is used here, and what does
not have it is refused with a message.
"""

import os
import platform
import sys
from typing import Any

from kobs.errors import MissingExtraError
from kobs.events import Event
from kobs.export.otlp_spans import Trace
from kobs.levels import Severity

try:
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk._logs.export import LogRecordExporter as LogRecordExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, set_span_in_context

    from kobs.export.readable import SCOPE, clean, span_context, text, to_span as to_span
except ImportError as error:
    raise MissingExtraError(
        f"export to OTLP needs opentelemetry-sdk 1.39 or later: {error}; "
        "install it with: pip install 'kobs[otlp]'"
    ) from error

_SEVERITIES = {
    Severity.TRACE: SeverityNumber.TRACE,
    Severity.DEBUG: SeverityNumber.DEBUG,
    Severity.INFO: SeverityNumber.INFO,
    Severity.WARN: SeverityNumber.WARN,
    Severity.ERROR: SeverityNumber.ERROR,
    Severity.CRITICAL: SeverityNumber.FATAL,
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


def process_resource() -> Resource:
    """What this process is, by the conventions and `OTEL_RESOURCE_ATTRIBUTES`."""
    return Resource.create(
        {
            "process.pid": os.getpid(),
            "process.executable.name": os.path.basename(sys.executable or "python"),
            "process.command_args": tuple(text(argument) for argument in sys.orig_argv),
            "process.runtime.name": sys.implementation.name,
            "process.runtime.version": platform.python_version(),
        }
    )


def recorded_resource(*, pid: int, ppid: int, command: str, session: str) -> Resource:
    """What a recorded process was."""
    attributes: dict[str, Any] = {"process.pid": pid, "process.parent_pid": ppid}
    if command:
        attributes["process.command_line"] = text(command)
        attributes["process.executable.name"] = os.path.basename(text(command).split()[0])
    if session:
        attributes["kobs.session.id"] = session
    return Resource.create(attributes)


def to_log_record(
    event: Event, trace: Trace | None, offset_ns: int, resource: Resource
) -> ReadableLogRecord:
    """A log record for the SDK's exporters; `offset_ns` is wall time minus monotonic time."""
    wall_ns = event.timestamp_ns + offset_ns
    context = INVALID_SPAN_CONTEXT
    if trace is not None:
        context = span_context(trace, event.span_id)
    # An empty context would be replaced by the exporting code's own.
    around = set_span_in_context(NonRecordingSpan(context), Context())
    record = LogRecord(
        timestamp=wall_ns,
        observed_timestamp=wall_ns,
        context=around,
        severity_number=_SEVERITIES[event.severity],
        severity_text=event.severity.name,
        body=text(repr(event.payload)),
        attributes=clean(_log_attributes(event)),
        event_name=event_name(event.type_name),
    )
    return ReadableLogRecord(record, resource, SCOPE)


def event_name(type_name: str) -> str:
    """The name of a payload type as an OpenTelemetry event: `kobs.syscall_exit`."""
    return "kobs." + "".join(
        f"_{char.lower()}" if char.isupper() and at else char.lower()
        for at, char in enumerate(type_name)
    )


def _log_attributes(event: Event) -> dict[str, Any]:
    type_name = event.type_name
    attributes: dict[str, Any] = {
        "kobs.type": type_name,
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
    for name, value in event.payload.to_dict().items():
        key = _CONVENTIONS.get((type_name, name), f"kobs.{name}")
        attributes[key] = str(value) if key == "messaging.destination.name" else value
    return attributes
