"""Spans made whole again: from begin, end and overflow events to one `FinishedSpan` each.

Nothing here knows OpenTelemetry; times are monotonic nanoseconds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kobs.events import Event
from kobs.ids import split_id
from kobs.levels import Category
from kobs.tracing.records import INCOMPLETE, NAME, join_attributes

SPAN_TYPES = frozenset({"SpanBegan", "SpanEnded", "SpanAttributes", "SpanLinked", "TraceAdopted"})
"""Types that spans are made of; they are not log records of their own."""

_MOST = 65_536
"""Open spans, adopted traces and sends that are remembered; the oldest are forgotten."""


class Trace(NamedTuple):
    """A chain's whole trace id, and what another tracer decided about it."""

    trace_id: int
    exported: bool = True
    state: str = ""


class SpanLink(NamedTuple):
    """A span that led to this one without being its parent."""

    trace_id: int
    span_id: int
    attributes: dict[str, Any]


class FinishedSpan(NamedTuple):
    """A span with everything that is known of it."""

    name: str
    trace: Trace
    span_id: int
    parent_span: int
    parent_is_remote: bool
    kind: str
    category: Category
    status: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    links: list[SpanLink]
    pid: int
    tid: int
    recording: int
    origin: str


class _Open:
    """What is known so far of a span that has not ended."""

    __slots__ = ("began", "links", "parts")

    def __init__(self, began: Event | None = None) -> None:
        self.began = began
        self.parts: list[tuple[int, str]] = []
        self.links: list[SpanLink] = []


class SpanAssembler:
    """Takes events by time and gives spans as they end.

    `trace_high`: the high half of the trace ids that a recording (by number) mints.
    """

    def __init__(self, trace_high: Callable[[int], int]) -> None:
        self._trace_high = trace_high
        self._open: dict[int, _Open] = {}
        self._by_span: dict[int, int] = {}
        self._traces: dict[int, Trace] = {}
        self._sends: dict[int, tuple[int, int]] = {}

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
            self._entry(event.id).began = event
            _remember(self._by_span, event.span_id, event.id)
        elif kind == "SpanAttributes":
            self._entry(event.parent).parts.append((event.payload.index, event.payload.data))
        elif kind == "SpanLinked":
            payload = event.payload
            trace_id = payload.trace_high << 64 | payload.trace_low
            link = SpanLink(trace_id, payload.linked_span, dict(payload.attributes))
            self._entry(event.parent).links.append(link)
        elif kind == "TraceAdopted":
            payload = event.payload
            adopted = Trace(
                payload.trace_high << 64 | payload.trace_low, payload.sampled, payload.trace_state
            )
            _remember(self._traces, event.causality_id, adopted)
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
        known = self._open.get(began_id) or _Open()
        recording = split_id(began_id)[0]
        trace = self.trace_of(causality_id, recording)
        if trace is None:
            return None
        began = known.began
        outer = self._open.get(parent)
        parent_span = outer.began.span_id if outer is not None and outer.began is not None else 0
        if began is not None:
            parent_span = began.payload.parent_span
        return FinishedSpan(
            name, trace, span_id, parent_span, _is_remote(parent, recording),
            began.payload.kind if began is not None else "internal",
            began.category if began is not None else Category.PERFORMANCE,
            "error", began_ns, max(began_ns, ended_ns),
            {**join_attributes({}, known.parts), **attributes},
            known.links, pid, tid, recording, origin,
        )  # fmt: skip

    def _end(self, event: Event) -> FinishedSpan | None:
        known = self._open.pop(event.parent, None) or _Open()
        self._by_span.pop(event.span_id, None)
        trace = self.trace_of(event.causality_id, event.recording)
        if trace is None:
            return None
        payload, began = event.payload, known.began
        attributes = join_attributes(payload.attributes, known.parts)
        if event.truncated:
            attributes[INCOMPLETE] = True
        began_ns = event.timestamp_ns - round(payload.duration_us * 1000)
        parent_span, kind, remote = 0, "internal", False
        if began is not None:
            began_ns = began.timestamp_ns
            parent_span, kind = began.payload.parent_span, began.payload.kind
            remote = _is_remote(began.parent, event.recording)
        else:
            attributes["kobs.begin.lost"] = True
        return FinishedSpan(
            attributes.pop(NAME, payload.name), trace, event.span_id,
            parent_span, remote, kind, event.category,
            payload.status, began_ns, event.timestamp_ns, attributes, known.links,
            event.pid, event.tid, event.recording, event.origin,
        )  # fmt: skip

    def _join(self, event: Event) -> None:
        """A send and its receive share a link token: the receiving span links to the sending
        one, unless it is the same."""
        sent = self._sends.get(event.link)
        if sent is None:
            trace = self.trace_of(event.causality_id, event.recording)
            if trace is not None and event.span_id:
                _remember(self._sends, event.link, (trace.trace_id, event.span_id))
            return
        began_id = self._by_span.get(event.span_id)
        known = self._open.get(began_id) if began_id is not None else None
        if known is not None and sent[1] != event.span_id:
            known.links.append(SpanLink(*sent, {"kobs.link": f"{event.link:016x}"}))

    def _entry(self, began_id: int) -> _Open:
        known = self._open.get(began_id)
        if known is None:
            known = _Open()
            _remember(self._open, began_id, known)
        return known


def _is_remote(parent: int, recording: int) -> bool:
    """The parent event is another process's."""
    return bool(parent) and split_id(parent)[0] != recording


def _remember(table: dict[int, Any], key: int, value: Any) -> None:
    while len(table) >= _MOST:
        del table[next(iter(table))]
    table[key] = value
