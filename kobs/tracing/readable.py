"""Spans as the readable spans of OpenTelemetry's SDK, for its exporters and processors."""

from collections.abc import Mapping
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from kobs.tracing.finished import (
    OWN_SCOPE,
    FinishedSpan,
    Scope,
    SpanLink,
    Trace,
    attributes_by_convention,
)

SCOPE = InstrumentationScope(OWN_SCOPE.name, OWN_SCOPE.version)

KINDS = {kind.name.lower(): kind for kind in SpanKind}
STATUSES = {"unset": StatusCode.UNSET, "ok": StatusCode.OK, "error": StatusCode.ERROR}
_LARGEST = (1 << 63) - 1


def to_span(span: FinishedSpan, offset_ns: int, resource: Resource) -> ReadableSpan:
    """A span for the SDK's exporters; `offset_ns` is wall time minus monotonic time."""
    attributes = attributes_by_convention(span, resource.attributes.get("process.pid"))
    code = STATUSES.get(span.status, StatusCode.UNSET)
    reason = span.status_description if code is StatusCode.ERROR else ""
    parent = None
    if span.parent_span:
        above = span.parent_trace or span.trace
        parent = span_context(above, span.parent_span, remote=span.parent_is_remote)
    return ReadableSpan(
        name=text(span.name),
        context=span_context(span.trace, span.span_id, flags=span.flags),
        parent=parent,
        resource=resource,
        attributes=bounded(attributes, span.dropped_attributes),
        events=_listed(
            [
                Event(
                    text(event.name),
                    bounded(event.attributes, event.dropped_attributes),
                    event.time_ns + offset_ns,
                )
                for event in span.events
            ],
            span.dropped_events,
        ),
        links=_listed([_link(link) for link in span.links], span.dropped_links),
        kind=KINDS.get(span.kind, SpanKind.INTERNAL),
        status=Status(code, text(reason) if reason else None),
        start_time=span.began_ns + offset_ns,
        end_time=span.ended_ns + offset_ns,
        instrumentation_scope=_scope(span.scope),
    )


def span_context(
    trace: Trace, span_id: int, *, remote: bool = False, flags: int | None = None
) -> SpanContext:
    """The context of a span of this trace; its flags are the trace's unless given."""
    state = TraceState.from_header([trace.state]) if trace.state else None
    known = trace.flags if flags is None else flags
    return SpanContext(trace.trace_id, span_id, remote, TraceFlags(known), state)


def bounded(attributes: Mapping[str, Any], dropped: int = 0) -> BoundedAttributes:
    """Attributes that every encoder takes, and how many a limit left out."""
    made = BoundedAttributes(attributes=clean(attributes), immutable=True)
    made.dropped += dropped
    return made


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


def _link(link: SpanLink) -> Link:
    there = Trace(link.trace_id, state=link.trace_state, flags=link.flags)
    context = span_context(there, link.span_id, remote=link.remote)
    return Link(context, bounded(link.attributes, link.dropped_attributes))


def _scope(scope: Scope) -> InstrumentationScope:
    if scope == OWN_SCOPE:
        return SCOPE
    return InstrumentationScope(
        scope.name, scope.version, scope.schema_url or None, scope.attributes or None
    )


def _listed(items: list[Any], dropped: int) -> Any:
    """The items as the SDK keeps them where a limit left some out."""
    if not dropped:
        return items
    made: Any = BoundedList.from_seq(len(items), items)
    made.dropped += dropped
    return made
