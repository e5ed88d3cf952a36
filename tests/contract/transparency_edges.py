"""Classes and functions at the edges: every state of a coroutine or generator, special methods,
metaclasses, descriptors. Observed in one copy of this module and bare in another (see
test_transparency_edges.py). Nothing in here knows which copy it is."""

import abc
import asyncio
import contextvars
import dataclasses
import enum
import functools
import sys
import types
import typing

VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


class Steps:
    """What is stepped through."""

    def values(self, log):
        try:
            log.append((yield 1))
            yield 2
            return 9
        except GeneratorExit:
            log.append("exit")
            raise
        except ValueError as error:
            log.append(repr(error))
            yield 3
        finally:
            log.append("finally")

    def plain_values(self):
        yield 1
        yield 2

    def swallowing(self):
        try:
            yield 1
        except GeneratorExit:
            return 7

    def failing_at_its_end(self):
        try:
            yield 1
        except GeneratorExit:
            raise KeyError("at the end")  # noqa: B904

    async def waits(self, log):
        try:
            return await self.asked(log)
        except ValueError as error:
            log.append(repr(error))
            await self.asked(log)
        finally:
            log.append("finally")

    @staticmethod
    @types.coroutine
    def asked(log):
        log.append((yield "asked"))
        return 4

    async def later(self, value=1):
        await asyncio.sleep(0)
        return value

    async def awaits(self, what):
        return await what

    async def pages(self, log):
        try:
            log.append((yield 1))
            yield 2
        except GeneratorExit:
            log.append("exit")
            raise
        except ValueError as error:
            log.append(repr(error))
            yield 3
        finally:
            log.append("finally")

    async def pages_swallowing(self):
        try:
            yield 1
        except GeneratorExit:
            pass

    async def pages_ignoring(self):
        try:
            yield 1
        except GeneratorExit:
            yield 2

    async def pages_waiting(self, log):
        try:
            await self.asked(log)
            yield 1
            await self.asked(log)
        finally:
            await self.asked(log)
            log.append("finally")

    def drops(self, what):
        yield 1
        del what
        yield 2

    async def drops_later(self, what):
        del what
        await self.asked([])

    def sets(self):
        VARIABLE.set(1)
        yield VARIABLE.get()
        VARIABLE.set(2)
        yield VARIABLE.get()

    async def sets_later(self):
        VARIABLE.set(5)
        await asyncio.sleep(0)
        return VARIABLE.get()

    async def sets_pages(self):
        VARIABLE.set(7)
        yield VARIABLE.get()
        yield VARIABLE.get()

    def stack(self):
        return self._names()

    def stack_of_values(self):
        yield self._names()

    async def stack_later(self):
        return self._names()

    async def stack_of_pages(self):
        yield self._names()

    def _names(self):
        found, frame = [], sys._getframe(1)
        while frame is not None and frame.f_code.co_name != "asked_of_all":
            found.append(frame.f_code.co_name)
            frame = frame.f_back
        return found


class Plain:
    def method(self, a, b=2, *, c=3):
        """Has a docstring."""
        return a, b, c

    def fail(self, error):
        raise error

    def values_failing(self, error):
        yield 1
        raise error

    async def fail_later(self, error):
        await asyncio.sleep(0)
        raise error

    def noted(self):
        error = ValueError("with a note")
        error.add_note("noted")
        raise error

    def from_none(self):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            raise KeyError("k") from None

    def group(self):
        raise ExceptionGroup("several", [ValueError(1)])

    def by_the_interpreter(self):
        return {}["missing"]

    def by_a_builtin(self):
        return int("x")


class Meta(type):
    def __call__(cls, *args, **kwargs):
        made = super().__call__(*args, **kwargs)
        made.tag = "meta"
        return made

    def __instancecheck__(cls, instance):
        return instance == 5 or type.__instancecheck__(cls, instance)

    @classmethod
    def __prepare__(cls, name, bases, **kwargs):
        return {"prepared": 1}

    def __getitem__(cls, key):
        return key


class OfMeta(metaclass=Meta):
    def method(self):
        return self.tag


class Special:
    """Special methods that the interpreter looks for on the type."""

    def __new__(cls, *args):
        made = super().__new__(cls)
        made.made_of = args
        return made

    def __init__(self, *args):
        self.given = args

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__()
        cls.options = kwargs

    def __class_getitem__(cls, key):
        return cls.__name__, key

    def __repr__(self):
        return "special"

    def __contains__(self, value):
        return value == 1

    def __add__(self, other):
        return "add", other

    def __radd__(self, other):
        return NotImplemented

    def __lt__(self, other):
        return NotImplemented

    def __bool__(self):
        return False

    def __format__(self, spec):
        return f"formatted {spec}"

    def __index__(self):
        return 2

    def __getattr__(self, name):
        if name.startswith("z"):
            return name
        raise AttributeError(name)

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)

    def __iter__(self):
        return iter([1])

    def __len__(self):
        return -1


class Dying:
    dead: typing.ClassVar[list[str]] = []

    def __del__(self):
        self.dead.append("dead")


class DyingBadly:
    def __del__(self):
        raise ValueError("at the end")


class Named:
    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        return self.name


class Managing:
    def __enter__(self):
        return 1

    def __exit__(self, kind, error, trace):
        return kind is KeyError

    async def __aenter__(self):
        return 2

    async def __aexit__(self, kind, error, trace):
        return kind is KeyError

    def __aiter__(self):
        self.count = 0
        return self

    async def __anext__(self):
        self.count += 1
        if self.count > 2:
            raise StopAsyncIteration
        return self.count

    def __await__(self):
        return (yield from self.inner().__await__())

    async def inner(self):
        await asyncio.sleep(0)
        return 6


@dataclasses.dataclass
class Data:
    x: int
    y: int = 0

    def __post_init__(self):
        self.y += 1

    def method(self):
        return self.x


class Options(enum.Flag):
    ONE = 1
    TWO = 2

    def method(self):
        return self.value

    @classmethod
    def _missing_(cls, value):
        return cls.ONE


class Speaks(typing.Protocol):
    def speak(self) -> str:
        return "by default"


@typing.runtime_checkable
class SpeaksChecked(typing.Protocol):
    def speak(self) -> str: ...


class Speaker(Speaks):
    pass


class Abstract(abc.ABC):
    @abc.abstractmethod
    def method(self):
        return "abstract"

    @classmethod
    @abc.abstractmethod
    def klass(cls):
        return cls.__name__


class Concrete(Abstract):
    def method(self):
        return super().method()

    @classmethod
    def klass(cls):
        return super().klass()


class Tools:
    def base(self, a, b=1):
        return a, b

    @functools.singledispatchmethod
    def dispatch(self, value):
        return "any"

    @dispatch.register
    def _(self, value: int):
        return "int"

    def __getitem__(self, key):
        return key


@functools.total_ordering
class Ordered:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x

    def __lt__(self, other):
        return self.x < other.x


OBSERVED = (
    Steps, Plain, Meta, OfMeta, Special, Dying, DyingBadly, Named, Managing, Data, Options, Speaks,
    SpeaksChecked, Abstract, Concrete, Tools, Ordered,
)  # fmt: skip
