"""The report as a page of text: what `kobs.cli.report.build` found, shown on a `Screen`."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from kobs.cli import chain, figures, origins
from kobs.cli.render import SEVERITY_STYLES, Cell, Column, Screen, Tree, shorten
from kobs.events import Category, Severity

CAUSES = {
    "overwritten": "overwritten: the ring was full, the oldest made room",
    "contended": "given up: the slot was still being written",
    "discarded": "discarded: the ring was full and a reader was behind",
    "too_big": "too big for a slot",
    "errors": "failed inside kobs",
    "segments_dropped": "dropped with the oldest segments (kobs run --keep)",
    "in_flight_overflow": "begins not in the in-flight table, it was full",
    "strings_overflow": "names not kept, the string table was full",
    "sampled_out": "sampled out",
    "filtered": "filtered out",
}
"""What each cause of loss means."""


def cause_text(cause: str, number: int) -> str:
    """A cause of loss in words: `1,200 overwritten: ...`."""
    return f"{number:,} {CAUSES.get(cause, cause)}"


class Page:
    """Shows a report on a screen."""

    def __init__(self, out: Screen, found: dict[str, Any], *, top: int = 10) -> None:
        self.out = out
        self.found = found
        self.top = top

    def show(self) -> None:
        """Print everything there is to say."""
        sections: tuple[Callable[[], None], ...] = (
            self.not_seen, self.header, self.events, self.operations, self.problems,
            self.processes, self.tests, self.anomalies, self.chain, self.in_flight,
        )  # fmt: skip
        for section in sections:
            section()

    def not_seen(self) -> None:
        """What was lost or damaged, before all else."""
        losses = self.found["losses"]
        lines = [cause_text(cause, n) for cause, n in losses["by_cause"].items()]
        rows = [
            row for row in losses["by_recording"]
            if any(cause in losses["by_cause"] for cause in row)
        ]  # fmt: skip
        if len(rows) > 1:
            for row in rows[: self.top]:
                causes = ", ".join(
                    f"{row[cause]:,} {cause}" for cause in losses["by_cause"] if row.get(cause)
                )
                lines.append(f"  in recording {row['recording']} (pid {row['pid']}): {causes}")
            if len(rows) > self.top:
                lines.append(f"  and in {figures.count(len(rows) - self.top, 'recording')} more")
        lines += losses["damage"]
        unobserved = self.found["unobserved"]
        if unobserved:
            lines.append(
                f"{figures.count(len(unobserved), 'process', 'processes')} could not be observed, "
                "or not in full:"
            )
            reasons = Counter(str(child.get("reason", "unknown")) for child in unobserved)
            lines += [f"  {n:,} {reason}" for reason, n in reasons.most_common(self.top)]
        for pid in self.found["killed"][: self.top]:
            lines.append(
                f"process {pid} did not close its recording: it was killed, or skipped its exit"
            )
        if not lines:
            return
        if losses["total"]:
            title = f"{figures.count(losses['total'], 'event')} lost"
        elif losses["damage"]:
            title = "damaged: not everything could be read"
        elif self.found["complete"]:
            title = "not ended in order"
        else:
            title = "not everything was seen"
        self.out.alarm(title, lines)

    def header(self) -> None:
        """What was run, when, how it ended."""
        session, events = self.found["session"], self.found["events"]
        command = " ".join(session["argv"]) or session["command"]
        self.out.line(Cell("kobs report  ", "dim"), Cell(command, "bold"))
        self._fact("session", session["path"])
        began = (session["started"] or "time unknown").split(".")[0].replace("T", " ")
        self._fact(
            "began",
            f"{began} UTC, ran {figures.duration(session['duration_s'] * 1e6)}, ",
            _ended(session, self.found["processes"]),
        )
        processes = len({row["pid"] for row in self.found["processes"]})
        self._fact(
            "recorded",
            f"{figures.count(events['count'], 'event')} of "
            f"{figures.count(processes, 'process', 'processes')}"
            + (f", {' and '.join(session['core'])} core" if session["core"] else ""),
        )
        if self.found["complete"]:
            self._fact("lost", Cell("nothing", "green"))
        purpose = self.found["losses"]["on_purpose"]
        if purpose:
            by_category = self.found["losses"]["left_out"]
            label = "left out"
            for cause, number in purpose.items():
                parts = sorted(by_category.get(cause, {}).items(), key=lambda part: -part[1])
                told = ", ".join(f"{n:,} {name.lower()}" for name, n in parts)
                self._fact(label, cause_text(cause, number) + (f": {told}" if told else ""))
                label = ""

    def _fact(self, name: str, *cells: str | Cell) -> None:
        self.out.line(Cell(f"  {name:<10}", "dim"), *cells)

    def events(self) -> None:
        """Events by category and severity."""
        table = self.found["events"]["by_category"]
        if not table:
            self.out.heading("Events")
            self.out.line("  none")
            return
        levels = [s.name for s in Severity if any(s.name in row for row in table.values())]
        self.out.heading("Events by category and severity")
        rows = []
        for category in [c.name for c in Category if c.name in table]:
            row = table[category]
            rows.append(
                [category.lower()]
                + [Cell(_number(row.get(s)), SEVERITY_STYLES[s] if row.get(s) else "dim")
                   for s in levels]
                + [Cell(f"{sum(row.values()):,}", "bold")]
            )  # fmt: skip
        if len(rows) > 1:
            sums = self.found["events"]["by_severity"]
            rows.append(["all", *(f"{sums[s]:,}" for s in levels), f"{sum(sums.values()):,}"])
        columns = [Column("category"), *(Column(s, right=True) for s in levels)]
        self.out.table([*columns, Column("all", right=True)], rows)

    def operations(self) -> None:
        """The slowest operations."""
        operations = self.found["operations"]
        if not operations:
            return
        shown = operations[: self.top]
        self.out.heading("Slowest operations", _part(shown, len(operations), ", by p99"))
        failed = any(row["errors"] for row in shown)
        columns = [Column("operation", stretch=True), Column("count", right=True)]
        columns += [Column("failed", right=True)] * failed
        columns += [Column(name, right=True) for name in ("p50", "p95", "p99", "max", "total")]
        self.out.table(
            columns,
            [
                [chain.label(row["type"], row["name"]), f"{row['count']:,}"]
                + [Cell(_number(row["errors"]), "red" if row["errors"] else "dim")] * failed
                + [figures.duration(row[k]) for k in ("p50_us", "p95_us")]
                + [Cell(figures.duration(row["p99_us"]), "bold")]
                + [figures.duration(row[k]) for k in ("max_us", "total_us")]
                for row in shown
            ],
        )

    def problems(self) -> None:
        """Warnings and errors."""
        problems = self.found["problems"]
        if not problems:
            return
        shown = problems[: self.top]
        self.out.heading("Warnings and errors", _part(shown, len(problems), " kinds"))
        self.out.table(
            [Column("severity"), Column("count", right=True),
             Column("what", stretch=True, prose=True), Column("pid", right=True)],
            [
                [Cell(row["severity"], SEVERITY_STYLES[row["severity"]]), f"{row['count']:,}",
                 f"{row['type']}  {_example(row)}",
                 f"{row['pids'][0]}" + ("…" if len(row["pids"]) > 1 else "")]
                for row in shown
            ],
        )  # fmt: skip

    def processes(self) -> None:
        """The process tree, with the children that were not observed."""
        rows = self.found["processes"]
        self.out.heading("Processes")
        nodes: dict[int, Tree] = {}
        roots: list[Tree] = []
        by_pid: dict[int, dict[str, Any]] = {}
        for row in rows:
            by_pid.setdefault(row["pid"], row)
        for row in rows:
            if row["pid"] not in nodes:
                again = [other for other in rows if other["pid"] == row["pid"]]
                nodes[row["pid"]] = Tree(self._process_line(again), [])
        first = nodes[rows[0]["pid"]] if rows else None
        for child in self.found["unobserved"]:
            tree = Tree(_unobserved_line(child), [])
            nodes.setdefault(child.get("pid", 0), tree)
            above = nodes.get(child.get("ppid", 0), first)
            (roots if above is None or above is tree else above.children).append(tree)
        for pid, row in by_pid.items():
            above = nodes.get(row["ppid"]) if row["ppid"] != pid else None
            (roots if above is None else above.children).append(nodes[pid])
        if roots:
            order = {id(tree): pid for pid, tree in nodes.items()}
            for tree in nodes.values():
                tree.children.sort(key=lambda child: order.get(id(child), 0))
            self.out.tree(_without_loops(roots, nodes))
        else:
            self.out.line("  none was recorded")

    def _process_line(self, rows: list[dict[str, Any]]) -> tuple[Cell, ...]:
        last = rows[-1]
        command = shorten(_command(last["command"].split()), max(24, self.out.width - 50))
        ended = _state(last)
        events = sum(row["events"] for row in rows)
        return (
            Cell(f"{last['pid']}  ", "bold"),
            Cell(f"{command}  "),
            ended,
            Cell(
                f", {figures.duration(last['duration_s'] * 1e6)}, {figures.count(events, 'event')}",
                "dim",
            ),
        )

    def tests(self) -> None:
        """The tests of a pytest run."""
        origins.show(self.out, self.found["tests"], self.top)

    def anomalies(self) -> None:
        """What was far from what was expected."""
        anomalies = self.found["anomalies"]
        if not anomalies["count"]:
            return
        shown = anomalies["worst"][: self.top]
        self.out.heading("Anomalies", _part(shown, anomalies["count"]))
        columns = [Column("metric", stretch=True), Column("value", right=True),
                   Column("expected", right=True), Column("deviation", right=True),
                   Column("pid", right=True)]  # fmt: skip
        self.out.table(
            columns,
            [
                [row["metric"], _value(row["metric"], row["value"]),
                 _value(row["metric"], row["expected"]),
                 Cell(f"{row['deviation']:+.1f} sd", "yellow"), f"{row['pid']}"]
                for row in shown
            ],
        )  # fmt: skip

    def chain(self) -> None:
        """The longest causal chain."""
        found = self.found["chain"]
        if found is None:
            self.out.heading("Longest causal chain")
            self.out.line("  no event caused another")
            return
        self.out.heading(
            "Longest causal chain",
            f"{figures.count(found['steps'], 'step')}, {figures.count(found['events'], 'event')}, "
            f"{figures.count(len(found['recordings']), 'process', 'processes')}, "
            f"{figures.duration(found['duration_us'])}",
        )
        self.out.tree(chain.draw(found, self.found["processes"]))

    def in_flight(self) -> None:
        """Begins without an end of processes that are gone."""
        entries = [entry for entry in self.found["in_flight"] if entry["state"] != "running"]
        if not entries:
            return
        shown = entries[: self.top]
        self.out.heading("In flight when it ended", _part(shown, len(entries)))
        in_flight_table(self.out, shown)


def in_flight_table(out: Screen, entries: list[dict[str, Any]]) -> None:
    """A table of begins without an end."""
    out.table(
        [Column("operation", stretch=True), Column("type"), Column("open for", right=True),
         Column("pid", right=True), Column("thread", right=True)],
        [
            [entry["name"] or entry["type"], entry["type"], figures.duration(entry["age_us"]),
             f"{entry['pid']}", f"{entry['tid']}"]
            for entry in entries
        ],
    )  # fmt: skip


def _unobserved_line(child: dict[str, Any]) -> tuple[Cell, ...]:
    return (
        Cell(f"{child.get('pid') or '?'}  ", "bold"),
        Cell(shorten(_command(list(map(str, child.get("argv", ())))), 24)),
        Cell(f"  not observed: {child.get('reason', 'unknown')}", "yellow"),
    )


def _command(words: list[str]) -> str:
    """A command line with the program's name instead of its path."""
    return " ".join([word.rpartition("/")[2] for word in words[:1]] + words[1:])


def _without_loops(roots: list[Tree], nodes: dict[int, Tree]) -> list[Tree]:
    """The trees; processes whose parents are each other's (a pid used twice) become roots."""
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        tree = waiting.pop()
        seen.add(id(tree))
        waiting += tree.children
    return roots + [Tree(tree.line, []) for tree in nodes.values() if id(tree) not in seen]


def _part(shown: list[Any], count: int, what: str = "") -> str:
    """The note of a table that does not show all; empty if it does."""
    return f"{len(shown)} of {count:,}{what}" if count > len(shown) else ""


def _ended(session: dict[str, Any], processes: list[dict[str, Any]]) -> Cell:
    if session["running"]:
        return Cell("running still", "cyan")
    if session["signal"]:
        return Cell(f"ended by signal {_signal(session['signal'])}", "red")
    code = session["exit_code"]
    if code is not None:
        return _code(code)
    if processes and processes[0]["state"] == "exited":
        return Cell("ended")
    return Cell("its end was not seen", "yellow")


def _state(row: dict[str, Any]) -> Cell:
    if row["state"] == "running":
        return Cell("running", "cyan")
    if row["exit_code"] is not None:
        return _code(row["exit_code"])
    if row["state"] == "killed":
        return Cell("killed", "red")
    return Cell("ended", "")


def _code(code: int) -> Cell:
    if code < 0:
        return Cell(f"ended by signal {_signal(-code)}", "red")
    return Cell(f"exit code {code}", "red" if code else "green")


def _signal(number: int) -> str:
    import signal

    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


def _number(number: int | None) -> str:
    return f"{number:,}" if number else figures.ABSENT


def _example(problem: dict[str, Any]) -> str:
    example = problem["example"]
    if problem["type"] == "LogRecorded":
        return f"{example['logger']}: {example['message']}"
    return _fields(example)


def _fields(payload: dict[str, Any]) -> str:
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in payload.items()
    )


def _value(metric: str, value: float) -> str:
    if metric.endswith("_us"):
        return figures.duration(value)
    if metric.endswith("_ms"):
        return figures.duration(value * 1000)
    return f"{value:.4g}"
