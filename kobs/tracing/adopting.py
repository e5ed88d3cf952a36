"""What a recording is told of traces whose ids it did not mint, or that are not exported."""

import weakref
from typing import Any

from kobs import bridge
from kobs.collector import Collector
from kobs.context import Cause
from kobs.tracing.records import SpanAttributes, TraceAdopted, cut_up

_LOW = (1 << 64) - 1
_STATE = 100
"""Bytes of a tracestate that fit in the record itself."""
_MOST = 1024

_known: "weakref.WeakKeyDictionary[Collector, dict[tuple[int, int], int]]" = (
    weakref.WeakKeyDictionary()
)
"""By (causality id, remote parent): how many events the ring had when it was told."""


def adopt(
    collector: Collector, outer: Cause, timestamp_ns: int | None = None, *, context: Any = None
) -> None:
    """Record that a chain is another tracer's: its whole trace id, its flags and tracestate.

    `context`: the `SpanContext` of its current span, else OpenTelemetry is asked. What the ring
    was told not long ago it is not told again.
    """
    flags, state, remote = bridge.trace_flags(outer), bridge.trace_state(outer), False
    if outer.sampled is False and not bridge.is_told(outer):
        flags &= ~bridge.SAMPLED
    if context is None:
        context = bridge.opentelemetry_context()
    trace_id = bridge.whole_trace_id(outer.causality_id, outer.trace_high)
    if context is not None and context.trace_id == trace_id:
        flags = int(context.trace_flags)
        state = bridge.state_text(context)
        remote = context.is_remote and context.span_id == outer.span_id
        bridge.remember_trace(outer.causality_id, outer.trace_high, flags, state)
    tell(collector, outer, trace_id, flags, state, remote, timestamp_ns)


def tell(
    collector: Collector,
    outer: Cause,
    trace_id: int,
    flags: int,
    state: str = "",
    remote: bool = False,
    timestamp_ns: int | None = None,
) -> None:
    """Record the whole id, the W3C flags and tracestate of a chain; `remote`: its current span
    is another process's."""
    produced = collector.ring.produced()
    told = _known.get(collector)
    if told is None:
        told = _known[collector] = {}
    key = (outer.causality_id, outer.span_id if remote else 0)
    before = told.get(key)
    if before is not None and 0 <= produced - before < collector.ring.slots // 4:
        return
    exported = bool(flags & bridge.SAMPLED)
    if not bridge.sampler.parent_based:
        exported = bridge.sampler.exports(outer.causality_id)
    parts = cut_up(_ascii(state)) if len(state) > _STATE or not state.isascii() else []
    number = collector.emitter(TraceAdopted)(
        trace_id >> 64, trace_id & _LOW, exported, "" if parts else state, flags, remote,
        len(parts),
        causality_id=outer.causality_id, parent=outer.parent, span_id=outer.span_id,
        timestamp_ns=timestamp_ns,
    )  # fmt: skip
    if not number:
        return
    for index, data in enumerate(parts):
        collector.emitter(SpanAttributes)(
            index, len(parts), data,
            causality_id=outer.causality_id, parent=number, span_id=outer.span_id,
            timestamp_ns=timestamp_ns,
        )  # fmt: skip
    told.pop(key, None)
    while len(told) >= _MOST:
        told.pop(next(iter(told)), None)
    told[key] = produced


def _ascii(state: str) -> str:
    return state.encode("ascii", "backslashreplace").decode("ascii")
