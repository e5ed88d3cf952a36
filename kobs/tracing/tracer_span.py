"""The spans of a `kobs.tracing.TracerProvider`: spans of kobs behind OpenTelemetry's API."""

import logging
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as api
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.util import BoundedList

from kobs import bridge
from kobs.tracing.records import SpanDetailed, text_of
from kobs.tracing.view import SpanView, span_context, wall_offset_ns

if TYPE_CHECKING:
    from kobs.tracing.provider import Processors
    from kobs.tracing.tracer import Tracer


USUAL = bridge.SAMPLED | bridge.RANDOM
"""The trace flags that most spans have."""


class TracerSpan(SpanView):
    """A span that a tracer made."""

    _tracer: "Tracer"
    _trace_flags = USUAL
    _trace_state: api.TraceState | None = None
    _record_exception = True
    _set_status_on_exception = True

    def get_span_context(self) -> api.SpanContext:
        """Its ids, its flags and its tracestate."""
        context = self._context
        if context is None:
            own = self._span._cause
            assert own is not None, "a tracer's span has begun"
            context = span_context(own, self._trace_flags, self._trace_state)
            self._context = context
        return context

    @property
    def resource(self) -> Any:
        """What its process is."""
        return self._tracer.resource

    @property
    def instrumentation_scope(self) -> Any:
        """What made it."""
        return self._tracer.instrumentation_scope

    @property
    def instrumentation_info(self) -> Any:
        """What made it, as it was said before there were scopes."""
        return self._tracer.instrumentation_info

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is not None and self.is_recording():
            self._failed(error, escaped=True)
        self.end()

    def _failed(self, error: BaseException, *, escaped: bool = False) -> None:
        """An exception left the span."""
        if self._record_exception:
            self.record_exception(error, escaped=escaped)
        if self._set_status_on_exception:
            said = f"{type(error).__name__}: {text_of(error)}"
            self.set_status(api.Status(api.StatusCode.ERROR, said))

    def _introduce(self, details: dict[str, Any], provider: int) -> None:
        """Record whose it is."""
        fields = (self._tracer.scope_text, provider, self._trace_flags)
        self._emit(SpanDetailed, fields, details)


class RecordingSpan(TracerSpan, sdk.Span):
    """A span that is recorded: a span of the SDK to whoever asks."""

    _live: "Processors | None" = None
    """The processors that look at it while it is open."""

    def is_recording(self) -> bool:
        """It is open."""
        return bool(self._span._began_ns)

    def _readable_span(self) -> sdk.ReadableSpan:
        events: Any = self.events
        if self.dropped_events:
            events = BoundedList.from_seq(len(events), events)
            events.dropped = self.dropped_events
        links: Any = self.links
        if self.dropped_links:
            links = BoundedList.from_seq(len(links), links)
            links.dropped = self.dropped_links
        return sdk.ReadableSpan(
            name=self.name,
            context=self.get_span_context(),
            parent=self.parent,
            resource=self.resource,
            attributes=self._bounded(),
            events=events,
            links=links,
            kind=self.kind,
            instrumentation_info=self.instrumentation_info,
            status=self.status,
            start_time=self.start_time,
            end_time=self.end_time,
            instrumentation_scope=self.instrumentation_scope,
        )

    def to_json(self, indent: int | None = 4) -> str:
        """As JSON."""
        return str(self._readable_span().to_json(indent))

    def _ending(self, ended_ns: int) -> None:
        live = self._live
        if live is not None:
            if self._given_end is None:
                self._given_end = ended_ns + wall_offset_ns()
            try:
                live.on_ending(self)
            except Exception:  # the span ends all the same
                logging.getLogger("kobs").warning("a span processor raised", exc_info=True)
        super()._ending(ended_ns)

    def _ended(self) -> None:
        live = self._live
        if live is not None:
            live.on_end(self._readable_span())


class DroppedSpan(TracerSpan, api.NonRecordingSpan):  # type: ignore[misc]  # `_context` may be None
    """A span that the sampler left out: captured by kobs, exported by no one."""

    def is_recording(self) -> bool:
        """Never: what is set on it is seen by no one else than kobs."""
        return False
