"""Sites: the wrapped methods of a process, and where the events of each go.

A wrapper holds its route, in a closure cell or in C: None where no collector takes its events, so
that a call then costs one test. Routes are laid anew when a collector comes or goes, not looked up
on every call. Only where an instance has a collector of its own is there a look-up a call.
"""

import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from time import monotonic_ns
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from kobs import collector as collectors, handover, inside
from kobs._core import select
from kobs.errors import ClosedError, ObserveError
from kobs.observe.emissions import Emission
from kobs.observe.generate import Words, build, words
from kobs.observe.parameters import PREFIX
from kobs.observe.targets import BY_WRAPT, GENERATOR, PLAIN, Target

if TYPE_CHECKING:
    from kobs.collector import Collector
    from kobs.schema import PayloadType

T = TypeVar("T")

Route = tuple[Any, ...]
"""(collector, channel of the first emission, of the second, ...)"""

ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "<absent>"})()
"""Stands for an attribute that the class itself did not have."""


class Site:
    """One wrapped method: what it emits, where that goes, and what it took the place of."""

    def __init__(
        self,
        original: Any,
        target: Target,
        emissions: tuple[Emission, ...],
        *,
        owner: type | None,
        collector: "Collector | None",
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.name = target.name
        self.label = target.label
        self.scope = target.scope
        self._target = target
        self._words: dict[int, Words] = {}
        self.emissions = emissions
        self.collector = collector
        self.owner = weakref.ref(owner) if owner is not None else None
        self.replaced: Any = ABSENT
        """What the class had in its own `__dict__`."""
        self.installed: Any = None
        """What it has there now."""
        self.retired = False
        self._told: set[int] = set()
        self._default_route: Route | None = None
        self._looks_up = target.looks_up and target.this is not None
        self.wrapper: Any = None
        """What stands in the original's place: a function, or one of the C core's."""
        self._wire: Callable[[Route | None, Callable[[object], Route | None] | None], None]
        if target.way != BY_WRAPT and select().name == "c":
            self._build_natively(original, owner)
        else:
            self._generate(original, extra or {})
        with _lock:
            _sites.add(self)
            self.refresh()
        inside.said.update(each.type for each in emissions if each.type in inside.SHARED)

    def _generate(self, original: Any, extra: dict[str, Any]) -> None:
        names = {"original": original, "route": None, "lookup": None, "failed": self.failed}
        names.update(extra)
        self.wrapper = build(self._target, self.emissions, names, original)
        cells = cells_of(self.wrapper)
        route, look_up = cells[PREFIX + "route"], cells.get(PREFIX + "lookup")

        def wire(to: Route | None, lookup: Callable[[object], Route | None] | None) -> None:
            if look_up is not None:
                look_up.cell_contents = lookup
            route.cell_contents = to

        self._wire = wire

    def _build_natively(self, original: Any, owner: type | None) -> None:
        from kobs.observe import native

        self.wrapper = native.build(self, original, self._target, self.emissions, owner)
        self._wire = partial(native.wire, self.wrapper)

    def refresh(self) -> None:
        """Lay the route anew: a collector came or went."""
        if self.retired:
            self._wire(None, None)
            return
        default = self._default_route = self._default()
        if _bindings and self._looks_up:
            self._wire(default or _LOOK_UP, self._of_instance)
        else:
            self._wire(default, None)

    def retire(self) -> None:
        """Emit nothing from here on, wherever the wrapper still is."""
        self.retired = True
        self.refresh()

    def words(self, index: int) -> Words:
        """What gives the fields of an emission that are known at the call."""
        made = self._words.get(index)
        if made is None:
            made = self._words[index] = words(self._target, self.emissions[index])
        return made

    def failed(self, error: Exception, index: int, collector: "Collector") -> None:
        """Something of kobs's own went wrong in a call: count it, say it once, go on."""
        try:
            if isinstance(error, ClosedError):
                refresh_all()
                return
            collector.ring.count("errors")
            if index not in self._told:
                self._told.add(index)
                import logging

                logging.getLogger("kobs").warning(
                    "%s could not be recorded for %s and was left out; this is said once, "
                    "more are counted in losses().errors",
                    self.emissions[index].name, self.label, exc_info=error,
                )  # fmt: skip
        except Exception:
            return

    def _default(self) -> Route | None:
        collector = self.collector or collectors.global_collector()
        return None if collector is None or collector.closed else self._route_to(collector)

    def _of_instance(self, instance: object) -> Route | None:
        bound = _bindings.get(id(instance))
        if bound is None or bound.instance() is not instance:
            return self._default_route
        if bound.collector.closed:
            return None
        route = bound.routes.get(self)
        if route is None:
            route = bound.routes[self] = self._route_to(bound.collector)
        return route

    def _route_to(self, collector: "Collector") -> Route:
        suspends = self._target.style not in (PLAIN, GENERATOR)
        return (collector, *(channel(each, collector, suspends) for each in self.emissions))


class Sender:
    """Channel of an emission that sends."""

    def __init__(
        self, emission: Emission, emitter: Callable[..., int], store: handover.LinkStore
    ) -> None:
        self._emitter = emitter
        self._store = store
        self._shared = emission.shared

    def send(self, key: handover.Key) -> int:
        """Announce a send; its token."""
        return self._store.send(key, shared=self._shared)

    def withdraw(self, link: int | None) -> None:
        """What was announced did not happen."""
        if link:
            self._store.withdraw(link)

    def sent(self, link: int | None, *fields: object, **more: Any) -> None:
        """Record the send event under its token."""
        event = self._emitter(*fields, link=link or 0, **more)
        if link:
            self._store.sent(link, event)


class Receiver:
    """Channel of an emission that receives."""

    def __init__(
        self, emission: Emission, emitter: Callable[..., int], store: handover.LinkStore
    ) -> None:
        self._emitter = emitter
        self._store = store
        self._shared = emission.shared
        names = emission.type.__kobs_schema__.field_names
        self._waits = "wait_time_us" in names and "wait_time_us" not in emission.fields

    def received(self, key: handover.Key, *fields: object, **more: Any) -> None:
        """Record the receive event, and continue the sender's chain."""
        self.continued(self._store.receive(key, shared=self._shared), *fields, **more)

    def continued(self, sent: handover.Sent | None, *fields: object, **more: Any) -> None:
        """Record the receive of what is known to have been sent so."""
        header = handover.header(sent)
        if sent is not None and self._waits and sent.timestamp_ns:
            header["wait_time_us"] = max(0, monotonic_ns() - sent.timestamp_ns) / 1000
        handover.adopt(sent, 0)  # the receive itself is sampled as the sender's chain is
        event = self._emitter(*fields, **{**header, **more})
        handover.adopt(sent, event)


def channel(emission: Emission, collector: "Collector", suspends: bool) -> Any:
    """What a wrapper calls to make the event. `suspends`: other tasks may run during a call."""
    emitter = collector.emitter(emission.type)
    if emission.sends is not None:
        return Sender(emission, emitter, handover.store_of(collector))
    if emission.receives is not None:
        return Receiver(emission, emitter, handover.store_of(collector))
    if inside.watched and emission.type in inside.PROCESS_ENDS:
        return inside.OfProcess(emission.type, emitter, collector, suspends=suspends)
    return emitter


def with_collector(instance: T, collector: "Collector | None") -> T:
    """Send the events of one instance to `collector`, whatever others of its class use; None
    ends that. Returns the instance.

    Nothing is written into the instance: it needs no `__dict__`. Where it cannot be referenced
    weakly either (`__slots__` without `__weakref__`), it may live a little longer than it
    would. Raises `ObserveError` if `collector` is none.
    """
    if collector is not None and not isinstance(collector, collectors.Collector):
        raise ObserveError(f"with_collector(..., {collector!r}): expected a Collector or None")
    target: Any = getattr(instance, "__wrapped__", instance) if is_proxy(instance) else instance
    with _lock:
        key = id(target)
        had_any = bool(_bindings)
        if collector is None:
            _bindings.pop(key, None)
        else:
            _bindings[key] = _Binding(target, collector, key)
            _drop_unused()
        if had_any != bool(_bindings):
            refresh_all()
    return instance


class _Binding:
    """An instance and the collector it was given."""

    __slots__ = ("collector", "instance", "routes", "strong")

    def __init__(self, instance: object, collector: "Collector", key: int) -> None:
        self.collector = collector
        self.routes: weakref.WeakKeyDictionary[Site, Route] = weakref.WeakKeyDictionary()
        self.strong = False
        try:
            reference = weakref.ref(instance, lambda dead: _forget(key, dead))
            self.instance: Callable[[], object] = reference
        except TypeError:
            # An id alone could come to mean another object: this one is kept, until it is found
            # to be held by nobody else.
            self.strong = True
            self.instance = _Strong(instance)


class _Strong:
    """A reference that keeps its object."""

    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held

    def __call__(self) -> object:
        return self.held


def _forget(key: int, dead: object) -> None:
    bound = _bindings.get(key)
    if bound is not None and bound.instance is dead:
        del _bindings[key]


def _drop_unused() -> None:
    """Let go of bound instances that only their binding holds."""
    for key, bound in list(_bindings.items()):
        if bound.strong and sys.getrefcount(bound.instance.held) <= 2:  # type: ignore[attr-defined]
            del _bindings[key]


def site_of(function: object) -> Site | None:
    """The site of a wrapper; None for any other object."""
    if type(function) is not FunctionType:
        native = sys.modules.get("kobs.observe.native")
        found: Site | None = native.site_of(function) if native is not None else None
        return found
    failed = cells_of(function).get(PREFIX + "failed")
    site = getattr(failed.cell_contents, "__self__", None) if failed is not None else None
    return site if isinstance(site, Site) else None


def is_function(value: object) -> TypeGuard[FunctionType]:
    """A plain function, or one of the C core's that stands for a function."""
    native = sys.modules.get("kobs.observe.native")
    return type(value) is FunctionType or (
        native is not None and type(value) is native.Observed and isinstance(value, FunctionType)
    )


def sites_of(cls: type) -> list[Site]:
    """The sites that were made for a class, wherever their wrappers are now."""
    with _lock:
        return [site for site in _sites if site.owner is not None and site.owner() is cls]


def emitted() -> "set[type[PayloadType]]":
    """The payload types that the observed methods of this process may emit."""
    with _lock:
        sites = list(_sites)
    return {each.type for site in sites if not site.retired for each in site.emissions}


def cells_of(function: FunctionType) -> dict[str, CellType]:
    """A function's closure by name."""
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


def is_proxy(instance: object) -> bool:
    """The object is a proxy that `observe(instance)` made."""
    return getattr(type(instance), "__kobs_proxy__", False) is True


def refresh_all(_: object = None) -> None:
    """Lay every route anew."""
    with _lock:
        for site in list(_sites):
            site.refresh()


def _watched() -> None:
    with _lock:
        for bound in _bindings.values():
            bound.routes.clear()
        refresh_all()


_lock = threading.RLock()
_sites: "weakref.WeakSet[Site]" = weakref.WeakSet()
_bindings: dict[int, _Binding] = {}
_LOOK_UP: Route = ()
"""A route that is never used: the look-up that is on as well gives another or none."""


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()


collectors.watch_global_collector(refresh_all)
inside.at_first.append(_watched)
os.register_at_fork(after_in_child=_after_fork)
