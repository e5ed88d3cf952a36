"""Why a pattern was not found, or what was found where nothing should be: the nearest miss.

Everything here is text for a person, without colour. `lines` are for an assertion's explanation:
few, and at most 70 columns wide (pytest adds its margin); `details` are for a report section, at
most 76.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import IntEnum
from textwrap import wrap
from typing import NamedTuple

from kobs.causality import CausalGraph
from kobs.events import Event
from kobs.pattern.base import Pattern
from kobs.pattern.causes import Graph, cause_is_missing, reached_from
from kobs.pattern.chains import Chain, Count, matches, walk
from kobs.pattern.predicates import Check, EventPattern, brief, closeness

WIDTH = 70
DETAIL_WIDTH = 76
_CHECKS = 5
_TREE_LINES = 30
_TREE_DEPTH = 6
_LISTED = 3
_LONG = 24
"""Longest string in an event's line."""


class Explanation(NamedTuple):
    """What to tell: `lines` (at most seven), `details`, and the events they speak of."""

    lines: tuple[str, ...]
    details: tuple[str, ...] = ()
    about: tuple[Event, ...] = ()


class Narrator:
    """Names events by their number in a list and their time since `start_ns`; by their pid too
    where they have more than one."""

    def __init__(self, events: Sequence[Event], start_ns: int = 0) -> None:
        self._numbers = {id(event): number for number, event in enumerate(events, 1)}
        self._start = start_ns or (events[0].timestamp_ns if events else 0)
        self._pids = len({event.pid for event in events}) > 1

    def head(self, event: Event) -> str:
        """`#12 +1.204ms`."""
        number = self._numbers.get(id(event))
        since = (event.timestamp_ns - self._start) / 1e6
        return f"{f'#{number}' if number else 'earlier'} {since:+.3f}ms"

    def line(self, event: Event, width: int = WIDTH) -> str:
        """`#12 +1.204ms pid=42 ProcessCreated(name='sh', priority=5)`, cut to `width`."""
        pid = f"pid={event.pid} " if self._pids else ""
        return clip(f"{self.head(event)} {pid}{describe(event)}", width)


def explain(
    pattern: Pattern,
    events: Sequence[Event],
    graph: Graph | None = None,
    *,
    numbered: Sequence[Event] | None = None,
    start_ns: int = 0,
) -> Explanation:
    """Why `pattern` was not found among `events` (in order of time).

    Events are named by their place in `numbered` (else `events`), from 1, and their time since
    `start_ns` (else the first one's).
    """
    __tracebackhide__ = True
    teller = Narrator(events if numbered is None else numbered, start_ns)
    graph = graph or (lambda: CausalGraph(events))
    if isinstance(pattern, Count):
        return _explain_count(pattern, events, graph, teller)
    if isinstance(pattern, Chain):
        return _explain_chain(pattern, events, graph, teller)
    if isinstance(pattern, EventPattern):
        return _explain_event(pattern, events, teller)
    return Explanation(())


def explain_present(
    pattern: Pattern,
    events: Sequence[Event],
    graph: Graph | None = None,
    *,
    numbered: Sequence[Event] | None = None,
    start_ns: int = 0,
) -> Explanation:
    """What was found of a pattern that should not be there."""
    __tracebackhide__ = True
    found = matches(pattern, events, graph)
    teller = Narrator(events if numbered is None else numbered, start_ns)
    return Explanation(
        (f"found {len(found)} among {_events(len(events))}:", *_list(found, teller)),
        about=tuple(found),
    )


def describe(event: Event) -> str:
    """The payload, shorter than its repr: what has its default value is left out, long strings
    lose their middle."""
    payload = event.payload
    fields = []
    for field in event.type.__kobs_schema__.fields:
        value = getattr(payload, field.name)
        if field.required or value != field.default:
            if isinstance(value, IntEnum):
                short = value.name
            elif isinstance(value, str) and len(value) > _LONG:
                short = repr(f"{value[: _LONG // 2 - 3]}...{value[-_LONG // 2 :]}")
            else:
                short = brief(value)
            fields.append(f"{field.name}={short}")
    return f"{event.type_name}({', '.join(fields)})"


def clip(text: str, width: int = WIDTH) -> str:
    """`text` in at most `width` characters."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def fold(text: str, first: int = WIDTH, most: int = 3) -> list[str]:
    """`text` over at most `most` lines: the first of `first` characters, the others indented."""
    if len(text) <= first:
        return [text]
    wide = max(first, 20)
    gap = " " * (WIDTH - wide)
    lines = wrap(
        gap + text, WIDTH, subsequent_indent="  ", break_on_hyphens=False, drop_whitespace=True
    )
    lines[0] = lines[0].removeprefix(gap)
    if len(lines) > most:
        lines[most - 1 :] = [clip(" ".join([lines[most - 1], *map(str.strip, lines[most:])]))]
    return [clip(lines[0], wide), *lines[1:]]


def tally(events: Iterable[Event], most: int = 5) -> str:
    """`FileOpened x 3, MessageSent`: the types, the most frequent first."""
    counts = Counter(event.type_name for event in events).most_common()
    parts = [name if times == 1 else f"{name} x {times}" for name, times in counts[:most]]
    if len(counts) > most:
        parts.append(f"{len(counts) - most} more types")
    return ", ".join(parts)


def tree(start: Event, graph: CausalGraph, teller: Narrator) -> list[str]:
    """What `start` led to, as an indented tree with times."""
    lines: list[str] = []
    seen: set[int] = set()

    def add(event: Event, depth: int) -> None:
        if len(lines) >= _TREE_LINES or id(event) in seen:
            return
        seen.add(id(event))
        indent = "  " * depth
        lines.append(indent + teller.line(event, DETAIL_WIDTH - len(indent)))
        effects = graph.children(event)
        if depth >= _TREE_DEPTH and effects:
            lines.append(f"{indent}  ... {_events(len(effects))} deeper")
            return
        for effect in effects:
            add(effect, depth + 1)

    add(start, 0)
    if len(lines) >= _TREE_LINES:
        lines.append("... cut here")
    return lines


def _explain_event(pattern: EventPattern, events: Sequence[Event], teller: Narrator) -> Explanation:
    __tracebackhide__ = True
    names = {cls.__kobs_schema__.name for cls in pattern.types()}
    candidates = [event for event in events if event.type_name in names]
    if not events:
        return Explanation(("no event was captured",))
    if not candidates:
        wanted = " or ".join(sorted(names))
        return Explanation(
            (
                f"no {wanted} among {_events(len(events))}, there are",
                clip(f"  {tally(events)}"),
            )
        )
    ranked = sorted(candidates, key=lambda event: closeness(pattern.checks(event)), reverse=True)
    nearest = ranked[0]
    lines = [
        clip(f"no match among {_events(len(events))}, {tally(candidates)}; nearest:"),
        "  " + teller.line(nearest, WIDTH - 2),
        *_check_lines(pattern.checks(nearest), _CHECKS),
    ]
    details: list[str] = []
    for other in ranked[:_LISTED]:
        details += [teller.line(other, DETAIL_WIDTH), *_all_fields(other, pattern.checks(other))]
    return Explanation(tuple(lines), tuple(details), (nearest,))


def _explain_chain(
    pattern: Chain, events: Sequence[Event], graph: Graph, teller: Narrator
) -> Explanation:
    __tracebackhide__ = True
    steps = walk(pattern, events, graph)
    if not steps[-1].found:
        steps.pop()
    place = len(steps)
    missing = pattern.steps[place]
    headline = clip(f"step {place + 1} of {len(pattern.steps)} not found: {missing!r}")
    if not steps:
        one = _explain_event(missing, events, teller)
        return Explanation((headline, *one.lines)[:7], one.details, one.about)
    before = [event for event, _ in steps[-1].found]
    more = f" (and {len(before) - 1} more)" if len(before) > 1 else ""
    lines = [headline, clip(f"step {place}{more}: {teller.line(before[0], 200)}")]
    by_cause = pattern.by_cause[place - 1]
    matching = [event for event in events if missing.matches(event)]
    about = [before[0]]
    details: list[str] = []
    if by_cause:
        causes = graph()
        reached = [event for event, _ in reached_from(causes, before)]
        lines.append(clip(f"  led to {tally(reached)}" if reached else "  led to nothing"))
        for event in before[:_LISTED]:
            details += tree(event, causes, teller)
    else:
        index = next(i for i, event in enumerate(events) if event is before[0])
        reached = list(events[index + 1 :])
        lines.append(clip(f"  then came {tally(reached)}" if reached else "  then came nothing"))
    names = {cls.__kobs_schema__.name for cls in missing.types()}
    near = [event for event in reached if event.type_name in names]
    if near:
        nearest = max(near, key=lambda event: closeness(missing.checks(event)))
        about.append(nearest)
        lines.append(clip(f"  nearest: {teller.line(nearest, 200)}"))
        lines += _check_lines([c for c in missing.checks(nearest) if not c.met], 1, "    ")
    if matching:
        other = matching[0]
        about.append(other)
        why = "unrelated" if by_cause else "too early"
        lines.append(clip(f"  {why}: {teller.line(other, 200)}"))
        if by_cause:
            lines.append(clip(f"    {_cause_of(other, graph(), teller)}"))
            details += ["what led to the event that matches:", *_ancestors(other, graph(), teller)]
    elif not near and not any(event.type_name in names for event in events):
        lines.append(clip(f"  no {' or '.join(sorted(names))} anywhere in this test"))
    return Explanation(tuple(lines[:7]), tuple(details), tuple(about))


def _explain_count(
    pattern: Count, events: Sequence[Event], graph: Graph, teller: Narrator
) -> Explanation:
    __tracebackhide__ = True
    found = matches(pattern, events, graph)
    head = f"found {len(found)}, expected exactly {pattern.times}, among {_events(len(events))}"
    if len(found) < pattern.times and isinstance(pattern.pattern, EventPattern):
        rest = [event for event in events if not any(event is one for one in found)]
        nearest = _explain_event(pattern.pattern, rest, teller) if rest else Explanation(())
        if nearest.about:
            lines = (head, "nearest of the others:", *nearest.lines[1:])
            return Explanation(lines[:7], nearest.details, nearest.about)
    return Explanation((head, *_list(found, teller)), about=tuple(found))


def _check_lines(checks: Sequence[Check], most: int, indent: str = "  ") -> list[str]:
    shown = [check for check in checks if check.name != "type" or not check.met]
    unmet = [check for check in shown if not check.met]
    hidden = 0
    if len(shown) > most:
        kept = unmet[: max(1, most - 1)]
        hidden = len(shown) - len(kept)
        shown = kept
    lines = []
    for check in shown:
        if check.met:
            lines.append(clip(f"{indent}  ok  {check.name} = {check.actual}"))
        else:
            expected = f"{check.name} = {check.actual}, expected {check.wanted}"
            lines.append(clip(f"{indent}  NO  {expected}"))
    if hidden and most > 1:
        lines.append(f"{indent}  ... and {hidden} more")
    return lines


def _all_fields(event: Event, checks: Sequence[Check]) -> list[str]:
    """The conditions, then the fields that none was set on."""
    asked = {check.name for check in checks}
    rest = [
        f"        {name} = {brief(getattr(event.payload, name))}"
        for name in event.type.__kobs_schema__.field_names
        if name not in asked
    ]
    return _check_lines(checks, len(checks) + 1) + [clip(line) for line in rest]


def _list(found: Sequence[Event], teller: Narrator) -> list[str]:
    lines = [f"  {teller.line(event, WIDTH - 2)}" for event in found[:_LISTED]]
    if len(found) > _LISTED:
        lines.append(f"  ... and {len(found) - _LISTED} more")
    return lines


def _cause_of(event: Event, graph: CausalGraph, teller: Narrator) -> str:
    causes = graph.causes(event)
    if causes:
        return f"its cause: {teller.line(causes[0], 200)}"
    if cause_is_missing(graph, event):
        return "its cause is not among this test's events"
    return "it has no cause: nothing joins it to another event"


def _ancestors(event: Event, graph: CausalGraph, teller: Narrator) -> list[str]:
    lines: list[str] = []
    seen: set[int] = set()
    current: Event | None = event
    while current is not None and id(current) not in seen and len(lines) < _TREE_LINES:
        seen.add(id(current))
        lines.append(("  <- " if lines else "  ") + teller.line(current, DETAIL_WIDTH - 5))
        causes = graph.causes(current)
        current = causes[0] if causes else None
    return lines


def _events(number: int) -> str:
    return "1 event" if number == 1 else f"{number} events"
