"""Events as the page of a trace shows them: columns of numbers, and every text once.

The page's scripts read what `layout` returns. Times are microseconds since the start.
"""

from collections.abc import Collection, Sequence
from typing import Any

from kobs.causality import CausalGraph
from kobs.events import FLAG_BEGIN, FLAG_END, Category, Event, Severity
from kobs.export.excerpt import Excerpt
from kobs.export.jsonl import dumps

MOST_EVENTS = 20_000
"""More than that are in the other files only; the page says so."""
_MOST_ROWS = 12
"""Slices of a thread deeper than that are drawn over one another in the last row."""
_LARGEST = (1 << 53) - 1
_RETOLD = {"SyscallSlow", "FileSlow", "OperationSlow", "BudgetExceeded", "SchedulerLatency"}
"""Types with a duration that another event shows already, or that is none of the thread's."""


def chosen(events: Sequence[Event], about: Collection[int]) -> list[Event]:
    """The events that the page shows: all, or of too many those with the ids `about` and what
    led to them, the first quarter, then warnings and errors, and the last."""
    if len(events) <= MOST_EVENTS:
        return list(events)
    by_id = {event.id: event for event in events}
    kept: set[int] = set()
    for number in about:
        while number in by_id and number not in kept and len(kept) < MOST_EVENTS // 4:
            kept.add(number)
            number = by_id[number].parent
    kept |= {event.id for event in events[: MOST_EVENTS // 4]}
    serious = [event.id for event in events if event.severity >= Severity.WARN]
    kept |= set(serious[: MOST_EVENTS // 4])
    for event in reversed(events):
        if len(kept) >= MOST_EVENTS:
            break
        kept.add(event.id)
    return [event for event in events if event.id in kept]


def layout(
    excerpt: Excerpt,
    shown: Sequence[Event],
    *,
    start_ns: int,
    numbers: dict[int, int],
    about: Collection[int],
    phases: Sequence[str] = (),
) -> dict[str, Any]:
    """What the scripts need to show these events, as plain values for JSON.

    `numbers`: what each event is called, by its id; `about`: ids of those that a failure speaks
    of; `phases`: the phase of each of `shown`, "" for none, "?" where nobody is known to have
    caused it.
    """
    texts = _Texts()
    lanes = _Lanes(excerpt)
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    add = [columns[name].append for name in _COLUMNS]
    begins = {event.id: event for event in shown if event.flags & FLAG_BEGIN}
    ended = {event.parent for event in shown if event.flags & FLAG_END} & begins.keys()
    open_ids = {entry.event for entry in excerpt.open_events()}
    last = shown[-1].timestamp_ns if shown else start_ns
    spans: list[tuple[int, int, int, int]] = []
    for index, event in enumerate(shown):
        begin = begins.get(event.parent) if event.flags & FLAG_END else None
        start = _start(event, begin)
        lane = lanes.of(begin or event)
        row = 0
        if event.id in ended:
            row = -1  # shown by its end
        elif event.id in open_ids:
            spans.append((lane, start, last, index))
        elif start < event.timestamp_ns:
            spans.append((lane, start, event.timestamp_ns, index))
        values = (
            numbers.get(event.id, 0),
            (event.timestamp_ns - start_ns) / 1000,
            (event.timestamp_ns - start) / 1000,
            texts(event.type_name),
            texts(event.name or ""),
            texts(dumps(_exact(event.payload.to_dict()))),
            int(event.category),
            int(event.severity),
            lane,
            row,
            texts(phases[index] if phases else ""),
            texts(f"{event.causality_id:016x}" if event.causality_id else ""),
            event.pid,
            str(event.id),
            1 if event.id in open_ids and event.id not in ended else 0,
        )
        for append, value in zip(add, values, strict=True):
            append(value)
    _stack(spans, columns["row"], lanes)
    where = {event.id: index for index, event in enumerate(shown)}
    graph = CausalGraph(shown)
    return {
        "columns": columns,
        "texts": texts.all,
        "lanes": lanes.described(),
        "edges": [
            [where[edge.source.id], where[edge.target.id], 1 if edge.kind == "link" else 0]
            for edge in graph.edges
            if edge.source.id in where and edge.target.id in where
        ],
        "about": sorted(where[number] for number in about if number in where),
        "categories": [category.name.lower() for category in Category],
        "severities": [severity.name for severity in Severity],
    }


_COLUMNS = (
    "number", "time", "duration", "type", "name", "fields", "category", "severity", "lane", "row",
    "phase", "chain", "pid", "id", "open",
)  # fmt: skip


def _exact(fields: dict[str, Any]) -> dict[str, Any]:
    """The same with integers as text where JavaScript's numbers are not exact."""
    return {
        name: str(value) if isinstance(value, int) and abs(value) > _LARGEST else value
        for name, value in fields.items()
    }


def _start(event: Event, begin: Event | None) -> int:
    if begin is not None:
        return begin.timestamp_ns
    duration = event.duration_us
    if event.type_name in _RETOLD or duration is None or not 0 < duration < 1e15:
        return event.timestamp_ns
    return max(0, event.timestamp_ns - round(duration * 1000))


class _Texts:
    """Every text once: its number is what columns hold."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._known: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        number = self._known.get(text)
        if number is None:
            number = self._known[text] = len(self.all)
            self.all.append(text)
        return number


class _Lanes:
    """A lane a thread, in the order of their first events."""

    def __init__(self, excerpt: Excerpt) -> None:
        self._processes = {record.recording: record for record in excerpt.processes}
        self._numbers: dict[tuple[int, int], int] = {}
        self.rows: dict[int, int] = {}
        """How many rows of slices each has."""

    def of(self, event: Event) -> int:
        key = event.recording, event.tid
        return self._numbers.setdefault(key, len(self._numbers))

    def described(self) -> list[dict[str, Any]]:
        made = []
        for (recording, tid), number in self._numbers.items():
            process = self._processes.get(recording)
            pid = process.pid if process is not None else 0
            made.append(
                {
                    "pid": pid,
                    "tid": tid,
                    "command": process.command if process is not None else "",
                    "ended": _ended(process),
                    "rows": self.rows.get(number, 0),
                }
            )
        return made


def _ended(process: Any) -> str:
    if process is None:
        return ""
    if process.exit_code is not None:
        code = process.exit_code
        return f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    return "killed" if process.state == "killed" else ""


def _stack(spans: list[tuple[int, int, int, int]], rows: list[int], lanes: _Lanes) -> None:
    """Give each slice (lane, start, end, index) the first row from 1 where it crosses none: what
    encloses others comes above them."""
    ends: dict[int, list[int]] = {}
    for lane, start, end, index in sorted(spans, key=lambda span: (span[1], -span[2])):
        busy = ends.setdefault(lane, [])
        for row, until in enumerate(busy):
            if until <= start:
                busy[row] = end
                break
        else:
            row = len(busy)
            if row < _MOST_ROWS:
                busy.append(end)
            else:
                row = _MOST_ROWS - 1
        rows[index] = row + 1
    lanes.rows.update({lane: len(busy) for lane, busy in ends.items()})
