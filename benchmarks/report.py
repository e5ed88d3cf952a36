"""A result as tables: for a terminal, and for the documentation."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.rows import FLOORS

TIMES = "\N{MULTIPLICATION SIGN}"

CORES = {"python": "Python core", "c": "C core"}


class Table(NamedTuple):
    """A title, what to know of it, a header and rows."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Everything that was measured."""
    cores = result["cores"]
    made = [_figures(core, result["rows"][core]) for core in cores]
    made += [_peers(core, result["beside"][core], result["peers"]) for core in cores]
    run = result.get("watches_run")
    made += [_watches(core, result["watches"][core], run) for core in cores if "watches" in result]
    made.append(_floors(result["floors"]))
    for core in cores:
        made.append(_others(core, result["others"][core]))
        made.append(_growth(core, result["growth"].get(core, {})))
        made += _scaling(core, result["scaling"].get(core, {}))
    made.append(_rivals(result.get("rivals", [])))
    return [table for table in made if table.rows]


def as_text(result: Mapping[str, Any]) -> str:
    """For a terminal."""
    parts = [", ".join(f"{name} {value}" for name, value in result["machine"].items())]
    for table in tables(result):
        rows = [[cell.replace("`", "") for cell in row] for row in (table.header, *table.rows)]
        parts += ["", f"== {table.title}", *_aligned(rows)]
        if table.note:
            parts.append(f"   ({table.note})")
    return "\n".join(parts)


def as_markdown(result: Mapping[str, Any]) -> str:
    """For a page of the documentation; the tables alone."""
    parts = []
    for table in tables(result):
        parts += [f"## {table.title}", ""]
        if table.note:
            parts += [table.note[0].upper() + table.note[1:] + ".", ""]
        parts += [*table_lines(table), ""]
    return "\n".join(parts)


def table_lines(table: Table) -> list[str]:
    """The lines of one table, in Markdown."""
    rule = "|" + "---|" * len(table.header)
    return [_line(table.header), rule, *(_line(row) for row in table.rows)]


def _figures(core: str, rows: Iterable[Mapping[str, Any]]) -> Table:
    return Table(
        f"The figures, {CORES[core]}",
        "median ± half the distance of the quartiles, over the rounds of one run; a ratio is taken "
        "in each round",
        ("what", "measured", "reference", "ratio", "at most", "verdict"),
        [
            (
                row["what"],
                spread(row.get("measured"), row["unit"]),
                _reference(row),
                spread(row.get("ratio")),
                _target(row),
                _verdict(row),
            )
            for row in rows
        ],
    )


def _reference(row: Mapping[str, Any]) -> str:
    if "reference" not in row:
        return row["against"] or "·"
    return f"{spread(row['reference'], row['unit'])}: {row['against']}"


def _target(row: Mapping[str, Any]) -> str:
    unit = f" {TIMES}" if row["against"] else f" {row['unit']}"
    if row["target"] is not None:
        return number(row["target"]) + unit
    other = next((core for core in row["targets"]), None)
    if other is None:
        return "·"
    return f"({CORES[other]}: {number(row['targets'][other])}{unit})"


def _verdict(row: Mapping[str, Any]) -> str:
    said = str(row["verdict"])
    floor = row.get("floor")
    if said not in ("not reached", "too close to tell") or floor is None:
        return said
    parts = [
        (f"{often:,.0f} {TIMES} " if often != 1 else "") + FLOORS.get(name, name)
        for name, often in floor["terms"].items()
    ]
    unit = TIMES if row["against"] else row["unit"]
    if row["target"] is not None and floor["held"] > row["target"]:
        said = "cannot be reached here"
    sum_of = " + ".join(parts).replace("+ -", "- ")
    return (
        f"{said}: floor {number(floor['held'])} {unit} ({sum_of}), "
        f"at {number(floor['times'])} times it"
    )


def _time(figure: Mapping[str, float]) -> str:
    """Nanoseconds, or milliseconds where that is what a figure is of."""
    per, unit = (1e6, "ms") if abs(figure["median"]) >= 1e6 else (1.0, "")
    scaled = {name: value / per for name, value in figure.items()}
    if "high" in scaled:
        return spread(scaled, unit)
    return f"{number(scaled['median'])} {unit}".rstrip()


def _peers(core: str, rows: Iterable[Mapping[str, Any]], versions: Mapping[str, str]) -> Table:
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "stdlib")
    return Table(
        f"Beside others, {CORES[core]}",
        f"each in an environment of its own: {known}",
        ("what", "ns", "what of kobs stands beside it", "ns", "times kobs's"),
        [
            (
                row["what"],
                _time(row["ns"]) if "ns" in row else row["absent"],
                row["ours"],
                _time({"median": row["ours_ns"]}) if "ours_ns" in row else "·",
                number(row["times"]) if "times" in row else "·",
            )
            for row in rows
        ],
    )


WATCHES_HEADER = (
    "operation", "bare, µs", "added by the watch, µs", "added by the contrib instrumentation, µs",
)  # fmt: skip


def _watches(core: str, rows: Iterable[Mapping[str, Any]], run: Mapping[str, Any] | None) -> Table:
    apart = f"; a run of its own, {run['date']}, {run['rounds']} rounds" if run else ""
    return Table(
        f"What a watch adds, {CORES[core]}",
        "CPU time of all threads of the process; one watch at a time, a collector whose ring was "
        "written once; the OpenTelemetry contrib "
        "instrumentation of the same thing, where there is one, in an environment of its own"
        + apart,
        ("watch", *WATCHES_HEADER),
        [(row["watch"], *watched(row)) for row in rows],
    )


def watched(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of what a watch adds."""
    absent = str(row.get("absent", "·"))
    contrib = "·"
    if row["package"]:
        contrib = f"{spread(row['contrib']) if 'contrib' in row else absent}: {row['package']}"
    return (
        row["what"],
        *(spread(row[name]) if name in row else absent for name in ("bare", "kobs")),
        contrib,
    )


def _floors(rows: Iterable[Mapping[str, Any]]) -> Table:
    return Table("Floors", "what nothing here can be cheaper than", ("what", "ns"), _simple(rows))


def _others(core: str, rows: Iterable[Mapping[str, Any]]) -> Table:
    return Table(f"Also measured, {CORES[core]}", "", ("what", "ns"), _simple(rows))


def _simple(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [(row["what"], spread(row["ns"]) if "ns" in row else row["absent"]) for row in rows]


GROWTH = {
    "ring": "slots of the ring",
    "text": "characters of text in an event (what does not fit is cut)",
    "subscribers": "subscribers that read nothing",
    "depth": "spans that are open around it",
    "chain": "critical path of a chain of so many events",
}


def _growth(core: str, growth: Mapping[str, Mapping[str, Any]]) -> Table:
    return Table(
        f"How cost grows, {CORES[core]}",
        "nanoseconds an event, but for the last",
        ("with", "ns"),
        [
            (
                GROWTH[what],
                "; ".join(f"{int(n):,}: {number(f['median'])}" for n, f in amounts.items()),
            )
            for what, amounts in growth.items()
        ],
    )


def _scaling(core: str, scaling: Mapping[str, Any]) -> list[Table]:
    made = []
    if scaling.get("threads"):
        made.append(
            Table(
                f"Threads, {CORES[core]}",
                "producers as fast as they can and subscribers, all threads of one process; lost: "
                "part of the events that a subscriber did not see, it knows how many; unaccounted: "
                "neither read nor told as lost, has to be 0",
                ("producers", "subscribers", "events/s", "read/s, all", "contended", "lost",
                 "unaccounted"),
                [
                    (
                        str(cell["producers"]), str(cell["readers"]),
                        number(cell["produced_per_s"]), number(cell["read_per_s"]),
                        number(cell["contended"]), percent(cell["lost"]),
                        number(cell["unaccounted"]),
                    )
                    for cell in scaling["threads"]
                ],
            )
        )  # fmt: skip
    if scaling.get("processes"):
        made.append(
            Table(
                f"A million events a second, {CORES[core]}",
                "processes of one session that together were asked for a million events a second, "
                "each into a ring of 65,536 slots, and a reader in a process of its own that "
                "follows them live",
                ("processes", "events/s", "seconds", "read/s", "not kept", "lost", "unaccounted"),
                [
                    (
                        str(cell["processes"]), number(cell["produced_per_s"]),
                        number(cell["produced"] / cell["produced_per_s"]),
                        number(cell["read_per_s"]), number(cell["not_kept"]),
                        percent(cell["lost"]), number(cell["unaccounted"]),
                    )
                    for cell in scaling["processes"]
                ],
            )
        )  # fmt: skip
    return made


def _rivals(cells: Sequence[Mapping[str, Any]]) -> Table:
    ways = list(cells[0]["ns"]) if cells else []
    return Table(
        "The ring and what lost to it",
        "threads in parallel publish into one ring without Python around them: nanoseconds an "
        "event of one thread. Thread-owned blocks cost less, and lost: events are out of order by "
        "a block, and what is left of one holds up every reader",
        ("threads", *ways),
        [(str(cell["threads"]), *(number(cell["ns"][way]) for way in ways)) for cell in cells],
    )


def number(value: float) -> str:
    """Three digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        digits = len(str(int(abs(value))))
        return f"{round(value, 3 - digits):,.0f}"
    return f"{value:.3g}"


def percent(part: float) -> str:
    """A part of a whole."""
    return f"{number(part * 100)} %"


def spread(figure: Mapping[str, float] | None, unit: str = "") -> str:
    """Median and half the distance of the quartiles."""
    if figure is None:
        return "·"
    around = (figure["high"] - figure["low"]) / 2
    return f"{number(figure['median'])} ± {float(f'{around:.2g}'):,g} {unit}".rstrip()


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
