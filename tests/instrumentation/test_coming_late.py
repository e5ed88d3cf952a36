"""What was there before the watches, what others put in place, and what is said of either."""

import os
import queue
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from os import read
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

import kobs
from kobs import FileChanged, MessageReceived, MessageSent, SyscallExit
from kobs._core import hooking
from kobs.session import Session
from kobs_instrumentation import registry

c_core = pytest.mark.skipif(hooking.native is None, reason="the Python core cannot see it")
python_core = pytest.mark.skipif(hooking.native is not None, reason="the C core sees it")


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[kobs.Collector]:
    session = Session.create("late", ["late"], root=tmp_path)
    with kobs.Collector(session=session, size=1024) as collector:
        yield collector
        registry.disable(collector)


def names(collector: kobs.Collector, *types: type) -> list[str]:
    return [e.type_name for e in collector.snapshot() if isinstance(e.payload, types)]


def reasons(collector: kobs.Collector) -> list[str]:
    assert collector.session is not None
    return [entry["reason"] for entry in collector.session.unobserved()]


class Test_instances_from_before:
    @pytest.mark.parametrize(
        "kind", [queue.Queue, pytest.param(queue.SimpleQueue, marks=c_core)], ids=str
    )
    def test_a_queue(self, collector: kobs.Collector, kind: type) -> None:
        items = kind()
        early, late = ["early"], ["late"]
        items.put(early)
        registry.enable(collector, only=["queue"])
        items.put(late)
        assert items.get() is early
        assert items.get() is late
        registry.disable(collector)
        sent, first, second = collector.snapshot()
        assert isinstance(sent.payload, MessageSent)
        assert (first.link, second.link) == (0, sent.link)

    @c_core
    def test_a_socket_and_an_open_file(self, collector: kobs.Collector, tmp_path: Path) -> None:
        one, other = socket.socketpair()
        (tmp_path / "file").write_bytes(b"abc")
        with one, other, (tmp_path / "file").open("rb") as file:
            registry.enable(collector, only=["syscall"])
            one.send(b"x")
            assert os.read(file.fileno(), 2) == b"ab"
            registry.disable(collector)
        told = [e.payload.name for e in collector.snapshot() if isinstance(e.payload, SyscallExit)]
        assert ("send" in told, "read" in told) == (True, True)

    def test_an_executor(self, collector: kobs.Collector, tmp_path: Path) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(int).result()
            registry.enable(collector, only=["vfs"])
            with kobs.causal_context(77):
                pool.submit(os.mkdir, tmp_path / "made").result()
            registry.disable(collector)
        (made,) = [e for e in collector.snapshot() if isinstance(e.payload, FileChanged)]
        assert made.causality_id == 77


class Test_names_from_before:
    def test_a_class(self, collector: kobs.Collector) -> None:
        registry.enable(collector, only=["queue"])
        items: Queue[int] = Queue()
        items.put(1)
        items.get()
        assert names(collector, MessageSent, MessageReceived) == ["MessageSent", "MessageReceived"]

    @c_core
    def test_a_function_is_seen_with_the_c_core(self, collector: kobs.Collector) -> None:
        registry.enable(collector, only=["syscall"])
        with pytest.raises(OSError, match="Bad file descriptor"):
            read(-1, 1)
        told = [e.payload.name for e in collector.snapshot() if isinstance(e.payload, SyscallExit)]
        assert "read" in told
        assert reasons(collector) == []

    @python_core
    def test_a_function_is_named_with_the_python_core(self, collector: kobs.Collector) -> None:
        registry.enable(collector, only=["syscall"])
        (reason,) = [text for text in reasons(collector) if text.startswith("syscall: ")]
        assert f"{__name__}.read" in reason
        assert reason.endswith("are not seen: bound before kobs came")


class Test_classes:
    def test_a_subclass_that_calls_its_base_is_told_once(self, collector: kobs.Collector) -> None:
        class Own(Queue):  # type: ignore[type-arg]
            def put(self, item: object, *args: object, **kwargs: object) -> None:
                super().put(("own", item), *args, **kwargs)  # type: ignore[arg-type]

            def get(self, *args: object, **kwargs: object) -> object:
                return super().get(*args, **kwargs)[1]  # type: ignore[arg-type]

        registry.enable(collector, only=["queue"])
        items = Own()
        items.put("x")
        items.put_nowait("y")
        assert (items.get(), items.get_nowait()) == ("x", "y")
        told = names(collector, MessageSent, MessageReceived)
        assert told == ["MessageSent"] * 2 + ["MessageReceived"] * 2
        links = [e.link for e in collector.snapshot()]
        assert links[:2] == links[2:]

    @pytest.mark.skipif(hooking.native is None, reason="the Python core cannot see it")
    def test_a_subclass_of_a_c_type(self, collector: kobs.Collector) -> None:
        class Own(queue.SimpleQueue):  # type: ignore[type-arg]
            def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
                super().put(item, block, timeout)

        registry.enable(collector, only=["queue"])
        items = Own()
        items.put("x")
        assert items.get() == "x"
        sent, received = collector.snapshot()
        assert sent.link == received.link != 0
        assert sent.payload.queue_id.startswith("Own")

    @pytest.mark.parametrize("before", [True, False], ids=["before us", "after us"])
    def test_a_method_that_another_patched(
        self, collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch, before: bool
    ) -> None:
        original = Queue.put
        calls = []

        def patch() -> None:
            below = Queue.put

            def theirs(self: object, *args: object, **kwargs: object) -> None:
                calls.append(args)
                below(self, *args, **kwargs)  # type: ignore[arg-type]

            monkeypatch.setattr(Queue, "put", theirs)

        if before:
            patch()
        registry.enable(collector, only=["queue"])
        if not before:
            patch()
        items: Queue[int] = Queue()
        items.put(1)
        registry.disable(collector)
        items.put(2)
        assert calls == [(1,), (2,)]
        assert names(collector, MessageSent) == ["MessageSent"]
        monkeypatch.undo()
        Queue().put(3)
        assert names(collector, MessageSent) == ["MessageSent"]
        monkeypatch.setattr(Queue, "put", original)

    def test_what_another_put_there_that_is_no_function_is_named(
        self, collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Callable:
            def __call__(self, item: object) -> str:
                return "theirs"

        theirs = Callable()
        monkeypatch.setattr(Queue, "put", theirs)
        registry.enable(collector, only=["queue"])
        assert Queue().put(1) == "theirs"  # type: ignore[func-returns-value]
        assert Queue.put is theirs
        (reason,) = reasons(collector)
        assert reason.startswith("queue: queue.Queue.put is not seen: another put a ")
        assert "Callable in its place before kobs came" in reason


LOOP = """
    import asyncio
    class Loop:
        "Stands in for a loop that is written in C."
        def __init__(self):
            self._loop = asyncio.new_event_loop()
        def run(self, function):
            asyncio._set_running_loop(self)
            try:
                return function()
            finally:
                asyncio._set_running_loop(None)
                self._loop.close()
    """


class Test_replaced:
    def test_a_loop_of_another_kind_is_named_once(self, runner) -> None:
        runner.write(LOOP, "uvloop.py")
        ran = runner.script("""
            import asyncio, uvloop
            for _ in range(2):
                assert uvloop.Loop().run(asyncio.get_running_loop).__class__ is uvloop.Loop
            asyncio.run(asyncio.sleep(0))
            """)
        with kobs.open_recording(ran.session) as recording:
            (entry,) = recording.unobserved
        assert entry["reason"].startswith(
            "scheduler: task switches and stalls of uvloop.Loop are not seen"
        )

    def test_gevent_is_named(self, runner) -> None:
        (runner.folder / "gevent").mkdir()
        runner.write("", "gevent/__init__.py")
        runner.write("def patch_all(): pass", "gevent/monkey.py")
        ran = runner.script("import gevent.monkey; gevent.monkey.patch_all()")
        with kobs.open_recording(ran.session) as recording:
            (entry,) = recording.unobserved
        assert entry["reason"].startswith("scheduler: gevent.monkey was imported: greenlets")
        shown = runner.bare(sys.executable, "-m", "kobs", "report", str(ran.session))
        assert "gevent.monkey was imported" in " ".join(shown.out.split())

    def test_doctor_names_what_is_installed(self, runner) -> None:
        runner.write("", "uvloop.py")
        command = (sys.executable, "-m", "kobs", "doctor")
        with_it = runner.bare(*command, env={"PYTHONPATH": str(runner.folder)})
        assert "stalls of uvloop's loops" in " ".join(with_it.out.split())
        assert "gevent" not in with_it.out


class Test_asyncio_in_debug_mode:
    def test_it_shows_what_it_shows_without(self, both) -> None:
        bare, recorded = both(
            """
            import asyncio, logging, sys, traceback
            async def fails():
                await asyncio.sleep(0)
                raise ValueError("its own")
            async def main():
                task = asyncio.create_task(fails())
                later = asyncio.get_running_loop().call_later(0, print)
                for traced in task, later:
                    print([(f.filename, f.lineno, f.name) for f in traced._source_traceback])
                print(task)
                items = asyncio.Queue(1)
                await items.put(1)
                await items.get()
                try:
                    await task
                except ValueError:
                    traceback.print_exc(file=sys.stdout)
                print(asyncio.get_running_loop().get_debug())
                asyncio.create_task(asyncio.sleep(9)).get_stack()
            asyncio.run(main())
            """,
            env={"PYTHONASYNCIODEBUG": "1"},
        )
        assert (recorded.code, recorded.out, recorded.err) == (bare.code, bare.out, bare.err)
        assert "True" in bare.out

    def test_its_chains_are_the_same(self, runner) -> None:
        script = runner.write("""
            import asyncio, os, kobs
            async def main():
                await asyncio.create_task(asyncio.to_thread(os.mkdir, "made"))
            with kobs.causal_context(77):
                asyncio.run(main(), debug=True)
            """)
        ran = runner.kobs(str(script))
        (made,) = [e for e in ran.events(FileChanged) if Path(e.payload.path).name == "made"]
        assert made.causality_id == 77


@c_core
def test_a_thread_of_start_new_thread_looks_as_it_did(both) -> None:
    bare, recorded = both("""
        import contextlib, re, sys, time, _thread
        def fails():
            raise ValueError("its own")
        def exits():
            raise SystemExit
        def frames():
            frame, found = sys._getframe(), []
            while frame:
                found.append(frame.f_code.co_name)
                frame = frame.f_back
            print(found)
            lock.release()
        def hook(given):
            print(given.err_msg and re.sub("0x[0-9a-f]+", "", given.err_msg))
            print(given.object in (fails, None), given.exc_traceback.tb_frame.f_code.co_name)
            print(given.exc_traceback.tb_next)
            lock.release()
        sys.unraisablehook = hook
        lock = _thread.allocate_lock()
        lock.acquire()
        try:
            from kobs.context import Cause, cause
            cause.set(Cause(7, 0))
        except ImportError:
            pass
        count = sys.getrefcount(fails)
        for function in (frames, fails):
            _thread.start_new_thread(function, ())
            lock.acquire()
        _thread.start_new_thread(exits, ())
        while _thread._count():
            time.sleep(0.001)
        print(sys.getrefcount(fails) - count)
        for wrong in ((1, ()), (fails, 3), (fails,), ()):
            try: _thread.start_new_thread(*wrong)
            except TypeError as error: print(error)
        """)
    assert (recorded.code, recorded.out, recorded.err) == (bare.code, bare.out, bare.err)
    assert "['frames']" in bare.out


def test_nothing_is_said_of_a_process_where_all_can_be_seen(runner) -> None:
    ran = runner.script("""
        import asyncio, queue, subprocess, threading, multiprocessing.pool
        from os import read, fork
        asyncio.run(asyncio.sleep(0))
        """)
    with kobs.open_recording(ran.session) as recording:
        assert recording.unobserved == []


OPENTELEMETRY = """
    import sys
    from kobs import span_operation

    before = [name for name in sys.modules if name.startswith("opentelemetry")]
    with span_operation("main") as span:
        from opentelemetry import trace

        here = trace.get_current_span().get_span_context()
        same = f"{here.trace_id:032x}" == span.trace_id, f"{here.span_id:016x}" == span.span_id
        print(before, *same)
    print(trace.get_current_span().get_span_context().is_valid)
"""


def test_opentelemetry_that_is_imported_inside_a_span_knows_of_it(runner: Any) -> None:
    assert runner.script(OPENTELEMETRY).out == "[] True True\nFalse\n"
