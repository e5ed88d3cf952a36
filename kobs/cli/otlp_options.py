"""`--otlp [URL]`: sending a session to an OTLP receiver, as several commands do it.

Every `kobs run` imports this: what only an export needs is imported where there is one.
"""

import argparse
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kobs.export.otlp import ExportReport
    from kobs.export.otlp_metrics import MetricReport
    from kobs.recording import Recording

_INTERVAL_S = 0.5


def add_argument(parser: argparse.ArgumentParser, text: str) -> None:
    """The option. Without a URL its value is empty, and means OTEL_EXPORTER_OTLP_ENDPOINT."""
    parser.add_argument(
        "--otlp", nargs="?", const="", type=url, metavar="URL",
        help=f"{text}; without URL to OTEL_EXPORTER_OTLP_ENDPOINT",
    )  # fmt: skip


def url(text: str) -> str:
    """The base URL of a receiver."""
    if text and not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a URL such as http://localhost:4318")
    return text


def is_url(word: str) -> bool:
    """Whether a word after `--otlp` belongs to it."""
    return "://" in word


class Exported(NamedTuple):
    """What became of an export of all three signals."""

    traffic: "ExportReport"
    metrics: "MetricReport"
    wrong: str = ""
    """What kept it from its end, if something did."""

    @property
    def failed(self) -> int:
        """Spans, log records and data points that the receiver did not take."""
        return self.traffic.failed + self.metrics.failed

    def to_dict(self) -> dict[str, object]:
        """As JSON says it."""
        return self.traffic._asdict() | {"points": self.metrics.points, "failed": self.failed}

    def told(self) -> str:
        """In words."""
        from kobs.cli import figures

        traffic = self.traffic
        text = (
            f"sent {figures.count(traffic.spans, 'span')}, "
            f"{figures.count(traffic.logs, 'log record')} and "
            f"{figures.count(self.metrics.points, 'data point')}"
        )
        if self.failed:
            text += f"; {self.failed:,} were not taken"
        if traffic.lost:
            text += f"; {figures.count(traffic.lost, 'event')} were lost before"
        return text


def export(recording: "Recording", *, endpoint: str = "", again: bool = False) -> Exported:
    """Send a recording: spans, log records and metrics. `again`: also what was sent before."""
    from kobs.export.otlp import export_recording
    from kobs.export.otlp_metrics import export_recorded_metrics

    traffic = export_recording(recording, endpoint=endpoint or None, again=again)
    return Exported(traffic, export_recorded_metrics(recording, endpoint=endpoint or None))


class LiveExport:
    """Sends what the processes of a session record, from a thread of this process: while they run,
    and the rest when `finish` is called."""

    def __init__(self, recording: "Recording", endpoint: str) -> None:
        import threading

        from kobs.export.otlp import RecordingExporter
        from kobs.export.otlp_metrics import MetricReport, RecordedMetricsExporter

        self._traffic = RecordingExporter(recording, endpoint=endpoint or None)
        self._metrics = RecordedMetricsExporter(recording, endpoint=endpoint or None)
        self._none = MetricReport()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kobs-otlp", daemon=True)
        self._error: Exception | None = None

    def start(self) -> None:
        """Begin to send. Signals that this thread blocks are blocked there, too."""
        self._thread.start()

    def finish(self) -> Exported:
        """Send the rest; what became of everything, and why something went wrong where it did."""
        self._stop.set()
        try:
            self._thread.join()
            if self._error is None:
                return Exported(self._traffic.finish(), self._metrics.finish())
        except KeyboardInterrupt:
            return Exported(self._traffic.total, self._none, "interrupted")
        except Exception as error:  # the program's exit code is passed on all the same
            self._error = error
        return Exported(self._traffic.total, self._none, repr(self._error))

    def _run(self) -> None:
        try:
            due = time.monotonic() + self._metrics.interval_s
            while not self._stop.wait(_INTERVAL_S):
                self._traffic.export()
                self._metrics.read()
                if time.monotonic() >= due:
                    self._metrics.export()
                    due = time.monotonic() + self._metrics.interval_s
        except Exception as error:
            self._error = error
