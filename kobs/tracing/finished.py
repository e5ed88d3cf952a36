"""A span with everything that is known of it, and what OpenTelemetry's conventions make of that.

Nothing here knows OpenTelemetry; times are monotonic nanoseconds.
"""

import json
from functools import lru_cache
from typing import Any, NamedTuple

from kobs import __version__
from kobs.levels import Category

SAMPLED = 0x01
"""W3C trace flag: the trace is exported."""
RANDOM = 0x02
"""W3C trace flag: the low 56 bits of the trace id are random."""

_EXCEPTION = ("exception.type", "exception.message", "exception.stacktrace")

NO_SCOPE = ("-", "?")  # the latter: the recording's table of strings is full


class Trace(NamedTuple):
    """A chain's whole trace id, and what another tracer decided about it."""

    trace_id: int
    exported: bool = True
    state: str = ""
    flags: int = SAMPLED
    """W3C trace flags."""


class Scope(NamedTuple):
    """The instrumentation scope that a span is of."""

    name: str = "kobs"
    version: str = __version__
    schema_url: str = ""
    attributes: dict[str, Any] = {}


OWN_SCOPE = Scope()
"""The scope of spans that `span_operation` and its like made."""


class SpanEvent(NamedTuple):
    """Something that happened at a moment of a span."""

    name: str
    time_ns: int
    """Monotonic nanoseconds."""
    attributes: dict[str, Any]
    dropped_attributes: int = 0


class SpanLink(NamedTuple):
    """A span that led to this one without being its parent."""

    trace_id: int
    span_id: int
    attributes: dict[str, Any]
    trace_state: str = ""
    flags: int = SAMPLED
    remote: bool = False
    dropped_attributes: int = 0


class FinishedSpan(NamedTuple):
    """A span with everything that is known of it."""

    name: str
    trace: Trace
    """Its trace; `exported` and `state` are the span's own, where it has some."""
    span_id: int
    parent_span: int
    parent_is_remote: bool
    kind: str
    category: Category
    status: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    links: list[SpanLink]
    pid: int
    tid: int
    recording: int
    origin: str
    status_description: str = ""
    events: list[SpanEvent] = []
    """What happened in it, in the order in which it was told."""
    scope: Scope = OWN_SCOPE
    flags: int = SAMPLED
    """W3C trace flags of its context."""
    dropped_attributes: int = 0
    dropped_events: int = 0
    dropped_links: int = 0
    provider: int = 0
    """Which provider of its process made it; 0: none, it is kobs's own."""
    parent_trace: Trace | None = None
    """The flags and state of its parent's context, where they are not its own."""


def attributes_by_convention(span: FinishedSpan, resource_pid: object) -> dict[str, Any]:
    """The span's attributes and what OpenTelemetry's conventions have for the rest that is known
    of it. `resource_pid`: the `process.pid` of the resource that it is exported with. What a
    tracer made has what its program gave it, and nothing else."""
    if span.provider:
        return span.attributes
    attributes = dict(span.attributes)
    attributes["thread.id"] = span.tid
    if span.pid != resource_pid:
        attributes["process.pid"] = span.pid
    if span.origin:
        attributes["kobs.origin"] = span.origin
    if span.category is Category.NETWORK:
        attributes.setdefault("rpc.system.name", "grpc")
        attributes.setdefault("rpc.method", span.name)
    elif span.category is Category.SYSCALL:
        attributes.setdefault("kobs.syscall", span.name)
    return attributes


def with_error(span: FinishedSpan) -> FinishedSpan:
    """The exception that left the span as a span event, and why its status is error."""
    attributes = dict(span.attributes)
    failed = {key: attributes.pop(key) for key in _EXCEPTION if key in attributes}
    if not failed and span.status != "error":
        return span
    events, description = span.events, span.status_description
    if failed:
        events = [*events, SpanEvent("exception", span.ended_ns, failed)]
    attributes.setdefault("error.type", failed.get("exception.type", "_OTHER"))
    if span.status == "error" and not description:
        description = str(failed.get("exception.message") or attributes.get("error.message") or "")
    return span._replace(attributes=attributes, events=events, status_description=description)


def scope_of(text: str) -> Scope:
    """The scope that a `SpanDetailed` says; kobs's own where it says none."""
    return read_scope(text) if text and text not in NO_SCOPE else OWN_SCOPE


@lru_cache(maxsize=1024)
def read_scope(text: str) -> Scope:
    """The scope that a `SpanDetailed` says."""
    try:
        name, version, schema_url, attributes = json.loads(text)
        return Scope(str(name), str(version), str(schema_url), dict(attributes))
    except (ValueError, TypeError, RecursionError):  # another version wrote it
        return OWN_SCOPE
