"""What a program may do wrong with a tracer of `kobs.tracing.TracerProvider`: its spans end, its
errors stay its own, and what it set is exported as the SDK would."""

import sys
import traceback
from collections.abc import Iterator
from http import HTTPMethod, HTTPStatus
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from kobs._core import select
from kobs.context import cause
from kobs.tracing import SpanError, TracerProvider, runtime_context, tracer as tracers
from kobs.tracing.open_spans import all_open_spans
from kobs.tracing.span import WrittenSpan, make_span

PROCESSORS = {"simple": SimpleSpanProcessor, "batch": BatchSpanProcessor}

NO_ROOM = 1 if select().name == "c" else 5
"""How many of the deepest spans may find no room on the stack to be recorded."""


@pytest.fixture(autouse=True)
def outside_any_chain() -> Iterator[None]:
    token = cause.set(None)
    runtime_context.place()
    yield
    runtime_context.remove()
    cause.reset(token)


@pytest.fixture(params=["written", pytest.param("native", marks=pytest.mark.c_core)], autouse=True)
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "written":
        monkeypatch.setattr(tracers, "make_span", WrittenSpan)
    elif make_span is WrittenSpan:
        pytest.skip("the Python core was asked for")
    return str(request.param)


class Told:
    """A tracer, and what the exporter behind it got."""

    def __init__(self, processor: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(processor(self.exporter))
        self.tracer = self.provider.get_tracer("edges")

    def open(self) -> list[str]:
        """The names of the spans that are open, and kept for that."""
        own = self.provider.collector
        return [span.name for span in all_open_spans() if span._collector is own]

    def spans(self) -> list[ReadableSpan]:
        self.provider.force_flush()
        assert self.provider.collector.open_events() == []
        assert self.open() == []
        assert not trace.get_current_span().get_span_context().is_valid
        return list(self.exporter.get_finished_spans())


@pytest.fixture(params=PROCESSORS)
def told(request: pytest.FixtureRequest) -> Iterator[Told]:
    made = Told(PROCESSORS[request.param])
    yield made
    made.provider.shutdown()


class TestErrors:
    def test_an_error_that_has_no_text_stays_the_programs(self, told: Told) -> None:
        class Silent(Exception):
            def __str__(self) -> str:
                raise KeyError("text")

        with pytest.raises(Silent), told.tracer.start_as_current_span("load"):
            raise Silent
        (span,) = told.spans()
        assert span.status.status_code is StatusCode.ERROR
        assert "Silent" in str(span.status.description)
        assert [event.name for event in span.events] == ["exception"]

    def test_an_endless_recursion_ends_all_spans(self, told: Told) -> None:
        before, depth = sys.getrecursionlimit(), len(traceback.extract_stack())
        begun = 0

        def deeper() -> None:
            nonlocal begun
            with told.tracer.start_as_current_span("deeper"):
                begun += 1
                deeper()

        sys.setrecursionlimit(depth + 100)
        try:
            with pytest.raises(RecursionError):
                deeper()
        finally:
            sys.setrecursionlimit(before)
        spans = told.spans()
        assert len(spans) >= begun - NO_ROOM > 10
        assert {span.status.status_code for span in spans[-10:]} == {StatusCode.ERROR}

    def test_a_context_manager_that_is_open_is_not_entered_again(self, told: Told) -> None:
        manager = told.tracer.start_as_current_span("load")
        with manager, pytest.raises(SpanError, match="open already"):
            manager.__enter__()
        assert [span.name for span in told.spans()] == ["load"]

    def test_a_span_that_an_error_left_is_kept_by_nobody(self, told: Told) -> None:
        with pytest.raises(ValueError, match="no"), told.tracer.start_as_current_span("load"):
            raise ValueError("no")
        assert told.open() == []

    def test_a_span_that_ends_later_is_kept_by_nobody(self, told: Told) -> None:
        with told.tracer.start_as_current_span("load", end_on_exit=False) as span:
            pass
        assert told.open() == ["load"]
        span.end()
        assert told.open() == []


class TestWhatIsSet:
    def test_a_member_of_an_enumeration_is_the_text_or_number_that_it_is(self, told: Told) -> None:
        with told.tracer.start_as_current_span("load") as span:
            span.set_attribute("status", HTTPStatus.NOT_FOUND)
            span.set_attributes({"methods": [HTTPMethod.GET], "status2": HTTPStatus.OK})
            span.add_event("sent", {"status": HTTPStatus.OK})
        (ended,) = told.spans()
        assert ended.attributes == {"status": 404, "methods": ("GET",), "status2": 200}
        assert ended.events[0].attributes == {"status": 200}

    @pytest.mark.parametrize("name", [None, 5])
    def test_a_name_that_is_no_text_becomes_text(self, told: Told, name: Any) -> None:
        told.tracer.start_span(name).end()
        with told.tracer.start_as_current_span(name) as span:
            span.update_name(name)
        assert [span.name for span in told.spans()] == [str(name)] * 2

    def test_a_kind_that_there_is_not_is_internal(
        self, told: Told, caplog: pytest.LogCaptureFixture
    ) -> None:
        kind: Any = "server"
        with told.tracer.start_as_current_span("load", kind=kind):
            pass
        (span,) = told.spans()
        assert span.kind is SpanKind.INTERNAL
        assert "'server'" in caplog.text

    def test_times_of_floats_are_nanoseconds_all_the_same(self, told: Told) -> None:
        began: Any = 1.5e18
        span = told.tracer.start_span("load", start_time=began)
        span.add_event("sent", timestamp=began + 1000)
        span.end(began + 2000)
        (ended,) = told.spans()
        times = [ended.start_time, ended.events[0].timestamp, ended.end_time]
        assert times == [int(began), int(began + 1000), int(began + 2000)]
        assert {type(time) for time in times} == {int}

    def test_a_time_that_is_none_begins_no_span(self, told: Told) -> None:
        time: Any = "noon"
        with pytest.raises(TypeError, match="start_time='noon'"):
            told.tracer.start_span("load", start_time=time)
        assert told.spans() == []
