"""A span of the run, written into the recording when it begins and when it ends.

PYTEST_DONT_REWRITE
"""

import os
from collections.abc import Callable, Mapping
from time import monotonic_ns
from typing import Any

from kobs import bridge
from kobs._core.layout import FLAG_BEGIN, FLAG_END
from kobs.collector import Collector
from kobs.context import Cause, cause, origin
from kobs.ids import mint_id
from kobs.payloads import SpanBegan, SpanEnded
from kobs.tracing.adopting import tell
from kobs.tracing.records import NAME, SpanAttributes, SpanLinked, plain, split_attributes


class RunSpan:
    """A span that has begun. It is nobody's ambient cause by itself: see `inside`.

    `outer`: the span that it is below, or the trace that it begins (a cause without a span).
    `remote`: `outer` is another process's span, of which this recording has to be told.
    """

    def __init__(
        self, collector: Collector, name: str, outer: Cause, *, remote: bool = False
    ) -> None:
        self._collector = collector
        self._pid = os.getpid()
        self.name = name
        self.began_ns = monotonic_ns()
        self.ended_ns = 0
        """When what it is about was over; 0 before. Its end is written later, with the outcome."""
        self.attributes: dict[str, object] = {}
        self._event, self._entry = 0, -1
        high = outer.trace_high or collector.ring.trace_high
        self.inside = Cause(outer.causality_id, 0, mint_id(), None, high)
        """The cause of what happens in it: of its trace and below it, but not *caused* by it:
        what led to what in a test does not depend on whether there are spans of it."""
        self._written = False
        self._write(lambda: self._begin(outer, remote))

    def link(self, other: Cause) -> None:
        """It belongs to a span that is not its parent."""
        trace_id = bridge.whole_trace_id(other.causality_id, other.trace_high)
        high, low = trace_id >> 64, trace_id & ((1 << 64) - 1)
        self._write(lambda: self._emit(SpanLinked, high, low, other.span_id, {}))

    def over(self) -> None:
        """What it is about is over; `end` says how."""
        self.ended_ns = monotonic_ns()

    def end(self, status: str = "ok", attributes: Mapping[str, object] | None = None) -> None:
        """Write the end. Twice is once."""
        if self._written:
            return
        self._written = True
        self.attributes.update(attributes or {})
        ended_ns = self.ended_ns = self.ended_ns or monotonic_ns()
        self._write(lambda: self._end(status, ended_ns))

    @property
    def traceparent(self) -> str:
        """Its W3C `traceparent`."""
        return bridge.format_traceparent(self.inside)

    def _begin(self, outer: Cause, remote: bool) -> None:
        ring = self._collector.ring
        whole = outer._replace(trace_high=self.inside.trace_high)
        flags = bridge.trace_flags(whole)
        if bridge.is_foreign(outer, ring.trace_high) or not flags & bridge.SAMPLED:
            trace_id = bridge.whole_trace_id(outer.causality_id, whole.trace_high)
            state = bridge.trace_state(whole)
            tell(self._collector, outer, trace_id, flags, state, remote, self.began_ns)
        self._event, self._entry = self._collector.begin_emitter(SpanBegan)(
            self.name, "internal", outer.span_id, causality_id=outer.causality_id, parent=0,
            span_id=self.inside.span_id, timestamp_ns=self.began_ns, flags=FLAG_BEGIN,
        )  # fmt: skip
        if not ring.intern(self.name):
            self.attributes[NAME] = self.name  # no room for strings: it goes on as text

    def _end(self, status: str, ended_ns: int) -> None:
        if self._entry >= 0:
            self._collector.ring.close_entry(self._entry)
        known = {key: plain(value) for key, value in self.attributes.items() if value is not None}
        inline, parts = split_attributes(known)
        for index, data in enumerate(parts):
            self._emit(SpanAttributes, index, len(parts), data, at_ns=ended_ns)
        took_us = (ended_ns - self.began_ns) / 1000
        self._emit(SpanEnded, self.name, took_us, status, inline, at_ns=ended_ns, flags=FLAG_END)

    def _emit(self, cls: Any, *fields: object, at_ns: int = 0, flags: int = 0) -> None:
        self._collector.emitter(cls)(
            *fields, causality_id=self.inside.causality_id, parent=self._event,
            span_id=self.inside.span_id, timestamp_ns=at_ns or monotonic_ns(), flags=flags,
        )  # fmt: skip

    def _write(self, write: Callable[[], None]) -> None:
        """On nobody's behalf, and never left out by sampling. A forked child writes nothing."""
        if self._collector.closed or os.getpid() != self._pid:
            return
        key, ambient = origin.get(), cause.get()
        origin.set("")
        cause.set(self.inside._replace(sampled=True))
        try:
            write()
        finally:
            origin.set(key)
            cause.set(ambient)
