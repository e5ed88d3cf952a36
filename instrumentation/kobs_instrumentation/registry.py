"""Switching the watches of all subsystems on and off in this process."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kobs._core import hooking
from kobs_instrumentation import others, propagate
from kobs_instrumentation.subsystems import SAYS, SUBSYSTEMS as SUBSYSTEMS, WATCHED, choose
from kobs_instrumentation.watch import _late_context, _watch

if TYPE_CHECKING:
    from kobs.collector import Collector

_CARRIERS = ("process", "queue", "scheduler", "shm", "pipe", "grpc")
"""Those that also carry cause on: they are installed in any case, if need be without events."""


def enable(
    collector: "Collector",
    only: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    *,
    options: dict[str, Any] | None = None,
    watches: Mapping[str, str] | None = None,
) -> None:
    """Watch the standard library in this process; events go to `collector`.

    `only` or `exclude` choose subsystems; cause is carried across threads, queues and processes
    whatever is chosen. Where the collector belongs to a session, child processes record into it
    too, with `options` (those of `kobs run`). Raises `UnknownSubsystemError`. Enabling twice
    replaces the first. `watches` of other packages are found by themselves, unless they are
    given. One that cannot be installed is left out, counted as an error and told.
    """
    found = others.find(WATCHED) if watches is None else others.told(watches)
    wanted = choose(only, exclude, found)
    disable(collector)
    get = _watch.Always(collector)
    undos = [_watch.errors_go_to(get), _late_context.install()]
    says: dict[str, tuple[str, ...]] = {}
    installed = []
    for name in (*WATCHED, *found):
        if name not in wanted and name not in _CARRIERS:
            continue
        try:
            module = found[name].load() if name in found else _module(name)
            undos.append(_installed(module, name in wanted, get))
            if name in wanted:
                if name not in found:
                    installed.append(module)
                says[name] = _says(name, module)
        except (Exception, SystemExit) as error:
            _watch.tell_error(f"installing the watch of {name}", error)
    session = collector.session
    if session is not None:
        _watch.note_early(module._watch for module in installed)
        given = {
            "only": list(only) if only else None, "exclude": list(exclude or ()),
            "watches": others.passed_on(found),
        }  # fmt: skip
        children = propagate.Children(
            str(session.path), json.dumps(given | (options or {})), session.trace_high
        )
        propagate.children_record(children)
        undos.append(lambda: propagate.children_do_not_record(children))
    _enabled.append((collector, undos, says))


def disable(collector: "Collector | None" = None) -> None:
    """Take `enable` back: for one collector, or for all. What was not enabled is no error."""
    for entry in list(_enabled):
        if collector is None or entry[0] is collector:
            _enabled.remove(entry)
            for undo in reversed(entry[1]):
                try:
                    undo()
                except Exception as error:
                    _watch.tell_error("taking a watch back", error)


def said() -> set[str]:
    """Names of the payload types that the watches which are on tell; not those of a watch that
    another package took a patch of away."""
    blind = taken_away()
    return {
        type_name
        for _, _, says in _enabled
        for name, types in says.items()
        if name not in blind
        for type_name in types
    }


def taken_away() -> dict[str, list[str]]:
    """By subsystem, the functions and methods that are not seen any more, since another package
    undid what kobs had put in their place."""
    names = dict.fromkeys(name for _, _, says in _enabled for name in says if name in WATCHED)
    found = {name: _module(name)._watch.taken_away() for name in names}
    return {name: away for name, away in found.items() if away}


def enabled() -> bool:
    """Something is watched in this process."""
    return bool(_enabled)


def unreachable() -> dict[str, tuple[str, ...]]:
    """What the watches cannot see with the core that runs and the packages that are installed,
    by subsystem."""
    return {name: _unseen(_module(name)) for name in WATCHED}


class Subsystem(NamedTuple):
    """What `kobs doctor` says of one."""

    says: tuple[str, ...]
    """Payload types."""
    package: str
    """Where its watch comes from."""
    unseen: tuple[str, ...]
    """What it cannot see with the core that runs."""
    problem: str
    """Why it cannot be watched here; empty where it can."""


def survey() -> dict[str, Subsystem]:
    """Every subsystem there is, each tried out for a moment."""
    found = others.find(WATCHED)
    made = {}
    for name in (*WATCHED, *found):
        package = found[name].where or "a plug-in" if name in found else "kobs"
        says: tuple[str, ...] = ()
        unseen: tuple[str, ...] = ()
        problem = ""
        try:
            module = found[name].load() if name in found else _module(name)
            says, unseen = _says(name, module), _unseen(module)
            _installed(module, True, lambda: None)()
        except (Exception, SystemExit) as error:
            problem = f"{type(error).__name__}: {error}"
        made[name] = Subsystem(says, package, unseen, problem)
    return made


def _installed(module: Any, events: bool, get: _watch.GetCollector) -> _watch.Undo:
    """Put a watch in place; what takes it back."""
    undo: _watch.Undo = module.install(get, events=events)
    return undo


def _says(name: str, module: Any) -> tuple[str, ...]:
    return SAYS.get(name) or tuple(getattr(module, "SAYS", ()))


def _unseen(module: Any) -> tuple[str, ...]:
    from importlib.util import find_spec

    without_hooks = () if hooking.native is not None else ("UNREACHABLE",)
    groups = (*without_hooks, "UNSEEN")
    replaced = getattr(module, "REPLACED_BY", {}).items()
    return (
        *(what for group in groups for what in getattr(module, group, ())),
        *(what for package, what in replaced if find_spec(package) is not None),
    )


_enabled: list[tuple["Collector", list[_watch.Undo], dict[str, tuple[str, ...]]]] = []


def _module(name: str) -> Any:
    from importlib import import_module

    return import_module(f"kobs_instrumentation.watch.{name}")
