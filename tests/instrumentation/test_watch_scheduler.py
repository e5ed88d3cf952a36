"""The scheduler watch, in this process: threads, executors, asyncio."""

import _thread
import asyncio
import contextvars
import copy
import hashlib
import inspect
import os
import pickle
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FunctionType
from typing import Any

import pytest

import kobs
from kobs import ContextSwitch, LoopStalled, MetricUpdate, SchedulerLatency
from kobs._core import hooking
from kobs.context import Cause, cause, origin
from kobs_instrumentation.watch import _patch, scheduler


@pytest.fixture
def collector() -> Iterator[kobs.Collector]:
    with kobs.Collector(size=1024) as made:
        undo = scheduler.install(lambda: made)
        yield made
        undo()


def of(collector: kobs.Collector, *types: type) -> list[kobs.Event]:
    return [event for event in collector.snapshot() if isinstance(event.payload, types)]


@pytest.mark.says("wake-to-run latency of threads")
def test_a_thread_tells_how_long_it_took_to_run(collector: kobs.Collector) -> None:
    tids: list[int] = []
    thread = threading.Thread(target=lambda: tids.append(threading.get_native_id()))
    thread.start()
    thread.join()
    (event,) = of(collector, SchedulerLatency)
    assert event.tid == tids[0]
    assert 0 < event.payload.wake_to_run_us < 10e6


def test_a_thread_shows_nothing_of_kobs() -> None:
    def run() -> set[str]:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        return set(vars(thread))

    with kobs.Collector(size=16) as collector:
        undo = scheduler.install(lambda: collector)
        watched = run()
        undo()
    assert watched == run()


def test_a_pool_s_worker_forgets_a_work_item_s_cause_when_it_is_done(
    collector: kobs.Collector,
) -> None:
    def ambient() -> tuple[int, str]:
        found = cause.get()
        return (found.causality_id if found else 0), origin.get()

    with ThreadPoolExecutor(1) as pool:
        scope = origin.set("one")
        token = cause.set(Cause(11, 0))
        one = pool.submit(ambient)
        origin.reset(scope)
        cause.reset(token)
        two = pool.submit(ambient)
        assert (one.result(), two.result()) == ((11, "one"), (0, ""))


def test_an_error_in_a_work_item_reaches_its_future(collector: kobs.Collector) -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result()


def reasons(collector: kobs.Collector) -> list[tuple[int, int, str]]:
    return [
        (e.payload.from_pid, e.payload.to_pid, e.payload.reason)
        for e in of(collector, ContextSwitch)
    ]


@pytest.mark.says("task switches with the reason")
def test_tasks_tell_their_beginning_and_their_end(collector: kobs.Collector) -> None:
    async def fails() -> None:
        raise ValueError

    async def main() -> None:
        good = asyncio.create_task(asyncio.sleep(0))
        bad = asyncio.create_task(fails())
        gone = asyncio.create_task(asyncio.sleep(60))
        await asyncio.wait([good, bad])
        gone.cancel()
        await asyncio.wait([gone])
        assert isinstance(bad.exception(), ValueError)

    asyncio.run(main())
    told = reasons(collector)
    first = told[0][1]
    assert told[:4] == [
        (0, first, "task created"),
        (first, first + 1, "task created"),
        (first, first + 2, "task created"),
        (first, first + 3, "task created"),
    ]
    assert {(e[0], e[2]) for e in told if e[1] == 0} >= {
        (first, "task done"),
        (first + 1, "task done"),
        (first + 2, "task failed"),
        (first + 3, "task cancelled"),
    }


@pytest.mark.parametrize("debug", [False, True])
def test_tasks_are_told_where_the_program_has_taken_asyncio_away(
    collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(_patch, "on_error", lambda *of: told.append(of))

    async def main() -> None:
        with monkeypatch.context() as taken:
            for name in [name for name in sys.modules if name.split(".")[0] == "asyncio"]:
                taken.setitem(sys.modules, name, None)
            await asyncio.get_running_loop().create_task(asyncio.sleep(0))

    asyncio.run(main(), debug=debug)
    assert told == []
    created = [e for e in of(collector, ContextSwitch) if e.payload.reason == "task created"]
    assert len(created) >= 2


def test_the_end_of_a_task_belongs_to_the_task_s_chain(collector: kobs.Collector) -> None:
    async def work() -> None:
        cause.set(Cause(11, 0))
        await asyncio.sleep(0)

    asyncio.run(work())
    created, awaits, end = of(collector, ContextSwitch)[:3]
    assert (created.payload.reason, created.causality_id) == ("task created", 0)
    assert (awaits.payload.reason, awaits.causality_id) == ("task awaits", 11)
    assert (end.payload.reason, end.causality_id) == ("task done", 11)


class TestStepsOfTasks:
    """How long each waited to run, and why it ended."""

    @pytest.mark.says("task switches with the reason")
    def test_each_is_told(self, collector: kobs.Collector) -> None:
        async def work() -> None:
            for _ in range(3):
                await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.gather(work())

        asyncio.run(main())
        told = reasons(collector)
        (number,) = [to for _, to, reason in told if reason == "task created"][1:2]
        assert [reason for of_task, _, reason in told if of_task == number] == [
            *["task awaits"] * 3,
            "task done",
        ]
        steps = [event for event in told if event[2] != "task created"]
        assert len(of(collector, SchedulerLatency)) == len(steps)

    @pytest.mark.says("wake-to-run latency of asyncio")
    @pytest.mark.parametrize("ready", ["another step", "another thread"])
    def test_a_latency_is_from_when_it_could_run(
        self, collector: kobs.Collector, ready: str
    ) -> None:
        held_ms = 30.0

        async def main() -> None:
            loop = asyncio.get_running_loop()
            future = loop.create_future()

            def set_result() -> None:
                future.set_result(None)
                time.sleep(held_ms / 1e3)  # the waiting task could run, and does not get to

            if ready == "another step":
                loop.call_soon(set_result)
            else:
                threading.Timer(0.001, lambda: loop.call_soon_threadsafe(set_result)).start()
            await future

        asyncio.run(main())
        longest = max(event.payload.wake_to_run_us for event in of(collector, SchedulerLatency))
        assert held_ms * 1e3 <= longest < 10e6

    def test_what_a_step_waited_for_is_no_latency(self, collector: kobs.Collector) -> None:
        async def main() -> None:
            await asyncio.sleep(0.2)

        asyncio.run(main())
        assert of(collector, SchedulerLatency)
        assert all(e.payload.wake_to_run_us < 0.2e6 for e in of(collector, SchedulerLatency))

    def test_a_callback_that_is_bound_to_a_task_is_no_step(self, collector: kobs.Collector) -> None:
        async def work() -> None:
            await asyncio.sleep(60)

        async def main() -> None:
            task = asyncio.create_task(work())
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        told = reasons(collector)
        (number,) = [to for _, to, reason in told if reason == "task created"][1:2]
        assert [reason for of_task, _, reason in told if of_task == number] == [
            "task awaits",
            "task cancelled",
        ]

    def test_of_tasks_in_python_too(self, collector: kobs.Collector) -> None:
        made = asyncio.tasks._PyTask  # type: ignore[attr-defined]

        async def work() -> None:
            await asyncio.sleep(0)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(lambda loop, coro, **more: made(coro, loop=loop, **more))
            await loop.create_task(work())

        asyncio.run(main())
        told = reasons(collector)
        (number,) = [to for _, to, reason in told if reason == "task created"][1:2]
        assert [reason for of_task, _, reason in told if of_task == number] == [
            "task awaits",
            "task done",
        ]

    def test_of_a_flood_some_are_told_and_the_others_counted(self) -> None:
        steps = 10 * scheduler.STEPS_A_SECOND

        async def main() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        with kobs.Collector(size=8192, adaptive=True) as collector:
            undo = scheduler.install(lambda: collector)
            asyncio.run(main())
            undo()
            told = of(collector, ContextSwitch, SchedulerLatency)
            left_out = collector.stream_stats().events_sampled_out
        assert left_out > steps
        # "task created" of the two tasks, and the end of the first, are always told.
        assert 2 * steps <= len(told) + left_out <= 2 * steps + 20


@pytest.mark.says("preemption")
def test_how_often_the_system_took_the_processor_away_is_told_at_the_end(
    collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More threads than processors, which all compute and let go of the interpreter lock."""
    monkeypatch.setattr(scheduler, "_ended", [])
    count = 2 * (os.cpu_count() or 1)
    text = b"x" * 50_000_000
    threads = [threading.Thread(target=hashlib.sha256, args=(text,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert of(collector, MetricUpdate) == []
    scheduler.at_end()
    scheduler.at_end()
    (event,) = of(collector, MetricUpdate)
    assert event.payload.name == "scheduler.preemptions"
    assert event.payload.value >= 1
    assert event.parent == 0


class Clock:
    """Time passes only where a test says so, however busy the machine is."""

    def __init__(self) -> None:
        self.now_ns = 1

    def __call__(self) -> int:
        return self.now_ns

    def hold(self, milliseconds: float) -> None:
        """Keep the processor, as a stalling callback does."""
        self.now_ns += round(milliseconds * 1e6)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Only the stand-in in Python asks it; what tells in the end is the same for both cores."""
    made = Clock()
    monkeypatch.setattr(scheduler, "monotonic_ns", made)
    monkeypatch.setattr(hooking, "native", None)
    return made


@pytest.mark.parametrize("kind", ["task", "function", "partial"])
def test_a_step_that_holds_the_loop_is_told_with_who_held_it(
    clock: Clock, collector: kobs.Collector, kind: str
) -> None:
    def hold(milliseconds: float) -> None:
        clock.hold(milliseconds)

    async def culprit() -> None:
        hold(scheduler.STALL_MS)
        await asyncio.sleep(0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if kind == "task":
            await culprit()
        else:
            call = (hold, scheduler.STALL_MS)
            loop.call_soon(*call) if kind == "function" else loop.call_soon(partial(*call))
        await asyncio.sleep(0.001)

    asyncio.run(main())
    (event,) = of(collector, LoopStalled)
    assert event.payload.duration_ms == scheduler.STALL_MS
    assert ("culprit" if kind == "task" else "hold") in event.payload.stack
    assert "test_watch_scheduler.py" in event.payload.stack


def test_a_loop_that_keeps_up_tells_nothing(clock: Clock, collector: kobs.Collector) -> None:
    async def main() -> None:
        for _ in range(3):
            clock.hold(scheduler.STALL_MS - 1)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert of(collector, LoopStalled) == []


@pytest.mark.says("loop stalls with the stack of the culprit")
def test_a_real_stall_is_told_with_who_held_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def culprit() -> None:
        time.sleep(0.02)
        await asyncio.sleep(0)

    monkeypatch.setattr(scheduler, "STALL_MS", 10.0)
    with kobs.Collector(size=1024) as collector:
        undo = scheduler.install(lambda: collector)
        asyncio.run(culprit())
        undo()
        stalls = [e.payload for e in of(collector, LoopStalled) if "culprit" in e.payload.stack]
    assert stalls
    assert stalls[0].duration_ms >= 20


@pytest.mark.parametrize(("limit_ms", "told"), [(0.0, True), (1e9, False)])
def test_the_limit_is_that_of_the_watch(
    monkeypatch: pytest.MonkeyPatch, limit_ms: float, told: bool
) -> None:
    async def culprit() -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(scheduler, "STALL_MS", limit_ms)
    with kobs.Collector(size=1024) as collector:
        undo = scheduler.install(lambda: collector)
        asyncio.run(culprit())
        undo()
        stacks = [event.payload.stack for event in of(collector, LoopStalled)]
    assert any("culprit" in stack for stack in stacks) is told
    assert bool(stacks) is told


class TestAStepLooksAsItDid:
    """What stands in for the method of a handle that runs a step."""

    def test_it_is_found_printed_pickled_and_copied_as_the_function(self) -> None:
        bare = asyncio.Handle._run
        with kobs.Collector(size=16) as collector:
            undo = scheduler.install(lambda: collector)
            watched = asyncio.Handle._run
            assert watched is not bare
            assert isinstance(watched, FunctionType)
            assert (watched.__name__, watched.__qualname__) == ("_run", "Handle._run")
            assert watched.__doc__ == bare.__doc__
            assert inspect.signature(watched) == inspect.signature(bare)
            assert copy.copy(watched) is watched
            assert pickle.loads(pickle.dumps(watched)) is watched
            assert weakref.ref(watched)() is watched
            undo()
        assert asyncio.Handle._run is bare

    def test_a_subclass_may_override_and_call_it(self, collector: kobs.Collector) -> None:
        ran: list[str] = []

        class Mine(asyncio.Handle):
            def _run(self) -> None:
                ran.append("before")
                super()._run()

        loop = asyncio.new_event_loop()
        Mine(ran.append, ("step",), loop)._run()
        loop.close()
        assert ran == ["before", "step"]

    @pytest.mark.skipif(hooking.native is None, reason="the Python core's stand-in has a frame")
    def test_no_frame_is_added(self, collector: kobs.Collector) -> None:
        names: list[str] = []

        def step() -> None:
            names.extend(frame.name for frame in traceback.extract_stack(limit=3))

        loop = asyncio.new_event_loop()
        asyncio.Handle(step, (), loop)._run()
        loop.close()
        expected = ["test_no_frame_is_added", "_run", "step"]
        assert names == expected

    def test_what_a_step_raises_shows_no_frame_of_kobs(self, collector: kobs.Collector) -> None:
        def step() -> None:
            raise KeyboardInterrupt

        loop = asyncio.new_event_loop()
        handle = asyncio.Handle(step, (), loop)
        with pytest.raises(KeyboardInterrupt) as caught:
            handle._run()
        loop.close()
        assert [entry.name for entry in traceback.extract_tb(caught.tb)][1:] == ["_run", "step"]

    @pytest.mark.skipif(hooking.native is None, reason="the Python core's stand-in asks it")
    def test_a_handle_of_the_program_s_own_kind_is_asked_nothing(self) -> None:
        class Mine(asyncio.Handle):
            def __getattribute__(self, name: str) -> Any:
                asked.append(name)
                return super().__getattribute__(name)

        def asked_by_a_step() -> list[str]:
            loop = asyncio.new_event_loop()
            handle = Mine(print, (), loop, contextvars.copy_context())
            loop.close()
            asked.clear()
            handle._run()
            return list(asked)

        asked: list[str] = []
        bare = asked_by_a_step()
        with kobs.Collector(size=16) as collector:
            undo = scheduler.install(lambda: collector)
            watched = asked_by_a_step()
            undo()
        assert watched == bare

    def test_it_takes_what_the_function_takes(self, collector: kobs.Collector) -> None:
        with pytest.raises(TypeError, match="_run"):
            asyncio.Handle._run()  # type: ignore[call-arg]

    def test_an_error_of_kobs_is_counted_and_the_step_runs(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[BaseException] = []
        monkeypatch.setattr(_patch, "on_error", lambda where, error: told.append(error))
        monkeypatch.setattr(scheduler, "STALL_MS", 0.0)
        monkeypatch.setattr(scheduler, "_where", lambda *_: 1 / 0)
        ran: list[int] = []

        async def main() -> None:
            asyncio.get_running_loop().call_soon(ran.append, 1)
            await asyncio.sleep(0)

        with kobs.Collector(size=16) as collector:
            undo = scheduler.install(lambda: collector)
            asyncio.run(main())
            undo()
        assert ran == [1]
        assert {type(error) for error in told} == {ZeroDivisionError}


class Curious:
    """A callback that notices what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        object.__getattribute__(self, "asked").append(name)
        return object.__getattribute__(self, name)

    def __repr__(self) -> str:
        object.__getattribute__(self, "asked").append("repr")
        return "curious"

    def __call__(self) -> None:
        pass


def asked_by_a_loop() -> list[str]:
    callback = Curious()

    async def main() -> None:
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0)

    asyncio.run(main())
    return list(object.__getattribute__(callback, "asked"))


@pytest.mark.parametrize("stall_ms", [0.0, 1e9], ids=["every step stalls", "none does"])
def test_a_callback_is_asked_nothing(monkeypatch: pytest.MonkeyPatch, stall_ms: float) -> None:
    bare = asked_by_a_loop()
    monkeypatch.setattr(scheduler, "STALL_MS", stall_ms)
    with kobs.Collector(size=64) as collector:
        undo = scheduler.install(lambda: collector)
        watched = asked_by_a_loop()
        undo()
        told = [event.payload.stack for event in of(collector, LoopStalled)]
    assert watched == bare
    assert ("<Curious>" in told) is (stall_ms == 0.0)


def test_a_thread_s_function_is_asked_nothing() -> None:
    def asked() -> list[str]:
        function, done = Curious(), threading.Event()
        token = cause.set(Cause(7, 0))
        _thread.start_new_thread(function, ())
        cause.reset(token)
        _thread.start_new_thread(done.set, ())
        assert done.wait(10)
        return list(object.__getattribute__(function, "asked"))

    bare = asked()
    with kobs.Collector(size=64) as collector:
        undo = scheduler.install(lambda: collector)
        watched = asked()
        undo()
    assert watched == bare
