"""`make cpython-tests`: CPython's own test suite as the judge of what a watched program can notice.

Each module of `python -m test` runs bare and recorded by `kobs run` with everything on, one after
the other, and the two are compared test by test: outcomes, warnings, what the suite says of leaked
threads, processes and files. What differs is run twice more, bare and recorded, so that a test
which comes out differently by itself is told apart.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.comparing import Result, interpreter, judge, keep_log, outcomes, plain, told

MODULES = (
    "test_queue", "test_subprocess", "test_os", "test_io", "test_threading",
    "test_asyncio.test_tasks", "test_asyncio.test_queues", "test_shutil",
)  # fmt: skip
TIMEOUT_S = 1200
EXTRA: tuple[str, ...] = ()
"""Further arguments of `python -m test`."""


def main(arguments: list[str] | None = None) -> int:
    """Run the modules; 0 where nothing differs but what differs by itself."""
    parser = argparse.ArgumentParser(prog="cpython-tests", description=__doc__)
    parser.add_argument("modules", nargs="*", default=MODULES, help="as `python -m test` has them")
    parser.add_argument(
        "--python", type=interpreter, default=sys.executable, help="an interpreter that has kobs"
    )
    parser.add_argument("--only", help="watch these subsystems alone, as `kobs run --only`")
    parser.add_argument("--logs", type=Path, help="keep the output of every run in this folder")
    given = parser.parse_args(arguments)
    if not _has_tests(given.python):
        print(
            f"{given.python} comes without its test suite (the package `test`): take one that "
            "was built from source, or install it (on Debian: libpython3-testsuite)",
            file=sys.stderr,
        )
        return 2
    options = ["--only", given.only] if given.only else []

    def same(module: str) -> bool:
        return judge(
            module,
            lambda recorded: _run(module, given.python, options if recorded else None, given.logs),
        )

    differing = [module for module in given.modules if not same(module)]
    if differing:
        print(f"\ndiffers when recorded: {', '.join(differing)}", file=sys.stderr)
    return 1 if differing else 0


def _has_tests(python: str) -> bool:
    found = subprocess.run([python, "-c", "import test.libregrtest"], capture_output=True)
    return found.returncode == 0


def _run(module: str, python: str, recorded: list[str] | None, logs: Path | None) -> Result:
    folder = Path(tempfile.mkdtemp(prefix="kobs-cpython-"))
    try:
        return _run_in(folder, module, python, recorded, logs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_in(
    folder: Path, module: str, python: str, recorded: list[str] | None, logs: Path | None
) -> Result:
    results = folder / "results.xml"
    work = folder / "work"
    work.mkdir()
    command = [
        python, "-m", "test", "-v", "--timeout", str(TIMEOUT_S), "--junit-xml", str(results),
        "--tempdir", str(folder / "temporary"), *EXTRA, module,
    ]  # fmt: skip
    if recorded is not None:
        session = str(folder / "session")
        command = [python, "-m", "kobs", "run", "-q", "-o", session, *recorded, "--", *command]
    env = {name: value for name, value in os.environ.items() if not name.startswith("KOBS_")}
    (folder / "temporary").mkdir()
    ended = subprocess.run(
        command, cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="backslashreplace",
    )  # fmt: skip
    keep_log(logs, module, "bare" if recorded is None else "recorded", ended.stdout)
    said = _said(ended.stdout)
    last = ended.stdout.strip().rpartition("\n")[2]
    if recorded is None:
        return Result(outcomes(results), said, ended.returncode, last)
    events, errors = told(session)
    return Result(outcomes(results), (*said, *errors), ended.returncode, last, events)


_SAYS = ("Warning -- ", "test altered the execution environment", "Exception ignored in")


def _said(output: str) -> tuple[str, ...]:
    lines = (line for line in output.splitlines() if any(said in line for said in _SAYS))
    return tuple(plain(line) for line in lines)


if __name__ == "__main__":
    sys.exit(main())
