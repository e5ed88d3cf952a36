"""Which events are hidden: by category or type, and by name.

A rule is `WHAT` or `WHAT:PATTERN`. WHAT is a category (`syscall`, `filesystem`, short `file`) or an
event type (`FileOpened`). PATTERN is a shell pattern for the event's name: a path, the name of a
system call, process, queue or operation. Without one, every such event is hidden. What is hidden
is not recorded, whatever its severity, and is counted.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from kobs.errors import ConfigError
from kobs.levels import Category
from kobs.schema import Schema, registered_types

_REMEMBERED = 4096
"""Names of a type whose answer is known; the oldest are forgotten, and asked again."""
_SHORT = {"file": "FILESYSTEM"}


class Rule(NamedTuple):
    """What is hidden."""

    category: Category | None
    type_name: str | None
    pattern: str
    """Of names; `*` hides events without a name too."""

    def concerns(self, schema: Schema) -> bool:
        """It may hide events of a type."""
        if self.type_name is not None:
            return schema.name == self.type_name
        return schema.category == self.category


def parse(texts: str | Iterable[str], where: str = "hide") -> tuple[Rule, ...]:
    """The rules that texts say; a single string has them apart by `;`.

    Raises `ConfigError` saying what was given, what was expected and what there is.
    """
    if isinstance(texts, str):
        texts = [part.strip() for part in texts.split(";") if part.strip()]
    return tuple(_rule(text, where) for text in texts)


def _rule(text: str, where: str) -> Rule:
    what, colon, pattern = str(text).partition(":")
    what = what.strip()
    if colon and not pattern:
        raise ConfigError(
            f"{where}={text!r}: the pattern behind the colon is empty; "
            f"give one, for instance {what or 'file'}:/tmp/*, or leave the colon out"
        )
    name = _SHORT.get(what.lower(), what.upper())
    if name in Category.__members__:
        return Rule(Category[name], None, pattern or "*")
    if what in _type_names():
        return Rule(None, what, pattern or "*")
    categories = ", ".join(sorted(name.lower() for name in (*Category.__members__, *_SHORT)))
    raise ConfigError(
        f"{where}={text!r}: expected WHAT or WHAT:PATTERN, for instance syscall:read or "
        f"file:/tmp/*; there is no {what!r}: WHAT is a category ({categories}) or an event type "
        f"({_examples(what)})"
    )


def _examples(what: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(what, _type_names(), n=3)
    return ", ".join(close or ("FileOpened", "SyscallExit", "MessageSent")) + ", ..."


def _type_names() -> list[str]:
    import kobs.payloads  # noqa: F401

    return list(registered_types())


class Hide:
    """What an emitter asks: `hides(name)`, and the answers so far."""

    __slots__ = ("answers", "field", "patterns")

    def __init__(self, field: str | None, patterns: tuple[str, ...]) -> None:
        self.field = field
        """What the name is in; None: events of the type have none."""
        self.patterns = patterns
        self.answers: dict[str, bool] = {}

    def hides(self, name: object) -> bool:
        """Events of this name are hidden. What is no name is not asked for its text: that may be
        code of the program."""
        if type(name) is int:
            name = str(name)
        if type(name) is not str:
            return "*" in self.patterns
        known = self.answers.get(name)
        if known is None:
            known = any(fnmatchcase(name, pattern) for pattern in self.patterns)
            if len(self.answers) >= _REMEMBERED:
                self.answers.pop(next(iter(self.answers)), None)
            self.answers[name] = known
        return known


class Hiding:
    """The rules of one collector."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules

    def of(self, schema: Schema) -> Hide | None:
        """What hides events of a type; None where none of them is hidden."""
        patterns = tuple(rule.pattern for rule in self.rules if rule.concerns(schema))
        return Hide(_name_field(schema), patterns) if patterns else None


def _name_field(schema: Schema) -> str | None:
    for field in ("path", schema.name_field, "remote_addr"):
        if field in schema.field_names:
            return field
    return None
