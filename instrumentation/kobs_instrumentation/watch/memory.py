"""Watches memory: garbage collections, how near the limits are, and what this process uses.

The C core is told of a collection by the interpreter itself; the Python core has to be one of
`gc.callbacks`, where the program can see it.

Limits are looked at before a collection, `INTERVAL_S` apart at the least, and when the watch ends:
no thread and no timer that the program could notice. A program that collects nothing for long is
not looked at meanwhile.
"""

import gc
import sys
from _thread import get_ident
from time import monotonic_ns
from typing import Any

from kobs import inside
from kobs.levels import Severity
from kobs.muted import busy
from kobs.payloads import GcPaused, MemoryAllocated, MemoryFreed, MemoryPressure, MetricUpdate
from kobs_instrumentation.watch import _patch
from kobs_instrumentation.watch._limits import Limits
from kobs_instrumentation.watch._mapped import Mapped, native
from kobs_instrumentation.watch._patch import Patcher
from kobs_instrumentation.watch._watch import GetCollector, Undo, Watch

INTERVAL_S = 1.0
"""How far apart two looks at the limits are, at the least."""

WARN_PCT, ERROR_PCT = 75.0, 90.0
"""Over these MemoryPressure is WARN, and ERROR."""

SHORT_US = 1000.0
"""Automatic collections of the young generations are told from here on; others are counted."""

TOLD_BYTES = 1 << 20
"""A change of what is used is told from here on."""

UNREACHABLE = (
    "collections without a name in gc.callbacks",
    "mmap.mmap objects",
)
"""What this watch cannot see with the Python core."""

_NO_CHAIN = {"causality_id": 0, "parent": 0, "span_id": 0}
"""Whoever runs when the collector does, or a level is looked at, did not cause it."""

_HELD = 64
"""Collections inside of kobs itself that are kept to be told later."""


# -- collections -----------------------------------------------------------------------------


class _Collections:
    """The collections, and what is looked at on their occasion."""

    def __init__(self) -> None:
        self.began_ns = 0
        self.asked: list[int] = []
        """The threads that are in `gc.collect`."""
        self.held: list[tuple[int, float, int, int]] = []
        self.short = 0
        self.short_us = 0.0
        """Automatic ones that are only counted, and how long they took together."""

    def on_gc(self, phase: str, info: dict[str, int]) -> None:
        """One of `gc.callbacks`."""
        if phase == "start":
            self.begins()
            self.began_ns = monotonic_ns()
        elif self.began_ns:
            took_us = (monotonic_ns() - self.began_ns) / 1e3
            self.ended(info["generation"], took_us, info["collected"])

    def begins(self) -> None:
        """A collection is to begin. What allocates is done now: the program can see what was
        allocated since a collection (`gc.get_count`)."""
        if busy.inside or not (self.held or monotonic_ns() >= _levels.due_ns):
            return
        busy.inside = True
        try:
            self.tell_held()
            _mapped.tell_held()
            _levels.look_if_due()
        except Exception as error:
            _patch.on_error("memory.gc", error)
        finally:
            busy.inside = False

    def ended(self, generation: int, took_us: float, collected: int) -> None:
        """A collection has ended."""
        if generation < 2 and took_us < SHORT_US and not self.asked:
            self.short += 1
            self.short_us += took_us
        elif busy.inside:  # whatever of kobs it was in the middle of is not to be entered again
            if len(self.held) < _HELD:
                self.held.append((generation, took_us, collected, monotonic_ns()))
        else:
            busy.inside = True
            try:
                self.tell(generation, took_us, collected)
            except Exception as error:
                _patch.on_error("memory.gc", error)
            finally:
                busy.inside = False

    def tell(self, generation: int, took_us: float, collected: int) -> None:
        """Tell of a collection: one that an observed call asks for is told in its chain."""
        collector = _watch.collector()
        if collector is None or collector.closed:
            return
        if GcPaused in inside.said:
            call = _watch.call_saying(GcPaused, lambda words: words.get("generation") == generation)
            if call is not None and not call.claimed:
                _watch.emit(GcPaused, generation, took_us, collected)
                call.tell()
                return
        emit = collector.emitter(GcPaused)
        emit(generation, took_us, collected, causality_id=0, parent=0, span_id=0)

    def before_collect(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """The program asks for a collection."""
        self.asked.append(get_ident())
        return self.asked[-1]

    def after_collect(self, thread: int, _: Any) -> None:
        """It was done, or failed."""
        if thread in self.asked:
            self.asked.remove(thread)

    def tell_short(self) -> None:
        """Tell how many short ones there were."""
        if self.short:
            labels = {"collections": self.short}
            _watch.emit(MetricUpdate, "gc.short_pauses_us", self.short_us, labels, **_NO_CHAIN)
            self.short, self.short_us = 0, 0.0

    def tell_held(self) -> None:
        """Tell of the collections that happened inside of kobs."""
        held, self.held = self.held, []
        for generation, took_us, collected, ended_ns in held:
            _watch.emit(
                GcPaused, generation, took_us, collected, timestamp_ns=ended_ns, **_NO_CHAIN
            )


# -- levels ----------------------------------------------------------------------------------


def severity_of(percent: float) -> Severity:
    """INFO, WARN over 75 %, ERROR over 90 %."""
    if percent > ERROR_PCT:
        return Severity.ERROR
    return Severity.WARN if percent > WARN_PCT else Severity.INFO


class _Levels:
    """What was told last of how much memory is used."""

    def __init__(self) -> None:
        self.due_ns = 1 << 63
        """When to look again."""
        self.limits: Limits | None = None
        self.level = Severity.INFO
        self.resident = 0
        self.traced = 0
        self.stalled = 0.0

    def begin(self) -> None:
        """Look from now on, but not yet: little has been used."""
        self.__init__()  # type: ignore[misc]
        self.limits = Limits()
        self.due_ns = monotonic_ns() + int(INTERVAL_S * 1e9)

    def end(self) -> None:
        """Look once more if it is time, and no longer."""
        self.look_if_due()
        self.due_ns = 1 << 63

    def look_if_due(self) -> None:
        """Look if it is time."""
        now_ns = monotonic_ns()
        if now_ns >= self.due_ns:
            self.look(now_ns)

    def look(self, now_ns: int) -> None:
        """Tell what has changed."""
        self.due_ns = now_ns + int(INTERVAL_S * 1e9)
        if self.limits is None or _watch.collector() is None:
            return
        _collections.tell_short()
        self._tell_resident(self.limits)
        self._tell_pressure(self.limits)
        self._tell_traced()

    def _tell_resident(self, limits: Limits) -> None:
        _, resident = limits.resident()
        changed = resident and abs(resident - self.resident) >= TOLD_BYTES
        # Where sampling drops it, the next look tells it: it may change no more.
        if changed and _watch.emit(MetricUpdate, "memory.resident", float(resident), **_NO_CHAIN):
            self.resident = resident

    def _tell_pressure(self, limits: Limits) -> None:
        usage = limits.usage()
        stalled = limits.stalled()
        if stalled != self.stalled:
            self.stalled = stalled
            _watch.emit(MetricUpdate, "memory.stalled", stalled, **_NO_CHAIN)
        percent = usage.percent if usage is not None else 0.0
        level = max(severity_of(percent), severity_of(stalled))
        if level != self.level and usage is not None:
            self.level = level
            fields = min(255, int(percent)), usage.available_mb
            _watch.emit(MemoryPressure, *fields, severity=level, **_NO_CHAIN)

    def _tell_traced(self) -> None:
        """What the program's own `tracemalloc` counts."""
        tracemalloc = sys.modules.get("_tracemalloc")
        if tracemalloc is None or not tracemalloc.is_tracing():
            self.traced = 0
            return
        now, _peak = tracemalloc.get_traced_memory()
        change = now - self.traced
        if abs(change) >= TOLD_BYTES:
            told = MemoryAllocated if change > 0 else MemoryFreed
            if _watch.emit(told, abs(change), "tracemalloc", **_NO_CHAIN):
                self.traced = now


# -- where -----------------------------------------------------------------------------------


def _patch_all(patcher: Patcher) -> None:
    collector = _watch.collector()
    if collector is not None and not collector.closed:
        collector.emitter(GcPaused)  # made now, not in the middle of a collection
    core = native()
    if core is not None and core.watch_gc(_collections.begins, _collections.ended):
        patcher.on_undo(core.unwatch_gc)
    else:
        gc.callbacks.append(_on_gc)
        patcher.on_undo(_forget_callback)
    asked = _collections.before_collect, _collections.after_collect, _collections.after_collect
    patcher.builtin((("gc", "collect"),), *asked)
    _mapped.patch(patcher)
    _levels.begin()
    patcher.on_undo(_levels.end)
    patcher.on_undo(_collections.tell_held)


def _forget_callback() -> None:
    for index, callback in enumerate(gc.callbacks):
        if callback is _on_gc:
            del gc.callbacks[index]
            return


_collections = _Collections()
_on_gc = _collections.on_gc
_levels = _Levels()
_watch = Watch("memory", _patch_all)
_mapped = Mapped(_watch)


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch memory; returns what takes it back."""
    return _watch.install(get_collector, events=events)
