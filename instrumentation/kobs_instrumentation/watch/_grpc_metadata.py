"""The cause of a gRPC call in its metadata, both ways.

Where the program has OpenTelemetry's API loaded its global propagator writes and reads
(`traceparent`, `tracestate`, `baggage`, or what `OTEL_PROPAGATORS` says); else `traceparent` alone,
of kobs's own cause. The event that a call was made by has no place there: it is left in the table
of links, under the id of the span, for a server that records into the same session.
"""

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from kobs import bridge, handover
from kobs.context import Cause
from kobs.handover import Sent
from kobs.tracing.adopting import adopt

if TYPE_CHECKING:
    from kobs.collector import Collector

_TRACEPARENT = "traceparent"


class Incoming(NamedTuple):
    """What a server knows of who called."""

    sender: Cause | None = None
    """The cause to go on with."""
    origin: str = ""
    """On whose behalf the caller runs."""
    context: Any = None
    """OpenTelemetry's context with the remote span and baggage; None without the API."""


# -- the client's side ---------------------------------------------------------------------------


def outgoing(own: Cause) -> dict[str, str]:
    """What says `own`, which is the ambient cause, in metadata."""
    trace = _api()
    if trace is None:
        return {_TRACEPARENT: bridge.format_traceparent(own)}
    carrier: dict[str, str] = {}
    _propagate().inject(carrier, _with_span(trace, own))
    return {
        key.lower(): value
        for key, value in carrier.items()
        if isinstance(value, str) and value.isascii() and value.isprintable()
    }


def added(metadata: Any, more: dict[str, str]) -> Any:
    """`metadata` of a call as the program gave it, and `more` behind it. What is there already
    stays the only one of its name; what is no plain metadata is left as it is."""
    if metadata is None:
        return tuple(more.items())
    pairs = list(metadata) if _is_metadata(metadata) else None
    if pairs is None:
        return metadata
    there = {key.lower() for key, _ in pairs}
    pairs += [(key, value) for key, value in more.items() if key not in there]
    return tuple(pairs) if isinstance(metadata, list | tuple) else type(metadata)(*pairs)


def is_in(metadata: Any, said: dict[str, str]) -> bool:
    """All that says a cause is in a call's metadata already, of that cause or of another."""
    return _is_metadata(metadata) and said.keys() <= {key.lower() for key, _ in metadata}


def hand_over(collector: "Collector", own: Cause) -> bytes:
    """Leave `own` for a server of this session; the key, for `take_back`."""
    key = _key(own.span_id or own.parent or own.causality_id)
    handover.store_of(collector).send(key, own)
    return key


def take_back(collector: "Collector", key: bytes) -> None:
    """Forget what nobody took."""
    if not collector.closed:
        handover.store_of(collector).receive(key)


# -- the server's side ---------------------------------------------------------------------------


def incoming(collector: "Collector", metadata: Iterable[Any] | None) -> Incoming:
    """Who called, by the metadata that came with a call."""
    carrier: dict[str, str] = {}
    for key, value in metadata or ():
        if isinstance(value, str):
            carrier.setdefault(key, value)
    trace = _api()
    if trace is None:
        remote = bridge.parse_traceparent(carrier.get(_TRACEPARENT, ""))
        sent = _sent(collector, remote.span_id) if remote is not None else None
        return _continued(collector, sent) if sent is not None else Incoming(remote)
    context = _propagate().extract(carrier, _contexts().Context())
    there = trace.get_current_span(context).get_span_context()
    sent = _sent(collector, there.span_id) if there.is_valid else None
    if sent is not None:
        return _continued(collector, sent, context)
    return Incoming(context=context)  # the span that begins adopts what is current there


def _continued(collector: "Collector", sent: Sent, context: Any = None) -> Incoming:
    sender = sent.cause
    if bridge.is_foreign(sender, collector.ring.trace_high):
        adopt(collector, sender)
    return Incoming(sender._replace(in_scope=True), sent.origin, context)


def attach(context: Any) -> Any:
    """Have a context of OpenTelemetry be current; what `detach` takes."""
    return _contexts().attach(context)


def detach(token: Any) -> None:
    """Undo `attach`."""
    _contexts().detach(token)


def with_own_span(context: Any, own: Cause) -> Any:
    """`context` with the span of `own` as OpenTelemetry's current one."""
    return _with_span(_api(), own, context)


# -- how -----------------------------------------------------------------------------------------


def _api() -> Any:
    """`opentelemetry.trace`, if the program has it."""
    return (
        sys.modules.get("opentelemetry.trace") if "opentelemetry.context" in sys.modules else None
    )


def _contexts() -> Any:
    return sys.modules["opentelemetry.context"]


def _propagate() -> Any:
    found = sys.modules.get("opentelemetry.propagate")
    return found if found is not None else import_module("opentelemetry.propagate")


def _with_span(trace: Any, own: Cause, context: Any = None) -> Any:
    """OpenTelemetry's context (the current one, if none is given) with the span of `own`."""
    outer = bridge.opentelemetry_context() if context is None else None
    if outer is not None and outer.span_id == own.span_id:
        return None
    if context is not None:
        outer = trace.get_current_span(context).get_span_context()
    trace_id = bridge.whole_trace_id(own.causality_id, own.trace_high)
    flags, state = trace.TraceFlags(own.sampled is not False), None
    if outer is not None and outer.trace_id == trace_id:
        flags, state = outer.trace_flags, outer.trace_state
    span_id = own.span_id or own.parent or own.causality_id
    known = trace.SpanContext(trace_id, span_id, False, flags, state)
    return trace.set_span_in_context(trace.NonRecordingSpan(known), context)


def _sent(collector: "Collector", span_id: int) -> Sent | None:
    return handover.store_of(collector).receive(_key(span_id))


def _key(span_id: int) -> bytes:
    return b"grpc" + span_id.to_bytes(8, "big")


def _is_metadata(metadata: Any) -> bool:
    """A list or tuple of pairs, or what asyncio's calls take."""
    return isinstance(metadata, list | tuple) or type(metadata).__name__ == "Metadata"
