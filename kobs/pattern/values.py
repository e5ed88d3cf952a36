"""Values that patterns compare with: ranges, bound variables; and values in messages."""

import os
from collections.abc import Callable, Mapping
from enum import IntEnum
from types import FunctionType
from typing import Any

from kobs.errors import PatternError

Bound = Mapping[str, Any]
"""What variables are bound to, by name."""
NOTHING_BOUND: Bound = {}


class Between:
    """Equal to what lies from `low` to `high`, both included; not to what has no such order."""

    __slots__ = ("high", "low")

    def __init__(self, low: Any, high: Any) -> None:
        if not low <= high:
            raise PatternError(
                f"between({low!r}, {high!r}): the first must be the smaller, nothing lies between"
            )
        self.low = low
        self.high = high

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Between):
            return bool(self.low == other.low and self.high == other.high)
        try:
            return bool(self.low <= other <= self.high)
        except TypeError:
            return False

    def __hash__(self) -> int:
        return hash((Between, self.low, self.high))

    def __repr__(self) -> str:
        return f"between({self.low!r}, {self.high!r})"


def between(low: Any, high: Any) -> Between:
    """A value from `low` to `high`, both included: `like(duration_us=between(0, 500))`."""
    return Between(low, high)


class Variable:
    """Stands for any value, which must be the same wherever the variable stands in a pattern."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name.strip():
            raise PatternError(
                f"var({name!r}): expected a name, such as var('pid'); the same name stands for "
                "the same value everywhere in a pattern"
            )
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Variable) and self.name == other.name

    def __hash__(self) -> int:
        return hash((Variable, self.name))

    def __repr__(self) -> str:
        return f"var({self.name!r})"


def var(name: str) -> Variable:
    """Any value, the same wherever `var` of this name stands in the pattern:
    `PipeWritten.like(pipe_id=var("p")) >> PipeRead.like(pipe_id=var("p"))`."""
    return Variable(name)


class Cut(str):
    """A string longer than its field: equal to what the field keeps of it."""

    __slots__ = ("kept",)
    kept: str


def brief(value: Any) -> str:
    """A value in one short piece: enums by name, functions by where they stand."""
    if value.__class__ is Cut:
        return str.__repr__(value)
    if isinstance(value, IntEnum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, FunctionType):
        return _function(value)
    return repr(value)


def _function(function: Callable[..., Any]) -> str:
    name: str = function.__name__
    if name != "<lambda>":
        return name
    code = function.__code__
    return f"<lambda at {os.path.basename(code.co_filename)}:{code.co_firstlineno}>"
