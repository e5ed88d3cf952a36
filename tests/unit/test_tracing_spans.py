"""Spans: what they write into the ring, what is current inside them, what survives them."""

import asyncio
import contextvars
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

import kobs
from kobs import Collector, bridge, collector as collectors
from kobs.context import Cause, causal_context, cause
from kobs.errors import ConfigError, ObserveError
from kobs.events import FLAG_BEGIN, FLAG_END, Event
from kobs.payloads import MetricUpdate
from kobs.tracing import (
    Span,
    SpanError,
    current_span,
    emit_from_span,
    generate_trace_id,
    set_slow_thresholds,
    span_grpc,
    span_operation,
    span_syscall,
)
from kobs.tracing.records import INCOMPLETE, MAX_VALUE, OVERFLOW, join_attributes


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector(size=1024, sampling=100) as made:
        monkeypatch.setattr(collectors, "_global", made)
        yield made


@pytest.fixture(autouse=True)
def outside_any_chain() -> Iterator[None]:
    token = cause.set(None)
    yield
    cause.reset(token)


@pytest.fixture(autouse=True)
def default_thresholds() -> Iterator[tuple[float, float]]:
    """Nothing is slow here unless a test says so, however busy the machine is."""
    before = set_slow_thresholds(syscall_ms=1e9, operation_ms=1e9)
    yield before
    set_slow_thresholds(syscall_ms=before[0], operation_ms=before[1])


def named(collector: Collector, *types: str) -> list[Event]:
    return [event for event in collector.snapshot() if event.type_name in types]


def ended(collector: Collector) -> Event:
    (event,) = named(collector, "SpanEnded")
    return event


def attributes_of(collector: Collector, end: Event) -> dict[str, object]:
    records = [
        (event.payload.index, event.payload.data)
        for event in named(collector, "SpanAttributes")
        if event.parent == end.parent
    ]
    return join_attributes(end.payload.attributes, records)


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


class TestAttributes:
    VALUES = {
        "text": "é\n\"", "int": 7, "float": 1.0, "bool": True, "none": None,
        "list": [1, 2.5, "x"], "bytes": b"\x00\xff", "nested": {"a": [True]},
        "negative": -(1 << 62), "big": 1 << 70,
    }  # fmt: skip

    @pytest.mark.parametrize("key", VALUES)
    def test_types_are_kept(self, collector: Collector, key: str) -> None:
        with span_operation("load") as span:
            span.record(key, self.VALUES[key])
        value = attributes_of(collector, ended(collector))[key]
        assert value == self.VALUES[key]
        assert type(value) is type(self.VALUES[key])

    def test_all_of_them_are_kept_though_they_do_not_fit(self, collector: Collector) -> None:
        with span_operation("load") as span:
            for key, value in self.VALUES.items():
                span.record(key, value)
            span.record("long", "x" * 5000)
        end = ended(collector)
        assert end.payload.attributes[OVERFLOW] == len(named(collector, "SpanAttributes"))
        assert attributes_of(collector, end) == {**self.VALUES, "long": "x" * 5000}

    @pytest.mark.parametrize("size", [*range(60, 125), 1000])
    def test_no_length_is_cut(self, collector: Collector, size: int) -> None:
        with span_operation("load") as span:
            span.record("a", "y" * size).record("b.c", 1)
        assert attributes_of(collector, ended(collector)) == {"a": "y" * size, "b.c": 1}
        assert not ended(collector).truncated

    @pytest.mark.parametrize(
        "text", ['"' * 40, "\x00" * 16, "é" * 17, "\U0001f600" * 8, "a b" * 30]
    )
    def test_text_that_grows_when_it_is_written_is_kept(
        self, collector: Collector, text: str
    ) -> None:
        with span_operation("load") as span:
            span.record("k", text).record(text, 1)
        assert attributes_of(collector, ended(collector)) == {"k": text, text: 1}

    def test_a_lost_record_is_noticed(self, collector: Collector) -> None:
        with span_operation("load") as span:
            span.record("short", 1).record("long", "x" * 500)
        end = ended(collector)
        some = [(e.payload.index, e.payload.data) for e in named(collector, "SpanAttributes")][1:]
        assert join_attributes(end.payload.attributes, some) == {"short": 1, INCOMPLETE: True}

    def test_a_value_of_more_than_64_kilobytes_is_cut_and_counted(
        self, collector: Collector
    ) -> None:
        with span_operation("load") as span:
            span.record("long", "x" * (MAX_VALUE + 1))
        kept = attributes_of(collector, ended(collector))
        assert kept == {"long": "x" * MAX_VALUE, "kobs.attributes.cut": 1}

    @pytest.mark.parametrize(
        ("value", "kept"),
        [
            (b"x" * MAX_VALUE, b"x" * (MAX_VALUE // 4 * 3)),
            (["y" * 60_000, "z" * 60_000], ["y" * 60_000]),
            ({"a": "y" * 60_000, "b": "z" * 60_000}, {"a": "y" * 60_000}),
        ],
    )
    def test_so_is_one_that_is_no_text(
        self, collector: Collector, value: object, kept: object
    ) -> None:
        with span_operation("load") as span:
            span.record("long", value)
        known = attributes_of(collector, ended(collector))
        assert known == {"long": kept, "kobs.attributes.cut": 1}

    def test_the_last_value_of_a_key_stays(self, collector: Collector) -> None:
        with span_operation("load") as span:
            span.record("k", 1).record("k", 2)
        assert ended(collector).payload.attributes == {"k": 2}

    def test_a_recorded_list_is_a_copy(self, collector: Collector) -> None:
        rows = [1]
        with span_operation("load") as span:
            span.record("rows", rows)
            rows.append(2)
        assert ended(collector).payload.attributes == {"rows": [1]}

    def test_a_value_without_text_breaks_nothing(self, collector: Collector) -> None:
        class Broken:
            def __str__(self) -> str:
                raise ValueError

        with span_operation("load") as span:
            span.record("k", Broken())
        assert "Broken" in str(ended(collector).payload.attributes["k"])

    def test_a_list_that_holds_itself_breaks_nothing(self, collector: Collector) -> None:
        rows: list[object] = []
        rows.append(rows)
        with span_operation("load") as span:
            span.record("rows", rows)
        assert "rows" in attributes_of(collector, ended(collector))

    def test_what_is_recorded_after_the_end_is_ignored(self, collector: Collector) -> None:
        with span_operation("load") as span:
            pass
        span.record("late", 1).record_error("late")
        assert ended(collector).payload.attributes == {}
        assert span.status == "unset"

    def test_the_named_ones(self, collector: Collector) -> None:
        with span_operation("load") as span:
            span.record_return(3).record_args_count(2).record_items_processed(9)
        assert attributes_of(collector, ended(collector)) == {
            "kobs.return": 3, "kobs.args_count": 2, "kobs.items_processed": 9,
        }  # fmt: skip


class TestStatus:
    @pytest.mark.parametrize(
        ("result", "status"),
        [
            (True, "ok"),
            (False, "error"),
            (kobs.SyscallResult.SUCCESS, "ok"),
            (kobs.SyscallResult.ERROR, "error"),
            ("done", "unset"),
            (0, "unset"),
        ],
    )
    def test_a_result_sets_it(self, collector: Collector, result: object, status: str) -> None:
        with span_operation("load") as span:
            span.record_result(result)
        assert ended(collector).payload.status == status

    def test_an_exception_is_an_error_and_goes_on_untouched(self, collector: Collector) -> None:
        error = KeyError("gone")
        with pytest.raises(KeyError) as caught, span_operation("load"):
            raise error
        assert caught.value is error
        end = ended(collector)
        assert end.payload.status == "error"
        kept = attributes_of(collector, end)
        assert kept["exception.type"] == "KeyError"
        assert kept["exception.message"] == "'gone'"
        assert "test_an_exception_is_an_error" in str(kept["exception.stacktrace"])

    def test_an_error_told_in_words(self, collector: Collector) -> None:
        with span_operation("load") as span:
            span.record_error("no such row")
        end = ended(collector)
        assert end.payload.status == "error"
        assert end.payload.attributes == {"error.message": "no such row"}

    def test_leaving_in_good_order_is_no_error(self, collector: Collector) -> None:
        with pytest.raises(SystemExit), span_operation("load"):
            raise SystemExit(0)
        assert ended(collector).payload.status == "unset"

    def test_an_exception_with_a_broken_message_breaks_nothing(self, collector: Collector) -> None:
        class Broken(Exception):
            def __str__(self) -> str:
                raise ValueError

        with pytest.raises(Broken), span_operation("load"):
            raise Broken
        assert ended(collector).payload.status == "error"

    def test_a_recursion_error_is_told_with_frames_left_out(self, collector: Collector) -> None:
        def deeper() -> None:
            deeper()

        with pytest.raises(RecursionError), span_operation("load"):
            deeper()
        stack = str(attributes_of(collector, ended(collector))["exception.stacktrace"])
        assert "frames left out" in stack
        assert len(stack.splitlines()) < 80


class TestSlow:
    def test_a_slow_operation_is_told(self, collector: Collector) -> None:
        with span_operation("load", slow_ms=0) as span:
            pass
        (slow,) = named(collector, "OperationSlow")
        began = named(collector, "SpanBegan")[0]
        assert slow.severity.name == "WARN"
        assert slow.parent == began.id
        assert slow.payload.operation == "load"
        assert slow.payload.duration_ms == pytest.approx((span.duration_us or 0) / 1000)

    def test_a_warning_is_logged_where_the_program_has_a_log(
        self, collector: Collector, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level("WARNING", "kobs.tracing"), span_operation("load", slow_ms=0):
            pass
        (record,) = caplog.records
        assert record.getMessage().startswith("operation load took ")
        assert record.levelname == "WARNING"

    def test_no_warning_goes_to_standard_error_by_itself(self) -> None:
        code = (
            "from kobs import Collector, init_collector, span_syscall\n"
            "init_collector(Collector(size=16))\n"
            "with span_syscall('read', slow_ms=0): pass\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert (done.stdout, done.stderr) == (b"", b"")

    def test_a_slow_system_call_is_told(self, collector: Collector) -> None:
        with span_syscall("read", 42, slow_ms=0):
            pass
        (slow,) = named(collector, "SyscallSlow")
        assert (slow.pid, slow.payload.name, slow.payload.threshold_ms) == (42, "read", 0.0)

    def test_a_quick_one_is_not(self, collector: Collector) -> None:
        with span_operation("load"), span_syscall("read"):
            pass
        assert named(collector, "OperationSlow", "SyscallSlow") == []

    def test_thresholds_are_set_for_all(self, collector: Collector) -> None:
        set_slow_thresholds(syscall_ms=0, operation_ms=0)
        with span_operation("load"), span_syscall("read"):
            pass
        assert len(named(collector, "OperationSlow", "SyscallSlow")) == 2

    def test_they_are_10_and_100_milliseconds(
        self, default_thresholds: tuple[float, float]
    ) -> None:
        assert default_thresholds == (10.0, 100.0)

    def test_a_bad_threshold_is_refused_by_name(self) -> None:
        with pytest.raises(ConfigError, match="operation_ms=-1"):
            set_slow_thresholds(operation_ms=-1)


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


class TestDecorators:
    def test_every_call_is_a_span(self, collector: Collector) -> None:
        @span_operation("add")
        def add(a: int, b: int = 1) -> int:
            """Adds."""
            current_span().record("a", a)
            return a + b

        assert (add(1), add(2, b=3)) == (2, 5)
        assert (add.__name__, add.__doc__) == ("add", "Adds.")
        ends = named(collector, "SpanEnded")
        assert [end.payload.attributes for end in ends] == [{"a": 1}, {"a": 2}]
        assert ends[0].causality_id != ends[1].causality_id

    def test_recursion_nests(self, collector: Collector) -> None:
        @span_operation("down")
        def down(depth: int) -> None:
            if depth:
                down(depth - 1)

        down(2)
        begins = named(collector, "SpanBegan")
        assert [b.payload.parent_span for b in begins] == [0, begins[0].span_id, begins[1].span_id]

    def test_methods_of_every_kind(self, collector: Collector) -> None:
        class Store:
            @span_operation("get")
            def get(self) -> str:
                return type(self).__name__

            @span_operation("make")
            @classmethod
            def make(cls) -> "Store":
                return cls()

            @staticmethod
            @span_operation("size")
            def size() -> int:
                return 1

        assert Store.make().get() == "Store"
        assert Store.size() == 1
        assert [e.payload.name for e in named(collector, "SpanEnded")] == ["make", "get", "size"]

    def test_a_class_is_refused(self) -> None:
        with pytest.raises(ObserveError, match="decorate the methods"):
            span_operation("x")(int)

    def test_coroutine_functions_stay_ones(self, collector: Collector) -> None:
        @span_operation("fetch")
        async def fetch() -> Span:
            await asyncio.sleep(0)
            return current_span()

        async def both() -> tuple[Span, Span]:
            return await asyncio.gather(fetch(), fetch())

        assert asyncio.iscoroutinefunction(fetch)
        first, second = asyncio.run(both())
        assert first.span_id != second.span_id
        assert all(event.parent for event in named(collector, "SpanEnded"))

    def test_async_with(self, collector: Collector) -> None:
        async def run() -> None:
            async with span_operation("outer") as outer:
                await asyncio.sleep(0)
                assert current_span() is outer

        asyncio.run(run())
        assert len(named(collector, "SpanEnded")) == 1

    def test_tasks_begun_inside_are_children(self, collector: Collector) -> None:
        async def child() -> None:
            with span_operation("child"):
                await asyncio.sleep(0)

        async def run() -> None:
            with span_operation("parent"):
                await asyncio.gather(child(), child())

        asyncio.run(run())
        parent, *children = named(collector, "SpanBegan")
        assert {c.payload.parent_span for c in children} == {parent.span_id}

    def test_cancellation_is_an_error_and_goes_on(self, collector: Collector) -> None:
        async def run() -> None:
            @span_operation("wait")
            async def wait() -> None:
                await asyncio.Event().wait()

            task = asyncio.create_task(wait())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(run())
        assert ended(collector).payload.status == "error"


class TestGenerators:
    def test_the_span_is_current_only_in_the_generators_code(self, collector: Collector) -> None:
        @span_operation("rows")
        def rows() -> Iterator[Span]:
            yield current_span()
            yield current_span()

        steps = rows()
        assert named(collector, "SpanBegan") == []
        first = next(steps)
        assert first.name == "rows"
        assert not current_span().is_recording
        with span_operation("consumer") as consumer:
            assert next(steps) is first
            assert current_span() is consumer
        assert list(steps) == []
        names = [event.payload.name for event in named(collector, "SpanEnded")]
        assert names == ["consumer", "rows"]

    def test_send_throw_and_return_go_through(self, collector: Collector) -> None:
        @span_operation("talk")
        def talk() -> "Iterator[object]":
            got = yield "ready"
            try:
                yield got
            except KeyError:
                yield "caught"
            return "done"  # type: ignore[return-value]

        steps = talk()
        assert next(steps) == "ready"
        assert steps.send(3) == 3  # type: ignore[attr-defined]
        assert steps.throw(KeyError("x")) == "caught"  # type: ignore[attr-defined]
        with pytest.raises(StopIteration) as stop:
            next(steps)
        assert stop.value.value == "done"
        assert ended(collector).payload.status == "unset"

    def test_closing_ends_the_span_without_error(self, collector: Collector) -> None:
        @span_operation("rows")
        def rows() -> Iterator[int]:
            yield 1

        steps = rows()
        next(steps)
        steps.close()  # type: ignore[attr-defined]
        assert ended(collector).payload.status == "unset"
        assert collector.open_events() == []

    def test_an_error_inside_ends_it_with_error(self, collector: Collector) -> None:
        @span_operation("rows")
        def rows() -> Iterator[int]:
            yield 1
            raise ValueError("bad row")

        with pytest.raises(ValueError, match="bad row"):
            list(rows())
        assert ended(collector).payload.status == "error"

    def test_async_generators(self, collector: Collector) -> None:
        @span_operation("rows")
        async def rows() -> AsyncIterator[Span]:
            yield current_span()
            await asyncio.sleep(0)
            yield current_span()

        async def run() -> None:
            seen = []
            async for span in rows():
                assert not current_span().is_recording
                seen.append(span)
            assert seen[0] is seen[1]
            assert seen[0].name == "rows"

        asyncio.run(run())
        assert ended(collector).payload.status == "unset"

    def test_an_async_generator_that_is_closed(self, collector: Collector) -> None:
        @span_operation("rows")
        async def rows() -> AsyncIterator[int]:
            yield 1

        async def run() -> None:
            steps = rows()
            await anext(steps)
            await steps.aclose()  # type: ignore[attr-defined]

        asyncio.run(run())
        assert ended(collector).payload.status == "unset"


class TestTraceIds:
    def test_they_are_32_digits_and_the_recordings(self, collector: Collector) -> None:
        made = {generate_trace_id() for _ in range(100)}
        assert len(made) == 100
        assert {len(one) for one in made} == {32}
        assert {int(one, 16) >> 64 for one in made} == {collector.ring.trace_high}
        assert all(int(one[16:], 16) for one in made)
