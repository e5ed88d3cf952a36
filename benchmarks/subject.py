"""How one thing is measured: `python -m benchmarks.subjects.calls emit_exit`.

A module of subjects ends in `main(__spec__.name, SUBJECTS)`. `pyperf` makes the processes, warms
up, calibrates and takes the values; nothing here keeps time. Runs in the peers' environments too,
so that it imports `pyperf` alone.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from resource import RUSAGE_CHILDREN, getrusage
from time import process_time
from typing import Any

import pyperf

ABSENT = 69
"""Exit code where a subject is not to be had here; stderr says why, in one line."""

UNROLLED = 20
"""How often a statement stands in the loop: the loop's own cost does not show then."""


class Absent(Exception):
    """A subject is not to be had here."""


def always() -> None:
    """The check of a subject that is there everywhere."""


@dataclass(frozen=True)
class Statement:
    """A statement, repeated. `make` gives the values of its `names`, outside of what is timed."""

    code: str
    names: str = "_"
    make: Callable[[], Any] = lambda: None
    unrolled: int = UNROLLED
    check: Callable[[], None] = always

    def run(self, runner: pyperf.Runner, name: str) -> None:
        """Measure it."""
        runner.timeit(
            name,
            stmt=self.code,
            setup=f"{self.names} = make()",
            duplicate=self.unrolled,
            globals={"make": cache(self.make)},  # the setup runs once a value
        )


@dataclass(frozen=True)
class Loop:
    """What loops by itself, in C for instance: `make()(n)` gives the seconds that n took."""

    make: Callable[[], Callable[[int], float]]
    check: Callable[[], None] = always

    def run(self, runner: pyperf.Runner, name: str) -> None:
        """Measure it."""

        make = cache(self.make)
        runner.bench_time_func(name, lambda loops: make()(loops))


@dataclass(frozen=True)
class Work(Statement):
    """A statement by the CPU time that it takes, in all threads of the process: what waits for
    others (threads, sockets, the disk) is compared by what it does itself."""

    def run(self, runner: pyperf.Runner, name: str) -> None:
        """Measure it."""
        body = "\n".join(f"        {line}" for line in self.code.splitlines() * self.unrolled)
        source = f"def work({self.names}, loops):\n    for _ in range(loops):\n{body}\n"
        namespace: dict[str, Any] = {}
        exec(source, namespace)
        make = cache(self.make)

        def time_loops(loops: int) -> float:
            made = make()
            values = made if self.names.count(",") else (made,)
            began = process_time()
            namespace["work"](*values, loops)
            return process_time() - began

        runner.bench_time_func(name, time_loops, inner_loops=self.unrolled)


@dataclass(frozen=True)
class Command:
    """A whole process, from its start to its end: the CPU time that it took.

    Not the time on the wall: these processes are all work and no waiting, and what others do on a
    shared machine is not theirs.
    """

    arguments: Callable[[], list[str]]
    """Asked for each process: it may need a new folder."""
    check: Callable[[], None] = always

    def run(self, runner: pyperf.Runner, name: str) -> None:
        """Measure it."""

        def time_loops(loops: int) -> float:
            began = _children_s()
            for _ in range(loops):
                command = [sys.executable, *self.arguments()]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            return _children_s() - began

        runner.bench_time_func(name, time_loops)


def _children_s() -> float:
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


Subject = Statement | Loop | Command


def main(module: str, subjects: Mapping[str, Subject]) -> None:
    """Measure the subject that the command line names."""
    runner = pyperf.Runner(
        program_args=("-m", module),
        add_cmdline_args=lambda command, arguments: command.append(arguments.subject),
    )
    runner.argparser.add_argument("subject", choices=sorted(subjects))
    arguments = runner.parse_args()
    subject = subjects[arguments.subject]
    if not arguments.worker:
        try:
            subject.check()
        except Absent as error:
            print(error, file=sys.stderr)
            sys.exit(ABSENT)
    subject.run(runner, arguments.subject)
