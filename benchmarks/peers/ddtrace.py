"""ddtrace: a span with one tag; there is no agent, what it would be sent is dropped."""

import logging
import os
import sys
from typing import Any

from benchmarks.subject import Command, Statement, Subject, main
from benchmarks.subjects.programs import PROGRAMS

ALONE = {
    "DD_TRACE_AGENT_URL": "http://127.0.0.1:9",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_TRACE_STARTUP_LOGS": "false",
}
"""Without what it does beside tracing."""


def tracer() -> Any:
    """The process-wide tracer."""
    os.environ.update(ALONE)
    logging.disable(logging.CRITICAL)  # it tells of the missing agent
    import ddtrace.trace

    return ddtrace.trace.tracer


SPAN = 'with tracer.trace("x") as span:\n    span.set_tag("key", 1)'
RUN = f"""
import os
os.environ.update({ALONE!r})
from ddtrace.commands.ddtrace_run import main
main()
"""


def program(name: str) -> Command:
    """A whole program under `ddtrace-run`; there is no agent to send to."""
    return Command(lambda: ["-c", RUN, sys.executable, PROGRAMS[name]])


SUBJECTS: dict[str, Subject] = {
    "ddtrace_span": Statement(SPAN, "tracer", tracer, unrolled=1),
    "ddtrace_web": program("web"),
    "ddtrace_streams": program("streams"),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
