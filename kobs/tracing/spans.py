"""Making spans and finding the current one."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from kobs import bridge, collector as collectors
from kobs.collector import Collector
from kobs.context import cause
from kobs.errors import ConfigError
from kobs.events import Event
from kobs.ids import mint_id
from kobs.levels import Category
from kobs.schema import PayloadType
from kobs.tracing.adopting import adopt
from kobs.tracing.open_spans import open_span
from kobs.tracing.span import Span, WrittenSpan, make_span

F = TypeVar("F", bound=Callable[..., Span])

_SYSCALL = int(Category.SYSCALL)
_NETWORK = int(Category.NETWORK)
_PERFORMANCE = int(Category.PERFORMANCE)
_KINDS = ("internal", "server", "client", "producer", "consumer")


def _made_of(kind: str, category: int) -> Callable[[F], F]:
    """What a span is of which only the name is said: with the C core no Python makes it."""

    def decorator(function: F) -> F:
        if make_span is WrittenSpan:
            return function
        from kobs._core._native import SpanMaker

        return cast(F, SpanMaker(function, cast(type, make_span), kind, category))

    return decorator


@_made_of("internal", _PERFORMANCE)
def span_operation(
    name: str,
    *,
    kind: str = "internal",
    slow_ms: float | None = None,
    collector: Collector | None = None,
) -> Span:
    """A span around an operation, as a context manager or decorator.

    Where it takes `slow_ms` milliseconds or more (100 unless `set_slow_thresholds` says
    otherwise) an `OperationSlow` event follows. `kind`: internal, server, client, producer or
    consumer. `collector`: where to record; else the process-wide one. Raises `ConfigError` for
    another kind.
    """
    return make_span(
        name,
        kind if kind == "internal" else _kind(kind, _KINDS),
        _PERFORMANCE,
        None,
        slow_ms,
        collector,
    )


@_made_of("internal", _SYSCALL)
def span_syscall(
    name: str,
    pid: int | None = None,
    *,
    slow_ms: float | None = None,
    collector: Collector | None = None,
) -> Span:
    """A span around a system call of process `pid` (else this one); over `slow_ms` (10 unless
    `set_slow_thresholds` says otherwise) a `SyscallSlow` event follows."""
    return make_span(name, "internal", _SYSCALL, pid, slow_ms, collector)


@_made_of("server", _NETWORK)
def span_grpc(
    method: str,
    *,
    kind: str = "server",
    slow_ms: float | None = None,
    collector: Collector | None = None,
) -> Span:
    """A span around a gRPC call of `method` (`package.Service/Method`), on the server's side
    unless `kind="client"`."""
    return make_span(method, _kind(kind, ("server", "client")), _NETWORK, None, slow_ms, collector)


def current_span() -> Span:
    """The innermost span that is open here.

    Where there is none, or where it is open in another process, a span that records nothing: it
    has the ids of the ambient cause (all zero if there is none).
    """
    ambient = cause.get()
    if ambient is not None:
        known = open_span(ambient[2])
        if known is not None:
            return known
    elsewhere = make_span("", "internal", _PERFORMANCE, None, None, None)
    elsewhere._collector = None
    elsewhere._event = 0
    elsewhere._cause = ambient or bridge.opentelemetry_cause()
    return elsewhere


def emit_from_span(event: Event | PayloadType, *, span: Span | None = None, **header: Any) -> int:
    """Record an event as part of the current span, or of `span`; the event's id, 0 where it was
    not recorded. Takes the header fields of `Collector.emit`."""
    where = current_span() if span is None else span
    if where._collector is not None:
        return where.emit(event, **header)
    collector = collectors._global
    if collector is None:
        return 0
    outside = where._cause
    if outside is not None:
        if bridge.is_foreign(outside, collector.ring.trace_high):
            adopt(collector, outside)
        header.setdefault("causality_id", outside.causality_id)
        header.setdefault("parent", outside.parent)
        header.setdefault("span_id", outside.span_id)
    return collector.emit(event, **header)


def generate_trace_id() -> str:
    """A new trace id, 32 hexadecimal digits. Its high half is the recording's, its low half is
    what `causality_id` is in events."""
    return f"{bridge.recording_trace_high():016x}{mint_id():016x}"


def _kind(kind: str, allowed: tuple[str, ...]) -> str:
    if kind not in allowed:
        raise ConfigError(f"kind={kind!r}: expected {' or '.join(allowed)}")
    return kind
