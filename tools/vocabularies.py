"""Write the reference page of the vocabularies from their modules' docstrings.

`python -m tools.vocabularies` writes it; `page()` is what a test compares with what is there, and
`stated()` what it compares with the vocabularies themselves.
"""

import importlib
import pkgutil
from pathlib import Path
from typing import NamedTuple

from kobs_instrumentation import vocabulary as package

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "vocabularies.md"

_HEAD = """\
# Vocabularies

`@observe("process")` on a class turns its methods into events by their names. Which names, which
events and where each field comes from is what the vocabulary of that subsystem says; this page is
made from the vocabularies (`make docs`).

A method has the rule with the most specific pattern that matches; methods that begin with an
underscore have none. A field is looked for in what the method returned, then among its arguments,
then on the instance, as each line says. Where what an event is about cannot be known, there is no
event. A method of a name that is not here can say what it makes with `@emits`.

Where no pid is given, the event's subject is the process that records.
"""


class Stated(NamedTuple):
    """One event of a vocabulary, as its docstring states it."""

    methods: tuple[str, ...]
    event: str
    fields: tuple[str, ...]
    """Payload fields, and "pid" where the header's is filled."""


def names() -> list[str]:
    """The subsystems that have a vocabulary module."""
    found = {module.name for module in pkgutil.iter_modules(package.__path__)}
    return sorted(found - {"common"})


def docstring(subsystem: str) -> str:
    """What the module of a vocabulary says."""
    return importlib.import_module(f"{package.__name__}.{subsystem}").__doc__ or ""


def stated(subsystem: str) -> list[Stated]:
    """The list in a vocabulary's docstring: methods, below them events, below them fields."""
    found: list[Stated] = []
    methods: tuple[str, ...] = ()
    for depth, text in _items(docstring(subsystem)):
        if depth == 0:
            methods = tuple(word.strip("`") for word in text.split())
        elif depth == 1:
            found.append(Stated(methods, text.split()[0], ()))
        else:
            fields = text.partition(":")[0].replace("`", "").split(", ")
            found[-1] = found[-1]._replace(fields=(*found[-1].fields, *fields))
    return found


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for subsystem in names():
        title, _, body = docstring(subsystem).strip().partition("\n")
        about = title.partition(": ")[2]
        parts.append(f"## {subsystem}\n\n{about[0].upper()}{about[1:]}\n{_linked(body)}\n")
    return "\n".join(parts)


def _items(text: str) -> list[tuple[int, str]]:
    """(depth, text) of each item of a nested list, lines joined."""
    items: list[tuple[int, str]] = []
    for line in text.splitlines():
        bare = line.lstrip()
        if bare.startswith("- "):
            items.append(((len(line) - len(bare)) // 2, bare[2:]))
        elif items and bare:
            items[-1] = (items[-1][0], f"{items[-1][1]} {bare}")
    return items


def _linked(body: str) -> str:
    """The list, each event with a link to its page."""
    lines = []
    for line in body.splitlines():
        if line.startswith("  - "):
            event, _, rest = line[4:].partition(" ")
            line = f"  - [{event}](events/{event}.md) {rest}"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page())
