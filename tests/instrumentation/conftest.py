"""Programs run for real, bare and under `kobs run`."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import kobs

TIMEOUT_S = 120


class Ran(NamedTuple):
    """A program that was run: what it did, and where its session is."""

    code: int
    out: str
    err: str
    session: Path

    def events(self, *types: type[object]) -> list[kobs.Event]:
        """Its recorded events, by time; only those of some payload types if any are given."""
        with kobs.open_recording(self.session) as recording:
            assert recording.damage == []
            return [e for e in recording.events() if not types or isinstance(e.payload, types)]


class Runner:
    """Runs scripts in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sessions = 0
        self.adaptive = False
        """Where the machine is slow, a busy program's events are no longer all recorded."""

    def write(self, source: str, name: str = "program.py") -> Path:
        """Write a script."""
        path = self.folder / name
        path.write_text(textwrap.dedent(source))
        return path

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """A plain environment, with bytecode kept out of the working copy."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("KOBS", "PYTEST", "COV"))}
        return env | dict(more or {})

    def bare(self, *command: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Ran:
        """Run a command as it is."""
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S,
            cwd=self.folder, env=self.environment(env),
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr, self.folder)

    def kobs(
        self,
        *command: str,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        isolated: bool = False,
    ) -> Ran:
        """`kobs run -q` with these arguments. `isolated`: what is in the environment acts on the
        program, not on `kobs run` itself."""
        self.sessions += 1
        session = self.folder / f"session-{self.sessions}"
        ran = self.bare(
            sys.executable, *(["-I"] if isolated else []), "-m", "kobs", "run", "-q",
            *([] if self.adaptive else ["--no-adaptive"]), "-o", str(session), *command,
            stdin=stdin, env=env,
        )  # fmt: skip
        return ran._replace(session=session)

    def script(self, source: str, *args: str, name: str = "program.py") -> Ran:
        """Record a script."""
        ran = self.kobs(str(self.write(source, name)), *args)
        assert ran.code == 0, ran.err
        return ran


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """Runs scripts, bare and recorded."""
    return Runner(tmp_path)


@pytest.fixture
def both(runner: Runner) -> Callable[..., tuple[Ran, Ran]]:
    """Runs a script bare and under `kobs run`."""

    def run(
        source: str, *args: str, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> tuple[Ran, Ran]:
        script = str(runner.write(source))
        return (
            runner.bare(sys.executable, script, *args, stdin=stdin, env=env),
            runner.kobs(script, *args, stdin=stdin, env=env),
        )

    return run
