"""What observed classes record is the same with the core that this run does not use: their tests
run with that one too, in a process of their own, since classes are observed at import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kobs._core import select

TESTS = Path(__file__).parent.parent
HERE = TESTS / "instrumentation"
MODULES = {
    "observing": sorted((TESTS / "unit").glob("test_observe_*.py")),
    "one event": [HERE / "test_one_event.py"],
    "vocabularies": [HERE / "vocabulary"],
    "watches": [
        HERE / f"test_watch_{name}.py" for name in ("network", "permission", "queue", "sandbox")
    ],
}


@pytest.mark.c_core
@pytest.mark.parametrize("what", MODULES)
def test_with_the_other_core(what: str) -> None:
    other = "python" if select().name == "c" else "c"
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            *MODULES[what],
        ],
        env={**os.environ, "KOBS_CORE": other},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
