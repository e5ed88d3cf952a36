"""The bytes of protobuf fields, judged by protobuf itself."""

from hypothesis import given, strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

from kobs.export import protobuf


@given(st.integers(0, (1 << 64) - 1))
def test_unsigned_integers(number: int) -> None:
    event = schema.TrackEvent()
    event.ParseFromString(protobuf.integer(11, number))
    assert event.track_uuid == number


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_signed_integers(number: int) -> None:
    event = schema.TrackEvent()
    event.ParseFromString(protobuf.integer(30, number))
    assert event.counter_value == number


@given(st.integers(0, (1 << 64) - 1))
def test_fixed_integers(number: int) -> None:
    event = schema.TrackEvent()
    event.ParseFromString(protobuf.fixed64(47, number))
    assert list(event.flow_ids) == [number]


@given(st.floats(allow_nan=False))
def test_doubles(number: float) -> None:
    event = schema.TrackEvent()
    event.ParseFromString(protobuf.double(44, number))
    assert event.double_counter_value == number


@given(st.text(max_size=300))
def test_strings(text: str) -> None:
    event = schema.TrackEvent()
    event.ParseFromString(protobuf.string(23, text))
    assert event.name == text


@given(st.binary(max_size=20_000))
def test_messages_are_as_long_as_they_say(data: bytes) -> None:
    made = protobuf.message(14, data)
    annotation = schema.DebugAnnotation()
    annotation.ParseFromString(made)
    assert annotation.proto_value == data


def test_what_utf8_cannot_say_is_escaped() -> None:
    event = schema.TrackEvent()
    event.ParseFromString(protobuf.string(23, "a\udcffb"))
    assert event.name == "a\\udcffb"
