"""`--otlp [URL]`: sending a session to an OTLP receiver, as several commands do it."""

import argparse
import threading
from typing import TYPE_CHECKING

from kobs.cli import figures

if TYPE_CHECKING:
    from kobs.export.otlp import ExportReport
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


def told(report: "ExportReport") -> str:
    """What became of an export, in words."""
    text = (
        f"sent {figures.count(report.spans, 'span')} and {figures.count(report.logs, 'log record')}"
    )
    if report.failed:
        text += f"; {report.failed:,} were not taken"
    if report.lost:
        text += f"; {figures.count(report.lost, 'event')} were lost before"
    return text


class LiveExport:
    """Sends what the processes of a session record, from a thread of this process: while they run,
    and the rest when `finish` is called."""

    def __init__(self, recording: "Recording", endpoint: str) -> None:
        from kobs.export.otlp import RecordingExporter

        self._recording = recording
        self._exporter = RecordingExporter(recording, endpoint=endpoint or None)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kobs-otlp", daemon=True)
        self._error: Exception | None = None

    def start(self) -> None:
        """Begin to send. Signals that this thread blocks are blocked there, too."""
        self._thread.start()

    def finish(self) -> tuple["ExportReport", str]:
        """Send the rest; what became of everything, and why something went wrong where it did."""
        self._stop.set()
        report = self._exporter.total
        try:
            self._thread.join()
            if self._error is None:
                report = self._exporter.finish()
        except KeyboardInterrupt:
            return self._exporter.total, "interrupted"
        except Exception as error:  # the program's exit code is passed on all the same
            self._error = error
        return report, "" if self._error is None else repr(self._error)

    def _run(self) -> None:
        try:
            while not self._stop.wait(_INTERVAL_S):
                self._exporter.export()
        except Exception as error:
            self._error = error
