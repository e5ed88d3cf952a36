"""Arguments of a watched call in words, with no code of the program run: a path or callable of its
own kind may count how often it is asked."""

import os
import sys
from collections import deque
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

_mro = type.__dict__["__mro__"].__get__
_namespace = type.__dict__["__dict__"].__get__
"""Of a class, whatever its metaclass makes of them."""


def argument(
    args: tuple[Any, ...], kwargs: dict[str, Any], index: int, name: str, default: Any = None
) -> Any:
    """An argument of a call, by place or by name."""
    return args[index] if len(args) > index else kwargs.get(name, default)


def text(path: Any) -> str:
    """What a path says. One of the program's own kind is told by its type; what is no path is
    empty."""
    kind = type(path)
    if kind is str:
        return str(path)
    if issubclass(kind, str):
        return str.__str__(path)
    if issubclass(kind, bytes):
        return os.fsdecode(bytes.__getitem__(path, slice(None)))
    ask = _class_attribute(kind, "__fspath__")
    if ask is None:
        return ""
    pathlib = sys.modules.get("pathlib")
    if kind is os.DirEntry or (
        pathlib is not None
        and ask is vars(pathlib.PurePath)["__fspath__"]
        # which asks it
        and _class_attribute(kind, "__str__") is vars(pathlib.PurePath)["__str__"]
    ):
        return os.fsdecode(ask(path))
    return f"<{kind.__qualname__}>"


def is_of_own_kind(path: Any) -> bool:
    """Whether only code of the program can say what the path is."""
    return text(path) == f"<{type(path).__qualname__}>"


def in_folder(path: str, folder: Any) -> str:
    """A path that is relative to an open folder (`dir_fd`), whole."""
    if path and isinstance(folder, int) and not os.path.isabs(path):
        try:
            return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        except OSError:
            pass
    return path


def bound_to(called: Any) -> Any:
    """The object that a callable is a method of; None where it is of none, or of a kind that the
    program made."""
    kind = type(called)
    found = _class_attribute(kind, "__self__")
    if type(found) in (GetSetDescriptorType, MemberDescriptorType):
        return found.__get__(called, kind)
    return None


def own(thing: Any, name: str) -> Any:
    """What an object itself has under a name; None where its class has a say in that."""
    kind = type(thing)
    if (
        _class_attribute(kind, "__getattribute__") is not _getattribute
        or _class_attribute(kind, "__getattr__") is not None
        or _class_attribute(kind, name) is not None
    ):
        return None
    try:
        return _getattribute(thing, name)
    except AttributeError:
        return None


def count_of(items: Any) -> int | None:
    """How many a list or deque holds; None for other containers, and for those that the program has
    count in a way of its own."""
    counts = _class_attribute(type(items), "__len__")
    return counts(items) if any(counts is known for known in _COUNTS) else None


_getattribute = object.__dict__["__getattribute__"]
_COUNTS = (list.__dict__["__len__"], deque.__dict__["__len__"])


def _class_attribute(kind: type, name: str) -> Any:
    for base in _mro(kind):
        namespace = _namespace(base)
        if name in namespace:
            return namespace[name]
    return None
