"""Runs of pytest: whole ones, a test within one, and a suite whose tests do some work.

The tests lie in a folder that `write_tests()` fills and `BENCH_FOLDER` names. Peers' plugins run
over the same, in environments that have pytest and no kobs.
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
from time import perf_counter

import pyperf

from benchmarks.each_test import TIMES
from benchmarks.subject import Command, main

MANY = 1501
"""Tests in the larger of the two runs of empty ones; the other has one."""
WORKING = 1000
"""Tests in the suite that works."""
WORK_S = 0.002
"""How long each of those takes on this machine, about."""

OTHERS = ("xdist", "asyncio", "anyio", "timeout", "hypothesispytest", "cacheprovider")
"""Plugins that happen to be installed beside kobs: off, on both sides."""

WORK = """
import json, queue


def work(tmp_path_factory, often):
    path = tmp_path_factory.getbasetemp() / "work.json"
    for _ in range(often):
        text = json.dumps({"numbers": list(range(200)), "name": "x" * 100})
        json.loads(text)
    path.write_text(text)
    jobs = queue.Queue()
    jobs.put(path)
    assert json.loads(jobs.get().read_text())["name"]
"""


def write_tests(folder: Path) -> None:
    """Make the three files of tests."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name, number in (("one", 1), ("many", MANY)):
        tests = (f"def test_{n}():\n    pass\n" for n in range(number))
        (folder / f"test_{name}.py").write_text("\n".join(tests))
    often = _rounds_of_work(folder)
    tests = (
        f"def test_{n}(tmp_path_factory):\n    work(tmp_path_factory, {often})\n"
        for n in range(WORKING)
    )
    (folder / "test_suite.py").write_text(WORK + "\n" + "\n".join(tests))


def _rounds_of_work(folder: Path) -> int:
    """How often a test has to do its work to take as long as it should."""

    class Here:
        def getbasetemp(self) -> Path:
            return folder

    namespace: dict[str, Callable[..., None]] = {}
    exec(WORK, namespace)
    times = []
    for often in (1, 101):
        began = [0.0] * 11
        for number in range(len(began)):
            start = perf_counter()
            namespace["work"](Here(), often)
            began[number] = perf_counter() - start
        times.append(median(began))
    return max(1, round((WORK_S - times[0]) / ((times[1] - times[0]) / 100)))


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


def suite(*options: str) -> Command:
    """A run of a thousand tests that work for two milliseconds each."""
    return Command(pytest_arguments("suite", *options))


SUBJECTS = {
    "pytest_off_run": whole("-p", "no:kobs"),
    "pytest_unused_run": whole(),
    "pytest_off_test": each("-p", "no:kobs"),
    "pytest_unused_test": each(),
    "pytest_on_test": each("--kobs"),
    "pytest_off_suite": suite("-p", "no:kobs"),
    "pytest_on_suite": suite("--kobs", "--kobs-all"),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
