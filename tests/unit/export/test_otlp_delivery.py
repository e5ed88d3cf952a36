"""Delivery over the wire to real servers of this process: nothing is lost that need not be, nothing
is sent twice that need not be, and what became of everything is told."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kobs import Collector, Severity, collector as collectors, open_recording, span_operation
from kobs.context import cause
from kobs.export.otlp import ExportReport, OtlpExporter, RecordingExporter, export_recording
from kobs.export.otlp_feeds import RecordingFeed, RecordingSources
from kobs.export.otlp_marks import Marks
from kobs.export.otlp_send import A_FEW, BATCH
from kobs.payloads import ResourceExhausted
from kobs.session import Session
from kobs.tracing import set_slow_thresholds
from tests.otlp_receivers import HttpReceiver, Receiver, Reply


@pytest.fixture(scope="module")
def http_receiver() -> Iterator[HttpReceiver]:
    made = HttpReceiver()
    yield made
    made.close()


@pytest.fixture
def receiver(
    http_receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HttpReceiver]:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    http_receiver.forget()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", http_receiver.url)
    before = set_slow_thresholds(syscall_ms=1e9, operation_ms=1e9)  # however busy the machine is
    yield http_receiver
    set_slow_thresholds(syscall_ms=before[0], operation_ms=before[1])


@pytest.fixture(params=["python", pytest.param("c", marks=pytest.mark.c_core)])
def collector(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Collector]:
    monkeypatch.setenv("KOBS_CORE", request.param)
    token = cause.set(None)
    with Collector(size=8192, sampling=100) as made:
        monkeypatch.setattr(collectors, "_global", made)
        yield made
    cause.reset(token)


def make_spans(collector: Collector, number: int, name: str = "load") -> None:
    for _ in range(number):
        with span_operation(name, collector=collector):
            pass


def names(receiver: Receiver) -> Counter[str]:
    return Counter(span.name for span in receiver.spans)


class TestTheReceiver:
    def test_takes_spans_and_log_records(self, collector: Collector, receiver: Receiver) -> None:
        with span_operation("load") as span:
            span.record("k", "v")
            collector.emit(ResourceExhausted("files", 3))
        with OtlpExporter() as exporter:
            assert exporter.export_pending() == ExportReport(spans=1, logs=1)
        (got,), (log,) = receiver.spans, receiver.log_records
        assert got.trace_id.hex() == log.trace_id.hex() == span.trace_id
        assert got.span_id.hex() == log.span_id.hex() == span.span_id
        assert {pair.key: pair.value.string_value for pair in got.attributes}["k"] == "v"
        assert log.event_name == "kobs.resource_exhausted"
        (group,) = receiver.got[0].message.resource_spans
        resource = {pair.key: pair.value for pair in group.resource.attributes}
        assert resource["process.pid"].int_value == os.getpid()
        assert resource["telemetry.sdk.name"].string_value == "kobs"
        assert group.scope_spans[0].scope.name == "kobs"

    def test_is_away_and_comes_back(
        self, collector: Collector, receiver: Receiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        receiver.always = Reply(503)
        exporter = OtlpExporter(collector, logs=False)
        make_spans(collector, 2000)
        with caplog.at_level(logging.WARNING, "kobs"):
            for _ in range(5):
                report = exporter.export_pending()
                assert report.spans == report.failed == report.lost == 0
                assert BATCH <= report.pending < BATCH + A_FEW  # the rest stays in the ring
        assert len(receiver.got) == 1, "the receiver is left alone until it is time"
        (told,) = caplog.messages
        assert "HTTP 503" in told
        receiver.always = None
        assert exporter.flush()
        assert exporter.shutdown() == ExportReport(spans=2000)
        receiver.got.pop(0)
        assert len({span.span_id for span in receiver.spans}) == len(receiver.spans) == 2000

    def test_takes_batches_of_one_size_whatever_order_spans_end_in(
        self, collector: Collector, receiver: Receiver
    ) -> None:
        with ExitStack() as spans:
            for _ in range(1500):
                spans.enter_context(span_operation("nested", collector=collector))
        with OtlpExporter(collector, logs=False) as exporter:
            assert exporter.export_pending().spans == 1500
        sizes = [len(spans_of(got)) for got in receiver.got]
        assert sum(sizes) == 1500
        assert max(sizes) < BATCH + A_FEW

    def test_is_away_for_so_long_that_the_ring_overwrites(
        self, receiver: Receiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        receiver.always = Reply(503)
        with Collector(size=64) as small:
            exporter = OtlpExporter(small, logs=False)
            make_spans(small, 5)
            exporter.export_pending()
            make_spans(small, 100)
            receiver.always = None
            with caplog.at_level(logging.WARNING, "kobs"):
                assert exporter.flush()
                total = exporter.shutdown()
        assert total.lost == 2 * 100 - 64
        assert total.spans == 5 + 32
        assert [line for line in caplog.messages if "were overwritten" in line]

    def test_refuses(
        self, collector: Collector, receiver: Receiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        receiver.replies += [Reply(400), Reply(400)]
        with OtlpExporter(collector, logs=False) as exporter, caplog.at_level(logging.WARNING):
            for number, expected in [(3, (0, 3)), (2, (0, 2)), (4, (4, 0))]:
                make_spans(collector, number)
                report = exporter.export_pending()
                assert (report.spans, report.failed) == expected
            assert exporter.total == ExportReport(spans=4, failed=5)
        (told,) = caplog.messages
        assert "3 spans were refused" in told
        assert "HTTP 400" in told

    def test_takes_a_part(self, collector: Collector, receiver: Receiver) -> None:
        rejected = ExportTracePartialSuccess(rejected_spans=2, error_message="too old")
        body = ExportTraceServiceResponse(partial_success=rejected).SerializeToString()
        receiver.replies.append(Reply(200, {}, body))
        make_spans(collector, 5)
        with OtlpExporter(collector, logs=False) as exporter:
            assert exporter.export_pending() == ExportReport(spans=3, failed=2)

    def test_one_signal_is_not_held_up_by_the_other(
        self, collector: Collector, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = HttpReceiver()
        gone.close()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"{gone.url}/v1/logs")
        exporter = OtlpExporter(collector)
        for _ in range(3):
            make_spans(collector, 700)
            collector.emit(ResourceExhausted("files", 3))
            exporter.export_pending()
        assert exporter.total.spans == 2100
        assert exporter.total.pending >= 1
        assert not exporter.flush(timeout=0)
        # An anomaly of a duration may be among them.
        logs = [event for event in collector.snapshot() if event.severity >= Severity.INFO]
        assert len(logs) >= 3
        assert exporter.shutdown(timeout=0).failed == len(logs)


class TestTheEnd:
    def test_a_wait_that_the_receiver_asked_for_is_not_cut_short(
        self, collector: Collector, receiver: Receiver
    ) -> None:
        receiver.always = Reply(429, {"Retry-After": "3600"})
        exporter = OtlpExporter(collector, logs=False)
        make_spans(collector, 1)
        exporter.export_pending()
        assert exporter.flush(timeout=0.01) is False
        assert exporter.shutdown(timeout=0.01) == ExportReport(failed=1)
        assert len(receiver.got) == 1

    def test_a_wait_of_its_own_is(self, collector: Collector, receiver: Receiver) -> None:
        receiver.replies.append(Reply(503))
        exporter = OtlpExporter(collector, logs=False)
        make_spans(collector, 1)
        exporter.export_pending()
        assert exporter.shutdown(timeout=0.01) == ExportReport(spans=1)

    def test_forked_children_have_exporters_of_their_own(self, receiver: Receiver) -> None:
        program = """
            import multiprocessing, os, time
            from kobs import Collector, init_collector, span_operation
            from kobs.export.otlp import OtlpExporter

            init_collector(Collector(size=64))
            exporter = OtlpExporter(logs=False)
            exporter.start(interval_s=60)

            def child():
                with span_operation("of multiprocessing"):
                    pass

            with span_operation("parent's"):
                process = multiprocessing.get_context("fork").Process(target=child)
                process.start()
                process.join()
            pid = os.fork()
            if not pid:
                with span_operation("of fork"):
                    pass
                exporter.shutdown()
                os._exit(0)
            os.waitpid(pid, 0)
        """
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
            check=True, timeout=60,
        )  # fmt: skip
        assert names(receiver) == Counter({"of multiprocessing": 1, "of fork": 1, "parent's": 1})
        pids = {
            pair.value.int_value
            for got in receiver.got
            for group in got.message.resource_spans
            for pair in group.resource.attributes
            if pair.key == "process.pid"
        }
        assert len(pids) == 3


class TestMarks:
    def recorded(self, path: Path) -> None:
        with Collector(size=1024, path=path) as live:
            make_spans(live, 3, "before")
            with OtlpExporter(live) as exporter:
                assert exporter.export_pending().spans == 3
            make_spans(live, 2, "after")
            live.emit(ResourceExhausted("files", 3))

    def test_what_the_program_exported_is_not_sent_again(
        self, receiver: Receiver, tmp_path: Path
    ) -> None:
        self.recorded(tmp_path / "a.kobs")
        with open_recording(tmp_path / "a.kobs") as recording:
            assert export_recording(recording) == ExportReport(spans=2, logs=1)
            assert export_recording(recording) == ExportReport()
        assert names(receiver) == Counter(before=3, after=2)

    def test_unless_it_is_asked_for(self, receiver: Receiver, tmp_path: Path) -> None:
        self.recorded(tmp_path / "a.kobs")
        with open_recording(tmp_path / "a.kobs") as recording:
            assert export_recording(recording, again=True) == ExportReport(spans=5, logs=1)

    def test_a_span_whose_begin_was_read_before_is_whole(
        self, receiver: Receiver, tmp_path: Path
    ) -> None:
        with (
            Collector(size=64, path=tmp_path / "a.kobs") as live,
            span_operation("outer", collector=live) as outer,
        ):
            outer.record("k", 1)
            make_spans(live, 1)
            with OtlpExporter(live) as exporter:
                exporter.export_pending()
        with open_recording(tmp_path / "a.kobs") as recording:
            assert export_recording(recording) == ExportReport(spans=1)
        assert names(receiver) == Counter(load=1, outer=1)
        sent = receiver.spans[-1]
        assert "kobs.begin.lost" not in {pair.key for pair in sent.attributes}

    def test_what_the_receiver_did_not_take_is_sent_later(
        self, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Collector(size=8192, path=tmp_path / "a.kobs") as live:
            make_spans(live, 1200)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.01")
        receiver.replies += [Reply(200), Reply(503), Reply(503)]
        with open_recording(tmp_path / "a.kobs") as recording:
            first = export_recording(recording, logs=False)
            assert first.spans + first.failed == 1200
            assert first.failed >= 1200 - 2 * BATCH
            receiver.forget()
            monkeypatch.delenv("OTEL_EXPORTER_OTLP_TIMEOUT")  # now it is there, however slow
            assert export_recording(recording, logs=False) == ExportReport(spans=first.failed)

    def test_never_go_back(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a.kobs")
        one, other = Marks(path), Marks(path)
        one.note("traces", [10, 2])
        other.note("traces", [4, 5])
        other.note("logs", [1, 1], open_sent=True)
        found = Marks(path)
        assert found.of("traces") == [10, 5]
        assert found.of("logs") == [1, 1]
        assert found.open_sent
        assert Path(found.path).stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("text", ["", "[1]", "{", '{"traces": 3}', '{"traces": ["a", "b"]}'])
    def test_that_are_damaged_say_nothing(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "a.exported").write_text(text)
        assert Marks(str(tmp_path / "a.kobs")).of("traces") == [0, 0]

    def test_that_cannot_be_written_are_told_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        marks = Marks(str(tmp_path / "nowhere" / "a.kobs"))
        with caplog.at_level(logging.WARNING):
            marks.note("traces", [1, 0])
            marks.note("traces", [2, 0])
        (told,) = caplog.messages
        assert "may be exported again" in told


KILLED = """
    import sys, time
    from kobs import Collector, init_collector, span_operation
    from kobs.export.otlp import OtlpExporter

    init_collector(Collector(size=65536, path=sys.argv[1]))
    OtlpExporter(logs=False).start(interval_s=0.01)
    with span_operation("open"):
        for number in range(20_000):
            with span_operation("done") as span:
                span.record("number", number)
            if number % 50 == 0:
                time.sleep(0.003)
        sys.stdin.read()
"""


class TestAProcessThatIsKilled:
    def test_in_the_middle_of_exporting(self, receiver: HttpReceiver, tmp_path: Path) -> None:
        path = tmp_path / "a.kobs"
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(path)], stdin=subprocess.PIPE
        )
        receiver.wait_for(requests=4)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        largest = max(len(spans_of(got)) for got in receiver.got)
        with open_recording(path) as recording:
            ended = {e.payload.attributes["number"] for e in recording.events()
                     if e.type_name == "SpanEnded"}  # fmt: skip
            report = export_recording(recording, logs=False)
            assert report.failed == 0
            # The kill may come between an event's ticket and its end, of the one thread that emits.
            assert report.lost <= 1
            assert export_recording(recording, logs=False) == ExportReport()
        done = [span for span in receiver.spans if span.name == "done"]
        in_flight = [span for span in done if span.status.code == 2]
        assert len({span.span_id for span in in_flight}) <= 1, "it was killed in the midst of one"
        sent = Counter(number_of(span) for span in done if span.status.code != 2)
        assert set(sent) == ended
        twice = sum(times - 1 for times in sent.values())
        assert twice <= largest, "more than what was in flight was sent twice"
        (unfinished,) = [span for span in receiver.spans if span.name == "open"]
        assert unfinished.status.code == 2
        assert unfinished.end_time_unix_nano >= max(span.end_time_unix_nano for span in done)
        assert "kobs.unfinished" in {pair.key for pair in unfinished.attributes}


def spans_of(got: Any) -> list[Any]:
    return [s for g in got.message.resource_spans for c in g.scope_spans for s in c.spans]


def number_of(span: Any) -> int:
    return int({pair.key: pair.value.int_value for pair in span.attributes}["number"])


def test_a_session_is_followed_while_it_is_written(receiver: Receiver, tmp_path: Path) -> None:
    session = Session.create("program", ["program"], root=tmp_path)
    first = Collector(size=256, session=session)
    with open_recording(session.path) as recording:
        exporter = RecordingExporter(recording)
        make_spans(first, 1, "one")
        assert exporter.export().spans == 1
        second = Collector(size=256, session=session)
        make_spans(second, 1, "two")
        with span_operation("open", collector=second):
            assert exporter.export().spans in (0, 1)  # the very newest may wait for the next round
            first.close()
            assert exporter.finish() == ExportReport(spans=2)
        second.close()
        assert names(receiver) == Counter(one=1, two=1)
        with open_recording(session.path) as later:
            assert export_recording(later) == ExportReport(spans=1)


def test_what_another_process_exports_is_left_to_it_as_long_as_it_runs(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session.create("program", ["program"], root=tmp_path)
    session.begin_export()
    with Collector(size=256, session=session) as live, caplog.at_level(logging.INFO, "kobs"):
        exporter, closed = OtlpExporter(live), OtlpExporter(live)
        memory = InMemorySpanExporter()
        given = OtlpExporter(live, span_exporter=memory)
        make_spans(live, 1, "one")
        for _ in range(2):
            assert exporter.export_pending() == ExportReport()
        assert exporter.flush()
        assert closed.shutdown() == ExportReport()
        assert given.export_pending().spans == 1, "an exporter that was given gets everything"
        assert not receiver.got
        with open_recording(session.path) as recording:
            assert RecordingExporter(recording).export().spans == 1
        make_spans(live, 1, "two")
        killed = subprocess.run(
            [sys.executable, "-c", "import os, sys; from kobs.session import Session;"
             "Session.open(sys.argv[1]).begin_export(); os._exit(0)", session.path],
            check=True, timeout=60,
        )  # fmt: skip
        assert killed.returncode == 0
        assert exporter.export_pending() == ExportReport(spans=1)
    assert names(receiver) == Counter(one=1, two=1)
    left = "OTLP export: left to the process that exports the whole session"
    assert caplog.messages.count(left) == 3, "each exporter says so once"


def test_recordings_of_a_session_are_merged_by_time_in_bounded_memory(tmp_path: Path) -> None:
    session = Session.create("program", ["program"], root=tmp_path)
    early, late = Collector(size=32768, session=session), Collector(size=32768, session=session)
    make_spans(early, 12_000)
    make_spans(late, 12_000)
    make_spans(early, 10)
    early.close()
    late.close()
    with open_recording(session.path) as recording:
        feed = RecordingFeed(RecordingSources(recording), None)
        last = number = most = 0
        while runs := feed.read(all_of_it=True):
            for run in runs:
                for slot in run.slots:
                    time_ns = int.from_bytes(slot.data[8:16], sys.byteorder)
                    assert time_ns >= last
                    last = time_ns
                    number += 1
            most = max(most, len(feed._held))
        assert number == recording.produced()
        assert most < 12_000
