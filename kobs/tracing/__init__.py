"""Distributed tracing: spans in the ring, and logs that carry their ids.

with span_operation("load") as span:
    span.record("rows", 42)

@span_syscall("read")
def read(...): ...

init_tracing()                      # standard logging, with trace and span ids
"""

from typing import TYPE_CHECKING, Any

from kobs.tracing.slow import set_slow_thresholds
from kobs.tracing.span import Span, SpanError
from kobs.tracing.spans import (
    current_span,
    emit_from_span,
    generate_trace_id,
    span_grpc,
    span_operation,
    span_syscall,
)

if TYPE_CHECKING:
    from kobs.tracing.logs import LogSetup

__all__ = [
    "Span",
    "SpanError",
    "current_span",
    "emit_from_span",
    "generate_trace_id",
    "init_tracing",
    "set_slow_thresholds",
    "span_grpc",
    "span_operation",
    "span_syscall",
]


def init_tracing(**options: Any) -> "LogSetup":
    """Set up standard `logging`: see `kobs.tracing.logs.init_tracing`."""
    from kobs.tracing import logs

    return logs.init_tracing(**options)
