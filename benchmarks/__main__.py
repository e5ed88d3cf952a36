"""Measure everything in one run, print the tables, write JSON: `python -m benchmarks`."""

import argparse
import compileall
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import groups, machine, report, results, rivals
from benchmarks.environments import ROOT, variables
from benchmarks.measure import Series, measure
from benchmarks.subjects.suites import write_tests

THREADS = (1, 2, 4, 8)
READERS = (1, 2, 3, 4)
PROCESSES = (2, 4)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="rough figures in two minutes")
    parser.add_argument("--json", metavar="FILE", help="write the result")
    parser.add_argument("--no-peers", action="store_true", help="install and measure no peer")
    parser.add_argument(
        "--only", action="append", metavar="GROUP",
        help=f"one of {', '.join(group.name for group in groups.GROUPS)}, memory, scaling, "
        "rivals; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--report", metavar="FILE", help="print the tables of a written result; measure nothing"
    )
    given = parser.parse_args()
    if given.report:
        print(report.as_text(json.loads(Path(given.report).read_text())))
        return
    result = run(quick=given.quick, peers=not given.no_peers, only=given.only)
    if given.json:
        Path(given.json).parent.mkdir(parents=True, exist_ok=True)
        Path(given.json).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(report.as_text(result))


def run(*, quick: bool, peers: bool, only: list[str] | None) -> dict[str, Any]:
    """Measure; the result as `results.collect` gives it."""
    compile_sources()
    described = machine.describe()
    cores = available()
    series = Series()
    scaling: dict[str, Any] = {}
    began = time.monotonic()

    def wanted(name: str) -> bool:
        if only and name not in only:
            return False
        print(f"{time.monotonic() - began:5.0f} s  {name}", file=sys.stderr, flush=True)
        return True

    pythons, versions = groups.peers(series, wanted=peers)
    rounds = 0
    with tempfile.TemporaryDirectory() as folder:
        write_tests(Path(folder))
        for group in groups.GROUPS:
            effort = group.quick if quick else group.full
            if effort is not None and wanted(group.name):
                rounds = max(rounds, effort.rounds)
                measure(groups.tasks(group, cores, pythons, folder), effort, series)
    if wanted("memory"):
        for core in cores:
            for _ in range(1 if quick else 3):
                series.add(f"{core}:memory", float(child("memory", core=core)))
    if wanted("scaling"):
        for core in cores:
            scaling[core] = {"threads": threads(core, quick), "processes": processes(core, quick)}
    lost = rivals.measure() if "c" in cores and wanted("rivals") else []
    print(f"{time.monotonic() - began:5.0f} s  done", file=sys.stderr)
    return results.collect(
        series,
        cores,
        machine=described,
        versions=versions,
        scaling=scaling,
        rivals=lost,
        rounds=rounds,
        only=only or (),
    )


def compile_sources() -> None:
    """Have byte code for what is measured, as after an installation (pip compiles the peers):
    whole programs would compile kobs anew each time where `PYTHONDONTWRITEBYTECODE` is set."""
    for package in ("kobs", "kobs_pytest", "instrumentation", "benchmarks"):
        compileall.compile_dir(ROOT / package, quiet=1)


def available() -> dict[str, tuple[str, ...]]:
    """The cores that are measured, and what each says of itself: the one that `KOBS_CORE` names,
    else all there are."""
    from kobs._core import CORES, select
    from kobs.errors import CoreUnavailableError

    asked = os.environ.get("KOBS_CORE")
    found: dict[str, tuple[str, ...]] = {}
    for name in (asked,) if asked else CORES:
        try:
            select(name)
        except CoreUnavailableError:
            if asked:
                raise
            continue
        found[name] = features() if name == "c" else ()
    return found


def features() -> tuple[str, ...]:
    """What the C core has, by `kobs._core._native.bench_features()`."""
    try:
        return tuple(import_module("kobs._core._native").bench_features())
    except (ImportError, AttributeError):
        return ()


def threads(core: str, quick: bool) -> list[dict[str, Any]]:
    """Producers and subscribers in one process."""
    cells = ((1, 1), (4, 2)) if quick else ((p, r) for r in READERS for p in THREADS)
    seconds = "0.5" if quick else "1"
    return [
        json.loads(child("scaling", "threads", "--producers", str(p), "--readers", str(r),
                         "--seconds", seconds, core=core))
        for p, r in cells
    ]  # fmt: skip


def processes(core: str, quick: bool) -> list[dict[str, Any]]:
    """A million events a second from several processes."""
    return [
        json.loads(child("scaling", "processes", "--producers", str(number),
                         "--seconds", "2" if quick else "8", core=core))
        for number in (PROCESSES[:1] if quick else PROCESSES)
    ]  # fmt: skip


def child(module: str, *arguments: str, core: str) -> str:
    """What a module of this package prints, run by itself."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    environment = variables(KOBS_CORE=core)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True,
        timeout=300,
    )  # fmt: skip
    return done.stdout


if __name__ == "__main__":
    main()
