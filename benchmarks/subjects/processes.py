"""Whole processes: starting Python, importing kobs, a run of pytest.

The tests lie in a folder that `tests()` fills and `BENCH_FOLDER` names.
"""

import os
from pathlib import Path

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


def pytest(name: str, *options: str) -> Command:
    """A run of pytest over one of the files."""

    def arguments() -> list[str]:
        folder = os.environ["BENCH_FOLDER"]
        off = [part for other in OTHERS for part in ("-p", f"no:{other}")]
        session = ["--kobs-session", f"{folder}/sessions"] if "--kobs" in options else []
        where = ["--rootdir", folder, f"{folder}/test_{name}.py"]
        return ["-m", "pytest", "-q", *off, *options, *session, *where]

    return Command(arguments)


SUBJECTS = {
    "start": Command(lambda: ["-c", "pass"]),
    "import_kobs": Command(lambda: ["-c", "import kobs"]),
    "import_collector": Command(lambda: ["-c", "import kobs; kobs.Collector()"]),
    "pytest_off_one": pytest("one", "-p", "no:kobs"),
    "pytest_off_many": pytest("many", "-p", "no:kobs"),
    "pytest_unused_one": pytest("one"),
    "pytest_unused_many": pytest("many"),
    "pytest_on_one": pytest("one", "--kobs"),
    "pytest_on_many": pytest("many", "--kobs"),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
