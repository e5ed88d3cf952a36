"""What `@emits` records: when, and where the fields come from."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from kobs import (
    Collector,
    Event,
    MessageSent,
    OperationSlow,
    PermissionDenied,
    ProcessCreated,
    ProcessTerminated,
    QueueDepth,
    Severity,
    SyscallExit,
    SyscallResult,
    SyscallSlow,
    arg,
    emits,
    observe,
    returned,
)
from kobs._core import select
from kobs.errors import ObserveError
from kobs.observe import Call, len_of, raised, this


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector(size=1024) as made:
        yield made


@pytest.fixture
def pass_ms(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass. With the Python core on the clock that what is decorated from now on reads:
    it stands still otherwise, however busy the machine is. The C core has its own, the real one."""
    if select().name == "c":
        return lambda milliseconds: time.sleep(milliseconds / 1000)
    now = [1]

    def passes(milliseconds: float) -> None:
        now[0] += round(milliseconds * 1e6)

    monkeypatch.setattr(time, "perf_counter_ns", lambda: now[0])
    return passes


def ran_for_4_ms(event: Event) -> bool:
    """The call ran for twice 2 ms; the 200 ms for which it was suspended are not counted."""
    took: float = event.payload.duration_us
    return took == 4_000 if select().name == "python" else 4_000 <= took < 200_000


def recorded(collector: Collector) -> list[Event]:
    return collector.snapshot()


def depths(collector: Collector) -> list[tuple[object, int]]:
    return [(e.payload.queue_id, e.payload.depth) for e in recorded(collector)]


class TestArguments:
    def test_positional_by_keyword_and_default(self, collector: Collector) -> None:
        @observe(collector=collector)
        class Manager:
            @emits(ProcessCreated, name=arg("name"), priority=arg("priority"), pid=returned())
            def create(self, name: str, priority: int = 5) -> int:
                return 42

        manager = Manager()
        assert manager.create("a") == 42
        manager.create(name="b", priority=7)
        manager.create("c", 9)
        events = recorded(collector)
        assert [(e.payload.name, e.payload.priority) for e in events] == [
            ("a", 5), ("b", 7), ("c", 9)
        ]  # fmt: skip
        assert {event.pid for event in events} == {42}

    def test_star_args_and_keywords(self, collector: Collector) -> None:
        @observe(collector=collector)
        class Queue:
            @emits(QueueDepth, queue_id=arg("name"), depth=len_of(arg("items")))
            @emits(QueueDepth, queue_id=arg("tag", default="none"), depth=len_of(arg("more")))
            def put(self, *items: object, name: str = "q", **more: object) -> None: ...

        Queue().put(1, 2, 3)
        Queue().put(name="other", tag="t")
        assert depths(collector) == [("q", 3), ("none", 0), ("other", 0), ("t", 1)]

    def test_by_position_and_by_the_first_name_that_fits(self, collector: Collector) -> None:
        @observe(collector=collector)
        class Queue:
            @emits(QueueDepth, queue_id=arg(0), depth=arg("depth", "size", "length"))
            def put(self, name: str, size: int) -> None: ...

            @emits(QueueDepth, queue_id=arg(1, default="no"), depth=arg(0))
            def star(self, *values: Any) -> None: ...

            @staticmethod
            @emits(QueueDepth, queue_id=arg(0), depth=1)
            def static(name: str) -> None: ...

        Queue().put("a", 2)
        Queue().star(3, "b")
        Queue().star(4)
        Queue.static("s")
        assert depths(collector) == [("a", 2), ("b", 3), ("no", 4), ("s", 1)]

    def test_a_path_into_an_argument(self, collector: Collector) -> None:
        class Request:
            sizes = (1, 2, 3)
            name = "r"

        @observe(collector=collector)
        class Server:
            @emits(QueueDepth, queue_id=arg("request.name"), depth=arg("request.sizes.2"))
            @emits(QueueDepth, queue_id=arg("request.nobody", default="?"), depth=0)
            def serve(self, request: Request) -> None: ...

        Server().serve(Request())
        assert depths(collector) == [("r", 3), ("?", 0)]

    def test_parameters_behind_another_decorator(self, collector: Collector) -> None:
        import functools

        def other(function: Any) -> Any:
            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return function(*args, **kwargs)

            return wrapper

        @observe(collector=collector)
        class Queue:
            @other
            @emits(QueueDepth, queue_id=arg("name"), depth=arg("size"))
            def below(self, name: str, size: int = 4) -> None: ...

            @emits(QueueDepth, queue_id=arg("name"), depth=arg("size"))
            @other
            def above(self, name: str, *, size: int = 4) -> None: ...

        Queue().below("a")
        Queue().below(size=5, name="b")
        Queue().above("c")
        Queue().above(name="d", size=6)
        assert depths(collector) == [("a", 4), ("b", 5), ("c", 4), ("d", 6)]


class TestOtherSources:
    def test_result_and_instance(self, collector: Collector) -> None:
        class Child:
            pid = 7
            names = ("n",)

        @observe(collector=collector)
        class Manager:
            def __init__(self) -> None:
                self.queue = "own"
                self.__hidden = 3

            @emits(ProcessCreated, name=returned("names.0"), pid=returned("pid"))
            @emits(QueueDepth, queue_id=this("queue"), depth=this("__hidden"))
            @emits(QueueDepth, queue_id=this("gone", default="d"), depth=returned("x", default=9))
            def create(self) -> Child:
                return Child()

        Manager().create()
        first, second, third = recorded(collector)
        assert (first.payload, first.pid) == (ProcessCreated(name="n"), 7)
        assert second.payload == QueueDepth("own", 3)
        assert third.payload == QueueDepth("d", 9)

    def test_plain_values_and_functions_of_the_call(self, collector: Collector) -> None:
        seen: list[Call] = []

        def depth(call: Call) -> int:
            seen.append(call)
            return 2 * call.arguments["b"]

        @observe(collector=collector)
        class Queue:
            @emits(QueueDepth, queue_id="fixed", depth=depth, severity=Severity.WARN)
            def put(self, a: int, b: int = 4, *more: int, c: int = 0, **rest: int) -> str:
                return "result"

        queue = Queue()
        queue.put(1, 5, 6, z=7)
        (event,) = recorded(collector)
        assert event.payload == QueueDepth("fixed", 10)
        assert event.severity is Severity.WARN
        (call,) = seen
        assert call.arguments == {"a": 1, "b": 5, "more": (6,), "c": 0, "rest": {"z": 7}}
        assert (call.instance, call.method, call.result, call.error) == (
            queue,
            "put",
            "result",
            None,
        )
        assert call.duration_us > 0

    def test_map_and_header_fields(self, collector: Collector) -> None:
        @observe(collector=collector)
        class Queue:
            @emits(
                QueueDepth, queue_id=arg("name").map(str.upper), depth=1,
                link=17, causality_id=5, parent=3, span_id=2,
            )  # fmt: skip
            def put(self, name: str) -> None: ...

        Queue().put("x")
        (event,) = recorded(collector)
        assert event.payload.queue_id == "X"
        assert (event.link, event.causality_id, event.parent, event.span_id) == (17, 5, 3, 2)


class TestWhenAndByItself:
    def test_an_exit_fills_name_duration_result_and_errno(self, collector: Collector) -> None:
        @observe(collector=collector)
        class Kernel:
            @emits(SyscallExit)
            def read(self, error: BaseException | None = None) -> int:
                if error is not None:
                    raise error
                return 3

        kernel = Kernel()
        kernel.read()
        for error in (OSError(13, "no"), ValueError("bad"), KeyboardInterrupt()):
            with pytest.raises(type(error)):
                kernel.read(error)
        payloads = [event.payload for event in recorded(collector)]
        assert [(p.name, p.result, p.errno) for p in payloads] == [
            ("read", SyscallResult.SUCCESS, 0),
            ("read", SyscallResult.ERROR, 13),
            ("read", SyscallResult.ERROR, 0),
            ("read", SyscallResult.ERROR, 0),
        ]
        assert all(payload.duration_us > 0 for payload in payloads)

    def test_before_at_the_return_and_at_an_error(self, collector: Collector) -> None:
        order: list[int] = []

        @observe(collector=collector)
        class Queue:
            @emits(QueueDepth, queue_id="before", depth=0, when="call")
            @emits(QueueDepth, queue_id="after", depth=1)
            @emits(MessageSent, queue_id=raised("code"), when="raise")
            @emits(PermissionDenied, required=raised(), when="raise")
            def put(self, fail: bool = False) -> None:
                order.append(len(collector.snapshot()))
                if fail:
                    error = PermissionError("not you")
                    error.code = 7  # type: ignore[attr-defined]
                    raise error

        Queue().put()
        with pytest.raises(PermissionError):
            Queue().put(fail=True)
        assert order == [1, 3]
        assert [event.payload for event in recorded(collector) if event.severity < 3] == [
            QueueDepth("before", 0), QueueDepth("after", 1), QueueDepth("before", 0),
            MessageSent(7),
        ]  # fmt: skip
        (denied,) = (event for event in recorded(collector) if event.severity >= 3)
        assert denied.payload == PermissionDenied("put", "PermissionError: not you")

    def test_conditions_and_thresholds(self, collector: Collector) -> None:
        @observe(collector=collector)
        class Kernel:
            limit = 0.0

            @emits(PermissionDenied, required="x", where=lambda call: not call.result)
            @emits(SyscallSlow, threshold_ms=this("limit"))
            @emits(OperationSlow, threshold_ms=60_000, p99_ms=1.0)
            def check(self, allowed: bool) -> bool:
                return allowed

        kernel = Kernel()
        kernel.check(True)
        kernel.check(False)
        kernel.limit = 60_000.0
        kernel.check(True)
        names = [event.type_name for event in recorded(collector)]
        assert names == ["SyscallSlow", "PermissionDenied", "SyscallSlow"]
        slow = recorded(collector)[0].payload
        assert (slow.name, slow.threshold_ms) == ("check", 0.0)
        assert slow.duration_ms > 0


class TestKindsOfMethods:
    def test_properties_static_and_class_methods(self, collector: Collector) -> None:
        @observe(collector=collector)
        class Thing:
            value = 1

            @property
            @emits(QueueDepth, queue_id="get", depth=returned())
            def depth(self) -> int:
                return self.value

            @depth.setter
            @emits(QueueDepth, queue_id="set", depth=arg("value"))
            def depth(self, value: int) -> None:
                self.value = value

            @emits(QueueDepth, queue_id="over", depth=returned())
            @property
            def over(self) -> int:
                return 5

            @staticmethod
            @emits(QueueDepth, queue_id=arg("name"), depth=0)
            def static(name: str) -> None: ...

            @emits(QueueDepth, queue_id=this("__name__"), depth=arg("n"))
            @classmethod
            def klass(cls, n: int) -> None: ...

        thing = Thing()
        thing.depth = 4
        assert (thing.depth, thing.over) == (4, 5)
        Thing.static("s")
        thing.klass(9)
        assert depths(collector) == [
            ("set", 4), ("get", 4), ("over", 5), ("s", 0), ("Thing", 9)
        ]  # fmt: skip

    def test_a_plain_function(self, collector: Collector) -> None:
        @observe(collector=collector)
        @emits(QueueDepth, queue_id=arg("name"), depth=returned())
        def measure(name: str) -> int:
            return 3

        assert measure("f") == 3
        assert depths(collector) == [("f", 3)]

    def test_the_time_a_coroutine_is_suspended_is_not_counted(
        self, collector: Collector, pass_ms: Callable[[float], None]
    ) -> None:
        @observe(collector=collector)
        class Client:
            @emits(SyscallExit)
            async def fetch(self) -> str:
                pass_ms(2)
                asyncio.get_running_loop().call_soon(pass_ms, 200)
                await asyncio.sleep(0)
                pass_ms(2)
                return "body"

        assert asyncio.run(Client().fetch()) == "body"
        (event,) = recorded(collector)
        assert ran_for_4_ms(event)

    def test_the_time_a_generator_is_suspended_is_not_counted(
        self, collector: Collector, pass_ms: Callable[[float], None]
    ) -> None:
        @observe(collector=collector)
        class Source:
            @emits(SyscallExit)
            def rows(self) -> Iterator[int]:
                pass_ms(2)
                yield 1
                pass_ms(2)

            @emits(SyscallExit)
            async def pages(self) -> AsyncIterator[int]:
                pass_ms(2)
                asyncio.get_running_loop().call_soon(pass_ms, 200)
                await asyncio.sleep(0)
                yield 1
                pass_ms(2)

        async def consume() -> None:
            async for _ in Source().pages():
                pass_ms(200)

        for _ in Source().rows():
            pass_ms(200)
        asyncio.run(consume())
        assert [ran_for_4_ms(event) for event in recorded(collector)] == [True, True]

    def test_generators_end_where_they_end(self, collector: Collector) -> None:
        @observe(collector=collector)
        class Source:
            @emits(SyscallExit)
            def rows(self, fail: bool = False) -> Iterator[int]:
                yield 1
                if fail:
                    raise OSError(5, "io")
                yield 2

        list(Source().rows())
        generator = Source().rows()
        next(generator)
        assert len(recorded(collector)) == 1
        generator.close()
        with pytest.raises(OSError, match="io"):
            list(Source().rows(fail=True))
        Source().rows()
        results = [(e.payload.result.name, e.payload.errno) for e in recorded(collector)]
        assert results == [("SUCCESS", 0), ("SUCCESS", 0), ("ERROR", 5)]

    def test_a_cancelled_coroutine_ends_in_an_error(self, collector: Collector) -> None:
        @observe(collector=collector)
        class Client:
            @emits(SyscallExit)
            async def wait(self) -> None:
                await asyncio.sleep(60)

        async def main() -> None:
            task = asyncio.ensure_future(Client().wait())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        (event,) = recorded(collector)
        assert event.payload.result is SyscallResult.ERROR


class TestRefused:
    """At decoration time, with a message that says what is there and what to do."""

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"nme": arg("name")}, "no field 'nme'; its fields are name, priority"),
            ({"name": arg("nam")}, "names no parameter of Manager.create(self, name)"),
            ({"name": arg("name"), "when": "later"}, "when='later'; expected one of \"call\""),
            ({"name": 5}, "ProcessCreated.name = 5: expected a str"),
            ({"name": "x", "priority": 256}, "256"),
            ({"name": str}, "expected arg(...), returned(...)"),
            ({"name": returned(), "when": "call"}, 'use when="return"'),
            ({"name": raised("x")}, 'use when="raise"'),
            ({"name": arg("name"), "pid": arg("pid")}, "header pid = arg('pid')"),
        ],
    )  # fmt: skip
    def test_what_does_not_fit(self, fields: dict[str, Any], said: str) -> None:
        with pytest.raises(ObserveError) as caught:

            class Manager:
                @emits(ProcessCreated, **fields)
                def create(self, name: str) -> int:
                    return 1

        assert "Manager.create" in str(caught.value)
        assert said in str(caught.value)

    def test_a_required_field_that_nothing_fills(self) -> None:
        with pytest.raises(ObserveError, match=r"ProcessTerminated on .* needs 'exit_code'"):

            class Manager:
                @emits(ProcessTerminated)
                def end(self) -> None: ...

    def test_this_in_a_static_method(self) -> None:
        class Thing:
            @staticmethod
            @emits(QueueDepth, queue_id=this("name"), depth=0)
            def static() -> None: ...

        with pytest.raises(ObserveError, match="is called on no instance"):
            observe(Thing)

    def test_no_payload_type_and_no_function(self) -> None:
        with pytest.raises(ObserveError, match="is no payload type"):
            emits(int)(lambda self: None)  # type: ignore[type-var]
        with pytest.raises(ObserveError, match="directly over the def"):
            emits(SyscallExit)(3)

    def test_a_path_that_is_none(self) -> None:
        with pytest.raises(ObserveError, match="a default is given by keyword"):
            arg("name", "not a name")
        with pytest.raises(ObserveError, match="dotted path"):
            returned(3)  # type: ignore[arg-type]
