"""Judging a suite of tests by running it bare and recorded: what differs, and what does by itself.

Shared by `tools.cpython_tests` and `tools.project_suites`.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from kobs import open_recording

MANY = 20
"""Tests that were not run, from which on they are counted rather than listed."""

_ADDRESS = re.compile(r"0x[0-9a-f]+")
_NUMBER = re.compile(r"\b\d+(\.\d+)?\b")


def interpreter(name: str) -> str:
    """An argument: the Python of that path or name, wherever it is started."""
    if (found := shutil.which(name)) is None:
        raise argparse.ArgumentTypeError(f"{name!r} is no program: give the path of a Python")
    return str(Path(found).absolute())


class Result(NamedTuple):
    """What one run of a suite said."""

    tests: dict[str, str]
    """Outcome of each test: passed, failed, skipped with the reason."""
    said: tuple[str, ...]
    """Warnings and changes of the environment, without addresses and numbers."""
    exit_code: int
    last: str
    """The last line of the output."""
    recorded: str = ""
    """How much was recorded; empty for a bare run."""


def judge(name: str, run: Callable[[bool], Result]) -> bool:
    """Run a suite bare and recorded (`run(recorded)`) and print what differs; whether nothing does
    but what differs by itself, which further runs tell."""
    bare, recorded = run(False), run(True)
    if not bare.tests:
        print(f"{name}: not judged, it runs no test bare: {bare.last}", flush=True)
        return False
    counts = f"{len(bare.tests)} tests{_skipped(bare)}; {recorded.recorded}"
    found = differences(bare, recorded)
    if not found:
        print(f"{name}: the same, {counts}", flush=True)
        return True
    bare_again, recorded_again = run(False), run(True)
    by_itself = differences(bare, bare_again) | differences(recorded, recorded_again)
    ours = found & differences(bare_again, recorded_again) - by_itself
    print(f"{name}: {len(ours)} differences, {counts}")
    for text in sorted(found):
        print(f"  {'' if text in ours else '(not again, or by itself as well) '}{text}")
    sys.stdout.flush()
    return not ours


def differences(bare: Result, recorded: Result) -> set[str]:
    """What one run said and the other did not, in words."""
    missing = sorted(bare.tests.keys() - recorded.tests.keys())
    found = {
        f"{name}: bare {bare.tests.get(name, 'not run')}, "
        f"recorded {recorded.tests.get(name, 'not run')}"
        for name in bare.tests.keys() | recorded.tests.keys()
        if bare.tests.get(name) != recorded.tests.get(name)
        and not (len(missing) >= MANY and name not in recorded.tests)
    }
    if len(missing) >= MANY:
        found.add(f"{len(missing)} tests not run when recorded, {missing[0]} and others")
    found |= {f"said only bare: {text}" for text in set(bare.said) - set(recorded.said)}
    found |= {f"said only when recorded: {text}" for text in set(recorded.said) - set(bare.said)}
    if bare.exit_code != recorded.exit_code:
        found.add(f"exit code: bare {bare.exit_code}, recorded {recorded.exit_code}")
    return found


def outcomes(results: Path, *, with_class: bool = False) -> dict[str, str]:
    """Each test's outcome, from a file in JUnit's format; none where there is no such file."""
    found: dict[str, str] = {}
    if not results.exists():
        return found
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        outcome = "passed"
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome = child.tag
                if child.tag == "skipped":
                    reason = child.get("message") or child.text or ""
                    outcome = f"skipped ({plain(reason.strip())})"
        name = case.get("name", "")
        if with_class:
            name = f"{case.get('classname', '')}::{name}"
        found[name] = outcome if name not in found else f"{found[name]}, {outcome}"
    return found


def told(session: str) -> tuple[str, tuple[str, ...]]:
    """How much a session recorded, and what it says that should not be."""
    with open_recording(session) as recording:
        events = f"{recording.produced():,} events of {len(recording.processes)} processes"
        errors = [
            f"kobs says: {child['reason']}"
            for child in recording.unobserved
            if child["reason"].startswith("error inside kobs")
        ]
        if not recording.produced():
            errors.append("nothing was recorded")
    return events, tuple(errors)


def plain(text: str) -> str:
    """A text without addresses and numbers, which differ from run to run."""
    return _NUMBER.sub("N", _ADDRESS.sub("0x", text))


def keep_log(logs: Path | None, name: str, way: str, output: str) -> None:
    """Keep the output of a run (`way`: bare, recorded, ...), numbered, where a folder was given."""
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
        number = len(list(logs.glob(f"{name}-{way}-*"))) + 1
        (logs / f"{name}-{way}-{number}.txt").write_text(output)


def _skipped(result: Result) -> str:
    count = sum(outcome.startswith("skipped") for outcome in result.tests.values())
    return f", {count} of them skipped" if count else ""
