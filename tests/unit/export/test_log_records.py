"""What a program logged as OTLP log records: as `opentelemetry-proto` decodes what was sent."""

import gzip
import logging
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from kobs import Collector, Severity, init_collector, open_recording, span_operation
from kobs.collector import clear_collector
from kobs.export.otlp import ExportReport, OtlpExporter, export_recording
from kobs.tracing.logs import KobsLogHandler


class Receiver:
    """Takes log records over HTTP."""

    def __init__(self) -> None:
        self.requests: list[ExportLogsServiceRequest] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.requests.append(ExportLogsServiceRequest.FromString(body))
                answer = ExportLogsServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                return

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def records(self) -> list[tuple[str, Any]]:
        """(scope, log record) of all that came in."""
        return [
            (scope.scope.name, record)
            for request in self.requests
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def receiver(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    server.requests.clear()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL", raising=False)
    return server


@pytest.fixture(params=["python", pytest.param("c", marks=pytest.mark.c_core)])
def collector(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Collector]:
    monkeypatch.setenv("KOBS_CORE", request.param)
    with Collector(size=1024, sampling=100) as made:
        init_collector(made)
        yield made
        clear_collector()


@pytest.fixture
def log(collector: Collector) -> Iterator[logging.Logger]:
    handler = KobsLogHandler()
    logger = logging.Logger("test.shop", 1)
    logger.addHandler(handler)
    yield logger
    handler.close()


def sent(collector: Collector, **options: Any) -> ExportReport:
    with OtlpExporter(collector, spans=False, **options) as exporter:
        return exporter.shutdown()


def values(record: Any) -> dict[str, Any]:
    """A log record's attributes, with the types that they were sent with."""
    return {one.key: _value(one.value) for one in record.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return {one.key: _value(one.value) for one in value.kvlist_value.values}
    return None if kind is None else getattr(value, kind)


def test_a_record(collector: Collector, log: logging.Logger, receiver: Receiver) -> None:
    with span_operation("order") as order:
        log.warning("only %d left", 3)
    assert sent(collector) == ExportReport(logs=1)
    ((scope, record),) = receiver.records()
    assert scope == "test.shop"
    assert record.body.string_value == "only 3 left"
    assert (record.severity_number, record.severity_text) == (13, "WARN")
    assert record.trace_id.hex() == order.trace_id
    assert record.span_id.hex() == order.span_id
    assert record.event_name == ""
    attributes = values(record)
    assert attributes.pop("code.line.number") > 0
    assert attributes.pop("thread.id") > 0
    assert attributes.pop("process.pid") == os.getpid()
    assert len(attributes.pop("kobs.event.id")) == 16
    assert attributes == {
        "code.file.path": __file__,
        "code.function.name": "test_a_record",
        "thread.name": "MainThread",
    }


def test_fields_keep_their_types(
    collector: Collector, log: logging.Logger, receiver: Receiver
) -> None:
    given = {"rows": 3, "ratio": 0.5, "who": "é", "flag": True, "raw": b"\x00\xff",
             "list": ["a", "b"], "code.function.name": "my own", "far": 1 << 70}  # fmt: skip
    log.info("x", extra=given)
    sent(collector)
    ((_, record),) = receiver.records()
    assert given | {"far": str(1 << 70)} == {
        key: value for key, value in values(record).items() if key in given
    }


def test_an_exception(collector: Collector, log: logging.Logger, receiver: Receiver) -> None:
    try:
        raise ValueError("bad row")
    except ValueError:
        log.exception("failed: %s", "y" * 500)
    sent(collector)
    ((_, record),) = receiver.records()
    attributes = values(record)
    assert record.body.string_value == "failed: " + "y" * 500
    assert attributes["exception.type"] == "ValueError"
    assert attributes["exception.message"] == "bad row"
    assert "test_an_exception" in attributes["exception.stacktrace"]


@pytest.mark.parametrize(
    ("level", "number"), [(5, 1), (10, 5), (20, 9), (25, 12), (40, 17), (99, 24)]
)
def test_severity_numbers(
    collector: Collector, log: logging.Logger, receiver: Receiver, level: int, number: int
) -> None:
    log.log(level, "x")
    sent(collector, severity=Severity.TRACE)
    ((_, record),) = receiver.records()
    assert record.severity_number == number
    assert record.severity_text == {5: "TRACE", 25: "Level 25", 99: "Level 99"}.get(
        level, logging.getLevelName(level)
    )


def test_from_info_up_unless_told_otherwise(
    collector: Collector, log: logging.Logger, receiver: Receiver
) -> None:
    log.debug("x", extra={"n": 1})
    log.info("y", extra={"n": 2})
    assert sent(collector).logs == 1
    ((_, record),) = receiver.records()
    assert (record.body.string_value, values(record)["n"]) == ("y", 2)


def test_of_a_trace_that_another_tracer_made(
    collector: Collector, log: logging.Logger, receiver: Receiver
) -> None:
    with TracerProvider().get_tracer("test").start_as_current_span("outer") as outer:
        log.info("x")
    with TracerProvider(sampler=ALWAYS_OFF).get_tracer("test").start_as_current_span("left out"):
        log.info("y")
    report = sent(collector)
    assert (report.logs, report.unsampled) == (1, 1)
    ((_, record),) = receiver.records()
    context = outer.get_span_context()
    assert record.trace_id == context.trace_id.to_bytes(16, "big")
    assert record.span_id == context.span_id.to_bytes(8, "big")


def test_out_of_a_recording(receiver: Receiver, tmp_path: Any) -> None:
    with Collector(size=64, path=tmp_path / "a.kobs") as recorded:
        handler = KobsLogHandler(collector=recorded)
        logger = logging.Logger("test.shop")
        logger.addHandler(handler)
        logger.error("x", extra={"n": 1})
        handler.close()
    with open_recording(tmp_path / "a.kobs") as recording:
        assert export_recording(recording, spans=False).logs == 1
    ((scope, record),) = receiver.records()
    assert (scope, values(record)["n"]) == ("test.shop", 1)
    assert record.time_unix_nano == record.observed_time_unix_nano


def test_what_exporting_logs_is_not_exported(collector: Collector, receiver: Receiver) -> None:
    """Where everything is logged, an export logs too: of its own connection."""
    handler = KobsLogHandler()
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(1)
    try:
        logging.getLogger("test.shop").info("x")
        with OtlpExporter(collector, spans=False, severity=Severity.TRACE) as exporter:
            assert exporter.export_pending().logs == 1
            assert exporter.export_pending().logs == 0
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
        handler.close()
    assert [scope for scope, _ in receiver.records()] == ["test.shop"]
    assert [event.payload.logger for event in collector.snapshot()] == ["test.shop"]
