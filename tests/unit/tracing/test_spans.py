"""Spans: what they write into the ring, and with whom they go on."""

import json
import os

import pytest

from kobs import Collector, bridge, collector as collectors
from kobs.errors import ConfigError
from kobs.events import FLAG_BEGIN, FLAG_END
from kobs.payloads import MetricUpdate
from kobs.tracing import (
    Span,
    current_span,
    generate_trace_id,
    span_grpc,
    span_operation,
    span_syscall,
)

from .conftest import attributes_of, ended, named


class TestTwoEvents:
    def test_a_span_writes_a_begin_and_an_end(self, collector: Collector) -> None:
        with span_operation("load"):
            pass
        began, finished = collector.snapshot()
        assert (began.type_name, finished.type_name) == ("SpanBegan", "SpanEnded")
        assert began.flags & FLAG_BEGIN
        assert finished.flags & FLAG_END
        assert finished.parent == began.id
        assert finished.payload.name == began.payload.name == "load"
        assert finished.payload.status == "unset"
        assert finished.span_id == began.span_id != 0
        assert finished.causality_id == began.causality_id != 0
        elapsed = finished.timestamp_ns - began.timestamp_ns
        assert finished.payload.duration_us == pytest.approx(elapsed / 1000)

    def test_an_open_span_is_in_flight_until_it_ends(self, collector: Collector) -> None:
        with span_operation("load") as span:
            (entry,) = collector.open_events()
            assert f"{entry.span_id:016x}" == span.span_id
            assert collector.ring.string(entry.name) == "load"
        assert collector.open_events() == []

    def test_a_nested_span_is_a_child(self, collector: Collector) -> None:
        with span_operation("outer") as outer, span_operation("inner") as inner:
            pass
        outer_began, inner_began = named(collector, "SpanBegan")
        assert inner_began.parent == outer_began.id
        assert inner_began.payload.parent_span == outer_began.span_id
        assert inner.trace_id == outer.trace_id
        assert inner.span_id != outer.span_id

    def test_events_inside_are_part_of_the_span(self, collector: Collector) -> None:
        with span_operation("load") as span:
            collector.emit(MetricUpdate("depth", 3.0))
        began = named(collector, "SpanBegan")[0]
        (inside,) = named(collector, "MetricUpdate")
        assert inside.parent == began.id
        assert inside.causality_id == span.causality_id
        assert f"{inside.span_id:016x}" == span.span_id

    def test_ids_are_hexadecimal_and_the_recordings(self, collector: Collector) -> None:
        with span_operation("load") as span:
            assert len(span.trace_id) == 32
            assert int(span.trace_id, 16) >> 64 == collector.ring.trace_high
            assert int(span.trace_id[16:], 16) == span.causality_id
            assert len(span.span_id) == 16
            assert span.traceparent == f"00-{span.trace_id}-{span.span_id}-03"

    def test_a_span_records_where_it_was_told_to(self, collector: Collector) -> None:
        with Collector(size=64) as other:
            with span_operation("load", collector=other):
                pass
            assert len(named(other, "SpanBegan", "SpanEnded")) == 2
        assert collector.snapshot() == []

    @pytest.mark.parametrize(
        ("span", "category", "kind"),
        [
            (span_syscall("read", 42), "SYSCALL", "internal"),
            (span_operation("load", kind="producer"), "PERFORMANCE", "producer"),
            (span_grpc("pkg.Service/Method"), "NETWORK", "server"),
            (span_grpc("pkg.Service/Method", kind="client"), "NETWORK", "client"),
        ],
    )
    def test_category_and_kind_say_what_it_is(
        self, collector: Collector, span: Span, category: str, kind: str
    ) -> None:
        with span:
            pass
        began, finished = collector.snapshot()
        assert began.category.name == finished.category.name == category
        assert began.payload.kind == kind

    def test_the_subject_of_a_system_call_is_its_process(self, collector: Collector) -> None:
        with span_syscall("read", 4242):
            pass
        assert [event.pid for event in collector.snapshot()] == [4242, 4242]


class TestWithoutACollector:
    @pytest.fixture(autouse=True)
    def _none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(collectors, "_global", None)

    def test_the_ids_are_valid_and_shared_within_a_trace(self) -> None:
        with span_operation("outer") as outer, span_operation("inner") as inner:
            inner.record("k", 1)
            assert not inner.is_recording
            assert int(outer.trace_id, 16) >> 64
            assert outer.trace_id == inner.trace_id
            assert current_span() is inner
            assert bridge.parse_traceparent(inner.traceparent) is not None

    def test_exceptions_pass(self) -> None:
        with pytest.raises(ValueError, match="no"), span_operation("load") as span:
            raise ValueError("no")
        assert span.status == "error"


class TestNothingReachesTheProgram:
    def test_a_closed_collector_stops_no_span(self, collector: Collector) -> None:
        collector.close()
        with span_operation("load") as span:
            assert int(span.trace_id, 16)

    def test_a_collector_closed_in_between_stops_no_span(self, collector: Collector) -> None:
        with span_operation("load") as span:
            collector.close()
        assert span.duration_us is not None

    def test_a_name_that_is_no_text_stops_no_span(self, collector: Collector) -> None:
        with span_operation(7):  # type: ignore[arg-type]
            pass
        assert collector.losses().errors >= 1

    def test_a_key_that_is_no_text_becomes_text(self, collector: Collector) -> None:
        with span_operation("load") as span:
            span.record(7, 1)  # type: ignore[arg-type]
        assert ended(collector).payload.attributes == {"7": 1}

    def test_a_name_that_finds_no_room_is_kept_as_an_attribute(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Collector(size=1024) as small:
            monkeypatch.setattr(collectors, "_global", small)
            for number in range(200):
                with span_operation(f"{number} " + "x" * 1000):
                    pass
            last = named(small, "SpanEnded")[-1]
            name = attributes_of(small, last)["kobs.span.name"]
        assert name == "199 " + "x" * 1000

    def test_a_kind_that_there_is_not_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="kind='sever'"):
            span_grpc("a/b", kind="sever")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # xdist has threads
class TestFork:
    def test_a_span_is_ended_by_the_process_that_began_it(self, collector: Collector) -> None:
        reader, writer = os.pipe()
        with span_operation("before") as before:
            pid = os.fork()
            if not pid:  # The child leaves the block as the parent does, and works on.
                try:
                    before.__exit__(None, None, None)
                    said = [current_span().is_recording]
                    with span_operation("child's"):
                        pass
                    said += [e.payload.name for e in named(collector, "SpanBegan", "SpanEnded")]
                    os.write(writer, json.dumps(said).encode())
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            assert json.load(pipe) == [False, "child's", "child's"]
        assert len(named(collector, "SpanBegan", "SpanEnded")) == 2

    def test_inside_the_forked_child_the_span_is_still_the_parent(
        self, collector: Collector
    ) -> None:
        reader, writer = os.pipe()
        with span_operation("before") as before:
            pid = os.fork()
            if not pid:
                try:
                    with span_operation("child's") as span:
                        said = [span.trace_id]
                    began = named(collector, "SpanBegan")[0]
                    said += [f"{began.payload.parent_span:016x}"]
                    os.write(writer, json.dumps(said).encode())
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            trace_id, parent = json.load(pipe)
        assert (trace_id, parent) == (before.trace_id, before.span_id)


class TestSampling:
    def test_a_chain_that_is_left_out_writes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Collector(size=64, sampling=0) as none:
            monkeypatch.setattr(collectors, "_global", none)
            with span_operation("outer") as outer, span_operation("inner") as inner:
                assert not outer.is_recording
                assert inner.trace_id == outer.trace_id
                assert outer.traceparent.endswith("-02")
            assert none.snapshot() == []
            assert none.losses().sampled_out == 4

    def test_what_is_slow_is_kept_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Collector(size=64, sampling=0) as none:
            monkeypatch.setattr(collectors, "_global", none)
            with span_operation("load", slow_ms=0):
                pass
            (slow,) = none.snapshot()
        assert slow.type_name == "OperationSlow"
        assert slow.partial


class TestLinks:
    def test_a_link_is_a_record_of_the_span(self, collector: Collector) -> None:
        with span_operation("first") as first:
            pass
        with span_operation("second") as second:
            second.add_link(first, reason="batch")
            second.add_link("nonsense")
        (link,) = named(collector, "SpanLinked")
        assert f"{link.payload.linked_span:016x}" == first.span_id
        assert f"{link.payload.trace_high:016x}{link.payload.trace_low:016x}" == first.trace_id
        assert link.payload.attributes == {"reason": "batch"}
        assert f"{link.span_id:016x}" == second.span_id


class TestTraceIds:
    def test_they_are_32_digits_and_the_recordings(self, collector: Collector) -> None:
        made = {generate_trace_id() for _ in range(100)}
        assert len(made) == 100
        assert {len(one) for one in made} == {32}
        assert {int(one, 16) >> 64 for one in made} == {collector.ring.trace_high}
        assert all(int(one[16:], 16) for one in made)
