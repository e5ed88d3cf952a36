"""OTLP export, judged by the SDK objects it makes and by what it says became of them.

Real receivers judge the bytes: `tests/end_to_end`.
"""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from kobs import (
    Collector,
    Severity,
    collector as collectors,
    open_recording,
    span_grpc,
    span_operation,
    span_syscall,
)
from kobs.context import cause
from kobs.errors import ConfigError, MissingExtraError
from kobs.export.otlp import ExportReport, OtlpExporter, export_recording
from kobs.export.otlp_send import A_FEW, BATCH, ObjectOutbox
from kobs.payloads import (
    FileChanged,
    MemoryPressure,
    MessageReceived,
    MessageSent,
    MetricUpdate,
    ProcessTerminated,
    ResourceExhausted,
)
from kobs.tracing import set_slow_thresholds


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    token = cause.set(None)
    before = set_slow_thresholds(syscall_ms=1e9, operation_ms=1e9)
    with Collector(size=4096, sampling=100) as made:
        monkeypatch.setattr(collectors, "_global", made)
        yield made
    set_slow_thresholds(syscall_ms=before[0], operation_ms=before[1])
    cause.reset(token)


class Received:
    """What the exporters were given."""

    def __init__(self, collector: Collector | None = None, **options: Any) -> None:
        self.span_exporter = InMemorySpanExporter()
        self.log_exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self.exporters = {"span_exporter": self.span_exporter, "log_exporter": self.log_exporter}
        if collector is not None:
            self.exporter = OtlpExporter(collector, **self.exporters, **options)  # type: ignore[arg-type]

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.span_exporter.get_finished_spans()}

    @property
    def logs(self) -> list[ReadableLogRecord]:
        return list(self.log_exporter.get_finished_logs())


def ids(span: ReadableSpan) -> tuple[str, str]:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


class TestSpans:
    def test_ids_parents_times_and_attributes(self, collector: Collector) -> None:
        with span_operation("outer") as outer, span_operation("inner", kind="client") as inner:
            inner.record("rows", 3).record("ratio", 0.5).record("who", "é").record("flag", True)
        received = Received(collector)
        report = received.exporter.export_pending()
        assert report == ExportReport(spans=2)
        one, two = received.spans["outer"], received.spans["inner"]
        assert ids(one) == (outer.trace_id, outer.span_id)
        assert ids(two) == (inner.trace_id, inner.span_id)
        assert one.parent is None
        assert two.parent is not None
        assert f"{two.parent.span_id:016x}" == outer.span_id
        assert not two.parent.is_remote
        assert two.kind is trace.SpanKind.CLIENT
        attributes = dict(two.attributes or {})
        assert attributes.pop("thread.id")
        assert attributes == {"rows": 3, "ratio": 0.5, "who": "é", "flag": True}
        assert one.start_time is not None
        assert one.end_time is not None
        took_us = (one.end_time - one.start_time) / 1000
        assert took_us == pytest.approx(outer.duration_us)
        assert two.instrumentation_scope is not None
        assert two.instrumentation_scope.name == "kobs"

    def test_times_are_wall_times(self, collector: Collector) -> None:
        import time

        before = time.time_ns()
        with span_operation("load"):
            pass
        after = time.time_ns()
        received = Received(collector)
        received.exporter.export_pending()
        start = received.spans["load"].start_time
        assert start is not None
        assert before - 1_000_000 <= start <= after + 1_000_000

    @pytest.mark.newest_sdk  # keeps bytes
    def test_attributes_that_overflowed_are_joined(self, collector: Collector) -> None:
        with span_operation("load") as span:
            span.record("first", 1).record("long", "x" * 3000).record("data", b"\x00\xff")
            span.record("big", 1 << 70).record("nothing", None)
        received = Received(collector)
        received.exporter.export_pending()
        attributes = received.spans["load"].attributes or {}
        assert attributes["long"] == "x" * 3000
        assert attributes["data"] == b"\x00\xff"
        assert attributes["first"] == 1
        assert attributes["big"] == str(1 << 70)
        assert attributes["nothing"] is None

    def test_an_exception_is_a_span_event(self, collector: Collector) -> None:
        with pytest.raises(KeyError), span_operation("load"):
            raise KeyError("gone")
        received = Received(collector)
        received.exporter.export_pending()
        span = received.spans["load"]
        assert span.status.status_code is trace.StatusCode.ERROR
        assert span.status.description == "'gone'"
        assert (span.attributes or {})["error.type"] == "KeyError"
        assert "exception.type" not in (span.attributes or {})
        (event,) = span.events
        assert event.name == "exception"
        assert (event.attributes or {})["exception.type"] == "KeyError"
        assert (event.attributes or {})["exception.message"] == "'gone'"
        assert "Traceback" in str((event.attributes or {})["exception.stacktrace"])

    def test_status(self, collector: Collector) -> None:
        with span_operation("good") as span:
            span.record_result(True)
        with span_operation("bad") as span:
            span.record_error("no such row")
        with span_operation("plain"):
            pass
        received = Received(collector)
        received.exporter.export_pending()
        spans = received.spans
        assert spans["good"].status.status_code is trace.StatusCode.OK
        assert spans["bad"].status.status_code is trace.StatusCode.ERROR
        assert spans["bad"].status.description == "no such row"
        assert spans["plain"].status.status_code is trace.StatusCode.UNSET

    def test_conventions_of_the_kind_of_span(self, collector: Collector) -> None:
        with span_grpc("pkg.Service/Method"), span_syscall("read", 4242):
            pass
        received = Received(collector)
        received.exporter.export_pending()
        call, read = received.spans["pkg.Service/Method"], received.spans["read"]
        assert call.kind is trace.SpanKind.SERVER
        assert (call.attributes or {})["rpc.system.name"] == "grpc"
        assert (call.attributes or {})["rpc.method"] == "pkg.Service/Method"
        assert (read.attributes or {})["kobs.syscall"] == "read"
        assert (read.attributes or {})["process.pid"] == 4242

    def test_links_that_were_added_and_links_of_messages(self, collector: Collector) -> None:
        sent, received_message = collector.emitter(MessageSent), collector.emitter(MessageReceived)
        with span_operation("sender") as sender:
            sent("queue", 5, link=77)
        with span_operation("receiver") as receiver:
            received_message("queue", 5, link=77)
            receiver.add_link("00-" + "ab" * 16 + "-" + "cd" * 8 + "-01", why="asked")
        received = Received(collector)
        received.exporter.export_pending()
        by_message, added = received.spans["receiver"].links
        assert f"{by_message.context.trace_id:032x}" == sender.trace_id
        assert f"{by_message.context.span_id:016x}" == sender.span_id
        assert f"{added.context.trace_id:032x}" == "ab" * 16
        assert dict(added.attributes or {}) == {"why": "asked"}
        assert received.spans["sender"].links == ()

    def test_a_child_of_an_sdk_span_keeps_the_whole_trace_id(self, collector: Collector) -> None:
        tracer = TracerProvider().get_tracer("test")
        with tracer.start_as_current_span("sdk") as sdk, span_operation("load"):
            collector.emit(ResourceExhausted("files", 3))
        received = Received(collector)
        received.exporter.export_pending()
        context, span = sdk.get_span_context(), received.spans["load"]
        assert span.parent is not None
        assert span.parent.span_id == context.span_id
        assert ids(span)[0] == f"{context.trace_id:032x}"
        assert received.logs[0].log_record.trace_id == context.trace_id

    def test_what_another_tracer_left_out_is_not_exported(self, collector: Collector) -> None:
        tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")
        with tracer.start_as_current_span("sdk"), span_operation("load"):
            collector.emit(ResourceExhausted("files", 3))
        received = Received(collector)
        report = received.exporter.export_pending()
        assert report == ExportReport(unsampled=2)

    def test_a_span_that_ended_after_its_begin_was_lost(self) -> None:
        token = cause.set(None)
        with Collector(size=16) as small:
            with span_operation("load", collector=small) as span:
                span.record("k", 1)
                for number in range(40):
                    small.emit(MetricUpdate("noise", number))
            received = Received(small)
            report = received.exporter.export_pending()
        cause.reset(token)
        assert report.spans == 1
        exported = received.spans["load"]
        assert ids(exported) == (span.trace_id, span.span_id)
        assert (exported.attributes or {})["kobs.begin.lost"] is True
        assert (exported.attributes or {})["k"] == 1
        assert exported.start_time is not None
        assert exported.end_time is not None
        assert (exported.end_time - exported.start_time) / 1000 == pytest.approx(span.duration_us)

    def test_open_spans_wait_for_their_end(self, collector: Collector) -> None:
        received = Received(collector)
        with span_operation("load"):
            assert received.exporter.export_pending() == ExportReport()
        assert received.exporter.export_pending() == ExportReport(spans=1)


class TestLogs:
    def test_an_event_is_a_log_record(self, collector: Collector) -> None:
        with span_operation("load") as span:
            event = collector.emit(ProcessTerminated(-9), pid=4242)
        received = Received(collector)
        assert received.exporter.export_pending().logs == 1
        (log,) = received.logs
        record = log.log_record
        assert record.event_name == "kobs.process_terminated"
        assert f"{record.trace_id:032x}" == span.trace_id
        assert f"{record.span_id:016x}" == span.span_id
        assert record.severity_text == "INFO"
        assert record.severity_number is not None
        assert record.severity_number.value == 9
        assert record.body == "ProcessTerminated(exit_code=-9)"
        attributes = dict(record.attributes or {})
        assert attributes["process.exit.code"] == -9
        assert attributes["process.pid"] == 4242
        assert attributes["kobs.event.id"] == f"{event:016x}"
        assert attributes["kobs.type"] == "ProcessTerminated"
        assert attributes["kobs.category"] == "PROCESS"
        assert "kobs.event.parent" in attributes
        assert record.timestamp == record.observed_timestamp

    @pytest.mark.parametrize(
        ("severity", "number"), [("INFO", 9), ("WARN", 13), ("ERROR", 17), ("CRITICAL", 21)]
    )
    def test_severities(self, collector: Collector, severity: str, number: int) -> None:
        collector.emit(MemoryPressure(1, 2), severity=Severity[severity])
        received = Received(collector)
        received.exporter.export_pending()
        found = received.logs[0].log_record.severity_number
        assert found is not None
        assert found.value == number

    def test_from_info_up_unless_told_otherwise(self, collector: Collector) -> None:
        collector.emit(MetricUpdate("depth", 1.0))
        received = Received(collector)
        assert received.exporter.export_pending().logs == 0
        received = Received(collector, severity=Severity.TRACE)
        assert received.exporter.export_pending().logs == 1
        assert (received.logs[0].log_record.attributes or {})["kobs.value"] == 1.0

    def test_outside_of_any_chain_there_is_no_trace(self, collector: Collector) -> None:
        tracer = TracerProvider().get_tracer("test")
        collector.emit(ResourceExhausted("files", 3))
        received = Received(collector)
        with tracer.start_as_current_span("the exporting code's own"):
            received.exporter.export_pending()
        record = received.logs[0].log_record
        assert not record.trace_id
        assert not record.span_id

    def test_what_no_encoder_takes_is_made_fit(self, collector: Collector) -> None:
        collector.emit(ResourceExhausted("files", (1 << 64) - 1))
        collector.emit(FileChanged("/tmp/\udcff", "written"))
        received = Received(collector)
        received.exporter.export_pending()
        big, path = (dict(log.log_record.attributes or {}) for log in received.logs)
        assert big["kobs.limit"] == str((1 << 64) - 1)
        assert path["file.path"] == "/tmp/\\udcff"

    def test_spans_or_logs_alone(self, collector: Collector) -> None:
        with span_operation("load"):
            collector.emit(ResourceExhausted("files", 3))
        assert Received(collector, logs=False).exporter.export_pending() == ExportReport(spans=1)
        assert Received(collector, spans=False).exporter.export_pending() == ExportReport(logs=1)


class Moody(SpanExporter):
    """An exporter of a receiver that is away, or that refuses some spans."""

    def __init__(self) -> None:
        self.away = True
        self.refused = ""
        self.taken: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        names = [span.name for span in spans]
        if self.away or self.refused in names:
            return SpanExportResult.FAILURE
        self.taken += names
        return SpanExportResult.SUCCESS


def make_spans(collector: Collector, count: int, name: str = "load") -> None:
    for _ in range(count):
        with span_operation(name, collector=collector):
            pass


class TestAReceiverThatIsAway:
    def exporter(self, collector: Collector) -> tuple[OtlpExporter, Moody]:
        moody = Moody()
        return OtlpExporter(collector, logs=False, span_exporter=moody), moody

    def test_nothing_is_lost_that_the_ring_still_holds(self, collector: Collector) -> None:
        exporter, moody = self.exporter(collector)
        make_spans(collector, BATCH)
        collector.emit(FileChanged("/tmp/a", "written"))  # the slots of a batch are not all spans'
        make_spans(collector, 1500 - BATCH)
        for _ in range(4):
            # One that is refused, for it may be at fault itself, and one that is tried meanwhile.
            assert exporter.export_pending().pending < 2 * (BATCH + A_FEW)
        moody.away = False
        assert exporter.flush()
        assert len(moody.taken) == 1500
        assert exporter.total == ExportReport(spans=1500)

    def test_flush_gives_up_in_time(self, collector: Collector) -> None:
        exporter, _ = self.exporter(collector)
        make_spans(collector, 1)
        assert exporter.flush(timeout=0) is False

    def test_what_could_not_be_sent_is_told_at_shutdown(self, collector: Collector) -> None:
        exporter, _ = self.exporter(collector)
        make_spans(collector, 3)
        assert exporter.shutdown(timeout=0) == ExportReport(failed=3)
        assert exporter.shutdown() == ExportReport(failed=3)
        assert exporter.export_pending() == ExportReport()

    def test_one_batch_that_is_refused_holds_up_no_other(self, collector: Collector) -> None:
        exporter, moody = self.exporter(collector)
        moody.away, moody.refused = False, "poison"
        make_spans(collector, 1, "poison")
        exporter.export_pending()
        failed = 0
        for _ in range(5):
            make_spans(collector, 2)
            failed += exporter.export_pending().failed
        assert exporter.flush()
        assert failed == 1
        assert len(moody.taken) == 10

    def test_events_overwritten_in_the_meantime_are_told(self) -> None:
        with Collector(size=64) as small:
            exporter, moody = self.exporter(small)
            make_spans(small, 1)
            exporter.export_pending()
            make_spans(small, 100)
            moody.away = False
            report = exporter.export_pending()
        assert report.lost >= 136
        assert report.spans < 101

    def test_an_exporter_that_raises_is_a_failure(self, collector: Collector) -> None:
        class Raising(Moody):
            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                raise OSError("no route")

        exporter = OtlpExporter(collector, logs=False, span_exporter=Raising())
        make_spans(collector, 1)
        assert exporter.export_pending().pending == 1


class TestLife:
    def test_a_thread_exports_until_shutdown(self, collector: Collector) -> None:
        received = Received(collector)
        received.exporter.start(interval_s=0.001)
        make_spans(collector, 5)
        received.exporter.shutdown()
        assert received.exporter.total.spans == 5

    def test_at_exit_what_is_left_is_sent(self) -> None:
        code = """
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter
            from kobs import Collector, init_collector, span_operation
            from kobs.export.otlp import OtlpExporter

            init_collector(Collector(size=64))
            OtlpExporter(logs=False, span_exporter=ConsoleSpanExporter()).start(interval_s=60)
            with span_operation("last words"):
                pass
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert '"name": "last words"' in done.stdout

    def test_a_forked_child_sends_nothing_of_its_parents(self, tmp_path: Path) -> None:
        code = """
            import os, sys
            from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
            from kobs import Collector, init_collector, span_operation
            from kobs.export.otlp import OtlpExporter

            class Names(SpanExporter):
                def export(self, spans):
                    os.write(1, "".join(f"{os.getpid()} {s.name}\\n" for s in spans).encode())
                    return SpanExportResult.SUCCESS

            init_collector(Collector(size=64))
            exporter = OtlpExporter(logs=False, span_exporter=Names())
            with span_operation("parent's"):
                pass
            pid = os.fork()
            if not pid:
                with span_operation("child's"):
                    pass
            else:
                os.waitpid(pid, 0)
                os.write(1, f"{pid} is the child\\n".encode())
            exporter.shutdown()
            os._exit(0)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
        (child,) = [pid for pid, said in lines if said == "is the child"]
        spans = {said: pid for pid, said in lines if said != "is the child"}
        assert set(spans) == {"parent's", "child's"}
        assert spans["child's"] == child != spans["parent's"]

    def test_no_provider_is_touched(self, collector: Collector) -> None:
        before = trace.get_tracer_provider()
        received = Received(collector)
        make_spans(collector, 1)
        received.exporter.shutdown()
        assert trace.get_tracer_provider() is before

    def test_what_the_export_sets_off_is_not_exported(self, collector: Collector) -> None:
        class Chatty(Moody):
            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                with span_operation("sending", collector=collector):
                    return super().export(spans)

        chatty = Chatty()
        chatty.away = False
        exporter = OtlpExporter(collector, logs=False, span_exporter=chatty)
        make_spans(collector, 1)
        exporter.export_pending()
        assert exporter.export_pending() == ExportReport()
        assert chatty.taken == ["load"]

    def test_the_sdk_switched_off_sends_nothing(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        make_spans(collector, 1)
        assert Received(collector).exporter.export_pending() == ExportReport()


class TestSettingUp:
    def test_without_a_collector_it_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(collectors, "_global", None)
        with pytest.raises(ConfigError, match="init_collector"):
            OtlpExporter()

    @pytest.mark.parametrize(
        "variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"]
    )
    def test_an_unknown_protocol_is_refused_by_name(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        monkeypatch.setenv(variable, "carrier-pigeon")
        with pytest.raises(ConfigError, match=f"{variable}=carrier-pigeon"):
            OtlpExporter(collector)

    @pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
    def test_a_missing_extra_is_named(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch, protocol: str
    ) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        for name in ("requests", "grpc"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match=r"kobs\[otlp\]"):
            OtlpExporter(collector)

    def test_the_resource_is_the_process(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        make_spans(collector, 1)
        received = Received(collector)
        received.exporter.export_pending()
        attributes = received.spans["load"].resource.attributes
        assert attributes["service.name"] == "shop"
        assert attributes["deployment.environment.name"] == "test"
        assert attributes["process.pid"] == os.getpid()


PROGRAM = """
    import os, sys, time
    from kobs import Collector, init_collector, span_operation
    from kobs.payloads import ResourceExhausted
    from kobs.tracing import set_slow_thresholds

    set_slow_thresholds(operation_ms=1e9)
    collector = init_collector(Collector(size=256, path=sys.argv[1]))
    with span_operation("done") as span:
        span.record("k", 1)
    print(span.trace_id, span.span_id)
    with span_operation("outer") as outer, span_operation("inner") as inner:
        collector.emit(ResourceExhausted("files", 3))
        print(outer.trace_id, outer.span_id)
        print(inner.trace_id, inner.span_id, flush=True)
        sys.stdin.read()
"""


class TestRecordings:
    def run_program(self, path: Path, *, kill: bool) -> list[list[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        said = [process.stdout.readline().split() for _ in range(3)]
        if kill:
            process.send_signal(signal.SIGKILL)
        process.stdin.close()
        process.wait(60)
        process.stdout.close()
        return said

    def test_a_recording_is_exported_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "a.kobs"
        said = self.run_program(path, kill=False)
        received = Received()
        with open_recording(path) as recording:
            report = export_recording(recording, **received.exporters)  # type: ignore[arg-type]
            (process,) = recording.processes
        assert report == ExportReport(spans=3, logs=1)
        spans = received.spans
        assert [list(ids(spans[name])) for name in ("done", "outer", "inner")] == said
        assert spans["outer"].status.status_code is trace.StatusCode.UNSET
        assert spans["done"].resource.attributes["process.pid"] == process.pid
        start = spans["done"].start_time
        assert start is not None
        assert abs(start - process.started_wall_ns) < 60_000_000_000

    def test_spans_in_flight_when_the_process_was_killed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.kobs"
        said = self.run_program(path, kill=True)
        received = Received()
        with open_recording(path) as recording:
            report = export_recording(recording, **received.exporters)  # type: ignore[arg-type]
            (process,) = recording.processes
        assert process.state == "killed"
        assert report == ExportReport(spans=3, logs=1)
        spans = received.spans
        assert [list(ids(spans[name])) for name in ("done", "outer", "inner")] == said
        done, outer, inner = spans["done"], spans["outer"], spans["inner"]
        assert "kobs.unfinished" not in (done.attributes or {})
        for span in (outer, inner):
            assert span.status.status_code is trace.StatusCode.ERROR
            assert (span.attributes or {})["kobs.unfinished"] is True
            assert span.start_time is not None
            assert span.end_time is not None
            assert received.logs[0].log_record.timestamp is not None
            assert span.start_time < received.logs[0].log_record.timestamp <= span.end_time
        assert inner.parent is not None
        assert f"{inner.parent.span_id:016x}" == said[1][1]

    def test_spans_of_a_running_process_are_not_ended(self, tmp_path: Path) -> None:
        path = tmp_path / "a.kobs"
        received = Received()
        token = cause.set(None)
        with (
            Collector(size=64, path=path) as live,
            span_operation("open", collector=live),
            open_recording(path) as recording,
        ):
            report = export_recording(recording, **received.exporters)  # type: ignore[arg-type]
        cause.reset(token)
        assert report == ExportReport()

    def test_a_receiver_that_is_away_is_asked_once(self, tmp_path: Path) -> None:
        path = tmp_path / "a.kobs"
        with Collector(size=4096, path=path) as live:
            make_spans(live, 1200)
        moody = Moody()
        with open_recording(path) as recording:
            report = export_recording(recording, logs=False, span_exporter=moody)
        assert report == ExportReport(failed=1200)

    def test_overwritten_events_are_told(self, tmp_path: Path) -> None:
        path = tmp_path / "a.kobs"
        with Collector(size=64, path=path, keep=0) as live:
            make_spans(live, 100)
        received = Received()
        with open_recording(path) as recording:
            report = export_recording(recording, **received.exporters)  # type: ignore[arg-type]
        assert report.lost >= 136
        assert report.spans >= 32


def test_batches_are_of_512() -> None:
    taken: list[int] = []

    class Counting(Moody):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            taken.append(len(spans))
            return SpanExportResult.SUCCESS

    outbox = ObjectOutbox(Counting())
    for number in range(1300):
        outbox.add(number)
    outbox.seal({})
    assert outbox.send().taken == 1300
    assert taken == [512, 512, 276]
    assert outbox.waiting == 0
