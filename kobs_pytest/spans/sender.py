"""Sending the spans of a run over OTLP: what tests and their child processes recorded, too.

PYTEST_DONT_REWRITE
"""

import logging
import os

import pytest

from kobs.errors import KobsError
from kobs.export.otlp_recording import RecordingExporter
from kobs.recording import open_recording
from kobs_pytest.spans.surroundings import attributes

_PATIENCE_S = 3.0
"""At the end: after so long without an answer the rest is given up, unless
`OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise."""


class Sender:
    """Reads the session's recordings, and sends the spans that are in them. Where that goes wrong
    it is told at the end, and the run goes on.

    Raises `pytest.UsageError` for a variable of OpenTelemetry's with a bad value, and where what
    it needs is not installed.
    """

    def __init__(self, session: str, folder: str, url: str) -> None:
        resource: dict[str, object] = {
            "service.name": os.path.basename(folder) or "pytest", **attributes(folder, os.environ)
        }  # fmt: skip
        try:
            self._recording = open_recording(session)
            self._exporter = RecordingExporter(
                self._recording, logs=False, endpoint=url or None, resource=resource
            )
        except KobsError as error:
            raise pytest.UsageError(f"--kobs-otlp: {error}") from None
        self._told = _Told()
        self._error = ""
        self._away = False
        self._finished = False

    def send(self) -> None:
        """Send what is new: a ring is not to be full before it was read. A receiver that does not
        answer is not asked again before the end: the run waits for it once."""
        if self._error or self._away:
            return
        try:
            with self._told:
                report = self._exporter.export()
            self._away = report.pending > 0 and not report.spans
        except Exception as error:
            self._error = repr(error)

    def finish(self) -> None:
        """Send the rest. Twice is once."""
        if self._finished:
            return
        self._finished = True
        given = any(os.environ.get(f"OTEL_EXPORTER_OTLP_{of}TIMEOUT") for of in ("", "TRACES_"))
        try:
            with self._told:
                self._exporter.finish(None if given else _PATIENCE_S)
        except Exception as error:
            self._error = self._error or repr(error)
        self._recording.close()

    @property
    def summary(self) -> str:
        """What became of the spans, in a line."""
        sent = self._exporter.total
        words = f"kobs: {_spans(sent.spans)} sent over OTLP"
        if sent.failed or self._error:
            why = self._error or self._told.last or "the receiver does not take them"
            lost = f"{_spans(sent.failed)} could not be sent" if sent.failed else "sending failed"
            words = f"kobs: {lost} over OTLP, {sent.spans} were: {why}"
        if sent.lost:
            words += f"; {sent.lost} events were overwritten before (--kobs-size)"
        return words


class _Told(logging.Handler):
    """Keeps what the exporter has to say, in place of the terminal in the middle of a run."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().removeprefix("OTLP export: ")
        self.last = text.partition(" (told once")[0].partition(" (they are kept")[0]

    def __enter__(self) -> "_Told":
        logging.getLogger("kobs").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("kobs").removeHandler(self)


def _spans(number: int) -> str:
    return "1 span" if number == 1 else f"{number} spans"
