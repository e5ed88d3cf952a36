"""Watches that other packages bring, by the name of their subsystem.

A package names its watch by an entry point of the group `kobs.watches`, or gives it by the hook
`kobs_watches` (`kobs.hooks`). It is a module or an object with

    install(get_collector, *, events=True) -> undo    what `Watch.install` does
    SAYS: tuple[str, ...]                             the payload types that it tells
    UNREACHABLE, UNSEEN: tuple[str, ...]              what it cannot see: with the Python core only,
                                                      and with either

of which only `install` is needed.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

ENTRY_POINTS = "kobs.watches"
"""Group of entry points: the name of a subsystem, and `module` or `module:object`."""

BY_HOOK = ""
"""As `Other.where`: a plug-in's hook gives it."""


class Other(NamedTuple):
    """A watch of another package."""

    name: str
    where: str
    """`module` or `module:object`."""

    def load(self) -> Any:
        """Import it. Raises whatever its module does."""
        if self.where == BY_HOOK:
            from kobs import hooks

            return hooks.watches()[self.name]
        module, _, attribute = self.where.partition(":")
        found: Any = import_module(module)
        for part in filter(None, attribute.split(".")):
            found = getattr(found, part)
        return found


def find(taken: Iterable[str]) -> dict[str, Other]:
    """Those that are installed here; names that are `taken`, and those of an earlier one, are no
    longer to be had."""
    from kobs import hooks

    found: dict[str, Other] = {}
    given = [Other(point.name, point.value) for point in hooks.installed(ENTRY_POINTS)]
    given += [Other(name, BY_HOOK) for name in hooks.watches()]
    for other in given:
        if other.name not in (*taken, *found):
            found[other.name] = other
    return found


def passed_on(others: Mapping[str, Other]) -> dict[str, str]:
    """What a child is told, so that it need not look through everything that is installed."""
    return {name: other.where for name, other in others.items()}


def told(options: Mapping[str, str]) -> dict[str, Other]:
    """What the parent passed on."""
    return {name: Other(name, where) for name, where in options.items()}
