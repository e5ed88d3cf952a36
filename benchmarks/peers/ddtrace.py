"""ddtrace: a span with one tag; there is no agent, what it would be sent is dropped."""

import logging
import os
from typing import Any

from benchmarks.subject import Statement, main


def tracer() -> Any:
    """The process-wide tracer, without what it does beside tracing."""
    os.environ.update(
        DD_TRACE_AGENT_URL="http://127.0.0.1:9",
        DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
        DD_REMOTE_CONFIGURATION_ENABLED="false",
        DD_TRACE_STARTUP_LOGS="false",
    )
    logging.disable(logging.CRITICAL)  # it tells of the missing agent
    import ddtrace.trace

    return ddtrace.trace.tracer


SPAN = 'with tracer.trace("x") as span:\n    span.set_tag("key", 1)'
SUBJECTS = {"ddtrace_span": Statement(SPAN, "tracer", tracer, unrolled=1)}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
