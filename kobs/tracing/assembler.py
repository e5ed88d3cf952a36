"""Spans made whole again: from begin, end and overflow events to one `FinishedSpan` each.

Nothing here knows OpenTelemetry; times are monotonic nanoseconds.
"""

from collections.abc import Callable
from typing import Any

from kobs.events import Event
from kobs.ids import split_id
from kobs.levels import Category
from kobs.tracing.finished import (
    NO_SCOPE,
    SAMPLED,
    FinishedSpan,
    SpanEvent,
    SpanLink,
    Trace,
    read_scope,
    with_error,
)
from kobs.tracing.gathered import Gathered, OpenSpans
from kobs.tracing.records import (
    DROPPED,
    INCOMPLETE,
    LINK_FLAGS,
    LINK_REMOTE,
    LINK_STATE,
    NAME,
    join_attributes,
)

SPAN_TYPES = frozenset({
    "SpanBegan", "SpanEnded", "SpanAttributes", "SpanLinked", "SpanNoted", "SpanDetailed",
    "TraceAdopted",
})  # fmt: skip
"""Types that spans are made of; they are not log records of their own."""

_MOST = 65_536
"""Adopted traces, and records with overflow, that are remembered; the oldest are forgotten."""
MOST_SENDS = 32_768
"""Sends that are remembered for what receives them."""
MOST_RECEIVED = 8192
"""Receives that are remembered for the spans that begin with them."""


class SpanAssembler:
    """Takes events by time and gives spans as they end.

    `trace_high`: the high half of the trace ids that a recording (by number) mints.
    """

    def __init__(self, trace_high: Callable[[int], int]) -> None:
        self._trace_high = trace_high
        self._open = OpenSpans(lambda record: self._parts.pop(record.id, None))
        self._by_span: dict[int, int] = {}
        self._traces: dict[int, Trace] = {}
        self._remote: dict[int, int] = {}
        self._parts: dict[int, list[tuple[int, str]]] = {}
        self._adopted: dict[int, Event] = {}
        self._sends: dict[int, tuple[int, int, int]] = {}
        self.received: dict[int, tuple[int, int, int]] = {}
        """Of an event that received something: trace id, span id and recording of what sent it."""

    def trace_of(self, causality_id: int, recording: int) -> Trace | None:
        """The trace of a chain; None for no chain."""
        if not causality_id:
            return None
        known = self._traces.get(causality_id)
        return known or Trace(self._trace_high(recording) << 64 | causality_id)

    def observe(self, event: Event) -> FinishedSpan | None:
        """Take an event; the span that ended with it, if one did."""
        kind = event.type_name
        if kind == "SpanEnded":
            return self._end(event)
        if kind == "SpanBegan":
            self._open.entry(event.id).began = event
            _remember(self._by_span, event.span_id, event.id)
        elif kind == "SpanAttributes":
            self._part(event)
        elif kind == "SpanLinked":
            self._open.add_link(event.parent, event)
        elif kind == "SpanNoted":
            self._open.add_event(event.parent, event)
        elif kind == "SpanDetailed":
            self._open.entry(event.parent).details.append(event)
        elif kind == "TraceAdopted":
            self._adopt(event)
        elif event.link:
            self._join(event)
        return None

    def end_open(
        self,
        began_id: int,
        *,
        name: str,
        began_ns: int,
        ended_ns: int,
        causality_id: int,
        span_id: int,
        parent: int,
        pid: int,
        tid: int,
        origin: str,
        attributes: dict[str, Any],
    ) -> FinishedSpan | None:
        """End a span that never ended itself, from its entry in the in-flight table."""
        known = self._open.get(began_id) or Gathered()
        recording = split_id(began_id)[0]
        trace = self.trace_of(causality_id, recording)
        if trace is None:
            return None
        began = known.began
        outer = self._open.get(parent)
        parent_span = outer.began.span_id if outer is not None and outer.began is not None else 0
        if began is not None:
            parent_span = self._parent(began, trace)
        span = FinishedSpan(
            name, trace, span_id, parent_span, self._is_remote(parent, parent_span, recording),
            began.payload.kind if began is not None else "internal",
            began.category if began is not None else Category.PERFORMANCE,
            "error", began_ns, max(began_ns, ended_ns),
            {**join_attributes({}, self._parts.get(began_id, ())), **attributes},
            [], pid, tid, recording, origin,
        )  # fmt: skip
        return self._whole(span, known)

    def _end(self, event: Event) -> FinishedSpan | None:
        known = self._open.pop(event.parent)
        parts = self._parts.pop(event.parent, ())
        self._by_span.pop(event.span_id, None)
        trace = self.trace_of(event.causality_id, event.recording)
        if trace is None:
            return None
        payload, began = event.payload, known.began
        attributes = join_attributes(payload.attributes, parts)
        if event.truncated:
            attributes[INCOMPLETE] = True
        began_ns = event.timestamp_ns - round(payload.duration_us * 1000)
        parent_span, kind, remote = 0, "internal", False
        if began is not None:
            began_ns = began.timestamp_ns
            parent_span, kind = self._parent(began, trace), began.payload.kind
            remote = self._is_remote(began.parent, parent_span, event.recording)
        else:
            attributes["kobs.begin.lost"] = True
        span = FinishedSpan(
            attributes.pop(NAME, payload.name), trace, event.span_id,
            parent_span, remote, kind, event.category,
            payload.status, began_ns, event.timestamp_ns, attributes, [],
            event.pid, event.tid, event.recording, event.origin,
        )  # fmt: skip
        return self._whole(span, known)

    def _whole(self, span: FinishedSpan, known: Gathered) -> FinishedSpan:
        """The span with its events, links and details, and its error by the conventions."""
        if known.links:
            links = [self._link(link) for link in known.links]
            span = span._replace(links=links, dropped_links=known.lost_links)
        if known.events:
            events = [self._noted(event) for event in known.events]
            span = span._replace(events=events, dropped_events=known.lost_events)
        trace_flags = span.trace.flags
        if trace_flags != span.flags:
            span = span._replace(flags=trace_flags)
        for event in known.details:
            if event.span_id == span.span_id:  # else of a span inside whose begin was lost
                span = self._detailed(span, event)
        return span if span.provider else with_error(span)

    def _detailed(self, span: FinishedSpan, event: Event) -> FinishedSpan:
        payload = event.payload
        details = self._joined(event.id, payload.details)
        trace, flags = span.trace, span.flags
        if payload.trace_flags != 255:
            flags = payload.trace_flags
            trace = trace._replace(exported=bool(flags & SAMPLED), flags=flags)
        if "trace_state" in details:
            trace = trace._replace(state=str(details["trace_state"]))
        above = details.get("parent")
        if above:
            known = trace._replace(flags=above[0], state=above[1])
            span = span._replace(parent_trace=known)
        dropped = details.get("dropped", (span.dropped_attributes, 0, 0))
        # What limits left out comes first; some of it may not have been kept here either.
        more_events = max(0, dropped[1] - span.dropped_events)
        more_links = max(0, dropped[2] - span.dropped_links)
        return span._replace(
            trace=trace,
            flags=flags,
            scope=span.scope
            if payload.instrumentation in NO_SCOPE
            else read_scope(payload.instrumentation),
            provider=payload.provider or span.provider,
            parent_is_remote=bool(details.get("remote", span.parent_is_remote)),
            began_ns=details.get("began_ns", span.began_ns),
            ended_ns=details.get("ended_ns", span.ended_ns),
            status_description=details.get("status", span.status_description),
            events=span.events[more_events:],
            links=span.links[more_links:],
            dropped_attributes=dropped[0],
            dropped_events=span.dropped_events + more_events,
            dropped_links=span.dropped_links + more_links,
        )

    def _noted(self, event: Event) -> SpanEvent:
        attributes = self._joined(event.id, event.payload.attributes)
        dropped = attributes.pop(DROPPED, 0)
        name = attributes.pop(NAME, event.payload.name)
        if event.truncated:
            attributes[INCOMPLETE] = True
        return SpanEvent(name, event.payload.time_ns, attributes, dropped)

    def _link(self, link: Event | SpanLink) -> SpanLink:
        if isinstance(link, SpanLink):
            return link
        payload = link.payload
        attributes = self._joined(link.id, payload.attributes)
        if link.truncated:
            attributes[INCOMPLETE] = True
        return SpanLink(
            payload.trace_high << 64 | payload.trace_low, payload.linked_span, attributes,
            trace_state=attributes.pop(LINK_STATE, ""),
            flags=attributes.pop(LINK_FLAGS, SAMPLED),
            remote=attributes.pop(LINK_REMOTE, False),
            dropped_attributes=attributes.pop(DROPPED, 0),
        )  # fmt: skip

    def _joined(self, record: int, inline: Any) -> dict[str, Any]:
        return join_attributes(inline, self._parts.pop(record, ()))

    def _part(self, event: Event) -> None:
        parts = self._parts.get(event.parent)
        if parts is None:
            _remember(self._parts, event.parent, parts := [])
        parts.append((event.payload.index, event.payload.data))
        adopted = self._adopted.get(event.parent)
        if adopted is not None and len(parts) == adopted.payload.parts:
            del self._adopted[event.parent], self._parts[event.parent]
            self._adopt(adopted, "".join(data for _, data in sorted(parts)))

    def _adopt(self, event: Event, state: str = "") -> None:
        payload = event.payload
        if payload.parts and not state:
            _remember(self._adopted, event.id, event)
        trace = Trace(
            payload.trace_high << 64 | payload.trace_low, payload.sampled,
            state or payload.trace_state, payload.trace_flags,
        )  # fmt: skip
        _remember(self._traces, event.causality_id, trace)
        if payload.remote:
            _remember(self._remote, event.span_id, event.causality_id)

    def _parent(self, began: Event, trace: Trace) -> int:
        """The parent span's id. What began outside of any span, with what was received, has the
        span that sent it as its parent."""
        given: int = began.payload.parent_span
        sent = self.received.get(began.parent)
        if given or sent is None or sent[0] != trace.trace_id:
            return given
        return sent[1]

    def _is_remote(self, parent: int, parent_span: int, recording: int) -> bool:
        """The parent span is another process's."""
        if parent and split_id(parent)[0] != recording:
            return True
        sent = self.received.get(parent)
        if sent is not None and sent[1] == parent_span:
            return sent[2] != recording
        return parent_span in self._remote

    def _join(self, event: Event) -> None:
        """A send and its receive share a link token: the receiving span links to the sending
        one, unless it is the same."""
        sent = self._sends.get(event.link)
        if sent is None:
            trace = self.trace_of(event.causality_id, event.recording)
            if trace is not None and event.span_id:
                sent = (trace.trace_id, event.span_id, event.recording)
                _remember(self._sends, event.link, sent, MOST_SENDS)
            return
        _remember(self.received, event.id, sent, MOST_RECEIVED)
        began_id = self._by_span.get(event.span_id)
        if began_id is not None and self._open.get(began_id) and sent[1] != event.span_id:
            link = SpanLink(*sent[:2], {"kobs.link": f"{event.link:016x}"})
            self._open.add_link(began_id, link)


def _remember(table: dict[int, Any], key: int, value: Any, most: int = _MOST) -> None:
    while len(table) >= most:
        del table[next(iter(table))]
    table[key] = value
