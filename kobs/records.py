"""`NamedTuple` at a tenth of its price, for the modules that every watched program imports.

`typing.NamedTuple` compiles a constructor a class, thirty of which are a tenth of all that
`kobs run` adds to a program's start. Here that is done where many tuples are made. For type
checkers, and in use, it is `typing.NamedTuple`; generic ones are not made here.
"""

import sys
from collections.abc import Iterable
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    _UNCOMPILED = 32
    """So many tuples of a class are made without a compiled constructor."""

    class _Maker(type):
        """Makes a subclass of `tuple`, of which it is not the metaclass."""

        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {field: namespace[field] for field in fields if field in namespace}
            first = len(fields) - len(defaults)
            if any(field in defaults for field in fields[:first]):
                raise TypeError(f"{name}: a field without a default follows one that has one")
            made = {
                "__slots__": (), "_fields": fields, "_field_defaults": defaults,
                "__match_args__": fields, "__new__": _first_new(name, fields, defaults),
                "_make": classmethod(_make), "_replace": _replace, "_asdict": _asdict,
                "__repr__": _repr, "__getnewargs__": _new_arguments,
            }  # fmt: skip
            made |= {key: value for key, value in namespace.items() if key not in fields}
            made |= {
                field: _tuplegetter(index, f"Alias for field number {index}")
                for index, field in enumerate(fields)
            }
            return type(name, (tuple,), made)

    def _first_new(name: str, fields: tuple[str, ...], defaults: dict[str, Any]) -> Any:
        # In its closure: tuples are made until the very end, when modules are emptied.
        calls, uncompiled, compiled_new = count(), _UNCOMPILED, _compiled_new

        def __new__(cls: type, /, *values: Any, **given: Any) -> Any:
            rest = fields[len(values) :]
            if next(calls) < uncompiled and given.keys() <= set(rest):
                named = defaults | given
                if len(values) <= len(fields) and named.keys() >= set(rest):
                    return tuple.__new__(cls, (*values, *[named[field] for field in rest]))
            new = compiled_new(name, fields, defaults)
            owner = next(base for base in cls.__mro__ if "_fields" in vars(base))
            owner.__new__ = staticmethod(new)  # other threads may do the same at the same time
            return new(cls, *values, **given)

        return __new__

    def _compiled_new(name: str, fields: tuple[str, ...], defaults: dict[str, Any]) -> Any:
        parameters = ", ".join(fields)
        source = f"lambda _cls, {parameters}: _new(_cls, ({parameters},))"
        new = eval(source, {"_new": tuple.__new__, "__name__": f"namedtuple_{name}"})
        new.__name__, new.__qualname__ = "__new__", f"{name}.__new__"
        new.__defaults__ = tuple(defaults.values())
        return new

    def _make(cls: type, iterable: Iterable[Any]) -> Any:
        made = tuple.__new__(cls, iterable)
        if len(made) != len(cls._fields):
            raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
        return made

    def _replace(self: Any, /, **given: Any) -> Any:
        made = self._make(map(given.pop, self._fields, self))
        if given:
            raise ValueError(f"Got unexpected field names: {list(given)!r}")
        return made

    def _asdict(self: Any) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def _repr(self: Any) -> str:
        fields = ", ".join(
            f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True)
        )
        return f"{type(self).__name__}({fields})"

    def _new_arguments(self: Any) -> tuple[Any, ...]:
        return tuple(self)

    if sys.version_info < (3, 14):  # from there on annotations are made when they are asked for
        from _collections import _tuplegetter

        NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})
    else:
        pass
