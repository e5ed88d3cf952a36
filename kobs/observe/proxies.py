"""What wrapt does for kobs: proxies of single objects, and wrappers of callables that are no
plain functions. Importing wrapt takes 65 ms, so this module is imported on first use only.
"""

import copy
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar

import wrapt

from kobs.errors import ObserveError
from kobs.observe.sites import Site, is_function, is_proxy, with_collector
from kobs.observe.targets import c_method_target, target_of
from kobs.observe.vocabulary import Vocabulary

if TYPE_CHECKING:
    from kobs.collector import Collector

T = TypeVar("T")

_Base: Any = getattr(wrapt, "BaseObjectProxy", wrapt.ObjectProxy)
_Wrapper: Any = wrapt.FunctionWrapper
_BoundWrapper: Any = wrapt.BoundFunctionWrapper


class ObservedProxy(_Base):  # type: ignore[misc]
    """Stands for one object; its observed methods emit, all else is the object's own.

    It pickles as the object (whoever unpickles it needs no kobs) and copies to a proxy of a
    copy. What the object calls on itself is not seen.
    """

    __kobs_proxy__ = True

    def __init__(
        self, wrapped: Any, sites: "dict[str, Site]", again: "Callable[[Any], Any]"
    ) -> None:
        super().__init__(wrapped)
        self._self_sites = sites
        self._self_again = again

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__wrapped__, name)
        site = self._self_sites.get(name)
        return value if site is None else observed_method(self.__wrapped__, value, site)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__reduce_ex__(protocol)

    def __reduce__(self) -> Any:
        return self.__wrapped__.__reduce__()

    def __copy__(self) -> Any:
        return self._self_again(copy.copy(self.__wrapped__))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._self_again(copy.deepcopy(self.__wrapped__, memo))


def observed_method(instance: Any, value: Any, site: Site) -> Any:
    """The bound method that emits; `value` itself where the object has something else there."""
    if isinstance(value, MethodType) and value.__func__ is site.replaced:
        return MethodType(site.wrapper, value.__self__)
    if getattr(value, "__self__", None) is instance and getattr(value, "__name__", "") == site.name:
        return MethodType(site.wrapper, instance)  # a method of a type written in C
    if value is site.replaced:
        return site.wrapper  # a static method
    return value


def proxy(
    instance: T,
    words: Vocabulary | None,
    collector: "Collector | None",
    methods: Any,
) -> T:
    """A proxy of `instance` whose methods emit. Raises `ObserveError` where none would."""
    from kobs.observe.wrapping import nothing_to_observe, wanted

    if is_proxy(instance):
        return instance if collector is None else with_collector(instance, collector)
    cls = type(instance)
    sites: dict[str, Site] = {}
    for name, value, wish in wanted(cls, words, methods):
        if isinstance(value, property):
            continue
        static = isinstance(value, staticmethod)
        function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        if is_function(function):
            target = target_of(
                function, owner=cls.__name__, name=name, bound=not static, scope=wish.scope
            )
        else:
            target = c_method_target(cls, name, function, wish.scope)
        site = sites[name] = Site(function, target, wish.emissions, owner=None, collector=collector)
        site.replaced = function
    if not sites:
        raise ObserveError(nothing_to_observe(cls, words))
    again = partial(proxy, words=words, collector=collector, methods=methods)
    made: T = _proxy_class(cls, sites)(instance, sites, again)
    return made


def release(made: Any) -> Any:
    """The object of a proxy; the proxy goes on working and emits nothing."""
    for site in made._self_sites.values():
        site.retire()
    return made.__wrapped__


_FORWARDED: dict[str, Callable[..., Any]] = {
    "__iter__": lambda self: iter(self.__wrapped__),
    "__next__": lambda self: next(self.__wrapped__),
    "__aiter__": lambda self: aiter(self.__wrapped__),
    "__anext__": lambda self: anext(self.__wrapped__),
    "__await__": lambda self: self.__wrapped__.__await__(),
    "__call__": lambda self, /, *args, **kwargs: self.__wrapped__(*args, **kwargs),
}


def _proxy_class(cls: type, sites: dict[str, Site]) -> type[ObservedProxy]:
    """A proxy class with the special methods that `cls` has; the interpreter looks for those on
    the type."""
    own = {name for base in cls.__mro__ for name in vars(base)}
    namespace: dict[str, Any] = {
        name: forward for name, forward in _FORWARDED.items() if name in own
    }
    for name in sites:
        if name.startswith("__") and name.endswith("__"):
            namespace[name] = _special(name)
    for name in ("__enter__", "__aenter__"):
        if name in own:
            namespace[name] = _entering(name, namespace.get(name))
    namespace["__module__"] = cls.__module__
    return type(cls.__name__, (ObservedProxy,), namespace)


def _special(name: str) -> Callable[..., Any]:
    def special(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return ObservedProxy.__getattr__(self, name)(*args, **kwargs)

    return special


def _entering(name: str, inner: Callable[..., Any] | None) -> Callable[..., Any]:
    """`with observe(obj) as entered:` gives the proxy where `obj` would give itself."""
    enter = inner or (lambda self: getattr(self.__wrapped__, name)())

    if name == "__enter__":

        def entering(self: Any) -> Any:
            entered = enter(self)
            return self if entered is self.__wrapped__ else entered

        return entering

    async def entering_later(self: Any) -> Any:
        entered = await enter(self)
        return self if entered is self.__wrapped__ else entered

    return entering_later


class ObservedFunction(_Wrapper):  # type: ignore[misc]
    """A wrapt wrapper that pickles by name and copies to itself, as functions do."""

    __kobs_function__ = True

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _resolve, (self.__module__, self.__qualname__)

    def __copy__(self) -> "ObservedFunction":
        return self

    def __deepcopy__(self, memo: object) -> "ObservedFunction":
        return self

    class _Bound(_BoundWrapper):  # type: ignore[misc]
        def __reduce_ex__(self, protocol: Any) -> Any:
            if self._self_instance is None:
                return _resolve, (self.__module__, self.__qualname__)
            return getattr, (self._self_instance, self.__name__)

        def __copy__(self) -> Any:
            return self

        def __deepcopy__(self, memo: dict[int, Any]) -> Any:
            return getattr(copy.deepcopy(self._self_instance, memo), self.__name__)

    __bound_function_wrapper__ = _Bound


def function_wrapper(original: Any, site: Site) -> Any:
    """A wrapt wrapper around a callable that is no plain function."""
    return ObservedFunction(original, site.wrapper)


def _resolve(module: str, qualname: str) -> Any:
    import sys

    found: Any = sys.modules.get(module) or __import__(module, fromlist=["_"])
    for step in qualname.split("."):
        found = getattr(found, step)
    return found
