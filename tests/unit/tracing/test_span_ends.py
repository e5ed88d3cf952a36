"""A span ends, whatever goes wrong while it does: it stays neither open nor current."""

import asyncio
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kobs import Collector, collector as collectors
from kobs._core import select
from kobs.context import cause
from kobs.tracing import Span, current_span, span_operation
from kobs.tracing.open_spans import all_open_spans
from kobs.tracing.records import INCOMPLETE
from kobs.tracing.span import WrittenSpan, make_span


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector(size=65536, sampling=100) as made:
        monkeypatch.setattr(collectors, "_global", made)
        with span_operation("the first one has the others recorded in C"):
            pass
        yield made


@pytest.fixture(params=["written", "native"])
def span(request: pytest.FixtureRequest) -> Callable[[str], Span]:
    """What makes a span: Python, or C where there is one."""
    kind = make_span if request.param == "native" else WrittenSpan
    return lambda name: kind(name, "internal", 7, None, 1e9, None)


BROKEN_OFF = 0 if select().name == "c" else 2
"""Begins of the Python core that failed after they were written: counted, and never ended."""


def payloads(collector: Collector, type_name: str, name: str) -> list[Any]:
    return [
        event.payload
        for event in collector.snapshot()
        if event.type_name == type_name and event.payload.name == name
    ]


def assert_all_ended(collector: Collector) -> None:
    assert_nothing_is_left(collector)
    begun, ended = (len(payloads(collector, kind, "deeper")) for kind in ("SpanBegan", "SpanEnded"))
    assert begun >= ended >= begun - BROKEN_OFF > 20
    assert {end.status for end in payloads(collector, "SpanEnded", "deeper")} == {"error"}


def assert_nothing_is_left(collector: Collector) -> None:
    assert cause.get() is None
    assert collector.open_events() == []
    assert [span for span in all_open_spans() if span._collector is collector] == []


class TestWhereTheStackEnds:
    """There is room to begin a span, and none to find out what went wrong in it."""

    @pytest.fixture(autouse=True)
    def a_short_stack(self) -> Iterator[None]:
        before, depth = sys.getrecursionlimit(), len(traceback.extract_stack())
        sys.setrecursionlimit(depth + 150)
        yield
        sys.setrecursionlimit(before)

    def test_a_block(self, span: Callable[[str], Span], collector: Collector) -> None:
        def deeper() -> None:
            with span("deeper") as now:
                now.record("a", 1)
                deeper()

        with pytest.raises(RecursionError):
            deeper()
        assert_all_ended(collector)

    def test_a_decorated_function(self, collector: Collector) -> None:
        @span_operation("deeper")
        def deeper() -> None:
            deeper()

        with pytest.raises(RecursionError):
            deeper()
        assert_all_ended(collector)

    def test_a_coroutine(self, collector: Collector) -> None:
        @span_operation("deeper")
        async def deeper() -> None:
            await deeper()

        with pytest.raises(RecursionError):
            asyncio.run(deeper())
        assert_all_ended(collector)

    def test_a_generator(self, collector: Collector) -> None:
        @span_operation("deeper")
        def deeper() -> Iterator[None]:
            yield from deeper()

        with pytest.raises(RecursionError):
            list(deeper())
        assert_all_ended(collector)

    def test_the_error_of_the_program_stays_its_own(self, span: Callable[[str], Span]) -> None:
        class Own(Exception):
            pass

        def deeper() -> None:
            with span("deeper"):
                try:
                    deeper()
                except RecursionError:
                    raise Own from None

        with pytest.raises(Own):
            deeper()


class TestWhereTheErrorCannotBeTold:
    def test_an_interrupt_reaches_the_program(
        self, span: Callable[[str], Span], collector: Collector
    ) -> None:
        class Interrupted(Exception):
            def __str__(self) -> str:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), span("told"):
            raise Interrupted
        assert_nothing_is_left(collector)
        (end,) = payloads(collector, "SpanEnded", "told")
        assert (end.status, end.attributes) == ("error", {INCOMPLETE: True})
        assert current_span().name == ""
