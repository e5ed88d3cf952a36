"""Whatever bytes a recording has, its metrics are counted, and can be read where they go."""

from hypothesis import given, settings, strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from kobs._core.contract import LeftOut, RawSlot
from kobs.decoder import EventDecoder, field_reader
from kobs.export.metric_points import Apart, Metrics, make_series, points_of
from kobs.export.otlp_metrics_encode import encode
from kobs.metrics import MetricsCollector

from .twins import Source, slots

NONE_LEFT_OUT = LeftOut((0,) * 16, (0,) * 16)


@given(slots())
def test_a_field_read_alone_is_the_payloads(slot: RawSlot) -> None:
    event = EventDecoder(Source()).decode(slot)
    if event is None:
        return
    names = event.type.__kobs_schema__.field_names
    alone = [repr(field_reader(event.type, name)(event)) for name in names]
    payload = event.payload
    assert alone == [repr(getattr(payload, name)) for name in names]
    assert alone == [repr(field_reader(event.type, name)(event)) for name in names]


@settings(max_examples=40)
@given(st.lists(slots(small=True), max_size=20))
def test_all_are_counted_and_sent(given: list[RawSlot]) -> None:
    decoder = EventDecoder(Source())
    events = [event for slot in given if (event := decoder.decode(slot)) is not None]
    series, metrics = make_series(), MetricsCollector()
    for event in events:
        series.observe(event)
        metrics.observe(event)
    assert metrics.snapshot().counters["events.total"] == len(events)
    found = points_of(
        series, series.counts, Apart(NONE_LEFT_OUT, {}),
        trace_high=lambda _: 1, offset_ns=lambda _: 0,
    )  # fmt: skip
    request = ExportMetricsServiceRequest.FromString(encode(Metrics(1, 1, 2, False, found), {}))
    sent = {
        metric.name: metric
        for group in request.resource_metrics
        for scope in group.scope_metrics
        for metric in scope.metrics
    }
    recorded = sent["kobs.event.recorded"].sum.data_points if events else []
    assert sum(point.as_int for point in recorded) == len(events)
