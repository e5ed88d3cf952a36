"""What all patterns share: the operators, and what they refuse."""

from collections import Counter
from collections.abc import Iterator
from types import EllipsisType, UnionType
from typing import TYPE_CHECKING, NoReturn

from kobs.errors import PatternError
from kobs.schema import PayloadType

if TYPE_CHECKING:
    from datetime import timedelta

    from kobs.pattern.chains import Chain, Count

PRECEDENCE = (
    "Python reads `A >> B & C` as `(A >> B) & C`, so `&`, `|` and `~` take patterns of one event "
    "only. Write `A >> (B & C)` for one event that is both; kobs.expect(P, Q) where both must "
    "happen; `not in` or kobs.never(P) for what must not"
)


class Pattern:
    """What events look like; immutable. Made by `Type.like(...)` and the operators on that."""

    __slots__ = ()

    def __rshift__(self, other: object) -> "Chain":
        """`A >> B`: A causes B, over one or more causal edges (parent or link)."""
        from kobs.pattern.chains import chain

        return chain(self, other, by_cause=True)

    def __rrshift__(self, other: object) -> "Chain":
        from kobs.pattern.chains import chain

        return chain(other, self, by_cause=True)

    def then(self, other: "Pattern") -> "Chain":
        """A, and later in time B; B need not be caused by A."""
        from kobs.pattern.chains import chain

        return chain(self, other, by_cause=False)

    def __mul__(self, times: int) -> "Count":
        """`A * n`: exactly n of it."""
        from kobs.pattern.chains import Count

        return Count(self, times)

    __rmul__ = __mul__

    def times(self, least: int, most: "int | EllipsisType | None" = ...) -> "Count":
        """`A.times(2, 5)`: from two to five of it; `A.times(2)`: exactly two, as `A * 2`;
        `A.times(2, None)`: two or more."""
        from kobs.pattern.chains import Count

        return Count(self, least, most)

    def within(self, duration: "str | timedelta") -> "Chain":
        """Of a chain: its last event comes at most so long after its first, `"5ms"`.

        Raises `PatternError` for what is no chain and for what is no duration.
        """
        raise PatternError(
            f"({self!r}).within({duration!r}): within says how long a chain may take from its "
            f"first to its last event, and this is {self.kind}: write (A >> B).within('5ms')"
        )

    def variables(self) -> "Iterator[str]":
        """The names of its variables, each as often as it stands there."""
        return iter(())

    def __and__(self, other: object) -> "Pattern":
        self._refuse("&", other)

    def __or__(self, other: object) -> "Pattern":
        self._refuse("|", other)

    def __invert__(self) -> "Pattern":
        raise PatternError(f"~({self!r}) has no meaning: it is {self.kind}. {PRECEDENCE}")

    def __rand__(self, other: object) -> NoReturn:
        raise PatternError(f"{shown(other)} & {self!r}: {hint(other)}")

    def __ror__(self, other: object) -> NoReturn:
        raise PatternError(f"{shown(other)} | {self!r}: {hint(other)}")

    def __bool__(self) -> NoReturn:
        raise PatternError(
            f"the pattern {self!r} is neither true nor false by itself: write "
            f"`assert pattern in kobs.events`, kobs.expect(pattern) or kobs.never(pattern); "
            "`and`, `or` and `not` do not combine patterns, `&`, `|` and `~` do"
        )

    @property
    def kind(self) -> str:
        """What sort of pattern it is, in words."""
        return "a pattern"

    def _refuse(self, operator: str, other: object) -> NoReturn:
        if not isinstance(other, Pattern):
            raise PatternError(f"{self!r} {operator} {shown(other)}: {hint(other)}")
        odd = other if not other.one_event else self
        raise PatternError(
            f"({self!r}) {operator} ({other!r}) has no meaning: {odd!r} is {odd.kind}. {PRECEDENCE}"
        )

    @property
    def one_event(self) -> bool:
        """It is a condition on a single event."""
        return False


def require(value: object, what: str) -> Pattern:
    """`value` if it is a pattern. Raises `PatternError` naming what was given instead."""
    if isinstance(value, Pattern):
        return value
    raise PatternError(f"{what}: {hint(value)}")


def check_variables(*patterns: Pattern) -> None:
    """Raises `PatternError` for a variable that stands in one place only: nothing would be
    compared, and a name mistyped would go unnoticed."""
    places = Counter(name for pattern in patterns for name in pattern.variables())
    for name, number in places.items():
        if number == 1:
            where = next(p for p in patterns if name in set(p.variables()))
            others = ", ".join(f"var({other!r})" for other in places if other != name)
            raise PatternError(
                f"{where!r}: var({name!r}) stands in one place only, so nothing is compared with "
                "it: put it into another step too, or leave the field out"
                + (f" (there is {others} as well)" if others else "")
            )


def hint(value: object) -> str:
    """What to write instead of a value that is no pattern."""
    if isinstance(value, UnionType):
        return f"{value} is a union of classes, not a pattern: write " + " | ".join(
            f"{getattr(one, '__name__', one)}.like()" for one in value.__args__
        )
    if isinstance(value, type) and issubclass(value, PayloadType):
        return f"the class {value.__name__} is no pattern: write {value.__name__}.like()"
    if isinstance(value, PayloadType):
        name = type(value).__name__
        return f"the payload {value!r} is no pattern: write {name}.like(...) with its fields"
    return f"expected a pattern such as ProcessCreated.like(name='sh'), got {shown(value)}"


def shown(value: object) -> str:
    """A value in a message."""
    return value.__name__ if isinstance(value, type) else repr(value)
