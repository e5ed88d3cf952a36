"""The parameters of what is wrapped, and how a wrapper with other parameters reads them."""

import keyword
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from kobs.observe.extractors import NOTHING

PREFIX = "_kobs_"
"""Names that generated code uses for itself begin so."""

CO_VARARGS, CO_VARKEYWORDS = 4, 8  # as in `inspect`, which is slow to import


class Parameters:
    """Names and defaults of the parameters of a callable, in order."""

    __slots__ = ("defaults", "keyword_only", "positional", "positional_only", "varargs", "varkw")

    def __init__(
        self,
        positional: tuple[str, ...] = (),
        *,
        positional_only: int = 0,
        varargs: str | None = None,
        keyword_only: tuple[str, ...] = (),
        varkw: str | None = None,
        defaults: Mapping[str, object] | None = None,
    ) -> None:
        self.positional = positional
        self.positional_only = positional_only
        self.varargs = varargs
        self.keyword_only = keyword_only
        self.varkw = varkw
        self.defaults = dict(defaults or {})

    @classmethod
    def of_function(cls, function: FunctionType) -> "Parameters":
        """The parameters in a function's own code, whatever `__wrapped__` says."""
        code = function.__code__
        names = code.co_varnames
        count, only = code.co_argcount, code.co_kwonlyargcount
        after = count + only
        varargs = varkw = None
        if code.co_flags & CO_VARARGS:
            varargs = names[after]
            after += 1
        if code.co_flags & CO_VARKEYWORDS:
            varkw = names[after]
        defaults: dict[str, object] = {}
        if function.__defaults__:
            given = function.__defaults__
            defaults.update(zip(names[count - len(given) : count], given, strict=True))
        defaults.update(function.__kwdefaults__ or {})
        return cls(
            names[:count],
            positional_only=code.co_posonlyargcount,
            varargs=varargs,
            keyword_only=names[count : count + only],
            varkw=varkw,
            defaults=defaults,
        )

    @classmethod
    def of_callable(cls, wrapped: Callable[..., Any]) -> "Parameters | None":
        """The parameters that `inspect.signature` reports, `__wrapped__` followed; None for a
        built-in that has no signature."""
        import inspect

        try:
            inner: Any = inspect.unwrap(wrapped)
            if isinstance(inner, FunctionType):
                return cls.of_function(inner)
            signature = inspect.signature(inner)
        except (TypeError, ValueError):
            return None
        kinds: dict[Any, list[str]] = {}
        for name, parameter in signature.parameters.items():
            kinds.setdefault(parameter.kind, []).append(name)
        only = kinds.get(inspect.Parameter.POSITIONAL_ONLY, [])
        return cls(
            tuple(only + kinds.get(inspect.Parameter.POSITIONAL_OR_KEYWORD, [])),
            positional_only=len(only),
            varargs=next(iter(kinds.get(inspect.Parameter.VAR_POSITIONAL, [])), None),
            keyword_only=tuple(kinds.get(inspect.Parameter.KEYWORD_ONLY, [])),
            varkw=next(iter(kinds.get(inspect.Parameter.VAR_KEYWORD, [])), None),
            defaults={
                name: parameter.default
                for name, parameter in signature.parameters.items()
                if parameter.default is not parameter.empty
            },
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, in the order of a signature."""
        stars = [name for name in (self.varargs,) if name is not None]
        more = [name for name in (self.varkw,) if name is not None]
        return (*self.positional, *stars, *self.keyword_only, *more)

    @property
    def writable(self) -> bool:
        """A `def` can have these parameters, and none is a name that generated code uses."""
        return all(
            name.isidentifier() and not keyword.iskeyword(name) and not name.startswith(PREFIX)
            for name in self.names
        )

    def declaration(self) -> str:
        """As in a `def`, without defaults."""
        parts = list(self.positional)
        if self.positional_only:
            parts.insert(self.positional_only, "/")
        if self.varargs is not None:
            parts.append(f"*{self.varargs}")
        elif self.keyword_only:
            parts.append("*")
        parts += self.keyword_only
        if self.varkw is not None:
            parts.append(f"**{self.varkw}")
        return ", ".join(parts)

    def forwarded(self, skip: int = 0) -> str:
        """As the arguments of a call that passes everything on, but the first `skip`."""
        parts = list(self.positional[skip:])
        if self.varargs is not None:
            parts.append(f"*{self.varargs}")
        parts += [f"{name}={name}" for name in self.keyword_only]
        if self.varkw is not None:
            parts.append(f"**{self.varkw}")
        return ", ".join(parts)


class Arguments:
    """How a wrapper with parameters `own` reads the arguments of what it wraps.

    `inner` differs from `own` where the wrapper takes `*args, **kwargs` for something whose
    signature has names. `bound` is 1 where the first parameter is the instance or class.
    """

    def __init__(self, own: Parameters, inner: Parameters | None, *, bound: int) -> None:
        self.own = own
        self.inner = inner or own
        self.bound = bound

    def expression(
        self, key: str | int, default: object, constant: Callable[[object], str]
    ) -> str | None:
        """Expression of the argument; None if there is no such parameter."""
        own, inner = self.own, self.inner
        if isinstance(key, int):
            names = inner.positional[self.bound :]
            if not 0 <= key < len(names):
                return self._extra(key + self.bound, default, constant)
            key = names[key]
        if key in own.names:
            return key
        if key in inner.positional:
            return self._packed(inner.positional.index(key), key, default, constant)
        if key in inner.keyword_only:
            return self._keyword(key, inner.defaults.get(key, default), constant)
        if key == inner.varargs and own.varargs is not None:
            first = len(inner.positional) - len(own.positional)
            return f"{own.varargs}[{max(0, first)}:]"
        if own.varkw is not None and (inner.varkw is not None or not inner.names):
            return own.varkw if key == inner.varkw else self._keyword(key, default, constant)
        return None

    def _packed(
        self, index: int, name: str, default: object, constant: Callable[[object], str]
    ) -> str | None:
        """An argument of the inner signature that may be in `*args` or in `**kwargs`."""
        varargs, place = self.own.varargs, index - len(self.own.positional)
        otherwise = self._keyword(name, self.inner.defaults.get(name, default), constant)
        if varargs is None or place < 0:
            return otherwise
        return (
            f"({varargs}[{place}] if {constant(len)}({varargs}) > {place}"
            f" else {otherwise or constant(None)})"
        )

    def _extra(self, index: int, default: object, constant: Callable[[object], str]) -> str | None:
        """A positional argument past those that have names."""
        varargs, place = self.own.varargs, index - len(self.own.positional)
        if varargs is None or self.inner.varargs is None or place < 0:
            return None
        if default is NOTHING:
            return f"{varargs}[{place}]"
        return (
            f"({varargs}[{place}] if {constant(len)}({varargs}) > {place} else {constant(default)})"
        )

    def _keyword(self, name: str, default: object, constant: Callable[[object], str]) -> str | None:
        varkw = self.own.varkw
        if varkw is None:
            return None
        if default is NOTHING:
            return f"{varkw}[{name!r}]"
        return f"{varkw}.get({name!r}, {constant(default)})"
