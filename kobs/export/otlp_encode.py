"""Spans and log records as OTLP: protobuf by the schema of `opentelemetry-proto`, which the tests
judge it by.

What is the same for many (resources, scopes, keys) is encoded once and remembered. The C twin, for
spans straight from their slots, is kobs/_core/src/otlp_encoder.c; both write the same bytes.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from kobs.events import Event
from kobs.export.otlp_logs import LogData
from kobs.export.protobuf import double, fixed32, fixed64, integer, message, string
from kobs.tracing.finished import (
    OWN_SCOPE,
    FinishedSpan,
    Scope,
    SpanEvent,
    SpanLink,
    Trace,
    attributes_by_convention,
)

KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
STATUSES = {"unset": 0, "ok": 1, "error": 2}
HAS_REMOTE = 0x100
"""In a span's and a link's flags: it is known whether the context is another process's."""
IS_REMOTE = 0x200

_LARGEST = (1 << 63) - 1
_RESOURCE_ITEMS, _SCOPE_ITEMS = 2, 2


def encode_span(span: FinishedSpan, offset_ns: int, resource_pid: object) -> bytes:
    """A span as a field of `ScopeSpans`. `offset_ns`: wall time minus monotonic time.
    `resource_pid`: the `process.pid` of its resource, which it need not repeat."""
    trace, context = span.trace, span.flags | HAS_REMOTE
    if span.parent_span and span.parent_is_remote:
        context |= IS_REMOTE
    parts = [
        message(1, trace.trace_id.to_bytes(16, "big")),
        message(2, span.span_id.to_bytes(8, "big")),
    ]
    if trace.state:
        parts.append(string(3, trace.state))
    if span.parent_span:
        parts.append(message(4, span.parent_span.to_bytes(8, "big")))
    parts += (
        string(5, str(span.name)),
        integer(6, KINDS.get(span.kind, 1)),
        fixed64(7, span.began_ns + offset_ns),
        fixed64(8, span.ended_ns + offset_ns),
        encode_attributes(9, attributes_by_convention(span, resource_pid)),
    )
    if span.dropped_attributes:
        parts.append(integer(10, span.dropped_attributes))
    parts += [_event(event, offset_ns) for event in span.events]
    if span.dropped_events:
        parts.append(integer(12, span.dropped_events))
    parts += [_link(link) for link in span.links]
    if span.dropped_links:
        parts.append(integer(14, span.dropped_links))
    code = STATUSES.get(span.status, 0)
    if code:
        reason = span.status_description if code == STATUSES["error"] else ""
        parts.append(message(15, (string(2, reason) if reason else b"") + integer(3, code)))
    parts.append(fixed32(16, context))
    return message(_SCOPE_ITEMS, b"".join(parts))


def encode_log(event: Event, data: LogData, trace: Trace | None, offset_ns: int) -> bytes:
    """An event, of which a log record has `data`, as a field of `ScopeLogs`."""
    wall_ns = event.timestamp_ns + offset_ns
    parts = [
        fixed64(1, wall_ns),
        integer(2, data.severity_number),
        string(3, data.severity_text),
        message(5, encode_value(data.body)),
        encode_attributes(6, data.attributes),
    ]
    if trace is not None:
        parts.append(fixed32(8, trace.flags))
        parts.append(message(9, trace.trace_id.to_bytes(16, "big")))
        if event.span_id:
            parts.append(message(10, event.span_id.to_bytes(8, "big")))
    parts.append(fixed64(11, wall_ns))
    if data.event_name:
        parts.append(string(12, data.event_name))
    return message(_SCOPE_ITEMS, b"".join(parts))


def encode_attributes(field: int, attributes: Mapping[str, Any]) -> bytes:
    """Attributes as fields of type `KeyValue`."""
    return b"".join(
        [
            message(field, _key(str(key)) + message(2, encode_value(value)))
            for key, value in attributes.items()
        ]
    )


def encode_value(value: Any) -> bytes:
    """An attribute's value as an `AnyValue`. What OTLP has no word for is told as text."""
    if isinstance(value, str):
        return string(1, value)
    if isinstance(value, bool):
        return integer(2, value)
    if isinstance(value, int):
        fits = -_LARGEST <= value <= _LARGEST
        return integer(3, value) if fits else string(1, str(value))
    if isinstance(value, float):
        return double(4, value)
    if value is None:
        return b""
    if isinstance(value, bytes):
        return message(7, value)
    if isinstance(value, list | tuple):
        return message(5, b"".join([message(1, encode_value(one)) for one in value]))
    if isinstance(value, Mapping):
        return message(6, encode_attributes(1, value))
    return string(1, str(value))


def encode_resource(attributes: Mapping[str, Any]) -> bytes:
    """A resource as a field of `ResourceSpans` and `ResourceLogs`."""
    return message(1, encode_attributes(1, attributes))


def encode_scope(scope: Scope) -> tuple[bytes, bytes]:
    """(A scope as a field of `ScopeSpans` and `ScopeLogs`, the field of its schema's URL)."""
    if scope == OWN_SCOPE:
        return _OWN_SCOPE
    return _scope(scope)


class Item(NamedTuple):
    """A span or log record on its way into a request."""

    resource: bytes
    """As `encode_resource` makes it: the same object for the same resource."""
    scope: Scope
    data: bytes
    """One or more of them, encoded, as fields of their scope."""
    number: int


def encode_request(items: Iterable[Item]) -> bytes:
    """An `ExportTraceServiceRequest` or `ExportLogsServiceRequest`: the items by resource and
    scope, in the order in which each came first."""
    groups: dict[bytes, dict[Any, tuple[Scope, list[bytes]]]] = {}
    for item in items:
        scopes = groups.setdefault(item.resource, {})
        scope = item.scope
        key = None if scope is OWN_SCOPE else _identity(scope)
        found = scopes.get(key)
        if found is None:
            found = scopes[key] = (scope, [])
        found[1].append(item.data)
    parts = []
    for resource, scopes in groups.items():
        body = [resource]
        for scope, data in scopes.values():
            head, schema_url = encode_scope(scope)
            body.append(message(_RESOURCE_ITEMS, b"".join([head, *data, schema_url])))
        parts.append(message(1, b"".join(body)))
    return b"".join(parts)


def _event(event: SpanEvent, offset_ns: int) -> bytes:
    parts = [
        fixed64(1, event.time_ns + offset_ns),
        string(2, event.name),
        encode_attributes(3, event.attributes),
    ]
    if event.dropped_attributes:
        parts.append(integer(4, event.dropped_attributes))
    return message(11, b"".join(parts))


def _link(link: SpanLink) -> bytes:
    parts = [
        message(1, link.trace_id.to_bytes(16, "big")),
        message(2, link.span_id.to_bytes(8, "big")),
    ]
    if link.trace_state:
        parts.append(string(3, link.trace_state))
    parts.append(encode_attributes(4, link.attributes))
    if link.dropped_attributes:
        parts.append(integer(5, link.dropped_attributes))
    parts.append(fixed32(6, link.flags | HAS_REMOTE | (IS_REMOTE if link.remote else 0)))
    return message(13, b"".join(parts))


@lru_cache(maxsize=4096)
def _key(key: str) -> bytes:
    return string(1, key)


def _identity(scope: Scope) -> object:
    return None if scope == OWN_SCOPE else (*scope[:3], repr(scope.attributes))


def _scope(scope: Scope) -> tuple[bytes, bytes]:
    body = string(1, scope.name)
    if scope.version:
        body += string(2, scope.version)
    body += encode_attributes(3, scope.attributes)
    return message(1, body), string(3, scope.schema_url) if scope.schema_url else b""


_OWN_SCOPE = _scope(OWN_SCOPE)
