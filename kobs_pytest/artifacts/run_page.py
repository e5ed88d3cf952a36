"""The page about a whole run.

PYTEST_DONT_REWRITE
"""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

import kobs
from kobs._pages.document import Markup, document, element, section, table, text
from kobs.cli.figures import count, duration, size
from kobs_pytest.artifacts.tally import added_up
from kobs_pytest.reporting.outcomes import NOT_PASSED, Result

MOST_OPERATIONS = 25
MOST_BUSY = 15
MOST_ANOMALIES = 50
MOST_TESTS = 5000
"""Rows of a table; what is left out is said."""
_ORDER = (*NOT_PASSED, "passed", "xpassed", "xfailed", "skipped")


class Run(NamedTuple):
    """What is known of the run itself."""

    arguments: list[str]
    began: datetime
    seconds: float
    exit_code: int
    workers: int
    """Of pytest-xdist; 0 without."""
    folder: Path
    """Where the page will be."""
    base: Path
    """What relative paths of artifacts are relative to."""


def page(run: Run, results: Sequence[Result]) -> bytes:
    """The page as a file's content."""
    failing = [result for result in results if result.verdict in NOT_PASSED]
    title = f"{len(failing)} of {count(len(results), 'test')} did not pass"
    content = [
        _header(run, results, title),
        _not_seen(results),
        _failing(run, results),
        _operations(results),
        _busiest(run, results),
        _anomalies(run, results),
        _leaks(run, results),
        _budgets(run, results),
        _lost(run, results),
        _all(run, results),
        element("footer", f"kobs {kobs.__version__} · pytest {pytest.__version__} · "
                f"Python {platform.python_version()} · this page is complete: it asks nothing of "
                "the network"),
    ]  # fmt: skip
    return document(title, *content, styles=("report.css",), scripts=("report.js",))


def _header(run: Run, results: Sequence[Result], title: str) -> Markup:
    verdicts = Counter(result.verdict for result in results)
    events = sum(result.facts.get("events", 0) for result in results)
    facts: list[tuple[str, object]] = [
        ("began", f"{run.began:%Y-%m-%d %H:%M:%S} UTC"),
        ("ran for", duration(run.seconds * 1e6)),
        ("workers", str(run.workers) if run.workers else ""),
        ("exit code", str(run.exit_code)),
        ("events of tests", count(events)),
        ("lost", count(sum(result.facts.get("lost", 0) for result in results))),
        ("arguments", element("code", " ".join(run.arguments)) if run.arguments else ""),
    ]
    named = [verdict for verdict in _ORDER if verdicts[verdict]]
    bar = [
        element("span", class_=f"part {verdict}", data_share=f"{verdicts[verdict]}",
                title=f"{verdicts[verdict]} {verdict}")
        for verdict in named
    ]  # fmt: skip
    legend = [
        element("li", element("b", count(verdicts[verdict])), f" {verdict}", class_=verdict)
        for verdict in named
    ]
    return element(
        "header",
        element("p", "kobs · what this test run did", class_="eyebrow"),
        element("h1", title),
        element("div", *bar, class_="verdicts", aria_hidden="true"),
        element("ul", *legend, class_="verdict-counts"),
        element(
            "dl",
            *(
                element("div", element("dt", name), element("dd", value),
                        class_="wide" if name == "arguments" else None)
                for name, value in facts
                if value
            ),
            class_="facts",
        ),
    )  # fmt: skip


def _not_seen(results: Sequence[Result]) -> Markup:
    """Before all else: what the run does not know."""
    unsure = sum(result.verdict == "inconclusive" for result in results)
    incomplete = sum(bool(result.facts.get("incomplete")) for result in results)
    unknown = sum(not result.facts for result in results)
    lines = []
    if unsure:
        lines.append(f"{count(unsure, 'test is', 'tests are')} inconclusive: the answer rests on "
                     "what may not have been seen.")  # fmt: skip
    if incomplete:
        lines.append(f"Of {count(incomplete, 'test')} not everything may have been seen.")
    if unknown:
        lines.append(f"Of {count(unknown, 'test')} nothing is known but the outcome: not begun, "
                     "not over, or its worker died.")  # fmt: skip
    if not lines:
        return Markup()
    return element("div", *(element("p", line) for line in lines), class_="alarm")


def _failing(run: Run, results: Sequence[Result]) -> Markup:
    failing = [result for result in results if result.verdict in NOT_PASSED]
    if not failing:
        return section("failing", "Not passed", element("p", "none", class_="quiet"))
    failing.sort(key=lambda result: NOT_PASSED.index(result.verdict))
    shown = failing[:MOST_TESTS]
    rows = [
        [
            _verdict(result),
            _name(run, result),
            element("span", result.message, class_="says"),
            _took(result),
        ]
        for result in shown
    ]
    return section(
        "failing", "Not passed",
        table(["", "test", "says", "took"], rows, numbers=(3,), sortable=True),
        note=_part(len(shown), len(failing)),
    )  # fmt: skip


def _operations(results: Sequence[Result]) -> Markup:
    operations = added_up(result.facts for result in results)
    if not operations:
        return section(
            "operations", "Slowest operations",
            element("p", "nothing with a duration was recorded", class_="quiet"),
        )  # fmt: skip
    measured = [(found.percentile(99), key, found) for key, found in operations.items()]
    measured.sort(key=lambda one: (-one[0], one[1]))
    rows = [
        [
            element("span", element("code", name or kind), *([" ", element("small", kind,
                    class_="quiet")] if name else [])),
            (count(found.count), found.count),
            (count(found.errors) if found.errors else "·", found.errors),
            *((duration(us), us) for us in (found.percentile(50), found.percentile(95), p99,
                                            found.maximum, found.total)),
            (count(found.tests), found.tests),
        ]
        for p99, (kind, name), found in measured[:MOST_OPERATIONS]
    ]  # fmt: skip
    columns = ["operation", "count", "failed", "p50", "p95", "p99", "max", "total", "tests"]
    return section(
        "operations", "Slowest operations",
        table(columns, rows, numbers=range(1, 9), sortable=True),
        note=_part(len(rows), len(measured), "by p99"),
    )  # fmt: skip


def _took(result: Result) -> tuple[str, float]:
    """How long it took, and what to sort by. Of the phase in which a worker died nobody says it."""
    known = result.verdict != "crashed"
    return duration(result.seconds * 1e6) if known else "unknown", result.seconds


def _busiest(run: Run, results: Sequence[Result]) -> Markup:
    busy = sorted(results, key=lambda result: result.facts.get("events", 0), reverse=True)
    busy = [result for result in busy if result.facts.get("events")]
    if not busy:
        return section("busiest", "Busiest tests", element("p", "no test caused an event",
                       class_="quiet"))  # fmt: skip
    most = busy[0].facts["events"]
    rows = [
        [
            _name(run, result),
            (element("span", element("meter", min="0", max=most, value=result.facts["events"],
                     aria_hidden="true"), count(result.facts["events"])), result.facts["events"]),
            _took(result),
            _verdict(result),
        ]
        for result in busy[:MOST_BUSY]
    ]  # fmt: skip
    return section(
        "busiest", "Busiest tests",
        table(["test", "events", "took", ""], rows, numbers=(1, 2), sortable=True),
        note=_part(len(rows), len(busy), "by events"),
    )  # fmt: skip


def _anomalies(run: Run, results: Sequence[Result]) -> Markup:
    found = [
        (result, anomaly) for result in results for anomaly in result.facts.get("anomalies", ())
    ]
    found.sort(key=lambda one: abs(one[1][3]), reverse=True)
    if not found:
        return section("anomalies", "Anomalies", element("p", "none", class_="quiet"))
    rows = [
        [metric, f"{value:g}", f"{expected:g}", (f"{deviation:+.1f} sd", abs(deviation)),
         count(times), f"{pid}", _name(run, result)]
        for result, (metric, value, expected, deviation, times, pid) in found[:MOST_ANOMALIES]
    ]  # fmt: skip
    columns = ["metric", "value", "expected", "deviation", "times", "pid", "test"]
    return section(
        "anomalies", "Anomalies",
        table(columns, rows, numbers=(1, 2, 3, 4, 5), sortable=True),
        note=_part(len(rows), len(found)),
    )  # fmt: skip


def _leaks(run: Run, results: Sequence[Result]) -> Markup:
    return _told_of(
        run, results, "leaks", "Leaks", ["kind", "what", "created at"], "no test was asked about "
        "leaks", numbers=(),
    )  # fmt: skip


def _budgets(run: Run, results: Sequence[Result]) -> Markup:
    asked = [(result, budget) for result in results for budget in result.facts.get("budgets", ())]
    if not asked:
        return section("budgets", "Budgets", element("p", "not asked for: no test has a budget",
                       class_="quiet"))  # fmt: skip
    asked.sort(key=lambda one: _share(one[1]), reverse=True)
    rows = [
        [
            what,
            (_amount(used, unit), used),
            (_amount(limit, unit), limit),
            (element("span", element("meter", min="0", max="1", high="0.9", optimum="0.3",
                     value=f"{min(1.0, _share([what, limit, used, unit])):.3f}",
                     aria_hidden="true"), f"{_share([what, limit, used, unit]):.0%}"),
             _share([what, limit, used, unit])),
            _name(run, result),
        ]
        for result, (what, limit, used, unit) in asked[:MOST_TESTS]
    ]  # fmt: skip
    return section(
        "budgets", "Budgets",
        table(["budget", "used", "limit", "share", "test"], rows, numbers=(1, 2, 3),
              sortable=True),
        note=_part(len(rows), len(asked)),
    )  # fmt: skip


def _share(budget: Sequence[Any]) -> float:
    limit, used = float(budget[1]), float(budget[2])
    return used / limit if limit else (0.0 if not used else 9.99)


def _amount(number: float, unit: str) -> str:
    if unit == "us":
        return duration(number)
    if unit == "bytes":
        return size(number)
    return f"{number:g} {unit}".strip()


def _told_of(
    run: Run, results: Sequence[Result], key: str, title: str, columns: list[str], unasked: str,
    *, numbers: Sequence[int],
) -> Markup:  # fmt: skip
    asked = [result for result in results if key in result.facts]
    if not asked:
        return section(key, title, element("p", f"not asked for: {unasked}", class_="quiet"))
    found = [(result, entry) for result in asked for entry in result.facts[key]]
    if not found:
        none = f"none in {count(len(asked), 'test')} that were asked"
        return section(key, title, element("p", none, class_="quiet"))
    rows = [[*entry, _name(run, result)] for result, entry in found[:MOST_TESTS]]
    return section(
        key, title, table([*columns, "test"], rows, numbers=numbers, sortable=True),
        note=_part(len(rows), len(found)),
    )  # fmt: skip


def _lost(run: Run, results: Sequence[Result]) -> Markup:
    rows = [
        [_name(run, result), (count(result.facts.get("lost", 0)), result.facts.get("lost", 0)),
         "; ".join(result.facts.get("incomplete", ()))]
        for result in results
        if result.facts.get("lost") or result.facts.get("incomplete")
    ]  # fmt: skip
    if not rows:
        return section("lost", "Lost events", element("p", "none", class_="quiet"))
    return section(
        "lost", "Lost events",
        table(["test", "lost", "why something may not have been seen"], rows[:MOST_TESTS],
              numbers=(1,), sortable=True),
        note=_part(min(len(rows), MOST_TESTS), len(rows)),
    )  # fmt: skip


def _all(run: Run, results: Sequence[Result]) -> Markup:
    ordered = sorted(results, key=lambda result: _ORDER.index(result.verdict)
                     if result.verdict in _ORDER else len(_ORDER))  # fmt: skip
    shown = ordered[:MOST_TESTS]
    rows = [
        [_verdict(result), _name(run, result), (count(result.facts.get("events", 0)),
         result.facts.get("events", 0)), _took(result),
         result.worker]
        for result in shown
    ]  # fmt: skip
    search = Markup(
        '<div class="bar"><label class="unseen" for="filter">Filter tests</label>'
        '<input type="search" id="filter" placeholder="Filter: words, all of which match" '
        'autocomplete="off" hidden><span class="quiet end" id="shown" role="status"></span></div>'
    )
    return section(
        "tests", "All tests", search,
        table(["", "test", "events", "took", "worker"], rows, numbers=(2, 3), sortable=True),
        note=_part(len(shown), len(ordered)),
    )  # fmt: skip


def _verdict(result: Result) -> Markup:
    return _verdict_of(result.verdict)


@cache
def _verdict_of(verdict: str) -> Markup:
    return element("span", verdict, class_=f"verdict {verdict}")


def _name(run: Run, result: Result) -> Markup:
    """The test, as a link to its page if that was written."""
    name = Markup(f"<code>{text(result.nodeid)}</code>")
    where = result.facts.get("artifacts", {}).get("page")
    if not where:
        return name
    target = os.path.relpath(run.base / where, run.folder).replace(os.sep, "/")
    return element("a", name, href=quote(target))


def _part(shown: int, total: int, order: str = "") -> str:
    """The note of a table: whether it shows all."""
    parts = [f"{shown:,} of {total:,}"] if shown < total else []
    return ", ".join([*parts, *([order] if order else [])])
