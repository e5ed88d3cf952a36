"""Patching that a program does not notice: reversible, one wrapper a function, no trace in errors.

A hook is three plain functions around a call. `before(args, kwargs)` returns a state or None (None:
nothing to do afterwards); `after(state, result)` sees the result; `failed(state, error)` the
exception. None of them changes the call, unless `before` gives a `Call` with other arguments. An
error in a hook is counted and never reaches the program.

The wrapper takes its own frame out of the traceback of an exception that passes through it, so
that an uncaught error prints as it would without kobs.
"""

import _thread
import sys
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any

Before = Callable[[tuple[Any, ...], dict[str, Any]], Any]
After = Callable[[Any, Any], None]


class Call:
    """What `before` returns to have the original called with other arguments."""

    __slots__ = ("args", "kwargs", "state")

    def __init__(self, state: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.state = state
        self.args = args
        self.kwargs = kwargs


class _Busy(_thread._local):
    """True while a thread is inside kobs: what kobs does itself is not recorded."""

    inside = False


busy = _Busy()

on_error: Callable[[str, BaseException], None] = lambda where, error: None  # noqa: E731
"""Told of an error inside a hook: where, and which. Set by the sink."""


def nothing(*_: Any) -> None:
    """A hook that does nothing."""


def around(
    original: Callable[..., Any], before: Before, after: After, failed: After, where: str
) -> Callable[..., Any]:
    """`original` with hooks around it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        state = None
        if not busy.inside:
            busy.inside = True
            try:
                state = before(args, kwargs)
                if state.__class__ is Call:
                    args, kwargs, state = state.args, state.kwargs, state.state
            except Exception as error:
                on_error(where, error)
            finally:
                busy.inside = False
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            if state is not None:
                run(failed, state, error, where)
            error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
            raise
        if state is not None:
            run(after, state, result, where)
        return result

    return call


def run(hook: After, state: Any, outcome: Any, where: str) -> None:
    """Call a hook where the program must not notice."""
    if busy.inside:
        return
    busy.inside = True
    try:
        hook(state, outcome)
    except Exception as error:
        on_error(where, error)
    finally:
        busy.inside = False


class Builtin:
    """Base of what stands in for a built-in function.

    Like one it is no descriptor (a class that keeps `open` in an attribute still can call it),
    pickles and copies by name, prints and compares as the original does.
    """

    __slots__ = ()
    original: Callable[..., Any]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def __repr__(self) -> str:
        return repr(self.original)

    def __reduce__(self) -> str:
        return self.original.__name__

    def __eq__(self, other: object) -> bool:
        return self is other or self.original is other

    def __hash__(self) -> int:
        return hash(self.original)


def builtin(
    original: Callable[..., Any],
    before: Before,
    after: After,
    failed: After,
    where: str,
    shield: bool = False,
) -> Any:
    """A stand-in for a built-in function, with hooks around its calls. With `shield` nothing
    that happens inside the call is recorded (a fork, whose hooks exchange the recording)."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = None
        if not busy.inside:
            busy.inside = True
            try:
                state = before(args, kwargs)
                if state.__class__ is Call:
                    args, kwargs, state = state.args, state.kwargs, state.state
            except Exception as error:
                on_error(where, error)
            finally:
                busy.inside = False
        shielded = shield and not busy.inside
        if shielded:
            busy.inside = True
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            if shielded:
                busy.inside = False
            if state is not None:
                run(failed, state, error, where)
            error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
            raise
        if shielded:
            busy.inside = False
        if state is not None:
            run(after, state, result, where)
        return result

    namespace = {
        "__slots__": (),
        "__call__": _unseen(__call__),
        "__class__": property(lambda self: BuiltinFunctionType),
        "__doc__": original.__doc__,
        "__module__": original.__module__,
        "original": staticmethod(original),
    }
    return type("builtin_function_or_method", (Builtin,), namespace)()


def method(original: Any, before: Before, after: After, failed: After, where: str) -> Any:
    """A stand-in for a Python function, with hooks around its calls."""
    call: Any = _unseen(around(original, before, after, failed, where))
    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(call, name, getattr(original, name, None))
    call.__wrapped__ = original
    return call


def _unseen(function: Any) -> Any:
    """The function with a file name that `warnings` passes over when it counts stack levels."""
    function.__code__ = function.__code__.replace(
        co_filename="<kobs importlib._bootstrap>", co_name=function.__name__
    )
    return function


class Site:
    """One place that is patched: the original, its stand-in, and all names of it."""

    __slots__ = ("original", "places", "stand_in", "undone")

    def __init__(self, original: Any, stand_in: Any) -> None:
        self.original = original
        self.stand_in = stand_in
        self.undone = False
        self.places: list[tuple[Any, str, bool]] = []
        """(owner, name, whether the owner had the name itself and did not inherit it)"""

    def put(self, owner: Any, name: str) -> None:
        """Have `owner.name` be the stand-in."""
        own = name in vars(owner)
        setattr(owner, name, self.stand_in)
        self.places.append((owner, name, own))

    def restore(self) -> None:
        """Have the original again wherever the stand-in still is; where someone patched over it,
        it stays below theirs and passes calls through."""
        self.undone = True
        covered = False
        for owner, name, own in reversed(self.places):
            if vars(owner).get(name) is not self.stand_in:
                covered = True
            elif own:
                setattr(owner, name, _uncovered(self.original))
            else:
                delattr(owner, name)
        self.places.clear()
        if covered:
            _covered[id(self.stand_in)] = self


_covered: dict[int, Site] = {}
"""Undone sites whose stand-in someone else's patch still refers to."""


def _uncovered(value: Any) -> Any:
    while (site := _covered.get(id(value))) is not None and site.stand_in is value:
        value = site.original
    return value


class Patcher:
    """The patches of one watch."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.sites: list[Site] = []
        self._triggers: list[tuple[str, Callable[[Any], None]]] = []

    def builtin(
        self,
        names: tuple[tuple[str, str], ...],
        before: Before,
        after: After = nothing,
        failed: After = nothing,
        *,
        shield: bool = False,
    ) -> None:
        """Patch a built-in function under each (module, name) it has; modules that are not
        imported and names that are something else are left alone."""
        site: Site | None = None
        for module_name, name in names:
            module = sys.modules.get(module_name)
            found = getattr(module, name, None)
            if found is None:
                continue
            if site is None:
                stand_in = builtin(found, before, after, failed, f"{self.where}.{name}", shield)
                site = Site(found, stand_in)
                self.sites.append(site)
            if found is site.original:
                site.put(module, name)

    def method(
        self, owner: Any, name: str, before: Before, after: After = nothing, failed: After = nothing
    ) -> None:
        """Patch a Python function: a method of a class, or a function of a module."""
        original = vars(owner).get(name)
        if not isinstance(original, FunctionType):
            return
        stand_in = method(original, before, after, failed, f"{self.where}.{name}")
        site = Site(original, stand_in)
        self.sites.append(site)
        site.put(owner, name)

    def replace(self, owner: Any, name: str, stand_in: Any) -> None:
        """Patch with a stand-in made elsewhere."""
        site = Site(vars(owner)[name], stand_in)
        self.sites.append(site)
        site.put(owner, name)

    def when_imported(self, module_name: str, callback: Callable[[Any], None]) -> None:
        """Call `callback(module)` once the module is imported: now, if it is."""
        module = sys.modules.get(module_name)
        spec = getattr(module, "__spec__", None)
        if module is not None and not getattr(spec, "_initializing", False):
            callback(module)
            return
        trigger = (module_name, callback)
        self._triggers.append(trigger)
        add_trigger(trigger)

    def undo(self) -> None:
        """Take every patch back. Twice is once."""
        for trigger in self._triggers:
            remove_trigger(trigger)
        self._triggers.clear()
        for site in reversed(self.sites):
            site.restore()
        self.sites.clear()


# -- modules that are imported later ---------------------------------------------------------
#
# A finder on `sys.meta_path` would be seen by the program, and would have to stand in for the
# loader. The import statement looks `_find_and_load` up in importlib's frozen module each time a
# module is not there yet; that is the one function to stand in for.

_triggers: dict[str, list[Callable[[Any], None]]] = {}
_importlib = sys.modules["_frozen_importlib"]
_import_site: Site | None = None


def add_trigger(trigger: tuple[str, Callable[[Any], None]]) -> None:
    """Remember what to call when a module is imported."""
    global _import_site
    _triggers.setdefault(trigger[0], []).append(trigger[1])
    if _import_site is None:
        original = vars(_importlib)["_find_and_load"]

        def _find_and_load(name: str, import_: Any) -> Any:
            try:
                module = original(name, import_)
            except BaseException as error:
                error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
                raise
            if name in _triggers:
                _imported(name, module)
            return module

        _find_and_load.__code__ = _find_and_load.__code__.replace(
            co_filename="<frozen importlib._bootstrap>"
        )
        _import_site = Site(original, _find_and_load)
        _import_site.put(_importlib, "_find_and_load")


def remove_trigger(trigger: tuple[str, Callable[[Any], None]]) -> None:
    """Forget a trigger that may have been called already."""
    global _import_site
    callbacks = _triggers.get(trigger[0], [])
    if trigger[1] in callbacks:
        callbacks.remove(trigger[1])
    if not callbacks:
        _triggers.pop(trigger[0], None)
    if not _triggers and _import_site is not None:
        _import_site.restore()
        _import_site = None


def _imported(name: str, module: Any) -> None:
    for callback in _triggers.pop(name, []):
        before = busy.inside
        busy.inside = True
        try:
            callback(module)
        except Exception as error:
            on_error(f"import of {name}", error)
        finally:
            busy.inside = before
