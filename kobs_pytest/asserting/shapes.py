"""What a test's events look like as a whole: chains, spans, the course over time.

PYTEST_DONT_REWRITE
"""

from collections.abc import Iterator, Sequence
from typing import Any

from kobs.causality import CausalGraph, TimelineEntry, TreeNode
from kobs.events import Event
from kobs.pattern.narrate import DETAIL_WIDTH, Narrator, clip, describe
from kobs.tracing.assembler import SPAN_TYPES, SpanAssembler
from kobs.tracing.finished import FinishedSpan


class CausalChain:
    """Events that causes and effects join: what one thing led to. `str()` draws it."""

    def __init__(self, roots: list[TreeNode], teller: Narrator) -> None:
        self.roots = roots
        """Its trees, one for each event without a known cause (`TreeNode`), by time."""
        nodes = [node for root in roots for _, node in root.walk() if not node.reference]
        self.events: list[Event] = sorted(
            (node.event for node in nodes), key=lambda event: (event.timestamp_ns, event.id)
        )
        """All its events, by time."""
        self._teller = teller

    @property
    def root(self) -> Event:
        """What it began with."""
        return self.roots[0].event

    @property
    def duration_us(self) -> float:
        """From its first to its last event, in microseconds."""
        return (self.events[-1].timestamp_ns - self.events[0].timestamp_ns) / 1000

    @property
    def shape(self) -> tuple[str, ...]:
        """The types of its events as they are drawn, each behind two spaces a step."""
        return tuple(
            "  " * depth + node.event.type_name
            for root in self.roots
            for depth, node in root.walk()
        )

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __contains__(self, event: object) -> bool:
        return any(event is one or event == one for one in self.events)

    def __str__(self) -> str:
        lines = []
        for root in self.roots:
            for depth, node in root.walk():
                indent = "  " * depth
                again = " (see above)" if node.reference else ""
                width = max(20, DETAIL_WIDTH - len(indent) - len(again))
                lines.append(indent + self._teller.line(node.event, width) + again)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<chain of {len(self)} from {describe(self.root)}>"


def chains(events: Sequence[Event], graph: CausalGraph, teller: Narrator) -> list[CausalChain]:
    """The chains that any of `events` is in, by time; an event that nothing is joined to is a
    chain of its own."""
    mine = {id(event) for event in events}
    trees = graph.tree()
    above: dict[int, int] = {}

    def top(index: int) -> int:
        while index in above:
            index = above[index]
        return index

    place: dict[int, int] = {}
    referred: list[tuple[int, int]] = []
    for index, root in enumerate(trees):
        for _, node in root.walk():
            if node.reference:
                referred.append((index, id(node.event)))
            else:
                place[id(node.event)] = index
    for index, key in referred:
        one, other = sorted((top(index), top(place[key])))
        if one != other:
            above[other] = one
    joined: dict[int, list[TreeNode]] = {}
    for index, root in enumerate(trees):
        joined.setdefault(top(index), []).append(root)
    found = [CausalChain(roots, teller) for roots in joined.values()]
    return [chain for chain in found if any(id(event) in mine for event in chain.events)]


class SpanNode:
    """A span of the test with the spans inside it. `str()` draws it."""

    def __init__(self, span: FinishedSpan) -> None:
        self.span = span
        """Everything that is known of it (`FinishedSpan`)."""
        self.parent: SpanNode | None = None
        self.children: list[SpanNode] = []

    @property
    def name(self) -> str:
        """Its name."""
        return self.span.name

    @property
    def status(self) -> str:
        """`unset`, `ok` or `error`."""
        return self.span.status

    @property
    def attributes(self) -> dict[str, Any]:
        """What was recorded in it."""
        return self.span.attributes

    @property
    def duration_us(self) -> float:
        """How long it took, in microseconds."""
        return (self.span.ended_ns - self.span.began_ns) / 1000

    @property
    def trace_id(self) -> str:
        """Its trace id, 32 hexadecimal digits."""
        return f"{self.span.trace.trace_id:032x}"

    def walk(self) -> Iterator["SpanNode"]:
        """It and all spans below it, as they are drawn."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))

    @property
    def depth(self) -> int:
        """How many spans are around it."""
        depth, node = 0, self.parent
        while node is not None:
            depth, node = depth + 1, node.parent
        return depth

    def __str__(self) -> str:
        outer = self.depth
        return "\n".join(
            clip(
                f"{'  ' * (node.depth - outer)}{node.name} {node.duration_us / 1000:.3f}ms"
                + (f" {node.status}" if node.status != "unset" else ""),
                DETAIL_WIDTH,
            )
            for node in self.walk()
        )

    def __repr__(self) -> str:
        return f"<span {self.name!r}, {len(self.children)} inside>"


def spans(events: Sequence[Event], trace_high: int) -> list[SpanNode]:
    """The spans among events that have ended, as trees: those without a span around them."""
    assembler = SpanAssembler(lambda recording: trace_high)
    nodes: dict[tuple[int, int], SpanNode] = {}
    for event in events:
        if event.type_name in SPAN_TYPES or event.link:
            span = assembler.observe(event)
            if span is not None:
                nodes[span.trace.trace_id, span.span_id] = SpanNode(span)
    roots: list[SpanNode] = []
    for node in sorted(nodes.values(), key=lambda node: node.span.began_ns):
        node.parent = nodes.get((node.span.trace.trace_id, node.span.parent_span))
        (roots if node.parent is None else node.parent.children).append(node)
    return roots


class Timeline(list[TimelineEntry]):
    """Events by time with their depth below what caused them. `str()` draws it."""

    def __init__(self, entries: Sequence[TimelineEntry], teller: Narrator) -> None:
        super().__init__(entries)
        self._teller = teller

    def __str__(self) -> str:
        lines = []
        for entry in self:
            indent = "  " * min(entry.depth, 12)
            lines.append(indent + self._teller.line(entry.event, DETAIL_WIDTH - len(indent)))
        return "\n".join(lines)


def timeline(
    events: Sequence[Event], graph: CausalGraph, start_ns: int, teller: Narrator
) -> Timeline:
    """The course of events, counted from `start_ns`."""
    depths = dict(zip(map(id, graph.nodes), graph.depths(), strict=True))
    return Timeline(
        [
            TimelineEntry((event.timestamp_ns - start_ns) / 1000, depths.get(id(event), 0), event)
            for event in events
        ],
        teller,
    )
