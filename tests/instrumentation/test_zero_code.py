"""`opentelemetry-instrument` with kobs: real processes, and what an OTLP receiver is sent."""

import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import kobs
from kobs.session import Session
from kobs_instrumentation import zero_code

COMMAND = Path(sys.executable).with_name("opentelemetry-instrument")

PROGRAM = """
    import os, queue, sys
    from opentelemetry import trace
    import kobs

    collector = kobs.global_collector()
    tracer = trace.get_tracer("program")
    with tracer.start_as_current_span("page"):
        with kobs.span_operation("render"):
            open("made", "w").close()
            items = queue.Queue()
            items.put("item")
            items.get()
    print(collector is not None, "opentelemetry.sdk" in sys.modules)
    """


class Received:
    """An OTLP/HTTP receiver in this process, and what it was sent."""

    def __init__(self) -> None:
        self.spans: dict[str, Any] = {}
        self.logs: list[Any] = []
        self.metrics: set[tuple[str, str]] = set()
        """(scope, name)"""
        self.services: set[str] = set()
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self._resource(resource.resource)
                for scope in resource.scope_spans:
                    self.spans |= {span.name: span for span in scope.spans}
        elif path == "/v1/logs":
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                self._resource(resource.resource)
                self.logs += [
                    record for scope in resource.scope_logs for record in scope.log_records
                ]

        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self._resource(resource.resource)
                for scope in resource.scope_metrics:
                    self.metrics |= {(scope.scope.name, each.name) for each in scope.metrics}

    def _resource(self, resource: Any) -> None:
        self.services |= {a.value.string_value for a in resource.attributes
                          if a.key == "service.name"}  # fmt: skip

    def named(self, event_name: str) -> list[Any]:
        return [record for record in self.logs if record.event_name == event_name]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_METRICS_EXPORTER": "none",
            "OTEL_SERVICE_NAME": "shop",
        }  # fmt: skip


@pytest.fixture
def receiver() -> Iterator[Received]:
    received = Received()
    yield received
    received.server.shutdown()
    received.thread.join()
    received.server.server_close()


def run(runner: Any, source: str, env: Mapping[str, str], *options: str) -> Any:
    """`opentelemetry-instrument --traces_exporter otlp python program.py`"""
    script = runner.write(source)
    options = options or ("--traces_exporter", "otlp")
    return runner.bare(str(COMMAND), *options, sys.executable, str(script), env=env)


def test_enabled_it_exports_what_the_program_does_in_one_trace(
    runner: Any, receiver: Received
) -> None:
    env = {**receiver.environment, "KOBS_ENABLE": "1", "OTEL_METRICS_EXPORTER": "otlp"}
    ran = run(runner, PROGRAM, env)
    assert (ran.code, ran.out) == (0, "True True\n"), ran.err
    assert [name for scope, name in receiver.metrics if scope == "kobs"]
    page, render = receiver.spans["page"], receiver.spans["render"]
    assert render.trace_id == page.trace_id
    assert render.parent_span_id == page.span_id
    made = [
        record for record in receiver.named("kobs.file_changed")
        if any(a.value.string_value.endswith("made") for a in record.attributes)
    ]  # fmt: skip
    assert {(record.trace_id, record.span_id) for record in made} == {
        (page.trace_id, render.span_id)
    }
    assert receiver.services == {"shop"}


def test_not_enabled_kobs_s_instrumentors_do_nothing(runner: Any, receiver: Received) -> None:
    ran = run(
        runner,
        """
        import os, queue, kobs
        from kobs_instrumentation.queue import QueueInstrumentor
        from kobs_instrumentation.vfs import VfsInstrumentor
        put, opens = queue.Queue.put, open
        print(kobs.global_collector(), VfsInstrumentor().is_instrumented_by_opentelemetry)
        with kobs.Collector(size=64) as collector:
            QueueInstrumentor().instrument(collector=collector, skip_dep_check=True)
            queue.Queue().put(1)
            print([event.type_name for event in collector.snapshot()])
            QueueInstrumentor().uninstrument()
        """,
        receiver.environment,
    )
    assert (ran.code, ran.out) == (0, "None False\n['MessageSent']\n"), ran.err
    assert (receiver.spans, receiver.logs, receiver.metrics) == ({}, [], set())


def test_instrumentations_that_are_disabled_and_signals_that_go_elsewhere(
    runner: Any, receiver: Received, tmp_path: Path
) -> None:
    """Into a session, as `KOBS_SESSION` says."""
    session = Session.create("zero", ["zero"], root=tmp_path)
    ran = run(
        runner,
        PROGRAM,
        {
            **receiver.environment, "KOBS_ENABLE": "true", "KOBS_SESSION": str(session.path),
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "kobs_vfs, kobs_process",
        },
        "--traces_exporter", "none", "--logs_exporter", "otlp",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert receiver.spans == {}
    assert {record.event_name for record in receiver.logs} & {"kobs.file_changed"} == set()
    with kobs.open_recording(session.path) as recording:
        told = {event.type_name for event in recording.events()}
    assert {"SpanBegan", "MessageSent", "MessageReceived"} <= told
    assert "FileChanged" not in told


def test_a_bad_value_is_told_and_means_no(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(zero_code, "_told", [])
    monkeypatch.setenv("KOBS_ENABLE", "maybe")
    assert not zero_code.may_instrument()
    assert not zero_code.may_instrument()
    (record,) = caplog.records
    assert "KOBS_ENABLE=maybe: expected 1 or 0" in record.message
    assert zero_code.exporter() is None


def test_a_forked_child_exports_too(runner: Any, receiver: Received) -> None:
    ran = run(
        runner,
        """
        import os, sys, warnings, kobs
        from kobs_instrumentation import zero_code
        warnings.simplefilter("ignore")
        child = os.fork()
        with kobs.span_operation("of the child" if child == 0 else "of the parent"):
            pass
        if child == 0:
            assert zero_code.exporter().flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """,
        {**receiver.environment, "KOBS_ENABLE": "1"},
    )
    assert ran.code == 0, ran.err
    assert {"of the child", "of the parent"} <= receiver.spans.keys()
