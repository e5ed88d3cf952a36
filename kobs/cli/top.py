"""`kobs top`: the busiest operations of a session, refreshed while it runs.

Counts and durations are of the last `--window` seconds; `--once` prints one table over all that
is there and ends, which is also what happens where the session has ended or stdout is no terminal.
`--json` prints one object a refresh: at_ns, window_s, lost, rows (type, name, events, per_s,
errors, p50_us, p99_us, total_us).
"""

import argparse
import sys
import time
from array import array
from collections import deque
from typing import TYPE_CHECKING, Any

from kobs.cli import conditions, figures, targets
from kobs.cli.chain import label
from kobs.cli.render import Cell, Column, Screen, print_json, screen, shorten
from kobs.events import FLAG_BEGIN

if TYPE_CHECKING:
    from kobs.events import Event
    from kobs.recording import Recording

_SORTS = ("events", "total", "p99")


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "top",
        help="the busiest operations, refreshed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    targets.add_argument(parser)
    parser.add_argument("--once", action="store_true", help="one table over everything, then end")
    parser.add_argument("--window", type=_seconds, default=10.0, metavar="S", help="seconds (10)")
    parser.add_argument("--every", type=_seconds, default=1.0, metavar="S", help="refresh (1)")
    parser.add_argument("--sort", choices=_SORTS, default="events", help="by what (events)")
    parser.add_argument("--top", type=int, default=20, metavar="N", help="rows (20)")
    parser.add_argument("--json", action="store_true", help="one JSON object a refresh")
    parser.add_argument("--plain", action="store_true", help="plain text on a terminal too")
    conditions.add_options(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    with targets.opened(arguments.session) as recording:
        known = targets.type_names(recording) if targets.names_types(arguments) else ()
        wanted = conditions.from_options(arguments, known, recording)
        out = screen(plain=arguments.plain)
        subscriber = recording.subscribe(wanted, oldest=True)
        watch = not arguments.once and (sys.stdout.isatty() or arguments.json)
        table = Busy(arguments.window if watch and recording.running else None)
        try:
            while True:
                running = recording.running
                while (event := subscriber.next()) is not None:
                    table.see(event)
                found = table.rows(arguments.sort, arguments.top)
                found["lost"] = subscriber.lost
                if arguments.json:
                    print_json(found, indent=None)
                else:
                    if watch and running:
                        out.clear()
                    show(out, recording, found)
                sys.stdout.flush()
                if not (watch and running):
                    return 0
                time.sleep(arguments.every)
        finally:
            subscriber.close()


class Busy:
    """What happened most in the last `window_s` seconds; ever, for None."""

    def __init__(self, window_s: float | None) -> None:
        self._window = window_s
        self._events: deque[tuple[int, tuple[str, str], float, bool]] = deque()
        self._first = 0
        self._last = 0

    def see(self, event: "Event") -> None:
        """Take one event. Of a scope its end counts: it has the duration."""
        if event.flags & FLAG_BEGIN:
            return
        at = event.timestamp_ns
        self._first = self._first or at
        self._last = max(self._last, at)
        of_paths = event.type.__kobs_schema__.name_field == "path"
        duration = event.duration_us
        payload = event.payload
        failed = bool(getattr(payload, "result", 0)) or getattr(payload, "status", "") == "error"
        key = event.type_name, "" if of_paths else event.name or ""
        self._events.append((at, key, -1.0 if duration is None else duration, failed))

    def rows(self, sort: str, most: int) -> dict[str, Any]:
        """The busiest, as `--json` prints them."""
        now = self._last
        if self._window is not None:
            now = max(now, time.monotonic_ns())
            since = now - round(self._window * 1e9)
            while self._events and self._events[0][0] < since:
                self._events.popleft()
        seconds = self._window or max((self._last - self._first) / 1e9, 1e-9)
        groups: dict[tuple[str, str], tuple[list[int], array[float]]] = {}
        for _, key, duration, failed in self._events:
            group = groups.get(key)
            if group is None:
                group = groups[key] = ([0, 0], array("d"))
            group[0][0] += 1
            group[0][1] += failed
            if duration >= 0:
                group[1].append(duration)
        made = [_row(key, counts, took, seconds) for key, (counts, took) in groups.items()]
        order = {"events": "events", "total": "total_us", "p99": "p99_us"}[sort]
        made.sort(key=lambda row: row[order] or 0, reverse=True)
        return {"at_ns": now, "window_s": seconds, "operations": len(made), "rows": made[:most]}


def _row(
    key: tuple[str, str], counts: list[int], took: "array[float]", seconds: float
) -> dict[str, Any]:
    from kobs._analysis.stats import Stats

    stats = Stats(took)
    return {
        "type": key[0],
        "name": key[1],
        "events": counts[0],
        "per_s": counts[0] / seconds,
        "errors": counts[1],
        "p50_us": stats.p50 if stats else None,
        "p99_us": stats.p99 if stats else None,
        "total_us": stats.total if stats else None,
    }


def show(out: Screen, recording: "Recording", found: dict[str, Any]) -> None:
    """Print one table."""
    if found["lost"]:
        out.alarm(f"{figures.count(found['lost'], 'event')} went by unseen", [
            "overwritten before they were read"])  # fmt: skip
    info = recording.session_info
    command = " ".join(info.get("argv") or []) or info.get("command", "")
    command = shorten(command, max(20, out.width - 46))
    running = [record for record in recording.processes if record.state == "running"]
    out.line(
        Cell("kobs top  ", "dim"),
        Cell(command, "bold"),
        Cell(
            f"  {figures.count(len(running), 'process', 'processes')} running, "
            f"{figures.duration(found['window_s'] * 1e6)}",
            "dim",
        ),
    )
    out.table(
        [Column("operation", stretch=True), Column("events", right=True),
         Column("per s", right=True), Column("failed", right=True), Column("p50", right=True),
         Column("p99", right=True), Column("total", right=True)],
        [
            [label(row["type"], row["name"]), f"{row['events']:,}", f"{row['per_s']:,.1f}",
             Cell(f"{row['errors']:,}" if row["errors"] else figures.ABSENT, "red"),
             *(figures.ABSENT if row[key] is None else figures.duration(row[key])
               for key in ("p50_us", "p99_us", "total_us"))]
            for row in found["rows"]
        ],
    )  # fmt: skip


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds above 0")
    return seconds
