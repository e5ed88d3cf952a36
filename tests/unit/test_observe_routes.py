"""Where events of observed methods go, and what happens when kobs itself goes wrong."""

import gc
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from kobs import (
    Collector,
    ProcessCreated,
    QueueDepth,
    SyscallEnter,
    SyscallExit,
    arg,
    causal_context,
    emits,
    init_collector,
    observe,
    returned,
    unobserve,
    with_collector,
)
from kobs.collector import clear_collector
from kobs.context import cause
from kobs.errors import ObserveError
from kobs.observe import Emission, Rule, Vocabulary, register_vocabulary
from tests.collecting import classes_can_go


@pytest.fixture(autouse=True)
def _no_global_collector() -> Iterator[None]:
    clear_collector()
    yield
    clear_collector()


@pytest.fixture
def make() -> Iterator[Any]:
    made: list[Collector] = []

    def new() -> Collector:
        made.append(Collector(size=256))
        return made[-1]

    yield new
    for collector in made:
        collector.close()


@observe
class Queue:
    def __init__(self, name: str = "q") -> None:
        self.name = name

    @emits(QueueDepth, queue_id=arg("name"), depth=returned())
    def put(self, name: str = "x") -> int:
        return 1


def count(collector: Collector) -> int:
    return len(collector.snapshot())


class TestWhichCollector:
    def test_none_records_nothing_and_changes_nothing(self) -> None:
        assert Queue().put() == 1

    def test_the_process_wide_one_from_the_moment_it_is_there(self, make: Any) -> None:
        first, second, queue = make(), make(), Queue()
        queue.put()
        init_collector(first)
        queue.put()
        init_collector(second)
        queue.put()
        queue.put()
        clear_collector()
        queue.put()
        assert (count(first), count(second)) == (1, 2)

    def test_the_class_s_own_goes_before(self, make: Any) -> None:
        own = make()
        init_collector(make())

        @observe(collector=own)
        class Mine:
            @emits(QueueDepth, queue_id="q", depth=1)
            def put(self) -> None: ...

        Mine().put()
        assert count(own) == 1

    def test_the_instance_s_own_goes_before_both(self, make: Any) -> None:
        own, everybody, bound, other = make(), make(), Queue(), Queue()
        init_collector(everybody)
        assert with_collector(bound, own) is bound
        bound.put()
        other.put()
        with_collector(bound, None)
        bound.put()
        assert (count(own), count(everybody)) == (1, 2)

    def test_an_instance_s_own_where_there_is_no_other(self, make: Any) -> None:
        own, bound = make(), Queue()
        with_collector(bound, own)
        bound.put()
        Queue().put()
        assert count(own) == 1

    def test_a_class_observed_after_an_instance_was_bound(self, make: Any) -> None:
        own, bound = make(), Queue()
        with_collector(bound, own)

        class Late:
            @emits(QueueDepth, queue_id="q", depth=1)
            def put(self) -> None: ...

        late = with_collector(Late(), own)
        observe(Late)
        late.put()
        assert count(own) == 1

    def test_instances_without_a_dict(self, make: Any) -> None:
        @observe
        class Slotted:
            __slots__ = ("x",)

            @emits(QueueDepth, queue_id="q", depth=1)
            def put(self) -> None: ...

        own = make()
        one = with_collector(Slotted(), own)
        other = Slotted()
        one.put()
        other.put()
        assert count(own) == 1

    def test_instances_that_cannot_be_referenced_weakly_are_let_go_later(self, make: Any) -> None:
        class Slotted:
            __slots__ = ("x",)

        class Alive: ...

        bound = with_collector(Slotted(), make())
        bound.x = Alive()
        alive = weakref.ref(bound.x)
        del bound
        with_collector(Queue(), make())
        assert alive() is None

    def test_a_bound_instance_is_not_kept(self, make: Any) -> None:
        bound = with_collector(Queue(), make())
        reference = weakref.ref(bound)
        assert vars(bound) == {"name": "q"}
        del bound
        assert reference() is None

    def test_unhashable_instances(self, make: Any) -> None:
        @observe
        class Unhashable:
            __hash__ = None  # type: ignore[assignment]

            @emits(QueueDepth, queue_id="q", depth=1)
            def put(self) -> None: ...

        own = make()
        with_collector(Unhashable(), own).put()
        assert count(own) == 1

    def test_what_is_no_collector_is_refused(self) -> None:
        with pytest.raises(ObserveError, match="expected a Collector"):
            with_collector(Queue(), "collector")  # type: ignore[arg-type]

    def test_a_closed_one_is_left_without_a_word(
        self, make: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        own, everybody, bound = make(), make(), Queue()
        init_collector(everybody)
        with_collector(bound, own)
        own.close()
        everybody.close()
        for queue in (bound, Queue()):
            assert queue.put() == 1
            assert queue.put() == 1
        assert caplog.records == []

    def test_a_collector_that_nobody_uses_goes(self) -> None:
        collector = Collector(size=64)
        reference = weakref.ref(collector)
        init_collector(collector)
        with_collector(Queue(), collector).put()
        Queue().put()
        clear_collector()
        del collector
        gc.collect()
        assert reference() is None

    def test_a_class_that_nobody_uses_goes(self, make: Any) -> None:
        if not classes_can_go():
            pytest.skip("this Python keeps classes that nobody uses")
        init_collector(make())

        @observe
        class Gone:
            @emits(QueueDepth, queue_id="q", depth=1)
            def put(self) -> object:
                return super().__repr__()

        Gone().put()
        reference = weakref.ref(Gone)
        del Gone
        gc.collect()
        assert reference() is None

    def test_a_forked_child_records_on_its_own(self, make: Any) -> None:
        collector = init_collector(make())
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            Queue().put()
            os.write(write, bytes([count(collector)]))
            os._exit(0)
        os.close(write)
        assert os.read(read, 1) == b"\x01"
        os.close(read)
        os.waitpid(pid, 0)
        assert count(collector) == 0


class TestErrorsInsideKobs:
    def test_a_broken_extractor_is_counted_and_logged_once(
        self, make: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        collector = make()

        def broken(call: object) -> int:
            raise RuntimeError("broken on purpose")

        @observe(collector=collector)
        class Thing:
            @emits(QueueDepth, queue_id="q", depth=broken)
            @emits(QueueDepth, queue_id="q", depth=arg("n"))
            def put(self, n: int) -> int:
                return n

        for n in (1, 2, -1, -2):
            assert Thing().put(n) == n
        assert collector.losses().errors == 6
        assert count(collector) == 2
        assert [(r.name, r.levelno) for r in caplog.records] == [("kobs", logging.WARNING)] * 2
        first, second = caplog.records
        assert "QueueDepth could not be recorded for Thing.put(self, n)" in first.getMessage()
        assert "broken on purpose" in str(first.exc_info)
        assert "-1" in str(second.exc_info)

    def test_an_error_of_the_program_stays_the_program_s(
        self, make: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        @observe(collector=make())
        class Thing:
            @emits(QueueDepth, queue_id="q", depth=lambda call: 1 // 0, when="exit")
            def put(self) -> None:
                raise KeyError("mine")

        with pytest.raises(KeyError) as caught:
            Thing().put()
        assert caught.value.__context__ is None
        assert len(caplog.records) == 1

    def test_an_interrupt_in_an_extractor_goes_through(self, make: Any) -> None:
        def interrupted(call: object) -> int:
            raise KeyboardInterrupt

        @observe(collector=make())
        class Thing:
            @emits(QueueDepth, queue_id="q", depth=interrupted)
            def put(self) -> None: ...

        with pytest.raises(KeyboardInterrupt):
            Thing().put()

    def test_a_scope_whose_begin_cannot_be_made(self, make: Any) -> None:
        collector = make()
        register_vocabulary(
            Vocabulary(
                "broken scope",
                (
                    Rule(
                        ("call",),
                        (
                            Emission(
                                SyscallEnter, fields={"name": lambda call: 1 // 0}, when="call"
                            ),
                            Emission(SyscallExit),
                        ),
                        scope=True,
                    ),
                ),
            )
        )

        @observe("broken scope", collector=collector)
        class Thing:
            def call(self) -> int:
                return 1

        assert Thing().call() == 1
        assert collector.losses().errors == 1


class TestScopes:
    @pytest.fixture
    def kernel(self, make: Any) -> Any:
        register_vocabulary(
            Vocabulary(
                "scoped",
                (
                    Rule(
                        ("sys*",),
                        (Emission(SyscallEnter, when="call"), Emission(SyscallExit)),
                        scope=True,
                    ),
                ),
            )
        )
        collector = make()

        @observe("scoped", collector=collector)
        class Kernel:
            def sys_run(self, what: Any = lambda: None) -> Any:
                return what()

            async def sys_wait(self, what: Any) -> Any:
                return await what

            def sys_rows(self, seen: list[Any]) -> Iterator[int]:
                seen.append(cause.get())
                yield 1
                seen.append(cause.get())

        kernel = Kernel()
        kernel.collector = collector  # type: ignore[attr-defined]
        return kernel

    def test_what_happens_inside_has_the_begin_as_parent(self, kernel: Any) -> None:
        c = kernel.collector
        with causal_context(77, parent=5):
            kernel.sys_run(lambda: (c.emit(ProcessCreated("in", 1)), kernel.sys_run()))
            assert cause.get() is not None
            assert cause.get().parent == 5  # type: ignore[union-attr]
        outer, inside, inner, inner_end, outer_end = c.snapshot()
        assert outer.parent == 5
        assert inside.parent == inner.parent == outer_end.parent == outer.id
        assert inner_end.parent == inner.id
        assert {e.causality_id for e in (outer, inside, inner, inner_end, outer_end)} == {77}
        assert c.open_events() == []

    def test_it_is_left_when_the_call_raises(self, kernel: Any) -> None:
        with pytest.raises(ZeroDivisionError):
            kernel.sys_run(lambda: 1 // 0)
        assert cause.get() is None
        assert kernel.collector.open_events() == []
        assert [e.type_name for e in kernel.collector.snapshot()] == ["SyscallEnter", "SyscallExit"]

    def test_an_open_one_is_in_flight(self, kernel: Any) -> None:
        begin, end = threading.Event(), threading.Event()
        thread = threading.Thread(target=lambda: kernel.sys_run(lambda: (begin.set(), end.wait())))
        thread.start()
        begin.wait()
        assert len(kernel.collector.open_events()) == 1
        end.set()
        thread.join()
        assert kernel.collector.open_events() == []

    def test_a_suspended_generator_is_not_the_cause_of_its_consumer(self, kernel: Any) -> None:
        seen: list[Any] = []
        for _ in kernel.sys_rows(seen):
            assert cause.get() is None
        begin = kernel.collector.snapshot()[0]
        assert [inside.parent for inside in seen] == [begin.id, begin.id]
        assert cause.get() is None

    def test_tasks_do_not_share_a_scope(self, kernel: Any) -> None:
        import asyncio

        async def one() -> int:
            await asyncio.sleep(0)
            ambient = cause.get()
            assert ambient is not None
            return ambient.parent

        async def main() -> list[int]:
            return await asyncio.gather(kernel.sys_wait(one()), kernel.sys_wait(one()))

        parents = asyncio.run(main())
        begins = [e.id for e in kernel.collector.snapshot() if e.type_name == "SyscallEnter"]
        assert sorted(parents) == sorted(begins)


def test_unobserving_a_bound_instance_s_class(make: Any) -> None:
    @observe
    class Thing:
        @emits(QueueDepth, queue_id="q", depth=1)
        def put(self) -> None: ...

    own = make()
    thing = with_collector(Thing(), own)
    unobserve(Thing)
    thing.put()
    assert count(own) == 0
