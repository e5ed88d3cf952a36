"""`make project-suites`: the tests of well-known projects under `pytest --kobs`, everything on.

Each project's source distribution comes from the package index, into a folder and a virtual
environment of its own below `build/suites`. Its tests run bare (`-p no:kobs`), with the plugin
installed and not used, with `--kobs`, and with `--kobs --kobs-all`; each is compared with the bare
run test by test: outcomes, reasons, warnings, exit code. What differs is run once more both ways,
so that a test which comes out differently by itself is told apart.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from tools.comparing import Result, interpreter, judge, keep_log, outcomes, plain, told

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 1800


class Suite(NamedTuple):
    """A project's tests."""

    version: str
    tests: str
    """Where they are in its source distribution."""
    needs: tuple[str, ...]
    """What they import, beside the project and pytest."""


SUITES = {
    "pluggy": Suite("1.6.0", "testing", ("pytest-benchmark",)),
    "attrs": Suite("25.4.0", "tests", ("hypothesis", "cloudpickle", "pympler")),
    "click": Suite("8.3.1", "tests", ("pytest<9",)),
    "anyio": Suite(
        "4.12.0",
        "tests",
        ("hypothesis", "trio", "psutil", "trustme", "truststore", "pytest-mock", "exceptiongroup"),
    ),
    "structlog": Suite(
        "25.5.0", "tests", ("freezegun", "pretend", "pytest-asyncio", "simplejson", "time-machine")
    ),
}


WAYS: dict[str, tuple[str, ...]] = {
    "unused": (),
    "used": ("--kobs",),
    "all": ("--kobs", "--kobs-all"),
}
"""What pytest is given where the plugin is installed."""
BARE = ("-p", "no:kobs")


def main(arguments: list[str] | None = None) -> int:
    """Run the suites; 0 where nothing differs but what differs by itself."""
    parser = argparse.ArgumentParser(prog="project-suites", description=__doc__)
    parser.add_argument("projects", nargs="*", help=f"of {', '.join(SUITES)}; all of them if none")
    parser.add_argument(
        "--python", type=interpreter, default=sys.executable, help="the Python that runs them"
    )
    parser.add_argument(
        "--way", choices=WAYS, action="append", help="with the plugin so; every way if none"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "suites")
    parser.add_argument("--logs", type=Path, help="keep the output of every run in this folder")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.projects if name not in SUITES]
    if unknown:
        parser.error(f"there is no suite of {', '.join(unknown)}; there are {', '.join(SUITES)}")
    given.folder.mkdir(parents=True, exist_ok=True)
    wheel = _wheel_of_kobs(given.python, given.folder)
    differing = [
        name
        for name in given.projects or SUITES
        if not _same(name, given.way or list(WAYS), given, wheel)
    ]
    if differing:
        print(f"\ndiffers when recorded: {', '.join(differing)}", file=sys.stderr)
    return 1 if differing else 0


def _same(name: str, ways: list[str], given: argparse.Namespace, wheel: Path) -> bool:
    suite = SUITES[name]
    try:
        place = _prepared(name, suite, given.python, given.folder, wheel)
    except subprocess.CalledProcessError as error:
        print(f"{name}: not judged, it cannot be installed: {error}", flush=True)
        return False
    first: list[Result] = []

    def same(way: str) -> bool:
        bare_runs = iter(first)

        def run_so(recorded: bool) -> Result:
            if recorded:
                return run(place, name, suite.tests, way, given.logs)
            if (known := next(bare_runs, None)) is not None:
                return known
            found = run(place, name, suite.tests, "bare", given.logs)
            first.extend([] if first else [found])
            return found

        return judge(f"{name} {suite.version}, {way}", run_so)

    differing = [way for way in ways if not same(way)]
    return not differing


# -- getting ready ---------------------------------------------------------------------------


def _wheel_of_kobs(python: str, folder: Path) -> Path:
    wheels = folder / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    _pip(python, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT))
    (wheel,) = wheels.glob("kobs-*.whl")
    return wheel


def _prepared(name: str, suite: Suite, python: str, folder: Path, wheel: Path) -> Path:
    """A folder with the unpacked source and, in `venv`, all that its tests need."""
    place = folder / name
    own = place / "venv" / "bin" / "python"
    archives = place / "archives"
    if not own.exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        requirement = f"{name}=={suite.version}"
        _pip(
            python, "download", "--no-deps", "--no-binary", name, "--dest", str(archives),
            requirement,
        )  # fmt: skip
        (archive,) = archives.glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(place, filter="data")
        (place / archive.name.removesuffix(".tar.gz")).rename(place / "source")
        subprocess.run([python, "-m", "venv", str(place / "venv")], check=True)
    _pip(str(own), "install", str(place / "source"), "pytest", *suite.needs, f"{wheel}[pytest]")
    _pip(str(own), "install", "--no-deps", "--force-reinstall", str(wheel))
    return place


def _pip(python: str, *arguments: str) -> None:
    subprocess.run(
        [python, "-m", "pip", arguments[0], "--disable-pip-version-check", "--quiet",
         *arguments[1:]],
        check=True,
    )  # fmt: skip


# -- one run ---------------------------------------------------------------------------------


def run(place: Path, name: str, tests: str, way: str, logs: Path | None) -> Result:
    """Run a project's tests once: `way` is "bare" or one of `WAYS`."""
    temporary = Path(tempfile.mkdtemp(prefix="kobs-suite-"))
    try:
        return _run_in(temporary, place, name, tests, way, logs)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _run_in(
    temporary: Path, place: Path, name: str, tests: str, way: str, logs: Path | None
) -> Result:
    results, state = temporary / "results.xml", temporary / "state"
    command = [
        str(place / "venv" / "bin" / "python"), "-m", "pytest", tests, *WAYS.get(way, BARE), "-p",
        "no:cacheprovider", f"--junit-xml={results}", f"--basetemp={temporary / 'base'}",
    ]  # fmt: skip
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_HIDDEN)}
    ended = subprocess.run(
        command, cwd=place / "source", env={**kept, "XDG_STATE_HOME": str(state)},
        stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        errors="backslashreplace", timeout=TIMEOUT_S,
    )  # fmt: skip
    keep_log(logs, name, way, ended.stdout)
    lines = ended.stdout.strip().splitlines() or [""]
    warned = _WARNED.search(ended.stdout)
    said = (f"{warned[1]} warnings",) if warned else ()
    made = [path for path in state.glob("kobs/*") if path.is_dir()]
    events = "no session"
    if made and way in ("bare", "unused"):
        said = (*said, "a session was made")
    elif made:
        # A suite that runs pytest in itself may make more: the one of the run is the first by name.
        events, errors = told(str(min(made)))
        said = (*said, *map(plain, errors))
    elif way not in ("bare", "unused"):
        said = (*said, "no session was made")
    found = outcomes(results, with_class=True)
    return Result(found, said, ended.returncode, lines[-1], events)


_HIDDEN = ("KOBS_", "PYTEST", "COV_")
_WARNED = re.compile(r"[, ](\d+) warnings?[ ,].*\bin \d")


if __name__ == "__main__":
    sys.exit(main())
