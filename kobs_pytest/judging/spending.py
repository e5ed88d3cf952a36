"""What a test used of its budget, as a table.

PYTEST_DONT_REWRITE
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kobs._analysis.stats import Stats
from kobs.events import Event
from kobs.pattern import EventPattern, Inconclusive, Pattern, count
from kobs_pytest.asserting.sequence import Events
from kobs_pytest.capture.attempt import Attempt
from kobs_pytest.judging.amounts import shown
from kobs_pytest.judging.failure import Verdicts
from kobs_pytest.judging.limits import Limit, byte_fields

_MOST = 3
"""Contributors that are named."""
_ROWS = 12
_WIDTH = 76

Where = Callable[[Event], str]
"""The line of code that an event comes from; empty if it is not known."""


class Use(NamedTuple):
    """A limit, and what was used of it."""

    limit: Limit
    used: float
    over: bool


def judge(
    limits: Iterable[Limit], attempt: Attempt, events: Events, where: Where, verdicts: Verdicts
) -> list[Use]:
    """Hold what the test caused against its budget; what it used of it, as far as known."""
    uses = []
    for limit in limits:
        if limit.allowed is None:
            continue
        try:
            uses.append(_use(limit, attempt, events))
        except Inconclusive as error:
            verdicts.unknown.append(error)
    over = [use for use in uses if use.over]
    if over:
        verdicts.failures.append("\n".join(_told(uses, over, events, where)))
    return uses


def _use(limit: Limit, attempt: Attempt, events: Events) -> Use:
    """Raises `Inconclusive` where it may have been more than was seen, and that matters."""
    allowed = limit.allowed
    assert allowed is not None
    if limit.kind == "count":
        number = count(limit.pattern, events.known, attempt.graph)
        if number <= allowed:
            events.count(limit.pattern)  # raises if there may be more
        return Use(limit, number, number > allowed)
    found = matching(limit.pattern, events.known)
    if limit.kind == "bytes":
        used = float(sum(map(_bytes, found)))
    else:
        durations = Stats(map(_microseconds, found))
        if limit.kind == "total":
            used = durations.total
        elif limit.kind == "max":
            used = durations.maximum
        else:
            used = durations.percentile(float(limit.kind[1:]))
    sure = limit.kind in ("bytes", "total", "max")  # one more only makes it more
    if not (sure and used > allowed):
        events.count(limit.pattern)  # raises if there may be more
    return Use(limit, used, used > allowed)


def _microseconds(event: Event) -> float:
    name = event.type.__kobs_schema__.duration_field
    if name is None:
        return 0.0
    value = float(getattr(event.payload, name))
    return value * 1e3 if name.endswith("_ms") else value


def _bytes(event: Event) -> int:
    return sum(getattr(event.payload, name) for name in byte_fields(event.type.__kobs_schema__))


# -- the table -------------------------------------------------------------------------------


def _told(uses: list[Use], over: list[Use], events: Events, where: Where) -> list[str]:
    shown_uses = over + [use for use in uses if not use.over][: max(0, _ROWS - len(over))]
    rows = [
        (
            "> " if use.over else "  ",
            f"{use.limit.subject} {use.limit.kind}",
            shown(use.used, use.limit.unit),
            shown(use.limit.allowed or 0.0, use.limit.unit),
        )
        for use in shown_uses
    ]
    wide = min(50, max(len("limit"), *(len(row[1]) for row in rows)))
    lines = [
        f"kobs_budget: {len(over)} of {len(uses)} limits exceeded",
        "",
        f"    {'limit':{wide}} {'used':>12} {'allowed':>12}",
    ]
    for mark, name, used, allowed in rows:
        if len(name) > wide:
            lines.append(f"  {mark}{_cut(name, _WIDTH - 4)}")
            name = ""
        lines.append(f"  {mark if name else '  '}{name:{wide}} {used:>12} {allowed:>12}")
    if len(shown_uses) < len(uses):
        lines.append(f"    ... {len(uses) - len(shown_uses)} more, within their limits")
    for use in over:
        lines += ["", *_contributors(use, events, where)]
    return lines


def _contributors(use: Use, events: Events, where: Where) -> list[str]:
    limit = use.limit
    found = matching(limit.pattern, events.known)
    lines = [_cut(f"  {limit.subject} {limit.kind}, most of it:", _WIDTH)]
    if limit.unit == "us":
        longest = sorted(found, key=_microseconds, reverse=True)[:_MOST]
        parts = [(shown(_microseconds(event), "us"), _what(event, where)) for event in longest]
        more = len(found) - len(longest)
    else:
        sums: Counter[tuple[str, ...]] = Counter()
        for event in found:
            sums[_what(event, where)] += _bytes(event) if limit.unit == "bytes" else 1
        parts = [
            (f"{n} x" if limit.unit == "events" else shown(n, "bytes"), what)
            for what, n in sums.most_common(_MOST)
        ]
        more = len(sums) - len(parts)
    wide = max((len(amount) for amount, _ in parts), default=0)
    for amount, what in parts:
        text, *place = what
        lines.append(_cut(f"    {amount:>{wide}} {text}", _WIDTH))
        lines += [_cut(f"    {'':>{wide}}   at {line}", _WIDTH) for line in place]
    if more > 0:
        lines.append(f"    ... {more} more")
    return lines


def _what(event: Event, where: Where) -> tuple[str, ...]:
    """What an event happened to, and where in the code."""
    schema = event.type.__kobs_schema__
    if schema.name_field is None:
        text = schema.name
    else:
        text = f"{schema.name_field}={getattr(event.payload, schema.name_field)!r}"
        if len(text) > 44:
            text = f"{text[:12]}...{text[-29:]}"
    line = where(event)
    return (text, line) if line else (text,)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def matching(pattern: Pattern, events: Iterable[Event]) -> list[Event]:
    """The events that a pattern of one event matches; of other patterns none."""
    if not isinstance(pattern, EventPattern):
        return []
    return [event for event in events if pattern.matches(event)]
