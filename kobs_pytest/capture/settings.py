"""How a test is captured: options, and the marker `kobs` over them.

PYTEST_DONT_REWRITE
"""

from difflib import get_close_matches
from textwrap import wrap
from typing import Any, NamedTuple, NoReturn

import pytest

from kobs import config as configuration
from kobs.errors import ConfigError, KobsError, UnknownSubsystemError
from kobs_pytest.capture.checks import Check, checks_named
from kobs_pytest.options import flag, given

UNASKED = ("syscall", "memory")
"""Subsystems that are not watched in a test run unless they are asked for: pytest itself makes
some hundred system calls a test, and collects garbage when it likes."""

_ARGUMENTS = ("subsystems", "sampling", "size", "suppress")
_KNOWN = ", ".join(_ARGUMENTS)
_MARKER = "@pytest.mark.kobs"


class Settings(NamedTuple):
    """How a test is captured."""

    size: int
    """Events that the ring holds."""
    sampling: float
    """Percent of causal chains that are kept."""
    only: tuple[str, ...] | None
    """Subsystems that are watched; None: all but `exclude`."""
    exclude: tuple[str, ...]
    suppress: frozenset[Check]
    """Checks that it does without."""


def settings_of_run(config: pytest.Config) -> Settings:
    """What the options say: command line over environment over ini file over default.

    `KERNEL_SAMPLING_RATE` is meant for the program that is tested, not for its tests. Raises
    `pytest.UsageError`.
    """
    try:
        only, exclude = _subsystems(
            *given(config, "kobs_subsystems"),
            (None, () if flag(config, "kobs_all") else UNASKED),
        )
        return Settings(
            configuration.stream_size(*given(config, "kobs_size", "KERNEL_STREAM_SIZE")),
            configuration.sampling_rate(*given(config, "kobs_sampling")),
            only,
            exclude,
            checks_named(*given(config, "kobs_suppress")),
        )
    except KobsError as error:
        raise pytest.UsageError(str(error)) from None


def settings_of_test(item: pytest.Item, run: Settings) -> Settings:
    """The run's settings, and what the marker `kobs` of a test says otherwise: of its class or
    module what it does not say itself. Fails the test where a marker makes no sense."""
    try:
        return run._replace(**_changes(_said(item), run))
    except KobsError as error:
        wrong = str(error)
    return refuse_marker(wrong)


def _said(item: pytest.Item) -> dict[str, Any]:
    """The arguments of the markers `kobs` that a test has; the closest goes before."""
    said: dict[str, Any] = {}
    for mark in item.iter_markers("kobs"):
        if mark.args:
            raise ConfigError(f"{_MARKER}{mark.args!r}: expected {_KNOWN} by keyword")
        for name, value in mark.kwargs.items():
            if name not in _ARGUMENTS:
                close = get_close_matches(name, _ARGUMENTS, n=1)
                meant = f" (did you mean {close[0]!r}?)" if close else ""
                raise ConfigError(f"{_MARKER} takes no {name!r}{meant}; it takes {_KNOWN}")
            said.setdefault(name, value)
    return said


def _changes(said: dict[str, Any], run: Settings) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name, value in said.items():
        where = f"{_MARKER}({name}=...)"
        if name == "subsystems":
            both = _subsystems(value, where, (run.only, run.exclude))
            changed["only"], changed["exclude"] = both
        elif name == "size":
            changed["size"] = configuration.stream_size(value, where)
        elif name == "sampling":
            changed["sampling"] = configuration.sampling_rate(value, where)
        else:
            changed["suppress"] = checks_named(value, where)
    return changed


def refuse_marker(message: str) -> NoReturn:
    """Fail the test, since a marker of it makes no sense."""
    pytest.fail("\n".join(wrap(message, 78, subsequent_indent="  ")), pytrace=False)


Chosen = tuple[tuple[str, ...] | None, tuple[str, ...]]
"""(only, exclude), as `registry.enable` takes them."""


def _subsystems(value: object, where: str, default: Chosen) -> Chosen:
    """What to watch, from `vfs,process` (these alone), `+syscall,-network` (the default and these,
    or without these) or `all`. Raises `ConfigError`, `UnknownSubsystemError`."""
    if value is None:
        return default
    if isinstance(value, str):
        words = [word.strip() for word in value.replace("\n", ",").split(",")]
    elif isinstance(value, list | tuple | set | frozenset):
        words = list(value)
    else:
        words = [value]  # type: ignore[list-item]
    if not all(isinstance(word, str) and word.strip("+-") for word in words):
        raise ConfigError(
            f"{where}: expected names of subsystems, such as 'vfs,process', '-network' or "
            f"'+syscall', or 'all'; got {value!r}"
        )
    plain = [word for word in words if word[0] not in "+-"]
    if plain and len(plain) < len(words):
        raise ConfigError(
            f"{where}: {value!r} mixes names with + or - and without: 'vfs,process' means these "
            "alone, '+syscall,-network' changes what is watched anyhow"
        )
    _check_names([word.strip("+-") for word in words if word != "all"], where)
    if "all" in plain:
        return None, ()
    if plain:
        return tuple(plain), ()
    more = {word[1:] for word in words if word[0] == "+"}
    less = {word[1:] for word in words if word[0] == "-"}
    only, exclude = default
    if only is not None:
        only = (*(name for name in only if name not in less), *sorted(more - set(only)))
        return only, tuple(less)
    return None, tuple(sorted((set(exclude) - more) | less))


def _check_names(names: list[str], where: str) -> None:
    try:
        from kobs_instrumentation.subsystems import choose
    except ImportError:  # nothing is watched, and that is told
        return
    try:
        choose(names, None)
    except UnknownSubsystemError as error:
        raise UnknownSubsystemError(f"{where}: {error}") from None
