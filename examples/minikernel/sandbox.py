"""Code that runs in a child which refuses what it was not allowed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kobs import observe

_LAUNCHER = Path(__file__).with_name("sandbox_child.py")

CAPABILITIES = ("file.read", "file.write", "native", "network", "process", "signal")


@dataclass(frozen=True)
class Limits:
    """What the child may use; the system enforces it (`setrlimit`). None: no limit."""

    open_files: int | None = 64
    file_size: int | None = 1 << 20
    memory: int | None = 512 << 20
    cpu_seconds: int | None = 5


@dataclass
class Outcome:
    """What came of a run."""

    pid: int
    exit_code: int
    """0: it ran to its end; 1: an exception; negative: the signal that ended it."""
    output: str
    error: str
    """The exception that ended it, in one line; empty for none."""
    duration_ms: float
    denied: list[tuple[str, str]] = field(default_factory=list)
    """(capability, operation) of each operation that was refused."""
    violations: list[str] = field(default_factory=list)
    over_budget: bool = False
    """It was killed for the time it took."""


@observe("sandbox")
class SandboxManager:
    """Runs code in a child under an audit hook and resource limits.

    `folder` is where a child with "file.read" or "file.write" may do so. An audit hook is a guard
    rail for code that is careless, not a wall against code that is hostile.
    """

    def __init__(self, folder: str, *, limits: Limits | None = None) -> None:
        self.folder = str(Path(folder).resolve(strict=True))
        self.limits = limits or Limits()

    def run(
        self,
        code: str,
        *,
        name: str = "sandbox",
        allow: Iterable[str] = (),
        budget_ms: float = 5000.0,
    ) -> Outcome:
        """Run `code` in a child with the capabilities `allow` (of `CAPABILITIES`).

        After `budget_ms` the child is killed.
        """
        allowed = sorted(allow)
        unknown = set(allowed) - set(CAPABILITIES)
        if unknown:
            raise ValueError(f"allow = {allowed}: unknown are {sorted(unknown)}; {CAPABILITIES=}")
        outcome, reports, in_time = self._execute(code, allowed, budget_ms)
        for report in reports:
            if report["kind"] == "denied":
                self.deny_capability(outcome, report["capability"], report["operation"])
            elif report["kind"] == "violation":
                self.record_violation(outcome, f"{name}: {report['description']}")
            else:
                outcome.error = report["error"]
        if not in_time:
            outcome.over_budget = True
        elif outcome.exit_code < 0:
            self.record_violation(outcome, f"{name}: ended by signal {-outcome.exit_code}")
        return outcome

    def deny_capability(self, outcome: Outcome, capability: str, operation: str) -> None:
        """Note an operation that the child was refused."""
        outcome.denied.append((capability, operation))

    def record_violation(self, outcome: Outcome, description: str) -> None:
        """Note that the child broke a rule that no capability lifts."""
        outcome.violations.append(description)

    def _execute(
        self, code: str, allowed: list[str], budget_ms: float
    ) -> tuple[Outcome, list[dict[str, str]], bool]:
        read_fd, write_fd = os.pipe()
        # A child that reports more than the pipe holds loses reports instead of standing still.
        os.set_blocking(write_fd, False)
        order = {
            "code": code,
            "allow": allowed,
            "folder": self.folder,
            "limits": asdict(self.limits),
            "report_fd": write_fd,
        }
        started = time.monotonic()
        try:
            # -I: neither the environment nor the user's site-packages reach into the sandbox.
            child = subprocess.Popen(
                [sys.executable, "-I", str(_LAUNCHER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(write_fd,),
                cwd=self.folder,
            )
            os.close(write_fd)
            in_time = True
            try:
                output, _ = child.communicate(json.dumps(order).encode(), budget_ms / 1000)
            except subprocess.TimeoutExpired:
                in_time = False
                child.kill()
                output, _ = child.communicate()
            duration_ms = (time.monotonic() - started) * 1000
            with os.fdopen(read_fd, closefd=False) as reports:
                lines = [json.loads(line) for line in reports]
        finally:
            os.close(read_fd)
        text = output.decode(errors="replace")
        return Outcome(child.pid, child.returncode, text, "", duration_ms), lines, in_time
