"""From kobs's events and spans to the objects of OpenTelemetry's SDK.

The SDK's logs API is private still (`_logs`): from 1.39 on it is what is used here, and what does
not have it is refused with a message.
"""

import os
import platform
import sys
from collections.abc import Mapping
from typing import Any

from kobs import __version__
from kobs.errors import MissingExtraError
from kobs.events import Event
from kobs.export.log_records import log_fields
from kobs.export.otlp_spans import FinishedSpan, Trace
from kobs.levels import Category, Severity
from kobs.tracing.log_records import Logged

try:
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk._logs.export import LogRecordExporter as LogRecordExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event as SpanEvent, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import (
        INVALID_SPAN_CONTEXT,
        Link,
        NonRecordingSpan,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
        TraceState,
        set_span_in_context,
    )
except ImportError as error:
    raise MissingExtraError(
        f"export to OTLP needs opentelemetry-sdk 1.39 or later: {error}; "
        "install it with: pip install 'kobs[otlp]'"
    ) from error

SCOPE = InstrumentationScope("kobs", __version__)

_LARGEST = (1 << 63) - 1
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_KINDS = {kind.name.lower(): kind for kind in SpanKind}
_STATUSES = {"ok": StatusCode.OK, "error": StatusCode.ERROR}
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
_EXCEPTION = ("exception.type", "exception.message", "exception.stacktrace")


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


def to_span(span: FinishedSpan, offset_ns: int, resource: Resource) -> ReadableSpan:
    """A span for the SDK's exporters; `offset_ns` is wall time minus monotonic time."""
    ended_ns = span.ended_ns + offset_ns
    own = _context(span.trace, span.span_id)
    parent = _context(span.trace, span.parent_span, remote=span.parent_is_remote)
    attributes = dict(span.attributes)
    attributes["thread.id"] = span.tid
    if span.pid != resource.attributes.get("process.pid"):
        attributes["process.pid"] = span.pid
    if span.origin:
        attributes["kobs.origin"] = span.origin
    if span.category is Category.NETWORK:
        attributes.setdefault("rpc.system.name", "grpc")
        attributes.setdefault("rpc.method", span.name)
    elif span.category is Category.SYSCALL:
        attributes.setdefault("kobs.syscall", span.name)
    failed = {key: attributes.pop(key) for key in _EXCEPTION if key in attributes}
    events = []
    if failed:
        attributes.setdefault("error.type", failed.get("exception.type", "_OTHER"))
        events.append(SpanEvent("exception", clean(failed), timestamp=ended_ns))
    elif span.status == "error":
        attributes.setdefault("error.type", "_OTHER")
    code = _STATUSES.get(span.status, StatusCode.UNSET)
    reason = failed.get("exception.message") or attributes.get("error.message")
    return ReadableSpan(
        name=text(span.name),
        context=own,
        parent=parent if span.parent_span else None,
        resource=resource,
        attributes=clean(attributes),
        events=events,
        links=[
            Link(_context(Trace(link.trace_id), link.span_id), clean(link.attributes))
            for link in span.links
        ],
        kind=_KINDS.get(span.kind, SpanKind.INTERNAL),
        status=Status(code, text(str(reason)) if reason and code is StatusCode.ERROR else None),
        start_time=span.began_ns + offset_ns,
        end_time=ended_ns,
        instrumentation_scope=SCOPE,
    )


def to_log_record(
    event: Event, trace: Trace | None, offset_ns: int, resource: Resource, logged: Logged | None
) -> ReadableLogRecord:
    """A log record for the SDK's exporters; `offset_ns` is wall time minus monotonic time,
    `logged` what the event is where it is a program's log record."""
    wall_ns = event.timestamp_ns + offset_ns
    context = INVALID_SPAN_CONTEXT
    if trace is not None:
        context = _context(trace, event.span_id)
    # An empty context would be replaced by the exporting code's own.
    around = set_span_in_context(NonRecordingSpan(context), Context())
    if logged is not None:
        number, level, body, attributes, name, scope = log_fields(event, logged)
        if event.pid != resource.attributes.get("process.pid"):
            attributes.setdefault("process.pid", event.pid)
    else:
        number, level = _SEVERITIES[event.severity].value, event.severity.name
        body, attributes = repr(event.payload), _log_attributes(event)
        name, scope = event_name(event.type_name), ""
    record = LogRecord(
        timestamp=wall_ns,
        observed_timestamp=wall_ns,
        context=around,
        severity_number=SeverityNumber(number),
        severity_text=text(level),
        body=text(body),
        attributes=clean(attributes),
        event_name=name or None,
    )
    return ReadableLogRecord(
        record, resource, InstrumentationScope(text(scope)) if scope else SCOPE
    )


def event_name(type_name: str) -> str:
    """The name of a payload type as an OpenTelemetry event: `kobs.syscall_exit`."""
    return "kobs." + "".join(
        f"_{char.lower()}" if char.isupper() and at else char.lower()
        for at, char in enumerate(type_name)
    )


def clean(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that every encoder takes: integers of at most 64 bits and encodable text."""
    return {text(key): _clean(value) for key, value in attributes.items()}


def text(value: str) -> str:
    """The text with lone surrogates (file names that are no UTF-8) written out."""
    if value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
        return str(value)
    if isinstance(value, list | tuple):
        return [_clean(one) for one in value]
    return clean(value) if isinstance(value, dict) else value


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


def _context(trace: Trace, span_id: int, *, remote: bool = False) -> SpanContext:
    state = TraceState.from_header([trace.state]) if trace.state else None
    return SpanContext(trace.trace_id, span_id, remote, _SAMPLED, state)
