"""Write the page of subsystem, event and test: docs/reference/subsystems/events.md.

Which events a subsystem emits is read from the code of its watch, what makes them from its page,
and which tests show it from the tests: one counts where it asserts on the event, itself or by a
helper of its module, and not that there is none. What the design promises beyond event types is
found by the marker `says` of tests.

`python -m tools.subsystems` writes the page; `page()` is what a test compares with what is there.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import kobs.payloads  # noqa: F401  (declares the types)
from kobs.schema import registered_types
from kobs_instrumentation.subsystems import SUBSYSTEMS, WATCHED

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference" / "subsystems"
PAGE = FOLDER / "events.md"
TESTS = ROOT / "tests" / "instrumentation"
WATCHES = ROOT / "instrumentation" / "kobs_instrumentation" / "watch"

PROMISED: dict[str, tuple[str, ...]] = {
    "process": (
        "exit codes and signals of children", "state changes", "zombies and orphans",
    ),
    "vfs": ("slow file operations", "by mount", "changes", "mounts that come and go"),
    "queue": (
        "queue depth", "wait time", "timeouts", "cause goes with the item, which stays as it is",
    ),
    "scheduler": (
        "wake-to-run latency of threads", "wake-to-run latency of asyncio",
        "loop stalls with the stack of the culprit", "task switches with the reason", "preemption",
    ),
    "syscall": (
        "entry, exit and duration", "errno of failed system calls", "slow calls", "anomalies",
    ),
    "memory": (
        "GC pauses", "pressure from a cgroup's limit", "pressure from PSI",
        "pressure over 75 % and 90 %", "pressure of a real process", "allocations and frees",
    ),
    "shm": ("create, attach, destroy", "reads and writes", "shared memory never unlinked"),
    "pipe": ("reads and writes of pipes", "pipe throughput"),
    "network": ("connections with bytes both ways", "network errors"),
    "permission": ("denials with the operation and what was required", "grants"),
    "sandbox": ("a policy that warns", "a policy that enforces", "capability denials"),
}  # fmt: skip
"""What the design says of each subsystem, as the marker `says` has it."""

_MOST = 2
"""Tests that are named for an event."""

_HEAD = """\
# Events of the subsystems

Which event each watch of the standard library tells, what makes it, and tests that show it with the
real thing. Made by `make docs` from the watches, their pages and the tests (`tools/subsystems.py`).
"""


class Test(NamedTuple):
    """A test of the watches."""

    file: str
    name: str
    """With its class."""
    shows: frozenset[str]
    """The payload types that it asserts on."""
    says: tuple[str, ...]
    """Its markers `says`."""
    subsystems: tuple[str, ...]

    @property
    def link(self) -> str:
        """For the page."""
        name = self.name.rpartition("::")[2]
        return f"[`{name}`](../../../tests/instrumentation/{self.file})"


# -- what is emitted -----------------------------------------------------------------------------


def emitted(subsystem: str) -> set[str]:
    """The payload types that the modules of a watch emit."""
    found: set[str] = set()
    waiting, seen = [subsystem], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for node in ast.walk(_tree(WATCHES / f"{name}.py")):
            if not isinstance(node, ast.ImportFrom):
                continue
            names = {alias.name for alias in node.names}
            if node.module == "kobs.payloads":
                found |= names
            elif (node.module or "").startswith("kobs_instrumentation.watch"):
                own = {*names, (node.module or "").rpartition(".")[2]}
                parts = {each for each in own if (WATCHES / f"{each}.py").exists()}
                waiting += sorted(parts - seen - set(SUBSYSTEMS))
    return found


def documented(subsystem: str) -> dict[str, str]:
    """What makes each event, by the page of the subsystem."""
    text = (FOLDER / f"{subsystem}.md").read_text().partition("## What it says")[2]
    made: dict[str, str] = {}
    for line in text.partition("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for name in re.findall(r"\w+", cells[0]) if len(cells) == 3 else ():
            if name in registered_types() and cells[1] not in made.get(name, ""):
                made[name] = f"{made[name]}; {cells[1]}" if name in made else cells[1]
    return made


# -- which tests show it ---------------------------------------------------------------------------


@cache
def tests() -> tuple[Test, ...]:
    """Every test of the watches."""
    return tuple(test for path in sorted(TESTS.glob("test_*.py")) for test in _tests_of(path))


def showing(subsystem: str, event: str) -> list[Test]:
    """The tests that show an event of a subsystem."""
    return [test for test in tests() if subsystem in test.subsystems and event in test.shows]


def saying(item: str) -> list[Test]:
    """The tests that are marked with what the design says."""
    return [test for test in tests() if item in test.says]


def _tests_of(path: Path) -> Iterator[Test]:
    tree = _tree(path)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    helpers: dict[str, ast.FunctionDef | ast.ClassDef] = {
        **{name: node for name, node in functions.items() if not name.startswith("test")},
        **{name: node for name, node in classes.items() if not name.startswith("Test")},
    }
    helpers |= _imported_helpers(tree)
    watch = path.stem.removeprefix("test_").removeprefix("watch_").partition("_")[0]
    whole = [watch] if watch in WATCHED else _marked(_marks_of_module(tree), "shows")
    inside = [
        (f"{owner.name}::{node.name}", node, owner)
        for owner in classes.values()
        for node in owner.body
        if isinstance(node, ast.FunctionDef)
    ]
    for name, node, owner in [*((n, f, None) for n, f in functions.items()), *inside]:
        if not node.name.startswith("test"):
            continue
        marks = [*node.decorator_list, *(owner.decorator_list if owner else ())]
        subsystems = tuple(dict.fromkeys([*whole, *_marked(marks, "shows")]))
        yield Test(
            path.name, name, _shown(node, helpers), tuple(_marked(marks, "says")), subsystems
        )


def _imported_helpers(tree: ast.Module) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    """What a test takes from a module beside it."""
    found: dict[str, ast.FunctionDef | ast.ClassDef] = {}
    for taken in tree.body:
        if not isinstance(taken, ast.ImportFrom):
            continue
        beside = TESTS / f"{(taken.module or '').rpartition('.')[2]}.py"
        names = {alias.name for alias in taken.names}
        for node in _tree(beside).body if beside.exists() else ():
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
                found[node.name] = node
    return found


def _shown(
    test: ast.FunctionDef, helpers: dict[str, ast.FunctionDef | ast.ClassDef]
) -> frozenset[str]:
    """The payload types that a test names, or a helper that it uses, if it asserts anything."""
    if not any(isinstance(node, ast.Assert) for node in ast.walk(test)):
        return frozenset()
    found: set[str] = set()
    waiting: list[ast.AST] = [test]
    seen: set[str] = set()
    while waiting:
        for name in _names(waiting.pop()):
            if name in registered_types():
                found.add(name)
            elif name in helpers and name not in seen:
                seen.add(name)
                waiting.append(helpers[name])
    return frozenset(found)


def _names(node: ast.AST) -> Iterator[str]:
    """Names and whole strings in a piece of code, but for what is asserted not to be there."""
    if isinstance(node, ast.Assert) and _is_absence(node.test):
        return
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from _names(child)


def _is_absence(test: ast.expr) -> bool:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return True
    if isinstance(test, ast.Compare):
        ends = [test.left, *test.comparators]
        empty = any(isinstance(e, ast.List | ast.Tuple) and not e.elts for e in ends)
        return empty or any(isinstance(op, ast.NotIn) for op in test.ops)
    return False


def _marks_of_module(tree: ast.Module) -> list[ast.expr]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "pytestmark":
            return node.value.elts if isinstance(node.value, ast.List) else [node.value]
    return []


def _marked(marks: list[ast.expr], name: str) -> list[str]:
    """The arguments of the markers of a name."""
    return [
        str(argument.value)
        for mark in marks
        if isinstance(mark, ast.Call) and getattr(mark.func, "attr", "") == name
        for argument in mark.args
        if isinstance(argument, ast.Constant)
    ]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


# -- the page --------------------------------------------------------------------------------------


def page() -> str:
    """The whole page."""
    lines = [_HEAD]
    for subsystem in WATCHED:
        lines += [f"## {subsystem}", "", f"[What it watches]({subsystem}.md).", ""]
        lines += ["| event | what makes it | shown by |", "|---|---|---|"]
        for event, makes in documented(subsystem).items():
            shown = "; ".join(test.link for test in showing(subsystem, event)[:_MOST])
            lines.append(f"| [{event}](../events/{event}.md) | {makes} | {shown} |")
        promised = PROMISED.get(subsystem, ())
        if promised:
            lines += ["", "| what it says | shown by |", "|---|---|"]
        for item in promised:
            shown = "; ".join(test.link for test in saying(item)[:_MOST])
            lines.append(f"| {item} | {shown} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page())
