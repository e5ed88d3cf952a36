"""What observed callables do beyond being transparent: their memory, their threads, their ends; and
both cores record the same."""

import asyncio
import contextlib
import copy
import gc
import inspect
import pickle
import sys
import threading
import traceback
import types
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from kobs import (
    Collector,
    Event,
    MessageReceived,
    MessageSent,
    ProcessCreated,
    QueueDepth,
    SyscallExit,
    SyscallSlow,
    arg,
    emits,
    observe,
    returned,
    unobserve,
)
from kobs.observe import Emission, Rule, Vocabulary, len_of, raised, register_vocabulary, this
from kobs.payloads import SyscallEnter
from tests.collecting import classes_can_go, collect_all

CORES = ("python", "c")


@pytest.fixture(params=CORES)
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is observed and recorded in the test is so by this core."""
    monkeypatch.setenv("KOBS_CORE", request.param)
    return str(request.param)


@pytest.fixture
def in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the C core."""
    monkeypatch.setenv("KOBS_CORE", "c")


@pytest.fixture
def collector(request: pytest.FixtureRequest) -> Iterator[Collector]:
    request.getfixturevalue("core" if "core" in request.fixturenames else "in_c")
    with Collector(size=4096) as made:
        yield made
        assert made.losses().errors == 0


def results(collector: Collector) -> list[tuple[str, str]]:
    """Of the calls that ended; a slow one may have made an anomaly as well."""
    ended = [event.payload for event in collector.snapshot() if event.type is SyscallExit]
    return [(payload.name, payload.result.name) for payload in ended]


def finish(step: Callable[[Any], Any]) -> Any:
    """Drive a coroutine that never waits."""
    with pytest.raises(StopIteration) as stop:
        step(None)
    return stop.value.value


class Everything:
    """Calls of every style."""

    def plain(self, value: int = 1, *more: int, key: int = 2, **rest: int) -> int:
        return value

    def fails(self, value: int = 1) -> None:
        raise OSError(value, "on purpose")

    async def later(self, value: int = 1) -> int:
        await asyncio.sleep(0)
        return value

    def rows(self, value: int = 1) -> Generator[int, Any, int]:
        got = yield value
        yield got
        return value

    async def pages(self, value: int = 1) -> AsyncIterator[int]:
        await asyncio.sleep(0)
        yield value
        yield value + 1

    @staticmethod
    def static(value: int = 1) -> int:
        return value

    @classmethod
    def klass(cls, value: int = 1) -> int:
        return value


def everything(collector: Collector, *emissions: Emission, scope: bool = False) -> Any:
    register_vocabulary(Vocabulary("everything", (Rule(("*",), emissions, scope=scope),)))
    made = type("Everything", (), dict(vars(Everything)))
    return observe(made, "everything", in_place=True, collector=collector)


@emits(QueueDepth, queue_id="by name", depth=arg("value"))
def by_name(value: int) -> int:
    return value


@observe
class ByName:
    """Found by its name, for pickles."""

    @emits(QueueDepth, queue_id="q", depth=1)
    def method(self) -> int:
        return 3

    @staticmethod
    @emits(QueueDepth, queue_id="q", depth=1)
    def static() -> int:
        return 4

    @classmethod
    @emits(QueueDepth, queue_id="q", depth=1)
    def klass(cls) -> type:
        return cls


class TestStandingForAFunction:
    def test_nothing_of_ours_is_on_the_stack(self, collector: Collector) -> None:
        seen: list[Any] = []

        @observe(collector=collector)
        class Thing:
            @emits(SyscallExit)
            @emits(QueueDepth, queue_id="q", depth=lambda call: 1, when="call")
            def look(self) -> None:
                seen.append(sys._getframe(1).f_code)
                seen.append([entry.filename for entry in traceback.extract_stack()])

            @emits(SyscallExit)
            def fail(self) -> None:
                raise KeyError

        Thing().look()
        assert seen[0] is sys._getframe().f_code
        assert not [name for name in seen[1] if "kobs observe" in name]
        with pytest.raises(KeyError) as caught:
            Thing().fail()
        assert [entry.name for entry in caught.traceback] == [
            sys._getframe().f_code.co_name,
            "fail",
        ]

    def test_pickles_and_copies(self) -> None:
        for function in (ByName.method, ByName.static):
            for protocol in range(4, pickle.HIGHEST_PROTOCOL + 1):
                assert pickle.loads(pickle.dumps(function, protocol)) is function
            assert copy.copy(function) is copy.deepcopy(function) is function
        assert pickle.loads(pickle.dumps(ByName().method))() == 3
        assert pickle.loads(pickle.dumps(ByName.klass))() is ByName

    def test_weak_references(self, core: str) -> None:
        observed = observe(by_name)
        reference = weakref.ref(observed)
        thing = Everything()
        bound = types.MethodType(observed, thing)
        method = weakref.WeakMethod(bound)
        assert reference() is observed
        assert method() == bound
        assert len({observed, observed.__wrapped__}) == 2  # type: ignore[attr-defined]
        unobserve(observed)
        del observed, bound
        gc.collect()
        assert reference() is None
        assert method() is None

    def test_what_is_set_is_set(self, collector: Collector) -> None:
        @observe(collector=collector)
        @emits(QueueDepth, queue_id="q", depth=arg("depth"))
        def put(depth: int = 1) -> int:
            return depth

        put.__defaults__ = (5,)
        put.tag = "t"  # type: ignore[attr-defined]
        put.__name__ = "renamed"
        assert put() == 5
        assert (put.__wrapped__.tag, put.__wrapped__.__name__) == ("t", "renamed")  # type: ignore[attr-defined]
        assert [event.payload.depth for event in collector.snapshot()] == [5]
        with pytest.raises(AttributeError, match="'function' object has no attribute 'nothing'"):
            put.nothing  # type: ignore[attr-defined]  # noqa: B018

    def test_code_of_an_emission_sees_the_defaults_of_now(
        self, collector: Collector, core: str
    ) -> None:
        @observe(collector=collector)
        @emits(QueueDepth, queue_id="q", depth=lambda call: call.arguments["depth"])
        def put(depth: int = 1, *, times: int = 1) -> int:
            return depth * times

        put.__defaults__ = (5,)
        put.__kwdefaults__ = {"times": 3}
        assert put() == 15
        assert [event.payload.depth for event in collector.snapshot()] == [5]

    def test_a_wrong_call_tells_nothing(self, collector: Collector, core: str) -> None:
        cls = everything(
            collector,
            Emission(QueueDepth, fields={"queue_id": "q", "depth": 1}, when="call"),
            Emission(SyscallExit),
        )
        for call in (lambda: cls().klass(1, 2), lambda: cls().static(key=1), cls.plain):
            with pytest.raises(TypeError, match="argument"):
                call()
        with pytest.raises(TypeError, match="argument"):
            cls().later(1, 2)
        assert collector.snapshot() == []

    def test_recursion(self, core: str) -> None:
        with Collector(size=1024) as collector:

            @observe(collector=collector)
            class Deep:
                @emits(QueueDepth, queue_id="q", depth=arg("n"))
                def down(self, n: int) -> int:
                    return 0 if n == 0 else 1 + self.down(n - 1)

                @emits(SyscallExit)
                def forever(self) -> None:
                    self.forever()

            assert Deep().down(200) == 200
            assert [event.payload.depth for event in collector.snapshot()] == list(range(201))
            with pytest.raises(RecursionError):
                Deep().forever()
            assert Deep().down(1) == 1


class TestCoroutinesAndGenerators:
    def test_every_end_is_told_once(self, collector: Collector, core: str) -> None:
        things = everything(collector, Emission(SyscallExit))()

        async def main() -> None:
            assert await things.later() == 1
            assert [page async for page in things.pages()] == [1, 2]
            left = things.pages()
            await anext(left)
            await left.aclose()
            thrown = things.pages()
            await anext(thrown)
            with pytest.raises(KeyError):
                await thrown.athrow(KeyError())

        asyncio.run(main())
        assert list(things.rows()) == [1, None]
        closed = things.rows()
        next(closed)
        closed.close()
        closed.close()
        thrown = things.rows()
        next(thrown)
        with pytest.raises(KeyError):
            thrown.throw(KeyError())
        dropped = things.rows()
        next(dropped)
        del dropped
        things.rows().close()  # never began
        waiting = things.later()
        waiting.send(None)
        waiting.close()
        assert results(collector) == [
            ("later", "SUCCESS"), ("pages", "SUCCESS"), ("pages", "SUCCESS"), ("pages", "ERROR"),
            ("rows", "SUCCESS"), ("rows", "SUCCESS"), ("rows", "ERROR"), ("rows", "SUCCESS"),
            ("later", "ERROR"),
        ]  # fmt: skip

    def test_a_loop_that_ends_closes_the_generators_left_open(
        self, collector: Collector, core: str
    ) -> None:
        things = everything(collector, Emission(SyscallExit))()
        kept = []

        async def main() -> None:
            kept.append(things.pages())
            await anext(kept[0])
            dropped = things.pages()
            await anext(dropped)
            del dropped
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        asyncio.run(main())
        assert results(collector) == [("pages", "SUCCESS")] * 2

    def test_a_generator_that_is_in_a_cycle_is_closed(
        self, collector: Collector, core: str
    ) -> None:
        things = everything(collector, Emission(SyscallExit))()
        for make in (things.rows, things.later):
            made = make([])
            made.send(None)
            cycle = [made]
            cycle.append(cycle)
            if inspect.isgenerator(made):
                made.send(cycle)
            reference = weakref.ref(made)
            del made, cycle
            gc.collect()
            assert reference() is None
        assert results(collector) == [("rows", "SUCCESS"), ("later", "ERROR")]

    def test_a_coroutine_that_nobody_awaits_is_warned_of(self, collector: Collector) -> None:
        things = everything(collector, Emission(SyscallExit))()
        with pytest.warns(RuntimeWarning, match=r"'Everything.later' was never awaited"):
            things.later()
        assert collector.snapshot() == []

    def test_coroutines_where_only_coroutines_go(self, collector: Collector, core: str) -> None:
        @types.coroutine
        def old(inner: Any) -> Generator[Any, Any, Any]:
            return (yield from inner)

        @observe(collector=collector)
        class Thing:
            @emits(SyscallExit)
            async def later(self) -> int:
                return 5

            @emits(SyscallExit)
            @types.coroutine
            def old(self) -> Generator[Any, Any, int]:
                yield
                return 6

        thing = Thing()

        async def main() -> list[Any]:
            return [
                await old(thing.later()),
                await thing.old(),
                await asyncio.wait_for(thing.later(), 1),
                await asyncio.create_task(thing.later()),
            ]

        assert asyncio.run(main()) == [5, 6, 5, 5]
        assert len(results(collector)) == 4
        waiting = thing.later()
        assert not hasattr(type(waiting), "__iter__")
        with pytest.raises(TypeError, match="'coroutine' object is not iterable"):
            iter(waiting)
        waiting.close()
        assert not inspect.isawaitable(everything(collector, Emission(SyscallExit))().rows())

    def test_values_that_look_like_exceptions_come_through(
        self, collector: Collector, core: str
    ) -> None:
        things = everything(collector, Emission(SyscallExit))()
        for value in ((1, 2), StopIteration(3), ValueError(4), None):
            coroutine = things.later(value)
            coroutine.send(None)
            assert finish(coroutine.send) is value
            generator = things.rows(value)
            assert next(generator) is value
            assert generator.send(value) is value
            assert finish(generator.send) is value

    def test_a_step_that_is_refused_is_no_end(self, collector: Collector) -> None:
        things = everything(collector, Emission(SyscallExit))()
        rows = things.rows()
        for refused in (42, None):
            with pytest.raises(TypeError):
                rows.throw(refused)
        next(rows)
        with pytest.raises(TypeError):
            rows.throw(42)
        assert results(collector) == []
        assert list(rows) == [None]
        assert results(collector) == [("rows", "SUCCESS")]

    def test_a_generator_that_is_running_is_not_stepped(
        self, collector: Collector, core: str
    ) -> None:
        made: list[Any] = []

        @observe(collector=collector)
        @emits(SyscallExit)
        def rows() -> Iterator[int]:
            with pytest.raises(ValueError, match="already executing"):
                next(made[0])
            yield 1

        made.append(rows())
        assert next(made[0]) == 1
        with pytest.raises(TypeError, match="just-started"):
            rows().send(1)  # type: ignore[attr-defined]
        assert collector.snapshot() == []
        made.pop().close()
        assert results(collector) == [("rows", "SUCCESS")]


def use_plain(things: Any) -> None:
    things.plain(1, 2, 3, key=4, other=5)


def use_fails(things: Any) -> None:
    try:
        things.fails()
    except OSError:
        pass


def use_later(things: Any) -> None:
    coroutine = things.later()
    coroutine.send(None)
    try:
        coroutine.send(None)
    except StopIteration:
        pass


def use_left(things: Any) -> None:
    coroutine = things.later()
    coroutine.send(None)


def use_rows(things: Any) -> None:
    for _ in things.rows():
        pass


def use_thrown(things: Any) -> None:
    rows = things.rows()
    next(rows)
    try:
        rows.throw(KeyError)
    except KeyError:
        pass


def use_pages(things: Any) -> None:
    pages = things.pages()
    while True:
        try:
            step = pages.asend(None)
            while True:
                step.send(None)
        except StopIteration:
            pass
        except StopAsyncIteration:
            return


def use_static(things: Any) -> None:
    things.static(value=3)
    things.klass()


USES = (use_plain, use_fails, use_later, use_left, use_rows, use_thrown, use_pages, use_static)

KEY = arg("value").map(lambda value: ("key", value))

SAID: dict[str, tuple[tuple[Emission, ...], bool]] = {
    "timed": ((Emission(SyscallSlow, threshold_ms=0, when="exit"),), False),
    "from everywhere": (
        (
            Emission(QueueDepth, fields={"queue_id": this("__class__.__name__", default="?"),
                                         "depth": len_of(arg("more", "value", default=()))}),
            Emission(MessageSent, fields={"queue_id": raised("errno", default=1)}, when="exit"),
        ),
        False,
    ),
    "by a function": (
        (Emission(QueueDepth, fields={"queue_id": "q", "depth": lambda call: 1}, when="exit"),),
        False,
    ),
    "a scope": ((Emission(SyscallEnter, when="call"), Emission(SyscallExit)), True),
    "seen by watches": (
        (Emission(ProcessCreated, fields={"name": "p"}, header={"pid": 7}),), False,
    ),
    "sent and received": (
        (
            Emission(MessageSent, fields={"queue_id": "q"}, sends=KEY),
            Emission(MessageReceived, fields={"queue_id": "q"}, receives=KEY),
        ),
        False,
    ),
}  # fmt: skip


def drive(awaitable: Any) -> None:
    """To its end, without a loop."""
    with contextlib.suppress(StopIteration):
        while True:
            awaitable.send(None)


class TestFinalizers:
    def test_the_generator_that_another_stands_for_may_be_ended_first(
        self, collector: Collector, core: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The garbage collector ends in any order what is in a cycle."""
        things = everything(collector, Emission(SyscallExit))()
        told: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", told.append)
        outer = things.pages()
        drive(anext(outer))
        code = type(things).pages.__wrapped__.__code__
        [inner] = [
            each for each in gc.get_objects()
            if type(each) is types.AsyncGeneratorType and each.ag_code is code
            and each.ag_frame is not None and each.ag_frame.f_locals["self"] is things
        ]  # fmt: skip
        drive(inner.aclose())
        del outer, inner
        gc.collect()
        assert told == []


class TestMemory:
    @pytest.mark.parametrize("said", SAID)
    @pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__[4:])
    def test_nothing_is_left_behind(
        self, said: str, use: Callable[[Any], None], collector: Collector
    ) -> None:
        emissions, scope = SAID[said]
        things = everything(collector, *emissions, scope=scope)()
        calls = 100_000 if said in ("timed", "from everywhere") else 5_000

        def blocks() -> int:
            gc.collect()
            return sys.getallocatedblocks()

        for _ in range(5_000):  # what is remembered of the latest is full by then
            use(things)
        before = blocks()
        for _ in range(calls):
            use(things)
        assert blocks() - before < 200

    def test_a_class_and_what_it_observed_can_go(self, collector: Collector) -> None:
        if not classes_can_go():
            pytest.skip("this Python keeps classes that nobody uses")
        things = everything(collector, *(e for said, _ in SAID.values() for e in said))()
        for use in USES:
            use(things)
        gone = [weakref.ref(type(things)), weakref.ref(type(things).plain)]
        del things
        collect_all()
        assert [reference() for reference in gone] == [None, None]


def test_threads(collector: Collector, core: str) -> None:
    things = everything(collector, Emission(SyscallExit))()
    uses = [use for use in USES if use is not use_static]
    threads = [
        threading.Thread(target=lambda: [use(things) for _ in range(50) for use in uses])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results(collector)) == 4 * 50 * len(uses)


# -- both cores record the same ----------------------------------------------------------------

_NUMBERS = st.integers(0, 1 << 33)
_TEXTS = st.text(max_size=70)

STEPS = st.one_of(
    st.tuples(st.just("put"), st.tuples(_TEXTS, _NUMBERS), st.just({})),
    st.tuples(st.just("put"), st.tuples(_TEXTS), st.fixed_dictionaries({"depth": _NUMBERS})),
    st.tuples(st.just("put"), st.just(()), st.fixed_dictionaries({"name": _TEXTS})),
    st.tuples(st.just("put"), st.just(()), st.just({})),
    st.tuples(
        st.just("star"), st.lists(_NUMBERS, max_size=4).map(tuple),
        st.dictionaries(st.sampled_from(["tag", "key", "other"]), _TEXTS, max_size=3),
    ),
    st.tuples(st.just("create"), st.tuples(_TEXTS, st.integers(-2, 300)), st.just({})),
    st.tuples(st.just("fail"), st.tuples(st.integers(0, 200)), st.just({})),
    st.tuples(st.just("rows"), st.tuples(st.integers(0, 3)), st.just({})),
    st.tuples(st.just("later"), st.tuples(st.booleans()), st.just({})),
)  # fmt: skip


def recorded(core: str, steps: list[Any]) -> list[Any]:
    """What a class records of a sequence of calls under a core, without times and ids."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOBS_CORE", core)
        with Collector(size=1024) as collector:
            thing = a_class(collector)()
            for name, args, kwargs in steps:
                try:
                    made = getattr(thing, name)(*args, **kwargs)
                    if inspect.iscoroutine(made):
                        made.send(None)
                    elif inspect.isgenerator(made):
                        list(made)
                except (OSError, TypeError, StopIteration):
                    pass
            said = [plain(event) for event in collector.snapshot()]
            return [said, collector.losses().errors]


def plain(event: Event) -> Any:
    fields = event.payload.to_dict()
    for measured in ("duration_us", "duration_ms"):
        fields.pop(measured, None)
    header = (
        event.pid, event.tid, event.severity, event.category, event.link, event.causality_id,
        event.span_id, event.truncated,
    )  # fmt: skip
    return event.type_name, fields, header


def a_class(collector: Collector) -> Any:
    @observe(collector=collector)
    class Thing:
        def __init__(self) -> None:
            self.own = "own"

        @emits(QueueDepth, queue_id=arg("name"), depth=arg("depth"), link=arg(1))
        @emits(QueueDepth, queue_id=this("own"), depth=len_of(arg("name")), when="call")
        @emits(MessageSent, queue_id=arg("name").map(str.upper), where=arg("depth"))
        def put(self, name: str, depth: int = 7) -> None: ...

        @emits(QueueDepth, queue_id=arg("key"), depth=len_of(arg("items")))
        @emits(QueueDepth, queue_id=arg("tag", default="none"), depth=arg(1, default=3))
        @emits(QueueDepth, queue_id="rest", depth=len_of(arg("rest")))
        def star(self, *items: int, key: str = "k", **rest: str) -> None: ...

        @emits(ProcessCreated, name=arg("name"), priority=arg("priority"), pid=returned("0"))
        @emits(ProcessCreated, name=returned("gone.0", default="d"), severity=returned("1"))
        def create(self, name: str, priority: int) -> tuple[int, int]:
            return len(name), len(name) % 5

        @emits(SyscallExit)
        @emits(MessageSent, queue_id=raised("errno"), when="raise", where=raised("errno"))
        @emits(MessageSent, queue_id=raised(), when="raise")
        @emits(SyscallSlow, threshold_ms=arg("number").map(lambda n: n * 10**5), when="exit")
        def fail(self, number: int) -> None:
            if number % 2:
                raise OSError(number, "odd")

        @emits(SyscallExit)
        @emits(QueueDepth, queue_id="before", depth=arg("count"), when="call")
        def rows(self, count: int) -> Iterator[int]:
            yield from range(count)
            if count == 3:
                raise OSError(count, "three")

        @emits(SyscallExit)
        @emits(QueueDepth, queue_id="after", depth=returned())
        async def later(self, fails: bool) -> int:
            if fails:
                raise OSError(9, "later")
            return 4

    return Thing


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_both_cores_record_the_same(steps: list[Any]) -> None:
    assert recorded("c", steps) == recorded("python", steps)
