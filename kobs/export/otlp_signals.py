"""Both signals of one exporter, and what became of them."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from kobs.export.otlp_feeds import Feed, Progress
from kobs.export.otlp_send import ObjectOutbox, WireOutbox
from kobs.export.otlp_settings import disabled
from kobs.export.otlp_streams import LogStream, SpanStream, Stream
from kobs.export.otlp_transport import Transport
from kobs.levels import Severity
from kobs.tracing.assembler import SpanAssembler

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from kobs.export.otlp_convert import LogRecordExporter


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


class ExportOptions(TypedDict, total=False):
    """What every exporter of spans and log records takes: what is sent, and where to."""

    spans: bool
    """Send spans (True)."""
    logs: bool
    """Send log records and other events (True)."""
    severity: Severity
    """Log records and events from here up (INFO)."""
    endpoint: str | None
    """The receiver's base URL, in place of `OTEL_EXPORTER_OTLP_ENDPOINT`."""
    span_exporter: "SpanExporter | None"
    """An exporter of OpenTelemetry's SDK to use for spans in place of kobs's own."""
    log_exporter: "LogRecordExporter | None"
    """The same for log records."""


class Signals:
    """Both signals of one exporter, and what became of them."""

    def __init__(
        self,
        feed: Callable[[Progress | None], Feed],
        trace_high: Callable[[int], int],
        *,
        spans: bool = True,
        logs: bool = True,
        severity: Severity = Severity.INFO,
        endpoint: str | None = None,
        span_exporter: "SpanExporter | None" = None,
        log_exporter: "LogRecordExporter | None" = None,
        again: bool = False,
        is_left: Callable[[], bool] = bool,
    ) -> None:
        """`is_left`: whether another process sends what would go over the wire here."""
        self.spans: SpanStream | None = None
        self.logs: LogStream | None = None
        self._is_left = is_left
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

    def sending(self) -> list[Stream]:
        """Those that are not left to another process."""
        streams = self.all
        if streams and self._is_left():
            streams = [one for one in streams if not isinstance(one.outbox, WireOutbox)]
            if "left" not in self._told:
                self._told.add("left")
                log().info("OTLP export: left to the process that exports the whole session")
        return streams

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
        report, streams = ExportReport(), self.sending()
        for stream in streams:
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
        lost = max((stream.lost for stream in streams), default=self._lost_told)
        report = report._replace(lost=lost - self._lost_told, pending=self.waiting)
        self._lost_told = lost
        if report.lost and "lost" not in self._told:
            self._told.add("lost")
            log().warning(
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
                log().warning(
                    "OTLP export: %d %s were refused and given up: %s (told once; the reports "
                    "count them all)", failed, _NAMES[stream.signal], reason or "no reason given",
                )  # fmt: skip
        elif not stream.outbox.waiting:
            self._told.discard(away)
        elif reason and away not in self._told:
            self._told.add(away)
            log().warning(
                "OTLP export: the receiver does not take %s now: %s (they are kept, the rest stays "
                "in the ring)", _NAMES[stream.signal], reason,
            )  # fmt: skip


_NAMES = {"traces": "spans", "logs": "log records"}


def log() -> logging.Logger:
    """Where what a person has to know is told."""
    return logging.getLogger("kobs")
