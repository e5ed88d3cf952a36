"""Events and spans to any OpenTelemetry backend, over OTLP.

    exporter = OtlpExporter(collector)
    exporter.start()                       # or call exporter.export_pending() yourself
    ...
    exporter.shutdown()

    with open_recording(path) as recording:
        report = export_recording(recording)

Spans become OTLP spans, what the program logged OTLP log records, other events OTLP log records
with an event name; log records from INFO up. Where to is said by OpenTelemetry's own variables
(`OTEL_EXPORTER_OTLP_ENDPOINT`, `..._PROTOCOL`, `OTEL_SERVICE_NAME`, ...). No global provider is
touched.
"""

import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from kobs.collector import Collector, global_collector
from kobs.context import EXPORT_ORIGIN
from kobs.errors import ConfigError
from kobs.events import Event
from kobs.export import otlp_convert as convert
from kobs.export.otlp_send import BATCH, Sender, Sent, quietly
from kobs.export.otlp_spans import SPAN_TYPES, FinishedSpan, SpanAssembler
from kobs.levels import Severity
from kobs.tracing.log_records import LogAssembler

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

    from kobs.export.otlp_convert import LogRecordExporter
    from kobs.recording import OpenRecord, Recording

_PARTS = SPAN_TYPES | {"LogAttributes"}
"""Types that are part of something else, and no log records of their own."""


class ExportReport(NamedTuple):
    """What became of an export."""

    spans: int = 0
    """Spans that the receiver took."""
    logs: int = 0
    """Log records that the receiver took."""
    failed: int = 0
    """Spans and log records that were given up: the receiver did not take them."""
    lost: int = 0
    """Events that were lost before the exporter read them."""
    unsampled: int = 0
    """Spans and log records of traces that another tracer decided not to export."""
    pending: int = 0
    """Spans and log records that the receiver did not take yet; they are kept for the next try."""

    def plus(self, sent: Sent) -> "ExportReport":
        """This report and what became of a further round of sending."""
        return self._replace(
            spans=self.spans + sent.spans,
            logs=self.logs + sent.logs,
            failed=self.failed + sent.failed,
        )


class OtlpExporter:
    """Sends what a collector records to an OTLP receiver.

    Begins with the oldest event in the ring. What the receiver does not take is kept for the
    next try, and what comes in the meantime stays in the ring until then. `collector`
    None: the process-wide one. `severity`: log records from here up. `span_exporter` and
    `log_exporter`: exporters of OpenTelemetry's SDK to use in place of OTLP.

    Raises `MissingExtraError` where the exporters are not installed, `ConfigError` for a
    protocol that is not known or without a collector.
    """

    def __init__(
        self,
        collector: Collector | None = None,
        *,
        spans: bool = True,
        logs: bool = True,
        severity: Severity = Severity.INFO,
        span_exporter: "SpanExporter | None" = None,
        log_exporter: "LogRecordExporter | None" = None,
    ) -> None:
        collector = collector if collector is not None else global_collector()
        if collector is None:
            raise ConfigError(
                "OtlpExporter has no collector: give it one, or call kobs.init_collector first"
            )
        self._sender = Sender(spans, logs, span_exporter, log_exporter)
        self._severity = severity
        self._collector = collector
        self._subscriber = collector.subscribe(oldest=True)
        self._assembler = SpanAssembler(lambda recording: collector.ring.trace_high)
        self._logged = LogAssembler()
        self._resource = convert.process_resource()
        self._offset_ns = _wall_minus_monotonic()
        self._lost_told = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.total = ExportReport()
        """What became of everything so far (`pending`: after the last export)."""
        _live.add(self)

    def export_pending(self) -> ExportReport:
        """Read what is new, send it, and say what became of it. Waits for the receiver: at most
        `OTEL_EXPORTER_OTLP_TIMEOUT` a batch of 512."""
        with self._lock:
            if self._closed:
                return ExportReport()
            with quietly():
                return self._export()

    def start(self, interval_s: float = 1.0) -> None:
        """Export every `interval_s` seconds from a thread, and at exit. Twice is once."""
        if self._thread is not None or self._closed:
            return
        import atexit

        atexit.register(self.shutdown)
        self._thread = threading.Thread(
            target=self._run, args=(interval_s,), name="kobs-otlp", daemon=True
        )
        self._thread.start()

    def flush(self, timeout: float = 10.0) -> bool:
        """Export until the receiver took everything that was recorded so far; False if it did
        not within `timeout` seconds."""
        until = time.monotonic() + timeout
        while True:
            report = self.export_pending()
            if not report.pending:
                return not report.failed
            if time.monotonic() >= until:
                return False
            time.sleep(min(0.1, max(0.0, until - time.monotonic())))

    def shutdown(self, timeout: float = 10.0) -> ExportReport:
        """Export what is there and close the exporters; what became of everything. What the
        receiver did not take by then has failed. Twice is once."""
        if not self._closed:
            self._stop.set()
            if self._thread is not None and self._thread is not threading.current_thread():
                self._thread.join(timeout)
            self.flush(timeout)
            with self._lock, quietly():
                self._closed = True
                given_up = self._sender.close()
                self._subscriber.close()
            self.total = self.total._replace(failed=self.total.failed + given_up, pending=0)
            if self._thread is not None:
                import atexit

                atexit.unregister(self.shutdown)
        return self.total

    def __enter__(self) -> "OtlpExporter":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def _run(self, interval_s: float) -> None:
        while not self._stop.wait(interval_s):
            self.export_pending()

    def _export(self) -> ExportReport:
        sender, subscriber = self._sender, self._subscriber
        report = ExportReport().plus(sender.send())
        unsampled = 0
        room = 2 * self._collector.ring.slots  # The program may write faster than this reads.
        # While one batch waits another is tried: it may be the batch that is at fault.
        while sender.waiting <= BATCH and room > 0 and not subscriber.closed:
            event, most = None, sender.waiting + BATCH
            while room > 0 and sender.waiting < most and (event := subscriber.next()) is not None:
                room -= 1
                unsampled += _take(
                    event, self._assembler, self._logged, sender, self._severity,
                    self._offset_ns, self._resource,
                )  # fmt: skip
            sent = sender.send()
            report = report.plus(sent)
            if event is None or (sender.waiting and not (sent.spans or sent.logs)):
                break
        lost = subscriber.lost
        report = report._replace(
            lost=lost - self._lost_told, unsampled=unsampled, pending=sender.waiting
        )
        self._lost_told = lost
        total = self.total.plus(Sent(report.spans, report.logs, report.failed))
        self.total = total._replace(
            lost=total.lost + report.lost,
            unsampled=total.unsampled + unsampled,
            pending=report.pending,
        )
        return report

    def _after_fork(self) -> None:
        """In a forked child: what waits is the parent's to send, and there is no thread."""
        self._lock = threading.Lock()
        self._thread = None
        self._sender.forget()
        self._assembler = SpanAssembler(lambda recording: self._collector.ring.trace_high)
        self._logged = LogAssembler()
        self._resource = convert.process_resource()
        self._lost_told = 0
        self.total = ExportReport()


_live: weakref.WeakSet[OtlpExporter] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for exporter in list(_live):
        exporter._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


def export_recording(
    recording: "Recording",
    *,
    spans: bool = True,
    logs: bool = True,
    severity: Severity = Severity.INFO,
    span_exporter: "SpanExporter | None" = None,
    log_exporter: "LogRecordExporter | None" = None,
) -> ExportReport:
    """Send a recording or session to an OTLP receiver, and say what became of it.

    Spans that were open in a process that is gone are sent as ended at its last sign of life,
    with status error and the attribute `kobs.unfinished`; those of a running process are not
    sent. Where the receiver does not take a batch within `OTEL_EXPORTER_OTLP_TIMEOUT` the rest
    counts as failed. Raises as `OtlpExporter` does.
    """
    sender = Sender(spans, logs, span_exporter, log_exporter)
    sources = {source.recording: source for source in _sources(recording)}
    unknown = _Source.unknown()

    def source_of(number: int) -> _Source:
        return sources.get(number, unknown)

    assembler, logged = SpanAssembler(lambda number: source_of(number).trace_high), LogAssembler()
    report = ExportReport(lost=sum(_unseen(recording.losses())))
    unsampled = failed = 0
    with quietly():
        for event in recording.events():
            source = source_of(event.recording)
            source.last_ns = max(source.last_ns, event.timestamp_ns)
            unsampled += _take(
                event, assembler, logged, sender, severity,
                source.offset_ns(event.timestamp_ns), source.resource,
            )  # fmt: skip
            if sender.waiting >= BATCH and not failed:
                report = report.plus(sender.send())
            if sender.waiting >= BATCH or failed:
                failed += sender.forget()
        for entry in recording.open_events():
            source = source_of(entry.recording)
            if entry.type_name == "SpanBegan" and source.gone:
                unfinished = _unfinished(entry, source, assembler)
                if unfinished is not None:
                    offset_ns = source.offset_ns(unfinished.ended_ns)
                    unsampled += _take_span(unfinished, sender, offset_ns, source.resource)
        if not failed:
            report = report.plus(sender.send())
        failed += sender.close()
    return report._replace(failed=report.failed + failed, unsampled=unsampled)


class _Source:
    """A recorded process: its clocks, its resource, whether it is gone."""

    def __init__(
        self, recording: int, trace_high: int, gone: bool, resource: "Resource",
        clocks: tuple[tuple[int, int], tuple[int, int]],
    ) -> None:  # fmt: skip
        self.recording = recording
        self.trace_high = trace_high
        self.gone = gone
        self.resource = resource
        self._clocks = clocks
        self.last_ns = max(monotonic for monotonic, _ in clocks)
        """Last sign of life."""

    @classmethod
    def unknown(cls) -> "_Source":
        """Of a recording that came while the export ran."""
        now = (time.monotonic_ns(), time.time_ns())
        return cls(0, 0, False, convert.process_resource(), (now, now))

    def offset_ns(self, monotonic_ns: int) -> int:
        """Wall time minus monotonic time by the nearest pair of clocks."""
        monotonic, wall = min(self._clocks, key=lambda pair: abs(pair[0] - monotonic_ns))
        return wall - monotonic


def _sources(recording: "Recording") -> Iterator[_Source]:
    states = {process.recording: process.state for process in recording.processes}
    for part in recording.parts.values():
        ring = part.attached
        started = (ring.started_monotonic_ns, ring.started_wall_ns)
        refreshed = (ring.refreshed_monotonic_ns, ring.refreshed_wall_ns)
        resource = convert.recorded_resource(
            pid=ring.pid, ppid=ring.ppid, command=ring.command, session=ring.session
        )
        yield _Source(
            ring.recording, ring.trace_high, states.get(ring.recording) != "running", resource,
            (started, refreshed if refreshed[0] else started),
        )  # fmt: skip


def _unfinished(
    entry: "OpenRecord", source: _Source, assembler: SpanAssembler
) -> FinishedSpan | None:
    return assembler.end_open(
        entry.event,
        name=entry.name,
        began_ns=entry.timestamp_ns,
        ended_ns=source.last_ns,
        causality_id=entry.causality_id,
        span_id=entry.span_id,
        parent=entry.parent,
        pid=entry.pid,
        tid=entry.tid,
        origin=entry.origin,
        attributes={
            "kobs.unfinished": True,
            "error.type": "kobs.unfinished",
            "error.message": "the process ended before the span did",
        },
    )


def _unseen(losses: Any) -> Iterator[int]:
    """The kinds of loss that an exporter cannot make up for; sampling and filters are choices."""
    for cause in ("overwritten", "contended", "discarded", "too_big", "errors"):
        yield getattr(losses, cause)


def _take(
    event: Event,
    assembler: SpanAssembler,
    assembled: LogAssembler,
    sender: "Sender",
    severity: Severity,
    offset_ns: int,
    resource: "Resource",
) -> int:
    """Turn an event into what is sent of it; how much is not, by another tracer's decision."""
    if event.origin == EXPORT_ORIGIN:
        return 0
    span = assembler.observe(event)
    if span is not None:
        return _take_span(span, sender, offset_ns, resource)
    logged = assembled.observe(event)
    if event.severity < severity or event.type_name in _PARTS or sender.logs is None:
        return 0
    trace = assembler.trace_of(event.causality_id, event.recording)
    if trace is not None and not trace.exported:
        return 1
    sender.logs.append(convert.to_log_record(event, trace, offset_ns, resource, logged))
    return 0


def _take_span(span: FinishedSpan, sender: "Sender", offset_ns: int, resource: "Resource") -> int:
    if sender.spans is None:
        return 0
    if not span.trace.exported:
        return 1
    sender.spans.append(convert.to_span(span, offset_ns, resource))
    return 0


def _wall_minus_monotonic() -> int:
    return time.time_ns() - time.monotonic_ns()
