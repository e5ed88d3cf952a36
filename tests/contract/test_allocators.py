"""Memory goes back to the allocator that it came from.

Python's debug allocators end a process that mixes them up; the ordinary ones of most builds happen
to forgive it.
"""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.c_core

PROGRAM = """
import gc
from kobs import (Collector, CommonQueries, ProcessCreated, Query, SyscallExit, SyscallResult, arg,
                  emits, observe, open_recording)
from kobs.tracing import span_operation

@observe
class Made:
    @emits(ProcessCreated, name=arg("name"), priority=1)
    def make(self, name, *rest, **more):
        return name

    @emits(SyscallExit)
    def rows(self, *rest, **more):
        yield 1

    @emits(SyscallExit)
    async def later(self):
        pass

for options in ({}, {"path": path, "keep": 1 << 20}, {"sampling": 50}, {"overflow": "discard"}):
    with Collector(size=64, **options) as collector:
        subscriber = collector.subscribe()
        with kobs_collector(collector):
            made = Made()
            for number in range(200):
                collector.emit(ProcessCreated(f"name {number}", 1), pid=42)
                collector.syscall_exit(42, "read", 12.0, True)
                made.make("name", 1, 2, 3, 4, 5, 6, more=7)
                list(made.rows(1, 2, 3, 4, 5, 6, more=7))
                made.later().close()
                with span_operation("work") as span:
                    span.record("value", number)
            list(subscriber)
            for query in (Query(), Query().limit(3), CommonQueries.syscall_performance(),
                          CommonQueries.health_check()):
                collector.query(query)
            "\\n".join(map(str, collector.snapshot()))
with open_recording(path) as recording:
    assert recording.snapshot()
del collector, subscriber, made, span, recording, query
gc.collect()
print("done")
"""


def test_each_block_goes_back_where_it_came_from(tmp_path):
    path = str(tmp_path / "a.kobs")
    head = (
        "from contextlib import contextmanager\n"
        "from kobs import init_collector\n"
        "from kobs.collector import clear_collector\n"
        "@contextmanager\n"
        "def kobs_collector(collector):\n"
        "    init_collector(collector)\n"
        "    yield\n"
        "    clear_collector()\n"
        f"path = {path!r}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + PROGRAM],
        env=os.environ | {"KOBS_CORE": "c", "PYTHONMALLOC": "debug"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
