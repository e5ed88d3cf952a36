"""Whole processes: starting Python, importing kobs, a run of pytest; and a test within one.

The tests lie in a folder that `tests()` fills and `BENCH_FOLDER` names.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pyperf

from benchmarks.each_test import TIMES
from benchmarks.subject import Command, main

MANY = 1501
"""Tests in the larger of the two runs; the other has one."""

OTHERS = ("xdist", "asyncio", "anyio", "timeout", "hypothesispytest", "cacheprovider")
"""Plugins that happen to be installed beside kobs: off, on both sides."""


def write_tests(folder: Path) -> None:
    """Make the two files of empty tests."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name, number in (("one", 1), ("many", MANY)):
        tests = (f"def test_{n}():\n    pass\n" for n in range(number))
        (folder / f"test_{name}.py").write_text("\n".join(tests))


@dataclass(frozen=True)
class EachTest(Command):
    """A run of pytest over many tests: the time on the wall of the median test.

    A run's own time is hundreds of times a test's, and not the same twice; a test's is taken from
    `benchmarks.each_test`, without the first, which pays what is done once.
    """

    def run(self, runner: pyperf.Runner, name: str) -> None:
        """Measure it."""

        def time_loops(loops: int) -> float:
            return sum(self._median_s() for _ in range(loops))

        runner.bench_time_func(name, time_loops)

    def _median_s(self) -> float:
        with tempfile.TemporaryDirectory() as folder:
            times = Path(folder) / "times.json"
            subprocess.run(
                [sys.executable, *self.arguments()], check=True, stdout=subprocess.DEVNULL,
                env={**os.environ, TIMES: str(times)},
            )  # fmt: skip
            return float(median(json.loads(times.read_text())[1:])) / 1e9


def pytest_arguments(name: str, *options: str) -> Callable[[], list[str]]:
    """The command line of a run over one of the files."""

    def arguments() -> list[str]:
        folder = os.environ["BENCH_FOLDER"]
        off = [part for other in OTHERS for part in ("-p", f"no:{other}")]
        session = [f"--kobs-session={folder}/sessions"] if "--kobs" in options else []
        where = ["--rootdir", folder, f"{folder}/test_{name}.py"]
        return ["-m", "pytest", "-q", *off, *options, *session, *where]

    return arguments


def whole(*options: str) -> Command:
    """A run of one test."""
    return Command(pytest_arguments("one", *options))


def each(*options: str) -> EachTest:
    """A test in a run of many."""
    return EachTest(pytest_arguments("many", "-p", "benchmarks.each_test", *options))


SUBJECTS = {
    "start": Command(lambda: ["-c", "pass"]),
    "import_kobs": Command(lambda: ["-c", "import kobs"]),
    "import_collector": Command(lambda: ["-c", "import kobs; kobs.Collector()"]),
    "pytest_off_run": whole("-p", "no:kobs"),
    "pytest_unused_run": whole(),
    "pytest_off_test": each("-p", "no:kobs"),
    "pytest_unused_test": each(),
    "pytest_on_test": each("--kobs"),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
