"""`make cpython-tests`: CPython's own test suite as the judge of what a watched program can notice.

Each module of `python -m test` runs bare and recorded by `kobs run` with everything on, one after
the other, and the two are compared test by test: outcomes, warnings, what the suite says of leaked
threads, processes and files. What differs is run twice more, bare and recorded, so that a test
which comes out differently by itself is told apart.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from kobs import open_recording

MODULES = (
    "test_queue", "test_subprocess", "test_os", "test_io", "test_threading",
    "test_asyncio.test_tasks", "test_asyncio.test_queues", "test_shutil",
)  # fmt: skip
TIMEOUT_S = 1200
EXTRA: tuple[str, ...] = ()
"""Further arguments of `python -m test`."""

_ADDRESS = re.compile(r"0x[0-9a-f]+")
_NUMBER = re.compile(r"\b\d+(\.\d+)?\b")


class Result(NamedTuple):
    """What one run of a module said."""

    tests: dict[str, str]
    """Outcome of each test: passed, failed, skipped with the reason."""
    said: tuple[str, ...]
    """Warnings and changes of the environment, without addresses and numbers."""
    exit_code: int
    last: str
    """The last line of the output."""
    recorded: str = ""
    """How much was recorded; empty for a bare run."""


def main(arguments: list[str] | None = None) -> int:
    """Run the modules; 0 where nothing differs but what differs by itself."""
    parser = argparse.ArgumentParser(prog="cpython-tests", description=__doc__)
    parser.add_argument("modules", nargs="*", default=MODULES, help="as `python -m test` has them")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has kobs")
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
    differing = [
        module for module in given.modules if not _same(module, given.python, options, given.logs)
    ]
    if differing:
        print(f"\ndiffers when recorded: {', '.join(differing)}", file=sys.stderr)
    return 1 if differing else 0


def _has_tests(python: str) -> bool:
    found = subprocess.run([python, "-c", "import test.libregrtest"], capture_output=True)
    return found.returncode == 0


def _same(module: str, python: str, options: list[str], logs: Path | None) -> bool:
    bare, watched = [_run(module, python, recorded, logs) for recorded in (None, options)]
    if not bare.tests:
        print(f"{module}: not judged, it runs no test bare: {bare.last}", flush=True)
        return False
    counts = f"{len(bare.tests)} tests"
    differences = _differences(bare, watched)
    if not differences:
        print(f"{module}: the same, {counts}{_skipped(bare)}; {watched.recorded}", flush=True)
        return True
    bare_again, watched_again = [
        _run(module, python, recorded, logs) for recorded in (None, options)
    ]
    by_itself = _differences(bare, bare_again) | _differences(watched, watched_again)
    ours = differences & _differences(bare_again, watched_again) - by_itself
    print(f"{module}: {len(ours)} differences, {counts}{_skipped(bare)}; {watched.recorded}")
    for text in sorted(differences):
        print(f"  {'' if text in ours else '(not again, or by itself as well) '}{text}")
    sys.stdout.flush()
    return not ours


def _skipped(result: Result) -> str:
    count = sum(outcome.startswith("skipped") for outcome in result.tests.values())
    return f", {count} of them skipped" if count else ""


def _differences(bare: Result, watched: Result) -> set[str]:
    found = {
        f"{name}: bare {bare.tests.get(name, 'not run')}, "
        f"recorded {watched.tests.get(name, 'not run')}"
        for name in bare.tests.keys() | watched.tests.keys()
        if bare.tests.get(name) != watched.tests.get(name)
    }
    found |= {f"said only bare: {text}" for text in set(bare.said) - set(watched.said)}
    found |= {f"said only when recorded: {text}" for text in set(watched.said) - set(bare.said)}
    if bare.exit_code != watched.exit_code:
        found.add(f"exit code: bare {bare.exit_code}, recorded {watched.exit_code}")
    return found


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
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
        kind = "bare" if recorded is None else "recorded"
        number = len(list(logs.glob(f"{module}-{kind}-*"))) + 1
        (logs / f"{module}-{kind}-{number}.txt").write_text(ended.stdout)
    tests = _outcomes(results) if results.exists() else {}
    said = _said(ended.stdout)
    last = ended.stdout.strip().rpartition("\n")[2]
    if recorded is None:
        return Result(tests, said, ended.returncode, last)
    with open_recording(session) as recording:
        processes = len(recording.processes)
        events = f"{recording.produced():,} events of {processes} processes"
        errors = [
            f"kobs says: {child['reason']}"
            for child in recording.unobserved
            if child["reason"].startswith("error inside kobs")
        ]
        if not recording.produced():
            errors.append("nothing was recorded")
    return Result(tests, (*said, *errors), ended.returncode, last, events)


def _outcomes(results: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        outcome = "passed"
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome = child.tag
                if child.tag == "skipped":
                    outcome = f"skipped ({(child.text or '').strip()})"
        name = case.get("name", "")
        found[name] = outcome if name not in found else f"{found[name]}, {outcome}"
    return found


_SAYS = ("Warning -- ", "test altered the execution environment", "Exception ignored in")


def _said(output: str) -> tuple[str, ...]:
    lines = (line for line in output.splitlines() if any(said in line for said in _SAYS))
    return tuple(_NUMBER.sub("N", _ADDRESS.sub("0x", line)) for line in lines)


if __name__ == "__main__":
    sys.exit(main())
