"""Why a pattern was not found, or what was found where nothing should be: the nearest miss.

Everything here is text for a person, without colour. `lines` are for an assertion's explanation:
few, and at most 70 columns wide (pytest adds its margin); `details` are for a report section, at
most 76.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kobs.causality import CausalGraph
from kobs.events import Event
from kobs.pattern.base import Pattern
from kobs.pattern.causes import Graph, cause_is_missing, graph_of
from kobs.pattern.chains import Chain, Count
from kobs.pattern.checks import Check, closeness
from kobs.pattern.durations import written
from kobs.pattern.narrate import (
    DETAIL_WIDTH,
    WIDTH,
    Narrator,
    ancestors,
    clip,
    events_in_words,
    fold,
    squeeze,
    tally,
    tree,
)
from kobs.pattern.predicates import EventPattern
from kobs.pattern.search import BROKEN_KEPT, Broken, ChainSearch, broken, find, matches
from kobs.pattern.values import Bound, brief

__all__ = ["Explanation", "Narrator", "explain", "explain_broken", "explain_present", "fold"]

_TIME = "time since step"
_CHECKS = 5
_LISTED = 3
_ENDS = 20
_CANDIDATES = 500
"""So many broken paths, and so many events after each, are looked at for the nearest miss."""


class Explanation(NamedTuple):
    """What to tell: `lines` (at most seven), `details`, and the events they speak of."""

    lines: tuple[str, ...]
    details: tuple[str, ...] = ()
    about: tuple[Event, ...] = ()


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
    graph = graph or graph_of(events)
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
    details: list[str] = []
    about = tuple(found)
    if isinstance(pattern, Chain):
        about = find(pattern, events, graph) or about
        for place, event in enumerate(about):
            details.append("  " * place + teller.line(event, DETAIL_WIDTH - 2 * place))
    return Explanation(
        (f"found {len(found)} among {events_in_words(len(events))}:", *_list(found, teller)),
        tuple(details),
        about,
    )


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
                f"no {wanted} among {events_in_words(len(events))}, there are",
                clip(f"  {tally(events)}"),
            )
        )
    ranked = sorted(candidates, key=lambda event: closeness(pattern.checks(event)), reverse=True)
    nearest = ranked[0]
    lines = [
        clip(f"no match among {events_in_words(len(events))}, {tally(candidates)}; nearest:"),
        "  " + teller.line(nearest, WIDTH - 2),
        *check_lines(pattern.checks(nearest), _CHECKS),
    ]
    details: list[str] = []
    for other in ranked[:_LISTED]:
        details += [teller.line(other, DETAIL_WIDTH), *_all_fields(other, pattern.checks(other))]
    return Explanation(tuple(lines), tuple(details), (nearest,))


def _explain_chain(
    pattern: Chain, events: Sequence[Event], graph: Graph, teller: Narrator
) -> Explanation:
    __tracebackhide__ = True
    ends = broken(pattern, events, graph)
    if ends:
        return explain_broken(pattern, ends, events, graph, teller)
    missing = pattern.steps[0]
    headline = clip(f"step 1 of {len(pattern.steps)} not found: {missing!r}")
    one = _explain_event(missing, events, teller)
    return Explanation((headline, *one.lines)[:7], one.details, one.about)


def explain_broken(
    pattern: Chain,
    ends: Sequence[Broken],
    events: Sequence[Event],
    graph: Graph,
    teller: Narrator,
) -> Explanation:
    """Why none of the paths `ends`, which got equally far, goes on."""
    __tracebackhide__ = True
    place = len(ends[0].path)
    missing = pattern.steps[place]
    names = {cls.__kobs_schema__.name for cls in missing.types()}
    search = ChainSearch(pattern, events, graph)
    end, nearest, checks = _nearest(search, pattern, ends, names)
    last = end.path[-1]
    more = f" (and {len(ends) - 1} more)" if len(ends) > 1 else ""
    if len(ends) == BROKEN_KEPT:
        more = " (and many more)"
    lines = [
        clip(f"step {place + 1} of {len(pattern.steps)} not found: {missing!r}"),
        clip(f"step {place}{more}: {teller.line(last, 200)}"),
    ]
    by_cause = pattern.by_cause[place - 1]
    about = [*end.path]
    details: list[str] = []
    reached = search.reachable(end.path)
    if by_cause:
        lines.append(clip(f"  led to {tally(reached)}" if reached else "  led to nothing"))
        for event in _first_of(ends, end):
            details += tree(event, graph(), teller)
    else:
        lines.append(clip(f"  then came {tally(reached)}" if reached else "  then came nothing"))
    inside = {id(event) for event in reached}
    late = nearest is not None and all(c.met or c.name.startswith(_TIME) for c in checks)
    matching = (e for e in events if id(e) not in inside and _binds(missing, e, end.bound))
    other = None if late else next(matching, None)
    if nearest is not None:
        about.append(nearest)
        lines.append(clip(f"  nearest: {teller.line(nearest, 200)}"))
        room = 1 if other is not None else 2
        lines += check_lines([c for c in checks if not c.met][:room], room, "    ")
    if other is not None:
        about.append(other)
        why = "unrelated" if by_cause else "too early"
        lines.append(clip(f"  {why}: {teller.line(other, 200)}"))
        if by_cause:
            lines.append(clip(f"    {_cause_of(other, graph(), teller)}"))
            details += ["what led to the event that matches:", *ancestors(other, graph(), teller)]
    elif nearest is None and not any(event.type_name in names for event in events):
        lines.append(clip(f"  no {' or '.join(sorted(names))} anywhere in this test"))
    return Explanation(tuple(lines[:7]), tuple(details), tuple(about))


def _nearest(
    search: ChainSearch, pattern: Chain, ends: Sequence[Broken], names: set[str]
) -> tuple[Broken, Event | None, list[Check]]:
    """Of all that could have gone on a broken path, the event that came closest."""
    __tracebackhide__ = True
    best: tuple[Broken, Event | None, list[Check]] = ends[0], None, []
    most: tuple[int, int, float] | None = None
    timed = pattern.plain and not pattern.by_cause[len(ends[0].path) - 1]
    for end in ends[: 1 if timed else _ENDS]:
        near = [event for event in search.reachable(end.path) if event.type_name in names]
        for event in near[:_CANDIDATES]:
            missing = pattern.steps[len(end.path)]
            checks = [*missing.checks(event, end.bound), *_in_time(pattern, end.path, event)]
            score = closeness(checks)
            if most is None or score > most:
                most = score
                best = end, event, checks
    return best


def _in_time(pattern: Chain, path: Sequence[Event], event: Event) -> list[Check]:
    """Whether an event came within the limits that hold for the step after `path`."""
    checks = []
    for limit in pattern.limits:
        if limit.first < len(path) <= limit.last:
            took = event.timestamp_ns - path[limit.first].timestamp_ns
            checks.append(
                Check(
                    f"{_TIME} {limit.first + 1}",
                    f"at most {limit}",
                    written(took),
                    took <= limit.nanoseconds,
                )
            )
    return checks


def _first_of(ends: Sequence[Broken], end: Broken) -> list[Event]:
    others = [one.path[-1] for one in ends if one is not end]
    return [end.path[-1], *others][:_LISTED]


def _binds(pattern: EventPattern, event: Event, bound: Bound) -> bool:
    __tracebackhide__ = True
    return next(pattern.bind(event, bound), None) is not None


def _explain_count(
    pattern: Count, events: Sequence[Event], graph: Graph, teller: Narrator
) -> Explanation:
    __tracebackhide__ = True
    found = matches(pattern, events, graph)
    head = f"found {len(found)}, expected {pattern.expected}, among {events_in_words(len(events))}"
    if len(found) < pattern.least and isinstance(pattern.pattern, EventPattern):
        rest = [event for event in events if not any(event is one for one in found)]
        nearest = _explain_event(pattern.pattern, rest, teller) if rest else Explanation(())
        if nearest.about:
            lines = (head, "nearest of the others:", *nearest.lines[1:])
            return Explanation(lines[:7], nearest.details, nearest.about)
    return Explanation((head, *_list(found, teller)), about=tuple(found))


def check_lines(checks: Sequence[Check], most: int, indent: str = "  ") -> list[str]:
    """Conditions as lines, at most `most`: where there are more, those not met."""
    shown = _told(checks)
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
            lines.append(_unmet(check, f"{indent}  NO  "))
    if hidden and most > 1:
        lines.append(f"{indent}  ... and {hidden} more")
    return lines


def _told(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if check.name != "type" or not check.met]


def _unmet(check: Check, indent: str) -> str:
    """What there is and what was expected, on one line: of long ones as much of each as fits."""
    room = WIDTH - len(f"{indent}{check.name} = , expected ")
    wanted = squeeze(check.wanted, max(room - len(check.actual), room // 2, 4))
    actual = squeeze(check.actual, max(room - len(wanted), 4))
    return clip(f"{indent}{check.name} = {actual}, expected {wanted}")


def _all_fields(event: Event, checks: Sequence[Check]) -> list[str]:
    """The conditions, each on two lines where it needs them, then the fields that none was set
    on."""
    lines = []
    for line, check in zip(check_lines(checks, len(checks) + 1), _told(checks), strict=True):
        whole = f"    NO  {check.name} = {check.actual}, expected {check.wanted}"
        if check.met or len(whole) <= WIDTH:
            lines.append(line)
        else:
            lines.append(squeeze(f"    NO  {check.name} = {check.actual}", DETAIL_WIDTH - 3) + ",")
            lines.append(squeeze(f"        expected {check.wanted}", DETAIL_WIDTH - 2))
    asked = {check.name for check in checks}
    rest = [
        squeeze(f"        {name} = {brief(getattr(event.payload, name))}", DETAIL_WIDTH - 2)
        for name in event.type.__kobs_schema__.field_names
        if name not in asked
    ]
    return lines + rest


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
