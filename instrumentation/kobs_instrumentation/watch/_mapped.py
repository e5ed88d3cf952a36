"""`mmap.mmap` objects: what is mapped, resized and unmapped. A C type: the C core sees it made."""

import sys
from time import monotonic_ns
from typing import Any

from kobs._core import select
from kobs.muted import busy
from kobs.payloads import MemoryAllocated, MemoryFreed
from kobs.schema import PayloadType
from kobs_instrumentation.watch import _patch
from kobs_instrumentation.watch._patch import Patcher
from kobs_instrumentation.watch._watch import Watch

_NAMED = 1000
"""Mappings that get a name; later ones are numbered, so that names do not fill a recording."""

_KNOWN = 65_536
"""Mappings that are remembered until they go; those beyond that are not told."""

_HELD = 1024

_TOLD_ELSEWHERE = ("kobs", "multiprocessing.shared_memory")
"""Modules whose mappings are kobs's own, or told by another watch."""


def native() -> Any:
    """The C core; None where the Python core is in use."""
    if select().name != "c":
        return None
    from kobs._core import _native

    return _native


class Mapped:
    """The mappings there are, and hooks that tell of them."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._regions: dict[int, tuple[int, str | int]] = {}
        """By identity: (bytes, what the mapping is called)."""
        self._count = 0
        self._held: list[tuple[type[PayloadType], int, str | int, int]] = []

    def made(self, mapping: Any) -> None:
        """`mmap.mmap` was called."""
        if busy.inside or len(self._regions) >= _KNOWN:
            return
        module = sys._getframe(1).f_globals.get("__name__", "")
        if module in _TOLD_ELSEWHERE or module.startswith("kobs."):
            return
        busy.inside = True
        try:
            self._count += 1
            number = self._count
            region = self._regions[id(mapping)] = (
                len(mapping),
                f"mmap-{number}" if number <= _NAMED else number,
            )
            self._watch.emit(MemoryAllocated, *region)
        except Exception as error:
            _patch.on_error("memory.mmap", error)
        finally:
            busy.inside = False

    def gone(self, identity: int) -> None:
        """A mapping's object goes, closed or not."""
        region = self._regions.pop(identity, None)
        if region is None:
            return
        if busy.inside:  # whatever of kobs it was in the middle of is not to be entered again
            if len(self._held) < _HELD:
                self._held.append((MemoryFreed, *region, monotonic_ns()))
            return
        busy.inside = True
        try:
            self._watch.emit(MemoryFreed, *region)
        except Exception as error:
            _patch.on_error("memory.mmap", error)
        finally:
            busy.inside = False

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A method that changes what is mapped is called."""
        return args[0] if id(args[0]) in self._regions else None

    def closed(self, mapping: Any, _: Any) -> None:
        """A mapping was closed."""
        region = self._regions.pop(id(mapping), None)
        if region is not None:
            self._watch.emit(MemoryFreed, *region)

    def resized(self, mapping: Any, _: Any) -> None:
        """A mapping was resized."""
        size, name = self._regions[id(mapping)]
        self._regions[id(mapping)] = now = len(mapping), name
        self._watch.emit(MemoryFreed, size, name)
        self._watch.emit(MemoryAllocated, *now)

    def tell_held(self) -> None:
        """Tell of those that went inside of kobs."""
        held, self._held = self._held, []
        for cls, size, name, when_ns in held:
            self._watch.emit(cls, size, name, timestamp_ns=when_ns)

    def patch(self, patcher: Patcher) -> None:
        """Have mappings seen, where the core can."""
        core = native()
        if core is None:
            return

        def mappings(module: Any) -> None:
            if core.watch_type(module.mmap, self.made, self.gone):
                patcher.on_undo(core.unwatch_type)
                for name in ("close", "__exit__"):
                    patcher.c_method(module.mmap, name, self.before, self.closed)
                patcher.c_method(module.mmap, "resize", self.before, self.resized)

        patcher.on_undo(self._regions.clear)
        patcher.on_undo(self.tell_held)
        patcher.when_imported("mmap", mappings)
