"""Metrics to an OTLP receiver.

    exporter = OtlpMetricsExporter(collector)
    exporter.start()                       # or call exporter.export() yourself
    ...
    exporter.shutdown()

Sums are cumulative and histograms exponential unless OpenTelemetry's variables say otherwise:
`OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`,
`OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`. `OTEL_METRIC_EXPORT_INTERVAL` and
`OTEL_METRIC_EXPORT_TIMEOUT` say how often and how long, `OTEL_EXPORTER_OTLP_...` where to.
"""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from kobs.collector import Collector
from kobs.errors import ConfigError
from kobs.export.metric_points import Metrics
from kobs.export.metric_source import MetricSource, RecordedMetrics
from kobs.export.otlp_marks import is_exported_elsewhere
from kobs.export.otlp_metrics_encode import encode
from kobs.export.otlp_send import quietly
from kobs.export.otlp_settings import disabled
from kobs.export.otlp_transport import Outcome, Transport
from kobs.tracing.resource import Given, process_resource, recorded_resource

if TYPE_CHECKING:
    from kobs._core.contract import AttachedRing
    from kobs.recording import Recording

READ_EVERY_S = 1.0
"""How often the ring is read while nothing is to be sent: it holds only so much."""

_log = logging.getLogger("kobs")


class MetricSettings(NamedTuple):
    """How metrics are sent, by OpenTelemetry's variables."""

    delta: bool
    exponential: bool
    interval_s: float
    timeout_s: float

    @classmethod
    def from_environment(cls) -> "MetricSettings":
        """Read the environment. Raises `ConfigError` naming a variable with a bad value.

        `lowmemory` is `delta`: kobs has no observed counters, for which alone the two differ.
        """
        temporality = _choice(
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            ("cumulative", "delta", "lowmemory"),
        )
        aggregation = _choice(
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            ("base2_exponential_bucket_histogram", "explicit_bucket_histogram"),
        )
        return cls(
            temporality != "cumulative",
            aggregation == "base2_exponential_bucket_histogram",
            _milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60_000),
            _milliseconds("OTEL_METRIC_EXPORT_TIMEOUT", 30_000),
        )


class MetricReport(NamedTuple):
    """What became of the exports so far."""

    points: int = 0
    """Data points that the receiver took."""
    failed: int = 0
    """Data points that it will never take."""
    away: int = 0
    """Tries that did not reach it. What they would have brought is in the next one."""
    reason: str = ""
    """Why the last one that failed did."""


class OtlpMetricsExporter:
    """Sends a collector's metrics to an OTLP receiver.

    `collector` None: the process-wide one. `endpoint`: a base URL in place of
    `OTEL_EXPORTER_OTLP_ENDPOINT`. `resource`: the attributes of what this process is (those that
    its spans are sent with); None: found out. Any thread may call. Sends nothing while `kobs run
    --otlp` sends the session that the collector records in.

    Raises `ConfigError` for a bad variable or without a collector, `MissingExtraError` where what
    the protocol needs is not installed.
    """

    def __init__(
        self,
        collector: Collector | None = None,
        *,
        endpoint: str | None = None,
        resource: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings = MetricSettings.from_environment()
        self._transport = Transport("metrics", endpoint=endpoint)
        self._given = Given.read()
        self._resource = resource
        self.source = MetricSource(collector, delta=self._settings.delta)
        self._disabled = disabled()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.total = MetricReport()
        """What became of everything so far."""
        _live.add(self)

    def read(self) -> None:
        """Count what is new in the ring, and send nothing."""
        if not self._closed:
            self.source.read()

    def export(self) -> Outcome:
        """Send the metrics as they are now: one try."""
        with self._lock:
            if self._closed or self._disabled:
                return Outcome("refused", "the exporter is closed or OTEL_SDK_DISABLED=true")
            if is_exported_elsewhere(self.source.collector):
                return Outcome("refused", "another process exports the whole session")
            return self._export()

    def start(self) -> None:
        """Export every `OTEL_METRIC_EXPORT_INTERVAL` milliseconds from a thread, and at exit.
        Twice is once. A forked child has a thread of its own."""
        if self._thread is not None or self._closed or self._disabled:
            return
        import atexit
        from multiprocessing import util

        atexit.register(self.shutdown)
        # Its children leave without their exit handlers, but with its own.
        util.register_after_fork(self, _at_end_of_multiprocessing)
        self._begin()

    def flush(self, timeout: float = 10.0) -> bool:
        """Export until the receiver took the metrics; False if it did not within `timeout`
        seconds, or refused them."""
        until = time.monotonic() + timeout
        while True:
            outcome = self.export()
            if outcome.verdict != "away":
                return outcome.verdict == "taken"
            left = until - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(outcome.wait_s, left))

    def shutdown(self, timeout: float = 10.0) -> MetricReport:
        """Export once more and end; what became of everything. Twice is once."""
        if self._closed:
            return self.total
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        self.flush(timeout)
        with self._lock:
            self._closed = True
            self.source.close()
            self._transport.close()
        if thread is not None:
            import atexit

            atexit.unregister(self.shutdown)
        return self.total

    def __enter__(self) -> "OtlpMetricsExporter":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    # -- below: how -------------------------------------------------------------------------

    def _run(self) -> None:
        interval_s = self._settings.interval_s
        due = time.monotonic() + interval_s
        while not self._stop.wait(min(READ_EVERY_S, max(0.0, due - time.monotonic()))):
            try:
                if time.monotonic() < due:
                    self.read()
                    continue
                outcome = self.export()
                wait_s = outcome.wait_s if outcome.verdict == "away" else interval_s
                due = time.monotonic() + min(wait_s, interval_s)
            except Exception:  # the next round may do better, and the program is not to notice
                _log.warning("the metrics could not be exported", exc_info=True)
                due = time.monotonic() + interval_s

    def _export(self) -> Outcome:
        metrics = self.source.collect()
        try:
            body = encode(metrics, self._about(), exponential=self._settings.exponential)
            with quietly():
                outcome = self._transport.send(body, self._settings.timeout_s)
        except BaseException:
            self.source.give_back()
            raise
        points, total = _count(metrics), self.total
        if outcome.verdict == "taken":
            taken = points - min(points, outcome.rejected)
            total = total._replace(points=total.points + taken)
            total = total._replace(failed=total.failed + points - taken)
        elif outcome.verdict == "refused":
            total = total._replace(failed=total.failed + points)
        else:
            self.source.give_back()
            total = total._replace(away=total.away + 1)
        if outcome.reason and outcome.reason != total.reason:
            _log.warning("OTLP export of metrics: the receiver says: %s", outcome.reason)
        self.total = total._replace(reason=outcome.reason or total.reason)
        return outcome

    def _about(self) -> Mapping[str, Any]:
        if self._resource is None:
            collector = self.source.collector
            session = collector.session.id if collector.session is not None else ""
            self._resource = process_resource(self._given, session, collector.recording)
        return self._resource

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._run, name="kobs-otlp-metrics", daemon=True)
        self._thread.start()

    def _after_fork(self) -> None:
        """In a forked child: what was counted is the parent's to send. Most children will exec:
        what takes time waits for the first export."""
        if self._closed:
            return
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._transport.forget()
        self._resource = None
        self.total = MetricReport()
        if self._thread is not None:
            self._begin()


def _at_end_of_multiprocessing(exporter: OtlpMetricsExporter) -> None:
    from multiprocessing import util

    util.Finalize(None, exporter.shutdown, exitpriority=0)


_live: weakref.WeakSet[OtlpMetricsExporter] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for exporter in list(_live):
        exporter._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


class RecordedMetricsExporter:
    """Sends the metrics of a recording or session from outside of the program, while it is written
    or after: cumulative, those of each process up to its last sign of life.

    `read` counts what is new and `export` sends all; `finish` does both once more and ends.
    `resource` gives the attributes of what a process is (those that its spans are sent with); None:
    found out. Raises as `OtlpMetricsExporter` does.
    """

    def __init__(
        self,
        recording: "Recording",
        *,
        endpoint: str | None = None,
        resource: "Callable[[AttachedRing], Mapping[str, Any]] | None" = None,
    ) -> None:
        self._settings = MetricSettings.from_environment()
        self._transport = Transport("metrics", endpoint=endpoint)
        self._resource = resource or partial(recorded_resource, Given.read())
        self._disabled = disabled()
        self._recorded = RecordedMetrics(recording)
        self._resources: dict[int, Mapping[str, Any]] = {}

    @property
    def interval_s(self) -> float:
        """How often metrics are to be sent, in seconds, by `OTEL_METRIC_EXPORT_INTERVAL`."""
        return self._settings.interval_s

    def read(self) -> None:
        """Count what is new."""
        self._recorded.read()

    def export(self) -> MetricReport:
        """Send the metrics of what was read: one try; what became of it."""
        if self._disabled:
            return MetricReport()
        body, points = b"", 0
        for attached, metrics in self._recorded.collect():
            about = self._resources.get(attached.recording)
            if about is None:
                about = self._resources[attached.recording] = self._resource(attached)
            body += encode(metrics, about, exponential=self._settings.exponential)
            points += _count(metrics)
        with quietly():
            outcome = self._transport.send(body, self._settings.timeout_s)
        if outcome.verdict == "taken":
            failed = min(points, outcome.rejected)
            return MetricReport(points - failed, failed, 0, outcome.reason)
        return MetricReport(0, points, int(outcome.verdict == "away"), outcome.reason)

    def finish(self) -> MetricReport:
        """Read the rest, send it, and end; what became of the last export."""
        self._recorded.read_all()
        report = self.export()
        self._recorded.close()
        self._transport.close()
        return report


def export_recorded_metrics(recording: "Recording", **options: Any) -> MetricReport:
    """Send the metrics of a recording or session, and say what became of it. Takes and raises what
    `RecordedMetricsExporter` does."""
    return RecordedMetricsExporter(recording, **options).finish()


def _count(metrics: Metrics) -> int:
    return sum(len(metric.points) for metric in metrics.metrics)


def _choice(name: str, allowed: tuple[str, ...]) -> str:
    """The variable's value; the first that is allowed where it is not set."""
    value = os.environ.get(name, "").strip().lower() or allowed[0]
    if value not in allowed:
        raise ConfigError(f"{name}={value}: expected {', '.join(allowed)}")
    return value


def _milliseconds(name: str, otherwise: int) -> float:
    """The variable's value in seconds."""
    value = os.environ.get(name, "").strip()
    if value and (not (value.isascii() and value.isdigit()) or not int(value)):
        raise ConfigError(f"{name}={value}: expected milliseconds, a whole number above 0")
    return int(value or otherwise) / 1000
