"""A small real program with a scrape endpoint: serves customers, and then waits for its stdin.

Prints as JSON where it can be scraped, and the trace that its slow call is part of.
"""

import json
import sys

from kobs import Collector, init_collector, span_operation
from kobs.export.prometheus import serve
from kobs.levels import SyscallResult
from kobs.payloads import MemoryPressure, SyscallExit

if __name__ == "__main__":
    recorder = init_collector(Collector(size=4096, sampling=100, hide=["syscall:close"]))
    with serve() as server:
        for number in range(200):
            recorder.emit(SyscallExit("read", 20.0 + number / 10, SyscallResult.SUCCESS))
            recorder.emit(SyscallExit("close", 1.0, SyscallResult.SUCCESS))
        recorder.emit(SyscallExit("read", 3.0, SyscallResult.ERROR, 5))
        recorder.emit(MemoryPressure(25, 512))
        with span_operation("serve") as span:
            recorder.emit(SyscallExit("fsync", 750_000.0, SyscallResult.SUCCESS))
        print(
            json.dumps({"port": server.port, "trace_id": span.trace_id, "span_id": span.span_id}),
            flush=True,
        )
        sys.stdin.read()
