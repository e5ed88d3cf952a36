"""What happened in a session or recording, gathered in one pass over its events.

`describe(recording, gather(recording.events()))` is the object that `kobs report --json` prints;
its shape is described there. Memory grows with the number of different operations and with some
forty bytes an event, not with the events themselves.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kobs.cli.chains import Chains
from kobs.cli.figures import Durations
from kobs.cli.origins import Tests
from kobs.errors import KobsError
from kobs.events import Category, Event, Severity
from kobs.export.jsonl import wall_clock

if TYPE_CHECKING:
    from kobs.recording import Recording

VERSION = 1
"""Of the JSON shape; keys are only ever added within a version."""

ON_PURPOSE = ("sampled_out", "filtered")
"""Causes of loss that someone asked for: told, but no alarm."""

NO_EVENTS = ("in_flight_overflow", "strings_overflow")
"""Causes that count other things than events: begins without an entry, names without room."""

_RETOLD = {"SyscallSlow", "FileSlow", "OperationSlow", "BudgetExceeded", "AnomalyDetected"}
_CATEGORIES = frozenset(Category)
_MOST_OPERATIONS = 10_000
_MOST_PROBLEMS = 1000
_MOST_ANOMALIES = 20


class Gathered:
    """Counts over the events of a recording, fed by `see`."""

    def __init__(self) -> None:
        self.count = 0
        self.first_ns = 0
        self.last_ns = 0
        self.levels: dict[str, Counter[str]] = defaultdict(Counter)
        self.types: Counter[str] = Counter()
        self.by_recording: Counter[int] = Counter()
        self.last_by_recording: dict[int, int] = {}
        self.operations: dict[tuple[str, str], Durations] = {}
        self.problems: dict[tuple[str, str], dict[str, Any]] = {}
        self.other_problems = 0
        self.anomalies: list[dict[str, Any]] = []
        self.anomaly_count = 0
        self.ended: dict[int, tuple[int, int]] = {}
        self.chains = Chains()
        self.tests = Tests()

    def see(self, event: Event) -> None:
        """Take one event; events come by time."""
        at = event.timestamp_ns
        self.count += 1
        if self.count == 1:
            self.first_ns = at
        self.last_ns = max(self.last_ns, at)
        self.levels[event.category.name][event.severity.name] += 1
        kind = event.type_name
        self.types[kind] += 1
        number = event.recording
        self.by_recording[number] += 1
        self.last_by_recording[number] = at
        self.chains.see(event)
        self.tests.see(event, kind)
        if event.type.__kobs_schema__.duration_field is not None and kind not in _RETOLD:
            self._operation(event, kind)
        if kind == "AnomalyDetected":
            self._anomaly(event)
        elif kind == "ProcessTerminated":
            self.ended[event.pid] = event.payload.exit_code, at
        if event.severity >= Severity.WARN and kind != "AnomalyDetected":
            self._problem(event, kind)

    def _operation(self, event: Event, kind: str) -> None:
        us = event.duration_us
        if us is None or not us >= 0:
            return
        # A type that is about paths is one operation: by path it would be a list of files.
        of_paths = event.type.__kobs_schema__.name_field == "path"
        key = kind, "" if of_paths else event.name or ""
        figures = self.operations.get(key)
        if figures is None and len(self.operations) >= _MOST_OPERATIONS:
            key = kind, "(other names)"
            figures = self.operations.get(key)
        if figures is None:
            figures = self.operations[key] = Durations()
        figures.add(us)
        payload = event.payload
        result = getattr(payload, "result", None)
        if (result is not None and int(result) != 0) or getattr(payload, "status", "") == "error":
            figures.errors += 1

    def _problem(self, event: Event, kind: str) -> None:
        key = kind, event.name or ""
        problem = self.problems.get(key)
        if problem is None:
            if len(self.problems) >= _MOST_PROBLEMS:
                self.other_problems += 1
                return
            problem = self.problems[key] = {
                "severity": event.severity.name,
                "type": kind,
                "name": event.name,
                "count": 0,
                "pids": [],
                "first_ns": event.timestamp_ns,
                "example": event.payload.to_dict(),
            }
        elif event.severity > Severity[problem["severity"]]:
            problem["severity"] = event.severity.name
            problem["example"] = event.payload.to_dict()
        problem["count"] += 1
        if event.pid not in problem["pids"] and len(problem["pids"]) < 10:
            problem["pids"].append(event.pid)

    def _anomaly(self, event: Event) -> None:
        payload = event.payload
        self.anomaly_count += payload.count
        self.anomalies.append(
            {"id": event.id, "timestamp_ns": event.timestamp_ns, "pid": event.pid,
             "cause": event.parent, **payload.to_dict()}
        )  # fmt: skip
        if len(self.anomalies) > 2 * _MOST_ANOMALIES:
            self._keep_worst()

    def _keep_worst(self) -> None:
        self.anomalies.sort(key=lambda one: abs(one["deviation"]), reverse=True)
        del self.anomalies[_MOST_ANOMALIES:]

    def worst_anomalies(self) -> list[dict[str, Any]]:
        """The anomalies furthest from what was expected, furthest first."""
        self._keep_worst()
        return self.anomalies


def gather(events: Iterable[Event]) -> Gathered:
    """Counts over `events`, which come by time."""
    gathered = Gathered()
    see = gathered.see
    for event in events:
        see(event)
    return gathered


def describe(recording: "Recording", gathered: Gathered) -> dict[str, Any]:
    """The report's object, but for `chain`. Asks the recording for its damage after its events
    were read: some is found only then."""
    rows = processes(recording, gathered)
    losses = lost(recording)
    unobserved = list(recording.unobserved)
    killed = [row["pid"] for row in rows if row["state"] == "killed"]
    return {
        "version": VERSION,
        "session": session(recording, gathered),
        "complete": not (losses["by_cause"] or losses["damage"] or unobserved),
        "losses": losses,
        "killed": killed,
        "unobserved": unobserved,
        "events": {
            "count": gathered.count,
            "first_ns": gathered.first_ns,
            "last_ns": gathered.last_ns,
            "by_category": {name: dict(levels) for name, levels in gathered.levels.items()},
            "by_severity": dict(sum(gathered.levels.values(), Counter())),
            "by_type": dict(gathered.types.most_common()),
        },
        "operations": operations(gathered),
        "problems": sorted(
            gathered.problems.values(),
            key=lambda one: (Severity[one["severity"]], one["count"]),
            reverse=True,
        ),
        "processes": rows,
        "anomalies": {"count": gathered.anomaly_count, "worst": gathered.worst_anomalies()},
        "in_flight": in_flight(recording, gathered),
        "tests": gathered.tests.rows(),
    }


def session(recording: "Recording", gathered: Gathered) -> dict[str, Any]:
    """What was run, when, and how it ended."""
    info = recording.session_info
    ended = info.get("exit") or {}
    began = int(info.get("started_monotonic_ns") or 0)
    end = int(ended.get("ended_monotonic_ns") or gathered.last_ns)
    clock = wall_clock(recording)
    first = next(iter(recording.processes), None)
    exit_code = ended.get("exit_code")
    return {
        "path": recording.path,
        "id": info.get("session", ""),
        "command": info.get("command", ""),
        "argv": info.get("argv", []),
        "cwd": info.get("cwd"),
        "started": clock(began) if clock is not None else None,
        "duration_s": max(0, end - began) / 1e9 if end else 0.0,
        "running": recording.running,
        "exit_code": exit_code if exit_code is not None or first is None else first.exit_code,
        "signal": ended.get("signal"),
        "core": cores(recording),
        "python": info.get("python"),
        "kobs": info.get("kobs"),
    }


def cores(recording: "Recording") -> list[str]:
    """The cores that made the recordings."""
    from kobs._core import select

    found = set()
    for record in recording.processes:
        try:
            attached = select().attach(record.path)
        except KobsError:
            continue
        found.add(attached.core)
        attached.close()
    return sorted(found)


def lost(recording: "Recording") -> dict[str, Any]:
    """What was not kept: in all, by cause, by recording; what someone asked for apart."""
    pids = {record.recording: record.pid for record in recording.processes}
    total: Counter[str] = Counter()
    rows = []
    for number, counts in recording.losses_by_recording().items():
        causes = {cause: n for cause, n in counts._asdict().items() if n}
        total.update(causes)
        if causes:
            rows.append({"recording": number, "pid": pids.get(number, 0), **causes})
    return {
        "total": sum(n for cause, n in total.items() if cause not in ON_PURPOSE + NO_EVENTS),
        "by_cause": {cause: n for cause, n in total.items() if cause not in ON_PURPOSE},
        "on_purpose": {cause: n for cause, n in total.items() if cause in ON_PURPOSE},
        "left_out": left_out(recording),
        "by_recording": rows,
        "damage": list(recording.damage),
    }


def left_out(recording: "Recording") -> dict[str, dict[str, int]]:
    """What was left out on purpose: cause to category to number."""
    counts = recording.left_out()
    return {
        cause: {Category(at).name: n for at, n in enumerate(numbers) if n and at in _CATEGORIES}
        for cause, numbers in counts._asdict().items()
        if any(numbers)
    }


def operations(gathered: Gathered) -> list[dict[str, Any]]:
    """Everything that has a duration, by type and name; the slowest (p99) first."""
    made = []
    for (kind, name), figures in gathered.operations.items():
        p50, p95, p99 = figures.percentiles(50, 95, 99)
        made.append(
            {"type": kind, "name": name, "count": figures.count, "errors": figures.errors,
             "p50_us": p50, "p95_us": p95, "p99_us": p99, "max_us": figures.most,
             "total_us": figures.total}
        )  # fmt: skip
    made.sort(key=lambda one: (one["p99_us"], one["total_us"]), reverse=True)
    return made


def processes(recording: "Recording", gathered: Gathered) -> list[dict[str, Any]]:
    """The recorded processes, each with the number of its events and how it ended."""
    rows = []
    for record in recording.processes:
        began = record.started_monotonic_ns
        code, end = gathered.ended.get(record.pid, (record.exit_code, 0))
        if end < began:
            end = gathered.last_by_recording.get(record.recording, began)
        rows.append(
            {
                "pid": record.pid,
                "ppid": record.ppid,
                "recording": record.recording,
                "command": record.command,
                "state": record.state,
                "exit_code": record.exit_code if record.exit_code is not None else code,
                "started_ns": began,
                "duration_s": max(0, end - began) / 1e9,
                "events": gathered.by_recording.get(record.recording, 0),
                "parent_event": record.parent_event,
            }
        )
    return rows


def in_flight(recording: "Recording", gathered: Gathered) -> list[dict[str, Any]]:
    """Begins that have no end, oldest first; `age_us` up to the end of their process, or to
    the last that is known of it."""
    states = {record.recording: record.state for record in recording.processes}
    ends = dict(gathered.last_by_recording)
    for record in recording.processes:
        _, end = gathered.ended.get(record.pid, (0, 0))
        ends[record.recording] = max(ends.get(record.recording, 0), end)
    return [
        {
            "event": entry.event,
            "type": entry.type_name,
            "name": entry.name,
            "pid": entry.pid,
            "tid": entry.tid,
            "recording": entry.recording,
            "state": states.get(entry.recording, ""),
            "timestamp_ns": entry.timestamp_ns,
            "age_us": max(0, ends.get(entry.recording, 0) - entry.timestamp_ns) / 1000,
            "causality_id": entry.causality_id,
            "parent": entry.parent,
            "origin": entry.origin,
        }
        for entry in recording.open_events()
    ]
