"""The screen in a terminal, made with rich."""

from collections.abc import Iterable, Sequence
from typing import IO

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text
from rich.tree import Tree as RichTree

from kobs.cli.render import Cell, Column, Row, Tree, cell, clean, fit, shorten


class RichScreen:
    """Colour, boxes and guides."""

    def __init__(self, file: IO[str]) -> None:
        self._console = Console(file=file, highlight=False, markup=False, emoji=False)

    @property
    def width(self) -> int:
        """Columns."""
        return self._console.width

    def heading(self, text: str, note: str = "") -> None:
        """The title of a section, after an empty line."""
        title = Text(clean(text), "bold")
        if note:
            title.append(f"  {clean(note)}", "dim not bold")
        self._console.print()
        self._console.print(title)

    def line(self, *cells: str | Cell) -> None:
        """One line."""
        self._console.print(_text(cells), soft_wrap=True)

    def alarm(self, title: str, lines: Iterable[str]) -> None:
        """What must not be missed."""
        body = Text("\n").join(Text(cell(line).text) for line in lines)
        self._console.print(
            Panel(
                body,
                title=Text(f" {clean(title)} ", "bold white on red"),
                title_align="left",
                border_style="red",
                box=box.HEAVY,
                expand=False,
            )
        )

    def table(self, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """A table, indented by two."""
        body = [[cell(value) for value in row] for row in rows]
        limits = fit(columns, [[text for text, _ in row] for row in body], self.width)
        headed = any(column.name for column in columns)
        table = RichTable(
            show_header=headed, box=None, pad_edge=False, padding=(0, 1), header_style="dim"
        )
        table.add_column("", width=0)
        for column in columns:
            table.add_column(column.name, justify="right" if column.right else "left", no_wrap=True)
        for row in body:
            table.add_row(
                "",
                *(
                    Text(text if column.right else shorten(text, limit, end=column.prose), style)
                    for (text, style), column, limit in zip(row, columns, limits, strict=True)
                ),
            )
        self._console.print(table)

    def tree(self, roots: Iterable[Tree]) -> None:
        """Trees below one another, indented by two."""
        for root in roots:
            made = RichTree(_text(root.line), guide_style="dim")
            stack = [(made, root)]
            while stack:
                branch, node = stack.pop()
                stack += [(branch.add(_text(child.line)), child) for child in node.children]
            self._console.print(Padding(made, (0, 0, 0, 2)))

    def clear(self) -> None:
        """Begin at the top of the terminal again."""
        self._console.clear()


def _text(cells: Iterable[str | Cell]) -> Text:
    made = Text(no_wrap=True, overflow="ellipsis")
    for piece in cells:
        text, style = cell(piece)
        made.append(text, style or None)
    return made
