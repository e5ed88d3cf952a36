"""Scans of a ring that threads lap meanwhile, in C and without Python, so truly in parallel.

`make sanitize` runs it for longer, under sanitizers.
"""

import subprocess
import sysconfig
from pathlib import Path

import pytest

from .test_ring_stress import CORE, ROOT, compiler

PARTS = [CORE / name for name in ("ring.c", "clock.c", "scan.c", "sample.c")]
HEADERS = sysconfig.get_path("include")


@pytest.mark.skipif(compiler is None, reason="needs a C compiler")
@pytest.mark.skipif(not Path(HEADERS, "Python.h").exists(), reason="needs Python's headers")
def test_nothing_that_a_scan_keeps_is_torn(tmp_path: Path) -> None:
    program = tmp_path / "scan_stress"
    build = [str(compiler), "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
    sources = [str(path) for path in (ROOT / "tests/native/scan_stress.c", *PARTS)]
    includes = [f"-I{CORE}", f"-I{HEADERS}"]
    subprocess.run([*build, *includes, *sources, "-lm", "-o", str(program)], check=True)
    done = subprocess.run([str(program), "0.1"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert len(done.stdout.splitlines()) == 4, "a line a scenario"
