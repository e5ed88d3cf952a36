"""The page of one failing test.

PYTEST_DONT_REWRITE
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from kobs._pages.document import Markup, element, fragment, section, text
from kobs._pages.trace import chosen, layout
from kobs.cli.figures import count, duration
from kobs.events import Event
from kobs.export.excerpt import Excerpt
from kobs.export.jsonl import wall_clock
from kobs_pytest.artifacts.case import Case

if TYPE_CHECKING:
    from kobs_pytest.artifacts.failing_tests import Failure

_PHASES = {"s": "setup", "c": "call", "t": "teardown"}
_NUMBERED = re.compile(r"#(\d+)(?= [+-]\d+\.\d{3}ms)")
_SHORT = 2000
"""Captured output of fewer characters is open from the beginning."""
_LONGEST = 200_000
"""Characters of a failure or of captured output; the middle of what is longer is left out."""


class Body(NamedTuple):
    """The parts of a page."""

    content: list[Markup]
    data: dict[str, Any]


def body(
    case: Case,
    excerpt: Excerpt,
    events: Sequence[Event],
    failures: Sequence["Failure"],
    report: pytest.TestReport,
) -> Body:
    """The page of a test with its `events`, by time, some of which may not be its own."""
    about = {event.id for note in case.notes for event in note.about}
    shown = chosen(events, about)
    numbers = {event.id: number for number, event in enumerate(case.own, 1)}
    base = len(case.base)
    phases = [
        _PHASES.get(event.origin[base : base + 1], "") if event.id in numbers else "?"
        for event in shown
    ]
    data = layout(
        excerpt, shown, start_ns=case.start_ns, numbers=numbers, about=about, phases=phases
    )
    for lane in data["lanes"]:
        if lane["pid"] == case.pid:
            lane["command"] = f"pytest {case.worker}".strip()
    content = [
        _header(case, excerpt, events, failures, report),
        _doubts(case, failures),
        _failures(failures),
        _misses(case),
        *_told(failures, captured=False),
        _cut(len(events) - len(shown)),
        fragment("trace.html"),
        *_told(failures, captured=True),
        element("footer", f"kobs · pytest {pytest.__version__} · this page is complete: it asks "
                "nothing of the network"),
    ]  # fmt: skip
    return Body(content, data)


def _header(
    case: Case, excerpt: Excerpt, events: Sequence[Event], failures: Sequence["Failure"],
    report: pytest.TestReport,
) -> Markup:  # fmt: skip
    verdict = case.verdict
    if all(failure.verdict == "error" for failure in failures):
        verdict = "error"
    clock = wall_clock(excerpt)
    end = max([event.timestamp_ns for event in events], default=case.start_ns)
    processes = len({record.pid for record in excerpt.processes})
    facts: list[tuple[str, object, bool]] = [
        ("began", clock(case.start_ns)[:19].replace("T", " ") + " UTC" if clock else "", False),
        ("failed in", ", ".join(dict.fromkeys(failure.when for failure in failures)), False),
        ("to its last event", duration(max(0, end - case.start_ns) / 1000), False),
        ("attempt", str(case.attempt) if case.attempt > 1 else "", False),
        ("events", count(len(case.own)), False),
        ("processes", count(processes) if processes else "", False),
        ("unattributed", count(case.unattributed_count), False),
        ("elsewhere", count(case.elsewhere), False),
        ("lost", count(case.lost) if case.lost is not None else "", False),
        ("trace id", element("code", case.trace_id), True),
        ("file", element("code", _where(report)), True),
        ("also", Markup('<a href="trace.pftrace" download>trace.pftrace</a> (for ui.perfetto.dev), '
                        '<a href="events.jsonl" download>events.jsonl</a>'), True),
    ]  # fmt: skip
    rows = [
        element("div", element("dt", name), element("dd", value), class_="wide" if wide else None)
        for name, value, wide in facts
        if value
    ]
    return element(
        "header",
        element("p", "kobs · what this test caused", class_="eyebrow"),
        element(
            "h1", element("span", verdict, class_=f"verdict {verdict}"),
            element("code", case.nodeid),
        ),
        element("dl", *rows, class_="facts"),
    )  # fmt: skip


def _where(report: pytest.TestReport) -> str:
    path, line, _ = report.location
    return path if line is None else f"{path}:{line + 1}"


def _doubts(case: Case, failures: Sequence["Failure"]) -> Markup:
    reasons = list(
        dict.fromkeys([*case.incomplete, *(r for failure in failures for r in failure.reasons)])
    )
    if not reasons:
        return Markup()
    return element(
        "div",
        element("p", element("strong", "Not everything may have been seen.")),
        element("ul", *(element("li", reason) for reason in reasons)),
        class_="alarm",
    )


def _failures(failures: Sequence["Failure"]) -> Markup:
    parts: list[Markup] = []
    for failure in failures:
        if len(failures) > 1:
            parts.append(element("h3", f"{failure.verdict} in {failure.when}"))
        parts.append(_scrolling(_linked(failure.text)))
    return section("failure", "Failure", *parts)


def _misses(case: Case) -> Markup:
    notes = [note for note in case.notes if note.details]
    if not notes:
        return Markup()
    blocks = [
        element(
            "div",
            element("h3", element("code", note.title)),
            _scrolling(_linked("\n".join(note.details))),
            class_="about",
        )
        for note in notes
    ]
    return section("miss", "Nearest miss", *blocks, note="numbers lead to the event below")


def _scrolling(markup: Markup) -> Markup:
    return Markup(f'<pre tabindex="0">{markup}</pre>')


def _linked(told: str) -> Markup:
    """Text in which `#12 +1.204ms` leads to the event numbered 12."""
    return Markup(
        _NUMBERED.sub(r'<a href="#events" data-number="\1">#\1</a>', text(_bounded(told)))
    )


def _bounded(told: str) -> str:
    if len(told) <= _LONGEST:
        return told
    half = _LONGEST // 2
    return f"{told[:half]}\n... {len(told) - _LONGEST:,} characters ...\n{told[-half:]}"


def _told(failures: Sequence["Failure"], *, captured: bool) -> list[Markup]:
    """What the test printed and logged (`captured`), or what else its reports say."""
    own = {f"Captured kobs {failure.when}" for failure in failures}  # the events: on the page
    kept = {
        title: told
        for failure in failures
        for title, told in failure.sections
        if told.strip() and title not in own and _is_output(title) is captured
    }
    parts = [
        Markup(
            f"<details{' open' if len(told) < _SHORT or not captured else ''}>"
            f"{element('summary', title)}{_scrolling(_linked(told))}</details>"
        )
        for title, told in kept.items()
    ]
    if not parts:
        return []
    name, title = ("captured", "Captured output") if captured else ("also", "Also known")
    return [section(name, title, *parts)]


def _is_output(title: str) -> bool:
    return title.startswith("Captured ") and not title.startswith("Captured kobs ")


def _cut(left_out: int) -> Markup:
    if not left_out:
        return Markup()
    what = f"{count(left_out, 'event is', 'events are')} in trace.pftrace and events.jsonl only:"
    return element(
        "p",
        what,
        " shown here are the first, the last, warnings and errors, and what the failure speaks of.",
        class_="quiet",
    )
