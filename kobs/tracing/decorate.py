"""Spans as decorators: of functions, coroutine functions, generators and async generators.

A generator's span lasts from its first step to its last; it is current only while the
generator's own code runs, never in the code that iterates over it.
"""

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kobs.context import Cause, cause
from kobs.errors import ObserveError

if TYPE_CHECKING:
    from kobs.tracing.span import Span

F = TypeVar("F", bound=Callable[..., Any])

_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200


def decorate(function: F, make_span: "Callable[[], Span]") -> F:
    """`function` with a new span around every call. Raises `ObserveError` for what is none."""
    if isinstance(function, staticmethod | classmethod):
        return cast(F, type(function)(decorate(function.__func__, make_span)))
    if isinstance(function, type) or not callable(function):
        raise ObserveError(
            f"a span cannot decorate {function!r}: expected a function or method; "
            "decorate the methods of a class, not the class"
        )
    return cast(F, functools.wraps(function)(_wrapper(function, make_span)))


def _wrapper(function: Callable[..., Any], make_span: "Callable[[], Span]") -> Callable[..., Any]:
    innermost: Any = function
    while isinstance(innermost, functools.partial):
        innermost = innermost.func
    code = getattr(innermost, "__code__", None)
    if code is None:  # an object that is called
        code = getattr(type(innermost).__call__, "__code__", None)
    flags = getattr(code, "co_flags", 0)

    if flags & _COROUTINE:

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            with make_span():
                return await function(*args, **kwargs)

        return call_async

    if flags & _ASYNC_GENERATOR:

        async def call_async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            steps = _AsyncSteps(function(*args, **kwargs), _Switch(make_span()))
            sent: Any = None
            thrown: BaseException | None = None
            while True:
                try:
                    item = await steps.next(sent, thrown)
                except StopAsyncIteration:
                    return
                sent = thrown = None
                try:
                    sent = yield item
                except GeneratorExit:
                    await steps.close()
                    raise
                except BaseException as error:
                    thrown = error

        return call_async_generator

    if flags & _GENERATOR:

        def call_generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            return (yield from _steps(function(*args, **kwargs), _Switch(make_span())))

        return call_generator

    def call(*args: Any, **kwargs: Any) -> Any:
        with make_span():
            return function(*args, **kwargs)

    return call


class _Switch:
    """`with switch:` runs a block inside the span; outside of such blocks it is not current."""

    def __init__(self, span: "Span") -> None:
        self.span = span
        outside = cause.get()
        span.__enter__()
        self._inside: Cause | None = cause.get()
        self._outside: Cause | None = outside
        cause.set(outside)

    def __enter__(self) -> None:
        self._outside = cause.get()
        cause.set(self._inside)

    def __exit__(self, *_: object) -> None:
        self._inside = cause.get()
        cause.set(self._outside)

    def end(self, error: BaseException | None = None) -> None:
        self.span.__exit__(type(error), error, None)


def _steps(generator: Generator[Any, Any, Any], switch: _Switch) -> Generator[Any, Any, Any]:
    sent: Any = None
    thrown: BaseException | None = None
    try:
        while True:
            try:
                with switch:
                    item = generator.send(sent) if thrown is None else generator.throw(thrown)
            except StopIteration as stop:
                switch.end()
                return stop.value
            sent = thrown = None
            try:
                sent = yield item
            except GeneratorExit:
                with switch:
                    generator.close()
                raise
            except BaseException as error:
                thrown = error
    except BaseException as error:
        switch.end(error)
        raise


class _AsyncSteps:
    """An async generator driven step by step inside its span."""

    def __init__(self, generator: AsyncGenerator[Any, Any], switch: _Switch) -> None:
        self._generator = generator
        self._switch = switch

    async def next(self, sent: Any, thrown: BaseException | None) -> Any:
        try:
            with self._switch:
                if thrown is None:
                    return await self._generator.asend(sent)
                return await self._generator.athrow(thrown)
        except StopAsyncIteration:
            self._switch.end()
            raise
        except BaseException as error:
            self._switch.end(error)
            raise

    async def close(self) -> None:
        try:
            with self._switch:
                await self._generator.aclose()
        except BaseException as error:
            self._switch.end(error)
            raise
        self._switch.end()
