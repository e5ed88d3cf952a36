"""Where kobs's cause meets other tracers': W3C trace context, and OpenTelemetry's current span.

A `Cause` keeps a trace id as two halves: `causality_id` is the low one, `trace_high` the high
one (0: the recording's own). The two kinds of foreign trace id that this cannot say (a zero half)
are remembered here.
"""

import sys
from typing import Any

from kobs.context import Cause
from kobs.ids import mint_id

_LOW = (1 << 64) - 1
_REMEMBERED = 4096
_HEX = frozenset("0123456789abcdef")

_odd_traces: dict[int, int] = {}
"""Whole trace ids with a zero half, by `causality_id`; bounded."""

own_trace_high = mint_id()
"""High half of the trace ids of this process while it has no collector."""


def recording_trace_high() -> int:
    """The high half that trace ids minted here have: the process-wide collector's."""
    collectors = sys.modules.get("kobs.collector")
    collector = collectors.global_collector() if collectors is not None else None
    return own_trace_high if collector is None else int(collector.ring.trace_high)


def split_trace_id(trace_id: int) -> tuple[int, int]:
    """(causality_id, trace_high) of a whole trace id, which is remembered if it is an odd one."""
    high, low = trace_id >> 64, trace_id & _LOW
    if high and low:
        return low, high
    causality_id = low or high
    _odd_traces.pop(causality_id, None)
    while len(_odd_traces) >= _REMEMBERED:
        _odd_traces.pop(next(iter(_odd_traces)), None)
    _odd_traces[causality_id] = trace_id
    return causality_id, high


def whole_trace_id(causality_id: int, trace_high: int = 0) -> int:
    """The 128-bit trace id of a chain. `trace_high` 0: that of the process-wide recording."""
    if causality_id in _odd_traces and _odd_traces[causality_id] >> 64 == trace_high:
        return _odd_traces[causality_id]
    return (trace_high or recording_trace_high()) << 64 | causality_id


def is_foreign(cause: Cause, trace_high: int) -> bool:
    """The cause's trace id cannot be told from `causality_id` and the recording's `trace_high`."""
    if cause.trace_high not in (0, trace_high):
        return True
    return cause.causality_id in _odd_traces and cause.trace_high != trace_high


def format_traceparent(cause: Cause) -> str:
    """The W3C `traceparent` of a cause.

    Where no span is current the event that causes stands in for it (the format has no way to
    say "no span").
    """
    trace_id = whole_trace_id(cause.causality_id, cause.trace_high)
    span_id = cause.span_id or cause.parent or cause.causality_id
    return f"00-{trace_id:032x}-{span_id:016x}-{'00' if cause.sampled is False else '01'}"


def parse_traceparent(text: str) -> Cause | None:
    """The cause that a W3C `traceparent` says; None if it is invalid and must be ignored.

    Of versions above 00 what version 00 has is read. The cause is a remote one: it has a span,
    no parent event, and is not in scope.
    """
    text = text.strip(" \t")
    version, trace, span, flags = text[0:2], text[3:35], text[36:52], text[53:55]
    if len(text) < 55 or (text[2], text[35], text[52]) != ("-", "-", "-"):
        return None
    if not _HEX.issuperset(version + trace + span + flags) or version == "ff":
        return None
    if len(text) > 55 and (version == "00" or text[55] != "-"):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id:
        return None
    causality_id, trace_high = split_trace_id(trace_id)
    return Cause(causality_id, 0, span_id, bool(int(flags, 16) & 1), trace_high)


def opentelemetry_context() -> Any:
    """The valid `SpanContext` of OpenTelemetry's current span; None where there is none.

    Never imports OpenTelemetry: a program without it has no current span.
    """
    api = sys.modules.get("opentelemetry.trace")
    get_current_span = getattr(api, "get_current_span", None)
    if get_current_span is None:
        return None
    try:
        context = get_current_span().get_span_context()
        return context if context.is_valid else None
    except Exception:  # a foreign tracer's mistake is not the program's
        return None


def opentelemetry_cause() -> Cause | None:
    """The cause that OpenTelemetry's current span is; None where there is none.

    It is sampled whatever the span's flag says: an unsampled parent stops export, not capture.
    """
    context = opentelemetry_context()
    if context is None:
        return None
    causality_id, trace_high = split_trace_id(context.trace_id)
    return Cause(causality_id, 0, context.span_id, True, trace_high)


def is_suppressed() -> bool:
    """OpenTelemetry's context says that what is done here shall not be traced: it exports."""
    api = sys.modules.get("opentelemetry.context")
    if api is None:
        return False
    try:
        return bool(api.get_value(api._SUPPRESS_INSTRUMENTATION_KEY))
    except Exception:  # as above
        return False
