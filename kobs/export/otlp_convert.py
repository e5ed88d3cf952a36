"""From kobs's events to the objects of OpenTelemetry's SDK.

The SDK's logs API is private still (`_logs`): from 1.39 on it is what is used here, and what does
not have it is refused with a message.
"""

from kobs.errors import MissingExtraError
from kobs.events import Event
from kobs.export.otlp_logs import LogData
from kobs.tracing.finished import Trace

try:
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk._logs.export import LogRecordExporter as LogRecordExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, set_span_in_context

    from kobs.tracing.readable import SCOPE, clean, span_context, to_span as to_span
except ImportError as error:
    raise MissingExtraError(
        f"export to OTLP needs opentelemetry-sdk 1.39 or later: {error}; "
        "install it with: pip install 'kobs[otlp]'"
    ) from error


def to_log_record(
    event: Event, data: LogData, trace: Trace | None, offset_ns: int, resource: Resource
) -> ReadableLogRecord:
    """A log record for the SDK's exporters, of an event of which it has `data`; `offset_ns` is
    wall time minus monotonic time."""
    wall_ns = event.timestamp_ns + offset_ns
    context = INVALID_SPAN_CONTEXT
    if trace is not None:
        context = span_context(trace, event.span_id)
    # An empty context would be replaced by the exporting code's own.
    around = set_span_in_context(NonRecordingSpan(context), Context())
    record = LogRecord(
        timestamp=wall_ns,
        observed_timestamp=wall_ns,
        context=around,
        severity_number=SeverityNumber(data.severity_number),
        severity_text=data.severity_text,
        body=clean({"": data.body})[""],
        attributes=clean(data.attributes),
        event_name=data.event_name or None,
    )
    scope = InstrumentationScope(clean({"": data.scope})[""]) if data.scope else SCOPE
    return ReadableLogRecord(record, resource, scope)
