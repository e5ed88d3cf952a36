"""A span: two events in the ring, the ambient cause between them, nothing else on the hot path."""

import os
import sys
from collections.abc import Callable, Mapping
from time import monotonic_ns
from typing import Any, TypeVar

from kobs import bridge, collector as collectors
from kobs._core import select
from kobs._core.layout import FLAG_BEGIN, FLAG_END
from kobs.collector import Collector
from kobs.context import Cause, OtherCause, cause
from kobs.errors import KobsError
from kobs.events import Event
from kobs.ids import mint_id
from kobs.levels import Category, SyscallResult
from kobs.payloads import OperationSlow, SpanBegan, SpanEnded, SyscallSlow
from kobs.schema import PayloadType
from kobs.tracing.adopting import adopt, tell
from kobs.tracing.exceptions import describe_exception, is_failure
from kobs.tracing.open_spans import all_open_spans, close_native, open_spans
from kobs.tracing.records import (
    INCOMPLETE,
    NAME,
    SpanAttributes,
    SpanLinked,
    certainly_fits,
    plain,
    split_attributes,
    text_of,
)
from kobs.tracing.slow import slow_ms as _slow_ms, warn_slow
from kobs.tracing.wiring import prepare

F = TypeVar("F", bound=Callable[..., Any])

_SYSCALL = int(Category.SYSCALL)

_cause_get, _cause_set, _cause_reset = cause.get, cause.set, cause.reset
_make_cause = tuple.__new__
_modules = sys.modules
_LEFT_OUT = -2
"""In place of an in-flight entry: sampling left this span out."""
_NONE_HERE: tuple[str, ...] = ()
"""Its attributes lie in what is derived from it, in Python or C."""
_NOTHING: Mapping[str, object] = {}
_INCOMPLETE: Mapping[str, object] = {INCOMPLETE: True}
_PLAIN = frozenset((str, int, float, bool, type(None)))


class SpanError(KobsError, RuntimeError):
    """A span that is open was entered again."""


class Span:
    """A span: a context manager (`with`, `async with`) and a decorator, sync and async.

    Made by `span_operation`, `span_syscall` and `span_grpc`; it begins when it is entered. As a
    decorator it opens a span of its own for every call. What is recorded after it ended is
    ignored. Without a collector nothing is written, but it has its ids all the same and is the
    current span.
    """

    __slots__ = _NONE_HERE

    name: str
    kind: str
    """internal, server, client, producer or consumer."""
    status: str
    """unset, ok or error."""
    duration_us: float | None
    """From begin to end in microseconds; None before the end."""
    _category: int
    _pid: int | None
    _slow_ms: float | None
    _given: Collector | None
    _collector: Collector | None
    _cause: Cause | None
    _previous: Cause | None
    _token: Any
    """Of the change of the ambient cause."""
    _attributes: dict[str, Any] | None
    _began_ns: int
    _event: int
    _entry: int
    _view: Any
    """What OpenTelemetry sees of it; None as long as nobody looked."""
    _plain: bool
    """Its view has nothing to say when it ends."""

    # -- what it is -------------------------------------------------------------------------

    @property
    def trace_id(self) -> str:
        """The trace id, 32 hexadecimal digits; all zero before the span begins."""
        own = self._cause
        if own is None:
            return "0" * 32
        return f"{bridge.whole_trace_id(own.causality_id, own.trace_high):032x}"

    @property
    def span_id(self) -> str:
        """The span id, 16 hexadecimal digits; all zero before the span begins."""
        return f"{self._cause.span_id if self._cause is not None else 0:016x}"

    @property
    def causality_id(self) -> int:
        """The chain: the low 64 bits of the trace id; 0 before the span begins."""
        return self._cause.causality_id if self._cause is not None else 0

    @property
    def is_recording(self) -> bool:
        """It is open, and what it records is kept."""
        return bool(self._began_ns) and self._collector is not None and bool(self._event)

    @property
    def traceparent(self) -> str:
        """The W3C `traceparent` that makes another process's span a child of this one; empty
        before the span begins."""
        return "" if self._cause is None else bridge.format_traceparent(self._cause)

    # -- what it records --------------------------------------------------------------------

    def record(self, key: str, value: object) -> "Span":
        """Set an attribute; strings, numbers, booleans, bytes and lists keep their types."""
        return self._record(key, value)

    def _record(self, key: str, value: object) -> "Span":
        if self._began_ns:
            if value.__class__ not in _PLAIN:
                value = plain(value)
            if key.__class__ is not str:
                key = text_of(key)
            attributes = self._attributes
            if attributes is None:
                self._attributes = {key or "_": value}
            else:
                attributes[key or "_"] = value
        return self

    def record_result(self, result: object) -> "Span":
        """How it went: True or `SyscallResult.SUCCESS` is status ok, False, `SyscallResult.ERROR`
        or an exception is status error; anything else is kept and leaves the status."""
        if isinstance(result, BaseException):
            return self.record_error(result)
        if self._began_ns and isinstance(result, bool | SyscallResult):
            good = result is True or result is SyscallResult.SUCCESS
            self.status = "ok" if good else "error"
        return self.record("kobs.result", result)

    def record_error(self, error: BaseException | str) -> "Span":
        """It failed: status error, and the exception or message as an attribute."""
        if self._began_ns:
            self.status = "error"
            if isinstance(error, BaseException):
                for key, value in describe_exception(error).items():
                    self.record(key, value)
            else:
                self.record("error.message", error)
        return self

    def record_return(self, value: object) -> "Span":
        """What the call returned."""
        return self.record("kobs.return", value)

    def record_args_count(self, count: int) -> "Span":
        """How many arguments the call had."""
        return self.record("kobs.args_count", count)

    def record_items_processed(self, count: int) -> "Span":
        """How many items were worked on."""
        return self.record("kobs.items_processed", count)

    def add_link(self, other: "Span | Cause | str", **attributes: object) -> "Span":
        """Link to another span (or its cause, or `traceparent`) that led to this one without
        being its parent. An invalid `traceparent` is ignored."""
        if isinstance(other, str):
            there = bridge.parse_traceparent(other)
        else:
            there = other._cause if isinstance(other, Span) else other
        if there is None or not there.span_id or not self.is_recording:
            return self
        trace_id = bridge.whole_trace_id(there.causality_id, there.trace_high)
        known = {key: plain(value) for key, value in attributes.items()}
        self.emit(
            SpanLinked(trace_id >> 64, trace_id & (1 << 64) - 1, there.span_id, known),
            parent=self._event,
        )
        return self

    def emit(self, event: Event | PayloadType, **header: Any) -> int:
        """Record an event as part of this span, wherever the caller runs; the event's id."""
        own = self._cause
        collector = self._collector if self._cause is not None else None
        if collector is None or own is None:
            return 0
        header.setdefault("causality_id", own.causality_id)
        header.setdefault("parent", own.parent)
        header.setdefault("span_id", own.span_id)
        return collector.emit(event, **header)

    # -- its life ---------------------------------------------------------------------------

    def __enter__(self) -> "Span":
        return self._enter()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._exit(kind, error, traceback)

    def _enter(self) -> "Span":
        outer = _cause_get()
        if "opentelemetry.context" in _modules:
            bridge.place_context()
            if outer is None or not outer[5]:
                outer = bridge.opentelemetry_cause() or outer
        own = self._begin(outer)
        self._previous = _cause_get()
        self._token = _cause_set(own)
        return self

    def _begin(
        self,
        outer: Cause | None,
        *,
        span_id: int = 0,
        trace_id: int = 0,
    ) -> Cause:
        """Begin below `outer`, without becoming the current span; the cause inside of it.

        `span_id` and `trace_id` (of a new trace) are minted unless given.
        """
        if self._began_ns:
            raise SpanError(
                f"span {self.name!r} is open already; make another one with "
                "span_operation(...) for a span inside it"
            )
        if self._cause is not None:
            self._forget()
        collector = self._collector = self._given or collectors._global
        span_id = span_id or mint_id()
        sampled: bool | None
        if outer is None or not outer[0]:
            parent = 0 if outer is None else outer[1]
            parent_span, high = 0, 0
            sampled = True if outer is None else outer[3]
            causality_id = mint_id()
            if trace_id:
                causality_id, high = bridge.split_trace_id(trace_id)
        else:
            causality_id, parent, parent_span, sampled, high, _ = outer
        now = self._began_ns = monotonic_ns()
        if collector is None:
            high = high or bridge.own_trace_high
        else:
            try:
                ring = collector.ring
                if outer is None or not outer[0]:
                    self._tell_root(collector, Cause(causality_id, parent, span_id, None, high))
                elif bridge.is_foreign(outer, ring.trace_high):
                    if outer.__class__ is OtherCause or not outer[5]:
                        adopt(collector, outer, now)
                elif not parent_span:
                    self._tell_root(collector, outer)
                high = high or ring.trace_high
                gate = collector.gate
                kept = True
                if gate.up[0]:
                    kept = sampled = sampled is not False and gate.sampled(
                        causality_id, self._category
                    )
                if kept:
                    begin = collector.begin_emitters.get(SpanBegan)
                    if begin is None:
                        prepare(collector)
                    event, self._entry = (begin or collector.begin_emitter(SpanBegan))(
                        self.name, self.kind, parent_span,
                        pid=self._pid, category=self._category, causality_id=causality_id,
                        parent=parent, span_id=span_id, timestamp_ns=now, flags=FLAG_BEGIN,
                    )  # fmt: skip
                    if event:
                        self._event = parent = event
                    if (event or self._entry >= 0) and not ring.intern(self.name):
                        self.record(NAME, self.name)  # No room for strings: it goes on as text.
                else:
                    self._entry = _LEFT_OUT
                    ring.leave_out("sampled_out", self._category)
            except Exception as error:  # the program goes on, whatever becomes of its recording
                self._collector = None
                _count_error(collector, error)
            except BaseException:
                self._began_ns = 0
                self._forget()
                raise
        own = self._cause = _make_cause(
            Cause, (causality_id, parent, span_id, sampled, high or bridge.own_trace_high, True)
        )
        open_spans[span_id] = self
        return own

    def _exit(self, kind: object, error: BaseException | None, traceback: object) -> None:
        own = self._cause
        if own is None:
            return
        token = self._token
        try:
            self._finish(error)
        finally:
            if token is not None:
                self._put_back(own, token)

    def _put_back(self, own: Cause, token: Any) -> None:
        """The ambient cause is what it was outside, unless something else became it since."""
        current = _cause_get()
        if current is own or (current is not None and current[2] == own[2]):
            try:
                _cause_reset(token)
            except (RuntimeError, ValueError, TypeError):  # in another context than it began in
                _cause_set(self._previous)
        self._previous = self._token = self._view = None
        open_spans.pop(own[2], None)  # as `_leave`, whose frame the stack may have no room for
        close_native(self)

    def _finish(self, error: BaseException | None) -> None:
        """End it, and leave the ambient cause alone."""
        own = self._cause
        if not self._began_ns or own is None:
            return
        now = monotonic_ns()
        duration_us = self.duration_us = (now - self._began_ns) / 1000.0
        view = self._view
        collector = self._collector
        attributes: Any = None
        left: BaseException | None = None
        try:
            if error is not None and is_failure(error):
                self.record_error(error)
            if view is not None:
                view._ending(now)
            if collector is not None and self._entry != _LEFT_OUT:
                attributes = self._attributes
                if attributes is not None and not certainly_fits(
                    attributes := attributes.copy()  # others may add
                ):
                    attributes = self._overflow(collector, own, now, attributes)
        except BaseException as mistake:  # such as a RecursionError: it ends all the same
            left, attributes = mistake, _INCOMPLETE
            if error is not None:
                self.status = "error"
        try:
            if collector is not None:
                if self._entry >= 0:
                    collector.ring.close_entry(self._entry)
                if self._entry != _LEFT_OUT:
                    (collector.emitters.get(SpanEnded) or collector.emitter(SpanEnded))(
                        self.name, duration_us, self.status, attributes or _NOTHING,
                        pid=self._pid, category=self._category, causality_id=own[0],
                        parent=self._event, span_id=own[2], timestamp_ns=now, flags=FLAG_END,
                    )  # fmt: skip
                else:
                    collector.ring.leave_out("sampled_out", self._category)
                slow_ms = _slow_ms[self._category] if self._slow_ms is None else self._slow_ms
                if duration_us >= slow_ms * 1000.0:
                    self._tell_slow(collector, own, now, duration_us / 1000.0, slow_ms)
        except Exception as mistake:
            left = left or mistake
        finally:
            self._began_ns = 0
            if self._token is None:
                open_spans.pop(own[2], None)  # as `_leave`
                close_native(self)
                self._view = None
        if left is not None:
            _let_go(collector, left)
        if view is not None:
            view._ended()

    def _leave(self, own: Cause) -> None:
        """It has ended, and is the current span no more."""
        open_spans.pop(own[2], None)
        close_native(self)
        self._view = None

    async def __aenter__(self) -> "Span":
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: F) -> F:
        """Decorate a function: every call is a span."""
        from kobs.tracing.decorate import decorate

        return decorate(function, self._another)

    def _another(self) -> "Span":
        return make_span(
            self.name, self.kind, self._category, self._pid, self._slow_ms, self._given
        )

    def __repr__(self) -> str:
        state = "open" if self._began_ns else "ended" if self._cause is not None else "not begun"
        return f"<Span {self.name!r} {self.span_id} of trace {self.trace_id}, {state}>"

    # -- below: how -------------------------------------------------------------------------

    def _forget(self) -> None:
        """Begin anew: the same object is entered a second time."""
        self._attributes = self.duration_us = None
        self.status = "unset"
        self._event, self._entry = 0, -1
        self._view = None

    def _tell_root(self, collector: Collector, own: Cause) -> None:
        """Record what cannot be told from the causality id of a trace that begins here."""
        ring_high = collector.ring.trace_high
        whole = own._replace(trace_high=own.trace_high or ring_high)
        flags = bridge.trace_flags(whole)
        if not flags & bridge.SAMPLED or bridge.is_foreign(own, ring_high):
            trace_id = bridge.whole_trace_id(own.causality_id, whole.trace_high)
            tell(collector, own, trace_id, flags, bridge.trace_state(whole))

    def _unexported(self, causality_id: int) -> None:
        """The sampler leaves out the trace that begins here."""
        collector = self._collector
        if collector is not None:
            self._tell_root(collector, Cause(causality_id, 0))

    def _overflow(
        self, collector: Collector, own: Cause, ended_ns: int, attributes: dict[str, Any]
    ) -> Mapping[str, object]:
        """Write what does not fit into overflow records; what goes into the end event."""
        inline, parts = split_attributes(attributes)
        emit = collector.emitter(SpanAttributes)
        for index, data in enumerate(parts):
            emit(
                index, len(parts), data, pid=self._pid, causality_id=own[0],
                parent=self._event, span_id=own[2], timestamp_ns=ended_ns,
            )  # fmt: skip
        return inline

    def _mistake(self, collector: Collector, error: Exception) -> None:
        _count_error(collector, error)

    def _tell_slow(
        self, collector: Collector, own: Cause, ended_ns: int, took_ms: float, slow_ms: float
    ) -> None:
        slow = SyscallSlow if self._category == _SYSCALL else OperationSlow
        collector.emitter(slow)(
            self.name, took_ms, slow_ms, pid=self._pid, causality_id=own[0],
            parent=self._event, span_id=own[2], timestamp_ns=ended_ns,
        )  # fmt: skip
        warn_slow(self.name, self._category == _SYSCALL, took_ms, slow_ms)


class WrittenSpan(Span):
    """A span all in Python."""

    __slots__ = (
        "_attributes", "_began_ns", "_category", "_cause", "_collector", "_entry", "_event",
        "_given", "_pid", "_plain", "_previous", "_slow_ms", "_token", "_view", "duration_us",
        "kind", "name", "status",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        kind: str,
        category: int,
        pid: int | None,
        slow_ms: float | None,
        collector: Collector | None,
    ) -> None:
        self.name = name
        self.kind = kind
        self._category = category
        self._pid = pid
        self._slow_ms = slow_ms
        self._given = collector
        self._collector = self._previous = self._token = self._cause = self._attributes = None
        self._began_ns = self._event = 0
        self._entry = -1
        self._view = None
        self._plain = False
        self.status = "unset"
        self.duration_us = None


def _native_type() -> type[Span] | None:
    """The type of spans that are recorded in C; None with the Python core."""
    if select().name != "c":
        return None
    from kobs._core import _native

    return _native.span_type(Span, cause, Cause, _slow_ms, sys.modules)


make_span: Callable[..., Span] = _native_type() or WrittenSpan


def _let_go(collector: Collector | None, error: BaseException) -> None:
    """What went wrong while a span ended is the program's only where it is no `Exception`."""
    if not isinstance(error, Exception):
        raise error
    if collector is not None:
        _count_error(collector, error)


def _count_error(collector: Collector, error: Exception) -> None:
    """A mistake inside kobs: counted, logged once, never the program's."""
    global _told
    try:
        collector.ring.count("errors")
        if not _told and not collector.closed:
            _told = True
            import logging

            logging.getLogger("kobs").warning("a span was not recorded: %r", error)
    except Exception:
        return


_told = False


def _after_fork_in_child() -> None:
    """The spans that are open are the parent process's to end: here they write nothing more."""
    for span in all_open_spans():
        span._collector = None


os.register_at_fork(after_in_child=_after_fork_in_child)
