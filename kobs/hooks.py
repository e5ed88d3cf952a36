"""What others add to kobs, as pluggy hooks: vocabularies, watches, payload types, detectors,
exporters, commands.

A plug-in is a module or object with functions marked by `hook`, named by an entry point of the
group `kobs` or given to `register`:

    from kobs.hooks import hook

    @hook
    def kobs_vocabularies():
        return [Vocabulary("cache", rules=(...))]

pluggy is imported when hooks are first called, and only where there is a plug-in.
"""

import os
import sys
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from kobs.observe import Vocabulary
    from kobs.schema import PayloadType

ENTRY_POINTS = "kobs"
"""Group of entry points that name plug-ins."""

F = TypeVar("F", bound=Callable[..., Any])


def hook(function: F) -> F:
    """Mark a plug-in's function as the implementation of the hook of its name."""
    function.kobs_impl = {  # type: ignore[attr-defined]  # what pluggy.HookimplMarker leaves
        "wrapper": False,
        "hookwrapper": False,
        "optionalhook": False,
        "tryfirst": False,
        "trylast": False,
        "specname": None,
    }
    return function


class Specifications:
    """The hooks there are. An implementation may take fewer arguments."""

    def kobs_vocabularies(self) -> "Iterable[Vocabulary]":
        """Vocabularies of further subsystems, for `observe`."""
        return ()

    def kobs_payload_types(self) -> "Iterable[type[PayloadType]]":
        """Payload types that shall be known where recordings are read, declared by
        `kobs.event_type`."""
        return ()

    def kobs_watches(self) -> dict[str, Any]:
        """Watches of further subsystems by name: modules or objects with
        `install(get_collector) -> undo`, as `kobs_instrumentation.watch.Watch` has it."""
        return {}

    def kobs_detectors(self) -> dict[str, Callable[..., Any]]:
        """Methods of anomaly detection by name, for `Detector(method=...)`."""
        return {}

    def kobs_exporters(self) -> dict[str, Callable[..., Any]]:
        """Formats of `kobs export --to` by name: `function(recording, path, options)`."""
        return {}

    def kobs_commands(self, subparsers: Any) -> None:
        """Add sub-commands of `kobs` to an `argparse` object of sub-parsers; each sets the
        default `run`, a function of the parsed arguments that returns the exit code."""


def register(plugin: object, *, name: str | None = None) -> None:
    """Add a plug-in. One that is there already is left alone."""
    if plugin not in _given:
        _given.append(plugin)
        if _manager is not None:
            _manager.register(plugin, name)


def unregister(plugin: object) -> None:
    """Take a plug-in out again; one that is not there is ignored."""
    if plugin in _given:
        _given.remove(plugin)
        if _manager is not None and _manager.is_registered(plugin):
            _manager.unregister(plugin)


def vocabularies() -> "list[Vocabulary]":
    """The vocabularies of all plug-ins."""
    return [each for found in _call("kobs_vocabularies") for each in found]


def payload_types() -> "list[type[PayloadType]]":
    """The payload types of all plug-ins."""
    return [each for found in _call("kobs_payload_types") for each in found]


def watches() -> dict[str, Any]:
    """The watches of all plug-ins."""
    try:
        return {name: made for found in _call("kobs_watches") for name, made in found.items()}
    except Exception as error:  # asked in every program that is recorded
        _tell(f"watches of plug-ins are left out: {type(error).__name__}: {error}")
        return {}


def detectors() -> dict[str, Callable[..., Any]]:
    """The detection methods of all plug-ins."""
    return {name: made for found in _call("kobs_detectors") for name, made in found.items()}


def exporters() -> dict[str, Callable[..., Any]]:
    """The export formats of all plug-ins."""
    return {name: made for found in _call("kobs_exporters") for name, made in found.items()}


def add_commands(subparsers: Any) -> None:
    """Let all plug-ins add their sub-commands."""
    _call("kobs_commands", subparsers=subparsers)


_given: list[object] = []
_manager: Any = None


def installed(group: str) -> "tuple[EntryPoint, ...]":
    """The entry points of a group. Read once for a `sys.path`: that opens a file of every
    distribution."""
    return _installed(group, tuple(sys.path))


@cache
def _installed(group: str, path: tuple[str, ...]) -> "tuple[EntryPoint, ...]":
    if "kobs_instrumentation.watch" not in sys.modules:  # nothing can be watched yet
        return _read(group, path)
    from kobs.muted import muted

    with muted():
        return _read(group, path)


def _read(group: str, path: tuple[str, ...]) -> "tuple[EntryPoint, ...]":
    named = _named(path)
    if named is not None and f"[{group}]".encode() not in named:
        return ()
    from importlib.metadata import entry_points

    return tuple(entry_points(group=group))


@cache
def _named(path: tuple[str, ...]) -> bytes | None:
    """What the distributions' files of entry points say; None where others may be installed.
    `importlib.metadata` knows for certain; to import it takes as long as to start Python."""
    if any(hasattr(finder, "find_distributions") for finder in sys.meta_path
           if getattr(finder, "__module__", "") != "_frozen_importlib_external"):  # fmt: skip
        return None
    said = []
    for folder in path:
        try:
            names = os.listdir(folder or ".")
        except NotADirectoryError:  # an archive may hold distributions too
            return None
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info", ".egg")):
                if name.endswith(".egg"):
                    return None
                try:
                    with open(os.path.join(folder, name, "entry_points.txt"), "rb") as file:
                        text = file.read()
                    if b"[kobs" in text:
                        said.append(text)
                except OSError:
                    pass
    return b"\n".join(said)


def _tell(text: str) -> None:
    """A warning; in a program that `kobs run` watches the session gets it."""
    from kobs._core import notices

    if notices.listener is not None:
        notices.listener(text)
        return
    import logging

    logging.getLogger("kobs").warning("%s", text)


def _call(name: str, **arguments: Any) -> list[Any]:
    manager = _plugins()
    return [] if manager is None else list(getattr(manager.hook, name)(**arguments))


def _plugins() -> Any:
    """The plugin manager; None, and pluggy not imported, where there is no plug-in."""
    global _manager
    if _manager is not None:
        return _manager
    named = installed(ENTRY_POINTS)
    if not named and not _given:
        return None
    import pluggy

    manager = pluggy.PluginManager("kobs")
    specification = pluggy.HookspecMarker("kobs")
    for name in [name for name in vars(Specifications) if name.startswith("kobs_")]:
        specification(getattr(Specifications, name))
    manager.add_hookspecs(Specifications)
    for entry_point in named:
        try:
            manager.register(entry_point.load(), entry_point.name)
        except Exception as error:  # one bad plug-in does not spoil the rest
            _tell(
                f"the plug-in {entry_point.name!r} ({entry_point.value}) could not be loaded and "
                f"is left out: {error}"
            )
    for plugin in _given:
        manager.register(plugin)
    _manager = manager
    return manager
