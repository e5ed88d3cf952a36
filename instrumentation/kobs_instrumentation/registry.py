"""Which subsystems there are, and switching all of them on and off in this process."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kobs._core import hooking
from kobs.errors import UnknownSubsystemError
from kobs_instrumentation import propagate
from kobs_instrumentation.watch import _watch

if TYPE_CHECKING:
    from kobs.collector import Collector

SUBSYSTEMS = ("process", "vfs", "queue", "scheduler", "syscall")
"""Subsystems whose standard-library parts are watched."""

SAYS = {
    "process": ("ProcessCreated", "ProcessTerminated", "ProcessStateChanged"),
    "vfs": ("FileOpened", "FileSlow", "FileChanged"),
    "queue": ("MessageSent", "MessageReceived", "QueueDepth", "IpcTimeout"),
    "scheduler": ("SchedulerLatency", "ContextSwitch", "LoopStalled"),
    "syscall": ("SyscallEnter", "SyscallExit", "SyscallSlow"),
}
"""The payload types that each watch tells."""

_CARRIERS = ("process", "queue", "scheduler")
"""Those that also carry cause on: they are installed in any case, if need be without events."""


def enable(
    collector: "Collector",
    only: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    *,
    options: dict[str, Any] | None = None,
) -> None:
    """Watch the standard library in this process; events go to `collector`.

    `only` or `exclude` choose subsystems; cause is carried across threads, queues and processes
    whatever is chosen. Where the collector belongs to a session, child processes record into it
    too, with `options` (those of `kobs run`). Raises `UnknownSubsystemError`. Enabling twice
    replaces the first.
    """
    chosen = choose(only, exclude)
    disable(collector)
    undos = [_watch.errors_go_to(lambda: collector)]
    undos += [
        _module(name).install(lambda: collector, events=name in chosen)
        for name in SUBSYSTEMS
        if name in chosen or name in _CARRIERS
    ]
    session = collector.session
    if session is not None:
        given = {"only": list(only) if only else None, "exclude": list(exclude or ())}
        children = propagate.Children(
            str(session.path), json.dumps(given | (options or {})), session.trace_high
        )
        propagate.children_record(children)
        undos.append(lambda: propagate.children_do_not_record(children))
    _enabled.append((collector, undos, chosen))


def disable(collector: "Collector | None" = None) -> None:
    """Take `enable` back: for one collector, or for all. What was not enabled is no error."""
    for entry in list(_enabled):
        if collector is None or entry[0] is collector:
            _enabled.remove(entry)
            for undo in reversed(entry[1]):
                undo()


def said() -> set[str]:
    """Names of the payload types that the watches which are on tell."""
    return {name for entry in _enabled for chosen in entry[2] for name in SAYS[chosen]}


def enabled() -> bool:
    """Something is watched in this process."""
    return bool(_enabled)


def unreachable() -> dict[str, tuple[str, ...]]:
    """What the watches cannot see with the core that runs, by subsystem."""
    without_hooks = () if hooking.native is not None else ("UNREACHABLE",)
    return {
        name: tuple(
            what
            for group in (*without_hooks, "UNSEEN")
            for what in getattr(_module(name), group, ())
        )
        for name in SUBSYSTEMS
    }


def choose(only: Iterable[str] | None, exclude: Iterable[str] | None) -> tuple[str, ...]:
    """The subsystems that `only` and `exclude` leave. Raises `UnknownSubsystemError`."""
    for name in (*(only or ()), *(exclude or ())):
        if name not in SUBSYSTEMS:
            raise UnknownSubsystemError(
                f"there is no subsystem {name!r} to watch; there are {', '.join(SUBSYSTEMS)}"
            )
    wanted = tuple(only) if only else SUBSYSTEMS
    return tuple(name for name in wanted if name not in tuple(exclude or ()))


_enabled: list[tuple["Collector", list[_watch.Undo], tuple[str, ...]]] = []


def _module(name: str) -> Any:
    from importlib import import_module

    return import_module(f"kobs_instrumentation.watch.{name}")
