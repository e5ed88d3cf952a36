"""The tracer of a `kobs.tracing.TracerProvider`."""

import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from opentelemetry import context as otel_context, trace as api
from opentelemetry.context.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationInfo, InstrumentationScope
from opentelemetry.util.types import Attributes

from kobs import bridge
from kobs.context import Cause, cause
from kobs.ids import mint_id
from kobs.levels import Category
from kobs.tracing.records import scope_text, text_of
from kobs.tracing.span import Span, SpanError, make_span
from kobs.tracing.tracer_span import USUAL, DroppedSpan, RecordingSpan, TracerSpan
from kobs.tracing.view import SpanView, nanoseconds, room, wall_offset_ns

if TYPE_CHECKING:
    from kobs.tracing.provider import TracerProvider

F = TypeVar("F", bound=Callable[..., Any])

_logger = logging.getLogger("kobs")

NOBODY = (1 << 32) - 1
"""In place of a provider's number in what its sampler left out: no processor gets it."""

_PERFORMANCE = int(Category.PERFORMANCE)
_NEVER_SLOW = float("inf")
_KINDS = {kind: kind.name.lower() for kind in api.SpanKind}
_INTERNAL = api.SpanKind.INTERNAL
_cause_get, _cause_set = cause.get, cause.set
_new = object.__new__


class Tracer(sdk.Tracer):
    """Makes spans that are recorded in the ring of the provider's collector."""

    def __init__(
        self,
        provider: "TracerProvider",
        info: InstrumentationInfo,
        scope: InstrumentationScope,
    ) -> None:
        self._provider = provider
        self.instrumentation_info = info
        self.instrumentation_scope = scope
        self._instrumentation_scope = scope
        """As the SDK's tracer has it, for those who look there."""
        self.scope_text = scope_text(
            scope.name, scope.version, scope.schema_url, dict(scope.attributes or {})
        )

    @property
    def resource(self) -> Any:  # type: ignore[override]
        """What its spans are of."""
        return self._provider.resource

    @property
    def sampler(self) -> Any:  # type: ignore[override]
        """What decides which spans are exported."""
        return self._provider.sampler

    @property
    def id_generator(self) -> Any:  # type: ignore[override]
        """What makes ids."""
        return self._provider.id_generator

    def start_as_current_span(  # type: ignore[override]  # as the SDK's: it decorates too
        self,
        name: str,
        context: Context | None = None,
        kind: api.SpanKind = api.SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[api.Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> "CurrentSpan":
        """A context manager and decorator, sync and async: a span that is current inside."""
        made: CurrentSpan = _new(CurrentSpan)  # a constructor would cost a call more
        made._tracer = self
        made._view = None
        made._arguments = (
            name, context, kind, attributes, links, start_time, record_exception,
            set_status_on_exception, end_on_exit,
        )  # fmt: skip
        return made

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: api.SpanKind = api.SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[api.Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> api.Span:
        """A span that has begun and is not current. `start_time`: wall time in nanoseconds, else
        now. Raises `TypeError` where the parent's context is none."""
        provider = self._provider
        parent = api.get_current_span(context)
        above: Any = parent.get_span_context()
        if above is not None and not isinstance(above, api.SpanContext):
            raise TypeError("parent_span_context must be a SpanContext or None.")
        if not self._is_enabled():
            return api.NonRecordingSpan(cast(api.SpanContext, above))
        if above is not None and not above.is_valid:
            above = None
        links = links or ()
        name, usual_kind = text_of(name), _KINDS.get(kind)
        if usual_kind is None:
            _logger.warning("kind=%r of the span %r is no SpanKind: it is internal", kind, name)
            kind, usual_kind = _INTERNAL, _KINDS[_INTERNAL]
        if start_time is not None:
            start_time = nanoseconds("start_time", start_time)
        outer = _outer(context, parent, above)
        trace_id = self._trace_id(outer)
        decision, flags, attributes, state = self._decide(
            above, context, trace_id, name, kind, attributes, links
        )
        made: type[TracerSpan] = DroppedSpan if decision is Decision.DROP else RecordingSpan
        span = make_span(name, usual_kind, _PERFORMANCE, None, _NEVER_SLOW, provider._collector)
        fresh = outer is None or not outer.causality_id
        if fresh:
            high = bridge.split_trace_id(trace_id)
            self._remember(Cause(high[0], 0, 0, None, high[1]), flags, state)
        own = span._begin(
            outer,
            trace_id=trace_id if fresh else 0,
            span_id=provider._span_id() if provider._custom_ids else 0,
        )
        if not fresh:
            self._remember(own, flags, state)
        view = self._view(made, span, outer, flags)
        view._trace_state = state
        view._parent = above
        view._record_exception = record_exception
        view._set_status_on_exception = set_status_on_exception
        details: dict[str, Any] = {}
        text = state.to_header() if state else ""
        if text:
            details["trace_state"] = text
        if above is not None:
            if above.is_remote:
                details["remote"] = True
            own_state, own_flags = above.trace_state.to_header(), int(above.trace_flags)
            if (own_flags, own_state) != (flags, text):
                details["parent"] = [own_flags, own_state]
        if start_time is not None:
            view._given_start = start_time
            details["began_ns"] = start_time - wall_offset_ns()
        view._introduce(details, provider.number if made is RecordingSpan else NOBODY)
        if attributes:
            view.set_attributes(attributes)
        for link in links:
            if link is not None:
                view.add_link(link.context, link.attributes)
        if isinstance(view, RecordingSpan):
            live = provider._live()
            if live is not None:
                view._live = live
                span._plain = False
                live.on_start(view, context)
        return cast(api.Span, view)

    def _is_enabled(self) -> bool:
        """As the SDK's tracer has it: without it there are no spans."""
        return self._provider._is_enabled(self.instrumentation_scope)

    def _current(self, name: str, kind: api.SpanKind) -> RecordingSpan | None:
        """As `start_span`, of a span that is current and of which nothing else is said; None
        where more is to be asked."""
        provider = self._provider
        processors = getattr(provider._active_span_processor, "_span_processors", None)
        if processors is not provider._seen:
            provider._live()
        if not provider._plain or provider._looking is not None:
            return None
        outer = _cause_get()
        if outer is not None and (
            outer.__class__ is not Cause or not outer[2] or outer[4] != provider._trace_high
            or (outer[0], outer[4]) in bridge._told
        ):  # fmt: skip
            return None
        # Members of an enumeration are hashed in Python.
        known = "internal" if kind is _INTERNAL else _KINDS.get(kind)
        if name.__class__ is not str or known is None:
            return None
        span = make_span(name, known, _PERFORMANCE, None, _NEVER_SLOW, provider._collector)
        span.__enter__()
        view: RecordingSpan = _new(RecordingSpan)
        view._span = span
        view._tracer = self
        view._limits = provider.limits
        view._room = provider._room
        view._outer = outer
        view._start_ns = span._began_ns
        span._view = view
        span._plain = True
        try:
            provider._introduce(self.scope_text, provider.number, USUAL)
        except Exception as error:  # the program goes on, whatever becomes of its recording
            span._mistake(provider._collector, error)
        return view

    def _view(
        self, made: type[TracerSpan], span: Span, outer: Cause | None, flags: int
    ) -> TracerSpan:
        view: TracerSpan = _new(made)
        view._span = span
        view._tracer = self
        view._limits = self._provider.limits
        view._room = room(view._limits)
        view._trace_flags = flags
        view._outer = outer
        view._start_ns = span._began_ns
        span._view = view
        span._plain = True
        return view

    def _trace_id(self, outer: Cause | None) -> int:
        """The whole id of the trace that a span below `outer` is of."""
        provider = self._provider
        if outer is not None and outer.causality_id:
            return bridge.whole_trace_id(outer.causality_id, outer.trace_high)
        if provider._custom_ids:
            return int(provider.id_generator.generate_trace_id())
        return provider._trace_high << 64 | mint_id()

    def _decide(
        self,
        above: api.SpanContext | None,
        context: Context | None,
        trace_id: int,
        name: str,
        kind: api.SpanKind,
        attributes: Attributes,
        links: Sequence[api.Link],
    ) -> tuple[Decision, int, Attributes, api.TraceState | None]:
        """(what the sampler decides, the trace flags, the attributes, the tracestate)."""
        provider = self._provider
        plain = provider._plain_sampler
        state = above.trace_state if above is not None else None
        if plain is None:
            result = provider.sampler.should_sample(
                context, trace_id, name, kind, attributes, links
            )
            decision, attributes, state = result.decision, result.attributes, result.trace_state
            sampled = decision is Decision.RECORD_AND_SAMPLE
        else:
            if above is not None and plain.parent_based:
                sampled = bool(above.trace_flags & bridge.SAMPLED)
            else:
                sampled = plain.exports(trace_id & ((1 << 64) - 1))
            decision = Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP
        random = provider._random_ids if above is None else above.trace_flags & bridge.RANDOM
        flags = (bridge.SAMPLED if sampled else 0) | (bridge.RANDOM if random else 0)
        return decision, flags, attributes, state

    def _remember(self, own: Cause, flags: int, state: api.TraceState | None) -> None:
        """What the children of a span take over, where it is not the usual."""
        if bridge.is_told(own) or flags != bridge.trace_flags(own) or state:
            text = state.to_header() if state else ""
            bridge.keep_trace(own.causality_id, own.trace_high, flags, text)


def _outer(context: Context | None, parent: api.Span, above: Any) -> Cause | None:
    """What a span in this context is below."""
    ambient = _cause_get()
    if above is None:
        # A cause that is no span, such as what came with a queue's item, goes on.
        return ambient if context is None and ambient is not None and not ambient[5] else None
    if isinstance(parent, SpanView):
        return parent._span._cause
    if ambient is not None and ambient.span_id == above.span_id:
        return ambient
    return bridge.cause_of(above, ambient)


class CurrentSpan:
    """What `start_as_current_span` gives: the span begins when it is entered."""

    __slots__ = ("_arguments", "_own", "_token", "_tracer", "_view")

    _tracer: Tracer
    _arguments: tuple[Any, ...]
    _own: bool
    """It is C that makes it current."""
    _view: Any
    _token: Any
    """Where it is not: takes its context away again."""

    def __enter__(self) -> api.Span:
        name, context, kind, attributes, links, start_time, record, status, _ = self._arguments
        opened = self._view
        if opened is not None and getattr(getattr(opened, "_span", None), "_began_ns", False):
            raise SpanError(
                f"span {name!r} is open already; call start_as_current_span(...) again for a span "
                "inside it"
            )
        tracer = self._tracer
        if context is None and attributes is None and not links and start_time is None:
            view = tracer._current(name, kind)
            if view is not None:
                self._view, self._own = view, True
                return view
        self._own = False
        started = self._view = tracer.start_span(
            name, context, kind, attributes, links, start_time, record, status
        )
        self._token = otel_context.attach(api.set_span_in_context(started))
        return started

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        view = self._view
        if error is None and self._own and self._arguments[8]:
            view._span.__exit__(None, None, None)
            return
        span: Span | None = getattr(view, "_span", None)
        if span is None:  # the tracer is switched off
            otel_context.detach(self._token)
            return
        *_, record, status, end = self._arguments
        try:
            if self._own:
                _leave(span)
            else:
                otel_context.detach(self._token)
            if isinstance(error, Exception) and view.is_recording():
                view._record_exception, view._set_status_on_exception = record, status
                view._failed(error)
        except Exception as mistake:  # such as a RecursionError: it ends all the same
            if status and error is not None and span.status == "unset":
                span.status = "error"
            if span._collector is not None:
                span._mistake(span._collector, mistake)
        finally:
            if end and span._began_ns:
                span._finish(None)

    def __call__(self, function: F) -> F:
        """Decorate a function or coroutine function: every call is a span."""
        tracer, arguments = self._tracer, self._arguments
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_async(*args: Any, **kwargs: Any) -> Any:
                with tracer.start_as_current_span(*arguments):
                    return await function(*args, **kwargs)

            return cast(F, call_async)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with tracer.start_as_current_span(*arguments):
                return function(*args, **kwargs)

        return cast(F, call)


def _leave(span: Span) -> None:
    """It is the current span no more; whether it is open still is another matter."""
    own, token = span._cause, span._token
    span._token = None
    current = _cause_get()
    if token is not None and own is not None and current is not None and current[2] == own[2]:
        try:
            cause.reset(token)
        except (RuntimeError, ValueError, TypeError):  # in another context than it began in
            _cause_set(span._previous)
    if own is not None and not span._began_ns:
        span._leave(own)
