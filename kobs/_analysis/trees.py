"""A causal graph in forms that can be drawn: as trees, and in the language of Graphviz."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from kobs.events import Event

_NONE = -1


EdgeKind = Literal["root", "parent", "link"]


class TreeNode:
    """An event in a tree of causes and effects."""

    __slots__ = ("children", "edge", "event", "lost_cause", "reference")

    def __init__(self, event: Event, edge: EdgeKind, *, reference: bool, lost_cause: bool) -> None:
        self.event = event
        self.edge = edge
        """How it hangs on the node above: `"parent"`, `"link"`, or `"root"`."""
        self.reference = reference
        """It stands elsewhere in the tree, with its effects: an event with two causes hangs on
        its parent, and its link is shown by a reference."""
        self.lost_cause = lost_cause
        """It has a cause that is not among the events."""
        self.children: list[TreeNode] = []

    def walk(self) -> Iterator[tuple[int, "TreeNode"]]:
        """(depth, node) of this node and all below it, as they are drawn from top to bottom."""
        waiting = [(0, self)]
        while waiting:
            depth, node = waiting.pop()
            yield depth, node
            waiting.extend((depth + 1, child) for child in reversed(node.children))

    def __repr__(self) -> str:
        return f"<TreeNode {self.edge} {self.event!r}, {len(self.children)} children>"


def make_trees(
    nodes: Sequence[Event], parents: Sequence[int], sends: Sequence[int], lost: set[int]
) -> list[TreeNode]:
    """Trees of `nodes`; `parents` and `sends` give the index of each one's causes, -1 for none;
    `lost` has the `id()` of the events with a cause that is not known."""
    made = [
        TreeNode(
            event,
            "parent" if parent != _NONE else "link" if send != _NONE else "root",
            reference=False,
            lost_cause=id(event) in lost,
        )
        for event, parent, send in zip(nodes, parents, sends, strict=True)
    ]
    roots = []
    for node, parent, send in zip(made, parents, sends, strict=True):
        if node.edge == "root":
            roots.append(node)
        elif node.edge == "link":
            made[send].children.append(node)
        else:
            made[parent].children.append(node)
            if send != _NONE:
                again = TreeNode(node.event, "link", reference=True, lost_cause=node.lost_cause)
                made[send].children.append(again)
    return roots


def make_dot(nodes: Sequence[Event], edges: Iterable[tuple[int, int, str]]) -> str:
    """A graph for Graphviz; `edges` are (index of cause, index of effect, kind)."""
    lines = ["digraph causality {", "  node [shape=box];"]
    for index, event in enumerate(nodes):
        what = event.type_name if event.name is None else f"{event.type_name} {event.name}"
        label = f"{what}\npid {event.pid}, {event.severity.name}"
        lines.append(f"  e{index} [label={_quoted(label)}];")
    for cause, effect, kind in edges:
        style = " [style=dashed]" if kind == "link" else ""
        lines.append(f"  e{cause} -> e{effect}{style};")
    lines += ["}", ""]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{plain}"'
