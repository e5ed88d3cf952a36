"""Conditions on events as they are written on the command line.

`--filter category=ipc severity>=warn type=SyscallExit pid=42 name=read`, and the options
`--category --severity --type --pid --name --test` of `kobs query`: the same conditions.
"""

import argparse
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar

from kobs.errors import ConfigError
from kobs.events import Category, Event, Severity
from kobs.filters import EventFilter
from kobs.schema import registered_types

if TYPE_CHECKING:
    from kobs.recording import Recording

KEYS = (
    "category", "severity", "type", "pid", "name", "causality", "origin", "test", "worker", "phase"
)  # fmt: skip

_E = TypeVar("_E", bound=IntEnum)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which events."""
    group = parser.add_argument_group("which events (each may be given several times)")
    group.add_argument("--type", action="append", default=[], help="payload type: SyscallExit")
    group.add_argument("--category", action="append", default=[], help="ipc, syscall, memory, ...")
    group.add_argument("--severity", metavar="LEVEL", help="at least: trace ... warn ... critical")
    group.add_argument("--pid", action="append", default=[], help="the process it is about")
    group.add_argument("--name", action="append", default=[], help="operation, queue, path, ...")
    group.add_argument(
        "--causality", action="append", default=[], metavar="ID", help="chain id (0x... or decimal)"
    )
    group.add_argument(
        "--test", action="append", default=[], metavar="TEXT",
        help="what a test caused whose name contains this (of pytest --kobs)",
    )  # fmt: skip
    group.add_argument(
        "--worker", action="append", default=[], help="of pytest-xdist: gw0, gw1, ..."
    )
    group.add_argument(
        "--phase", action="append", default=[], help="of tests: setup, call, teardown, fixture"
    )
    group.add_argument(
        "--filter",
        nargs="+",
        action="extend",
        default=[],
        metavar="CONDITION",
        help="category=ipc severity>=warn type=SyscallExit pid=42 name=read",
    )


def from_options(
    arguments: argparse.Namespace, known: Iterable[str] = (), recording: "Recording | None" = None
) -> EventFilter:
    """The filter of parsed options; `known` are types that only the recording has.

    Raises `ConfigError` for a condition that makes no sense.
    """
    words = [f"{key}={value}" for key in KEYS for value in getattr(arguments, key, None) or ()
             if key != "severity"]  # fmt: skip
    if arguments.severity:
        words.append(f"severity>={arguments.severity}")
    return parse([*words, *arguments.filter], known, recording)


def parse(
    words: Sequence[str], known: Iterable[str] = (), recording: "Recording | None" = None
) -> EventFilter:
    """The filter that conditions such as `severity>=warn` make together.

    The same key several times means any of the values, different keys mean all of them.
    """
    made = EventFilter()
    wanted: dict[str, set[str]] = {
        key: set() for key in ("type", "name", "origin", "test", "worker", "phase")
    }
    for word in words:
        key, operator, value = _split(word)
        if operator == ">=":
            made = made.severity(member(Severity, value, "severity"))
        elif key == "severity":
            made = _exactly(made, member(Severity, value, "severity"))
        elif key == "category":
            made = made.category(*(member(Category, v, "category") for v in value.split(",")))
        elif key in ("pid", "causality"):
            numbers = [number(v, word) for v in value.split(",")]
            made = made.pid(*numbers) if key == "pid" else made.causality(*numbers)
        elif key == "type":
            wanted["type"].update(type_name(v, known) for v in value.split(","))
        else:
            wanted[key].add(value)
    if wanted["type"]:
        made = made.among("type_name", wanted["type"])
    if wanted["name"]:
        made = made.among("name", wanted["name"])
    if wanted["origin"]:
        made = made.where(_OfOrigin(wanted["origin"]))
    if wanted["test"] or wanted["worker"] or wanted["phase"]:
        if recording is None:
            raise ConfigError("test=, worker= and phase= need a recording")
        from kobs.cli.origins import OfTest

        made = made.where(OfTest(recording, wanted["test"], wanted["worker"], wanted["phase"]))
    return made


def member(kind: type[_E], text: str, what: str) -> _E:
    """The member of an enumeration that `text` names, in any case."""
    try:
        return kind[text.strip().upper()]
    except KeyError:
        allowed = ", ".join(each.name.lower() for each in kind)
        raise ConfigError(f"{what} {text!r} is not known; it is one of {allowed}") from None


def type_name(text: str, known: Iterable[str] = ()) -> str:
    """The payload type that `text` names, in any case."""
    names = {name.lower(): name for name in (*registered_types(), *known)}
    found = names.get(text.strip().lower())
    if found is None:
        near = get_close_matches(text.lower(), names, 3, 0.5)
        hint = f"; did you mean {' or '.join(names[n] for n in near)}?" if near else ""
        raise ConfigError(f"payload type {text!r} is not known here nor in the recording{hint}")
    return found


def _split(word: str) -> tuple[str, str, str]:
    for operator in (">=", "="):
        key, found, value = word.partition(operator)
        if found and key.strip() in KEYS and value.strip():
            if operator == ">=" and key.strip() != "severity":
                break
            return key.strip(), operator, value.strip()
    raise ConfigError(
        f"condition {word!r} is not understood; write KEY=VALUE with KEY one of "
        f"{', '.join(KEYS)}, or severity>=LEVEL"
    )


def number(text: str, word: str) -> int:
    """The integer that `text` writes (decimal, or 0x...); `word` is named where it is none."""
    try:
        return int(text.strip(), 0)
    except ValueError:
        raise ConfigError(f"condition {word!r}: {text!r} is no number") from None


def _exactly(made: EventFilter, severity: Severity) -> EventFilter:
    return made.where(lambda event: event.severity is severity)


class _OfOrigin:
    """The event has one of these origins."""

    def __init__(self, origins: set[str]) -> None:
        self.origins = origins

    def __call__(self, event: Event) -> bool:
        return event.origin in self.origins

    def __repr__(self) -> str:
        return f"origin in {sorted(self.origins)}"
