"""One of the two sides that `kobs compare` compares: a session, a recording, a baseline file."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kobs._analysis.baseline_entry import CONFIRMED, Entry
from kobs._analysis.baseline_file import Baseline, is_baseline, read
from kobs._analysis.graph import CausalGraph
from kobs._analysis.normal import Normalizer
from kobs._analysis.recorded_tests import (
    RecordedTest,
    events_by_test,
    recorded_name,
    recorded_tests,
)
from kobs._analysis.shapes import of_phase, shapes
from kobs.cli import summary, targets
from kobs.events import Event, Severity

if TYPE_CHECKING:
    from kobs.recording import Recording


class Side(NamedTuple):
    """One of the two that are compared."""

    name: str
    doubts: list[str]
    """Why not all of it may have been seen."""
    cores: list[str]
    tests: dict[str, Entry]
    """By recorded name; of a recording, what each test's call did."""
    all: Mapping[str, int]
    """The events of a recording as a whole, by shape."""
    errors: Mapping[str, int]
    report: dict[str, Any] | None
    """As `kobs report --json` prints it; None for a baseline."""


def side(name: str | None, *, with_shapes: bool, with_errors: bool) -> Side:
    """Open and read one side. Raises `KobsError` where it is neither a recording nor a baseline."""
    path = targets.find(name)
    if of_baseline(path):
        return _of_baseline(path, read(path))
    with targets.opened(name) as recording:
        gathered = summary.gather(recording.events())
        report = summary.describe(recording, gathered)
        made = Side(report["session"]["path"], _doubts(report), summary.cores(recording),
                    {}, {}, {}, report)  # fmt: skip
        normalizer = _normalizer(recording)
        if with_errors:
            made = made._replace(errors=_errors(recording.events(), normalizer))
        if with_shapes:
            tests = recorded_tests(recording)
            events = recording.snapshot()
            made = made._replace(
                tests=_tests(events, tests, normalizer),
                all=shapes(events, CausalGraph(events), normalizer),
            )
        return made


def of_baseline(path: str | None) -> bool:
    """The path is that of a baseline file."""
    return path is not None and os.path.isfile(path) and is_baseline(path)


def _of_baseline(path: str, baseline: Baseline) -> Side:
    tests = {recorded_name(test): entry for test, entry in baseline.entries.items()}
    return Side(path, [], [baseline.made.core], tests, {}, {}, None)


def _tests(
    events: Sequence[Event], tests: Sequence[RecordedTest], normalizer: Normalizer
) -> dict[str, Entry]:
    """What the call of each test did; of several attempts, the last. A skipped one did nothing."""
    last = {test.test: test for test in tests if test.outcome not in ("", "skipped")}
    by_test = events_by_test(events, tests)
    found = {}
    for name, test in last.items():
        own = of_phase(CausalGraph(by_test.get(test.origin, [])), test.origin, "call")
        found[name] = Entry(CONFIRMED, shapes(own, CausalGraph(own), normalizer))
    return found


def _errors(events: Iterator[Event], normalizer: Normalizer) -> Counter[str]:
    """The events that tell of an error, by normal form."""
    found: Counter[str] = Counter()
    for event in events:
        if event.severity >= Severity.ERROR or _failed(event):
            found[normalizer.event(event)] += 1
    return found


def _failed(event: Event) -> bool:
    names = event.type.__kobs_schema__.field_names
    if "result" in names:
        return getattr(event.payload.result, "name", "") == "ERROR"
    if "exit_code" in names:
        return bool(event.payload.exit_code)
    return "status" in names and event.payload.status == "error"


def _doubts(report: dict[str, Any]) -> list[str]:
    losses = report["losses"]
    found = [
        f"{number} events: {cause.replace('_', ' ')}"
        for causes in (losses["by_cause"], losses["on_purpose"])
        for cause, number in causes.items()
        if cause != "in_flight_overflow"  # counts begins without an entry, which are events still
    ]
    found += losses["damage"]
    found += [
        f"process {entry.get('pid')} was not recorded: {entry.get('reason')}"
        for entry in report["unobserved"]
        if entry.get("reason") != "not Python"
    ]
    return found


def _normalizer(recording: "Recording") -> Normalizer:
    info = recording.session_info
    cwd = str(info.get("cwd") or "")
    return Normalizer(cwd=cwd, basetemp=_basetemp([str(word) for word in info["argv"]], cwd))


def _basetemp(argv: Sequence[str], cwd: str) -> str:
    """What pytest's option of that name said."""
    for at, word in enumerate(argv):
        if word.startswith("--basetemp"):
            value = word.partition("=")[2] or (argv[at + 1] if at + 1 < len(argv) else "")
            return os.path.join(cwd, value)
    return ""
