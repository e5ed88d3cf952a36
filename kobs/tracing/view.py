"""What OpenTelemetry sees of a span of kobs: a span of its API, with the properties of a readable
span.

What is set here is recorded at once, as what is set on the span itself is.
"""

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as api
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context.context import Context
from opentelemetry.trace.propagation import _SPAN_KEY

from kobs import bridge
from kobs.context import Cause
from kobs.tracing.limits import Latest, Limits, checked
from kobs.tracing.records import (
    DROPPED,
    LINK_FLAGS,
    LINK_REMOTE,
    LINK_STATE,
    SpanAttributes,
    SpanDetailed,
    SpanLinked,
    SpanNoted,
    plain,
    restore,
    room_of,
    split_attributes,
    text_of,
)

if TYPE_CHECKING:
    from kobs.schema import PayloadType
    from kobs.tracing.span import Span

_logger = logging.getLogger("kobs")

KINDS = {kind.name.lower(): kind for kind in api.SpanKind}
STATUSES = {"unset": api.StatusCode.UNSET, "ok": api.StatusCode.OK, "error": api.StatusCode.ERROR}
_STATUS_NAMES = {code: name for name, code in STATUSES.items()}
_PLAIN = frozenset((str, bool, int, float))
_LOW = (1 << 64) - 1
_ROOM: "dict[Any, int]" = {
    SpanNoted: room_of(SpanNoted, "attributes"),
    SpanLinked: room_of(SpanLinked, "attributes"),
    SpanDetailed: room_of(SpanDetailed, "details"),
}
"""Bytes of JSON in the last field."""

_offset_ns = time.time_ns() - time.monotonic_ns()


def wall_offset_ns() -> int:
    """Wall time minus monotonic time. The same all the time, unless the clock is set."""
    global _offset_ns
    now = time.time_ns() - time.monotonic_ns()
    if abs(now - _offset_ns) > 1_000_000:
        _offset_ns = now
    return _offset_ns


def span_context(
    cause: Cause, flags: int | None = None, state: api.TraceState | None = None
) -> api.SpanContext:
    """OpenTelemetry's context of the span that a cause is inside of."""
    text = bridge.trace_state(cause) if state is None else ""
    if text:
        state = api.TraceState.from_header([text])
    if flags is None:
        flags = bridge.trace_flags(cause)
        if cause.sampled is False:
            flags &= ~bridge.SAMPLED
    return api.SpanContext(
        bridge.whole_trace_id(cause.causality_id, cause.trace_high),
        cause.span_id,
        is_remote=False,
        trace_flags=api.TraceFlags(flags),
        trace_state=state,
    )


def nanoseconds(what: str, time: Any) -> int:
    """A time that a program gives, as a whole number. Raises `TypeError` for what is none."""
    try:
        return int(time)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{what}={time!r}: expected wall time in nanoseconds") from None


def ended_span(cause: Cause) -> api.Span:
    """A span of kobs that is not open here: it has ended, or is another process's."""
    return api.NonRecordingSpan(span_context(cause))


class SpanView(api.Span):
    """A span of kobs as OpenTelemetry has it."""

    _context: api.SpanContext | None = None
    _parent: api.SpanContext | None = None
    _noted: Latest | None = None
    _linked: Latest | None = None
    _description: str | None = None
    _dropped = 0
    _given_start: int | None = None
    """When it began, as the program said: wall time in nanoseconds."""
    _given_end: int | None = None
    _base: Context | None = None
    _made: Context | None = None

    def __init__(self, span: "Span", limits: Limits | None = None) -> None:
        self._span = span
        self._limits = limits = _environment_limits() if limits is None else limits
        self._room = room(limits) - len(span._attributes or ())
        """How many attributes may be set before they need to be counted."""
        self._start_ns = span._began_ns
        self._outer = span._previous

    # -- OpenTelemetry's API ----------------------------------------------------------------

    def get_span_context(self) -> api.SpanContext:
        """Its ids, its flags and its tracestate."""
        context = self._context
        if context is None:
            own = self._span._cause
            context = self._context = api.INVALID_SPAN_CONTEXT if own is None else span_context(own)
        return context

    def is_recording(self) -> bool:
        """It is open, and what it records is kept."""
        return self._span.is_recording

    def set_attribute(self, key: str, value: Any) -> None:
        """Set an attribute."""
        span = self._span
        if self._room > 0 and value.__class__ in _PLAIN and key.__class__ is str and key:
            self._room -= 1
            if not span._began_ns:
                self._refuse("set_attribute")
                return
            span.record(key, value)
            return
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes. Where a limit is reached the oldest one goes."""
        span = self._span
        if not span._began_ns:
            self._refuse("set_attributes")
            return
        limits = self._limits
        cleaned = checked(attributes, None, limits.span_attribute_length)
        lost = cleaned.dropped
        for key, value in cleaned.items():
            said = plain(value, members_by_value=True)
            lost += self._put(key, said, limits.span_attributes)
        if lost:
            self._dropped += lost
            span._plain = False

    def add_event(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
    ) -> None:
        """Note that something happened. `timestamp`: wall time in nanoseconds, else now."""
        span, limits = self._span, self._limits
        if not span._began_ns:
            self._refuse("add_event")
            return
        known = checked(attributes, limits.event_attributes, limits.attribute_length)
        if timestamp is not None:
            timestamp = nanoseconds("timestamp", timestamp)
        when = time.monotonic_ns() if timestamp is None else timestamp - wall_offset_ns()
        if self._noted is None:
            self._noted = Latest(limits.events)
        self._noted.add((name, when, known, timestamp))
        self._left_out(self._noted)
        if limits.events != 0:
            self._emit(SpanNoted, (str(name), when), _plainly(known, known.dropped))

    def add_link(
        self, context: api.SpanContext | None, attributes: Mapping[str, Any] | None = None
    ) -> None:
        """Link to a span that led to this one without being its parent."""
        span, limits = self._span, self._limits
        if context is None or not (context.is_valid or attributes or context.trace_state):
            return
        if not span._began_ns:
            self._refuse("add_link")
            return
        known = checked(attributes, limits.link_attributes, limits.attribute_length)
        if self._linked is None:
            self._linked = Latest(limits.links)
        self._linked.add((context, known))
        self._left_out(self._linked)
        if limits.links == 0:
            return
        said = _plainly(known, known.dropped)
        for key, value, usual in (
            (LINK_STATE, bridge.state_text(context), ""),
            (LINK_FLAGS, int(context.trace_flags), bridge.SAMPLED),
            (LINK_REMOTE, context.is_remote, False),
        ):
            if value != usual:
                said[key] = value
        trace_id = context.trace_id
        self._emit(SpanLinked, (trace_id >> 64, trace_id & _LOW, context.span_id), said)

    def update_name(self, name: str) -> None:
        """Give it another name."""
        if not self._span._began_ns:
            self._refuse("update_name")
            return
        self._span.name = text_of(name)

    def set_status(
        self, status: api.Status | api.StatusCode, description: str | None = None
    ) -> None:
        """Say how it went. Once it is OK it stays so; nothing makes it unset again."""
        span = self._span
        if not span._began_ns:
            self._refuse("set_status")
            return
        if isinstance(status, api.Status):
            if description is not None:
                _logger.warning(
                    "the description %s is ignored: give a Status, or a StatusCode and a "
                    "description", description,
                )  # fmt: skip
        else:
            status = api.Status(status, description)
        code = status.status_code
        if span.status == "ok" or code is api.StatusCode.UNSET:
            return
        span.status = _STATUS_NAMES[code]
        self._description = status.description
        if status.description:
            span._plain = False

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Note an exception as an event, by OpenTelemetry's conventions."""
        module, name = type(exception).__module__, type(exception).__qualname__
        self.add_event(
            "exception",
            {
                "exception.type": name if module in ("", "builtins") else f"{module}.{name}",
                "exception.message": text_of(exception),
                "exception.stacktrace": "".join(traceback.format_exception(exception)),
                "exception.escaped": str(escaped),
                **(attributes or {}),
            },
            timestamp,
        )

    def end(self, end_time: int | None = None) -> None:
        """End it; what is the current span stays so. `end_time`: wall time in nanoseconds, else
        now."""
        span = self._span
        if not span._began_ns:
            self._refuse("end")
            return
        if end_time is not None:
            self._given_end = nanoseconds("end_time", end_time)
        span._finish(None)

    # -- what can be read of it -------------------------------------------------------------

    @property
    def context(self) -> api.SpanContext:
        """Its ids, its flags and its tracestate."""
        return self.get_span_context()

    @property
    def name(self) -> str:
        """Its name."""
        return self._span.name

    @property
    def kind(self) -> api.SpanKind:
        """What part it has in a remote call."""
        return KINDS.get(self._span.kind, api.SpanKind.INTERNAL)

    @property
    def parent(self) -> api.SpanContext | None:
        """The context of the span that it is a child of."""
        outer = self._outer
        if self._parent is None and outer is not None and outer.span_id:
            self._parent = span_context(outer)
        return self._parent

    @property
    def start_time(self) -> int | None:
        """When it began: wall time in nanoseconds."""
        given = self._given_start
        return self._start_ns + wall_offset_ns() if given is None else given

    @property
    def end_time(self) -> int | None:
        """When it ended: wall time in nanoseconds; None while it is open."""
        if self._given_end is not None or self._span._began_ns:
            return self._given_end
        ended_ns = self._start_ns + round((self._span.duration_us or 0.0) * 1000)
        return ended_ns + wall_offset_ns()

    @property
    def status(self) -> api.Status:
        """How it went."""
        return api.Status(STATUSES[self._span.status], self._description)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Its attributes."""
        return MappingProxyType(self._bounded())

    @property
    def events(self) -> tuple[Any, ...]:
        """What happened in it, as the SDK has it."""
        from opentelemetry.sdk.trace import Event

        return tuple(
            Event(name, known, when + wall_offset_ns() if timestamp is None else timestamp)
            for name, when, known, timestamp in self._noted or ()
        )

    @property
    def links(self) -> tuple[api.Link, ...]:
        """The spans that led to it."""
        return tuple(api.Link(context, known) for context, known in self._linked or ())

    @property
    def dropped_attributes(self) -> int:
        """How many attributes a limit left out."""
        return self._dropped

    @property
    def dropped_events(self) -> int:
        """How many events a limit left out."""
        return self._noted.dropped if self._noted is not None else 0

    @property
    def dropped_links(self) -> int:
        """How many links a limit left out."""
        return self._linked.dropped if self._linked is not None else 0

    @property
    def resource(self) -> Any:
        """What its process is, as the SDK has it."""
        from opentelemetry.sdk.resources import Resource

        from kobs.tracing.resource import Given, process_resource

        return Resource(process_resource(Given.read()))

    @property
    def instrumentation_scope(self) -> Any:
        """What made it, as the SDK has it."""
        from kobs.tracing.readable import SCOPE

        return SCOPE

    def __repr__(self) -> str:
        return f'{type(self).__name__}(name="{self.name}", context={self.get_span_context()})'

    # -- below: how -------------------------------------------------------------------------

    def _inside(self, base: Context) -> Context:
        """The context with this span in it, as long as it is the same one below."""
        if self._base is not base or self._made is None:
            self._base, self._made = base, Context({**base, _SPAN_KEY: self})
        return self._made

    def _ending(self, ended_ns: int) -> None:
        """Record what is to be said before the end event."""
        details: dict[str, Any] = {}
        if self._description:
            details["status"] = self._description
        dropped = [self._dropped, self.dropped_events, self.dropped_links]
        if any(dropped):
            details["dropped"] = dropped
        if self._given_end is not None:
            details["ended_ns"] = self._given_end - wall_offset_ns()
        if details:
            self._emit(SpanDetailed, ("-", 0, 255), details)

    def _ended(self) -> None:
        """It has ended."""

    def _put(self, key: str, value: Any, limit: int | None) -> int:
        """Set an attribute; how many it cost."""
        span = self._span
        known = span._attributes
        if limit is None or (known is not None and key in known):
            span.record(key, value)
            return 0
        if limit == 0:
            return 1
        lost = 0
        while known is not None and len(known) >= limit:
            _logger.warning("a span has %d attributes, the most it may; the oldest goes", limit)
            known.pop(next(iter(known)))
            lost += 1
        span.record(key, value)
        return lost

    def _left_out(self, latest: Latest) -> None:
        if latest.dropped:
            self._span._plain = False

    def _emit(
        self,
        kind: "Callable[..., PayloadType]",
        fields: tuple[Any, ...],
        attributes: dict[str, Any],
    ) -> None:
        """Write a record of the span, and what of its attributes does not fit in it."""
        span = self._span
        try:
            inline, parts = split_attributes(attributes, _ROOM[kind])
            number = span.emit(kind(*fields, inline), parent=span._event)
            for index, data in enumerate(parts if number else ()):
                span.emit(SpanAttributes(index, len(parts), data), parent=number)
        except Exception as error:  # the program goes on, whatever becomes of its recording
            if span._collector is not None:
                span._mistake(span._collector, error)

    def _bounded(self) -> BoundedAttributes:
        known = self._span._attributes or {}
        made = checked({key: restore(value) for key, value in known.items()}, None, None)
        made.dropped = self._dropped
        return made

    def _refuse(self, what: str) -> None:
        _logger.warning("%s was called on the span %r, which has ended", what, self.name)


def room(limits: Limits) -> int:
    """Attributes that may be set without a look at the limits."""
    if limits.span_attribute_length is not None:
        return 0
    return limits.span_attributes if limits.span_attributes is not None else 1 << 62


def _plainly(attributes: Mapping[str, Any], dropped: int = 0) -> dict[str, Any]:
    made = {key: plain(value, members_by_value=True) for key, value in attributes.items()}
    if dropped:
        made[DROPPED] = dropped
    return made


def _environment_limits() -> Limits:
    global _limits
    if _limits is None:
        try:
            _limits = Limits.from_environment()
        except Exception as error:
            _logger.warning("%s", error)
            _limits = Limits()
    return _limits


_limits: Limits | None = None
