"""The cores under stress, and the programs that put them there.

`KOBS_STRESS=10` makes every test ten times as long; `1` is what runs in every suite.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kobs._core import select
from kobs._core.contract import Core

ROOT = Path(__file__).parents[2]
CORES = ["python", pytest.param("c", marks=pytest.mark.c_core)]
FLAGS = ("-W", "ignore::DeprecationWarning", "-X", "faulthandler")
TIMEOUT_S = 120
"""What hangs is ended after so long; nothing here takes a tenth of it."""

Run = Callable[..., str]


@pytest.fixture(params=CORES)
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Core:
    """The core under test, here and in the programs that the test starts."""
    monkeypatch.setenv("KOBS_CORE", request.param)
    found = select()
    assert found.name == request.param
    return found


@pytest.fixture(scope="session")
def factor() -> int:
    """How much longer than by default."""
    return int(os.environ.get("KOBS_STRESS") or 1)


@pytest.fixture
def run(core: Core, tmp_path: Path) -> Run:
    """Runs a Python program to its end; what it printed. It must end by itself, in order, and
    have nothing to complain of."""

    def run(source: str, *, quiet: bool = True, **names: object) -> str:
        given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        program = tmp_path / "program.py"
        program.write_text(f"{given}{source}", encoding="utf-8")
        path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
        done = subprocess.run(
            # (Python 3.12 and later warn of a fork of a process that has threads.)
            [sys.executable, *FLAGS, str(program)],
            env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True,
            timeout=TIMEOUT_S,
        )  # fmt: skip
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert not quiet or done.stderr == ""
        return done.stdout

    return run
