"""A chain crosses a gRPC call: in one process, between two, and with OpenTelemetry's context."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

import kobs
from kobs.context import origin
from kobs.export.metric_source import MetricSource
from kobs.export.otlp import OtlpExporter
from kobs.payloads import SpanBegan
from kobs_instrumentation import registry
from kobs_instrumentation.grpc import GrpcInstrumentor
from tests.instrumentation.grpc_service import (
    answer,
    answer_in_loop,
    serving,
    serving_in_loop,
    spans,
)

TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


@pytest.fixture
def collector() -> Iterator[kobs.Collector]:
    with kobs.Collector(size=1024) as collector:
        GrpcInstrumentor().instrument(collector=collector)
        yield collector
        GrpcInstrumentor().uninstrument()
        assert collector.losses().errors == 0


@pytest.fixture
def remote() -> Iterator[None]:
    """The program is inside a span of OpenTelemetry that came from elsewhere."""
    state = TraceState([("vendor", "value")])
    there = SpanContext(TRACE, SPAN, True, TraceFlags(1), state)
    token = context.attach(
        baggage.set_baggage("customer", "é 7", trace.set_span_in_context(NonRecordingSpan(there)))
    )
    yield
    context.detach(token)


def what_handlers_see(monkeypatch: pytest.MonkeyPatch, service: Any) -> list[Any]:
    """The span, baggage and tracestate that OpenTelemetry has in a handler, and the origin."""
    seen: list[Any] = []

    def look(where: Any) -> None:
        here = trace.get_current_span().get_span_context()
        seen.append((here.trace_id, here.span_id, here.trace_state.get("vendor"),
                     baggage.get_baggage("customer"), origin.get()))  # fmt: skip

    monkeypatch.setattr(service, "_look", look)
    return seen


class Test_with_opentelemetry:
    def test_its_context_crosses(
        self, collector: kobs.Collector, remote: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with serving() as (service, target), grpc.insecure_channel(target) as channel:
            seen = what_handlers_see(monkeypatch, service)
            answer(channel, "unary_unary", b"ok")
            answer(channel, "stream_stream", b"ok")
        self._check(collector, seen)

    def test_its_context_crosses_in_a_loop(
        self, collector: kobs.Collector, remote: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[Any] = []

        async def main() -> None:
            async with serving_in_loop() as (service, target):
                seen.append(what_handlers_see(monkeypatch, service))
                async with grpc.aio.insecure_channel(target) as channel:
                    await answer_in_loop(channel, "unary_unary", b"ok")
                    await answer_in_loop(channel, "stream_stream", b"ok")

        asyncio.run(main())
        self._check(collector, seen[0])

    def _check(self, collector: kobs.Collector, seen: list[Any]) -> None:
        client, server, client_2, server_2 = spans(collector, 4)
        expected = [(TRACE, s.began.span_id, "value", "é 7", "") for s in (server, server_2)]
        assert seen == expected
        for one, other in ((client, server), (client_2, server_2)):
            assert one.began.payload.parent_span == SPAN  # type: ignore[attr-defined]
            assert other.began.parent == one.began.id
        memory = InMemorySpanExporter()
        OtlpExporter(collector, logs=False, span_exporter=memory).export_pending()
        sent = memory.get_finished_spans()
        assert {span.context.trace_id for span in sent} == {TRACE}
        for span in sent:
            assert span.attributes is not None
            assert span.attributes["rpc.system.name"] == "grpc"
            assert span.attributes["rpc.method"] == span.name
            assert span.name in ("kobs.test.Service/unary_unary", "kobs.test.Service/stream_stream")

    def test_spans_of_its_sdk_in_a_handler_are_children(
        self, collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        provider, memory = TracerProvider(), InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(memory))
        tracer = provider.get_tracer("test")
        with serving() as (service, target), grpc.insecure_channel(target) as channel:
            monkeypatch.setattr(service, "_look", lambda _: tracer.start_span("work").end())
            with tracer.start_as_current_span("page"):
                answer(channel, "unary_unary", b"ok")
        work, page = memory.get_finished_spans()
        client, server = spans(collector, 2)
        assert page.context.span_id == client.began.payload.parent_span  # type: ignore[attr-defined]
        assert work.parent is not None
        assert work.parent.span_id == server.began.span_id
        assert work.context.trace_id == page.context.trace_id

    def test_what_it_says_is_not_to_be_traced_is_not(self, collector: kobs.Collector) -> None:
        from opentelemetry.instrumentation.utils import suppress_instrumentation

        with serving() as (_, target), grpc.insecure_channel(target) as channel:
            with suppress_instrumentation():
                answer(channel, "unary_unary", b"ok")
            (seen,) = spans(collector, 1)
        assert (seen.kind, seen.began.parent) == ("server", 0)


def test_calls_have_duration_metrics(collector: kobs.Collector) -> None:
    with serving() as (_, target), grpc.insecure_channel(target) as channel:
        answer(channel, "unary_unary", b"ok")
        with pytest.raises(grpc.RpcError):
            answer(channel, "unary_unary", b"raise")
        ended = [one.ended for one in spans(collector, 4)]
    metrics = MetricSource(collector).collect().metrics
    host, port = target.split(":")
    common = {"rpc.system.name": "grpc", "rpc.method": "kobs.test.Service/unary_unary"}
    here = {"server.address": host, "server.port": int(port)}
    for side, about in (("client", common | here), ("server", common)):
        (metric,) = [one for one in metrics if one.name == f"rpc.{side}.call.duration"]
        assert metric.unit == "s"
        good, bad = sorted(metric.points, key=lambda point: len(point.attributes))
        assert dict(good.attributes) == {**about, "rpc.response.status_code": "OK"}
        assert dict(bad.attributes) == {
            **about, "rpc.response.status_code": "UNKNOWN", "error.type": "UNKNOWN",
        }  # fmt: skip
        exemplars = {point.exemplars[0].span_id for point in metric.points}
        assert exemplars <= {event.span_id for event in ended}


def test_an_exporter_s_own_calls_are_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of OpenTelemetry's SDK and of kobs's: each export would be the next one's span."""
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
    with ThreadPoolExecutor(2) as pool, kobs.Collector(size=256) as collector:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"Export": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        GrpcInstrumentor().instrument(collector=collector)
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(insecure=True)))
        provider.get_tracer("test").start_span("theirs").end()
        with kobs.span_operation("ours", collector=collector):
            pass
        exporter = OtlpExporter(collector, logs=False)
        assert provider.force_flush()
        assert exporter.export_pending().spans == 1
        provider.shutdown()
        exporter.shutdown()
        GrpcInstrumentor().uninstrument()
        server.stop(None).wait()
        names = [e.payload.name for e in collector.snapshot() if isinstance(e.payload, SpanBegan)]
        assert names == ["ours"]


def test_a_caller_that_is_not_recorded_here_is_continued(collector: kobs.Collector) -> None:
    metadata = (("traceparent", f"00-{TRACE:032x}-{SPAN:016x}-00"), ("tracestate", "vendor=value"))
    with serving() as (_, target), grpc.insecure_channel(target) as channel:
        answer(channel, "unary_unary", b"ok", metadata=metadata)
    _, server = spans(collector, 2)
    assert server.began.payload.parent_span == SPAN  # type: ignore[attr-defined]
    memory = InMemorySpanExporter()
    report = OtlpExporter(collector, logs=False, span_exporter=memory).export_pending()
    assert report.unsampled == 1  # the caller's flag says so
    assert len(memory.get_finished_spans()) == 1


def test_on_whose_behalf_it_runs_crosses(
    collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as (service, target), grpc.insecure_channel(target) as channel:
        seen = what_handlers_see(monkeypatch, service)
        token = origin.set("some test")
        try:
            answer(channel, "unary_stream", b"ok")
        finally:
            origin.reset(token)
        answer(channel, "unary_stream", b"ok")
    assert [each[-1] for each in seen] == ["some test", ""]


def test_cause_is_carried_where_others_are_watched(collector: kobs.Collector) -> None:
    GrpcInstrumentor().uninstrument()
    registry.enable(collector, only=["vfs"])
    try:
        with serving() as (service, target), grpc.insecure_channel(target) as channel:
            with kobs.causal_context(77, parent=7):
                answer(channel, "unary_unary", b"ok")
            ((_, traceparent),) = service.seen
    finally:
        registry.disable(collector)
    assert int(traceparent[19:35], 16) == 77
    assert not [e for e in collector.snapshot() if isinstance(e.payload, SpanBegan)]


def test_the_span_is_not_current_after_the_call(collector: kobs.Collector) -> None:
    with serving() as (_, target), grpc.insecure_channel(target) as channel:
        with kobs.span_operation("outer", collector=collector) as outer:
            for kind in ("unary_unary", "unary_stream"):
                answer(channel, kind, b"ok")
                assert kobs.current_span() is outer
            future = channel.unary_unary("/kobs.test.Service/unary_unary").future(b"ok")
            assert kobs.current_span() is outer
            future.result()
        found = spans(collector, 6)
    parents = {seen.began.parent for seen in found if seen.kind == "client"}
    assert len(parents) == 1
    assert kobs.current_span().trace_id == "0" * 32


SERVER = """
    import sys
    from concurrent.futures import ThreadPoolExecutor
    import grpc
    def answer(request, context):
        open("made", "w").close()
        return b"re: " + request
    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", {"C": handler}),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None).wait()
    """
CLIENT = """
    import subprocess, sys
    import grpc
    from kobs import span_operation
    server = subprocess.Popen(
        [sys.executable, "server.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    port = int(server.stdout.readline())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, span_operation("page"):
        assert channel.unary_unary("/a.B/C")(b"x") == b"re: x"
    server.stdin.close()
    assert server.wait() == 0
    """


def test_a_chain_goes_on_in_another_process_of_the_session(runner: Any) -> None:
    runner.write(SERVER, "server.py")
    ran = runner.script(CLIENT)
    page, client, server = ran.events(SpanBegan)
    assert [e.payload.name for e in (page, client, server)] == ["page", "a.B/C", "a.B/C"]
    assert (client.parent, server.parent) == (page.id, client.id)
    assert client.recording != server.recording
    made = [e for e in ran.events(kobs.FileChanged, kobs.FileOpened) if e.parent == server.id]
    assert made
    assert {e.causality_id for e in (page, client, server, *made)} == {page.causality_id}
