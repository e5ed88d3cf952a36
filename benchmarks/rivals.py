"""The ring beside what was tried in its place and lost: `native/rivals.c`, threads in parallel."""

import shlex
import subprocess
import sysconfig
from typing import Any

from benchmarks.native import FOLDER, SOURCE
from benchmarks.subject import Absent

HERE = SOURCE.parent
CORE = HERE.parents[1] / "kobs" / "_core" / "src"
THREADS = (1, 2, 4)
EVENTS = 200_000


def measure() -> list[dict[str, Any]]:
    """Nanoseconds an event of one thread, by number of threads and rival; [] without a compiler."""
    try:
        program = build()
    except Absent:
        return []
    cells = []
    for threads in THREADS:
        told = subprocess.run(
            [program, str(threads), str(EVENTS)], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        ways = (line.split("\t") for line in told.splitlines())
        cells.append({"threads": threads, "ns": {name: float(ns) for name, ns in ways}})
    return cells


def build() -> str:
    """The program, built anew. Raises `Absent` where that cannot be."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    target = str(FOLDER / "rivals")
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    sources = [HERE / "rivals.c", CORE / "ring.c", CORE / "clock.c"]
    try:
        subprocess.run(
            [*compiler, "-std=c11", "-O3", f"-I{CORE}", *map(str, sources), "-o", target,
             "-pthread"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise Absent("no C compiler here") from None
    except subprocess.CalledProcessError as error:
        raise Absent(f"the C compiler refused it: {error.stderr.splitlines()[:1]}") from None
    return target
