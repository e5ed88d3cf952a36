"""A span that is recorded in C writes, whatever is done with it, what the one in Python writes."""

import contextvars
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings, strategies as st

from kobs import Category, Collector, collector as collectors
from kobs.context import causal_context, cause
from kobs.tracing import set_slow_thresholds
from kobs.tracing.open_spans import open_span
from kobs.tracing.span import Span, WrittenSpan, make_span
from tests.thorough import many

pytestmark = [
    pytest.mark.c_core,
    pytest.mark.skipif(make_span is WrittenSpan, reason="the Python core was asked for"),
]

KEYS = st.sampled_from(["a", "b", "c", "d", "e", "f", "", "naïve", "x" * 40, 5])
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.just(1 << 70), st.floats(allow_nan=False),
    st.text(max_size=60), st.lists(st.integers(0, 3), max_size=2),
)  # fmt: skip
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from(["load", "store"]),
                  st.sampled_from([None, -1, 0, 1e9])),
        st.tuples(st.just("record"), KEYS, VALUES),
        st.tuples(st.just("exit")),
        st.tuples(st.just("fail")),
        st.tuples(st.just("exit elsewhere")),
        st.tuples(st.just("exit outermost")),
        st.tuples(st.just("enter again")),
        st.tuples(st.just("chain")),
    ),
    max_size=25,
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def nothing_is_slow() -> Iterator[None]:
    before = set_slow_thresholds(syscall_ms=1e9, operation_ms=1e9)
    yield
    set_slow_thresholds(syscall_ms=before[0], operation_ms=before[1])


class Program:
    """Does what the steps say with spans of one kind; ids are told by when they were first seen."""

    def __init__(self, kind: Any) -> None:
        self.make = kind
        self.seen: dict[int, int] = {0: 0}
        self.open: list[Span] = []
        self.last: Span | None = None
        self.said: list[Any] = []

    def known(self, number: int) -> int:
        return self.seen.setdefault(number, len(self.seen))

    def enter(self, name: str, slow_ms: float | None) -> None:
        span = self.make(name, "internal", int(Category.PERFORMANCE), None, slow_ms, None)
        span.__enter__()
        self.open.append(span)

    def leave(self, span: Span, error: BaseException | None = None) -> None:
        span.__exit__(type(error) if error else None, error, None)
        self.last = span

    def do(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("enter", name, slow_ms):
                self.enter(name, slow_ms)
            case ("record", key, value) if self.open:
                self.open[-1].record(key, value)
            case ("exit",) if self.open:
                self.leave(self.open.pop())
            case ("fail",) if self.open:
                self.leave(self.open.pop(), ValueError("no"))
            case ("exit elsewhere",) if self.open:
                contextvars.copy_context().run(self.leave, self.open.pop())
            case ("exit outermost",) if self.open:
                self.leave(self.open.pop(0))
            case ("enter again",) if self.last is not None and not self.last._began_ns:
                self.open.append(self.last.__enter__())
            case ("chain",):
                with causal_context(77, parent=5, span_id=9):
                    self.enter("inside", None)
                    self.leave(self.open.pop())

    def note(self) -> None:
        now = cause.get()
        self.said.append(None if now is None else (*map(self.known, now[:3]), *now[3::2]))
        for span in (*self.open, *([self.last] if self.last else [])):
            found = open_span(int(span.span_id, 16))
            self.said.append((
                span.name, span.status, self.known(int(span.span_id, 16)),
                span.duration_us is None, span.is_recording, found is span,
                None if span._began_ns else span._attributes,
            ))  # fmt: skip

    def run(self, steps: list[tuple[Any, ...]]) -> list[Any]:
        with Collector(size=1024) as collector, mock.patch.object(collectors, "_global", collector):
            for _ in range(2):  # the first one has the others recorded in C
                self.enter("first", None)
                self.leave(self.open.pop())
            for step in steps:
                self.do(step)
                self.note()
            while self.open:
                self.leave(self.open.pop())
            return self.said + [self.told(event) for event in collector.snapshot()]

    def told(self, event: Any) -> Any:
        names = type(event.payload).__annotations__
        payload = {name: getattr(event.payload, name) for name in names if "duration" not in name}
        if "parent_span" in payload:
            payload["parent_span"] = self.known(payload["parent_span"])
        ids = (event.id, event.parent, event.causality_id, event.span_id)
        return event.type_name, event.flags, event.category, *map(self.known, ids), payload


@settings(max_examples=many(60), deadline=None)
@given(STEPS)
def test_the_same_steps_write_the_same_events(steps: list[tuple[Any, ...]]) -> None:
    in_python = contextvars.Context().run(Program(WrittenSpan).run, steps)
    in_c = contextvars.Context().run(Program(make_span).run, steps)
    assert in_c == in_python
