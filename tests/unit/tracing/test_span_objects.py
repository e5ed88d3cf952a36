"""Span objects: what one leaves behind is its own, however many follow; none can be crashed."""

import asyncio
import contextvars
import gc
import os
from collections.abc import Iterator

import pytest

from kobs import Collector, collector as collectors
from kobs.context import cause
from kobs.tracing import Span, current_span, span_operation
from kobs.tracing.open_spans import open_span
from kobs.tracing.span import WrittenSpan


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector(size=1024, sampling=100) as made:
        monkeypatch.setattr(collectors, "_global", made)
        with span_operation("the first one has the others recorded in C"):
            pass
        yield made


def many(number: int = 40) -> None:
    for _ in range(number):
        with span_operation("another") as span:
            span.record("key", "another's")


class TestWhatIsKept:
    def test_a_cause_stays_what_it_was(self) -> None:
        with span_operation("load"):
            kept = cause.get()
            assert kept is not None
            same = tuple(kept)
        numbers = [kept.causality_id, kept.parent, kept.span_id]
        many()
        assert tuple(kept) == same
        assert numbers == [*same[:3]]

    def test_numbers_of_a_cause_that_is_gone_stay_what_they_were(self) -> None:
        with span_operation("load"):
            now = cause.get()
            assert now is not None
            number, text = now.span_id, str(now.span_id)
            del now
        many()
        assert str(number) == text

    def test_a_context_goes_on_holding_its_cause(self) -> None:
        with span_operation("load") as span:
            context = contextvars.copy_context()
            span_id = span.span_id
        del span
        many()
        inside = context.run(cause.get)
        assert inside is not None
        assert f"{inside.span_id:016x}" == span_id

    def test_a_duration_stays_what_it_was(self) -> None:
        with span_operation("load") as span:
            pass
        duration = span.duration_us
        text = str(duration)
        many()
        assert str(duration) == text == str(span.duration_us)

    def test_a_new_span_has_nothing_of_the_one_before(self, collector: Collector) -> None:
        with span_operation("load") as span:
            span.record("key", 1)
            span.record_result(True)
        del span
        fresh = span_operation("store")
        assert (fresh.status, fresh.duration_us, fresh.causality_id) == ("unset", None, 0)
        assert fresh._attributes is None
        with fresh:
            pass
        assert collector.snapshot()[-1].payload.attributes == {}

    def test_spans_that_are_gone_are_no_garbage(self) -> None:
        many()
        spans = [each for each in gc.get_objects() if isinstance(each, Span)]
        assert not [span for span in spans if span.name == "another"]


class TestOpenOnes:
    def test_as_many_as_there_are_are_found(self) -> None:
        spans = [span_operation(f"span {index}") for index in range(300)]
        for span in spans:
            span.__enter__()
        assert current_span() is spans[-1]
        assert all(open_span(int(span.span_id, 16)) is span for span in spans)
        for span in reversed(spans):
            span.__exit__(None, None, None)
        assert not any(open_span(int(span.span_id, 16)) for span in spans)

    def test_one_that_nobody_holds_is_still_open(self) -> None:
        span_operation("load").__enter__()
        many(3)
        gc.collect()
        span = current_span()
        assert span.name == "load"
        span.__exit__(None, None, None)

    def test_an_id_that_no_span_has(self) -> None:
        assert open_span(-1) is None
        assert open_span(1 << 70) is None

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_child_writes_nothing_more_of_its_parents(self, collector: Collector) -> None:
        with span_operation("load") as span:
            child = os.fork()
            if child == 0:
                os._exit(0 if span._collector is None else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert span.is_recording


class TestTheContext:
    def test_it_is_after_a_span_what_it_was_before(self) -> None:
        def program() -> tuple[bool, bool]:
            before = cause in contextvars.copy_context()
            many(2)
            return before, cause in contextvars.copy_context()

        before, after = contextvars.Context().run(program)
        assert before == after

    def test_a_span_that_ends_in_another_context_is_put_back_there(self) -> None:
        with span_operation("outer") as outer:
            span = span_operation("load").__enter__()
            copied = contextvars.copy_context()
            copied.run(span.__exit__, None, None, None)
            assert copied.run(current_span) is outer
            assert current_span().span_id == span.span_id

    def test_each_task_has_its_own(self) -> None:
        async def work(name: str) -> bool:
            with span_operation(name) as span:
                await asyncio.sleep(0)
                good = current_span() is span
                await asyncio.sleep(0)
                return good and current_span() is span

        async def main() -> list[bool]:
            return await asyncio.gather(*(work(f"task {number}") for number in range(20)))

        assert all(asyncio.run(main()))


class TestAttributes:
    def test_keys_that_are_equal_are_one(self, collector: Collector) -> None:
        key = "".join(["k", "ey"])
        with span_operation("load") as span:
            span.record("key", 1).record("other", 2).record(key, 3)
        assert collector.snapshot()[-1].payload.attributes == {"key": 3, "other": 2}

    def test_more_than_a_few_keep_their_order(self, collector: Collector) -> None:
        with span_operation("load") as span:
            for number in range(7):
                span.record(f"k{number}", number)
            span.record("k1", "again")
        assert list(collector.snapshot()[-1].payload.attributes.items()) == [
            ("k0", 0), ("k1", "again"), *((f"k{number}", number) for number in range(2, 7)),
        ]  # fmt: skip

    def test_what_python_adds_joins_what_c_has(self, collector: Collector) -> None:
        with span_operation("load") as span:
            span.record("a", 1).record("list", [1]).record("b", 2)
        assert collector.snapshot()[-1].payload.attributes == {"a": 1, "list": [1], "b": 2}


class TestMistakes:
    @pytest.mark.parametrize(
        "name",
        ["name", "kind", "status", "duration_us", "_pid", "_category", "_slow_ms", "_attributes"],
    )
    def test_an_attribute_that_is_deleted_crashes_nothing(self, name: str) -> None:
        for when in ("before", "inside"):
            span = span_operation("load")
            try:
                if when == "before":
                    delattr(span, name)
                with span:
                    if when == "inside":
                        delattr(span, name)
                    span.record("key", 1)
            except AttributeError:
                assert type(span) is WrittenSpan  # what it has not got, it cannot write

    def test_an_interrupt_while_it_is_recorded_reaches_the_program(self) -> None:
        class Name(str):
            __slots__ = ()

            def __hash__(self) -> int:
                raise KeyboardInterrupt

        span = span_operation(Name("load"))
        with pytest.raises(KeyboardInterrupt):
            span.__enter__()
        assert cause.get() is None
        assert not span._began_ns
