"""OpenTelemetry's context and kobs's ambient cause are one, whichever tracer made a span."""

import asyncio
import contextvars
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import opentelemetry.context as otel_context
import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kobs import Collector, collector as collectors
from kobs.context import cause
from kobs.payloads import MetricUpdate
from kobs.tracing import Span, runtime_context, span_operation
from kobs.tracing.assembler import SpanAssembler
from kobs.tracing.finished import FinishedSpan
from kobs.tracing.span import WrittenSpan, make_span

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["written", pytest.param("native", marks=pytest.mark.c_core)])
def kind(request: pytest.FixtureRequest) -> Callable[..., Span]:
    """What makes the spans: Python, or C."""
    if request.param == "native" and make_span is WrittenSpan:
        pytest.skip("the Python core was asked for")
    return make_span if request.param == "native" else WrittenSpan


@pytest.fixture
def span(kind: Callable[..., Span]) -> Callable[[str], Span]:
    return lambda name: kind(name, "internal", 7, None, 1e9, None)


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    token = cause.set(None)
    with Collector(size=1024, sampling=100) as made:
        monkeypatch.setattr(collectors, "_global", made)
        with span_operation("first"):  # the others are recorded in C
            pass
        yield made
    cause.reset(token)
    runtime_context.remove()


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> trace.Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


def ids(span: Span) -> tuple[int, int]:
    return int(span.trace_id, 16), int(span.span_id, 16)


def current() -> tuple[int, int]:
    context = trace.get_current_span().get_span_context()
    return context.trace_id, context.span_id


def context_ids(context: Any) -> tuple[int, int]:
    return context.trace_id, context.span_id


def finished(collector: Collector) -> dict[str, FinishedSpan]:
    assembler = SpanAssembler(lambda recording: collector.ring.trace_high)
    spans = (assembler.observe(event) for event in collector.snapshot())
    return {span.name: span for span in spans if span is not None}


NOWHERE = (0, 0)


class TestInsideAKobsSpan:
    def test_it_is_the_current_span(self, span: Any) -> None:
        assert current() == NOWHERE
        with span("outer") as outer:
            assert current() == ids(outer)
            with span("inner") as inner:
                assert current() == ids(inner)
            assert current() == ids(outer)
            assert trace.get_current_span() is trace.get_current_span()
            assert isinstance(trace.get_current_span(), trace.Span)
        assert current() == NOWHERE

    def test_an_sdk_span_is_its_child(
        self, span: Any, tracer: trace.Tracer, exporter: InMemorySpanExporter
    ) -> None:
        with span("outer") as outer, tracer.start_as_current_span("sdk"):
            pass
        (sdk,) = exporter.get_finished_spans()
        assert sdk.parent is not None
        assert context_ids(sdk.parent) == ids(outer)
        assert sdk.context is not None
        assert sdk.context.trace_flags.sampled

    @pytest.mark.newest_sdk  # keeps bytes
    def test_what_is_set_on_it_is_recorded(self, span: Any, collector: Collector) -> None:
        with span("load") as load:
            seen = trace.get_current_span()
            seen.set_attribute("rows", 1)
            seen.set_attributes({"names": ["a", "b"], "raw": b"\0"})
            seen.add_event("half", {"at": 5})
            seen.record_exception(ValueError("no"))
            seen.set_status(trace.Status(trace.StatusCode.ERROR, "bad"))
            seen.add_link(trace.SpanContext(5, 6, True, trace.TraceFlags(3)), {"why": "x"})
            seen.update_name("renamed")
            assert seen.is_recording()
            assert load.record("own", 2).status == "error"
        assert not seen.is_recording()
        made = finished(collector)["renamed"]
        assert made.attributes == {
            "rows": 1, "names": ["a", "b"], "raw": b"\0", "own": 2, "error.type": "_OTHER",
        }  # fmt: skip
        assert [event.name for event in made.events] == ["half", "exception"]
        assert made.events[0].attributes == {"at": 5}
        assert made.events[1].attributes["exception.type"] == "ValueError"
        assert (made.status, made.status_description) == ("error", "bad")
        (link,) = made.links
        assert (link.trace_id, link.span_id, link.remote, link.flags) == (5, 6, True, 3)

    def test_it_has_the_properties_of_a_readable_span(self, span: Any) -> None:
        with span("outer") as outer, span("load") as load:
            seen: Any = trace.get_current_span()
            load.record("rows", [1, 2])
            seen.add_event("half", {"at": 5}, timestamp=7_000)
            assert (seen.name, seen.kind) == ("load", trace.SpanKind.INTERNAL)
            assert seen.attributes == {"rows": (1, 2)}
            assert context_ids(seen.context) == ids(load)
            assert context_ids(seen.parent) == ids(outer)
            assert seen.status.status_code is trace.StatusCode.UNSET
            assert [(e.name, e.timestamp, dict(e.attributes)) for e in seen.events] == [
                ("half", 7_000, {"at": 5})
            ]
            assert seen.links == ()
            assert seen.end_time is None
            assert seen.resource.attributes["service.name"]
            assert seen.instrumentation_scope.name == "kobs"
        assert seen.end_time >= seen.start_time
        assert seen.attributes == {"rows": (1, 2)}

    def test_ending_it_there_ends_it(self, span: Any, collector: Collector) -> None:
        with span("load") as load:
            seen = trace.get_current_span()
            seen.end()
            assert not seen.is_recording()
            assert load.duration_us is not None
            assert trace.get_current_span() is seen
        assert current() == NOWHERE
        assert [e.type_name for e in collector.snapshot()].count("SpanEnded") == 2

    def test_use_span_records_what_left_it(self, span: Any, collector: Collector) -> None:
        with span("load"):
            seen = trace.get_current_span()
            with pytest.raises(KeyError), trace.use_span(seen):
                raise KeyError("x")
        made = finished(collector)["load"]
        assert [event.name for event in made.events] == ["exception"]
        assert (made.status, made.status_description) == ("error", "KeyError: 'x'")


class TestInsideAnSdkSpan:
    def test_kobs_spans_and_events_are_its_children(
        self, span: Any, tracer: trace.Tracer, collector: Collector
    ) -> None:
        with tracer.start_as_current_span("sdk") as sdk:
            collector.emit(MetricUpdate("depth", 1.0))
            with span("inner"):
                pass
        event = next(e for e in collector.snapshot() if e.type_name == "MetricUpdate")
        trace_id, span_id = context_ids(sdk.get_span_context())
        assert event.causality_id == trace_id & (1 << 64) - 1
        assert event.span_id == span_id
        inner = finished(collector)["inner"]
        assert (inner.trace.trace_id, inner.parent_span) == (trace_id, span_id)
        assert cause.get() is None

    def test_an_unsampled_one_stops_export_never_capture(
        self, span: Any, collector: Collector
    ) -> None:
        provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
        with provider.get_tracer("x").start_as_current_span("sdk"), span("inner"):
            flags = trace.get_current_span().get_span_context().trace_flags
            assert not flags.sampled
        inner = finished(collector)["inner"]
        assert not inner.trace.exported

    def test_a_remote_parent_is_one_and_its_state_survives(
        self, span: Any, collector: Collector
    ) -> None:
        header = {
            "traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-03",
            "tracestate": "vendor=1,other=" + "x" * 200,
        }
        context = TraceContextTextMapPropagator().extract(header)
        token = otel_context.attach(context)
        with span("inner") as inner:
            sent: dict[str, str] = {}
            propagate.inject(sent)
            assert sent["traceparent"] == f"00-{'ab' * 16}-{inner.span_id}-03"
            assert sent["tracestate"] == header["tracestate"]
            assert inner.traceparent == sent["traceparent"]
        otel_context.detach(token)
        made = finished(collector)["inner"]
        assert made.parent_is_remote
        assert made.trace.state == header["tracestate"]
        assert made.flags == 3


class TestNesting:
    @pytest.mark.parametrize("order", ["kss", "ksk", "sks", "skks", "kksk", "sskk"])
    def test_every_order(
        self, order: str, span: Any, tracer: trace.Tracer, exporter: InMemorySpanExporter,
        collector: Collector,
    ) -> None:  # fmt: skip
        made: list[tuple[int, int]] = []

        def go(left: str, depth: int) -> None:
            if not left:
                return
            before = current()
            if left[0] == "k":
                with span(str(depth)) as own:
                    assert current() == ids(own)
                    made.append(ids(own))
                    go(left[1:], depth + 1)
                    assert current() == ids(own)
            else:
                with tracer.start_as_current_span(str(depth)) as other:
                    assert trace.get_current_span() is other
                    made.append(context_ids(other.get_span_context()))
                    go(left[1:], depth + 1)
                    assert trace.get_current_span() is other
            assert current() == before

        go(order, 0)
        parents = {name: kobs.parent_span for name, kobs in finished(collector).items()}
        for sdk in exporter.get_finished_spans():
            parents[sdk.name] = sdk.parent.span_id if sdk.parent else 0
        assert len({trace_id for trace_id, _ in made}) == 1
        assert [parents[str(depth)] for depth in range(len(order))] == [
            0, *(span_id for _, span_id in made[:-1]),
        ]  # fmt: skip
        assert cause.get() is None

    def test_across_await(self, span: Any, tracer: trace.Tracer) -> None:
        async def inner(expected: tuple[int, int]) -> None:
            await asyncio.sleep(0)
            assert current() == expected
            with span("own") as own:
                await asyncio.sleep(0)
                assert current() == ids(own)
                with tracer.start_as_current_span("sdk") as sdk:
                    await asyncio.sleep(0)
                    assert current() == context_ids(sdk.get_span_context())
                assert current() == ids(own)
            assert current() == expected

        async def main() -> None:
            with span("outer") as outer:
                await asyncio.gather(*(inner(ids(outer)) for _ in range(3)))
                assert current() == ids(outer)

        asyncio.run(main())

    def test_in_a_thread_with_a_copied_context(self, span: Any, tracer: trace.Tracer) -> None:
        seen: list[tuple[int, int]] = []
        with tracer.start_as_current_span("sdk"), span("own") as own:
            context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(lambda: seen.append(current()),))
        thread.start()
        thread.join()
        bare = threading.Thread(target=lambda: seen.append(current()))
        bare.start()
        bare.join()
        assert seen == [ids(own), NOWHERE]

    def test_a_generator_that_keeps_one_open(self, span: Any, tracer: trace.Tracer) -> None:
        @span("generator")
        def steps() -> Generator[tuple[int, int], None, None]:
            with tracer.start_as_current_span("sdk") as sdk:
                assert current() == context_ids(sdk.get_span_context())
            yield current()
            yield current()

        with span("outer") as outer:
            for at in steps():
                assert at[0] == ids(outer)[0]
                assert at != ids(outer)
                assert current() == ids(outer)

    def test_a_task_that_outlives_the_span_is_below_it_all_the_same(self, span: Any) -> None:
        async def later(go: asyncio.Event) -> tuple[int, int]:
            await go.wait()
            assert not trace.get_current_span().is_recording()
            return current()

        async def main() -> None:
            go = asyncio.Event()
            with span("outer") as outer:
                task = asyncio.create_task(later(go))
                await asyncio.sleep(0)
            go.set()
            assert await task == ids(outer)

        asyncio.run(main())


class TestTheContext:
    def test_other_keys_stay(self, span: Any) -> None:
        token = otel_context.attach(baggage.set_baggage("user", "7"))
        with span("own") as own:
            assert baggage.get_baggage("user") == "7"
            inner = otel_context.attach(baggage.set_baggage("more", "8"))
            assert baggage.get_all() == {"user": "7", "more": "8"}
            assert current() == ids(own)
            sent: dict[str, str] = {}
            W3CBaggagePropagator().inject(sent)
            assert sent["baggage"] == "user=7,more=8"
            otel_context.detach(inner)
            assert baggage.get_all() == {"user": "7"}
            assert current() == ids(own)
        otel_context.detach(token)
        assert baggage.get_all() == {}

    def test_an_empty_one_leaves_the_span(self, span: Any, collector: Collector) -> None:
        with span("outer") as outer:
            token = otel_context.attach(Context())
            assert current() == NOWHERE
            with span("root") as root:
                assert current() == ids(root)
                assert root.trace_id != outer.trace_id
            otel_context.detach(token)
            assert current() == ids(outer)
        assert finished(collector)["root"].parent_span == 0

    def test_one_that_is_attached_again_elsewhere_brings_its_span(self, span: Any) -> None:
        with span("outer") as outer:
            context = otel_context.get_current()
            with span("other"):
                token = otel_context.attach(context)
                assert current() == ids(outer)
                with span("inner") as inner:
                    assert inner.trace_id == outer.trace_id
                    parent: Any = trace.get_current_span()
                    assert context_ids(parent.parent) == ids(outer)
                otel_context.detach(token)
        assert current() == NOWHERE

    def test_tokens_detach_in_another_order(self, span: Any) -> None:
        first = otel_context.attach(baggage.set_baggage("a", "1"))
        own = span("own").__enter__()
        second = otel_context.attach(baggage.set_baggage("b", "2"))
        own.__exit__(None, None, None)
        otel_context.detach(second)
        otel_context.detach(first)
        assert current() == NOWHERE
        assert baggage.get_all() == {}
        assert cause.get() is None

    def test_what_was_attached_before_stays_and_is_detached(self, span: Any) -> None:
        runtime_context.remove()
        other = TracerProvider(shutdown_on_exit=False).get_tracer("x").start_span("before")
        context = baggage.set_baggage("a", "1", trace.set_span_in_context(other))
        token = otel_context.attach(context)
        runtime_context.place()
        assert baggage.get_baggage("a") == "1"
        with span("own") as own:
            assert ids(own)[0] == other.get_span_context().trace_id
            assert current() == ids(own)
            assert baggage.get_baggage("a") == "1"
        otel_context.detach(token)
        assert baggage.get_all() == {}
        assert current() == NOWHERE

    @pytest.mark.parametrize("core", ["python", pytest.param("c", marks=pytest.mark.c_core)])
    def test_it_is_noticed_when_it_is_imported_inside_a_span(self, core: str) -> None:
        code = (
            "from kobs import Collector, init_collector, span_operation\n"
            "init_collector(Collector(size=64))\n"
            "with span_operation('outer'), span_operation('before'):\n"
            "    from opentelemetry import trace\n"
            "    with span_operation('inner') as inner:\n"
            "        context = trace.get_current_span().get_span_context()\n"
            "        assert f'{context.span_id:016x}' == inner.span_id\n"
        )
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            cwd=ROOT,
            env={**os.environ, "KOBS_CORE": core},
        )

    def test_it_can_be_there_from_the_start(self, tmp_path: Path) -> None:
        code = (
            "from kobs import Collector, init_collector, span_operation\n"
            "init_collector(Collector(size=64))\n"
            "with span_operation('outer') as outer:\n"
            "    from opentelemetry import trace\n"
            "    context = trace.get_current_span().get_span_context()\n"
            "    assert f'{context.span_id:016x}' == outer.span_id\n"
        )
        env = {**os.environ, "OTEL_PYTHON_CONTEXT": "kobs"}
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=env)

    def test_removed_it_is_what_it_was(self, span: Any) -> None:
        placed: Any = otel_context._RUNTIME_CONTEXT
        assert isinstance(placed, runtime_context.KobsRuntimeContext)
        assert runtime_context.remove()
        assert otel_context._RUNTIME_CONTEXT is placed.before
        assert not runtime_context.remove()


class TestSampler:
    CODE = """
import json, sys
from kobs import Collector, init_collector, span_operation
from kobs.tracing.assembler import SpanAssembler
collector = init_collector(Collector(size=4096))
if sys.argv[1] == "sdk":
    from opentelemetry import trace
said = []
for number in range(100):
    with span_operation("root") as root, span_operation("child"):
        said.append(root.traceparent[-2:])
        if sys.argv[1] == "sdk":
            flags = trace.get_current_span().get_span_context().trace_flags
            assert f"{flags:02x}" == said[-1]
assembler = SpanAssembler(lambda recording: collector.ring.trace_high)
spans = [assembler.observe(event) for event in collector.snapshot()]
exported = [span.trace.exported for span in spans if span is not None]
assert len(exported) == 200 and exported[::2] == exported[1::2]
assert exported[::2] == [flags == "03" for flags in said]
print(json.dumps(sum(exported) // 2))
"""

    @pytest.mark.parametrize("with_sdk", ["sdk", "alone"])
    @pytest.mark.parametrize("core", ["python", pytest.param("c", marks=pytest.mark.c_core)])
    @pytest.mark.parametrize(
        ("name", "argument", "least", "most"),
        [("always_off", "", 0, 0), ("parentbased_traceidratio", "0.5", 20, 80)],
    )
    def test_it_decides_what_is_exported(
        self, name: str, argument: str, least: int, most: int, core: str, with_sdk: str
    ) -> None:
        done = subprocess.run(
            [sys.executable, "-c", self.CODE, with_sdk], capture_output=True, text=True, cwd=ROOT,
            env={**os.environ, "KOBS_CORE": core, "OTEL_TRACES_SAMPLER": name,
                 "OTEL_TRACES_SAMPLER_ARG": argument},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert least <= json.loads(done.stdout) <= most


def test_a_readable_span_is_what_the_sdk_exports(
    span: Any, tracer: trace.Tracer, exporter: InMemorySpanExporter
) -> None:
    """A link to a kobs span, made from what OpenTelemetry sees of it."""
    with span("own") as own:
        link = trace.Link(trace.get_current_span().get_span_context())
    with tracer.start_as_current_span("sdk", links=[link]):
        pass
    (sdk,) = exporter.get_finished_spans()
    assert isinstance(sdk, ReadableSpan)
    assert [context_ids(link.context) for link in sdk.links] == [ids(own)]
