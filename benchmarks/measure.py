"""Rounds over subjects: each round measures every subject of a group once, one after the other, so
that what a row compares was measured within seconds of each other and the machine's drift cancels.

Each measurement is a process of `pyperf`: the first finds how many loops a value takes, the others
use as many. Values are many and short, a tenth of what a scheduler gives at once: where others use
the machine too, most values are whole, and the median is one of those.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyperf

from benchmarks.environments import ROOT, variables
from benchmarks.subject import ABSENT, Command, Subject

TIMEOUT_S = 300


@dataclass
class Task:
    """A subject, and where it runs."""

    key: str
    """The subject's name; of what depends on the core, `core:name`."""
    module: str
    subject: str
    kind: type[Subject]
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)
    loops: int = 0
    """Loops a value; 0: find out."""


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int
    values: int
    """In a process."""
    min_time_s: float
    """Of a value."""
    least: bool = False
    """A round is the least of its values, not their median: where the same work is done each time,
    what is more is not its own."""


@dataclass
class Series:
    """What was measured: a median a round, in seconds (memory in bytes), or why it was not."""

    values: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, value: float) -> None:
        """One more round."""
        self.values.setdefault(key, []).append(value)

    def leave_out(self, key: str, reason: str) -> None:
        """Forget the rounds there are: a subject without all of them can be compared to none."""
        self.values.pop(key, None)
        self.absent[key] = reason


def measure(tasks: Iterable[Task], effort: Effort, series: Series) -> None:
    """Take all rounds of a group."""
    left = list(tasks)
    for number in range(effort.rounds):
        for task in list(left):
            try:
                series.add(task.key, take(task, effort))
            except Refused as error:
                series.leave_out(task.key, str(error))
                left.remove(task)
        _tell(f"    round {number + 1} of {effort.rounds}")
    _tell("")


class Refused(Exception):
    """A subject could not be measured."""


def take(task: Task, effort: Effort) -> float:
    """What one round says: the median, or the least, of the values of one process."""
    whole = issubclass(task.kind, Command)
    warm = whole and task.loops  # a process warms up what lies in files, once
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [
            task.python, "-m", task.module, task.subject, "--quiet", "--copy-env", "-p", "1",
            "-w", "0" if warm else "1", "-n", str(effort.values),
            "--min-time", str(effort.min_time_s),
            "-l", str(1 if whole else task.loops), "-o", str(result),
        ]  # fmt: skip
        environment = variables(**task.environment)
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True,
                timeout=TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Refused(f"took more than {TIMEOUT_S} s") from None
        if done.returncode == ABSENT:
            raise Refused(done.stderr.strip())
        if done.returncode or not result.exists():
            print(f"{task.key}:\n{done.stderr[-2000:]}", file=sys.stderr)
            raise Refused("it failed")  # why was told: it may name paths, a result may not
        bench = pyperf.Benchmark.load(str(result))
    task.loops = int(bench.get_loops())
    return float(min(bench.get_values()) if effort.least else bench.median())


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<40}\r", end="", file=sys.stderr, flush=True)
