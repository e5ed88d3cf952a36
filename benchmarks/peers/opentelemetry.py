"""The OpenTelemetry SDK: a span with one attribute through a batch processor, sent to nobody."""

import sys
from typing import Any

from benchmarks.subject import Command, Statement, Subject, main
from benchmarks.subjects.programs import PROGRAMS


def tracer() -> Any:
    """A tracer as an application sets it up."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    return provider.get_tracer("bench")


SPAN = 'with tracer.start_as_current_span("x") as span:\n    span.set_attribute("key", 1)'
RUN = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"


def program(name: str) -> Command:
    """A whole program under `opentelemetry-instrument`; its spans are sent to nobody."""
    nowhere = [
        word for what in ("traces", "metrics", "logs") for word in (f"--{what}_exporter", "none")
    ]
    return Command(lambda: ["-c", RUN, *nowhere, sys.executable, PROGRAMS[name]])


SUBJECTS: dict[str, Subject] = {
    "otel_span": Statement(SPAN, "tracer", tracer, unrolled=1),
    "otel_web": program("web"),
    "otel_streams": program("streams"),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
