"""`kobs compare A B`: two sessions side by side, what B has more or less of and what is slower.

`--json` prints one object: a, b (session, events, lost, complete), types (type to a, b) and
operations (type, name, a and b with count, p50_us, p95_us, p99_us; ratio of the medians, null
where one side has none). Timing varies: a ratio of a few events says little, so `--min-count`
leaves those out.

`--fail-on` makes it a check, with exit code 1 where they differ, or where that is not known:

  counts           numbers of events of stable types
  shapes           what led to what among them, and how often
  errors           errors that B has, or has more of
  new-types        types of events that A has none of
  durations:1.5x   medians that grew by more than this, of 20 samples on both sides
                   (durations:1.5x:50: of 50)

Either side may be a file of `pytest --kobs-baseline`, for counts and shapes. Sessions of
`pytest --kobs` are compared test by test in these. With `--json`: findings (kind, test, about, a,
b), inconclusive (why it is not known), unmatched (what, test).
"""

import argparse
from typing import Any

from kobs.cli import figures, targets
from kobs.cli.chain import label
from kobs.cli.render import Cell, Column, Screen, print_json, screen


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "compare",
        help="two sessions side by side",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    targets.add_argument(parser, "a", metavar="A", nargs=None, help="the session to compare with")
    targets.add_argument(parser, "b", metavar="B", help="the other one (default: the latest)")
    parser.add_argument("--top", type=int, default=15, metavar="N", help="rows of each table (15)")
    parser.add_argument(
        "--min-count", type=int, default=5, metavar="N",
        help="operations with fewer events on either side are left out of the durations (5)",
    )  # fmt: skip
    parser.add_argument(
        "--fail-on", metavar="WHAT,...", help="exit with 1 where they differ in this: see above"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--plain", action="store_true", help="plain text on a terminal too")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from kobs.cli import checking, sides

    check = checking.check_of(arguments.fail_on, arguments.a, arguments.b)
    kinds = frozenset[str]() if check is None else check.kinds
    a, b = (
        sides.side(name, with_shapes=bool(kinds & {"counts", "shapes"}),
                   with_errors="errors" in kinds)
        for name in (arguments.a, arguments.b)
    )  # fmt: skip
    found: dict[str, Any] = {}
    if a.report is not None and b.report is not None:
        found = build(a.report, b.report)
    verdict = None
    if check is not None:
        verdict = checking.judge(a, b, check, found.get("operations", []))
    if arguments.json:
        print_json(found if verdict is None else found | verdict.to_dict())
    else:
        out = screen(plain=arguments.plain)
        if found:
            show(out, found, arguments.top, arguments.min_count)
        if verdict is not None:
            checking.show(out, verdict)
    return int(arguments.fail_on is not None and verdict is not None and not verdict.passed)


def build(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """The object that `--json` prints, of two reports."""
    counts_a, counts_b = a["events"]["by_type"], b["events"]["by_type"]
    types = {
        name: {"a": counts_a.get(name, 0), "b": counts_b.get(name, 0)}
        for name in sorted({*counts_a, *counts_b})
    }
    rows_a = {(row["type"], row["name"]): row for row in a["operations"]}
    rows_b = {(row["type"], row["name"]): row for row in b["operations"]}
    operations = []
    for key in sorted({*rows_a, *rows_b}):
        one, other = rows_a.get(key), rows_b.get(key)
        ratio = None
        if one is not None and other is not None and one["p50_us"] > 0:
            ratio = other["p50_us"] / one["p50_us"]
        operations.append(
            {"type": key[0], "name": key[1], "a": _figures(one), "b": _figures(other),
             "ratio": ratio}
        )  # fmt: skip
    return {"a": _about(a), "b": _about(b), "types": types, "operations": operations}


def _about(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "session": report["session"]["path"],
        "command": " ".join(report["session"]["argv"]) or report["session"]["command"],
        "duration_s": report["session"]["duration_s"],
        "events": report["events"]["count"],
        "lost": report["losses"]["total"],
        "complete": report["complete"],
    }


def _figures(row: dict[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {key: row[key] for key in ("count", "p50_us", "p95_us", "p99_us")}


def show(out: Screen, found: dict[str, Any], top: int, least: int) -> None:
    """Print it as text."""
    partial = [side.upper() for side in ("a", "b") if not found[side]["complete"]]
    if partial:
        out.alarm(
            "not everything was seen",
            [f"{' and '.join(partial)}: events are missing, so counts differ for that alone "
             "(kobs report tells what)"],
        )  # fmt: skip
    for side in ("a", "b"):
        about = found[side]
        out.line(
            Cell(f"{side.upper()}  ", "bold"),
            f"{about['command']}  ",
            Cell(
                f"{figures.count(about['events'], 'event')}, "
                f"{figures.duration(about['duration_s'] * 1e6)}, {about['session']}",
                "dim",
            ),
        )
    _counts(out, found["types"], top)
    _durations(out, found["operations"], top, least)


def _counts(out: Screen, types: dict[str, dict[str, int]], top: int) -> None:
    different = {name: row for name, row in types.items() if row["a"] != row["b"]}
    same = len(types) - len(different)
    out.heading("Events by type", f"{figures.count(same, 'type')} with equal counts not shown")
    if not different:
        out.line("  no difference")
        return
    rows = sorted(different.items(), key=lambda one: -abs(one[1]["b"] - one[1]["a"]))
    out.table(
        [Column("type", stretch=True), Column("A", right=True), Column("B", right=True),
         Column("change", right=True)],
        [
            [name, f"{row['a']:,}", f"{row['b']:,}",
             Cell(f"{row['b'] - row['a']:+,}", "yellow" if row["b"] > row["a"] else "cyan")]
            for name, row in rows[:top]
        ],
    )  # fmt: skip


def _durations(out: Screen, operations: list[dict[str, Any]], top: int, least: int) -> None:
    both = [
        row for row in operations
        if row["ratio"] is not None and min(row["a"]["count"], row["b"]["count"]) >= least
    ]  # fmt: skip
    out.heading("Durations", f"operations with {least} events or more on both sides, by change")
    if not both:
        out.line("  none")
        return
    both.sort(key=lambda row: max(row["ratio"], 1 / max(row["ratio"], 1e-9)), reverse=True)
    out.table(
        [Column("operation", stretch=True), Column("A p50", right=True),
         Column("B p50", right=True), Column("ratio", right=True), Column("A p99", right=True),
         Column("B p99", right=True)],
        [
            [label(row["type"], row["name"]), figures.duration(row["a"]["p50_us"]),
             figures.duration(row["b"]["p50_us"]), _ratio(row["ratio"]),
             figures.duration(row["a"]["p99_us"]), figures.duration(row["b"]["p99_us"])]
            for row in both[:top]
        ],
    )  # fmt: skip


def _ratio(ratio: float) -> Cell:
    style = "red" if ratio > 1.5 else "green" if ratio < 1 / 1.5 else ""
    return Cell(f"{ratio:.2f}", style)
