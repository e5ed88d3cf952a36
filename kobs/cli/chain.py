"""The longest causal chain of a recording: found, told and drawn.

Longest means most steps from cause to effect. The chain is everything that goes back to the same
first event, over parents and over links from send to receive.
"""

from typing import TYPE_CHECKING, Any

from kobs._analysis.graph import CausalGraph
from kobs.cli import figures
from kobs.cli.chains import Chains, events_of
from kobs.cli.render import SEVERITY_STYLES, Cell, Tree, shorten
from kobs.events import FLAG_BEGIN, FLAG_END, Event

if TYPE_CHECKING:
    from kobs.recording import Recording

MOST_NODES = 5000
_WHOLE_NODES = 32
_WHOLE_DEPTH = 12
_FIRST_STEPS, _LAST_STEPS = 12, 6
_MOST_BRANCHES = 4
_LONGEST_NAME = 36
_OF_PATHS = {"FileOpened", "FileChanged"}
"""Types of which many with different names are one line."""
_BARE = {"SyscallExit", "SyscallEnter", "SpanBegan", "SpanEnded"}


def longest(recording: "Recording", chains: Chains) -> dict[str, Any] | None:
    """The chain as `kobs report --json` prints it; None where no event caused another.

    `nodes` is flat: id, parent (0 at the root), edge ("parent", "link" or "root"), type, name,
    severity, pid, tid, recording, causality_id, offset_us from the root, duration_us or null,
    open (a begin without its end). A scope is one node: its end is folded into its begin. `path`
    has the ids from the root to the last effect; `recordings` those that the chain touches.
    """
    found = chains.longest()
    if found is None:
        return None
    events = list(events_of(recording, found, MOST_NODES))
    graph = CausalGraph(events)
    above = dict(zip(found.path[1:], found.path, strict=False))
    root = graph.nodes[0] if graph.nodes else None
    base = next((e.timestamp_ns for e in events if e.id == found.path[0]), 0)
    if root is None or not base:
        return None
    edges = {edge.target.id: (edge.source.id, edge.kind) for edge in reversed(graph.edges)}
    links = {(edge.source.id, edge.target.id) for edge in graph.edges if edge.kind == "link"}
    nodes: dict[int, dict[str, Any]] = {}
    folded: dict[int, int] = {}
    for event in graph.nodes:
        begin = nodes.get(event.parent)
        if event.flags & FLAG_END and begin is not None and begin["open"]:
            folded[event.id] = event.parent
            begin.update(duration_us=_took(event, begin, base), open=False, type=event.type_name)
            continue
        parent, edge = edges.get(event.id, (0, "root"))
        if event.id in above:
            parent = above[event.id]
            edge = "link" if (parent, event.id) in links else "parent"
        nodes[event.id] = _node(event, base, parent, edge)
    for node in nodes.values():
        node["parent"] = folded.get(node["parent"], node["parent"])
    path = list(dict.fromkeys(folded.get(event, event) for event in found.path))
    return {
        "root": path[0],
        "causality_id": nodes[path[0]]["causality_id"],
        "events": len(found.members),
        "steps": len(path) - 1,
        "duration_us": (max(event.timestamp_ns for event in events) - base) / 1000,
        "recordings": sorted({node["recording"] for node in nodes.values()}),
        "path": path,
        "nodes": list(nodes.values()),
    }


def _node(event: Event, base: int, parent: int, edge: str) -> dict[str, Any]:
    return {
        "id": event.id,
        "parent": parent,
        "edge": edge,
        "type": event.type_name,
        "name": event.name,
        "severity": event.severity.name,
        "pid": event.pid,
        "tid": event.tid,
        "recording": event.recording,
        "causality_id": event.causality_id,
        "offset_us": (event.timestamp_ns - base) / 1000,
        "duration_us": event.duration_us,
        "open": bool(event.flags & FLAG_BEGIN),
    }


def _took(event: Event, begin: dict[str, Any], base: int) -> float:
    duration = event.duration_us
    if duration is not None:
        return duration
    elapsed: float = (event.timestamp_ns - base) / 1000 - begin["offset_us"]
    return elapsed


def _when(branch: tuple[float, Tree]) -> float:
    return branch[0]


def label(kind: str, name: str | None) -> str:
    """What an event is called: `read`, `MessageSent jobs`, `FileOpened …/b.txt`."""
    if not name:
        return kind
    name = shorten(name, _LONGEST_NAME)
    return name if kind in _BARE else f"{kind} {name}"


def draw(chain: dict[str, Any], processes: list[dict[str, Any]]) -> list[Tree]:
    """The chain as trees: whole if it is small, else its longest path with what branches off."""
    nodes = {node["id"]: node for node in chain["nodes"]}
    below: dict[int, list[int]] = {}
    for node in chain["nodes"]:
        if node["parent"]:
            below.setdefault(node["parent"], []).append(node["id"])
    commands = {row["recording"]: row["pid"] for row in processes}
    path = [node for node in chain["path"] if node in nodes]
    drawing = _Drawing(nodes, below, commands, set(path))
    if len(nodes) <= _WHOLE_NODES and len(path) <= _WHOLE_DEPTH:
        return [drawing.whole(path[0], 0)]
    return [drawing.along(path)]


class _Drawing:
    def __init__(
        self,
        nodes: dict[int, dict[str, Any]],
        below: dict[int, list[int]],
        pids: dict[int, int],
        on_path: set[int],
    ) -> None:
        self.nodes = nodes
        self.below = below
        self.pids = pids
        self.on_path = on_path

    def whole(self, at: int, above: int) -> Tree:
        """A node with everything below it, alike leaves in one line."""
        children = self.below.get(at, [])
        made = [
            (self.nodes[child]["offset_us"], self.whole(child, at))
            for child in children
            if self._own_line(child)
        ]
        made += self.alike(at, [child for child in children if not self._own_line(child)])
        made.sort(key=_when)
        return Tree(self.line(at, above), [tree for _, tree in made])

    def along(self, path: list[int]) -> Tree:
        """The path from the root, with what branches off counted."""
        elided = len(path) - _FIRST_STEPS - _LAST_STEPS
        shown = path if elided < 2 else path[:_FIRST_STEPS] + path[-_LAST_STEPS:]
        tree: Tree | None = None
        for position in range(len(shown) - 1, -1, -1):
            at = shown[position]
            above = shown[position - 1] if position else 0
            others = [child for child in self.below.get(at, []) if child not in self.on_path]
            made = self.alike(at, others)
            if tree is not None:
                made.append((self.nodes[shown[position + 1]]["offset_us"], tree))
            made.sort(key=_when)
            tree = Tree(self.line(at, above), [branch for _, branch in made])
            if elided >= 2 and position == _FIRST_STEPS:
                gap = (Cell(f"… {figures.count(elided, 'step')} more …", "dim"),)
                tree = Tree(gap, [tree])
        assert tree is not None
        return tree

    def _own_line(self, node: int) -> bool:
        return node in self.on_path or bool(self.below.get(node))

    def alike(self, above: int, children: list[int]) -> list[tuple[float, Tree]]:
        """Children in one line for all that are called the same, each with its first time."""
        groups: dict[str, list[int]] = {}
        for child in children:
            node = self.nodes[child]
            of_paths = node["type"] in _OF_PATHS
            name = node["type"] if of_paths else label(node["type"], node["name"])
            groups.setdefault(name, []).append(child)
        made = []
        for members in list(groups.values())[:_MOST_BRANCHES]:
            line = self.line(members[0], above, len(members))
            more = sum(self.count_below(member) for member in members)
            if more:
                line = (*line, Cell(f"  ({figures.count(more, 'event')} below)", "dim"))
            made.append((self.nodes[members[0]]["offset_us"], Tree(line, [])))
        rest = [member for members in list(groups.values())[_MOST_BRANCHES:] for member in members]
        if rest:
            line = (Cell(f"… and {figures.count(len(rest), 'event')} more", "dim"),)
            made.append((self.nodes[rest[0]]["offset_us"], Tree(line, [])))
        return made

    def count_below(self, node: int) -> int:
        """How many nodes hang below one."""
        count, waiting = 0, list(self.below.get(node, ()))
        while waiting:
            count += 1
            waiting += self.below.get(waiting.pop(), ())
        return count

    def line(self, at: int, above: int, alike: int = 1) -> tuple[Cell, ...]:
        """A node's line: what, when, how long, and where if that is not where its cause was.
        `alike` is how many it stands for, being the first of them."""
        node = self.nodes[at]
        cause = self.nodes.get(above)
        style = SEVERITY_STYLES.get(node["severity"], "")
        if not style and at in self.on_path:
            style = "bold"
        cells = []
        if node["edge"] == "link":
            cells.append(Cell("→ ", "cyan"))
        name = node["name"]
        if node["type"] in _OF_PATHS:
            name = name.rpartition("/")[2] or name
        cells.append(Cell(label(node["type"], name), style if style != "dim" else ""))
        if alike > 1:
            cells.append(Cell(f"  x{alike:,}", "bold"))
        cells.append(Cell(f"  +{figures.duration(node['offset_us'])}", "cyan"))
        if node["open"]:
            cells.append(Cell("  not ended", "yellow"))
        elif node["duration_us"] and alike == 1:
            cells.append(Cell(f"  took {figures.duration(node['duration_us'])}", "green"))
        if cause is None or cause["recording"] != node["recording"]:
            cells.append(Cell(f"  pid {self.pids.get(node['recording'], node['pid'])}", "magenta"))
        elif cause["tid"] != node["tid"]:
            cells.append(Cell(f"  thread {node['tid']}", "magenta"))
        return tuple(cells)
