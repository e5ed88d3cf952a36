"""Events and chains of events in words, for a person: plain text, without colour."""

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import IntEnum
from textwrap import wrap

from kobs.causality import CausalGraph
from kobs.events import Event
from kobs.pattern.values import brief

WIDTH = 70
DETAIL_WIDTH = 76
_TREE_LINES = 30
_TREE_DEPTH = 6
_LONG = 24
"""Longest string in an event's line."""


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


def squeeze(text: str, width: int) -> str:
    """`text` in at most `width` characters, without its middle: of a path the end tells most."""
    if len(text) <= width:
        return text
    end = (width - 3) * 2 // 3
    return f"{text[: width - 3 - end]}...{text[-end:]}"


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
            lines.append(f"{indent}  ... {events_in_words(len(effects))} deeper")
            return
        for effect in effects:
            add(effect, depth + 1)

    add(start, 0)
    if len(lines) >= _TREE_LINES:
        lines.append("... cut here")
    return lines


def ancestors(event: Event, graph: CausalGraph, teller: Narrator) -> list[str]:
    lines: list[str] = []
    seen: set[int] = set()
    current: Event | None = event
    while current is not None and id(current) not in seen and len(lines) < _TREE_LINES:
        seen.add(id(current))
        lines.append(("  <- " if lines else "  ") + teller.line(current, DETAIL_WIDTH - 5))
        causes = graph.causes(current)
        current = causes[0] if causes else None
    return lines


def events_in_words(number: int) -> str:
    """`1 event`, `2 events`."""
    return "1 event" if number == 1 else f"{number} events"
