"""Vocabularies: what the methods of a subsystem's classes mean, by their names."""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from kobs.errors import ObserveError, UnknownSubsystemError
from kobs.observe.emissions import Emission

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "kobs.vocabularies"
"""Group of entry points: name of the subsystem = module:VOCABULARY."""


class Rule(NamedTuple):
    """Which methods make which events.

    `methods`: patterns as of `fnmatch` ("create*"); those without a leading underscore match no
    private method. `scope`: the first emission with `when="call"` and the first with "exit" (or
    "return") are the begin and the end of a scope: what happens inside has the begin as parent.
    """

    methods: tuple[str, ...]
    emissions: tuple[Emission, ...]
    scope: bool = False


class Vocabulary(NamedTuple):
    """What the methods of a subsystem's classes mean.

    `classes`: patterns of class names that `observe(instance)` takes for this subsystem when
    none is given ("ProcessManager").
    """

    subsystem: str
    rules: tuple[Rule, ...]
    classes: tuple[str, ...] = ()

    def rule_for(self, method: str) -> Rule | None:
        """The rule for a method: the one with the most specific pattern that matches; among
        equals the first."""
        best: Rule | None = None
        best_weight = -1
        for rule in self.rules:
            for pattern in rule.methods:
                weight = _weight(pattern)
                if weight > best_weight and _matches(method, pattern):
                    best, best_weight = rule, weight
        return best

    @property
    def patterns(self) -> tuple[str, ...]:
        """Every pattern of every rule."""
        return tuple(pattern for rule in self.rules for pattern in rule.methods)


def register_vocabulary(vocabulary: Vocabulary) -> Vocabulary:
    """Make a vocabulary known under its subsystem's name; it replaces one of the same name."""
    if not isinstance(vocabulary, Vocabulary):
        raise ObserveError(f"{vocabulary!r}: expected a kobs.observe.Vocabulary")
    _registered[vocabulary.subsystem] = vocabulary
    return vocabulary


def vocabulary(subsystem: str) -> Vocabulary:
    """The vocabulary of a subsystem: registered, from an entry point, or from a plug-in.

    Raises `UnknownSubsystemError` naming those there are, or why it cannot be loaded.
    """
    if not isinstance(subsystem, str):
        raise ObserveError(
            f'{subsystem!r}: expected the name of a subsystem, as in observe("process")'
        )
    known = _registered.get(subsystem)
    if known is not None:
        return known
    for found in _of_plugins():
        if found.subsystem == subsystem:
            return found
    for entry_point in _entry_points():
        if entry_point.name == subsystem:
            try:
                return register_vocabulary(entry_point.load())
            except Exception as error:
                raise UnknownSubsystemError(
                    f"the vocabulary of {subsystem!r} ({entry_point.value}) cannot be loaded: "
                    f"{type(error).__name__}: {error}"
                ) from error
    names = ", ".join(subsystems()) or "none (is kobs installed?)"
    raise UnknownSubsystemError(f"unknown subsystem {subsystem!r}; known are: {names}")


def subsystems() -> list[str]:
    """The names of the subsystems that have a vocabulary."""
    plugged = (found.subsystem for found in _of_plugins())
    return sorted({*_registered, *plugged, *(each.name for each in _entry_points())})


def vocabulary_of_class(cls: type) -> Vocabulary | None:
    """The vocabulary whose `classes` has the name of a class or of one of its bases."""
    for base in cls.__mro__[:-1]:
        for subsystem in subsystems():
            try:
                found = vocabulary(subsystem)
            except UnknownSubsystemError:  # one that cannot be loaded does not spoil the rest
                continue
            if any(fnmatchcase(base.__name__, pattern) for pattern in found.classes):
                return found
    return None


_registered: dict[str, Vocabulary] = {}


def _of_plugins() -> list[Vocabulary]:
    from kobs import hooks

    return [found for found in hooks.vocabularies() if isinstance(found, Vocabulary)]


def _entry_points() -> "tuple[EntryPoint, ...]":
    from kobs import hooks

    return hooks.installed(ENTRY_POINTS)


def _matches(method: str, pattern: str) -> bool:
    if method.startswith("_") and not pattern.startswith("_"):
        return False
    return fnmatchcase(method, pattern)


def _weight(pattern: str) -> int:
    """How specific a pattern is: its literal characters; one without wildcards beats all."""
    literal = sum(character not in "*?[]!" for character in pattern)
    return literal if any(character in pattern for character in "*?[") else literal + 1_000
