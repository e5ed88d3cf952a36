"""The OpenTelemetry SDK: a span with one attribute through a batch processor, sent to nobody; and
the contrib instrumentations that watch what kobs watches."""

import os
import sys
from collections.abc import Callable
from time import process_time
from typing import Any

from benchmarks.subject import Command, Loop, Statement, Subject, Work, main
from benchmarks.subjects.operations import OPERATIONS
from benchmarks.subjects.programs import PROGRAMS


def tracer() -> Any:
    """A tracer as an application sets it up."""
    return provider().get_tracer("bench")


def provider() -> Any:
    """Where tracers come from."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    made = TracerProvider()
    made.add_span_processor(BatchSpanProcessor(Nowhere()))
    return made


def export() -> Callable[[int], float]:
    """Spans that ended through a batch processor to encoded OTLP, which is sent to nobody."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Encoding(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            encode_spans(spans).SerializeToString()
            return SpanExportResult.SUCCESS

    class Kept(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            ended.append(span)

    ended: list[ReadableSpan] = []
    made = TracerProvider()
    made.add_span_processor(Kept())
    tracer = made.get_tracer("bench")

    def loop(number: int) -> float:
        spent = 0.0
        while number > 0:
            ended.clear()
            for _ in range(min(number, 8192)):
                with tracer.start_as_current_span("x") as span:
                    span.set_attribute("key", 1)
            number -= len(ended)
            batches = BatchSpanProcessor(
                Encoding(), max_queue_size=8192, schedule_delay_millis=3.6e6
            )
            began = process_time()
            for each in ended:
                batches.on_end(each)
            batches.force_flush()
            spent += process_time() - began
            batches.shutdown()  # type: ignore[no-untyped-call]
        return spent

    return loop


SPAN = 'with tracer.start_as_current_span("x") as span:\n    span.set_attribute("key", 1)'
RUN = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"


def program(name: str) -> Command:
    """A whole program under `opentelemetry-instrument`; its spans are sent to nobody."""
    nowhere = [
        word for what in ("traces", "metrics", "logs") for word in (f"--{what}_exporter", "none")
    ]
    return Command(lambda: ["-c", RUN, *nowhere, sys.executable, PROGRAMS[name]])


def threading() -> None:
    """Carries the context to threads and executors."""
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor

    ThreadingInstrumentor().instrument()


def asyncio() -> None:
    """A span and a duration of each coroutine of a name that was given."""
    os.environ["OTEL_PYTHON_ASYNCIO_COROUTINE_NAMES_TO_TRACE"] = "done"
    from opentelemetry.instrumentation.asyncio import AsyncioInstrumentor

    AsyncioInstrumentor().instrument(tracer_provider=provider())


def system_metrics() -> Any:
    """A reading of all its metrics. It does nothing else."""
    from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    SystemMetricsInstrumentor().instrument(meter_provider=MeterProvider(metric_readers=[reader]))
    return reader.get_metrics_data


SUBJECTS: dict[str, Subject] = {
    "contrib_thread": OPERATIONS["thread"].statement(threading),
    "contrib_submit": OPERATIONS["submit"].statement(threading),
    "contrib_task": OPERATIONS["task"].statement(asyncio),
    "contrib_look": Work("read()", "read", system_metrics, unrolled=1),
    "otel_export": Loop(export),
    "otel_span": Statement(SPAN, "tracer", tracer, unrolled=1),
    "otel_web": program("web"),
    "otel_streams": program("streams"),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
