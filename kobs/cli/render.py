"""How results look: tables, trees and lines, in rich on a terminal and as plain text elsewhere.

Commands say what there is (`Table`, `Tree`, a line); a `Screen` says it. Whatever comes out of a
recording may contain anything: control characters are shown, never sent to the terminal.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any, NamedTuple, Protocol

WIDTH = 80
"""Columns where no terminal says otherwise."""

SEVERITY_STYLES = {
    "TRACE": "dim",
    "DEBUG": "dim",
    "INFO": "",
    "WARN": "yellow",
    "ERROR": "red",
    "CRITICAL": "bold red",
}


class Cell(NamedTuple):
    """A piece of text and how it looks: a rich style; plain text ignores it."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A table's column. Numbers stand on the right; a `stretch` column gives way when the
    table is too wide: text is cut in the middle (both ends of a path tell), a sentence
    (`prose`) at its end."""

    name: str
    right: bool = False
    stretch: bool = False
    prose: bool = False


class Tree(NamedTuple):
    """A node of a tree: its line, in pieces, and what hangs below it."""

    line: tuple[Cell, ...]
    children: "list[Tree]"


Row = Sequence[str | Cell]


class Screen(Protocol):
    """Where results are shown."""

    @property
    def width(self) -> int:
        """Columns."""
        ...

    def heading(self, text: str, note: str = "") -> None:
        """The title of a section, after an empty line."""
        ...

    def line(self, *cells: str | Cell) -> None:
        """One line; one that is too long is wrapped by the terminal, not cut."""
        ...

    def alarm(self, title: str, lines: Iterable[str]) -> None:
        """What must not be missed."""
        ...

    def table(self, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """A table; the stretching column is cut where it must be."""
        ...

    def tree(self, roots: Iterable[Tree]) -> None:
        """Trees below one another."""
        ...

    def clear(self) -> None:
        """Begin at the top again (`kobs top`)."""
        ...


def screen(file: IO[str] | None = None, *, plain: bool = False) -> Screen:
    """The screen for `file` (stdout): rich if that is a terminal and rich is installed."""
    out = sys.stdout if file is None else file
    if not plain and out.isatty() and os.environ.get("TERM") != "dumb":
        try:
            from kobs.cli.rich_screen import RichScreen
        except ImportError:
            pass
        else:
            return RichScreen(out)
    return PlainScreen(out)


def clean(text: str) -> str:
    """Text on one line that is safe to show: control characters become `\\x1b`, `\\n`."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def cell(value: str | Cell) -> Cell:
    """A cell, its text cleaned."""
    text, style = value if isinstance(value, Cell) else (value, "")
    return Cell(clean(text), style)


def shorten(text: str, width: int, *, end: bool = False) -> str:
    """Text in at most `width` columns; where it is cut, in the middle or at its end, stands an
    ellipsis."""
    if len(text) <= width:
        return text
    if end or width < 8:
        return text[: max(0, width - 1)] + "…"
    head = (width - 1) * 2 // 3
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]


def fit(columns: Sequence[Column], body: Sequence[Sequence[str]], width: int) -> list[int]:
    """The columns' widths so that a table indented by two, two spaces between columns, fits."""
    widths = [
        max([len(column.name), *(len(row[at]) for row in body)])
        for at, column in enumerate(columns)
    ]
    over = 2 * len(widths) + sum(widths) - width
    for at, column in enumerate(columns):
        if column.stretch and over > 0:
            kept = min(widths[at], max(len(column.name), 12, widths[at] - over))
            over -= widths[at] - kept
            widths[at] = kept
    return widths


class PlainScreen:
    """Plain text."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        columns = shutil.get_terminal_size((WIDTH, 24)).columns if file.isatty() else 0
        self._width = columns or int(_digits(os.environ.get("COLUMNS", "")) or WIDTH)
        self._ascii = not _can_encode(file, "└─│├…·µ")

    @property
    def width(self) -> int:
        """Columns."""
        return self._width

    def heading(self, text: str, note: str = "") -> None:
        """The title of a section, after an empty line."""
        self._write("")
        self._write(clean(f"{text}  ({note})" if note else text))

    def line(self, *cells: str | Cell) -> None:
        """One line."""
        self._write("".join(cell(piece).text for piece in cells))

    def alarm(self, title: str, lines: Iterable[str]) -> None:
        """What must not be missed."""
        self._write(f"!! {clean(title)}")
        for line in lines:
            self._write(f"!!   {clean(line)}")

    def table(self, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """A table, indented by two."""
        body = [[cell(value).text for value in row] for row in rows]
        widths = fit(columns, body, self._width)
        if any(column.name for column in columns):
            body.insert(0, [column.name for column in columns])
        for row in body:
            parts = [
                text.rjust(width)
                if column.right
                else shorten(text, width, end=column.prose).ljust(width)
                for text, width, column in zip(row, widths, columns, strict=True)
            ]
            self._write(("  " + "  ".join(parts)).rstrip())

    def tree(self, roots: Iterable[Tree]) -> None:
        """Trees below one another, indented by two."""
        stack = [(root, "  ", "  ") for root in roots][::-1]
        while stack:
            node, first, rest = stack.pop()
            line = first + "".join(cell(piece).text for piece in node.line)
            self._write(shorten(line, self._width, end=True))
            count = len(node.children)
            for at in range(count - 1, -1, -1):
                last = at == count - 1
                stack.append(
                    (
                        node.children[at],
                        rest + ("└ " if last else "├ "),
                        rest + ("  " if last else "│ "),
                    )
                )

    def clear(self) -> None:
        """Begin at the top again: here, an empty line."""
        self._write("")

    def _write(self, text: str) -> None:
        if self._ascii:
            text = text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")
        else:
            text = text.encode("utf-8", "backslashreplace").decode("utf-8")
        self._file.write(text + "\n")


_ASCII = str.maketrans({"└": "`", "├": "|", "│": "|", "…": "~", "·": ".", "µ": "u"})


def _digits(text: str) -> str:
    return text if text.isdigit() else ""


def _can_encode(file: IO[str], text: str) -> bool:
    try:
        text.encode(getattr(file, "encoding", None) or "utf-8")
    except (UnicodeError, LookupError):
        return False
    return True


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """`value` as JSON on stdout; floats that JSON has no word for are strings ("NaN")."""
    from kobs.export.jsonl import dumps

    sys.stdout.write(dumps(value, indent=indent) + "\n")
