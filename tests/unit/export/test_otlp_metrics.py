"""Metrics over OTLP: encoded as `opentelemetry-proto` reads it, sent to real receivers."""

import os
import signal
import threading
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from kobs._analysis.histogram import Histogram
from kobs.collector import Collector
from kobs.errors import ConfigError
from kobs.export.metric_points import BOUNDS_S, Metric, Metrics, Point, PointExemplar
from kobs.export.otlp_metrics import (
    MetricReport,
    OtlpMetricsExporter,
    RecordedMetricsExporter,
    export_recorded_metrics,
)
from kobs.export.otlp_metrics_encode import MOST_BUCKETS, encode
from kobs.levels import SyscallResult
from kobs.payloads import SyscallExit
from kobs.recording import open_recording
from kobs.session import Session
from kobs.tracing import span_operation
from tests.otlp_receivers import GrpcReceiver, HttpReceiver, Receiver, Reply

VALUES = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=300)
LATENCIES = st.lists(st.floats(1e-7, 1e3), min_size=1, max_size=300)
BOUNDS = (0.001, 0.5, 100.0)


def histogram(values: list[float]) -> Point:
    made = Histogram(BOUNDS)
    for value in values:
        made.observe(value)
    return Point((("kobs.syscall", "read"),), made.snapshot())


def read_back(*metrics: Metric, delta: bool = False, **options: Any) -> list[Any]:
    body = encode(
        Metrics(500, 1_000, 2_000, delta, list(metrics)), {"service.name": "shop"}, **options
    )
    request = ExportMetricsServiceRequest.FromString(body)
    ((scope,),) = [group.scope_metrics for group in request.resource_metrics]
    assert scope.scope.name == "kobs"
    return list(scope.metrics)


def attributes(message: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in message.attributes
    }


class TestEncoding:
    @pytest.mark.parametrize("delta", [False, True])
    def test_of_a_sum(self, delta: bool) -> None:
        point = Point((("a", "x"), ("b", 3), ("c", True), ("d", 0.5)), 7)
        (found,) = read_back(Metric("calls", "{call}", "Calls", "sum", [point]), delta=delta)
        assert (found.name, found.unit, found.description) == ("calls", "{call}", "Calls")
        assert found.WhichOneof("data") == "sum"
        assert found.sum.is_monotonic
        assert found.sum.aggregation_temporality == (1 if delta else 2)
        (number,) = found.sum.data_points
        assert (number.start_time_unix_nano, number.time_unix_nano) == (1_000, 2_000)
        assert (number.WhichOneof("value"), number.as_int) == ("as_int", 7)
        assert attributes(number) == {"a": "x", "b": 3, "c": True, "d": 0.5}

    def test_of_a_gauge_and_of_sums_that_are_known_as_they_are_now(self) -> None:
        gauge, updown, total = read_back(
            Metric("g", "", "", "gauge", [Point((), -1.5)]),
            Metric("u", "By", "", "updown", [Point((), -7)]),
            Metric("t", "", "", "total", [Point((), 7)]),
            delta=True,
        )
        assert gauge.gauge.data_points[0].as_double == -1.5
        assert (updown.sum.is_monotonic, total.sum.is_monotonic) == (False, True)
        for found, number in ((updown, -7), (total, 7)):
            assert found.sum.aggregation_temporality == 2
            (point,) = found.sum.data_points
            assert (point.as_int, point.start_time_unix_nano) == (number, 500)

    @pytest.mark.parametrize("number", [0, 1, -1, 127, 128, 1 << 31, (1 << 63) - 1])
    def test_of_whole_numbers(self, number: int) -> None:
        (found,) = read_back(Metric("n", "", "", "gauge", [Point((("n", number),), number)]))
        assert found.gauge.data_points[0].as_int == number
        assert attributes(found.gauge.data_points[0]) == {"n": number}

    def test_of_numbers_that_are_too_large_is_a_float(self) -> None:
        (found,) = read_back(Metric("n", "", "", "gauge", [Point((("n", 1 << 70),), 1 << 70)]))
        assert found.gauge.data_points[0].as_double == 2.0**70
        assert attributes(found.gauge.data_points[0]) == {"n": str(1 << 70)}

    def test_of_text_that_is_no_utf_8(self) -> None:
        (found,) = read_back(Metric("n", "", "", "gauge", [Point((("f", "a\udc80"),), 1)]))
        assert attributes(found.gauge.data_points[0]) == {"f": "a\\udc80"}

    @given(VALUES)
    def test_of_an_exponential_histogram(self, values: list[float]) -> None:
        given = histogram(values)
        (found,) = read_back(Metric("h", "s", "", "histogram", [given]))
        assert found.exponential_histogram.aggregation_temporality == 2
        (point,) = found.exponential_histogram.data_points
        assert point.count == len(values)
        assert point.zero_count == values.count(0.0)
        assert sum(point.positive.bucket_counts) == sum(value > 0 for value in values)
        assert sum(point.negative.bucket_counts) == sum(value < 0 for value in values)
        for buckets in (point.positive, point.negative):
            assert len(buckets.bucket_counts) <= MOST_BUCKETS
            if buckets.bucket_counts:
                assert buckets.bucket_counts[0]
                assert buckets.bucket_counts[-1]
        assert point.HasField("sum") == (not values or min(values) >= 0)
        if values:
            assert (point.min, point.max) == (min(values), max(values))
        else:
            assert not point.HasField("min")
            assert not point.HasField("max")

    @given(LATENCIES, st.floats(0, 1))
    def test_of_an_exponential_histogram_promises_its_error(
        self, values: list[float], q: float
    ) -> None:
        """As a receiver would take a quantile: the upper end of the bucket that holds the rank."""
        (found,) = read_back(Metric("h", "s", "", "histogram", [histogram(values)]))
        (point,) = found.exponential_histogram.data_points
        base = 2 ** (2.0**-point.scale)
        rank = int((len(values) - 1) * q)
        seen = index = 0
        for at, number in enumerate(point.positive.bucket_counts):
            seen += number
            index = point.positive.offset + at
            if rank < seen:
                break
        true = sorted(values)[rank]
        assert base**index * (1 - 1e-9) <= true <= base ** (index + 1) * (1 + 1e-9)
        assert point.sum == pytest.approx(sum(values))

    @given(VALUES)
    def test_of_an_explicit_histogram(self, values: list[float]) -> None:
        (found,) = read_back(
            Metric("h", "s", "", "histogram", [histogram(values)]), exponential=False
        )
        (point,) = found.histogram.data_points
        assert list(point.explicit_bounds) == list(BOUNDS)
        expected = [0] * 4
        for value in values:
            expected[bisect_left(BOUNDS, value)] += 1
        assert list(point.bucket_counts) == expected
        assert point.count == len(values)
        assert attributes(point) == {"kobs.syscall": "read"}

    @pytest.mark.parametrize("exponential", [True, False])
    def test_of_exemplars(self, exponential: bool) -> None:
        trace_id, span_id = int("ab" * 16, 16), int("0c" * 8, 16)
        exemplars = (
            PointExemplar(0.25, 1_500, trace_id, span_id), PointExemplar(0.5, 1_600, 0, 0),
        )  # fmt: skip
        given = histogram([0.25, 0.5])._replace(exemplars=exemplars)
        (found,) = read_back(Metric("h", "s", "", "histogram", [given]), exponential=exponential)
        data = found.exponential_histogram if exponential else found.histogram
        first, second = data.data_points[0].exemplars
        assert (first.as_double, first.time_unix_nano) == (0.25, 1_500)
        assert (first.trace_id.hex(), first.span_id.hex()) == ("ab" * 16, "0c" * 8)
        assert (second.as_double, second.trace_id, second.span_id) == (0.5, b"", b"")

    def test_of_several_processes_is_one_request(self) -> None:
        made = Metrics(1, 1, 2, False, [Metric("g", "", "", "gauge", [Point((), 1)])])
        about = {"process.pid": 7, "process.command_args": ("a", "b"), "x": b"\x00"}
        body = encode(made, {"process.pid": 6}) + encode(made, about)
        request = ExportMetricsServiceRequest.FromString(body)
        first, second = [group.resource for group in request.resource_metrics]
        assert attributes(first) == {"process.pid": 6}
        found = attributes(second)
        assert [one.string_value for one in found["process.command_args"].values] == ["a", "b"]
        assert found["x"] == b"\x00"


@pytest.fixture(scope="module")
def receivers() -> Iterator[dict[str, Receiver]]:
    made: dict[str, Receiver] = {"http/protobuf": HttpReceiver(), "grpc": GrpcReceiver()}
    yield made
    for receiver in made.values():
        receiver.close()


@pytest.fixture(params=["http/protobuf", "grpc"])
def both(
    request: pytest.FixtureRequest, receivers: dict[str, Receiver], monkeypatch: pytest.MonkeyPatch
) -> Receiver:
    return listening(receivers[request.param], request.param, monkeypatch)


@pytest.fixture
def http(receivers: dict[str, Receiver], monkeypatch: pytest.MonkeyPatch) -> Receiver:
    return listening(receivers["http/protobuf"], "http/protobuf", monkeypatch)


def listening(receiver: Receiver, protocol: str, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    receiver.forget()
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    return receiver


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector(size=1024) as made:
        yield made


def read(collector: Collector, duration_us: float = 10.0) -> None:
    collector.emit(SyscallExit("read", duration_us, SyscallResult.SUCCESS))


def metrics(receiver: Receiver, request: int = -1) -> dict[str, Any]:
    (group,) = receiver.got[request].message.resource_metrics
    (scope,) = group.scope_metrics
    return {metric.name: metric for metric in scope.metrics}


def calls(receiver: Receiver, request: int = -1) -> int:
    (point,) = metrics(receiver, request)["kobs.syscall.calls"].sum.data_points
    return int(point.as_int)


class TestExporter:
    def test_sends_what_there_is_each_time(self, both: Receiver, collector: Collector) -> None:
        exporter = OtlpMetricsExporter(collector)
        with span_operation("load", collector=collector) as span:
            read(collector)
        assert exporter.export().verdict == "taken"
        read(collector)
        assert exporter.flush()
        first, second = metrics(both, 0), metrics(both, 1)
        assert (calls(both, 0), calls(both, 1)) == (1, 2)
        (group,) = both.got[0].message.resource_metrics
        about = attributes(group.resource)
        assert (about["service.name"], about["process.pid"]) == ("shop", os.getpid())
        (before,) = first["kobs.syscall.duration"].exponential_histogram.data_points
        (after,) = second["kobs.syscall.duration"].exponential_histogram.data_points
        assert before.start_time_unix_nano == after.start_time_unix_nano < before.time_unix_nano
        assert after.count == 2
        assert [exemplar.trace_id.hex() for exemplar in before.exemplars] == [span.trace_id]
        report = exporter.shutdown()
        assert (report.failed, report.away, len(both.got)) == (0, 0, 3)
        sent = [point for got in both.got for point in points(got.message)]
        assert report.points == len(sent)
        assert exporter.shutdown() == report
        assert exporter.export().verdict == "refused"

    @pytest.mark.parametrize("preference", ["delta", "lowmemory", "DELTA"])
    def test_sends_what_is_new_where_that_is_preferred(
        self, http: Receiver, collector: Collector, monkeypatch: pytest.MonkeyPatch, preference: str
    ) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
        with OtlpMetricsExporter(collector) as exporter:
            for number in (2, 3):
                for _ in range(number):
                    read(collector)
                assert exporter.flush()
        assert (calls(http, 0), calls(http, 1)) == (2, 3)
        assert metrics(http, 0)["kobs.syscall.calls"].sum.aggregation_temporality == 1
        assert "kobs.syscall.calls" not in metrics(http, 2)

    def test_loses_nothing_while_the_receiver_is_away(
        self, http: Receiver, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
        with OtlpMetricsExporter(collector) as exporter:
            http.replies += [Reply(503, {"Retry-After": "0"}), Reply(429, {"Retry-After": "0"})]
            read(collector)
            assert exporter.export().verdict == "away"
            read(collector)
            assert exporter.flush()
            assert [calls(http, request) for request in range(3)] == [1, 2, 2]
            (first, *_, last) = [
                metrics(http, request)["kobs.syscall.calls"].sum.data_points[0]
                for request in range(3)
            ]
            assert first.start_time_unix_nano == last.start_time_unix_nano
            assert exporter.total.away == 2
            assert "503" in exporter.total.reason or "429" in exporter.total.reason

    def test_counts_what_is_refused(self, http: Receiver, collector: Collector) -> None:
        with OtlpMetricsExporter(collector) as exporter:
            http.replies.append(Reply(400))
            read(collector)
            assert not exporter.flush()
            assert exporter.total.failed == sum(1 for _ in points(http.got[0].message))
            assert exporter.total.points == 0
            assert "400" in exporter.total.reason

    def test_sends_explicit_buckets_where_that_is_asked_for(
        self, http: Receiver, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "explicit_bucket_histogram"
        )
        read(collector, 10.0)
        read(collector, 3e7)
        with OtlpMetricsExporter(collector) as exporter:
            exporter.flush()
        (point,) = metrics(http)["kobs.syscall.duration"].histogram.data_points
        assert list(point.explicit_bounds) == list(BOUNDS_S)
        counts = list(point.bucket_counts)
        assert (counts[BOUNDS_S.index(1e-5)], counts[-1], sum(counts)) == (1, 1, 2)

    @pytest.mark.parametrize(
        ("name", "bad"),
        [
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"),
            ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "pie"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1s"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
            ("OTEL_METRIC_EXPORT_TIMEOUT", "-1"),
        ],
    )
    def test_refuses_a_bad_variable_by_name(
        self, http: Receiver, collector: Collector, monkeypatch: pytest.MonkeyPatch,
        name: str, bad: str,
    ) -> None:  # fmt: skip
        monkeypatch.setenv(name, bad)
        with pytest.raises(ConfigError, match=f"{name}={bad}: expected"):
            OtlpMetricsExporter(collector)

    def test_sends_nothing_where_the_sdk_is_disabled(
        self, http: Receiver, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        with OtlpMetricsExporter(collector) as exporter:
            exporter.start()
            assert exporter.export().verdict == "refused"
        assert http.got == []


class TestThread:
    def test_exports_by_itself_and_ends(
        self, http: Receiver, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
        exporter = OtlpMetricsExporter(collector)
        read(collector)
        exporter.start()
        exporter.start()
        http.wait_for(2)
        read(collector)
        exporter.shutdown()
        assert calls(http) == 2
        assert "kobs-otlp-metrics" not in [thread.name for thread in threading.enumerate()]

    def test_reads_the_ring_while_nothing_is_to_be_sent(
        self, http: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kobs.export.otlp_metrics.READ_EVERY_S", 0.01)
        with Collector(size=16) as collector:
            exporter = OtlpMetricsExporter(collector)
            seen = threading.Event()
            count = exporter.source.read

            def reading() -> None:
                count()
                seen.set()

            exporter.source.read = reading  # type: ignore[method-assign]
            exporter.start()
            for _ in range(10):
                for _ in range(10):
                    read(collector)
                for _ in range(2):  # the one under way may have begun before
                    seen.clear()
                    assert seen.wait(30)
            exporter.shutdown()
            assert len(http.got) == 1
            assert calls(http) == 100

    def test_is_not_in_a_forked_child_which_has_its_own_numbers(
        self, http: Receiver, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exporter = OtlpMetricsExporter(collector)
        exporter.start()
        read(collector)
        exporter.read()
        pid = os.fork()
        if not pid:
            code = 1
            signal.alarm(30)  # should it hang, it is not to stay behind
            try:
                for _ in range(3):
                    read(collector)
                if exporter.flush():
                    code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert status == 0
        assert calls(http) == 3
        (group,) = http.got[-1].message.resource_metrics
        assert attributes(group.resource)["process.pid"] == pid
        exporter.shutdown()
        assert calls(http) == 1


class TestRecordings:
    def test_are_sent_by_process(self, both: Receiver, tmp_path: Any) -> None:
        path = tmp_path / "a.kobs"
        with Collector(path=path, size=64) as collector:
            read(collector)
        with open_recording(path) as recording:
            report = export_recorded_metrics(recording)
        assert calls(both) == 1
        assert report == MetricReport(points=sum(1 for _ in points(both.got[0].message)))
        (group,) = both.got[0].message.resource_metrics
        assert attributes(group.resource)["process.pid"] == os.getpid()

    def test_are_followed_while_they_are_written(self, http: Receiver, tmp_path: Any) -> None:
        path = tmp_path / "a.kobs"
        with Collector(path=path, size=64) as collector, open_recording(path) as recording:
            exporter = RecordedMetricsExporter(recording)
            read(collector)
            exporter.read()
            assert exporter.export().points
            read(collector)
            exporter.read()
            assert exporter.export().points
            read(collector)
            collector.close()
            exporter.finish()
        assert [calls(http, request) for request in range(3)] == [1, 2, 3]
        times = [
            metrics(http, request)["kobs.syscall.calls"].sum.data_points[0] for request in range(3)
        ]
        assert len({point.start_time_unix_nano for point in times}) == 1
        resources = [got.message.resource_metrics[0].resource for got in http.got]
        assert resources[0] == resources[1] == resources[2]

    def test_of_one_process_are_told_apart(
        self, http: Receiver, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        session = Session.create("shop", ["python", "shop.py"])
        for _ in range(2):
            with Collector(session=session, size=64) as collector:
                read(collector)
        with open_recording(session.path) as recording:
            export_recorded_metrics(recording)
        first, second = [
            attributes(group.resource)["service.instance.id"]
            for group in http.got[0].message.resource_metrics
        ]
        assert first != second

    def test_that_nobody_takes_have_failed(self, http: Receiver, tmp_path: Any) -> None:
        http.always = Reply(503)
        path = tmp_path / "a.kobs"
        with Collector(path=path, size=64) as collector:
            read(collector)
        with open_recording(path) as recording:
            report = export_recorded_metrics(recording)
        assert (report.points, report.away) == (0, 1)
        assert report.failed == sum(1 for _ in points(http.got[0].message))


def points(request: Any) -> Iterator[Any]:
    for group in request.resource_metrics:
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                yield from getattr(metric, metric.WhichOneof("data")).data_points
