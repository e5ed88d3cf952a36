"""`kobs query`: the events of a session that meet conditions, and figures over them.

    kobs query --category ipc --severity warn
    kobs query --type SyscallExit --slow-ms 5 --order duration --limit 20
    kobs query --type SyscallExit --aggregate by_name duration_stats_by_name
    kobs query --common syscall_performance

`--json` prints one object: count (all that match), lost (events that the recording lost: what
they would have added is not known), events (at most --limit, as `kobs export --to jsonl` writes
them) and aggregations (by key).
"""

import argparse
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kobs.cli import conditions, figures, targets
from kobs.cli.render import Cell, Column, Screen, print_json, screen
from kobs.errors import ConfigError

if TYPE_CHECKING:
    from kobs.query import Query, QueryResult
    from kobs.recording import Recording

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_ORDERS = ("time", "duration", "severity", "pid", "type", "name")
_AGGREGATES = ("count", "by_category", "by_severity", "by_pid", "by_type", "by_name",
               "duration_stats", "health")  # fmt: skip
_FIELD_AGGREGATES = ("field_stats", "sum")


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "query",
        help="events that meet conditions, and figures over them",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    targets.add_argument(parser)
    conditions.add_options(parser)
    when = parser.add_argument_group("when and how long")
    when.add_argument("--since", type=_ago, metavar="AGO", help="no older than: 500ms, 10s, 5min")
    when.add_argument("--until", type=_ago, metavar="AGO", help="at least this old")
    when.add_argument("--slow-ms", type=_number, metavar="MS", help="took at least this long")
    what = parser.add_argument_group("what to say")
    what.add_argument("--order", choices=_ORDERS, default="time")
    what.add_argument("--descending", action="store_true", help="largest or latest first")
    what.add_argument("--limit", type=_limit, metavar="N", help="events shown at most (50)")
    what.add_argument(
        "--aggregate", nargs="+", action="extend", default=[], metavar="KEY",
        help=f"{', '.join(_AGGREGATES)}; field_stats:FIELD, sum:FIELD; duration_stats_by_name, ...",
    )  # fmt: skip
    what.add_argument("--common", metavar="NAME", help="a ready query; `list` names them")
    what.add_argument("--threshold-ms", type=_number, metavar="MS", help="of slow_operations")
    what.add_argument("--json", action="store_true", help="one JSON object")
    what.add_argument("--plain", action="store_true", help="plain text on a terminal too")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    if arguments.common == "list":
        print("\n".join(f"{name:<22}{doc}" for name, doc in common_queries().items()))
        return 0
    with targets.opened(arguments.session) as recording:
        known = targets.type_names(recording) if targets.names_types(arguments) else ()
        wanted = conditions.from_options(arguments, known, recording)
        query = build(arguments).passing(wanted)
        now_ns = last_moment(recording) if query.looks_back else 0
        result = recording.query(query, now_ns=now_ns)
        result.lost = total_lost(recording)
        if arguments.json:
            print_json(as_dict(recording, result))
        else:
            show(screen(plain=arguments.plain), recording, result, arguments)
    return 0


def build(arguments: argparse.Namespace) -> "Query":
    """The query of parsed options, but for the conditions that `conditions` reads."""
    from kobs.query import Query

    query = _common(arguments) if arguments.common else Query()
    if arguments.since is not None:
        query = query.since(arguments.since)
    if arguments.until is not None:
        query = query.until(arguments.until)
    if arguments.slow_ms is not None:
        query = query.slower_than(ms=arguments.slow_ms)
    if arguments.order != "time" or arguments.descending:
        query = query.order_by(arguments.order, descending=arguments.descending)
    limit = arguments.limit
    if limit is None and not arguments.common:
        limit = 0 if arguments.aggregate else 50
    if limit is not None:
        query = query.limit(limit)
    return query.aggregate(*map(_aggregation, arguments.aggregate))


def common_queries() -> dict[str, str]:
    """The ready queries by name, each with the first line of what it says of itself."""
    from kobs.query import CommonQueries

    return {
        name: (getattr(CommonQueries, name).__doc__ or "").strip().split("\n")[0]
        for name in vars(CommonQueries)
        if not name.startswith("_")
    }


def _common(arguments: argparse.Namespace) -> "Query":
    from kobs.query import CommonQueries

    names = common_queries()
    name = arguments.common.replace("-", "_")
    if name not in names:
        raise ConfigError(f"--common {arguments.common!r} is not known; it is one of "
                          f"{', '.join(names)}")  # fmt: skip
    make: Callable[..., Query] = getattr(CommonQueries, name)
    if name == "process_errors":
        if len(arguments.pid) != 1:
            raise ConfigError("--common process_errors needs exactly one --pid")
        return make(conditions.number(arguments.pid[0], "--pid"))
    if name == "slow_operations":
        if arguments.threshold_ms is None:
            raise ConfigError("--common slow_operations needs --threshold-ms")
        return make(arguments.threshold_ms)
    return make()


def _aggregation(text: str) -> Any:
    from kobs.query import Aggregation, AggregationType

    known = {one.value: one for one in AggregationType}
    key, _, field = text.partition(":")
    by: str | None = None
    if key not in known and "_by_" in key:
        key, _, by = key.rpartition("_by_")
    if key not in known:
        allowed = ", ".join((*_AGGREGATES, *(f"{one}:FIELD" for one in _FIELD_AGGREGATES)))
        raise ConfigError(f"--aggregate {text!r} is not known; it is one of {allowed}")
    if key in _FIELD_AGGREGATES:
        if not field:
            raise ConfigError(f"--aggregate {key} needs a field: {key}:size")
        return Aggregation(known[key], field=field, by=by)
    return Aggregation(known[key], field=field or None, by=by)


def last_moment(recording: "Recording") -> int:
    """What `--since` counts back from: now while it runs, else the last event."""
    import time

    return time.monotonic_ns() if recording.running else recording.last_ns()


def total_lost(recording: "Recording") -> int:
    """Events that the recording lost, whatever the cause."""
    from kobs.cli.summary import lost

    counts = lost(recording)
    return int(counts["total"]) + sum(int(n) for n in counts["on_purpose"].values())


def as_dict(recording: "Recording", result: "QueryResult") -> dict[str, Any]:
    """The object that `--json` prints."""
    from kobs.export.jsonl import to_dict, wall_clock

    clock = wall_clock(recording)
    return {
        "count": result.count,
        "lost": result.lost,
        "events": [to_dict(event, clock) for event in result.events],
        "aggregations": {key: _plain(value) for key, value in result.aggregations.items()},
    }


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "_asdict"):
        return {key: _plain(entry) for key, entry in value._asdict().items()}
    if isinstance(value, dict):
        return {str(getattr(key, "name", key)): _plain(entry) for key, entry in value.items()}
    return value


def show(
    out: Screen, recording: "Recording", result: "QueryResult", arguments: argparse.Namespace
) -> None:
    """Print the result as text."""
    from kobs.cli.lines import Lines

    if result.lost:
        out.alarm(
            f"{figures.count(result.lost, 'event')} not in this recording",
            ["lost or left out (see `kobs report`): what they would add is not known"],
        )
    Lines(recording).show(out, result.events)
    shown = len(result.events)
    note = f", {shown:,} shown" if shown < result.count else ""
    out.line(Cell(f"{figures.count(result.count, 'event')} match{'es' * (result.count == 1)}{note}",
                  "bold"))  # fmt: skip
    for key, value in result.aggregations.items():
        plain = _plain(value)
        out.heading(key)
        aggregation(out, plain, key.startswith("duration_stats"))


def aggregation(out: Screen, value: Any, durations: bool) -> None:
    """Show an aggregation: a number, figures by name, or groups of figures by name."""
    if not value or not isinstance(value, dict):
        value = "none" if isinstance(value, dict) else value
        out.line(f"  {_figure('', value, durations)}")
        return
    groups = {name: entry for name, entry in value.items() if isinstance(entry, dict)}
    if not groups or len(groups) < len(value):
        rows = [[name, _figure(name, entry, durations)] for name, entry in value.items()]
        out.table([Column("", stretch=True), Column("", right=True)], rows)
        return
    names = list(next(iter(groups.values())))
    out.table(
        [Column("", stretch=True), *(Column(name, right=True) for name in names)],
        [
            [group, *(_figure(name, entry.get(name), durations) for name in names)]
            for group, entry in groups.items()
        ],
    )


def _figure(name: str, value: object, is_duration: bool) -> str:
    if isinstance(value, float):
        return figures.duration(value) if is_duration else f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or figures.ABSENT
    return figures.ABSENT if value is None else str(value)


def _ago(text: str) -> timedelta:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzµ").strip()
    unit = text[len(number) :].strip() or "s"
    try:
        return timedelta(seconds=float(number) * _UNITS[unit.replace("µ", "u")])
    except (ValueError, KeyError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a time such as 500ms, 10s, 5min or 2h"
        ) from None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, 0 or more")
    return value


def _limit(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, 0 or more")
    return int(text)
