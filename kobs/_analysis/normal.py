"""The normal form of an event: what is the same in every run of the same code.

    FileOpened(path='<tmp>/letter', mode='w')

Times, process and thread ids, ids of events and chains, durations, numbers and what has its
default value are left out; in texts, folders, counters, random names and addresses are replaced.
It depends on nothing but the event and the names of a few folders, so a live test and its
recording give the same.
"""

import os
import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from tempfile import gettempdir
from typing import Any

from kobs.events import Event
from kobs.fields import Float, IdentifierKind, Integer, Json, Text
from kobs.schema import Field, PayloadType

_Form = Callable[[Any, bool], str | None]
"""A field's value, and whether texts of the event were cut, to its text; None: it is left out."""

CODES = ("exit_code", "errno", "level")
"""Integers that are no quantity: they stay."""
_CUT_AT = 32
"""Characters that stay of a text that was cut: what the cut left depends on what was replaced."""
_BELOW_TMP, _BELOW = 24, 40
"""Characters that stay of a path below pytest's folder of a test, or another folder that is
replaced. Of longer ones the last part stays: where folders have long names they are cut."""
_RECOGNISED = 8
"""Characters of a folder's end by which it is known in a path that was cut."""
_CUT_TMP = re.compile(
    r".*?(?:^|/|-)(?:pytest-(?:[0-9]+|current)(?:/popen-gw[0-9]+)?|popen-gw[0-9]+)/[^/]+"
    r"(?=/|$)(?!.*/pytest-[0-9]+/)",
    re.DOTALL,
)
"""pytest's folder of a test in a path whose beginning was cut."""

_REMEMBERED = 10_000
"""Texts whose normal form is kept."""
_OF_A_TEST = r"(?:/popen-gw[0-9]+)?(?:/(?!<)[^/\s'\"]+)?"
"""Below pytest's folder of a run: under pytest-xdist a worker's folder, then a test's."""

_Rules = tuple[tuple[re.Pattern[str], str], ...]
_PLACES: _Rules = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # pytest's folder of a test, else of a run
        (r"(?:<tempdir>|(?<![\w>/.-])(?:/[^/\s'\"]+)*)/pytest-of-[^/\s'\"]+"
         r"/pytest-(?:[0-9]+|current)" + _OF_A_TEST, "<tmp>"),
        (r"(?<![\w>/.-])/(?:home/[^/\s'\"]+|root)(?![\w.-])", "<home>"),
        (r"(?<![\w>/.-])(?:/[^/\s'\"]+)*/lib(?:64)?/python3\.[0-9]+t?(?![\w.-])", "<python>"),
    )
)  # fmt: skip
_RULES: _Rules = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<![\w>/.-])(?:/[^/\s'\"]+)*/bin/python(?:3(?:\.[0-9]+)?t?)?(?![\w.-])", "<python>"),
        (r"(?<![\w.>/-])python3(?:\.[0-9]+)?t?(?![\w.-])", "python"),
        (r"(?<![0-9A-Za-z])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9A-Za-z])",
         "<uuid>"),
        (r"0x[0-9a-fA-F]+", "<hex>"),
        (r"(?<![0-9A-Za-z])(tmp\.?|pymp-)[A-Za-z0-9_]{8}(?:[A-Za-z0-9_]{2})?(?![0-9A-Za-z_])",
         r"\1<random>"),
        (r"(<tempdir>/[^/\s'\"]*[-_.])[a-z0-9_]{8}(?![^./\s'\"])", r"\1<random>"),
        (r"(?<![0-9A-Za-z])psm_[0-9a-f]{8}(?![0-9A-Za-z])", "psm_<hex>"),
        (r"(?<![0-9A-Za-z])(?=[0-9a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{6,}(?![0-9A-Za-z])", "<hex>"),
        # A short number right behind a letter is part of a name: sha256, utf8, step1.
        (r"(?<![0-9A-Za-z])[0-9]+|(?<=[A-Za-z])[0-9]{4,}", "<n>"),
    )
)  # fmt: skip
_QUICK = re.compile(r"[0-9/]|tmp|pymp|psm|python")
"""A text without any of these is its own normal form, but for named folders."""


class Normalizer:
    """Gives normal forms, for a program that ran in the folder `cwd`. `basetemp` is what pytest's
    option of that name said. The root and relative paths do not count."""

    def __init__(self, *, cwd: str = "", basetemp: str = "") -> None:
        places = {os.path.expanduser("~"): "<home>", cwd: "<cwd>", gettempdir(): "<tempdir>",
                  basetemp: "<tmp>"}  # fmt: skip
        named = {
            os.path.normpath(path): name
            for path, name in places.items()
            if os.path.isabs(path) and os.path.normpath(path) not in ("/", "//")
        }
        self._paths = sorted(named.items(), key=lambda one: (-len(one[0]), one[0]))
        self._folders: _Rules = tuple(
            (_folder(path, _OF_A_TEST if name == "<tmp>" else ""), name)
            for path, name in self._paths
        )
        self._texts: dict[str, str] = {}
        self._forms: dict[type[PayloadType], list[tuple[str, Any, _Form]]] = {}

    def text(self, text: str) -> str:
        """A text with folders, numbers and random names replaced. Twice is once."""
        found = self._texts.get(text)
        if found is None:
            found, before = self._replaced(text), text
            while found != before:  # what was replaced may bound what was not
                found, before = self._replaced(found), found
            if len(self._texts) < _REMEMBERED:
                self._texts[text] = found
        return found

    def _replaced(self, text: str) -> str:
        if "/" in text:
            for pattern, name in self._folders:
                text = pattern.sub(name, text)
        if _QUICK.search(text):
            for pattern, replacement in (*_PLACES, *_RULES):
                text = pattern.sub(replacement, text)
        return text

    def path(self, path: str, *, cut: bool = False) -> str:
        """A path; the same whether its beginning was `cut` for its length or not."""
        name, rest = self._place(path, cut=cut)
        if name is None:
            return self.text(path)
        if not name or len(rest) > (_BELOW_TMP if name == "<tmp>" else _BELOW) + 1:
            return f".../{self.text(path.rpartition('/')[2])}"
        return self.text(name + rest)

    def _place(self, path: str, *, cut: bool) -> tuple[str | None, str]:
        """What stands for the folder that a path is below, and the rest; empty for one that was
        cut off, None for one that is not replaced."""
        if cut:
            match = _CUT_TMP.match(path)
            if match is not None:
                return "<tmp>", path[match.end() :]
            for folder, name in self._paths:
                for end in _ends(path):
                    if folder.endswith(path[:end]):
                        rest = path[end:]
                        below = re.match(_OF_A_TEST, rest) if name == "<tmp>" else None
                        return name, rest[below.end() :] if below is not None else rest
            return "", path
        for pattern, name in (_PLACES[0], *self._folders, *_PLACES[1:]):
            match = pattern.match(path)
            if match is not None:
                return name, path[match.end() :]
        return None, path

    def event(self, event: Event) -> str:
        """The normal form of an event."""
        fields = ", ".join(f"{name}={value}" for name, value in self.fields(event).items())
        return f"{type_name(event)}({fields})"

    def fields(self, event: Event) -> dict[str, str]:
        """The payload's fields that stay, each as text, in order of declaration."""
        forms = self._forms.get(event.type)
        if forms is None:
            forms = self._forms[event.type] = [
                (field.name, field.default, form)
                for field in event.type.__kobs_schema__.fields
                if (form := self._form(field)) is not None
            ]
        if not forms:
            return {}
        payload, cut = event.payload, event.truncated
        found = {}
        for name, default, form in forms:
            value = getattr(payload, name)
            if value == default:
                continue
            shown = form(value, cut)
            if shown is not None:
                found[name] = shown
        return found

    def _form(self, field: Field) -> _Form | None:
        kind = field.kind
        if isinstance(kind, Float):
            return None
        if isinstance(kind, Integer):
            return (lambda value, cut: str(value)) if field.name in CODES else None
        if isinstance(kind, IdentifierKind):
            return lambda value, cut: repr(self.text(value)) if isinstance(value, str) else None
        if isinstance(kind, Json):
            return self._mapping
        if isinstance(kind, Text):
            size = kind.size
            if kind.keep == "tail":
                return lambda value, cut: repr(
                    self.path(value, cut=cut and _bytes(value) > size - 4)
                )
            return lambda value, cut: repr(
                _beginning(self.text, value) if cut and _bytes(value) > size - 4
                else self.text(value)
            )  # fmt: skip
        return lambda value, cut: value.name if isinstance(value, IntEnum) else (
            repr(self.text(value)) if isinstance(value, str) else repr(value)
        )  # fmt: skip

    def _mapping(self, value: Mapping[str, object], cut: bool) -> str | None:
        """Keys, and the values that are texts or booleans; nothing where some did not fit."""
        if cut:
            return None
        parts = []
        for key in sorted(value):
            one = value[key]
            if isinstance(one, str):
                parts.append(f"{self.text(key)}={self.text(one)!r}")
            elif isinstance(one, bool):
                parts.append(f"{self.text(key)}={one}")
            else:
                parts.append(self.text(key))
        return "{" + ", ".join(parts) + "}"


def type_name(event: Event) -> str:
    """The name of an event's type, as one word: a program's own may be anything."""
    name = event.type_name
    return name if name.isidentifier() else re.sub(r"[^\w.:-]+", "_", name)


def _beginning(normal: Callable[[str], str], text: str) -> str:
    kept = re.match(r".*(?=\W)", text[:_CUT_AT], re.DOTALL)
    return f"{normal(kept[0] if kept else '')}<cut>"


def _ends(path: str) -> list[int]:
    """Where the folders of a path end, the longest first, down to a few characters."""
    ends = [match.start() for match in re.finditer("/", path)]
    return [end for end in reversed(ends) if end >= _RECOGNISED]


def _folder(path: str, below: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w>/.-]){re.escape(path)}(?![\w.-]){below}")


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
