"""Metrics over the wire to receivers that this project did not write."""

from typing import Any

import pytest

from kobs.collector import Collector
from kobs.export.otlp_metrics import OtlpMetricsExporter
from kobs.levels import SyscallResult
from kobs.payloads import MemoryPressure, QueueDepth, SyscallExit
from kobs.tracing import span_operation
from tests.end_to_end.receivers import Receiver

pytestmark = pytest.mark.e2e

DURATIONS_US = [1.5 * number for number in range(1, 200)] + [2e6]


@pytest.fixture(params=["http/protobuf", "grpc"])
def protocol(
    request: pytest.FixtureRequest, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> str:
    url = receiver.grpc if request.param == "grpc" else receiver.http
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", request.param)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    return str(request.param)


def sent(receiver: Receiver) -> tuple[dict[str, dict[str, Any]], str]:
    """What the receiver got of a small program, by name, and the program's trace."""
    with Collector(size=1024, hide=["syscall:write"]) as collector:
        with span_operation("load", collector=collector) as span:
            for duration_us in DURATIONS_US:
                collector.emit(SyscallExit("read", duration_us, SyscallResult.SUCCESS))
        collector.emit(SyscallExit("write", 1.0, SyscallResult.SUCCESS))
        collector.emit(MemoryPressure(25, 3))
        collector.emit(QueueDepth("jobs", 7, 10))
        report = OtlpMetricsExporter(collector).shutdown(timeout=20)
    assert (report.failed, report.away) == (0, 0), report
    receiver.wait_for(metrics=10)
    assert sum(len(metric["points"]) for metric in receiver.metrics) == report.points
    return {metric["name"]: metric for metric in receiver.metrics}, span.trace_id


def test_metrics_are_read_back_as_they_were(receiver: Receiver, protocol: str) -> None:
    metrics, trace_id = sent(receiver)
    calls = metrics["kobs.syscall.calls"]
    assert (calls["unit"], calls["description"]) == ("{call}", "System calls that ended")
    assert calls["isMonotonic"] is True
    assert int(calls["points"][0]["asInt"]) == 200
    assert calls["resource"]["service.name"] == "shop"
    assert int(metrics["kobs.memory.available"]["points"][0]["asInt"]) == 3 << 20
    (depth,) = metrics["kobs.ipc.queue_depth"]["points"]
    assert (int(depth["asInt"]), depth["attributes"]) == (
        7, {"messaging.destination.name": "jobs"},
    )  # fmt: skip
    (left_out,) = metrics["kobs.event.left_out"]["points"]
    assert int(left_out["asInt"]) == 1

    (point,) = metrics["kobs.syscall.duration"]["points"]
    assert point["attributes"] == {"kobs.syscall": "read"}
    assert int(point["count"]) == 200
    assert point["sum"] == pytest.approx(sum(DURATIONS_US) / 1e6)
    assert (point["min"], point["max"]) == (1.5e-6, 2.0)
    assert quantile(point, 0.5) == pytest.approx(150e-6, rel=0.1)
    assert quantile(point, 1.0) == pytest.approx(2.0, rel=0.1)
    assert {exemplar["traceId"] for exemplar in point["exemplars"]} == {trace_id}


def test_explicit_buckets_are_read_back_too(
    receiver: Receiver, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "explicit_bucket_histogram"
    )
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    metrics, _ = sent(receiver)
    (point,) = metrics["kobs.syscall.duration"]["points"]
    counts = [int(number) for number in point["bucketCounts"]]
    assert sum(counts) == int(point["count"]) == 200
    assert counts[point["explicitBounds"].index(2.5)] == 1
    assert str(metrics["kobs.syscall.calls"]["aggregationTemporality"]) in ("1", DELTA)


DELTA = "AGGREGATION_TEMPORALITY_DELTA"


def quantile(point: dict[str, Any], q: float) -> float:
    """The middle of the bucket that a rank lies in, of the point as it came."""
    rank, seen = (int(point["count"]) - 1) * q, int(point.get("zeroCount", 0))
    base = 2 ** (2.0 ** -int(point["scale"]))
    offset = int(point["positive"].get("offset", 0))
    for at, number in enumerate(point["positive"]["bucketCounts"]):
        seen += int(number)
        if rank < seen:
            return float(base ** (offset + at + 0.5))
    raise AssertionError(f"the buckets hold {seen} of {point['count']} values")
