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

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from kobs.collector import Collector, global_collector
from kobs.errors import ConfigError
from kobs.export.otlp_feeds import (
    Feed,
    Progress,
    RecordingFeed,
    RecordingSources,
    RingFeed,
    Source,
    ring_source,
)
from kobs.export.otlp_resource import Given
from kobs.export.otlp_send import ObjectOutbox, WireOutbox, quietly
from kobs.export.otlp_settings import disabled
from kobs.export.otlp_spans import FinishedSpan, SpanAssembler
from kobs.export.otlp_streams import LogStream, SpanStream, Stream
from kobs.export.otlp_transport import Transport
from kobs.levels import Severity

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from kobs.export.otlp_convert import LogRecordExporter
    from kobs.recording import OpenRecord, Recording


class ExportReport(NamedTuple):
    """What became of an export."""

    spans: int = 0
    """Spans that the receiver took."""
    logs: int = 0
    """Log records that the receiver took."""
    failed: int = 0
    """Spans and log records that were given up: the receiver refused them."""
    lost: int = 0
    """Events that were lost before the exporter read them."""
    unsampled: int = 0
    """Spans and log records of traces that another tracer decided not to export."""
    pending: int = 0
    """Spans and log records that the receiver did not take yet; they are kept for the next try."""

    def plus(self, other: "ExportReport") -> "ExportReport":
        """This report and a later one (`pending` is the later one's)."""
        return ExportReport(*map(sum, zip(self, other, strict=True)))._replace(
            pending=other.pending
        )


class _Streams:
    """Both signals of one exporter, and what became of them."""

    def __init__(
        self,
        feed: Callable[[Progress | None], Feed],
        trace_high: Callable[[int], int],
        *,
        spans: bool,
        logs: bool,
        severity: Severity,
        endpoint: str | None,
        span_exporter: "SpanExporter | None",
        log_exporter: "LogRecordExporter | None",
        again: bool = False,
    ) -> None:
        self.spans: SpanStream | None = None
        self.logs: LogStream | None = None
        self._told: set[str] = set()
        self._lost_told = 0
        self.foreign = span_exporter is not None or log_exporter is not None
        """An exporter was given."""

        def parts(signal: Any, exporter: Any) -> tuple[Any, ...]:
            outbox: WireOutbox | ObjectOutbox
            progress = None
            if exporter is not None:
                outbox = ObjectOutbox(exporter)
            else:
                outbox = WireOutbox(Transport(signal, endpoint=endpoint))
                progress = Progress(signal, again=again)
            return feed(progress), SpanAssembler(trace_high), outbox, progress

        if spans and not disabled():
            self.spans = SpanStream(*parts("traces", span_exporter))
        if logs and not disabled():
            self.logs = LogStream(*parts("logs", log_exporter), severity=severity)

    @property
    def all(self) -> list[Stream]:
        """Those that there are."""
        return [stream for stream in (self.spans, self.logs) if stream is not None]

    @property
    def waiting(self) -> int:
        """Spans and log records that were not taken yet."""
        return sum(stream.outbox.waiting for stream in self.all)

    @property
    def looked_at(self) -> int:
        """Slots that were read, by the stream that read most."""
        return max((stream.looked_at for stream in self.all), default=0)

    def due_in_s(self) -> float:
        """How long until trying again makes sense."""
        waits = [one.outbox.due_in_s() for one in self.all if one.outbox.waiting]
        return min(waits, default=0.0)

    def export(self, until: float | None = None, **options: Any) -> ExportReport:
        """A round of each stream; see `Stream.export`."""
        report = ExportReport()
        for stream in self.all:
            sent = stream.export(until, **options)
            self._tell(stream, sent.failed, sent.reason)
            report = report.plus(
                ExportReport(
                    spans=sent.taken if stream is self.spans else 0,
                    logs=sent.taken if stream is self.logs else 0,
                    failed=sent.failed,
                    unsampled=stream.unsampled,
                )
            )
            stream.unsampled = 0
        lost = max((stream.lost for stream in self.all), default=0)
        report = report._replace(lost=lost - self._lost_told, pending=self.waiting)
        self._lost_told = lost
        if report.lost and "lost" not in self._told:
            self._told.add("lost")
            _log().warning(
                "OTLP export: %d events were overwritten before they were exported (told once; "
                "the reports count them all)", report.lost,
            )  # fmt: skip
        return report

    def close(self) -> int:
        """End all; how many spans and log records had to be given up."""
        return sum(stream.close() for stream in self.all)

    def _tell(self, stream: Stream, failed: int, reason: str) -> None:
        """A receiver that is away is told once until it is back, one that refuses something
        once."""
        away = f"{stream.signal} away"
        if failed:
            if stream.signal not in self._told:
                self._told.add(stream.signal)
                _log().warning(
                    "OTLP export: %d %s were refused and given up: %s (told once; the reports "
                    "count them all)", failed, _NAMES[stream.signal], reason or "no reason given",
                )  # fmt: skip
        elif not stream.outbox.waiting:
            self._told.discard(away)
        elif reason and away not in self._told:
            self._told.add(away)
            _log().warning(
                "OTLP export: the receiver does not take %s now: %s (they are kept, the rest stays "
                "in the ring)", _NAMES[stream.signal], reason,
            )  # fmt: skip


_REST = 9
"""How much longer the thread rests than it works, so that the program is not slowed down."""
_NAMES = {"traces": "spans", "logs": "log records"}


class OtlpExporter:
    """Sends what a collector records to an OTLP receiver.

    Begins with the oldest event in the ring that was not exported before. What the receiver does
    not take is kept for the next try, and what comes in the meantime stays in the ring until then.
    `collector` None: the process-wide one. `severity`: log records from here up. `endpoint`: the
    receiver's base URL, in place of `OTEL_EXPORTER_OTLP_ENDPOINT`. `span_exporter` and
    `log_exporter`: exporters of OpenTelemetry's SDK to use in place of kobs's own.

    Raises `MissingExtraError` where what it needs is not installed, `ConfigError` for a variable
    with a bad value or without a collector.
    """

    def __init__(
        self,
        collector: Collector | None = None,
        *,
        spans: bool = True,
        logs: bool = True,
        severity: Severity = Severity.INFO,
        endpoint: str | None = None,
        span_exporter: "SpanExporter | None" = None,
        log_exporter: "LogRecordExporter | None" = None,
    ) -> None:
        found = collector if collector is not None else global_collector()
        if found is None:
            raise ConfigError(
                "OtlpExporter has no collector: give it one, or call kobs.init_collector first"
            )
        self._collector = found
        self._given = Given.read()
        self._source = ring_source(found, self._given)

        def made() -> _Streams:
            return _Streams(
                lambda _: RingFeed(found, self._source), lambda _: self._source.trace_high,
                spans=spans, logs=logs, severity=severity, endpoint=endpoint,
                span_exporter=span_exporter, log_exporter=log_exporter,
            )  # fmt: skip

        self._made = made
        self._streams = made()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._interval_s = 0.0
        self._forked = False
        self._closed = False
        self.total = ExportReport()
        """What became of everything so far (`pending`: after the last export)."""
        _live.add(self)

    def export_pending(self) -> ExportReport:
        """Read what is new, send it, and say what became of it. Waits for the receiver: at most
        `OTEL_EXPORTER_OTLP_TIMEOUT` a batch of 512; does not try where the receiver was away, or
        asked for it, before it is time."""
        return self._export(None)

    def start(self, interval_s: float = 1.0) -> None:
        """Export every `interval_s` seconds from a thread, and at exit: sooner where the ring fills
        faster, later where it would take more than a tenth of a CPU. Twice is once. A forked
        child has a thread of its own."""
        if self._thread is not None or self._closed:
            return
        import atexit
        from multiprocessing import util

        atexit.register(self.shutdown)
        # Its children leave without their exit handlers, but with its own.
        util.register_after_fork(self, _at_end_of_multiprocessing)
        self._interval_s = interval_s
        self._begin()

    def flush(self, timeout: float = 10.0) -> bool:
        """Export until the receiver took everything that was recorded so far; False if it did
        not within `timeout` seconds."""
        until = time.monotonic() + timeout
        hurry = True
        while True:
            report = self._export(until, hurry=hurry)
            if not report.pending:
                return not report.failed
            left = until - time.monotonic()
            if left <= 0:
                return False
            hurry = False
            time.sleep(min(left, max(0.05, self._streams.due_in_s())))

    def shutdown(self, timeout: float = 10.0) -> ExportReport:
        """Export what is there and close the connections; what became of everything. What the
        receiver did not take by then has failed. Twice is once."""
        if not self._closed:
            until = time.monotonic() + timeout
            self._stop.set()
            if self._thread is not None and self._thread is not threading.current_thread():
                self._thread.join(timeout)
            if self._lock.acquire(timeout=max(0.0, until - time.monotonic())):
                self._lock.release()
                self.flush(max(0.0, until - time.monotonic()))
            with quietly(foreign=self._streams.foreign):
                self._closed = True
                given_up = sum(stream.count_rest() for stream in self._streams.all)
                self._streams.close()
            self.total = self.total._replace(failed=self.total.failed + given_up, pending=0)
            if given_up:
                _log().warning(
                    "OTLP export: %d spans and log records were not sent until the end", given_up
                )
            if self._interval_s:
                import atexit

                atexit.unregister(self.shutdown)
        return self.total

    def __enter__(self) -> "OtlpExporter":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def _begin(self) -> None:
        self._thread = threading.Thread(
            target=self._run, args=(self._interval_s,), name="kobs-otlp", daemon=True
        )
        self._thread.start()

    def _run(self, interval_s: float) -> None:
        pause_s = interval_s
        while not self._stop.wait(pause_s):
            before, began = self._streams.looked_at, time.thread_time()
            self.export_pending()
            used_s = time.thread_time() - began
            read = self._streams.looked_at - before
            quarter = self._collector.ring.slots / 4
            pause_s = max(_REST * used_s, interval_s * min(1.0, quarter / max(1, read)))

    def _export(self, until: float | None, *, hurry: bool = False) -> ExportReport:
        patience = -1.0 if until is None else max(0.0, until - time.monotonic())
        if not self._lock.acquire(timeout=patience):  # the thread is in the middle of an export
            return ExportReport(pending=max(1, self._streams.waiting))
        try:
            if self._closed:
                return ExportReport()
            if self._forked:
                self._begin_anew()
            with quietly(foreign=self._streams.foreign):
                self._source.set_clocks()
                # The program may write faster than this reads.
                most = self._collector.ring.slots
                report = self._streams.export(until, most=most, hurry=hurry)
            self.total = self.total.plus(report)
            return report
        finally:
            self._lock.release()

    def _after_fork(self) -> None:
        """In a forked child: what waits is the parent's to send, and there is no thread. Most
        children will exec: what takes time waits for the first export."""
        if self._closed:
            return
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._forked = True
        self.total = ExportReport()
        if self._thread is not None:
            self._begin()

    def _begin_anew(self) -> None:
        """With this process's own ring, resource and connections."""
        self._forked = False
        for stream in self._streams.all:
            stream.outbox.forget()
        self._source = ring_source(self._collector, self._given)
        self._streams = self._made()


def _at_end_of_multiprocessing(exporter: OtlpExporter) -> None:
    from multiprocessing import util

    util.Finalize(None, exporter.shutdown, exitpriority=0)


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
    endpoint: str | None = None,
    again: bool = False,
    span_exporter: "SpanExporter | None" = None,
    log_exporter: "LogRecordExporter | None" = None,
) -> ExportReport:
    """Send a recording or session to an OTLP receiver, and say what became of it.

    Spans that were open in a process that is gone are sent as ended at its last sign of life,
    with status error and the attribute `kobs.unfinished`; those of a running process are not
    sent. What was exported before (by this, by an `OtlpExporter` in the program, by `kobs run
    --otlp`) is not sent once more unless `again`; exporters that are given get everything. Where
    the receiver does not take a batch within `OTEL_EXPORTER_OTLP_TIMEOUT` the rest counts as
    failed. Raises as `OtlpExporter` does.
    """
    exporter = RecordingExporter(
        recording, spans=spans, logs=logs, severity=severity, endpoint=endpoint, again=again,
        span_exporter=span_exporter, log_exporter=log_exporter,
    )  # fmt: skip
    return exporter.finish()


class RecordingExporter:
    """Sends a recording or session from outside of the program, while it is written or after.

    `export` sends what is new, `finish` the rest: also the spans that processes left open which are
    gone. Takes what `export_recording` takes.
    """

    def __init__(
        self,
        recording: "Recording",
        *,
        spans: bool = True,
        logs: bool = True,
        severity: Severity = Severity.INFO,
        endpoint: str | None = None,
        again: bool = False,
        span_exporter: "SpanExporter | None" = None,
        log_exporter: "LogRecordExporter | None" = None,
    ) -> None:
        self._recording = recording
        self._sources = RecordingSources(recording)
        self._streams = _Streams(
            lambda progress: RecordingFeed(self._sources, progress), self._trace_high,
            spans=spans, logs=logs, severity=severity, endpoint=endpoint, again=again,
            span_exporter=span_exporter, log_exporter=log_exporter,
        )  # fmt: skip
        self.total = ExportReport()
        """What became of everything so far."""

    def export(self, until: float | None = None) -> ExportReport:
        """Send what is new, to a monotonic time at most, and say what became of it."""
        with quietly(foreign=self._streams.foreign):
            report = self._streams.export(until, most=_ROUND)
        self.total = self.total.plus(report)
        return report

    def finish(self, timeout: float | None = None) -> ExportReport:
        """Send the rest and end the connections; what became of everything. What is not taken
        within `timeout` seconds of trying (None: `OTEL_EXPORTER_OTLP_TIMEOUT`) has failed."""
        with quietly(foreign=self._streams.foreign):
            there = self._drain(timeout)
            if self._streams.spans is not None:
                self._streams.spans.release()
                self._send_open(self._streams.spans)
                if there:
                    self._drain(timeout)
            self.total = self.total.plus(ExportReport(failed=self._streams.close()))
        return self.total

    def _drain(self, timeout: float | None) -> bool:
        """Send until nothing is left; False where the receiver did not take anything for too
        long, and the rest was given up."""
        streams, tried_since = self._streams, 0.0
        hurry = True
        while True:
            report = streams.export(all_of_it=True, hurry=hurry)
            self.total = self.total.plus(report)
            if not report.pending:
                return True
            hurry = False
            now = time.monotonic()
            if report.spans or report.logs or report.failed or not tried_since:
                tried_since = now
            patience = _patience(streams, timeout)
            if now - tried_since + streams.due_in_s() > patience:
                given_up = sum(stream.count_rest() for stream in streams.all)
                self.total = self.total.plus(ExportReport(failed=given_up))
                return False
            time.sleep(min(max(0.05, streams.due_in_s()), patience))

    def _send_open(self, stream: SpanStream) -> None:
        """The spans that processes left open which are gone."""
        sources = {source.recording: source for source in self._sources.look().values()}
        states = {record.recording: record.state for record in self._recording.processes}
        gone = {
            number: source
            for number, source in sources.items()
            if states.get(number) != "running" and not stream.open_sent(source)
        }
        for entry in self._recording.open_events():
            source = gone.get(entry.recording)
            if source is not None and entry.type_name == "SpanBegan":
                span = _unfinished(entry, source, stream.assembler)
                if span is not None:
                    stream.add(span, source)
        stream.seal(open_of=frozenset(gone))

    def _trace_high(self, recording: int) -> int:
        source = self._sources.by_number.get(recording)
        return 0 if source is None else source.trace_high


_ROUND = 1 << 17
"""Slots of a session that are looked at in one round while it is written."""


def _patience(streams: _Streams, timeout: float | None) -> float:
    if timeout is not None:
        return timeout
    limits = [
        one.outbox.transport.settings.timeout_s
        for one in streams.all
        if isinstance(one.outbox, WireOutbox)
    ]
    return max(limits, default=0.0)


def _unfinished(
    entry: "OpenRecord", source: Source, assembler: SpanAssembler
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


def _log() -> logging.Logger:
    return logging.getLogger("kobs")
