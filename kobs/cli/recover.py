"""`kobs recover`: what processes left behind that were killed, or run still and hang.

For every process that did not end in order: what was in flight (begun and not ended), and the
last events it recorded. `--all` shows all processes. `--otlp` sends what was not exported yet to an
OTLP receiver: spans that were in flight as ended at the process's last sign of life, with status
error and the attribute kobs.unfinished.

`--json` prints one object: session, damage, and processes (pid, ppid, recording, command, state,
exit_code, events, in_flight, last), where `in_flight` is as in `kobs report --json` and `last` as
`kobs export --to jsonl` writes events. With `--otlp`, `otlp` has spans, logs, points (of metrics),
failed, lost, unsampled and pending.
"""

import argparse
from collections import deque
from typing import TYPE_CHECKING, Any

from kobs.cli import figures, otlp_options, report_page, targets
from kobs.cli.lines import Lines
from kobs.cli.render import Cell, Screen, print_json, screen

if TYPE_CHECKING:
    from kobs.events import Event
    from kobs.recording import Recording


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "recover",
        help="what a killed process left behind",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    targets.add_argument(parser)
    parser.add_argument("--all", action="store_true", help="processes that ended in order, too")
    parser.add_argument(
        "--last", type=int, default=10, metavar="N", help="last events of each process (10)"
    )
    otlp_options.add_argument(parser, "send what was not exported yet to an OTLP receiver")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--plain", action="store_true", help="plain text on a terminal too")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    report = None
    with targets.opened(arguments.session) as recording:
        if arguments.otlp is not None:
            report = otlp_options.export(recording, endpoint=arguments.otlp)
        found, last = build(recording, max(0, arguments.last))
        if not arguments.all:
            found["processes"] = [r for r in found["processes"] if r["state"] != "exited"]
        if arguments.json:
            from kobs.export.jsonl import to_dict, wall_clock

            clock = wall_clock(recording)
            for row in found["processes"]:
                row["last"] = [to_dict(event, clock) for event in last.get(row["recording"], ())]
            if report is not None:
                found["otlp"] = report.to_dict()
            print_json(found)
        else:
            out = screen(plain=arguments.plain)
            show(out, recording, found, last)
            if report is not None:
                out.line(report.told())
    return 1 if report is not None and report.failed else 0


def build(recording: "Recording", number: int) -> tuple[dict[str, Any], "dict[int, deque[Event]]"]:
    """What `--json` prints but for the events, and the last events by recording."""
    from kobs.cli import summary

    last: dict[int, deque[Event]] = {}
    gathered = summary.Gathered()
    for event in recording.events():
        gathered.see(event)
        kept = last.get(event.recording)
        if kept is None:
            kept = last[event.recording] = deque(maxlen=number)
        kept.append(event)
    rows = summary.processes(recording, gathered)
    entries = summary.in_flight(recording, gathered)
    for row in rows:
        row["in_flight"] = [e for e in entries if e["recording"] == row["recording"]]
    return {"session": recording.path, "damage": list(recording.damage), "processes": rows}, last


def show(
    out: Screen, recording: "Recording", found: dict[str, Any], last: "dict[int, deque[Event]]"
) -> None:
    """Print it as text."""
    if found["damage"]:
        out.alarm("damaged: not everything could be read", found["damage"])
    rows = found["processes"]
    if not rows:
        out.line(
            "every recorded process ended in order; nothing is left to recover (--all shows all)"
        )
        return
    lines = Lines(recording)
    for row in rows:
        out.heading(
            f"process {row['pid']}",
            f"{row['state']}, ran {figures.duration(row['duration_s'] * 1e6)}, "
            f"{figures.count(row['events'], 'event')}",
        )
        out.line(Cell(f"  {row['command']}", "dim"))
        if row["in_flight"]:
            out.line(Cell("  in flight", "bold"))
            report_page.in_flight_table(out, row["in_flight"])
        else:
            out.line("  nothing was in flight")
        events = last.get(row["recording"], ())
        if events:
            out.line(Cell(f"  last {figures.count(len(events), 'event')}", "bold"))
        lines.show(out, events, indent="  ")
