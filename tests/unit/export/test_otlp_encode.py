"""OTLP as kobs encodes it: parsed by `opentelemetry-proto`'s classes, and compared with what the
SDK's encoder makes of the same spans."""

import os
import string as letters
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits

from kobs import Collector, Event
from kobs.export.otlp_encode import (
    Item,
    encode_log,
    encode_request,
    encode_resource,
    encode_span,
)
from kobs.export.otlp_logs import log_data
from kobs.levels import Category
from kobs.payloads import ProcessTerminated
from kobs.tracing.finished import OWN_SCOPE, FinishedSpan, Scope, SpanEvent, SpanLink, Trace
from kobs.tracing.finished_limits import within
from kobs.tracing.limits import Limits
from kobs.tracing.readable import to_span

OFFSET_NS = 1_700_000_000_000_000_000
RESOURCE = {"service.name": "shop", "process.pid": 42, "process.command_args": ["a", "b"]}

texts = st.text(max_size=20)
# The SDK refuses an empty key, and lists of values of several types.
scalars = st.one_of(
    texts, st.booleans(), st.integers(-(1 << 63) + 1, (1 << 63) - 1),
    st.floats(allow_nan=False), st.binary(max_size=8), st.integers(),
)  # fmt: skip
values = st.one_of(
    scalars,
    st.lists(texts, max_size=3),
    st.lists(st.integers(-9, 9), max_size=3),
    st.lists(st.floats(allow_nan=False), max_size=3),
)
attributes = st.dictionaries(st.text(min_size=1, max_size=12), values, max_size=5)
times = st.integers(0, 10**12)
flags = st.integers(0, 255)
span_ids = st.integers(1, (1 << 64) - 1)
trace_ids = st.integers(1, (1 << 128) - 1)
states = st.lists(
    st.tuples(
        st.text(letters.ascii_lowercase, min_size=1, max_size=5),
        st.text(letters.ascii_letters, min_size=1, max_size=5),
    ),
    max_size=3, unique_by=lambda pair: pair[0],
).map(lambda pairs: ",".join(f"{key}={value}" for key, value in pairs))  # fmt: skip
counts = st.integers(0, 300)
scopes = st.one_of(
    st.just(OWN_SCOPE),
    st.builds(
        Scope, st.text(min_size=1, max_size=5), texts, st.sampled_from(["", "urn:a"]),
        st.dictionaries(st.text(min_size=1, max_size=3), texts, max_size=2),
    ),
)  # fmt: skip
events = st.lists(st.builds(SpanEvent, texts, times, attributes, counts), max_size=3)
links = st.lists(
    st.builds(SpanLink, trace_ids, span_ids, attributes, st.just(""), flags, st.booleans(), counts),
    max_size=3,
)
spans = st.builds(
    FinishedSpan,
    name=texts,
    trace=st.builds(Trace, trace_ids, st.just(True), states, flags),
    span_id=span_ids,
    parent_span=st.one_of(st.just(0), span_ids),
    parent_is_remote=st.booleans(),
    kind=st.sampled_from(["internal", "server", "client", "producer", "consumer", "?"]),
    category=st.sampled_from(list(Category)),
    status=st.sampled_from(["unset", "ok", "error", "?"]),
    began_ns=times,
    ended_ns=times,
    attributes=attributes,
    links=links,
    pid=st.sampled_from([42, 43]),
    tid=st.integers(1, 1 << 31),
    recording=st.just(1),
    origin=st.sampled_from(["", "test_a"]),
    status_description=texts,
    events=events,
    scope=scopes,
    flags=flags,
    dropped_attributes=counts,
    dropped_events=counts,
    dropped_links=counts,
    provider=st.integers(0, 1),
)


def request(found: list[FinishedSpan]) -> Any:
    resource = encode_resource(RESOURCE)
    items = [
        Item(resource, span.scope, encode_span(span, OFFSET_NS, RESOURCE["process.pid"]), 1)
        for span in found
    ]
    return ExportTraceServiceRequest.FromString(encode_request(items))


def by_sdk(found: list[FinishedSpan]) -> Any:
    resource = Resource(RESOURCE)  # type: ignore[arg-type]
    return encode_spans([to_span(span, OFFSET_NS, resource) for span in found])


def comparable(message: Any, *, ours: bool) -> Any:
    """The SDK's encoder writes an empty status, and leaves out the trace flags and the tracestate
    of links; both are in the schema."""
    for group in message.resource_spans:
        for scope in group.scope_spans:
            for span in scope.spans:
                if not span.status.code and not span.status.message:
                    span.ClearField("status")
                if ours:
                    span.flags &= ~0xFF
                    for link in span.links:
                        link.flags &= ~0xFF
    return message


@pytest.mark.newest_sdk  # encodes empty bytes, and lists with None
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(spans, min_size=1, max_size=3))
def test_spans_are_what_the_sdk_makes_of_them(found: list[FinishedSpan]) -> None:
    assert comparable(request(found), ours=True) == comparable(by_sdk(found), ours=False)


def plain(**changes: Any) -> FinishedSpan:
    span = FinishedSpan(
        "load", Trace(1 << 64 | 2), 3, 0, False, "internal", Category.PERFORMANCE, "unset",
        10, 20, {}, [], 42, 7, 1, "",
    )  # fmt: skip
    return span._replace(**changes)


def one(span: FinishedSpan) -> Any:
    (group,) = request([span]).resource_spans
    return group.scope_spans[0].spans[0]


def test_flags_are_the_w3c_ones_and_whether_the_other_span_is_remote() -> None:
    link = SpanLink(5, 6, {}, trace_state="a=b", flags=3, remote=True)
    span = one(plain(flags=1, parent_span=4, parent_is_remote=True, links=[link]))
    assert span.flags == 0x301
    assert span.links[0].flags == 0x303
    assert span.links[0].trace_state == "a=b"
    assert one(plain(flags=0)).flags == 0x100


def test_what_no_text_can_say_is_written_out() -> None:
    span = one(plain(name="\udcff", attributes={"\udcff": ["\udc80", {"deep": (1, None)}]}))
    assert span.name == "\\udcff"
    assert span.attributes[0].key == "\\udcff"
    first, second = span.attributes[0].value.array_value.values
    assert first.string_value == "\\udc80"
    (pair,) = second.kvlist_value.values
    assert pair.key == "deep"
    assert pair.value.array_value.values[0].int_value == 1
    assert not pair.value.array_value.values[1].WhichOneof("value")


def test_groups_are_by_resource_and_scope() -> None:
    other = Scope("shop", "1", "urn:a")
    a, b = encode_resource({"service.name": "a"}), encode_resource({"service.name": "b"})
    items = [
        Item(resource, scope, encode_span(plain(name=name), 0, None), 1)
        for name, resource, scope in [
            ("1", a, OWN_SCOPE), ("2", b, OWN_SCOPE), ("3", a, other), ("4", a, OWN_SCOPE),
            ("5", a, Scope("shop", "1", "urn:a")),
        ]
    ]  # fmt: skip
    made = ExportTraceServiceRequest.FromString(encode_request(items))
    found = [
        (
            group.resource.attributes[0].value.string_value, scope.scope.name, scope.schema_url,
            "".join(span.name for span in scope.spans),
        )
        for group in made.resource_spans
        for scope in group.scope_spans
    ]  # fmt: skip
    assert found == [("a", "kobs", "", "14"), ("a", "shop", "urn:a", "35"), ("b", "kobs", "", "2")]


def test_a_log_record() -> None:
    with Collector(size=64) as collector:
        collector.emit(ProcessTerminated(-9), pid=4242, causality_id=7)
        (event,) = collector.snapshot()
    made = log_record(event, Trace(1 << 64 | 7, flags=3))
    assert made.time_unix_nano == made.observed_time_unix_nano == event.timestamp_ns + OFFSET_NS
    assert (made.severity_number, made.severity_text) == (9, "INFO")
    assert made.body.string_value == "ProcessTerminated(exit_code=-9)"
    assert made.event_name == "kobs.process_terminated"
    assert made.trace_id == (1 << 64 | 7).to_bytes(16, "big")
    assert made.span_id == b""
    assert made.flags == 3
    found = {pair.key: pair.value for pair in made.attributes}
    assert found["process.exit.code"].int_value == -9
    assert found["process.pid"].int_value == 4242
    assert found["kobs.type"].string_value == "ProcessTerminated"
    assert log_record(event, None).trace_id == b""


def log_record(event: Event, trace: Trace | None) -> Any:
    item = Item(
        encode_resource(RESOURCE),
        OWN_SCOPE,
        encode_log(event, log_data(event), trace, OFFSET_NS),
        1,
    )
    (group,) = ExportLogsServiceRequest.FromString(encode_request([item])).resource_logs
    return group.scope_logs[0].log_records[0]


class TestLimits:
    @pytest.fixture(autouse=True)
    def no_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in list(os.environ):
            if name.startswith("OTEL_"):
                monkeypatch.delenv(name)

    def test_there_are_opentelemetrys_own(self) -> None:
        assert Limits.from_environment() == Limits()
        many = {f"k{number}": number for number in range(130)}
        span = within(
            plain(
                attributes=many,
                events=[SpanEvent(str(number), 1, {}) for number in range(129)],
                links=[SpanLink(1, 2, many)] * 131,
            ),
            Limits(),
        )
        assert (len(span.attributes), span.dropped_attributes) == (128, 2)
        assert "k0" not in span.attributes
        assert (len(span.events), span.events[0].name, span.dropped_events) == (128, "1", 1)
        assert (len(span.links), span.dropped_links) == (128, 3)
        assert span.links[0].dropped_attributes == 2

    def test_the_variables_set_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2")
        monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")
        given_span = plain(
            attributes={"a": 1, "b": "abcdef", "c": ["abcd", 5]},
            events=[SpanEvent("e", 1, {"long": "x" * 9})],
        )
        span = within(given_span, Limits.from_environment())
        assert span.attributes == {"b": "abc", "c": ["abc", 5]}
        assert span.dropped_attributes == 1
        assert span.events[0].attributes == {"long": "xxx"}

    @pytest.mark.parametrize(
        "variables",
        [
            {"ATTRIBUTE_COUNT_LIMIT": "7", "ATTRIBUTE_VALUE_LENGTH_LIMIT": " 9 "},
            {"ATTRIBUTE_COUNT_LIMIT": "", "ATTRIBUTE_VALUE_LENGTH_LIMIT": "9",
             "SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": ""},
            {"ATTRIBUTE_COUNT_LIMIT": "7", "SPAN_ATTRIBUTE_COUNT_LIMIT": "",
             "EVENT_ATTRIBUTE_COUNT_LIMIT": "0", "LINK_ATTRIBUTE_COUNT_LIMIT": "5"},
            {"SPAN_EVENT_COUNT_LIMIT": "", "SPAN_LINK_COUNT_LIMIT": "0"},
        ],
    )  # fmt: skip
    def test_they_are_read_as_opentelemetrys_sdk_reads_them(
        self, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"OTEL_{name}", value)
        assert Limits.from_environment() == Limits.of(SpanLimits())

    def test_what_a_provider_made_was_held_to_its_own(self) -> None:
        span = plain(attributes={str(number): 1 for number in range(200)}, provider=1)
        assert within(span, Limits()) is span

    def test_within_them_nothing_changes(self) -> None:
        span = plain(attributes={"a": 1})
        assert within(span, Limits()) is span

    def test_a_bad_value_is_refused_by_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", "many")
        with pytest.raises(ValueError, match="OTEL_SPAN_LINK_COUNT_LIMIT"):
            Limits.from_environment()
