"""On whose behalf events happened: the tests of a recorded pytest run, by the origins of events.

The plugin's origins are `TAG.NUMBER.ATTEMPT` for a test, with `s`, `c` or `t` behind for what its
setup, call and teardown caused (and `/NUMBER` for a part that was captured by itself), and
`TAG.fNUMBER` for a fixture of wider scope; `TAG` is six hex
digits and the worker of pytest-xdist, if there is one. The test's name is in its `TestBegan`.
"""

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from kobs.cli import figures
from kobs.cli.render import Cell, Column, Screen
from kobs.errors import ConfigError
from kobs.events import Event
from kobs.filters import EventFilter

if TYPE_CHECKING:
    from kobs.recording import Recording

PHASES = {"s": "setup", "c": "call", "t": "teardown", "f": "fixture"}
"""What follows a test's origin; `fixture` for one of wider scope."""

_ORIGIN = re.compile(r"([0-9a-f]{6})(\w*)\.(?:(\d+\.\d+)([sct]?)|f\d+)(?:/\d+)*")


class Origin(NamedTuple):
    """What an origin says."""

    base: str
    """The origin of the test's own boundaries; empty for a fixture of wider scope."""
    worker: str
    """Of pytest-xdist; empty without."""
    phase: str
    """setup, call, teardown or fixture; empty for the test's own boundaries."""


def read(origin: str) -> Origin | None:
    """What an origin says; None where it is none of a test."""
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return None
    tag, worker, number, letter = found.groups()
    if number is None:
        return Origin("", worker, "fixture")
    return Origin(f"{tag}{worker}.{number}", worker, PHASES.get(letter, ""))


class OfTest:
    """A predicate: what tests caused whose name contains one of `names`, in one of the `workers`
    and `phases` (empty: any)."""

    def __init__(
        self, recording: "Recording", names: set[str], workers: set[str], phases: set[str]
    ) -> None:
        unknown = phases - set(PHASES.values())
        if unknown:
            raise ConfigError(
                f"phase {unknown.pop()!r} is not known; it is one of {', '.join(PHASES.values())}"
            )
        self._recording = recording
        self._names, self._workers, self._phases = names, workers, phases
        self._known: dict[str, bool] = {}
        self._tests: dict[str, str] = {}

    def __call__(self, event: Event) -> bool:
        known = self._known.get(event.origin)
        if known is None:
            known = self._known[event.origin] = self._matches(event.origin)
        return known

    def _matches(self, key: str) -> bool:
        origin = read(key)
        if origin is None:
            return False
        if self._workers and origin.worker not in self._workers:
            return False
        if self._phases and origin.phase not in self._phases:
            return False
        if not self._names:
            return True
        if origin.base not in self._tests:  # it may have begun since the last look
            self._tests = names_by_origin(self._recording)
        name = self._tests.get(origin.base, "")
        return any(part in name for part in self._names if name)

    def __repr__(self) -> str:
        return f"of tests {sorted(self._names)} {sorted(self._workers)} {sorted(self._phases)}"


def names_by_origin(recording: "Recording") -> dict[str, str]:
    """The names of the tests that were begun, by their origin."""
    from kobs.query import Query

    began = recording.query(Query().passing(EventFilter().among("type_name", {"TestBegan"})))
    return {event.origin: event.payload.nodeid for event in began.events}


class Tests:
    """Gathers the tests of a recording: fed by `see`, every event once."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {}
        self._counts: dict[str, int] = {}

    def see(self, event: Event, kind: str) -> None:
        """Take one event."""
        key = event.origin
        if not key:
            return
        if kind == "TestBegan":
            origin = read(key)
            self._rows[key] = {
                "nodeid": event.payload.nodeid,
                "attempt": event.payload.attempt,
                "worker": origin.worker if origin is not None else "",
                "outcome": None,
                "origin": key,
                "recording": event.recording,
                "began_ns": event.timestamp_ns,
                "duration_s": None,
            }
        elif kind == "TestEnded":
            row = self._rows.get(key)
            if row is not None:
                row["outcome"] = event.payload.outcome
                row["duration_s"] = max(0, event.timestamp_ns - row["began_ns"]) / 1e9
        else:
            self._counts[key] = self._counts.get(key, 0) + 1

    def rows(self) -> list[dict[str, Any]]:
        """The tests, in the order in which they began, with how many events each caused."""
        counts: dict[str, dict[str, int]] = {}
        for key, number in self._counts.items():
            origin = read(key)
            if origin is not None and origin.base:
                by_phase = counts.setdefault(origin.base, {})
                by_phase[origin.phase] = by_phase.get(origin.phase, 0) + number
        for key, row in self._rows.items():
            by_phase = counts.get(key, {})
            row["events"] = sum(by_phase.values())
            row["by_phase"] = {
                phase: by_phase[phase] for phase in PHASES.values() if phase in by_phase
            }
        return list(self._rows.values())


def show(out: Screen, tests: list[dict[str, Any]], top: int) -> None:
    """The tests that caused most events."""
    if not tests:
        return
    busiest = sorted(tests, key=lambda row: -row["events"])[:top]
    note = f"the {len(busiest)} busiest of {len(tests):,}" if len(tests) > len(busiest) else ""
    out.heading("Tests", note)
    workers = any(row["worker"] for row in tests)
    columns = [Column("test", stretch=True), Column("ended")]
    if workers:
        columns.append(Column("worker"))
    columns += [Column("events", right=True), Column("took", right=True)]
    rows = []
    for row in busiest:
        again = f" (attempt {row['attempt']})" if row["attempt"] > 1 else ""
        took = row["duration_s"]
        cells: list[str | Cell] = [f"{row['nodeid']}{again}", _ended(row["outcome"])]
        if workers:
            cells.append(row["worker"])
        cells += [f"{row['events']:,}", "" if took is None else figures.duration(took * 1e6)]
        rows.append(cells)
    out.table(columns, rows)


def _ended(outcome: str | None) -> Cell:
    if outcome is None:
        return Cell("not ended", "red")
    return Cell(outcome, {"passed": "green", "skipped": "dim"}.get(outcome, "red"))
