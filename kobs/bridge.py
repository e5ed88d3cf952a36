"""Where kobs's cause meets other tracers': W3C trace context, and OpenTelemetry's current span.

A `Cause` keeps a trace id as two halves: `causality_id` is the low one, `trace_high` the high
one (0: the recording's own). The two kinds of foreign trace id that this cannot say (a zero half)
are remembered here, and so are the trace flags and the tracestate of foreign traces.
"""

import os
import sys
from typing import Any, NamedTuple

from kobs._core import notices
from kobs.context import Cause, OtherCause
from kobs.ids import mint_id

_LOW = (1 << 64) - 1
_REMEMBERED = 4096
_HEX = frozenset("0123456789abcdef")

_odd_traces: dict[int, int] = {}
"""Whole trace ids with a zero half, by `causality_id`; bounded."""

SAMPLED = 0x01
"""W3C trace flag: whoever made the trace wants it exported."""
RANDOM = 0x02
"""W3C trace flag: the low 56 bits of the trace id are random. Those of ids minted here are."""

_told: dict[tuple[int, int], tuple[int, str]] = {}
"""Trace flags and tracestate of the traces of others, by (causality id, high half); bounded."""

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


def remember_trace(causality_id: int, trace_high: int, flags: int, state: str = "") -> None:
    """Keep the trace flags and the tracestate that another tracer gave its trace."""
    if (flags, state) != (SAMPLED, "") or (causality_id, trace_high) in _told:
        keep_trace(causality_id, trace_high, flags, state)


def keep_trace(causality_id: int, trace_high: int, flags: int, state: str) -> None:
    """As `remember_trace`, also where that is the usual."""
    key = (causality_id, trace_high)
    _told.pop(key, None)
    while len(_told) >= _REMEMBERED:
        _told.pop(next(iter(_told)), None)
    _told[key] = (flags, state)


def is_told(cause: Cause) -> bool:
    """Another tracer gave this trace other flags than the usual ones."""
    return (cause.causality_id, cause.trace_high) in _told


def state_text(context: Any) -> str:
    """The W3C tracestate of a `SpanContext` as the header has it."""
    return ",".join(f"{key}={value}" for key, value in context.trace_state.items())


def trace_flags(cause: Cause) -> int:
    """The W3C trace flags of a chain: what its tracer said, else what the sampler says."""
    causality_id, trace_high = cause.causality_id, cause.trace_high
    told = _told.get((causality_id, trace_high))
    if told is not None:
        flags = told[0]
    elif trace_high in (0, recording_trace_high()) and causality_id not in _odd_traces:
        flags = (RANDOM | SAMPLED) if sampler.exports(causality_id) else RANDOM
    else:
        flags = SAMPLED
    if not sampler.parent_based:
        flags = flags & ~SAMPLED | int(sampler.exports(causality_id))
    return flags


def trace_state(cause: Cause) -> str:
    """The W3C tracestate of a chain; empty for what was minted here."""
    told = _told.get((cause.causality_id, cause.trace_high))
    return told[1] if told is not None else ""


class RootSampler(NamedTuple):
    """OpenTelemetry's sampler, as far as kobs decides itself: which traces are exported. It never
    decides what is captured."""

    bound: int = 1 << 64
    """Traces are exported whose id has low 64 bits below this."""
    parent_based: bool = True
    """In another tracer's trace that one's decision holds."""

    def exports(self, causality_id: int) -> bool:
        """A trace that begins here is exported."""
        return causality_id < self.bound

    @classmethod
    def from_environment(cls) -> "RootSampler":
        """By `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`, as OpenTelemetry's SDK reads
        them: what it does not know is `parentbased_always_on`, with a warning."""
        name = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
        based, kind = name.startswith("parentbased_"), name.removeprefix("parentbased_")
        if kind == "traceidratio":
            text = os.environ.get("OTEL_TRACES_SAMPLER_ARG", "")
            try:
                rate = float(text)
                if not 0.0 <= rate <= 1.0:
                    raise ValueError(text)
            except ValueError:
                _warn(f"OTEL_TRACES_SAMPLER_ARG={text}: expected 0.0 to 1.0; every trace is kept")
                rate = 1.0
            return cls(round(rate * (1 << 64)), based)
        if kind in ("always_on", "always_off"):
            return cls(1 << 64 if kind == "always_on" else 0, based)
        _warn(f"OTEL_TRACES_SAMPLER={name}: kobs knows no such sampler; every trace is kept")
        return cls()


sampler = RootSampler()
"""What decides for the traces that begin here."""


def _warn(message: str) -> None:
    notices.tell(message, stacklevel=3)


def format_traceparent(cause: Cause) -> str:
    """The W3C `traceparent` of a cause.

    Where no span is current the event that causes stands in for it (the format has no way to
    say "no span").
    """
    trace_id = whole_trace_id(cause.causality_id, cause.trace_high)
    span_id = cause.span_id or cause.parent or cause.causality_id
    flags = trace_flags(cause)
    if cause.sampled is False:
        flags &= ~SAMPLED
    return f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"


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
    known = int(flags, 16) & (SAMPLED | RANDOM)
    remember_trace(causality_id, trace_high, known)
    return Cause(causality_id, 0, span_id, bool(known & SAMPLED), trace_high)


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
    return cause_of(context, None)


def cause_of(context: Any, outside: Cause | None) -> Cause:
    """The cause inside of another tracer's span with this valid `SpanContext`, which is remembered,
    below what the cause is outside."""
    causality_id, trace_high = split_trace_id(context.trace_id)
    remember_trace(causality_id, trace_high, int(context.trace_flags), state_text(context))
    same = outside is not None and outside.causality_id == causality_id
    parent, sampled = (outside.parent, outside.sampled) if outside and same else (0, True)
    return OtherCause(causality_id, parent, context.span_id, sampled, trace_high, True)


_placed = False


def place_context() -> None:
    """Have OpenTelemetry's context know of kobs's spans, if it is imported. Twice is once."""
    global _placed
    module = sys.modules.get("opentelemetry.context")
    if _placed or not hasattr(module, "_RUNTIME_CONTEXT") or not hasattr(module, "detach"):
        return
    _placed = True
    from kobs.tracing import runtime_context

    runtime_context.place()


def is_suppressed() -> bool:
    """OpenTelemetry's context says that what is done here shall not be traced: it exports."""
    api = sys.modules.get("opentelemetry.context")
    if api is None:
        return False
    try:
        return bool(
            api.get_value(api._SUPPRESS_INSTRUMENTATION_KEY)
            or api.get_value("suppress_instrumentation")  # by its former name
        )
    except Exception:  # as above
        return False
