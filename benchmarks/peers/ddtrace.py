"""ddtrace: a span with one tag, and whole programs, without an agent: what it would be sent is
dropped. Its pytest plugin does nothing without one, so that gets one which throws all away."""

import json
import logging
import os
import sys
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pyperf

from benchmarks.subject import Command, Statement, Subject, main
from benchmarks.subjects.programs import PROGRAMS
from benchmarks.subjects.suites import EachTest, each, suite, whole

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


class Agent(BaseHTTPRequestHandler):
    """Takes everything."""

    protocol_version = "HTTP/1.1"
    answer = json.dumps(
        {"endpoints": ["/evp_proxy/v2/", "/evp_proxy/v4/"], "data": {"attributes": {}}}
    ).encode()

    def do_POST(self) -> None:
        """Read it, and say yes."""
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    do_GET = do_PUT = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@cache
def agent() -> None:
    """Start one; the runs below find it in the environment."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Agent)
    Thread(target=server.serve_forever, daemon=True).start()
    os.environ.update(ALONE | {"DD_TRACE_AGENT_URL": f"http://127.0.0.1:{server.server_port}"})


@dataclass(frozen=True)
class WithAgent(Command):
    """A whole run, beside an agent."""

    def run(self, runner: pyperf.Runner, name: str) -> None:
        """Measure it."""
        agent()
        super().run(runner, name)


@dataclass(frozen=True)
class EachWithAgent(EachTest):
    """A test of a run, beside an agent."""

    def run(self, runner: pyperf.Runner, name: str) -> None:
        """Measure it."""
        agent()
        super().run(runner, name)


OFF = ("-p", "no:kobs", "-p", "no:ddtrace")
ON = ("-p", "no:kobs", "--ddtrace")

SUBJECTS: dict[str, Subject] = {
    "ddtrace_span": Statement(SPAN, "tracer", tracer, unrolled=1),
    "ddtrace_web": program("web"),
    "ddtrace_streams": program("streams"),
    "ddtrace_off_run": whole(*OFF),
    "ddtrace_unused_run": whole("-p", "no:kobs"),
    "ddtrace_off_test": each(*OFF),
    "ddtrace_on_test": EachWithAgent(each(*ON).arguments),
    "ddtrace_off_suite": suite(*OFF),
    "ddtrace_on_suite": WithAgent(suite(*ON).arguments),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
