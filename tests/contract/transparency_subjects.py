"""Classes that are observed in one copy of this module and bare in another (see
test_transparency.py). Nothing in here knows which copy it is."""

import abc
import contextlib
import dataclasses
import enum
import functools
import logging
import sys
import typing
import warnings
from collections.abc import AsyncIterator, Iterator

from kobs import QueueDepth, emits


class _Sentinel:
    def __repr__(self) -> str:
        return "SENTINEL"


SENTINEL = _Sentinel()


class Failure(Exception):
    """Raised on purpose."""


class Plain:
    """Methods of every kind of parameter list."""

    level = 3

    def __init__(self, name: str = "plain") -> None:
        self.name = name
        self.calls: list[object] = []

    def none(self):
        return self

    def simple(self, a, b=2, *, c=3):
        """Adds up."""
        return a + b + c

    def annotated(
        self, a: "int", b: "Plain | None" = None, *rest: str, c: float, **more: bytes
    ) -> "Plain":
        """Has annotations that are strings."""
        return self

    def positional_only(self, a, /, b, *, c=SENTINEL):
        return a, b, c

    def everything(self, a, /, b, *args, c, d=4, **kwargs):
        return a, b, args, c, d, kwargs

    def star(*args, **kwargs):
        return len(args), kwargs

    def mutable(self, into=[]):  # noqa: B006
        into.append(1)
        return into

    def same(self, value):
        return value

    def fail(self, error=None):
        raise error or Failure("on purpose")

    def fail_from(self):
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise Failure("outer") from error

    def fail_in_handler(self):
        return sys.exc_info()[1]

    def swallow(self):
        try:
            self.fail()
        except Failure as error:
            return error

    def recursive(self, n):
        return 1 if n == 0 else n * self.recursive(n - 1)

    def private(self):
        return self.__hidden()

    def __hidden(self):
        return "hidden"

    def warn(self):
        warnings.warn("careful", UserWarning, stacklevel=2)

    def log(self):
        logging.getLogger("subject").warning("said", stacklevel=2)

    def keeps(self):
        return self

    def __call__(self, x):
        return x * 2

    def __len__(self):
        return 7

    def __eq__(self, other):
        return isinstance(other, Plain) and self.name == other.name

    def __hash__(self):
        return hash(self.name)

    def __getitem__(self, key):
        return key

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        return kind is Failure

    _private_alias = simple
    alias = simple


class Kinds:
    """Descriptors of every kind."""

    count = 0

    @staticmethod
    def static(a, b=1):
        """Static."""
        return a, b

    @classmethod
    def klass(cls, a, b=1):
        """Class."""
        return cls, a, b

    @property
    @emits(QueueDepth, queue_id="depth", depth=3)
    def depth(self) -> int:
        """How deep."""
        return self._depth

    @depth.setter
    @emits(QueueDepth, queue_id="depth", depth=3)
    def depth(self, value):
        self._depth = value

    @depth.deleter
    def depth(self):
        del self._depth

    @property
    @emits(QueueDepth, queue_id="fixed", depth=3)
    def fixed(self) -> int:
        return 3

    @functools.cached_property
    def cached(self):
        type(self).count += 1
        return [self]

    @functools.singledispatchmethod
    def dispatch(self, value):
        return "any"

    @dispatch.register
    def _(self, value: int):
        return "int"

    def base(self, a, b):
        return a, b

    partial = functools.partialmethod(base, 1)

    @functools.lru_cache(maxsize=4)  # noqa: B019
    def remembered(self, value):
        return [value]

    @contextlib.contextmanager
    def managed(self, value) -> Iterator[object]:
        try:
            yield value
        except Failure:
            pass

    class Nested:
        def inner(self, a):
            return a

    made = lambda self, a: a  # noqa: E731


class Base:
    def __init__(self, tag: str = "base") -> None:
        self.tag = tag

    def who(self):
        return ["Base"]

    def only_base(self, a=1):
        return self.tag, a

    @classmethod
    def create(cls, tag="made"):
        return cls(tag)

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.registered = True


class Left(Base):
    def who(self):
        return ["Left", *super().who()]


class Right(Base):
    def who(self):
        return ["Right", *super().who()]

    def only_base(self, a=1):
        return "right", super().only_base(a)


class Diamond(Left, Right):
    def who(self):
        return ["Diamond", *super().who()]


class Heir(Left):
    """Defines nothing of its own: what is observed is inherited."""


class Joined(Heir, Right):
    """Right stands between Heir and Base for an instance of this class."""


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x=1):
        self.x = x

    def get(self):
        return self.x


class Abstract(abc.ABC):
    @abc.abstractmethod
    def must(self):
        """Has a body."""
        return "abstract"

    def may(self):
        return "may"


class Concrete(Abstract):
    def must(self):
        return "concrete " + super().must()


@dataclasses.dataclass(order=True)
class Data:
    x: int
    y: list[int] = dataclasses.field(default_factory=list)

    def total(self) -> int:
        return self.x + sum(self.y)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: int

    def double(self) -> int:
        return self.x * 2


class Color(enum.Enum):
    RED = 1

    def describe(self):
        return self.name


T = typing.TypeVar("T")


class Box(typing.Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item

    def get(self) -> T:
        return self.item


class Pair(typing.NamedTuple):
    a: int
    b: int

    def total(self):
        return self.a + self.b


class Steps:
    """Generators, coroutines and async generators."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def numbers(self, n) -> Iterator[int]:
        """Counts."""
        try:
            for i in range(n):
                self.seen.append((yield i))
            return "done"
        finally:
            self.seen.append("closed")

    def stubborn(self):
        for _ in range(2):
            try:
                yield "still here"
            except GeneratorExit:
                self.seen.append("asked to go")

    def polite(self):
        try:
            yield 1
        except GeneratorExit:
            return "bye"

    def catching(self):
        while True:
            try:
                yield "ready"
            except Failure as error:
                self.seen.append(error)
                yield f"caught {error}"

    def raising(self):
        yield 1
        raise Failure("later")

    def stopping(self):
        yield 1
        raise StopIteration("wrong")

    def context(self):
        try:
            yield 1
        except Failure:
            raise KeyError("while handling")  # noqa: B904

    def after_handled(self):
        try:
            yield 1
        except Failure:
            pass
        self.seen.append(sys.exc_info()[1])
        raise KeyError("after")

    async def add(self, a, b=1):
        """Adds, later."""
        return a + b

    async def wait(self, what):
        self.seen.append("waiting")
        try:
            return await what
        finally:
            self.seen.append("left")

    async def fail(self):
        raise Failure("async")

    async def stubborn_wait(self, what):
        try:
            return await what
        except GeneratorExit:
            await what

    async def each(self, n) -> AsyncIterator[int]:
        """Counts, later."""
        import asyncio

        try:
            for i in range(n):
                await asyncio.sleep(0)
                self.seen.append((yield i))
        finally:
            await asyncio.sleep(0)
            self.seen.append("closed")

    async def each_fails(self):
        yield 1
        raise Failure("agen")

    async def each_catches(self):
        while True:
            try:
                yield "ready"
            except Failure as error:
                yield f"caught {error}"

    async def each_stubborn(self):
        try:
            yield "still here"
        except GeneratorExit:
            self.seen.append("asked to go")
        yield "not yet"


OBSERVED = (
    Plain, Kinds, Base, Left, Right, Diamond, Slotted, Abstract, Concrete, Data, Frozen, Color,
    Box, Pair, Steps,
)  # fmt: skip
"""The classes that are observed; Heir is only where the inherited path is probed."""
