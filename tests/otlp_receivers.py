"""OTLP receivers of this process, over HTTP and gRPC, that answer as a test tells them.

What they receive is parsed by `opentelemetry-proto`'s own classes. Receivers that others wrote
are in `tests/end_to_end`.
"""

import gzip
import ssl
import threading
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PEM = Path(__file__).parent / "instrumentation" / "data" / "localhost.pem"
REQUESTS: dict[str, Any] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}


class Reply(NamedTuple):
    """How to answer a request: a status of HTTP, or the name of one of gRPC."""

    status: int | str
    headers: Mapping[str, str | bytes] = {}
    body: bytes = b""


class Got(NamedTuple):
    """A request that came in."""

    signal: str
    headers: dict[str, str]
    body: bytes
    """Uncompressed, encoded."""
    connection: int
    """With HTTP: which connection it came by."""

    @property
    def message(self) -> Any:
        """The request, parsed by `opentelemetry-proto`."""
        return REQUESTS[self.signal].FromString(self.body)


class Receiver:
    """What both have: what came in, and how to answer the next requests (then: taken)."""

    url = ""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.replies: list[Reply] = []
        self.always: Reply | None = None
        """Where set, every request is answered with this."""
        self._changed = threading.Condition()

    def take(self, got: Got) -> Reply | None:
        """Note a request; how to answer it."""
        with self._changed:
            self.got.append(got)
            self._changed.notify_all()
            return self.always or (self.replies.pop(0) if self.replies else None)

    def wait_for(self, requests: int, timeout: float = 30.0) -> None:
        """Wait until so many requests came in."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.got) >= requests, timeout), self.got

    def forget(self) -> None:
        """Begin anew, for the next test."""
        with self._changed:
            self.got.clear()
            self.replies.clear()
            self.always = None

    @property
    def spans(self) -> list[Any]:
        """Every span of every request that was answered, in order."""
        return [
            span
            for got in self.got
            if got.signal == "traces"
            for group in got.message.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    @property
    def log_records(self) -> list[Any]:
        """Every log record, in order."""
        return [
            record
            for got in self.got
            if got.signal == "logs"
            for group in got.message.resource_logs
            for scope in group.scope_logs
            for record in scope.log_records
        ]

    @property
    def metrics(self) -> list[Any]:
        """Every metric of every request, in order."""
        return [
            metric
            for got in self.got
            if got.signal == "metrics"
            for group in got.message.resource_metrics
            for scope in group.scope_metrics
            for metric in scope.metrics
        ]

    def close(self) -> None:
        """Stop."""


class HttpReceiver(Receiver):
    """Over HTTP/1.1, with connections that are kept alive; over TLS where asked for."""

    def __init__(self, *, tls: bool = False, port: int = 0) -> None:
        super().__init__()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                coding = self.headers.get("Content-Encoding", "")
                body = {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(coding, bytes)(
                    body
                )
                headers = {key.lower(): value for key, value in self.headers.items()}
                signal = self.path.rsplit("/", 1)[-1]
                got = Got(signal, {**headers, ":path": self.path}, body, id(self.connection))
                reply = receiver.take(got) or Reply(200)
                assert isinstance(reply.status, int)
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(reply.body)))
                for key, value in reply.headers.items():
                    assert isinstance(value, str)
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *_: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                return  # a client that goes away is no error of ours

        self._server = Server(("127.0.0.1", port), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(PEM)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class GrpcReceiver(Receiver):
    """Over gRPC, as a generic service of raw bytes."""

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__()
        self._pool = ThreadPoolExecutor(2)
        self._server = grpc.server(self._pool, handlers=[_Handler(self)])
        if tls:
            pem = PEM.read_bytes()
            credentials = grpc.ssl_server_credentials([(pem, pem)])
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        else:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()
        self._pool.shutdown()


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    _SIGNALS = {"TraceService": "traces", "LogsService": "logs", "MetricsService": "metrics"}

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def service(self, details: Any) -> Any:
        service = details.method.split("/")[1].rsplit(".", 1)[-1]
        return grpc.unary_unary_rpc_method_handler(
            lambda body, context: self._answer(self._SIGNALS[service], body, context)
        )

    def _answer(self, signal: str, body: bytes, context: Any) -> bytes:
        headers = dict(context.invocation_metadata())  # type: ignore[call-overload]
        reply = self._receiver.take(Got(signal, headers, body, 0)) or Reply("OK")
        assert isinstance(reply.status, str)
        context.set_trailing_metadata(tuple(reply.headers.items()))
        if reply.status != "OK":
            context.abort(grpc.StatusCode[reply.status], "as the test says")
        return reply.body
