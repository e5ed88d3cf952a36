"""The transport of OTLP, against real servers of this process."""

import os
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from kobs.errors import ConfigError
from kobs.export.otlp_settings import Signal, TransportSettings
from kobs.export.otlp_transport import FIRST_WAIT_S, LONGEST_WAIT_S, Outcome, Transport
from tests.otlp_receivers import PEM, GrpcReceiver, HttpReceiver, Receiver, Reply

REQUEST = ExportTraceServiceRequest(resource_spans=[{"schema_url": "x" * 200}])
BODY: bytes = REQUEST.SerializeToString()
PARTIAL: dict[Signal, Any] = {
    "traces": ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=3, error_message="too old")
    ),
    "logs": ExportLogsServiceResponse(
        partial_success=ExportLogsPartialSuccess(rejected_log_records=3, error_message="too old")
    ),
    "metrics": ExportMetricsServiceResponse(
        partial_success=ExportMetricsPartialSuccess(rejected_data_points=3, error_message="too old")
    ),
}


@pytest.fixture(scope="module")
def http_receiver() -> Iterator[Receiver]:
    receiver = HttpReceiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def grpc_receiver() -> Iterator[Receiver]:
    receiver = GrpcReceiver()
    yield receiver
    receiver.close()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def http(http_receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    http_receiver.forget()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", http_receiver.url)
    return http_receiver


@pytest.fixture
def grpc(grpc_receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    grpc_receiver.forget()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", grpc_receiver.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    return grpc_receiver


@pytest.fixture(params=["http", "grpc"])
def receiver(request: pytest.FixtureRequest) -> Receiver:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture
def transport() -> Iterator[Transport]:
    made = Transport("traces")
    yield made
    made.close()


def send(signal: Signal = "traces") -> Outcome:
    made = Transport(signal)
    try:
        return made.send(BODY)
    finally:
        made.close()


class TestBothProtocols:
    def test_what_is_sent_is_taken(self, receiver: Receiver) -> None:
        assert send() == Outcome("taken")
        (got,) = receiver.got
        assert got.signal == "traces"
        assert got.message == REQUEST

    @pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
    def test_a_partial_success_is_read(self, receiver: Receiver, signal: Signal) -> None:
        status = 200 if isinstance(receiver, HttpReceiver) else "OK"
        receiver.replies.append(Reply(status, body=PARTIAL[signal].SerializeToString()))
        assert send(signal) == Outcome("taken", "too old", rejected=3)
        assert receiver.got[0].signal == signal

    def test_a_response_that_is_none_is_taken_all_the_same(self, receiver: Receiver) -> None:
        status = 200 if isinstance(receiver, HttpReceiver) else "OK"
        receiver.replies.append(Reply(status, body=b"\xff\xff\xff"))
        assert send() == Outcome("taken")

    def test_headers(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a%20b,x=y")
        send()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "own=1")
        send()
        one, two = (got.headers for got in receiver.got)
        assert (one["api-key"], one["x"]) == ("a b", "y")
        assert two["own"] == "1"
        assert "api-key" not in two
        assert "kobs-otlp/" in one["user-agent"]

    def test_gzip(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        assert send() == Outcome("taken")
        (got,) = receiver.got
        assert got.message == REQUEST
        if isinstance(receiver, HttpReceiver):
            assert got.headers["content-encoding"] == "gzip"
            assert int(got.headers["content-length"]) < len(BODY)

    def test_waits_double_with_jitter_and_begin_anew_once_it_is_taken(
        self, receiver: Receiver, transport: Transport
    ) -> None:
        receiver.always = Reply(503 if isinstance(receiver, HttpReceiver) else "UNAVAILABLE")
        waits = []
        for _ in range(7):
            before = time.monotonic()
            outcome = transport.send(BODY)
            assert outcome.verdict == "away"
            assert transport.not_before >= before + outcome.wait_s
            waits.append(outcome.wait_s)
        for number, wait_s in enumerate(waits):
            without = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**number)
            assert 0.8 * without <= wait_s <= 1.2 * without
        assert len(set(waits)) == len(waits)
        receiver.always = None
        assert transport.send(BODY) == Outcome("taken")
        assert transport.not_before == 0

    def test_over_tls_with_an_authority_of_its_own(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secure = type(receiver)(tls=True)  # type: ignore[call-arg]
        try:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", secure.url)
            outcome = send()
            assert outcome.verdict == "away", "its certificate is nobody's"
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(PEM))
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(PEM))
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(PEM))
            assert send() == Outcome("taken")
        finally:
            secure.close()
        assert [got.message for got in secure.got] == [REQUEST]

    def test_nobody_there(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        # A port that was bound and is closed again: nobody listens.
        gone = type(receiver)()
        gone.close()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", gone.url)
        outcome = send()
        assert outcome.verdict == "away"
        assert "refused" in outcome.reason
        assert outcome.wait_s > 0

    def test_a_receiver_that_came_back(
        self, receiver: Receiver, transport: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = type(receiver)()
        made = Transport("traces", endpoint=other.url)
        assert made.send(BODY).verdict == "taken"
        other.close()
        if isinstance(other, HttpReceiver):  # its threads outlive it; the connection is closed
            made.close()
        assert made.send(BODY).verdict == "away"
        made.close()
        assert transport.send(BODY) == Outcome("taken")


class TestHttp:
    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    def test_statuses_that_are_retried(self, http: Receiver, status: int) -> None:
        http.replies.append(Reply(status))
        outcome = send()
        assert outcome.verdict == "away"
        assert f"HTTP {status}" in outcome.reason

    @pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500, 501])
    def test_statuses_that_are_not(self, http: Receiver, status: int) -> None:
        message = Status(message="no such tenant").SerializeToString()
        http.replies.append(Reply(status, {"Location": "/elsewhere"}, message))
        outcome = send()
        assert outcome.verdict == "refused"
        assert f"HTTP {status}" in outcome.reason
        assert "no such tenant" in outcome.reason
        assert len(http.got) == 1

    def test_the_receiver_says_when(self, http: Receiver) -> None:
        http.replies.append(Reply(503, {"Retry-After": "37"}))
        assert send().wait_s == 37
        http.replies.append(Reply(429, {"Retry-After": formatdate(time.time() + 60, usegmt=True)}))
        assert 50 < send().wait_s <= 60
        http.replies.append(Reply(429, {"Retry-After": "soon"}))
        assert send().wait_s <= FIRST_WAIT_S * 1.2

    def test_one_connection_is_kept_alive(self, http: Receiver, transport: Transport) -> None:
        for _ in range(3):
            assert transport.send(BODY) == Outcome("taken")
        assert len({got.connection for got in http.got}) == 1

    def test_deflate(self, http: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "deflate")
        assert send() == Outcome("taken")
        assert http.got[0].message == REQUEST

    def test_paths(self, http: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        send()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{http.url}/base/")
        send("logs")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{http.url}/whole/traces")
        send()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", http.url)
        send()
        made = Transport("traces", endpoint=f"{http.url}/given")
        made.send(BODY)
        made.close()
        assert [got.headers[":path"] for got in http.got] == [
            "/v1/traces", "/base/v1/logs", "/whole/traces", "/", "/given/v1/traces",
        ]  # fmt: skip

    def test_a_receiver_that_says_nothing_in_time(
        self, monkeypatch: pytest.MonkeyPatch, transport: Transport
    ) -> None:
        import socket

        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            made = Transport("traces", endpoint=f"http://127.0.0.1:{listening.getsockname()[1]}")
            outcome = made.send(BODY, timeout_s=0.05)
            made.close()
        assert outcome.verdict == "away"
        assert "timed out" in outcome.reason.lower()


class TestGrpc:
    @pytest.mark.parametrize(
        "code",
        ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"],
    )
    def test_codes_that_are_retried(self, grpc: Receiver, code: str) -> None:
        grpc.replies.append(Reply(code))
        outcome = send()
        assert outcome.verdict == "away"
        assert code in outcome.reason

    @pytest.mark.parametrize(
        "code", ["INVALID_ARGUMENT", "UNAUTHENTICATED", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"]
    )
    def test_codes_that_are_not(self, grpc: Receiver, code: str) -> None:
        grpc.replies.append(Reply(code))
        outcome = send()
        assert outcome.verdict == "refused"
        assert code in outcome.reason

    @pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
    def test_the_receiver_says_when(self, grpc: Receiver, code: str) -> None:
        detail = AnyMessage()
        detail.Pack(RetryInfo(retry_delay=Duration(seconds=37, nanos=500_000_000)))
        status = Status(details=[detail]).SerializeToString()
        grpc.replies.append(Reply(code, {"grpc-status-details-bin": status}))
        outcome = send()
        assert outcome.verdict == "away"
        assert outcome.wait_s == 37.5

    def test_targets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")

        def target(endpoint: str, insecure: str = "") -> tuple[str, bool]:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", insecure)
            return TransportSettings.from_environment("traces")[1:3]

        assert target("") == ("localhost:4317", False)
        assert target("http://host:1") == ("host:1", False)
        assert target("https://host:1/", "true") == ("host:1", True)
        assert target("host:1") == ("host:1", True)
        assert target("host:1", "True") == ("host:1", False)
        assert target("unix:///run/otlp", "true") == ("unix:///run/otlp", False)


class TestVariables:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [("", 10.0), ("2.5", 2.5), ("60", 60.0), ("500", 0.5), ("10000", 10.0)],
    )
    def test_timeouts(self, monkeypatch: pytest.MonkeyPatch, value: str, seconds: float) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", value)
        assert TransportSettings.from_environment("logs").timeout_s == seconds

    def test_the_one_of_the_signal_goes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "2")
        assert TransportSettings.from_environment("logs").timeout_s == 2
        assert TransportSettings.from_environment("traces").timeout_s == 1

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier pigeon"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "long"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/file"),
        ],
    )
    def test_a_bad_value_is_refused_by_name(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=f"{name}={value}"):
            Transport("traces")

    def test_with_grpc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "deflate")
        with pytest.raises(ConfigError, match="expected none or gzip"):
            Transport("traces")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", "maybe")
        with pytest.raises(ConfigError, match="INSECURE=maybe"):
            Transport("traces")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", "")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:1")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(PEM))
        with pytest.raises(ConfigError, match="both or none"):
            Transport("traces")
