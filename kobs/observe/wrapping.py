"""`observe` and `unobserve`: which methods of a class are wrapped, put in place and undone."""

from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from kobs.errors import ObserveError
from kobs.observe.emissions import MARK, Emission, marked_function
from kobs.observe.sites import ABSENT, Site, is_function, is_proxy, site_of, sites_of
from kobs.observe.targets import inherited_target, target_of, wrapped_target
from kobs.observe.vocabulary import Rule, Vocabulary, vocabulary, vocabulary_of_class

if TYPE_CHECKING:
    from kobs.collector import Collector

T = TypeVar("T")

Methods = Mapping[str, str | None]


@overload
def observe(
    kind: str | None = None,
    /,
    *,
    collector: "Collector | None" = None,
    methods: Methods | None = None,
) -> Callable[[T], T]: ...


@overload
def observe(
    target: T,
    kind: str | None = None,
    /,
    *,
    collector: "Collector | None" = None,
    methods: Methods | None = None,
    in_place: bool = False,
) -> T: ...


def observe(
    target: Any = None,
    kind: str | None = None,
    /,
    *,
    collector: "Collector | None" = None,
    methods: Methods | None = None,
    in_place: bool = False,
) -> Any:
    """Have the methods of a class, or of one object, say what they do.

    `@observe("process")` over a class maps its methods to events through the vocabulary of that
    subsystem, by name; what `@emits` says on a method goes before. `methods={"launch": "create"}`
    says that `launch` means what the vocabulary calls `create`, `{"create": None}` that `create`
    means nothing. `@observe` alone takes what `@emits` says. Inherited methods are observed for
    this class and its subclasses.

    `observe(cls, "process", in_place=True)` does the same to a class that is not yours;
    `observe(obj, "process")` leaves the class alone and gives a proxy of one object. Both are
    undone by `unobserve`.

    Events go to the instance's own collector (`with_collector`), else to `collector`, else to
    the one of `init_collector`.

    Raises `UnknownSubsystemError` for a subsystem without a vocabulary, and `ObserveError` where
    nothing can be observed or an emission does not fit a method's signature.
    """
    if target is None or isinstance(target, str):
        if kind is not None:
            raise ObserveError(
                f"observe({target!r}, {kind!r}): expected a class or object first, "
                f"or the subsystem alone: observe({kind!r})"
            )
        subsystem = target
        words = vocabulary(subsystem) if subsystem is not None else None

        def decorate(decorated: Any) -> Any:
            return _observe(decorated, words, collector, methods)

        return decorate
    words = vocabulary(kind) if kind is not None else None
    if isinstance(target, type) and words is not None and not in_place:
        raise ObserveError(
            f"observe({target.__name__}, {kind!r}) would change the class for everybody: say so, "
            f"observe({target.__name__}, {kind!r}, in_place=True); or decorate it with "
            f"@observe({kind!r}); or observe one object"
        )
    return _observe(target, words, collector, methods)


def unobserve(target: Any) -> Any:
    """Undo `observe`: every method of a class is the original object again, a proxy gives its
    object. Undoing twice is undoing once; a method over which somebody else has put a wrapper
    since stays where it is, and emits nothing. Returns the class, object or function."""
    if is_proxy(target):
        from kobs.observe.proxies import release

        return release(target)
    if not isinstance(target, type):
        site = site_of(target)
        if site is None:
            return target
        site.retire()
        return site.replaced
    found = {id(site): site for site in sites_of(target)}
    for value in list(vars(target).values()):
        found.update({id(site): site for site in sites_in(value)})
    for site in found.values():
        if vars(target).get(site.name, ABSENT) is site.installed:
            if site.replaced is ABSENT:
                type.__delattr__(target, site.name)
            else:
                type.__setattr__(target, site.name, site.replaced)
        site.retire()
    return target


class Wanted(NamedTuple):
    """What a method shall emit."""

    emissions: tuple[Emission, ...]
    scope: bool


def wanted(
    cls: type, words: Vocabulary | None, methods: Methods | None
) -> Iterator[tuple[str, Any, Wanted]]:
    """(name, what the class has there, what it shall emit) of every method to be observed."""
    given = dict(methods or {})
    for name, meaning in given.items():
        if words is None or (meaning is not None and words.rule_for(meaning) is None):
            known = ", ".join(words.patterns) if words is not None else "none without a subsystem"
            raise ObserveError(
                f"observe({cls.__name__}, methods={{{name!r}: {meaning!r}}}): the vocabulary has "
                f"no {meaning!r}; its names are: {known}"
            )
    attributes: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        attributes.update(vars(base))
    if missing := [name for name in given if name not in attributes]:
        raise ObserveError(f"{cls.__name__} has no method {missing[0]!r} (in methods=...)")
    for name, value in attributes.items():
        emissions = emissions_of(value)
        if emissions and (name in vars(cls) or not isinstance(value, property)):
            yield name, value, Wanted(emissions, scope=False)
        elif words is not None and is_method(value):
            meaning = given.get(name, name)
            rule: Rule | None = words.rule_for(meaning) if meaning is not None else None
            if rule is not None:
                yield name, value, Wanted(rule.emissions, rule.scope)


def emissions_of(value: object) -> tuple[Emission, ...]:
    """What `@emits` says on a class's attribute."""
    if isinstance(value, property):
        parts = (value.fget, value.fset, value.fdel)
        return tuple(e for part in parts for e in getattr(part, MARK, ()))
    if isinstance(value, type):
        return ()
    return tuple(getattr(marked_function(value), MARK, ()))


def is_method(value: object) -> bool:
    """What a vocabulary's patterns are for: functions, static and class methods, and what
    stands for a function. Not classes, properties or callable objects that bind nothing."""
    if isinstance(value, FunctionType | staticmethod | classmethod):
        return True
    return callable(value) and not isinstance(value, type) and hasattr(type(value), "__get__")


def sites_in(value: object) -> list[Site]:
    """The sites whose wrappers a class's attribute consists of."""
    if isinstance(value, property):
        parts: tuple[object, ...] = (value.fget, value.fset, value.fdel)
    elif isinstance(value, staticmethod | classmethod):
        parts = (value.__func__,)
    elif getattr(type(value), "__kobs_function__", False):
        parts = (value._self_wrapper,)  # type: ignore[attr-defined]
    else:
        parts = (value,)
    return [site for site in map(site_of, parts) if site is not None]


def _observe(
    target: Any, words: Vocabulary | None, collector: "Collector | None", methods: Methods | None
) -> Any:
    if isinstance(target, type):
        return _observe_class(target, words, collector, methods)
    if is_function(target):
        return _observe_function(target, words, collector)
    from kobs.observe.proxies import proxy

    if words is None and not any(True for _ in wanted(type(target), None, None)):
        words = vocabulary_of_class(type(target))
    return proxy(target, words, collector, methods)


def _observe_function(
    function: FunctionType, words: Vocabulary | None, collector: "Collector | None"
) -> FunctionType:
    known = site_of(function)
    if known is not None and not known.retired:
        return function
    emissions = tuple(getattr(function, MARK, ()))
    scope = False
    rule = words.rule_for(function.__name__) if words is not None and not emissions else None
    if rule is not None:
        emissions, scope = rule.emissions, rule.scope
    if not emissions:
        raise ObserveError(
            f"nothing to observe in {function.__qualname__}(): put @emits(...) under @observe"
        )
    target = target_of(function, owner="", name=function.__name__, bound=False, scope=scope)
    site = Site(function, target, emissions, owner=None, collector=collector)
    wrapper: FunctionType = site.wrapper
    site.replaced, site.installed = function, wrapper
    return wrapper


def _observe_class(
    cls: type, words: Vocabulary | None, collector: "Collector | None", methods: Methods | None
) -> type:
    made = [
        installed
        for name, value, wish in list(wanted(cls, words, methods))
        for installed in [_install(cls, name, value, wish, collector)]
    ]
    if not made:
        raise ObserveError(nothing_to_observe(cls, words))
    return cls


def nothing_to_observe(cls: type, words: Vocabulary | None) -> str:
    """The message for a class without a method to observe."""
    if words is None:
        return (
            f"nothing to observe in {cls.__name__}: no method carries @emits(...); "
            'add one, or name a subsystem: observe("process")'
        )
    return (
        f"nothing to observe in {cls.__name__}: no method has a name of the vocabulary of "
        f"{words.subsystem!r} ({', '.join(words.patterns)}); say which method means what with "
        f'methods={{"...": "..."}}, or put @emits(...) on one'
    )


def _install(cls: type, name: str, value: Any, wish: Wanted, collector: "Collector | None") -> bool:
    """Put a wrapper in place of a method; False where an inherited one is observed already."""
    old = [site for site in sites_in(value) if not site.retired]
    replaced = vars(cls).get(name, ABSENT)
    if old and replaced is ABSENT:
        return True  # its own class says it
    if old:
        known = tuple(e for site in old for e in site.emissions)
        more = tuple(e for e in wish.emissions if e not in known)
        if not more and collector in (None, old[0].collector):
            return True
        wish = Wanted(known + more, wish.scope or old[0].scope)
        collector = collector or old[0].collector
        value = replaced = old[0].replaced
        if replaced is ABSENT:
            value = _inherited_value(cls, name)
    made, sites = _wrapped(cls, name, value, wish, collector, inherited=replaced is ABSENT)
    for site in sites:
        site.replaced, site.installed = replaced, made
    try:
        type.__setattr__(cls, name, made)
    except TypeError as error:
        for site in sites:
            site.retire()
        raise ObserveError(
            f"{cls.__name__} cannot be changed ({error}); observe one object of it: "
            "observe(obj, ...)"
        ) from None
    for site in old:
        site.retire()
    return True


def _inherited_value(cls: type, name: str) -> Any:
    return next(vars(base)[name] for base in cls.__mro__[1:] if name in vars(base))


def _wrapped(
    cls: type,
    name: str,
    value: Any,
    wish: Wanted,
    collector: "Collector | None",
    *,
    inherited: bool,
) -> tuple[Any, list[Site]]:
    """(what goes into the class, the sites in it)."""
    if isinstance(value, property):
        return _wrapped_property(cls, name, value, collector)
    outer = type(value) if isinstance(value, staticmethod | classmethod) else None
    function = value.__func__ if outer is not None else value
    bound = not isinstance(value, staticmethod)
    if inherited:
        target, extra = inherited_target(cls, name, function, bound, wish.scope)
    elif is_function(function):
        target = target_of(function, owner=cls.__name__, name=name, bound=bound, scope=wish.scope)
        extra = {}
    else:
        return _wrapped_callable(cls, name, value, wish, collector)
    site = Site(function, target, wish.emissions, owner=cls, collector=collector, extra=extra)
    if outer is None:
        return site.wrapper, [site]
    made = outer(site.wrapper)
    for key, attribute in vars(value).items():
        vars(made).setdefault(key, attribute)
    return made, [site]


def _wrapped_property(
    cls: type, name: str, value: property, collector: "Collector | None"
) -> tuple[property, list[Site]]:
    sites: list[Site] = []
    made = value
    for part, rebuild in (("fget", "getter"), ("fset", "setter"), ("fdel", "deleter")):
        function = getattr(value, part)
        emissions = tuple(getattr(function, MARK, ()))
        if emissions:
            if not is_function(function):
                raise ObserveError(f"{cls.__name__}.{name}: its {rebuild} is no plain function")
            target = target_of(function, owner=cls.__name__, name=name, bound=True)
            site = Site(function, target, emissions, owner=cls, collector=collector)
            made = getattr(made, rebuild)(site.wrapper)
            sites.append(site)
    return made, sites


def _wrapped_callable(
    cls: type, name: str, value: Any, wish: Wanted, collector: "Collector | None"
) -> tuple[Any, list[Site]]:
    """What is no plain function (a cache, another library's wrapper) stays what it is behind a
    wrapt wrapper, which binds as it does and shows its attributes."""
    from kobs.observe.proxies import function_wrapper

    if type(value) in (staticmethod, classmethod):
        raise ObserveError(
            f"{cls.__name__}.{name}: a {type(value).__name__} over {value.__func__!r} cannot be "
            "observed; leave it out with methods={...: None}"
        )
    if not callable(value):
        raise ObserveError(
            f"{cls.__name__}.{name} is a {type(value).__name__}, which cannot be observed; "
            "put @emits(...) on the function inside it"
        )
    target = wrapped_target(cls, name, value, wish.scope)
    site = Site(value, target, wish.emissions, owner=cls, collector=collector)
    return function_wrapper(value, site), [site]
