"""Metrics as OTLP, encoded by kobs itself. Field numbers are those of
`opentelemetry/proto/metrics/v1/metrics.proto`; each function names the message it writes."""

from collections.abc import Mapping, Sequence
from struct import pack
from typing import Any

from kobs._analysis.histogram import Buckets, HistogramSnapshot
from kobs.export.metric_points import Metric, Metrics, Point, PointExemplar
from kobs.export.otlp_encode import encode_attributes, encode_resource, encode_scope
from kobs.export.protobuf import double, fixed64, integer, message, string, varint
from kobs.tracing.finished import OWN_SCOPE

MOST_BUCKETS = 160
"""Buckets of an exponential histogram at most, of each sign: OpenTelemetry's SDK's default."""

_DELTA, _CUMULATIVE = 1, 2
_INT64 = (1 << 63) - 1


def encode(metrics: Metrics, resource: Mapping[str, Any], *, exponential: bool = True) -> bytes:
    """An `ExportMetricsServiceRequest` with the metrics of one process; `resource` are the
    attributes of what it is. Those of several one behind the other are one request.

    `exponential` False: histograms with explicit buckets.
    """
    now = fixed64(3, metrics.time_ns)
    times = fixed64(2, metrics.start_ns) + now
    always = fixed64(2, metrics.since_ns) + now
    data = b"".join(
        _metric(metric, times, always, metrics.delta, exponential) for metric in metrics.metrics
    )
    scope, schema_url = encode_scope(OWN_SCOPE)
    return message(1, encode_resource(resource) + message(2, scope + data + schema_url))


def _metric(metric: Metric, times: bytes, always: bytes, delta: bool, exponential: bool) -> bytes:
    """A `Metric` of a `ScopeMetrics`. `always`: the times of what is cumulative in any case."""
    about = string(1, metric.name) + string(2, metric.description) + string(3, metric.unit)
    summed = integer(2, _DELTA if delta else _CUMULATIVE)
    if metric.kind == "gauge":
        body = message(5, b"".join(_number(point, times) for point in metric.points))
    elif metric.kind == "histogram":
        make = _exponential_point if exponential else _explicit_point
        points = b"".join(make(point, times) for point in metric.points)
        body = message(10 if exponential else 9, points + summed)
    elif metric.kind == "sum":
        points = b"".join(_number(point, times) for point in metric.points)
        body = message(7, points + summed + integer(3, 1))
    else:
        points = b"".join(_number(point, always) for point in metric.points)
        body = message(7, points + integer(2, _CUMULATIVE) + integer(3, metric.kind == "total"))
    return message(2, about + body)


def _number(point: Point, times: bytes) -> bytes:
    """A `NumberDataPoint`."""
    value = point.value
    assert not isinstance(value, HistogramSnapshot)
    if isinstance(value, int) and -_INT64 <= value <= _INT64:
        number = fixed64(6, value)
    else:
        number = double(4, float(value))
    return message(1, times + number + encode_attributes(7, dict(point.attributes)))


def _explicit_point(point: Point, times: bytes) -> bytes:
    """A `HistogramDataPoint`."""
    found = _histogram(point)
    counts = message(6, pack(f"<{len(found.by_bound)}Q", *found.by_bound))
    bounds = message(7, pack(f"<{len(found.bounds)}d", *found.bounds))
    ends = double(11, found.minimum) + double(12, found.maximum)
    return message(
        1,
        times + _total(found) + counts + bounds + _exemplars(8, point.exemplars)
        + encode_attributes(9, dict(point.attributes)) + (ends if found.count else b""),
    )  # fmt: skip


def _exponential_point(point: Point, times: bytes) -> bytes:
    """An `ExponentialHistogramDataPoint`."""
    found = _histogram(point).downscaled(MOST_BUCKETS)
    ends = double(12, found.minimum) + double(13, found.maximum)
    return message(
        1,
        encode_attributes(1, dict(point.attributes)) + times + _total(found)
        + integer(6, _zigzag(found.scale)) + fixed64(7, found.zero_count)
        + _buckets(8, found.buckets) + _buckets(9, found.negative)
        + _exemplars(11, point.exemplars) + (ends if found.count else b""),
    )  # fmt: skip


def _histogram(point: Point) -> HistogramSnapshot:
    assert isinstance(point.value, HistogramSnapshot)
    return point.value


def _total(found: HistogramSnapshot) -> bytes:
    """Count and sum, in both kinds of point. By the data model a sum stands only where no value
    is below 0."""
    return fixed64(4, found.count) + (b"" if found.minimum < 0 else double(5, found.total))


def _buckets(field: int, buckets: Buckets) -> bytes:
    """The `Buckets` of an exponential histogram: from the lowest to the highest, gaps too."""
    if not buckets:
        return b""
    first, last = buckets[0][0], buckets[-1][0]
    counts = [0] * (last - first + 1)
    for index, number in buckets:
        counts[index - first] = number
    data = integer(1, _zigzag(first)) + message(2, b"".join(map(varint, counts)))
    return message(field, data)


def _zigzag(number: int) -> int:
    """A signed number as type sint32 writes it."""
    return number << 1 if number >= 0 else (-number << 1) - 1


def _exemplars(field: int, exemplars: Sequence[PointExemplar]) -> bytes:
    """`Exemplar`s."""
    return b"".join(message(field, _exemplar(exemplar)) for exemplar in exemplars)


def _exemplar(exemplar: PointExemplar) -> bytes:
    data = fixed64(2, exemplar.time_ns) + double(3, exemplar.value)
    if exemplar.span_id:
        data += message(4, exemplar.span_id.to_bytes(8, "big"))
    if exemplar.trace_id:
        data += message(5, exemplar.trace_id.to_bytes(16, "big"))
    return data
