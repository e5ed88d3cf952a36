"""Which subjects are measured side by side, and for how long. A row compares within a group."""

from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

from benchmarks.environments import python_of, version_of
from benchmarks.measure import Effort, Series, Task
from benchmarks.peers import PEERS
from benchmarks.subject import Absent, Subject
from benchmarks.subjects import (
    busy,
    calls,
    exporting,
    floods,
    floors,
    growth,
    hooked,
    inside,
    operations,
    processes,
    programs,
    spans,
    suites,
    watched,
)


class Group(NamedTuple):
    """Subjects that are measured in turn."""

    name: str
    ours: tuple[str, ...]
    """Measured on each core."""
    others: tuple[str, ...]
    """The same whatever the core."""
    full: Effort
    quick: Effort | None
    """None: a quick run leaves it out."""


OURS = {
    name: (module.__name__, subject)
    for module in (
        calls,
        spans,
        inside,
        growth,
        processes,
        suites,
        programs,
        floods,
        hooked,
        busy,
        watched,
    )
    for name, subject in module.SUBJECTS.items()
} | {
    name: (exporting.__name__, subject)
    for name, subject in {**exporting.SUBJECTS, **exporting.MEANWHILE}.items()
}
FLOORS = {name: (floors.__name__, subject) for name, subject in floors.SUBJECTS.items()}
PUBLISHING = ("publish", "publish_block")
PARTS = ("add_slot", "copy_slot", "copy_line")
"""Floors of what is done with events inside the core."""
SPANS = ("otel_span", "ddtrace_span", "logfire_span", "viz_event")
CALLS = (
    "functools_wraps", "logging_null", "logging_file", "wrapt", "wrapt_bound", "viz_instant",
    "viz_traced", "structlog_info",
)  # fmt: skip
WATCHERS = tuple(
    f"{watcher}_{program}" for watcher in ("viz", "otel", "ddtrace") for program in programs.BARE
)
CONTRIB = (
    "contrib_thread", "contrib_submit", "contrib_task", "contrib_look", "contrib_grpc_beside_api",
)  # fmt: skip
STARTS = ("import_kobs", "import_collector")
TESTS = ("pytest_off_test", "pytest_unused_test", "pytest_on_test")
RUNS = ("pytest_off_run", "pytest_unused_run")
SUITES = ("pytest_off_suite", "pytest_on_suite")
PLUGINS = ("pyotel", "logfire", "ddtrace")
"""Peers' pytest plugins."""


def plugins(*what: str) -> tuple[str, ...]:
    """Subjects of the peers' pytest plugins."""
    return tuple(f"{plugin}_{one}" for plugin in PLUGINS for one in what)


GROUPS = (
    Group("calls", (*calls.SUBJECTS, *PUBLISHING),
          (*(name for name in floors.SUBJECTS if name not in PARTS), *CALLS),
          Effort(7, 101, 0.0003), Effort(3, 51, 0.0003)),
    Group("spans", tuple(spans.SUBJECTS), SPANS, Effort(7, 101, 0.0003), Effort(3, 51, 0.0003)),
    Group("export", tuple(exporting.SUBJECTS), ("otel_export",),
          Effort(7, 5, 0.01), Effort(3, 3, 0.01)),
    Group("spans meanwhile", tuple(exporting.MEANWHILE), (),
          Effort(7, 3, 1.0), Effort(2, 2, 0.5)),
    Group("inside", tuple(name for name in inside.SUBJECTS if name not in PUBLISHING), PARTS,
          Effort(7, 101, 0.0003), Effort(3, 51, 0.0003)),
    Group("watches", tuple(watched.SUBJECTS), (*operations.SUBJECTS, *CONTRIB),
          Effort(7, 21, 0.003), Effort(3, 7, 0.002)),
    Group("start-up", STARTS, ("start",), Effort(11, 3, 0.0), Effort(5, 1, 0.0)),
    Group("pytest", TESTS, plugins("off_test", "on_test"),
          Effort(11, 3, 0.0, least=True), None),
    Group("pytest runs", RUNS, plugins("off_run", "unused_run"),
          Effort(21, 5, 0.0, least=True), None),
    Group("pytest suites", SUITES, plugins("off_suite", "on_suite"), Effort(5, 1, 0.0), None),
    Group("10,000 events a second", tuple(busy.SUBJECTS), (),
          Effort(5, 3, 0.0), Effort(2, 2, 0.0)),
    Group("programs", tuple(programs.SUBJECTS), (*programs.BARE, *WATCHERS),
          Effort(5, 1, 0.0), None),
    Group("floods", tuple(floods.SUBJECTS), tuple(floods.BARE), Effort(5, 1, 0.0), None),
    Group("hooked calls", tuple(hooked.SUBJECTS), tuple(hooked.BARE),
          Effort(7, 101, 0.0003), Effort(3, 51, 0.0003)),
    Group("growth", tuple(growth.SUBJECTS), (), Effort(3, 51, 0.0003), None),
)  # fmt: skip
BUSY_LOOPS = 5
"""Half a second a value: it waits for most of it."""


def tasks(
    group: Group, cores: Mapping[str, object], peers: Mapping[str, str], folder: str
) -> list[Task]:
    """The tasks of a group. `peers`: subjects to the Python that has them."""
    made = []
    for name in group.others:
        if name in FLOORS:
            module, subject = FLOORS[name]
            made.append(Task(name, module, name, type(subject)))
        elif name in operations.SUBJECTS:
            bare = operations.SUBJECTS[name]
            made.append(Task(name, operations.__name__, name, type(bare)))
        elif name in processes.SUBJECTS:
            made.append(Task(name, processes.__name__, name, type(processes.SUBJECTS[name])))
        elif name in programs.BARE:
            made.append(Task(name, programs.__name__, name, type(programs.BARE[name])))
        elif name in floods.BARE:
            made.append(Task(name, floods.__name__, name, type(floods.BARE[name])))
        elif name in hooked.BARE:
            made.append(Task(name, hooked.__name__, name, type(hooked.BARE[name])))
        elif name in peers:
            module, subject = peer_subjects()[name]
            made.append(
                Task(name, module, name, type(subject), python=peers[name],
                     environment={"BENCH_FOLDER": folder})
            )  # fmt: skip
    for name in group.ours:
        module, subject = OURS[name]
        for core in cores:
            environment = {"KOBS_CORE": core, "BENCH_FOLDER": folder}
            loops = BUSY_LOOPS if name in busy.SUBJECTS else 0
            task = Task(f"{core}:{name}", module, name, type(subject), environment=environment)
            task.loops = loops
            made.append(task)
    return made


def peer_subjects() -> dict[str, tuple[str, Subject]]:
    """Every peer's subjects: the module, and how it is measured."""
    modules = [import_module(f"benchmarks.peers.{peer.module}") for peer in PEERS]
    return {name: (m.__name__, s) for m in modules for name, s in m.SUBJECTS.items()}


def peers(series: Series, *, wanted: bool = True) -> tuple[dict[str, str], dict[str, str]]:
    """The Python of each peer's subjects, and each peer's version. What cannot be had, or is not
    `wanted`, is said in the series; the standard library is always there."""
    pythons: dict[str, str] = {}
    versions: dict[str, str] = {}
    for peer in PEERS:
        subjects = import_module(f"benchmarks.peers.{peer.module}").SUBJECTS
        try:
            if peer.requirement and not wanted:
                raise Absent("left out (--no-peers)")
            python = python_of(peer)
            versions[peer.module] = version_of(python, peer)
        except Absent as error:
            versions[peer.module] = str(error)
            for name in subjects:
                series.leave_out(name, str(error))
            continue
        pythons |= dict.fromkeys(subjects, python)
    return pythons, versions
