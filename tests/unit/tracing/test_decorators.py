"""Spans as decorators: functions, methods, coroutines and generators."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from kobs import Collector
from kobs.errors import ObserveError
from kobs.tracing import (
    Span,
    current_span,
    span_operation,
)

from .conftest import ended, named


class TestDecorators:
    def test_every_call_is_a_span(self, collector: Collector) -> None:
        @span_operation("add")
        def add(a: int, b: int = 1) -> int:
            """Adds."""
            current_span().record("a", a)
            return a + b

        assert (add(1), add(2, b=3)) == (2, 5)
        assert (add.__name__, add.__doc__) == ("add", "Adds.")
        ends = named(collector, "SpanEnded")
        assert [end.payload.attributes for end in ends] == [{"a": 1}, {"a": 2}]
        assert ends[0].causality_id != ends[1].causality_id

    def test_recursion_nests(self, collector: Collector) -> None:
        @span_operation("down")
        def down(depth: int) -> None:
            if depth:
                down(depth - 1)

        down(2)
        begins = named(collector, "SpanBegan")
        assert [b.payload.parent_span for b in begins] == [0, begins[0].span_id, begins[1].span_id]

    def test_methods_of_every_kind(self, collector: Collector) -> None:
        class Store:
            @span_operation("get")
            def get(self) -> str:
                return type(self).__name__

            @span_operation("make")
            @classmethod
            def make(cls) -> "Store":
                return cls()

            @staticmethod
            @span_operation("size")
            def size() -> int:
                return 1

        assert Store.make().get() == "Store"
        assert Store.size() == 1
        assert [e.payload.name for e in named(collector, "SpanEnded")] == ["make", "get", "size"]

    def test_objects_that_are_called(self, collector: Collector) -> None:
        class Fetch:
            async def __call__(self) -> str:
                await asyncio.sleep(0)
                return current_span().name

        class Count:
            def __call__(self) -> Iterator[str]:
                yield current_span().name

        fetch, count = span_operation("fetch")(Fetch()), span_operation("count")(Count())
        assert asyncio.run(fetch()) == "fetch"
        assert list(count()) == ["count"]

    def test_a_class_is_refused(self) -> None:
        with pytest.raises(ObserveError, match="decorate the methods"):
            span_operation("x")(int)

    def test_coroutine_functions_stay_ones(self, collector: Collector) -> None:
        @span_operation("fetch")
        async def fetch() -> Span:
            await asyncio.sleep(0)
            return current_span()

        async def both() -> tuple[Span, Span]:
            return await asyncio.gather(fetch(), fetch())

        assert asyncio.iscoroutinefunction(fetch)
        first, second = asyncio.run(both())
        assert first.span_id != second.span_id
        assert all(event.parent for event in named(collector, "SpanEnded"))

    def test_async_with(self, collector: Collector) -> None:
        async def run() -> None:
            async with span_operation("outer") as outer:
                await asyncio.sleep(0)
                assert current_span() is outer

        asyncio.run(run())
        assert len(named(collector, "SpanEnded")) == 1

    def test_tasks_begun_inside_are_children(self, collector: Collector) -> None:
        async def child() -> None:
            with span_operation("child"):
                await asyncio.sleep(0)

        async def run() -> None:
            with span_operation("parent"):
                await asyncio.gather(child(), child())

        asyncio.run(run())
        parent, *children = named(collector, "SpanBegan")
        assert {c.payload.parent_span for c in children} == {parent.span_id}

    def test_cancellation_is_an_error_and_goes_on(self, collector: Collector) -> None:
        async def run() -> None:
            @span_operation("wait")
            async def wait() -> None:
                await asyncio.Event().wait()

            task = asyncio.create_task(wait())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(run())
        assert ended(collector).payload.status == "error"


class TestGenerators:
    def test_the_span_is_current_only_in_the_generators_code(self, collector: Collector) -> None:
        @span_operation("rows")
        def rows() -> Iterator[Span]:
            yield current_span()
            yield current_span()

        steps = rows()
        assert named(collector, "SpanBegan") == []
        first = next(steps)
        assert first.name == "rows"
        assert not current_span().is_recording
        with span_operation("consumer") as consumer:
            assert next(steps) is first
            assert current_span() is consumer
        assert list(steps) == []
        names = [event.payload.name for event in named(collector, "SpanEnded")]
        assert names == ["consumer", "rows"]

    def test_send_throw_and_return_go_through(self, collector: Collector) -> None:
        @span_operation("talk")
        def talk() -> "Iterator[object]":
            got = yield "ready"
            try:
                yield got
            except KeyError:
                yield "caught"
            return "done"  # type: ignore[return-value]

        steps = talk()
        assert next(steps) == "ready"
        assert steps.send(3) == 3  # type: ignore[attr-defined]
        assert steps.throw(KeyError("x")) == "caught"  # type: ignore[attr-defined]
        with pytest.raises(StopIteration) as stop:
            next(steps)
        assert stop.value.value == "done"
        assert ended(collector).payload.status == "unset"

    def test_closing_ends_the_span_without_error(self, collector: Collector) -> None:
        @span_operation("rows")
        def rows() -> Iterator[int]:
            yield 1

        steps = rows()
        next(steps)
        steps.close()  # type: ignore[attr-defined]
        assert ended(collector).payload.status == "unset"
        assert collector.open_events() == []

    def test_an_error_inside_ends_it_with_error(self, collector: Collector) -> None:
        @span_operation("rows")
        def rows() -> Iterator[int]:
            yield 1
            raise ValueError("bad row")

        with pytest.raises(ValueError, match="bad row"):
            list(rows())
        assert ended(collector).payload.status == "error"

    def test_async_generators(self, collector: Collector) -> None:
        @span_operation("rows")
        async def rows() -> AsyncIterator[Span]:
            yield current_span()
            await asyncio.sleep(0)
            yield current_span()

        async def run() -> None:
            seen = []
            async for span in rows():
                assert not current_span().is_recording
                seen.append(span)
            assert seen[0] is seen[1]
            assert seen[0].name == "rows"

        asyncio.run(run())
        assert ended(collector).payload.status == "unset"

    def test_an_async_generator_that_is_closed(self, collector: Collector) -> None:
        @span_operation("rows")
        async def rows() -> AsyncIterator[int]:
            yield 1

        async def run() -> None:
            steps = rows()
            await anext(steps)
            await steps.aclose()  # type: ignore[attr-defined]

        asyncio.run(run())
        assert ended(collector).payload.status == "unset"
