"""What it costs to export spans as OTLP, and what a program's spans cost meanwhile."""

import atexit
import os
import subprocess
import sys
from collections.abc import Callable
from time import process_time
from typing import Any

from benchmarks.subject import Loop, main
from benchmarks.subjects.calls import written

AT_ONCE = 8192

RECEIVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Nowhere:
    """A transport to nobody."""

    not_before = 0.0
    told_to_wait = False

    def send(self, body: bytes, timeout_s: float | None = None) -> Any:
        """Take it."""
        from kobs.export.otlp_transport import Outcome

        return Outcome("taken")


def export() -> Callable[[int], float]:
    """Spans from the ring to encoded OTLP, which is sent to nobody."""
    from kobs import span_operation
    from kobs.export.otlp_feeds import RingFeed, ring_source
    from kobs.export.otlp_send import WireOutbox
    from kobs.export.otlp_streams import SpanStream
    from kobs.tracing.assembler import SpanAssembler
    from kobs.tracing.resource import Given

    collector = written()
    source = ring_source(collector, Given.read())
    nowhere: Any = Nowhere()
    stream = SpanStream(
        RingFeed(collector, source), SpanAssembler(lambda _: source.trace_high),
        WireOutbox(nowhere), None,
    )  # fmt: skip
    stream.export()

    def loop(number: int) -> float:
        spent = 0.0
        while number > 0:
            some = min(number, AT_ONCE)
            for _ in range(some):
                with span_operation("x", collector=collector) as span:
                    span.record("key", 1)
            began = process_time()
            sent = stream.export()
            spent += process_time() - began
            assert sent.taken == some, sent
            number -= some
        return spent

    return loop


def spans() -> Callable[[int], float]:
    """The spans of a program, by the CPU time of the whole process: what a thread of kobs takes of
    it, the program waits for at worst."""
    from kobs import init_collector, span_operation

    init_collector(written())

    def loop(number: int) -> float:
        began = process_time()
        for _ in range(number):
            with span_operation("x") as span:
                span.record("key", 1)
        return process_time() - began

    return loop


def spans_while(url: str) -> Callable[[int], float]:
    """The same while an exporter runs."""
    from kobs.export.otlp import OtlpExporter

    loop = spans()
    OtlpExporter(endpoint=url).start()
    return loop


def receiver() -> str:
    """The URL of a receiver in a process of its own, which ends with this one."""
    process = subprocess.Popen([sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    assert process.stdout is not None
    return f"http://127.0.0.1:{process.stdout.readline().strip()}"


def nobody() -> str:
    """A URL where nobody listens."""
    os.environ["OTEL_EXPORTER_OTLP_TIMEOUT"] = "1"
    return "http://127.0.0.1:9"


SUBJECTS = {"export": Loop(export)}
MEANWHILE = {
    "span_quiet": Loop(spans),
    "span_exporting": Loop(lambda: spans_while(receiver())),
    "span_away": Loop(lambda: spans_while(nobody())),
}

if __name__ == "__main__":
    main(__spec__.name, {**SUBJECTS, **MEANWHILE})
