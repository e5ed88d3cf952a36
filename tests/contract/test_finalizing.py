"""A collector and what emits into it may become garbage together."""

import subprocess
import sys

PROGRAM = """
import gc
from kobs import Collector, SyscallEnter, SyscallExit, SyscallResult

def emitting(collector):
    scope = collector.emit_begin(SyscallEnter("x"))
    try:
        yield
    finally:
        collector.emit_end(scope, SyscallExit("x", 1.0, SyscallResult.SUCCESS, 0))
        closed.append(1)

gc.disable()
closed = []
for path in [None] * 20 + [f"{folder}/{i}.kobs" for i in range(5)]:
    collector = Collector(size=64, path=path)
    collector.cycle = emitting(collector)
    next(collector.cycle)
    del collector
    gc.collect()
print(len(closed))
"""


def test_a_generator_that_emits_when_it_is_collected_with_its_collector(tmp_path: object) -> None:
    source = f"folder = {str(tmp_path)!r}\n" + PROGRAM
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "25", "")
