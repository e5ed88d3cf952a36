"""The graph of what caused what.

Its nodes are events, of one recording or of many of a session. Its edges are of two kinds:

`"parent"`: the event names this one as its cause (`event.parent` is its id).
`"link"`: the two carry the same link token: this one sent what the other received. Several may
receive what one sent (shared memory). `MessageSent`, `PipeWritten`, `ShmWritten` and
`ProcessCreated` send, `MessageReceived`, `PipeRead` and `ShmRead` receive; among other types the
earliest event with a token sends. Where several sent with one token, what was received is from the
last of them before it.

An event therefore has two causes at most. Where the same event is both, the edge is a link.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from kobs._analysis.trees import TreeNode, make_dot, make_trees
from kobs.events import Event

_NONE = -1
_Rank = Callable[[int, int], tuple[int, int]]
SENDS = frozenset({"MessageSent", "PipeWritten", "ShmWritten", "ProcessCreated"})
RECEIVES = frozenset({"MessageReceived", "PipeRead", "ShmRead"})
"""Names of the types that send and that receive what carries a link token."""


class Edge(NamedTuple):
    """`source` caused `target`."""

    source: Event
    target: Event
    kind: str
    """`"parent"` or `"link"`."""


class Gap(NamedTuple):
    """A cause that is not among the events: lost, or in a recording that was not given."""

    kind: str
    """`"parent"`: `missing` is the id of an event. `"link"`: the token of a send."""
    missing: int
    events: list[Event]
    """What it caused."""


class CausalGraph:
    """What caused what among `events`, in any order, from any number of recordings.

    An event that is given twice counts once. Edges that would close a circle (damaged input) are
    left out and listed in `cut`: the graph never has one. Making it takes linear time, but for
    the sorting.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        nodes = _unique(events)
        nodes.sort(key=_time)
        self.nodes: list[Event] = nodes
        """The events, by time."""
        self.gaps: list[Gap] = []
        """Causes that are not among the events."""
        self.cut: list[Edge] = []
        """Edges left out because they would have closed a circle."""
        self._by_id = {event.id: index for index, event in enumerate(nodes) if event.id}
        self._parents = self._find_parents()
        self._sends = self._find_sends()
        self._order: Iterable[int] = range(len(nodes))
        if any(map(int.__ge__, self._parents, self._order)) or any(
            map(int.__ge__, self._sends, self._order)
        ):
            self._order = self._sort_and_cut()
        self._effects: list[list[int]] | None = None
        self._by_identity: dict[int, int] | None = None

    # -- looking ----------------------------------------------------------------------------

    @property
    def edges(self) -> list[Edge]:
        """Every edge, in the order of the effects."""
        nodes = self.nodes
        return [
            Edge(nodes[cause], nodes[index], kind)
            for index in range(len(nodes))
            for cause, kind in self._causes_of(index)
        ]

    @property
    def roots(self) -> list[Event]:
        """The events without a cause among the events, by time."""
        pairs = zip(self.nodes, self._parents, self._sends, strict=True)
        return [node for node, parent, send in pairs if parent == send == _NONE]

    def children(self, event: Event | int) -> list[Event]:
        """What an event (or the event with an id) caused in one step, by time."""
        index = self._index(event)
        return [] if index is None else [self.nodes[effect] for effect in self._effects_of(index)]

    def causes(self, event: Event | int) -> list[Event]:
        """What caused an event in one step: its parent, then who sent what it received."""
        index = self._index(event)
        return [] if index is None else [self.nodes[c] for c, _ in self._causes_of(index)]

    def ancestors(self, event: Event | int) -> list[Event]:
        """Everything that led to an event, by time."""
        index = self._index(event)
        return [] if index is None else self._some(self._up([index]) - {index})

    def descendants(self, event: Event | int) -> list[Event]:
        """Everything that an event led to, by time."""
        index = self._index(event)
        return [] if index is None else self._some(self._down([index]) - {index})

    def spread(self, condition: Callable[[Event], bool]) -> list[Event]:
        """The events that meet a condition and everything that they led to, by time."""
        return self._some(self._down(i for i, node in enumerate(self.nodes) if condition(node)))

    def leads_to(self, cause: Event | int, effect: Event | int) -> bool:
        """There is a path of one or more edges from `cause` to `effect`."""
        start, end = self._index(cause), self._index(effect)
        if start is None or end is None or start == end:
            return False
        return start in self._up([end])

    # -- whole chains -----------------------------------------------------------------------

    def chain(self, causality_id: int) -> "CausalGraph":
        """The part of the graph that belongs to a chain: its events, all that led to them and
        all that they led to, over links into other chains too."""
        members = [i for i, event in enumerate(self.nodes) if event.causality_id == causality_id]
        return self._restrict(self._up(members) | self._down(members))

    def depths(self) -> list[int]:
        """How many steps each of `nodes` is below a root of the tree."""
        depths = [0] * len(self.nodes)
        for index in self._order:
            above = self._above(index)
            if above != _NONE:
                depths[index] = depths[above] + 1
        return depths

    def longest_chain(self) -> list[Event]:
        """The path with the most events; of several, the one that took longest."""
        return self._best_path(lambda steps, elapsed: (steps, elapsed))

    def critical_path(self) -> list[Event]:
        """The path that took longest from its first to its last event; of several, the one with
        the most events."""
        return self._best_path(lambda steps, elapsed: (elapsed, steps))

    def tree(self) -> list[TreeNode]:
        """The graph as trees, one a root: every event once, under its parent, or else under who
        sent what it received; a second cause has a reference to it."""
        lost = {id(event) for gap in self.gaps for event in gap.events}
        return make_trees(self.nodes, self._parents, self._sends, lost)

    def to_dot(self) -> str:
        """The graph in the language of Graphviz; links are dashed."""
        edges = [
            (cause, index, kind)
            for index in range(len(self.nodes))
            for cause, kind in self._causes_of(index)
        ]
        return make_dot(self.nodes, edges)

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        edges = 2 * len(self) - self._parents.count(_NONE) - self._sends.count(_NONE)
        return f"<CausalGraph {len(self)} events, {edges} edges, {len(self.gaps)} gaps>"

    # -- below: how -------------------------------------------------------------------------

    def _find_parents(self) -> list[int]:
        find = self._by_id.get
        parents = [find(event.parent, _NONE) if event.parent else _NONE for event in self.nodes]
        missing: dict[int, list[Event]] = {}
        for event, parent in zip(self.nodes, parents, strict=True):
            if parent == _NONE and event.parent:
                missing.setdefault(event.parent, []).append(event)
        self.gaps += [Gap("parent", parent, events) for parent, events in missing.items()]
        return parents

    def _find_sends(self) -> list[int]:
        sends = [_NONE] * len(self.nodes)
        groups: dict[int, list[int]] = {}
        for index, event in enumerate(self.nodes):
            if event.link:
                groups.setdefault(event.link, []).append(index)
        for token, group in groups.items():
            senders, receivers = self._sides(group)
            if not senders:
                self.gaps.append(Gap("link", token, self._some(receivers)))
                continue
            at = 0
            for receiver in receivers:
                while at + 1 < len(senders) and senders[at + 1] < receiver:
                    at += 1
                sends[receiver] = senders[at]
                if self._parents[receiver] == senders[at]:
                    self._parents[receiver] = _NONE
        return sends

    def _sides(self, group: list[int]) -> tuple[list[int], list[int]]:
        """(senders, receivers) among the events that carry one token."""
        names = [self.nodes[index].type_name for index in group]
        if not SENDS.isdisjoint(names):
            is_send = [name in SENDS for name in names]
        else:
            first = next((i for i, name in enumerate(names) if name not in RECEIVES), _NONE)
            is_send = [i == first for i in range(len(names))]
        senders = [index for index, sends in zip(group, is_send, strict=True) if sends]
        receivers = [index for index, sends in zip(group, is_send, strict=True) if not sends]
        return senders, receivers

    def _sort_and_cut(self) -> list[int]:
        """Indices with causes before effects. Needed only where a cause is not older than its
        effect: a send is recorded when it returns, and what it sent may be received by then."""
        order: list[int] = []
        state = bytearray(len(self.nodes))  # 0 new, 1 on the way up from an effect, 2 done
        for start in range(len(self.nodes)):
            waiting = [start]
            while waiting:
                index = waiting[-1]
                if state[index] == 0:
                    state[index] = 1
                    for causes, kind in ((self._parents, "parent"), (self._sends, "link")):
                        cause = causes[index]
                        if cause == _NONE:
                            continue
                        if state[cause] == 1:
                            self.cut.append(Edge(self.nodes[cause], self.nodes[index], kind))
                            causes[index] = _NONE
                        elif state[cause] == 0:
                            waiting.append(cause)
                else:
                    waiting.pop()
                    if state[index] == 1:
                        state[index] = 2
                        order.append(index)
        return order

    def _above(self, index: int) -> int:
        parent = self._parents[index]
        return parent if parent != _NONE else self._sends[index]

    def _causes_of(self, index: int) -> Iterator[tuple[int, str]]:
        if (parent := self._parents[index]) != _NONE:
            yield parent, "parent"
        if (send := self._sends[index]) != _NONE:
            yield send, "link"

    def _effects_of(self, index: int) -> list[int]:
        if self._effects is None:
            effects: list[list[int]] = [[] for _ in self.nodes]
            for effect, (parent, send) in enumerate(zip(self._parents, self._sends, strict=True)):
                if parent != _NONE:
                    effects[parent].append(effect)
                if send != _NONE:
                    effects[send].append(effect)
            self._effects = effects
        return self._effects[index]

    def _index(self, event: Event | int) -> int | None:
        if isinstance(event, int):
            return self._by_id.get(event)
        if event.id:
            return self._by_id.get(event.id)
        if self._by_identity is None:
            self._by_identity = {id(node): index for index, node in enumerate(self.nodes)}
        return self._by_identity.get(id(event))

    def _up(self, start: Iterable[int]) -> set[int]:
        """`start` and all that led to it."""
        seen = set(start)
        waiting = list(seen)
        while waiting:
            index = waiting.pop()
            for cause in (self._parents[index], self._sends[index]):
                if cause != _NONE and cause not in seen:
                    seen.add(cause)
                    waiting.append(cause)
        return seen

    def _down(self, start: Iterable[int]) -> set[int]:
        """`start` and all that it led to."""
        seen = set(start)
        waiting = list(seen)
        while waiting:
            for effect in self._effects_of(waiting.pop()):
                if effect not in seen:
                    seen.add(effect)
                    waiting.append(effect)
        return seen

    def _some(self, indices: Iterable[int]) -> list[Event]:
        return [self.nodes[index] for index in sorted(indices)]

    def _restrict(self, keep: set[int]) -> "CausalGraph":
        """The graph of some of the events, with the edges among them. Causes that are left out
        are no gaps: they are known."""
        kept = sorted(keep)
        moved = {_NONE: _NONE, **{old: new for new, old in enumerate(kept)}}
        part = CausalGraph.__new__(CausalGraph)
        part.nodes = [self.nodes[index] for index in kept]
        part._by_id = {event.id: index for index, event in enumerate(part.nodes) if event.id}
        part._parents = [moved.get(self._parents[index], _NONE) for index in kept]
        part._sends = [moved.get(self._sends[index], _NONE) for index in kept]
        part._order = [moved[index] for index in self._order if index in moved]
        part._effects = part._by_identity = None
        inside = {id(event) for event in part.nodes}
        part.gaps = [
            Gap(gap.kind, gap.missing, events)
            for gap in self.gaps
            if (events := [event for event in gap.events if id(event) in inside])
        ]
        part.cut = [edge for edge in self.cut if id(edge.target) in inside]
        return part

    def _best_path(self, rank: "_Rank") -> list[Event]:
        nodes = self.nodes
        if not nodes:
            return []
        best_from = [_NONE] * len(nodes)
        steps = [0] * len(nodes)
        began = [event.timestamp_ns for event in nodes]
        for index in self._order:
            own = nodes[index].timestamp_ns
            parent, send = self._parents[index], self._sends[index]
            before = parent if parent != _NONE else send
            if before == _NONE:
                continue
            if send != _NONE and send != before:
                by_parent = rank(steps[parent], own - began[parent])
                before = send if rank(steps[send], own - began[send]) > by_parent else parent
            best_from[index] = before
            steps[index] = steps[before] + 1
            began[index] = began[before]
        ranks = [
            rank(taken, event.timestamp_ns - start)
            for taken, event, start in zip(steps, nodes, began, strict=True)
        ]
        at = ranks.index(max(ranks))
        path = []
        while at != _NONE:
            path.append(nodes[at])
            at = best_from[at]
        path.reverse()
        return path


def _unique(events: Iterable[Event]) -> list[Event]:
    """The events; of those with one id, the first."""
    known: dict[int, Event] = {}
    nameless = []
    for event in events:
        if event.id:
            known.setdefault(event.id, event)
        else:
            nameless.append(event)
    return [*known.values(), *nameless]


def _time(event: Event) -> int:
    return event.timestamp_ns
