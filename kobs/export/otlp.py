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
from typing import Unpack

from kobs.collector import Collector, global_collector
from kobs.errors import ConfigError
from kobs.export.otlp_feeds import RingFeed, ring_source
from kobs.export.otlp_marks import is_exported_elsewhere
from kobs.export.otlp_recording import (
    RecordingExporter as RecordingExporter,
    export_recording as export_recording,
)
from kobs.export.otlp_send import quietly
from kobs.export.otlp_signals import (
    ExportOptions as ExportOptions,
    ExportReport as ExportReport,
    Signals,
    log,
)
from kobs.tracing.resource import Given

_REST = 14
"""How much longer the thread rests than it works, so that the program is not slowed down."""


class OtlpExporter:
    """Sends what a collector records to an OTLP receiver.

    Begins with the oldest event in the ring that was not exported before. What the receiver does
    not take is kept for the next try, and what comes in the meantime stays in the ring until then.
    Sends nothing while `kobs run --otlp` sends the session that the collector records in.
    `collector` None: the process-wide one. Options, all by keyword: `spans` and `logs` (what is
    sent: both), `severity` (log records from here up: INFO), `endpoint` (the receiver's base URL,
    in place of `OTEL_EXPORTER_OTLP_ENDPOINT`), `span_exporter` and `log_exporter` (exporters of
    OpenTelemetry's SDK to use in place of kobs's own).

    Raises `MissingExtraError` where what it needs is not installed, `ConfigError` for a variable
    with a bad value or without a collector.
    """

    def __init__(
        self, collector: Collector | None = None, **options: Unpack[ExportOptions]
    ) -> None:
        found = collector if collector is not None else global_collector()
        if found is None:
            raise ConfigError(
                "OtlpExporter has no collector: give it one, or call kobs.init_collector first"
            )
        self._collector = found
        self._given = Given.read()
        self._source = ring_source(found, self._given)

        def made() -> Signals:
            return Signals(
                lambda _: RingFeed(found, self._source),
                lambda _: self._source.trace_high,
                is_left=lambda: is_exported_elsewhere(found),
                **options,
            )

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
        faster, later where it would take more than a fifteenth of a CPU. Twice is once. A forked
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
                given_up = sum(stream.count_rest() for stream in self._streams.sending())
                self._streams.close()
            self.total = self.total._replace(failed=self.total.failed + given_up, pending=0)
            if given_up:
                log().warning(
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
