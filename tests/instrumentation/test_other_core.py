"""What observed classes record is the same with the core that this run does not use: their tests
run with that one, in a process of their own, since classes are observed when they are imported."""

import os
import subprocess
import sys
from pathlib import Path

from kobs._core import select

TESTS = Path(__file__).parent.parent
MODULES = [
    *sorted((TESTS / "unit").glob("test_observe_*.py")),
    TESTS / "instrumentation" / "test_one_event.py",
    TESTS / "instrumentation" / "vocabulary",
]


def test_observed_classes_with_the_other_core() -> None:
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
            *MODULES,
        ],
        env={**os.environ, "KOBS_CORE": other},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
