"""What observed classes record is the same with the core that this run does not use: their tests
run with that one too, in a process of their own, since classes are observed at import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kobs._core import select

TESTS = Path(__file__).parent.parent
MODULES = [
    *sorted((TESTS / "unit").glob("test_observe_*.py")),
    TESTS / "instrumentation" / "test_one_event.py",
    TESTS / "instrumentation" / "test_watch_network.py",
    TESTS / "instrumentation" / "test_watch_permission.py",
    TESTS / "instrumentation" / "test_watch_queue.py",
    TESTS / "instrumentation" / "test_watch_sandbox.py",
    TESTS / "instrumentation" / "vocabulary",
]


@pytest.mark.c_core
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
