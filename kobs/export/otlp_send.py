"""Sending: which exporters, in which batches, and what waits while the receiver is away."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from kobs.context import EXPORT_ORIGIN, origin
from kobs.errors import ConfigError, MissingExtraError

BATCH = 512
_TRIES = 3


class Sent(NamedTuple):
    """What became of a round of sending."""

    spans: int = 0
    logs: int = 0
    failed: int = 0


class Sender:
    """The exporters of both signals and what waits for them.

    A batch that the receiver does not take is kept and tried again later, except one that it
    refuses three times while it takes others.
    """

    def __init__(self, spans: bool, logs: bool, span_exporter: Any, log_exporter: Any) -> None:
        disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        self.spans: Queue | None = None
        self.logs: Queue | None = None
        if spans and not disabled:
            self.spans = Queue(span_exporter or make_exporter("TRACES"))
        if logs and not disabled:
            self.logs = Queue(log_exporter or make_exporter("LOGS"))

    @property
    def waiting(self) -> int:
        """Spans and log records that were not taken yet."""
        return sum(queue.waiting for queue in (self.spans, self.logs) if queue is not None)

    def send(self) -> Sent:
        """Send what waits, until the receiver does not take a batch."""
        spans, spans_failed = self.spans.send() if self.spans is not None else (0, 0)
        logs, logs_failed = self.logs.send() if self.logs is not None else (0, 0)
        return Sent(spans, logs, spans_failed + logs_failed)

    def forget(self) -> int:
        """Give up what waits; how many spans and log records that was."""
        given_up = self.waiting
        for queue in (self.spans, self.logs):
            if queue is not None:
                queue.clear()
        return given_up

    def close(self) -> int:
        """Shut the exporters down; how many spans and log records had to be given up."""
        given_up = self.forget()
        for queue in (self.spans, self.logs):
            if queue is not None:
                queue.exporter.shutdown()
        return given_up


class _Batch:
    """Objects that go together, and how often they were refused."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.failures = 0
        self.taken_before = 0
        """How many batches the receiver had taken when this one failed first."""


class Queue:
    """Objects of one signal on their way to its exporter."""

    def __init__(self, exporter: Any) -> None:
        self.exporter = exporter
        self._batches: deque[_Batch] = deque()
        self._taken = 0
        self.waiting = 0
        """Objects that wait."""

    def append(self, item: Any) -> None:
        """Let an object wait for the next round."""
        last = self._batches[-1] if self._batches else None
        if last is None or last.failures or len(last.items) >= BATCH:
            last = _Batch()
            self._batches.append(last)
        last.items.append(item)
        self.waiting += 1

    def send(self) -> tuple[int, int]:
        """(how many objects the receiver took, how many were given up)."""
        sent = given_up = 0
        while self._batches:
            batch = self._batches.popleft()
            if succeeded(self.exporter, batch.items):
                self._taken += 1
                sent += len(batch.items)
                continue
            if not batch.failures:
                batch.taken_before = self._taken
            batch.failures += 1
            if batch.failures >= _TRIES and self._taken > batch.taken_before:
                given_up += len(batch.items)
                continue
            self._batches.append(batch)
            break
        self.waiting -= sent + given_up
        return sent, given_up

    def clear(self) -> None:
        """Let go of everything."""
        self._batches.clear()
        self.waiting = 0


def succeeded(exporter: Any, items: list[Any]) -> bool:
    """The exporter handed the objects over."""
    try:
        return bool(exporter.export(items).name == "SUCCESS")
    except Exception:
        logging.getLogger("kobs").warning("the OTLP exporter raised", exc_info=True)
        return False


def make_exporter(signal: str) -> Any:
    """The SDK's OTLP exporter for a signal, by `OTEL_EXPORTER_OTLP_[signal_]PROTOCOL`."""
    own, common = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    name = own if os.environ.get(own) else common
    protocol = os.environ.get(name) or "http/protobuf"
    makers: dict[str, Callable[[str], Any]] = {
        "http/protobuf": _http_exporter,
        "grpc": _grpc_exporter,
    }
    if protocol not in makers:
        raise ConfigError(f"{name}={protocol}: expected {' or '.join(makers)}")
    try:
        return makers[protocol](signal)
    except ImportError as error:
        raise MissingExtraError(
            f"export to OTLP over {protocol} needs a package that is missing ({error}); "
            "install it with: pip install 'kobs[otlp]'"
        ) from error


def _http_exporter(signal: str) -> Any:
    if signal == "TRACES":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    return OTLPLogExporter()


def _grpc_exporter(signal: str) -> Any:
    if signal == "TRACES":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

    return OTLPLogExporter()


@contextmanager
def quietly() -> Iterator[None]:
    """Export without being traced: neither by kobs (the origin says so) nor by OpenTelemetry's
    instrumentors."""
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    token = origin.set(EXPORT_ORIGIN)
    try:
        with suppress_instrumentation():
            yield
    finally:
        origin.reset(token)
