"""`kobs.tracing.TracerProvider` beside the SDK's: the same program, the same spans.

Each scenario runs over both providers, and what their processors get is compared; a difference
that is meant is in docs/reference/opentelemetry-differences.md.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import opentelemetry.context as otel_context
import opentelemetry.sdk.trace as sdk_trace
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    TracerProvider as SdkProvider,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kobs import Collector
from kobs.context import cause
from kobs.tracing import TracerProvider, runtime_context, span_operation, tracer as tracers
from kobs.tracing.span import WrittenSpan, make_span

Provider = Any
Scenario = Callable[[Provider], Any]

REMOTE = SpanContext(
    (7 << 64) | 9, 11, True, TraceFlags(0x03), TraceState([("vendor", "1"), ("b", "x" * 180)])
)
UNSAMPLED = SpanContext(5 << 64 | 6, 12, True, TraceFlags(0x02))


class Counting(IdGenerator):
    """Ids that are the same in every run; the low half of every second trace id is zero."""

    def __init__(self) -> None:
        self._span = itertools.count(0x100)
        self._trace = itertools.count(1)

    def generate_span_id(self) -> int:
        return next(self._span)

    def generate_trace_id(self) -> int:
        number = next(self._trace)
        return number << 64 if number % 2 else number << 64 | number

    def is_trace_id_random(self) -> bool:
        return False


class Renaming(Sampler):
    """A sampler that looks, adds attributes and changes the tracestate."""

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, kind: Any = None,
        attributes: Any = None, links: Any = None, trace_state: Any = None,
    ) -> SamplingResult:  # fmt: skip
        decision = {"d": Decision.DROP, "r": Decision.RECORD_ONLY}.get(
            name[0], Decision.RECORD_AND_SAMPLE
        )
        state = TraceState([("by", name)])
        return SamplingResult(decision, {**(attributes or {}), "sampled.by": name}, state)

    def get_description(self) -> str:
        return "Renaming"


class Watching(SpanProcessor):
    """A processor that looks at spans as they begin and end."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self.exporter = exporter
        self.said: list[Any] = []

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        span.set_attribute("seen", len(self.said))
        self.said.append(("start", span.name, span.is_recording(), dict(span.attributes)))

    def _on_ending(self, span: Any) -> None:
        self.said.append(("ending", span.name, span.end_time is not None))

    def on_end(self, span: ReadableSpan) -> None:
        self.said.append(("end", span.name, type(span) is ReadableSpan))
        self.exporter.export((span,))


PROCESSORS: dict[str, Callable[[InMemorySpanExporter], SpanProcessor]] = {
    "simple": SimpleSpanProcessor,
    "batch": BatchSpanProcessor,
    "watching": Watching,
}


def told(span: ReadableSpan) -> dict[str, Any]:
    """All that a span says, but for the times and the frames of the stack."""

    def ids(context: Any) -> Any:
        if context is None:
            return None
        flags = int(context.trace_flags)
        state = context.trace_state.to_header()
        return (context.trace_id, context.span_id, context.is_remote, flags, state)

    def attributes(given: Any) -> dict[str, Any]:
        known = dict(given or {})
        if "exception.stacktrace" in known:
            known["exception.stacktrace"] = known["exception.stacktrace"].splitlines()[-1]
        return known

    assert span.start_time is not None
    assert span.end_time is not None
    return {
        "name": span.name,
        "context": ids(span.context),
        "parent": ids(span.parent),
        "kind": span.kind,
        "attributes": attributes(span.attributes),
        "events": [(e.name, attributes(e.attributes), e.dropped_attributes) for e in span.events],
        "links": [(ids(k.context), dict(k.attributes or {})) for k in span.links],
        "status": (span.status.status_code, span.status.description),
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "scope": span.instrumentation_scope,
        "resource": dict(span.resource.attributes),
        "given times": [t for t in (span.start_time, span.end_time) if t < 10**9],
    }


# -- what a program does --------------------------------------------------------------------------


def nested(provider: Provider) -> None:
    tracer = provider.get_tracer("shop", "1.0", "https://schema", {"team": "a"})
    with tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
        assert trace.get_current_span() is outer
        with tracer.start_as_current_span("inner", attributes={"rows": 5}) as inner:
            assert trace.get_current_span() is inner
            inner.set_attribute("more", (1, 2))
        assert trace.get_current_span() is outer
        apart = tracer.start_span("apart")
        assert trace.get_current_span() is outer
        apart.end()
    tracer.start_span("root of its own").end()
    assert provider.get_tracer("shop", "1.0", "https://schema", {"team": "a"}) is tracer


def set_things(provider: Provider) -> list[Any]:
    span = provider.get_tracer("t").start_span("first")
    span.set_attribute("text", "é")
    span.set_attribute("none", None)
    span.set_attributes({"raw": b"\x00\xff", "nested": {"a": [1, "b"]}, "big": 1 << 40, "f": 1.5})
    span.set_attribute("", "no key")
    span.set_attribute("object", object)
    span.set_attribute("text", "again")
    span.add_event("half", {"at": 0.5, "list": ["a"]}, timestamp=123)
    span.update_name("second")
    said = [dict(span.attributes)["text"], span.name, span.is_recording(), len(span.events)]
    span.end()
    span.set_attribute("late", 1)
    span.add_event("late")
    span.update_name("late")
    span.set_status(StatusCode.OK)
    span.end()
    return [*said, span.is_recording(), span.name, dict(span.attributes)["text"]]


def statuses(provider: Provider) -> list[Any]:
    tracer = provider.get_tracer("t")
    said = []
    for steps in (
        [Status(StatusCode.ERROR, "bad"), StatusCode.OK, StatusCode.ERROR],
        [Status(StatusCode.ERROR, "bad"), Status(StatusCode.ERROR, "worse")],
        [StatusCode.ERROR, StatusCode.UNSET],
        [StatusCode.OK],
    ):
        with tracer.start_as_current_span("status") as span:
            for step in steps:
                span.set_status(step)
            said.append((span.status.status_code, span.status.description))
    return said


def failures(provider: Provider) -> None:
    tracer = provider.get_tracer("t")
    for arguments in (
        {},
        {"record_exception": False},
        {"set_status_on_exception": False},
        {"end_on_exit": False},
    ):
        with (
            pytest.raises(ValueError, match="no"),
            tracer.start_as_current_span("fails", **arguments) as span,
        ):
            raise ValueError("no")
        if span.is_recording():
            span.end()
    with pytest.raises(KeyError), tracer.start_span("entered itself"):
        raise KeyError("x")
    with pytest.raises(KeyboardInterrupt), tracer.start_as_current_span("no Exception"):
        raise KeyboardInterrupt
    with (
        pytest.raises(LookupError),
        tracer.start_as_current_span("outer"),
        tracer.start_as_current_span("inner"),
    ):
        raise LookupError("passes both")
    assert not trace.get_current_span().get_span_context().is_valid


def parents(provider: Provider) -> None:
    tracer = provider.get_tracer("t")
    remote = trace.set_span_in_context(NonRecordingSpan(REMOTE))
    with tracer.start_as_current_span("below a remote one", context=remote):
        tracer.start_span("below that").end()
        sent: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(sent)
        assert sent["traceparent"].startswith(f"00-{REMOTE.trace_id:032x}-")
        assert sent["traceparent"].endswith("-03")
        assert sent["tracestate"] == REMOTE.trace_state.to_header()
        tracer.start_span("a new root", context=Context()).end()
    token = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(UNSAMPLED)))
    with tracer.start_as_current_span("unsampled") as span:
        assert not span.is_recording()
        assert isinstance(span, NonRecordingSpan)
        assert not span.get_span_context().trace_flags.sampled
        with tracer.start_as_current_span("unsampled too") as inner:
            assert not inner.get_span_context().trace_flags.sampled
    otel_context.detach(token)
    invalid = trace.set_span_in_context(NonRecordingSpan(SpanContext(0, 0, False)))
    tracer.start_span("below nothing", context=invalid).end()


def links(provider: Provider) -> None:
    tracer = provider.get_tracer("t")
    span = tracer.start_span("linked", links=[Link(REMOTE, {"why": "x" * 200}), Link(UNSAMPLED)])
    span.add_link(REMOTE, {"again": True})
    span.add_link(SpanContext(0, 0, False))
    span.end()


def times(provider: Provider) -> None:
    tracer = provider.get_tracer("t")
    tracer.start_span("given", start_time=123).end(456)
    with tracer.start_as_current_span("given too", start_time=789) as span:
        span.end(999)


def decorated(provider: Provider) -> None:
    tracer = provider.get_tracer("t")

    @tracer.start_as_current_span("sync")
    def work(number: int) -> int:
        with tracer.start_as_current_span("inside"):
            return number

    @tracer.start_as_current_span("async")
    async def wait() -> str:
        await asyncio.sleep(0)
        tracer.start_span("inside").end()
        return "done"

    assert [work(1), work(2)] == [1, 2]

    async def main() -> None:
        assert await wait() == "done"

    asyncio.run(main())


def limits(provider: Provider) -> Any:
    span = provider.get_tracer("t").start_span(
        "limited", attributes={f"k{n}": "x" * 20 for n in range(6)}, links=[Link(REMOTE)] * 4
    )
    for number in range(7):
        span.set_attribute(f"more{number}", number)
        span.add_event(f"e{number}", {f"a{n}": "y" * 20 for n in range(5)})
    said = (len(span.attributes), len(span.events), len(span.links), span.dropped_events)
    span.end()
    return said


def sampled(provider: Provider) -> list[Any]:
    tracer = provider.get_tracer("t")
    said = []
    for name in ("drop", "record only", "keep"):
        with tracer.start_as_current_span(name, attributes={"rows": 1}) as span:
            context = span.get_span_context()
            said.append((span.is_recording(), int(context.trace_flags), len(context.trace_state)))
            tracer.start_span(f"{name[0]} inside").end()
    return said


SMALL = SpanLimits(
    max_span_attributes=4, max_events=3, max_links=2, max_event_attributes=2,
    max_link_attributes=1, max_attribute_length=5, max_span_attribute_length=6,
)  # fmt: skip
SCENARIOS: dict[str, tuple[Scenario, dict[str, Any]]] = {
    "nested": (nested, {}),
    "things that are set": (set_things, {}),
    "statuses": (statuses, {}),
    "failures": (failures, {}),
    "parents": (parents, {}),
    "links": (links, {}),
    "times": (times, {}),
    "decorated": (decorated, {}),
    "limits": (limits, {"span_limits": SMALL}),
    "no limits": (limits, {"span_limits": SpanLimits(*[SpanLimits.UNSET] * 8)}),
    "a sampler that looks": (sampled, {"sampler": Renaming()}),
    "all dropped": (sampled, {"sampler": ALWAYS_OFF}),
    "none by ratio": (nested, {"sampler": ParentBased(TraceIdRatioBased(0.0))}),
    "all by ratio": (nested, {"sampler": TraceIdRatioBased(1.0)}),
    "a resource": (nested, {"resource": Resource({"service.name": "shop"})}),
}


@pytest.fixture(autouse=True)
def outside_any_chain() -> Iterator[None]:
    token = cause.set(None)
    runtime_context.place()
    yield
    runtime_context.remove()
    cause.reset(token)


@pytest.fixture(params=["written", pytest.param("native", marks=pytest.mark.c_core)])
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "written":
        monkeypatch.setattr(tracers, "make_span", WrittenSpan)
    elif make_span is WrittenSpan:
        pytest.skip("the Python core was asked for")
    return str(request.param)


def run(make: Any, processor: str, scenario: Scenario, options: dict[str, Any]) -> tuple[Any, Any]:
    exporter = InMemorySpanExporter()
    provider = make(shutdown_on_exit=False, id_generator=Counting(), **options)
    took = PROCESSORS[processor](exporter)
    provider.add_span_processor(took)
    try:
        answer = scenario(provider)
        provider.force_flush()
        spans = [told(span) for span in exporter.get_finished_spans()]
        return answer, (spans, getattr(took, "said", None))
    finally:
        provider.shutdown()


@pytest.mark.newest_sdk
@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_program_makes_the_same_spans(core: str, name: str, processor: str) -> None:
    scenario, options = SCENARIOS[name]
    expected = run(SdkProvider, processor, scenario, options)
    assert run(TracerProvider, processor, scenario, options) == expected


class TestOwnSpans:
    """What the SDK has no word for: kobs's own spans, its collector, its thread."""

    @pytest.fixture
    def provider(self, core: str) -> Iterator[TracerProvider]:
        made = TracerProvider(shutdown_on_exit=False)
        yield made
        made.shutdown()

    @pytest.mark.parametrize("processor", PROCESSORS)
    def test_they_come_out_with_the_others(self, provider: TracerProvider, processor: str) -> None:
        exporter = InMemorySpanExporter()
        provider.add_span_processor(PROCESSORS[processor](exporter))
        with (
            span_operation("own") as own,
            provider.get_tracer("t").start_as_current_span("traced") as traced,
            span_operation("inside"),
        ):
            traced.set_attribute("rows", 1)
        provider.force_flush()
        spans = {span.name: span for span in exporter.get_finished_spans()}
        assert spans.keys() == {"own", "traced", "inside"}
        assert len(exporter.get_finished_spans()) == 3
        parent = spans["traced"].parent
        assert parent is not None
        assert f"{parent.span_id:016x}" == own.span_id
        assert spans["inside"].parent is not None
        assert spans["inside"].parent.span_id == traced.get_span_context().span_id
        assert len({span.context.trace_id for span in spans.values() if span.context}) == 1
        assert spans["own"].instrumentation_scope is not None
        assert spans["own"].instrumentation_scope.name == "kobs"

    def test_they_are_within_the_limits(self, core: str) -> None:
        provider = TracerProvider(shutdown_on_exit=False, span_limits=SMALL)
        exporter = InMemorySpanExporter()
        provider.add_span_processor(BatchSpanProcessor(exporter))
        with span_operation("own") as own:
            for number in range(6):
                own.record(f"k{number}", "x" * 10)
        provider.force_flush()
        (span,) = exporter.get_finished_spans()
        provider.shutdown()
        kept = {key: value for key, value in (span.attributes or {}).items() if key[0] == "k"}
        assert kept == {f"k{number}": "x" * 6 for number in range(2, 6)}
        assert span.dropped_attributes == 2

    def test_a_provider_gets_no_span_of_another(self, provider: TracerProvider) -> None:
        other = TracerProvider(shutdown_on_exit=False)
        exporters = [InMemorySpanExporter(), InMemorySpanExporter()]
        for made, exporter in zip((provider, other), exporters, strict=True):
            made.add_span_processor(BatchSpanProcessor(exporter))
        with (
            provider.get_tracer("t").start_as_current_span("mine"),
            other.get_tracer("t").start_as_current_span("theirs"),
        ):
            pass
        for made in (provider, other):
            made.force_flush()
        names = [[span.name for span in e.get_finished_spans()] for e in exporters]
        assert names == [["mine"], ["theirs"]]
        other.shutdown()

    def test_without_a_processor_there_is_no_thread(self, provider: TracerProvider) -> None:
        with provider.get_tracer("t").start_as_current_span("x"):
            pass
        assert provider._pump is None

    def test_one_that_comes_late_sees_what_ends_later(self, provider: TracerProvider) -> None:
        tracer = provider.get_tracer("t")
        tracer.start_span("before").end()
        exporters = [InMemorySpanExporter(), InMemorySpanExporter()]
        with tracer.start_as_current_span("open") as span:
            span.set_attribute("rows", 1)
            provider.add_span_processor(BatchSpanProcessor(exporters[0]))
            provider.add_span_processor(SimpleSpanProcessor(exporters[1]))
        provider.force_flush()
        for exporter in exporters:
            (ended,) = exporter.get_finished_spans()
            assert (ended.name, dict(ended.attributes or {})) == ("open", {"rows": 1})

    def test_it_records_where_it_is_told_to(self) -> None:
        with Collector(size=64) as collector:
            provider = TracerProvider(collector=collector, shutdown_on_exit=False)
            with provider.get_tracer("t").start_as_current_span("x"):
                pass
            provider.shutdown()
            kinds = [event.type_name for event in collector.snapshot()]
        assert kinds == ["SpanBegan", "SpanDetailed", "SpanEnded"]

    def test_a_processor_that_raises_leaves_no_span_current(self, provider: TracerProvider) -> None:
        class Raising(SpanProcessor):
            def _on_ending(self, span: Any) -> None:
                raise ValueError("ending")

            def on_end(self, span: ReadableSpan) -> None:
                raise LookupError("end")

        provider.add_span_processor(Raising())
        tracer = provider.get_tracer("t")
        with pytest.raises(LookupError, match="end"), tracer.start_as_current_span("x"):
            pass
        assert not trace.get_current_span().get_span_context().is_valid
        assert cause.get() is None

    def test_after_shutdown_spans_disturb_nobody(self, provider: TracerProvider) -> None:
        exporter = InMemorySpanExporter()
        provider.add_span_processor(BatchSpanProcessor(exporter))
        tracer = provider.get_tracer("t")
        provider.shutdown()
        provider.shutdown()
        for start in (tracer.start_as_current_span, tracer.start_span):
            with start("late") as span:
                span.set_attribute("rows", 1)
                span.add_event("half")
        assert not exporter.get_finished_spans()

    def test_they_are_the_sdk_s_where_a_program_asks(self, provider: TracerProvider) -> None:
        tracer = provider.get_tracer("t")
        assert isinstance(provider, SdkProvider)
        assert isinstance(tracer, sdk_trace.Tracer)
        assert isinstance(tracer.start_span("load"), sdk_trace.Span)

    def test_tracers_can_be_switched_off_and_on(self, provider: TracerProvider) -> None:
        tracer, other = provider.get_tracer("off"), provider.get_tracer("on")

        class Config(NamedTuple):
            is_enabled: bool

        def configure(scope: Any) -> Config:
            return Config(scope.name != "off")

        with tracer.start_as_current_span("before"):
            pass
        provider._set_tracer_configurator(tracer_configurator=configure)
        with tracer.start_as_current_span("not") as span:
            assert not span.is_recording()
        with other.start_as_current_span("yes") as span:
            assert span.is_recording()
        provider._set_tracer_configurator(tracer_configurator=lambda _: Config(True))
        with tracer.start_as_current_span("again") as span:
            assert span.is_recording()

    def test_an_argument_that_there_is_not_is_refused(self) -> None:
        with pytest.raises(TypeError, match="sampling"):
            TracerProvider(sampling=1)
