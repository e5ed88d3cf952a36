"""The ring protocol in C, without Python and so with threads that truly run in parallel.

`make native` runs it for longer, `make sanitize` under sanitizers.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "kobs" / "_core" / "src"
PARTS = [CORE / "ring.c", CORE / "cursor.c", CORE / "clock.c"]

compiler = shutil.which("gcc") or shutil.which("cc")


@pytest.mark.skipif(compiler is None, reason="needs a C compiler")
def test_nothing_is_torn_and_every_ticket_is_accounted_for(tmp_path: Path) -> None:
    program = tmp_path / "ring_stress"
    build = [str(compiler), "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
    sources = [str(path) for path in (ROOT / "tests/native/ring_stress.c", *PARTS)]
    subprocess.run([*build, f"-I{CORE}", *sources, "-o", str(program)], check=True)
    done = subprocess.run([str(program), "0.1"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert len(done.stdout.splitlines()) == 1 + 10, "the seed, and a line a scenario"
