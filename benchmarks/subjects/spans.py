"""What a span costs."""

from typing import Any

from benchmarks.subject import Statement, main
from benchmarks.subjects.calls import written


def spans() -> Any:
    """`span_operation`, with a process-wide collector."""
    from kobs import init_collector, span_operation

    init_collector(written())
    return span_operation


def tracer() -> Any:
    """A tracer as an application sets it up, with kobs's provider in place of the SDK's."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    from kobs import init_collector
    from kobs.tracing import TracerProvider

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    init_collector(written())
    made = TracerProvider()
    made.add_span_processor(BatchSpanProcessor(Nowhere()))
    return made.get_tracer("bench")


SUBJECTS = {
    "span": Statement(
        'with span_operation("x") as span:\n    span.record("key", 1)',
        "span_operation",
        spans,
        unrolled=1,
    ),
    "traced": Statement(
        'with tracer.start_as_current_span("x") as span:\n    span.set_attribute("key", 1)',
        "tracer",
        tracer,
        unrolled=1,
    ),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
