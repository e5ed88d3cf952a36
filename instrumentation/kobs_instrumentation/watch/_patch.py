"""Patching that a program does not notice: reversible, one wrapper a function, no trace in errors.

A hook is three plain functions around a call. `before(args, kwargs)` returns a state or None (None:
nothing to do afterwards); `after(state, result)` sees the result; `failed(state, error)` the
exception. None of them changes the call, unless `before` gives a `Call` with other arguments. An
error in a hook is counted and never reaches the program. Where there is no `before` (None) only
`failed` is called, with `(args, kwargs)` as the state: a call that succeeds costs next to nothing.

With the C core a built-in function keeps its place: the hooks are called from its C entry. With the
Python core, and where there is no such entry, a stand-in takes its place.

The wrapper takes its own frame out of the traceback of an exception that passes through it, so
that an uncaught error prints as it would without kobs.
"""

import sys
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, CellType, FrameType, FunctionType
from typing import Any, NamedTuple

from kobs._core import hooking
from kobs.muted import busy as busy

Before = Callable[[tuple[Any, ...], dict[str, Any]], Any]
After = Callable[[Any, Any], None]


class Call:
    """What `before` returns to have the original called with other arguments."""

    __slots__ = ("args", "kwargs", "state")

    def __init__(self, state: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.state = state
        self.args = args
        self.kwargs = kwargs


on_error: Callable[[str, BaseException], None] = lambda where, error: None  # noqa: E731
"""Told of an error inside a hook: where, and which. Set by the sink."""


def nothing(*_: Any) -> None:
    """A hook that does nothing."""


def run(hook: After, state: Any, outcome: Any, where: str) -> None:
    """Call a hook where the program must not notice."""
    if busy.inside:
        return
    busy.inside = True
    try:
        hook(state, outcome)
    except Exception as error:
        if tell(where, error):
            raise
    finally:
        busy.inside = False


class Hooks(NamedTuple):
    """What is called around a function."""

    before: Before | None
    after: After = nothing
    failed: After = nothing
    where: str = ""
    """For messages: which watch and function."""
    shield: bool = False
    """The call is a fork: nothing that happens inside is recorded (its own hooks exchange the
    recording), and for `warnings` it comes from the caller's line."""


STAND_IN = "<kobs importlib._bootstrap>"
"""`warnings` passes over frames of a file of this name when it counts stack levels."""


def caller_of_hook() -> FrameType | None:
    """For what a hook calls: who called the hooked function; None: nobody in Python."""
    frame = sys._getframe(2).f_back
    while frame is not None and frame.f_code.co_filename == STAND_IN:  # one for each watch
        frame = frame.f_back
    return frame


def make_call(original: Callable[..., Any], hooks: Hooks, live: list[bool], skip: int) -> Any:
    """A function that calls `original` with hooks around it while `live` is not empty. The first
    `skip` arguments are its own, not the original's.

    It may be called until the very end of the process, when modules are emptied: all that it
    needs to pass a call on is in its closure.

    Its variables are deleted at its end: an exception that is kept, though nobody may see it, keeps
    the frames that called what raised it.
    """
    before, after, failed, where, shield = hooks
    if before is None:
        return _make_failing_call(original, failed, where, live, skip)
    inside, run_hook, told, changed, as_caller = busy, run, tell, Call, _call_as_caller

    def call(*args: Any, **kwargs: Any) -> Any:
        args = args[skip:]
        state = None
        watched = live and not inside.inside
        if watched:
            inside.inside = True
            try:
                state = before(args, kwargs)
                if state.__class__ is changed:
                    args, kwargs, state = state.args, state.kwargs, state.state
            except Exception as error:
                if told(where, error):
                    raise
            finally:
                inside.inside = watched and shield
        try:
            result = as_caller(original, args, kwargs) if shield else original(*args, **kwargs)
        except BaseException as error:
            if watched:
                inside.inside = False
                if state is not None:
                    run_hook(failed, state, error, where)
            trace = error.__traceback__.tb_next  # type: ignore[union-attr]
            error.__traceback__ = trace.tb_next.tb_next if shield and trace else trace  # type: ignore[union-attr]
            del args, kwargs, state, trace
            raise
        if watched:
            if shield:
                inside.inside = False
            if state is not None:
                run_hook(after, state, result, where)
        del args, kwargs, state
        return result

    return _unseen(call, original.__name__)


def _make_failing_call(
    original: Callable[..., Any], failed: After, where: str, live: list[bool], skip: int
) -> Any:
    """As `make_call`, for a hook that sees exceptions only."""
    inside, run_hook = busy, run

    def call(*args: Any, **kwargs: Any) -> Any:
        args = args[skip:]
        try:
            return original(*args, **kwargs)
        except BaseException as error:
            if live and not inside.inside:
                run_hook(failed, (args, kwargs), error, where)
            error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
            raise
        finally:
            del args, kwargs

    return _unseen(call, original.__name__)


def _unseen(call: Any, name: str) -> Any:
    call.__code__ = call.__code__.replace(co_filename=STAND_IN, co_name=name)
    return call


_JUST_CALL = (lambda original, args, kwargs: original(*args, **kwargs)).__code__


def _call_as_caller(
    original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a built-in function from a frame that looks like the one that called its stand-in.
    A fork warns of other threads, and who forks decides whether and where that is shown."""
    frame = sys._getframe(2)
    code = _JUST_CALL.replace(
        co_filename=frame.f_code.co_filename,
        co_firstlineno=frame.f_lineno or frame.f_code.co_firstlineno,
        co_name=frame.f_code.co_name,
    )
    return FunctionType(code, frame.f_globals)(original, args, kwargs)


_VARARGS = 0x04
"""`inspect.CO_VARARGS`, without `inspect`."""


def tell(where: str, error: BaseException) -> bool:
    """Tell an error inside a hook. True where it is none of ours, and is to go on: a signal handler
    of the program's ran there, and raised it."""
    # The frame that caught the error is left alone: before Python 3.13 what is read of a frame's
    # variables stays with it, the error is one, and it holds the frame and the call's arguments.
    caught_in = sys._getframe(1)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame is not caught_in and _handles_a_signal(trace.tb_frame):
            error.__traceback__ = trace
            return True
        trace = trace.tb_next
    on_error(where, error)
    return False


def _handles_a_signal(frame: FrameType) -> bool:
    """A handler is given the frame that it interrupts, which is what calls it."""
    caller, code = frame.f_back, frame.f_code
    if caller is None:
        return False
    values, more = frame.f_locals, bool(code.co_flags & _VARARGS)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + more]
    for name in names:
        value = values.get(name)
        if value is caller:
            return True
        if more and name == names[-1] and type(value) is tuple:
            return any(each is caller for each in value)
    return False


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


def builtin(original: Callable[..., Any], hooks: Hooks, live: list[bool]) -> Any:
    """A stand-in for a built-in function, with hooks around its calls."""
    namespace = {
        "__slots__": (),
        "__call__": make_call(original, hooks, live, 1),
        "__class__": property(lambda self: BuiltinFunctionType),
        "__doc__": original.__doc__,
        "__module__": property(lambda self: original.__module__),
        "original": staticmethod(original),
    }
    return type("builtin_function_or_method", (Builtin,), namespace)()


def method(original: Any, hooks: Hooks, live: list[bool]) -> Any:
    """A stand-in for a Python function, with hooks around its calls. With the C core it adds no
    frame, and tracers see nothing of the hooks."""
    if hooking.native is not None:
        return hooking.native.FunctionHook(original=original, hook=_native_hook(hooks), live=live)
    call = make_call(original, hooks, live, 0)
    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(call, name, getattr(original, name, None))
    call.__wrapped__ = original
    return call


def _native_hook(hooks: Hooks, traffic: int = -1, among: dict[int, Any] | None = None) -> Any:
    before, after, failed, where, shield = hooks
    return hooking.native.Hook(
        before=before, after=after, failed=failed, where=where, shield=shield, changed=Call,
        tell=tell, traffic=traffic, among=among,
    )  # fmt: skip


class Site:
    """One place that is patched: the original, its stand-in, and all names of it."""

    __slots__ = ("live", "original", "own", "places", "stand_in")

    def __init__(self, original: Any, stand_in: Any, live: list[bool]) -> None:
        self.original = original
        self.stand_in = stand_in
        self.live = live
        """Emptied when the site is undone: what still calls the stand-in is passed through."""
        self.own = True
        """The original was the owner's and not inherited."""
        self.places: list[tuple[Any, str, bool]] = []
        """(owner, name, whether the owner had the name itself and did not inherit it)"""

    def put(self, owner: Any, name: str) -> None:
        """Have `owner.name` be the stand-in."""
        self.own = name in vars(owner)
        setattr(owner, name, self.stand_in)
        self.places.append((owner, name, self.own))

    def taken_away(self) -> list[str]:
        """The names that lead to the stand-in no longer: another undid it, or put something in its
        place that does not call it. Where it is below a wrapper of another's it still is there."""
        return [
            f"{_name_of(owner)}.{name}" if isinstance(owner, type) else f"{owner.__name__}.{name}"
            for owner, name, _ in self.places
            if not _leads_to(vars(owner).get(name), self.stand_in)
        ]

    def restore(self) -> None:
        """Have the original again wherever the stand-in still is; where someone patched over it,
        it stays below theirs and passes calls through."""
        self.live.clear()
        covered = False
        for owner, name, own in reversed(self.places):
            if vars(owner).get(name) is not self.stand_in:
                covered = True
                continue
            value, was_own = _uncovered(self.original, own)
            if was_own:
                setattr(owner, name, value)
            else:
                delattr(owner, name)
        self.places.clear()
        if covered:
            _covered[id(self.stand_in)] = self


class Hooked:
    """A built-in function or method of a C type whose C entry is hooked. It stays as it is."""

    __slots__ = ("_hook",)

    def __init__(self, hook: Any) -> None:
        self._hook = hook

    @classmethod
    def of(
        cls,
        function: Any,
        hooks: Hooks,
        traffic: int = -1,
        among: dict[int, Any] | None = None,
    ) -> "Hooked | None":
        """Hook a function; None where that cannot be done."""
        if hooking.native is None:
            return None
        hook = _native_hook(hooks, traffic, among)
        return cls(hook) if hook.put(function) else None

    def restore(self) -> None:
        """Have the original entry again; where someone lies over ours, it passes calls through."""
        self._hook.remove()


_NOT_THEIRS = sys.stdlib_module_names | {"kobs", "kobs_instrumentation", "kobs_pytest"}
"""Packages that are no program's own."""


def _name_of(thing: Any) -> str:
    module = getattr(thing, "__module__", "builtins")
    name: str = getattr(thing, "__qualname__", None) or thing.__name__
    return name if module == "builtins" else f"{module}.{name}"


_LOOKED_AT = 200


def _leads_to(value: Any, wanted: Any) -> bool:
    """A wrapper calls `wanted`, as far as can be seen: by what it says that it wraps, by what it
    closes over, by the names that it uses. No `__getattr__` of the program's is asked."""
    waiting: list[Any] = [value]
    seen: set[int] = set()
    while waiting and len(seen) < _LOOKED_AT:
        one = waiting.pop()
        if one is wanted:
            return True
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        for name in ("__wrapped__", "__func__", "func", "original"):  # the last one is ours
            try:
                waiting.append(object.__getattribute__(one, name))
            except Exception:  # there is none
                continue
        if isinstance(one, FunctionType):
            known = (one.__globals__.get(name) for name in one.__code__.co_names)
            cells = map(_content, one.__closure__ or ())
            waiting += [each for each in (*cells, *known) if callable(each)]
    return False


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


_covered: dict[int, Site] = {}
"""Undone sites whose stand-in someone else's patch still refers to."""


def _uncovered(value: Any, own: bool) -> tuple[Any, bool]:
    """What to restore instead of `value`, and whether it is the owner's own."""
    while (site := _covered.get(id(value))) is not None and site.stand_in is value:
        value, own = site.original, site.own
    return value, own


class Patcher:
    """The patches of one watch. `missed` is told what cannot be patched."""

    def __init__(self, where: str, missed: Callable[[str], None] = nothing) -> None:
        self.where = where
        self.missed = missed
        self.sites: list[Site | Hooked] = []
        self._triggers: list[tuple[str, Callable[[Any], None]]] = []
        self._undos: list[Callable[[], None]] = []

    def builtin(
        self,
        names: tuple[tuple[str, str], ...],
        before: Before | None,
        after: After = nothing,
        failed: After = nothing,
        *,
        shield: bool = False,
        among: dict[int, Any] | None = None,
    ) -> None:
        """Hook a built-in function, or patch it under each (module, name) it has; modules that
        are not imported and names that are something else are left alone. `among`: what `before`
        looks for its first argument in, a descriptor: with the C core it is asked of these only."""
        site: Site | None = None
        for module_name, name in names:
            module = sys.modules.get(module_name)
            found = getattr(module, name, None)
            if found is None:
                continue
            if site is None:
                hooks = Hooks(before, after, failed, f"{self.where}.{name}", shield)
                hooked = Hooked.of(found, hooks, among=among)
                if hooked is not None:
                    self.sites.append(hooked)
                    return
                live = [True]
                site = Site(found, builtin(found, hooks, live), live)
                self.sites.append(site)
            if found is site.original:
                site.put(module, name)

    def c_method(
        self,
        owner: type,
        name: str,
        before: Before | None,
        after: After = nothing,
        failed: After = nothing,
        *,
        traffic: int = -1,
        among: dict[int, Any] | None = None,
    ) -> bool:
        """Hook a method of a C type, for instances of its subclasses too. The first of the hooks'
        `args` is the object. `traffic` (0: sent, 1: received) has the C core count the bytes that a
        method of a socket moves, by descriptor, where there is no `before`. While `among` is empty
        `before` is not asked. False where that cannot be done, as with the Python core."""
        hooks = Hooks(before, after, failed, f"{self.where}.{owner.__name__}.{name}")
        hooked = Hooked.of(vars(owner).get(name), hooks, traffic, among)
        if hooked is None:
            return False
        self.sites.append(hooked)
        return True

    def hook(self, function: Any, hook: Any) -> bool:
        """Have a function or method of a C type call a hook of the C core's. False where that
        cannot be done."""
        done: bool = hook.put(function)
        if done:
            self.sites.append(Hooked(hook))
        return done

    def method(
        self,
        owner: Any,
        name: str,
        before: Before | None,
        after: After = nothing,
        failed: After = nothing,
    ) -> None:
        """Patch a Python function: a method of a class, or a function of a module."""

        def make(original: Any, live: list[bool]) -> Any:
            hooks = Hooks(before, after, failed, f"{self.where}.{name}")
            return method(original, hooks, live)

        self.stand_in(owner, name, make)

    def stand_in(
        self, owner: Any, name: str, make: Callable[[FunctionType, list[bool]], Any]
    ) -> None:
        """Put what `make(original, live)` gives in the place of a Python function; it passes calls
        through while `live` is empty."""
        found = vars(owner).get(name)
        original = found.__func__ if isinstance(found, classmethod) else found
        if not isinstance(original, FunctionType):
            if found is not None:
                self.missed(
                    f"{self.where}: {_name_of(owner)}.{name} is not seen: another put a "
                    f"{_name_of(type(found))} in its place before kobs came"
                )
            return
        live = [True]
        made = make(original, live)
        if isinstance(found, classmethod):
            made = classmethod(made)
        self._put(Site(found, made, live), owner, name)

    def step(
        self,
        owner: type,
        name: str,
        before: Before,
        after: After,
        *,
        tasks: dict[int, int],
        c_tasks: type | None,
        stall_ms: float,
        tell: Callable[[str, BaseException], bool],
    ) -> Any:
        """Patch the method of a class that runs a step of an event loop. With the C core `after`
        is called only where a step took that long or ended one of `tasks` (most are of the type
        `c_tasks`); what is told besides has to be aimed: the `StepHook`, else None."""
        original = vars(owner).get(name)
        if hooking.native is None or not isinstance(original, FunctionType):
            self.method(owner, name, before, after)
            return None
        live = [True]
        stand_in = hooking.native.StepHook(
            original=original, after=after, tasks=tasks, stall_ms=stall_ms, live=live,
            where=f"{self.where}.{name}", tell=tell, handles=owner, c_tasks=c_tasks,
        )  # fmt: skip
        self._put(Site(original, stand_in, live), owner, name)
        return stand_in

    def wake(self, owner: type, name: str, before: Before, after: After) -> None:
        """Patch the method of a class that makes a step of an event loop ready to run. With the C
        core the hooks of `step` know of it by themselves, and these are not called."""
        original = vars(owner).get(name)
        if hooking.native is None or not isinstance(original, FunctionType):
            self.method(owner, name, before, after)
            return
        live = [True]
        stand_in = hooking.native.WakeHook(original=original, live=live)
        self._put(Site(original, stand_in, live), owner, name)

    def _put(self, site: Site, owner: Any, name: str) -> None:
        self.sites.append(site)
        site.put(owner, name)

    def inherited(
        self,
        owner: type,
        name: str,
        before: Before | None,
        after: After = nothing,
        failed: After = nothing,
    ) -> None:
        """Give a Python class a stand-in for a method that it inherits from a C type."""
        original = getattr(owner, name, None)
        if original is None:
            return
        live = [True]
        hooks = Hooks(before, after, failed, f"{self.where}.{name}")
        site = Site(original, method(original, hooks, live), live)
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

    def on_undo(self, function: Callable[[], None]) -> None:
        """Have `function()` take back what is no patch of a function."""
        self._undos.append(function)

    def taken_away(self) -> list[str]:
        """What another took our patches of away: by those names nothing is seen any more."""
        return [name for site in self.sites if isinstance(site, Site) for name in site.taken_away()]

    def undo(self) -> None:
        """Take every patch back. Twice is once, and an error on the way keeps none in place."""
        try:
            for name in self.taken_away():
                self.missed(
                    f"{self.where}: {name} was not seen to the end: another took away what kobs "
                    "had put in its place"
                )
        except Exception as error:
            on_error(f"{self.where}: taking back", error)
        while self._undos:
            try:
                self._undos.pop()()
            except Exception as error:
                on_error(f"{self.where}: taking back", error)
        for trigger in self._triggers:
            remove_trigger(trigger)
        self._triggers.clear()
        for site in reversed(self.sites):
            site.restore()
        self.sites.clear()


def bound_early(patchers: Iterable[Patcher]) -> dict[Patcher, list[str]]:
    """By patcher, names in modules, outside of the standard library, of functions that a stand-in
    took the place of: what is called by them is not seen. One pass over all modules."""
    originals = {
        id(site.original): (patcher, site)
        for patcher in patchers
        for site in patcher.sites
        if isinstance(site, Site) and isinstance(site.stand_in, Builtin)
    }
    found: dict[Patcher, list[str]] = {}
    for module_name, module in list(sys.modules.items()):
        names = getattr(module, "__dict__", None)
        if type(names) is not dict or module_name.partition(".")[0] in _NOT_THEIRS:
            continue
        for name, value in list(names.items()):
            if id(value) in originals:
                patcher, site = originals[id(value)]
                if value is site.original:
                    found.setdefault(patcher, []).append(f"{module_name}.{name}")
    return found


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
        _import_site = Site(original, _import_stand_in(original), [True])
        _import_site.put(_importlib, "_find_and_load")


def _import_stand_in(original: Any) -> Any:
    if hooking.native is not None:
        return hooking.native.ImportHook(original=original, triggers=_triggers, imported=_imported)

    triggers, imported = _triggers, _imported

    def _find_and_load(name: str, import_: Any) -> Any:
        try:
            module = original(name, import_)
        except BaseException as error:
            error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
            raise
        if name in triggers:
            imported(name, module)
        return module

    code = _find_and_load.__code__.replace(
        co_filename=original.__code__.co_filename, co_firstlineno=original.__code__.co_firstlineno
    )
    # To a debugger that leaves importlib out this is a part of it.
    return FunctionType(code, vars(_importlib), code.co_name, None, _find_and_load.__closure__)


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
