"""W3C trace context, and OpenTelemetry's current span as a cause."""

import subprocess
import sys

import pytest
from hypothesis import given, strategies as st

from kobs import bridge
from kobs.context import Cause

ids64 = st.integers(1, (1 << 64) - 1)
trace_ids = st.integers(1, (1 << 128) - 1)

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class TestTraceparent:
    def test_a_good_one_is_read(self) -> None:
        cause = bridge.parse_traceparent(GOOD)
        assert cause == Cause(0x8448EB211C80319C, 0, 0xB7AD6B7169203331, True, 0x0AF7651916CD43DD)

    def test_an_unsampled_one_is_read(self) -> None:
        cause = bridge.parse_traceparent(GOOD[:-2] + "00")
        assert cause is not None
        assert cause.sampled is False

    def test_unknown_flags_are_ignored(self) -> None:
        cause = bridge.parse_traceparent(GOOD[:-2] + "ff")
        assert cause is not None
        assert cause.sampled is True

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "garbage",
            GOOD[:-1],
            GOOD + "-extra",
            GOOD + "0",
            "ff" + GOOD[2:],
            "0x" + GOOD[2:],
            GOOD.upper(),
            "00-" + "0" * 32 + "-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
            GOOD.replace("-", "_"),
            GOOD[:-2] + "0g",
            GOOD[:-2] + " 1",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            "01" + GOOD[2:] + ".what",
            "00-" + "٣" * 32 + "-b7ad6b7169203331-01",
        ],
    )
    def test_an_invalid_one_is_ignored(self, text: str) -> None:
        assert bridge.parse_traceparent(text) is None

    def test_a_later_version_is_read_as_far_as_it_is_known(self) -> None:
        assert bridge.parse_traceparent("cc" + GOOD[2:] + "-what-the-future-holds") is not None
        assert bridge.parse_traceparent("cc" + GOOD[2:]) is not None

    def test_blanks_around_it_are_ignored(self) -> None:
        assert bridge.parse_traceparent(f" {GOOD}\t") == bridge.parse_traceparent(GOOD)

    @given(st.text(max_size=80))
    def test_no_text_makes_it_raise(self, text: str) -> None:
        bridge.parse_traceparent(text)

    @given(trace_ids, ids64, st.booleans())
    def test_what_is_parsed_is_formatted_the_same(
        self, trace_id: int, span_id: int, sampled: bool
    ) -> None:
        text = f"00-{trace_id:032x}-{span_id:016x}-0{int(sampled)}"
        cause = bridge.parse_traceparent(text)
        assert cause is not None
        assert bridge.format_traceparent(cause) == text

    @given(ids64, ids64, ids64, st.booleans())
    def test_what_is_formatted_is_parsed_the_same(
        self, low: int, high: int, span_id: int, sampled: bool
    ) -> None:
        bridge._told.clear()  # what an example before said of the same trace
        cause = Cause(low, 0, span_id, sampled, high)
        assert bridge.parse_traceparent(bridge.format_traceparent(cause)) == cause

    @given(trace_ids)
    def test_a_trace_id_survives_being_split(self, trace_id: int) -> None:
        causality_id, high = bridge.split_trace_id(trace_id)
        assert causality_id
        assert bridge.whole_trace_id(causality_id, high) == trace_id

    def test_without_a_span_the_causing_event_stands_in(self) -> None:
        text = bridge.format_traceparent(Cause(5, 0x1234, trace_high=7))
        assert text == "00-00000000000000070000000000000005-0000000000001234-01"

    def test_remembered_odd_trace_ids_are_bounded(self) -> None:
        for number in range(1, 6000):
            bridge.split_trace_id(number << 64)
        assert len(bridge._odd_traces) <= bridge._REMEMBERED


class TestOpenTelemetry:
    def test_no_current_span_is_no_cause(self) -> None:
        assert bridge.opentelemetry_cause() is None

    def test_the_sdk_span_is_a_cause_with_its_whole_trace_id(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider

        tracer = TracerProvider().get_tracer("test")
        with tracer.start_as_current_span("outer") as span:
            cause = bridge.opentelemetry_cause()
            context = span.get_span_context()
            assert cause is not None
            whole = bridge.whole_trace_id(cause.causality_id, cause.trace_high)
            assert whole == context.trace_id
            assert cause.span_id == context.span_id

    def test_an_unsampled_sdk_span_stops_no_capture(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

        tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")
        with tracer.start_as_current_span("outer"):
            cause = bridge.opentelemetry_cause()
        assert cause is not None
        assert cause.sampled is True

    def test_opentelemetry_is_not_imported_for_it(self) -> None:
        code = (
            "import sys; from kobs import Collector, init_collector, span_operation\n"
            "init_collector(Collector(size=16))\n"
            "with span_operation('x'): pass\n"
            "print([name for name in sys.modules if name.startswith('opentelemetry')])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]"
