"""Which span is current, also below the spans of others."""

import contextvars
import threading

import pytest

from kobs import Collector, bridge, collector as collectors
from kobs.context import Cause, causal_context, cause
from kobs.payloads import MetricUpdate
from kobs.tracing import (
    SpanError,
    current_span,
    emit_from_span,
    span_operation,
)

from .conftest import named


class TestCurrent:
    def test_the_innermost_open_span_is_current(self, collector: Collector) -> None:
        assert not current_span().is_recording
        with span_operation("outer") as outer:
            assert current_span() is outer
            with span_operation("inner") as inner:
                assert current_span() is inner
            assert current_span() is outer
        assert cause.get() is None

    def test_the_cause_before_comes_back_by_value(self, collector: Collector) -> None:
        with causal_context(77, parent=5) as before:
            with span_operation("load") as span:
                assert span.causality_id == 77
            assert cause.get() == before

    def test_a_span_inside_is_in_scope(self, collector: Collector) -> None:
        with span_operation("load"):
            ambient = cause.get()
            assert ambient is not None
            assert ambient.in_scope

    def test_a_cause_that_moved_inside_the_span_is_taken_back(self, collector: Collector) -> None:
        with span_operation("load"):
            ambient = cause.get()
            assert ambient is not None
            cause.set(ambient._replace(parent=99))
        assert cause.get() is None

    def test_ending_elsewhere_leaves_that_places_cause_alone(self, collector: Collector) -> None:
        span = span_operation("load").__enter__()

        def elsewhere() -> Cause | None:
            cause.set(Cause(5, 6))
            span.__exit__(None, None, None)
            return cause.get()

        assert contextvars.Context().run(elsewhere) == Cause(5, 6)

    def test_in_a_bare_thread_there_is_none(self, collector: Collector) -> None:
        seen: list[bool] = []
        with span_operation("load"):
            thread = threading.Thread(target=lambda: seen.append(current_span().is_recording))
            thread.start()
            thread.join()
        assert seen == [False]

    def test_a_remote_parents_ids_are_seen(self) -> None:
        remote = bridge.parse_traceparent("00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")
        assert remote is not None
        cause.set(remote)
        assert current_span().trace_id == "ab" * 16
        assert current_span().span_id == "cd" * 8

    def test_emit_from_span_is_part_of_it_from_anywhere(self, collector: Collector) -> None:
        with span_operation("load") as span:
            emit_from_span(MetricUpdate("inside", 1.0))
            contextvars.Context().run(
                lambda: emit_from_span(MetricUpdate("elsewhere", 1.0), span=span)
            )
        began = named(collector, "SpanBegan")[0]
        inside, elsewhere = named(collector, "MetricUpdate")
        assert inside.parent == elsewhere.parent == began.id
        assert inside.span_id == elsewhere.span_id == began.span_id

    def test_emit_from_span_without_a_span_or_collector(self, collector: Collector) -> None:
        assert emit_from_span(MetricUpdate("x", 1.0))
        collectors.clear_collector()
        assert emit_from_span(MetricUpdate("x", 1.0)) == 0

    def test_an_open_span_cannot_be_entered_again(self, collector: Collector) -> None:
        with span_operation("load") as span, pytest.raises(SpanError, match="open already"):
            span.__enter__()

    def test_an_ended_span_can_be_used_again(self, collector: Collector) -> None:
        span = span_operation("load")
        with span:
            span.record("k", 1)
            first = span.span_id
        with span:
            assert span.span_id != first
        _, second = named(collector, "SpanEnded")
        assert second.payload.attributes == {}


class TestInsideOpenTelemetry:
    def test_a_root_span_is_a_child_of_the_sdk_span(self, collector: Collector) -> None:
        from opentelemetry.sdk.trace import TracerProvider

        tracer = TracerProvider().get_tracer("test")
        with tracer.start_as_current_span("outer") as outer:
            context = outer.get_span_context()
            with span_operation("load") as span, span_operation("inner") as inner:
                pass
        began = named(collector, "SpanBegan")[0]
        assert span.trace_id == inner.trace_id == f"{context.trace_id:032x}"
        assert began.payload.parent_span == context.span_id
        (adopted,) = named(collector, "TraceAdopted")
        high, low = adopted.payload.trace_high, adopted.payload.trace_low
        assert high << 64 | low == context.trace_id
        assert adopted.payload.sampled
        assert adopted.causality_id == began.causality_id

    def test_the_unsampled_flag_is_kept_and_stops_no_capture(self, collector: Collector) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

        tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")
        with tracer.start_as_current_span("outer"), span_operation("load"):
            pass
        assert len(named(collector, "SpanBegan", "SpanEnded")) == 2
        assert not named(collector, "TraceAdopted")[0].payload.sampled

    def test_a_remote_parent_is_adopted_with_its_whole_trace_id(self, collector: Collector) -> None:
        remote = bridge.parse_traceparent("00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")
        assert remote is not None
        cause.set(remote)
        with span_operation("load") as span:
            pass
        assert span.trace_id == "ab" * 16
        assert named(collector, "SpanBegan")[0].payload.parent_span == int("cd" * 8, 16)
        assert named(collector, "TraceAdopted")[0].payload.trace_high == int("ab" * 8, 16)
