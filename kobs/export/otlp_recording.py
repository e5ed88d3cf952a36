"""Recordings and sessions to an OTLP receiver, from outside of the program."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Unpack

from kobs.export.otlp_feeds import RecordingFeed, RecordingSources, Source
from kobs.export.otlp_send import WireOutbox, quietly
from kobs.export.otlp_signals import ExportOptions, ExportReport, Signals
from kobs.export.otlp_streams import SpanStream
from kobs.recording import STALL_S
from kobs.tracing.assembler import SpanAssembler
from kobs.tracing.finished import FinishedSpan

if TYPE_CHECKING:
    from kobs.recording import OpenRecord, Recording


def export_recording(
    recording: "Recording", *, again: bool = False, **options: Unpack[ExportOptions]
) -> ExportReport:
    """Send a recording or session to an OTLP receiver, and say what became of it.

    Spans that were open in a process that is gone are sent as ended at its last sign of life,
    with status error and the attribute `kobs.unfinished`; those of a running process are not
    sent. What was exported before (by this, by an `OtlpExporter` in the program, by `kobs run
    --otlp`) is not sent once more unless `again`; exporters that are given get everything. Where
    the receiver does not take a batch within `OTEL_EXPORTER_OTLP_TIMEOUT` the rest counts as
    failed. Takes the options of `OtlpExporter`, and raises as that does.
    """
    return RecordingExporter(recording, again=again, **options).finish()


class RecordingExporter:
    """Sends a recording or session from outside of the program, while it is written or after.

    `export` sends what is new, `finish` the rest: also the spans that processes left open which are
    gone. Takes what `export_recording` takes. `resource`: attributes of every process's resource,
    unless OpenTelemetry's own variables say otherwise.
    """

    def __init__(
        self,
        recording: "Recording",
        *,
        again: bool = False,
        resource: Mapping[str, object] | None = None,
        **options: Unpack[ExportOptions],
    ) -> None:
        self._recording = recording
        self._sources = RecordingSources(recording, resource)
        self._streams = Signals(
            lambda progress: RecordingFeed(self._sources, progress),
            self._trace_high,
            again=again,
            **options,
        )
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
        hurry, idle = True, False
        while True:
            report = streams.export(all_of_it=True, hurry=hurry)
            self.total = self.total.plus(report)
            if not report.pending:
                if idle:
                    return True
                idle = True
                time.sleep(STALL_S)  # behind a slot that was never finished there may be more
                continue
            hurry = idle = False
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


def _patience(streams: Signals, timeout: float | None) -> float:
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
