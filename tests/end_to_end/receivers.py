"""Real OTLP receivers as processes of their own, and what they received in one simple form."""

import json
import queue
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SERVERS = Path(__file__).parent / "servers"
_PATIENCE_S = 30.0

_KINDS = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
_STATUSES = ["UNSET", "OK", "ERROR"]


class Receiver:
    """What both receivers have in common: they got spans, log records and metrics."""

    http: str
    """Base URL for OTLP over HTTP."""
    grpc: str
    """Base URL for OTLP over gRPC."""
    knows_event_names = True
    """Its OTLP schema has the event name of a log record (since 1.5)."""

    def __init__(self) -> None:
        self._requests: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.spans: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        """As their schema says in JSON, but with attributes by key."""

    def wait_for(self, *, spans: int = 0, logs: int = 0, metrics: int = 0) -> None:
        """Wait until the receiver has said that it got so many."""
        until = time.monotonic() + _PATIENCE_S
        while len(self.spans) < spans or len(self.logs) < logs or len(self.metrics) < metrics:
            left = until - time.monotonic()
            try:
                kind, request = self._requests.get(timeout=max(0.0, left))
            except queue.Empty:
                raise AssertionError(
                    f"the receiver got {len(self.spans)} of {spans} spans, "
                    f"{len(self.logs)} of {logs} log records and {len(self.metrics)} of {metrics} "
                    f"metrics within {_PATIENCE_S:.0f} s"
                ) from None
            if kind == "traces":
                self.spans += _items(request, "resourceSpans", "scopeSpans", "spans")
            elif kind == "logs":
                self.logs += _items(request, "resourceLogs", "scopeLogs", "logRecords")
            elif kind == "metrics":
                self.metrics += _metrics(_plain(request))

    def close(self) -> None:
        """Stop the receiver's process."""
        raise NotImplementedError


class MockOtlpServer(Receiver):
    """`@elastic/mockotlpserver`: decodes with protobufjs and says what it got on stdout."""

    knows_event_names = False

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._process = subprocess.Popen(
            ["node", str(SERVERS / "mockotlp.js"), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        kind, listening = self._requests.get(timeout=_PATIENCE_S)
        assert kind == "listening", f"the receiver did not start: {listening}"
        self.http, self.grpc = listening["http"].rstrip("/"), listening["grpc"].rstrip("/")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self._requests.put((said["kind"], said["value"]))
        self._requests.put(("ended", {}))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        _end(self._process)
        self._thread.join(_PATIENCE_S)
        self._process.stdout.close()


class OpenTelemetryCollector(Receiver):
    """The OpenTelemetry Collector. It decodes what it gets and hands it on as OTLP JSON, to a
    small HTTP server here: that is the interface through which its users read it back."""

    def __init__(self, binary: Path, folder: Path) -> None:
        super().__init__()
        self._server = _JsonServer(self._requests)
        config = folder / "config.yaml"
        config.write_text(
            (SERVERS / "collector.yaml").read_text().replace("@FORWARD@", self._server.url)
        )
        self._process = subprocess.Popen(
            [str(binary), "--config", str(config)], stderr=subprocess.PIPE, text=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        found = dict(self._endpoints())
        self.http, self.grpc = f"http://{found['HTTP']}", f"http://{found['GRPC']}"

    def _endpoints(self) -> Iterator[tuple[str, str]]:
        said = ""
        while "Everything is ready" not in said:
            try:
                said = self._lines.get(timeout=_PATIENCE_S)
            except queue.Empty:
                raise AssertionError("the Collector did not say that it is ready") from None
            assert said != "ended", "the Collector ended at once"
            found = re.search(r'Starting (GRPC|HTTP) server.*"endpoint": "([^"]+)"', said)
            if found:
                yield found[1], found[2]

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.put(line)
        self._lines.put("ended")

    def close(self) -> None:
        self._process.terminate()
        _end(self._process)
        self._thread.join(_PATIENCE_S)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._server.close()


class _JsonServer:
    """Takes what the Collector hands on."""

    def __init__(self, requests: "queue.Queue[tuple[str, dict[str, Any]]]") -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                requests.put((self.path.rsplit("/", 1)[-1], json.loads(body)))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(_PATIENCE_S)
        self._server.server_close()


def _end(process: "subprocess.Popen[str]") -> None:
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def _items(request: dict[str, Any], *path: str) -> Iterator[dict[str, Any]]:
    """Spans or log records of a request, with their resource's attributes."""
    for group in request.get(path[0], ()):
        resource = _attributes(group.get("resource", {}).get("attributes", {}))
        for scope in group.get(path[1], ()):
            for item in scope.get(path[2], ()):
                yield {**_item(item), "resource": resource, "scope": scope["scope"]["name"]}


def _metrics(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Metrics of a request, with their resource's attributes and their points'."""
    for group in request.get("resourceMetrics", ()):
        resource = _attributes(group.get("resource", {}).get("attributes", {}))
        for scope in group.get("scopeMetrics", ()):
            for metric in scope.get("metrics", ()):
                (data,) = [
                    metric[kind]
                    for kind in ("sum", "gauge", "histogram", "exponentialHistogram")
                    if metric.get(kind)
                ]
                points = [
                    {**point, "attributes": _attributes(point.get("attributes", {}))}
                    for point in data["dataPoints"]
                ]
                yield {**metric, **data, "points": points, "resource": resource}


def _plain(value: Any) -> Any:
    """Numbers and bytes as their schema says in JSON; the mock server tells some by their parts."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"low", "high", "unsigned"}:
        low, high = value["low"] & 0xFFFFFFFF, value["high"]
        return (high & 0xFFFFFFFF if value["unsigned"] else high) << 32 | low
    if value.get("type") == "Buffer":
        return bytes(value["data"]).hex()
    return {key: _plain(one) for key, one in value.items()}


def _item(item: dict[str, Any]) -> dict[str, Any]:
    status = item.get("status", {})
    return {
        "name": item.get("name", ""),
        "event_name": item.get("eventName", ""),
        "trace_id": item.get("traceId") or "",
        "span_id": item.get("spanId") or "",
        "parent": item.get("parentSpanId") or "",
        "kind": _enum(item.get("kind", 0), _KINDS),
        "status": _enum(status.get("code", 0), _STATUSES),
        "reason": status.get("message", ""),
        "start_ns": int(item.get("startTimeUnixNano") or 0),
        "end_ns": int(item.get("endTimeUnixNano") or 0),
        "time_ns": int(item.get("timeUnixNano") or 0),
        "severity": int(_severity(item.get("severityNumber", 0))),
        "severity_text": item.get("severityText", ""),
        "body": _value(item["body"]) if isinstance(item.get("body"), dict) else item.get("body"),
        "attributes": _attributes(item.get("attributes", {})),
        "events": [
            {"name": event["name"], "attributes": _attributes(event.get("attributes", {}))}
            for event in item.get("events", ())
        ],
        "links": [
            (link.get("traceId"), link.get("spanId")) for link in item.get("links", ())
        ],
    }  # fmt: skip


def _enum(value: int | str, names: list[str]) -> str:
    return names[value].lower() if isinstance(value, int) else value.rsplit("_", 1)[-1].lower()


def _severity(value: int | str) -> int:
    if isinstance(value, int):
        return value
    names = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]
    return 1 + 4 * names.index(value.removeprefix("SEVERITY_NUMBER_"))


def _attributes(attributes: Any) -> dict[str, Any]:
    """Attributes by key; the mock server has made plain values of them, but integers text."""
    if isinstance(attributes, dict):
        return attributes
    return {one["key"]: _value(one.get("value", {})) for one in attributes}


def _value(value: dict[str, Any]) -> Any:
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return [_value(one) for one in value["arrayValue"].get("values", ())]
    return next(iter(value.values()), None)
