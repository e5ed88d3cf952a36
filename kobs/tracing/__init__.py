"""Distributed tracing: spans in the ring, and logs that carry their ids.

with span_operation("load") as span:
    span.record("rows", 42)

@span_syscall("read")
def read(...): ...

init_tracing()                      # standard logging, with trace and span ids
"""

from typing import TYPE_CHECKING

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
    from typing import TextIO

    from kobs.tracing.logs import LogSetup
    from kobs.tracing.provider import TracerProvider

__all__ = [
    "Span",
    "SpanError",
    "TracerProvider",
    "current_span",
    "emit_from_span",
    "generate_trace_id",
    "init_tracing",
    "set_slow_thresholds",
    "span_grpc",
    "span_operation",
    "span_syscall",
]


def init_tracing(
    *,
    level: str | None = None,
    json: bool | None = None,
    stream: "TextIO | None" = None,
    record: bool = True,
    slow_syscall_ms: float | None = None,
    slow_operation_ms: float | None = None,
) -> "LogSetup":
    """Set up standard `logging`: one handler on the root logger, trace and span ids in every
    record, and every record an event where there is a process-wide collector.

    `level` is a filter such as `"info,kobs.queue=debug,noisy=off"`, else `KERNEL_LOG`, else
    `RUST_LOG`, else `info`. `json`: one JSON object a line, else what `KERNEL_TRACE_JSON` says;
    readable text otherwise. `stream`: where to write; standard error otherwise. `record` false:
    records do not become events.
    `slow_syscall_ms` and `slow_operation_ms` set from when spans are slow. Handlers of the root
    logger that write to the terminal are put aside. A second call replaces what the first one
    did; `close` of the answer undoes it. Raises `ConfigError` naming a bad filter or variable.
    """
    from kobs.tracing import logs

    return logs.set_up(
        level=level,
        json=json,
        stream=stream,
        record=record,
        slow_syscall_ms=slow_syscall_ms,
        slow_operation_ms=slow_operation_ms,
    )


def __getattr__(name: str) -> object:
    """`TracerProvider` is made of OpenTelemetry's SDK, which nothing else here needs."""
    if name == "TracerProvider":
        from kobs.tracing.provider import TracerProvider

        return TracerProvider
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
