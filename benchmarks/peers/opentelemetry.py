"""The OpenTelemetry SDK: a span with one attribute through a batch processor, sent to nobody."""

from typing import Any

from benchmarks.subject import Statement, main


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
SUBJECTS = {"otel_span": Statement(SPAN, "tracer", tracer, unrolled=1)}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
