"""`kobs report`: what happened in a session or recording, and first what could not be seen.

`--json` prints one object. Keys are only added within a `version`:

    version     1
    session     path, id, command, argv, cwd, started (ISO 8601), duration_s, running,
                exit_code, signal, core (list), python, kobs
    complete    true if nothing was lost or damaged and every child was observed
    losses      total (events), by_cause, on_purpose (sampled out, filtered), left_out (the same:
                cause to category to number; empty for recordings of before), by_recording
                (recording, pid, a count a cause), damage (list of texts)
    killed      pids of processes that are gone and did not close their recording
    unobserved  children that were not recorded: pid, argv, reason
    events      count, first_ns, last_ns, by_category (category to severity to count),
                by_severity, by_type
    operations  slowest first: type, name, count, errors, p50_us, p95_us, p99_us, max_us, total_us
    problems    WARN and above: severity, type, name, count, pids, first_ns, example (payload)
    processes   pid, ppid, recording, command, state (exited, running, killed), exit_code,
                started_ns, duration_s, events, parent_event
    anomalies   count, worst (id, timestamp_ns, pid, cause, metric, value, expected, deviation)
    in_flight   begins without an end: event, type, name, pid, tid, recording, state,
                timestamp_ns, age_us, causality_id, parent, origin
    tests       those of a pytest run, as they began: nodeid, attempt, worker, outcome (null: it did
                not end), origin, recording, began_ns, duration_s, events, by_phase
    chain       the longest causal chain, or null: root, causality_id, events, steps, duration_us,
                recordings, path (ids), nodes (kobs.cli.chain.longest)
"""

import argparse
from typing import Any

from kobs.cli import targets
from kobs.cli.render import print_json, screen


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "report",
        help="what happened in a session or recording, and what was not seen",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    targets.add_argument(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--top", type=_positive, default=10, metavar="N", help="rows of each table (10)"
    )
    parser.add_argument("--plain", action="store_true", help="plain text on a terminal too")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    with targets.opened(arguments.session) as recording:
        found = build(recording)
        if arguments.json:
            print_json(found)
        else:
            from kobs.cli.report_page import Page

            Page(screen(plain=arguments.plain), found, top=arguments.top).show()
    return 0


def build(recording: Any) -> dict[str, Any]:
    """The object that `--json` prints."""
    from kobs.cli import chain, summary

    gathered = summary.gather(recording.events())
    found = summary.describe(recording, gathered)
    found["chain"] = chain.longest(recording, gathered.chains)
    return found


def _positive(text: str) -> int:
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1")
    return number
