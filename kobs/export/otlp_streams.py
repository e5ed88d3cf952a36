"""One signal on its way from slots to its receiver.

A stream has a cursor of its own. What it read waits as one batch; it reads on only when the
receiver took that, so that memory stays bounded and what is not taken stays in the ring.
"""

import sys
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from kobs._core.contract import RawSlot
from kobs.context import EXPORT_ORIGIN
from kobs.events import Event
from kobs.export.otlp_encode import KINDS, STATUSES, Item, encode_log, encode_span
from kobs.export.otlp_feeds import Feed, Progress, Run, Source
from kobs.export.otlp_logs import LogData, log_data
from kobs.export.otlp_send import A_FEW, BATCH, ObjectOutbox, Sent, WireOutbox
from kobs.levels import Category, Severity
from kobs.payloads import SpanBegan, SpanEnded
from kobs.schema import registered_types
from kobs.tracing.assembler import SPAN_TYPES, SpanAssembler
from kobs.tracing.finished import OWN_SCOPE, FinishedSpan, Scope, scope_of
from kobs.tracing.finished_limits import within
from kobs.tracing.limits import Limits
from kobs.tracing.log_records import LogAssembler, LogAttributes
from kobs.tracing.records import SpanDetailed, TraceAdopted

if TYPE_CHECKING:
    from kobs._core._native import SpanEncoder

MOST_OPEN = 65_536
"""Open spans, and traces that another tracer made, that are remembered."""

_TELL = tuple(kind.__kobs_schema__.type_id for kind in (TraceAdopted, LogAttributes))
"""Types that tell of what comes later, or of others."""
_OF_TYPE, _OF_SEVERITY = slice(56, 58), 58
_OF_SPANS = [registered_types()[name] for name in sorted(SPAN_TYPES)]
_SPAN_IDS = {kind.__kobs_schema__.type_id.to_bytes(2, sys.byteorder) for kind in _OF_SPANS}
_ENDED = SpanEnded.__kobs_schema__.type_id.to_bytes(2, sys.byteorder)
_OF_TRACES = ("TraceAdopted", "SpanAttributes")
_IN_SLOT = 128
Make = Callable[..., Any]


class Stream:
    """What both signals have in common."""

    signal = ""

    def __init__(
        self,
        feed: Feed,
        assembler: SpanAssembler,
        outbox: WireOutbox | ObjectOutbox,
        progress: Progress | None,
    ) -> None:
        self.outbox = outbox
        self.assembler = assembler
        self.unsampled = 0
        """Objects of traces that another tracer decided not to export."""
        self.looked_at = 0
        """Slots that were read."""
        self.undecoded = 0
        """Events whose payload makes no sense."""
        self._feed = feed
        self._progress = progress
        self._runs: deque[Run] = deque()

    @property
    def lost(self) -> int:
        """Events that went by unread, or make no sense."""
        return self._feed.lost + self.undecoded

    def export(
        self, until: float | None = None, *, most: int = 1 << 62, all_of_it: bool = False,
        hurry: bool = False,
    ) -> Sent:  # fmt: skip
        """Send what waits and what is new, of at most so many slots, and say what became of it."""
        sent = self._send(until, hurry)
        while not self.outbox.full and most > 0:
            read = self._fill(most, all_of_it)
            most -= read
            last = self._send(until, hurry)
            sent = sent.plus(last)
            if not read or (self.outbox.waiting and not last.taken and not last.failed):
                break
        return sent

    def seal(self, open_of: frozenset[int] = frozenset()) -> None:
        """Make a batch of what was gathered; `open_of`: the recordings of which it has all spans
        that were open at their end."""
        self.outbox.seal({} if self._progress is None else self._progress.where(), open_of)

    def count_rest(self) -> int:
        """Give up what waits and all that is left to read; how many objects that was."""
        given_up = self.outbox.clear()
        while self._runs or (found := self._feed.read(all_of_it=True)):
            given_up += sum(map(self._count, self._runs or found))
            self._runs.clear()
        return given_up

    def close(self) -> int:
        """End it; how many objects had to be given up."""
        self._feed.close()
        given_up = self.outbox.clear()
        self.outbox.close()
        return given_up

    def _send(self, until: float | None, hurry: bool) -> Sent:
        sent = self.outbox.send(until, hurry=hurry)
        if self._progress is not None:
            self._progress.note(sent.where or {})
            self._progress.note_open(sent.open_of)
        return sent

    def _fill(self, most: int, all_of_it: bool) -> int:
        """Gather a batch; how many slots were read for it."""
        read = 0
        while self.outbox.gathered < BATCH and read < most:
            if not self._runs:
                self._runs.extend(self._feed.read(all_of_it=all_of_it))
                if not self._runs:
                    break
            run = self._some(max(A_FEW, BATCH - self.outbox.gathered))
            read += len(run.slots)
            self._take(run)
            if self._progress is not None:
                self._progress.passed(run)
        self.seal()
        self.looked_at += read
        return read

    def _some(self, most: int) -> Run:
        """The next slots that were read, of one source; any of them may be an object to send."""
        source, slots = self._runs.popleft()
        if len(slots) > most:
            self._runs.appendleft(Run(source, slots[most:]))
        return Run(source, slots[:most])

    def _take(self, run: Run) -> None:
        """Let wait what is to be sent of these slots."""
        raise NotImplementedError

    def _count(self, run: Run) -> int:
        """About how many objects would be."""
        raise NotImplementedError

    def _before(self, source: Source) -> list[int]:
        """One past the last ticket, by lane, that was exported before."""
        return [0, 0] if self._progress is None else self._progress.sent(source)


class SpanStream(Stream):
    """Spans, as they end."""

    signal = "traces"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._make: Make = _span_item if isinstance(self.outbox, WireOutbox) else _span_object()
        self._limits = Limits.from_environment()
        self._encoders: dict[int, tuple[Source, SpanEncoder | None]] = {}
        self._adopted: dict[int, tuple[bytes, int, bool, bytes]] = {}
        self._remote: dict[int, int] = {}

    def add(self, span: FinishedSpan, source: Source) -> bool:
        """Let a span wait; False where it is not to be exported."""
        if not span.trace.exported:
            self.unsampled += 1
            return False
        span = within(span, self._limits)
        self.outbox.add(self._make(span, source, source.offset_ns(span.ended_ns)))
        return True

    def open_sent(self, source: Source) -> bool:
        """The spans that were open when the process was gone were exported before."""
        return self._progress is not None and self._progress.open_sent(source)

    def release(self) -> None:
        """Have all open spans known to the assembler, those that the C core keeps too."""
        for source, encoder in self._encoders.values():
            for slot in encoder.release() if encoder is not None else ():
                event = source.decode(slot)
                if event is not None:
                    self.assembler.observe(event)

    def _take(self, run: Run) -> None:
        source, slots = run
        before = self._before(source)

        def in_python(slot: RawSlot) -> None:
            self._take_slot(slot, source, before)

        encoder = self._encoder(source)
        if encoder is None:
            for slot in slots:
                in_python(slot)
            return
        found, unsampled, last_ns = encoder.take(
            slots, (before[0], before[1]), source.offsets(), in_python
        )
        self.unsampled += unsampled
        source.last_ns = max(source.last_ns, last_ns)
        for scope_id, data, number in found:
            text = source.decoder.source.string(scope_id) if scope_id else ""
            self.outbox.add(Item(source.resource, scope_of(text), data, number))

    def _count(self, run: Run) -> int:
        before = self._before(run.source)
        return sum(
            slot.data[_OF_TYPE] == _ENDED and slot.ticket >= before[slot.lane] for slot in run.slots
        )

    def _take_slot(self, slot: RawSlot, source: Source, before: list[int]) -> None:
        event = source.decode(slot)
        if event is None:
            return
        source.last_ns = max(source.last_ns, event.timestamp_ns)
        if event.origin == EXPORT_ORIGIN:
            return
        try:
            span = self.assembler.observe(event)
            if span is not None:
                if slot.ticket >= before[slot.lane]:
                    self.add(span, source)
            elif event.type_name in _OF_TRACES:
                self._adopt(event)
        except Exception:  # Bytes of a damaged file may be anything.
            self.undecoded += 1

    def _adopt(self, event: Event) -> None:
        """Tell the encoders in C what the assembler knows of a trace that another tracer made."""
        trace = self.assembler.trace_of(event.causality_id, event.recording)
        adopted, adopts = self._adopted, event.type_name == "TraceAdopted"
        if trace is None or not (adopts or event.causality_id in adopted):
            return
        while len(adopted) >= MOST_OPEN:
            del adopted[next(iter(adopted))]
        adopted[event.causality_id] = (
            trace.trace_id.to_bytes(16, "big"), trace.flags, trace.exported,
            trace.state.encode("utf-8", "backslashreplace"),
        )  # fmt: skip
        if adopts and event.payload.remote:
            while len(self._remote) >= MOST_OPEN:
                del self._remote[next(iter(self._remote))]
            self._remote[event.span_id] = event.causality_id

    def _encoder(self, source: Source) -> "SpanEncoder | None":
        """What encodes a process's plain spans in C; None where Python does all of it."""
        known = self._encoders.get(source.recording)
        if known is None:
            known = (source, self._make_encoder(source))
            self._encoders[source.recording] = known
        return known[1]

    def _make_encoder(self, source: Source) -> "SpanEncoder | None":
        # The attributes that a slot holds are fewer and shorter than most limits.
        limits = (self._limits.span_attributes, self._limits.span_attribute_length)
        few = any(limit is not None and limit < _IN_SLOT for limit in limits)
        types = source.decoder.native
        if not isinstance(self.outbox, WireOutbox) or few or types is None:
            return None
        from kobs._core._native import SpanEncoder

        ids = sorted(kind.__kobs_schema__.type_id for kind in _OF_SPANS)
        return SpanEncoder(
            types=types,
            trace_high=source.trace_high,
            pid=source.pid or 0,
            type_ids=(
                SpanBegan.__kobs_schema__.type_id, SpanEnded.__kobs_schema__.type_id,
                SpanDetailed.__kobs_schema__.type_id,
                ids[0], ids[-1],
            ),
            kinds={kind.encode(): number for kind, number in KINDS.items()},
            statuses={status.encode(): number for status, number in STATUSES.items()},
            syscall=Category.SYSCALL,
            network=Category.NETWORK,
            adopted=self._adopted,
            received=self.assembler.received,
            remote=self._remote,
            most=MOST_OPEN,
        )  # fmt: skip


class LogStream(Stream):
    """Log records, and all other events, from a severity up."""

    signal = "logs"

    def __init__(self, *args: Any, severity: Severity) -> None:
        super().__init__(*args)
        self._make: Make = _log_item if isinstance(self.outbox, WireOutbox) else _log_object()
        self._severity = severity
        self._records = LogAssembler()

    def _take(self, run: Run) -> None:
        source, slots = run
        before = self._before(source)
        pick = picked if source.decoder.native is None else _native_pick()
        # What tells of others is looked at whatever its severity, and once more.
        for slot in pick(slots, int(self._severity), (before[0], before[1]), _TELL):
            event = source.decode(slot)
            if event is None or event.origin == EXPORT_ORIGIN:
                continue
            if event.type_name == "TraceAdopted":
                self.assembler.observe(event)
            elif event.type_name == "LogAttributes":
                self._records.observe(event)
            elif event.type_name not in SPAN_TYPES:
                try:
                    self._add_event(event, source)
                except Exception:  # Bytes of a damaged file may be anything.
                    self.undecoded += 1

    def _count(self, run: Run) -> int:
        before = self._before(run.source)
        return sum(
            slot.data[_OF_SEVERITY] & 15 >= self._severity
            and slot.ticket >= before[slot.lane]
            and slot.data[_OF_TYPE] not in _SPAN_IDS
            for slot in run.slots
        )

    def _add_event(self, event: Event, source: Source) -> None:
        trace = self.assembler.trace_of(event.causality_id, event.recording)
        if trace is not None and not trace.exported:
            self.unsampled += 1
            return
        data = log_data(event, self._records.observe(event))
        offset_ns = source.offset_ns(event.timestamp_ns)
        self.outbox.add(self._make(event, data, trace, source, offset_ns))


def picked(
    slots: list[RawSlot], severity: int, before: tuple[int, int], always: tuple[int, ...]
) -> list[RawSlot]:
    """The slots of the types `always`, and those from a severity up whose ticket is not below that
    of their lane in `before`. The C twin is kobs/_core/src/otlp_pick.c."""
    types = {type_id.to_bytes(2, sys.byteorder) for type_id in always}
    return [
        slot
        for slot in slots
        if slot.data[_OF_TYPE] in types
        or (
            slot.data[_OF_SEVERITY] & 15 >= severity
            and (slot.lane >= len(before) or slot.ticket >= before[slot.lane])
        )
    ]


@cache
def _native_pick() -> Callable[..., list[RawSlot]]:
    from kobs._core._native import pick_slots

    return pick_slots


def _span_item(span: FinishedSpan, source: Source, offset_ns: int) -> Item:
    return Item(source.resource, span.scope, encode_span(span, offset_ns, source.pid), 1)


def _log_item(event: Event, data: LogData, trace: Any, source: Source, offset_ns: int) -> Item:
    scope = Scope(data.scope, version="") if data.scope else OWN_SCOPE
    return Item(source.resource, scope, encode_log(event, data, trace, offset_ns), 1)


def _span_object() -> Make:
    from kobs.export.otlp_convert import to_span

    return lambda span, source, offset_ns: to_span(span, offset_ns, source.sdk_resource)


def _log_object() -> Make:
    from kobs.export.otlp_convert import to_log_record

    return lambda event, data, trace, source, offset_ns: to_log_record(
        event, data, trace, offset_ns, source.sdk_resource
    )
