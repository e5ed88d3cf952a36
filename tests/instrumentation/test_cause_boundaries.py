"""Cause crosses every boundary: which edges lead from what began a chain to what was done.

Each program does one thing three times, over the same workers: in a span, in a chain that an event
began, and outside of any. What is connected with each of the three must be exactly what is written
here, so that nothing leaks from one to the next either.
"""

import textwrap
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

import kobs
from kobs import CausalityTracer, FileChanged
from kobs._core import hooking
from kobs.causality import CausalGraph

PRELUDE = """
import asyncio, multiprocessing, os, queue, subprocess, sys, threading, _thread
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import ShareableList
import kobs
from kobs.tracing import span_operation

class Item(str):
    pass

def make(name):
    os.mkdir(name)

MAKE = "import os, sys; os.mkdir(sys.argv[1])"

def thrice(go):
    with span_operation("begin"):
        go("in_span")
    begin = kobs.global_collector().emit(kobs.MetricUpdate("begin", 1.0))
    with kobs.causal_context(77, parent=begin):
        go("in_chain")
    go("alone")

def work(take, done):
    while (item := take()) != "stop":
        make(item)
        done.release()

def through(put, take):
    "Items that go to a thread which began before."
    sent, got, done = [], [], threading.Semaphore(0)
    def keep():
        got.append(take())
        return got[-1]
    thread = threading.Thread(target=work, args=(keep, done), daemon=True)
    thread.start()
    def go(name):
        sent.append(Item(name))
        put(sent[-1])
        done.acquire()
    thrice(go)
    put("stop")
    thread.join()
    assert len(sent) == 3
    pairs = zip(sent, got[:3], strict=True)
    assert all(one is other and type(other) is Item for one, other in pairs), got

def through_process(context, put, take):
    "Items that go to a process which began before."
    done = context.Semaphore(0)
    process = context.Process(target=work, args=(take, done), daemon=True)
    process.start()
    def go(name):
        put(name)
        done.acquire()
    thrice(go)
    put("stop")
    process.join()

def through_memory(context):
    "What is written to shared memory, which a process that began before reads."
    items = ShareableList([" " * 20])
    written, read = context.Semaphore(0), context.Semaphore(0)
    def take_three():
        for _ in range(3):
            written.acquire()
            make(items[0])
            read.release()
    process = context.Process(target=take_three, daemon=True)
    process.start()
    def go(name):
        items[0] = name
        written.release()
        read.acquire()
    thrice(go)
    process.join()
    items.shm.close()
    items.shm.unlink()

def in_loop(use):
    "A loop in a thread that began before."
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    use(loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
"""

SHORT = {
    "SpanBegan": "begin",
    "MetricUpdate": "begin",
    "FileChanged": "made",
    "MessageSent": "sent",
    "MessageReceived": "received",
    "ShmWritten": "written",
    "ShmRead": "read",
    "ProcessCreated": "created",
    "ProcessStateChanged": "running",
    "ProcessTerminated": "ended",
}

CARRIED = ("begin > made",)
MESSAGE = ("begin > sent", "sent ~ received", "received > made")
MEMORY = ("begin > written", "written ~ read", "read > made")
CHILD = ("begin > created", "created ~ running", "running > made", "created > ended")
"""`>` is a parent, `~` a link."""


class Case(NamedTuple):
    """A boundary: the program, and the edges that cross it."""

    body: str
    edges: tuple[str, ...]
    in_span: tuple[str, ...] | None = None
    """Where a span makes a difference."""
    needs_hooks: bool = False
    """The Python core does not see it."""


def queue_case(make: str, *, needs_hooks: bool = False) -> Case:
    return Case(f"items = {make}\nthrough(items.put, items.get)", MESSAGE, needs_hooks=needs_hooks)


def process_queue_case(kind: str, method: str) -> Case:
    body = f"""
        context = multiprocessing.get_context({method!r})
        items = context.{kind}()
        through_process(context, items.put, items.get)
        """
    return Case(body, MESSAGE)


def loop_case(body: str, edges: tuple[str, ...] = CARRIED) -> Case:
    lines = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return Case(f"def use(loop):\n{lines}\nin_loop(use)", edges)


def async_case(body: str, edges: tuple[str, ...], in_span: tuple[str, ...] | None = None) -> Case:
    lines = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return Case(f"async def main(name):\n{lines}\nthrice(lambda name: asyncio.run(main(name)))",
                edges, in_span)  # fmt: skip


def child_case(body: str, edges: tuple[str, ...] = CHILD) -> Case:
    lines = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return Case(f"def go(name):\n{lines}\nthrice(go)", edges)


CASES = {
    "thread": child_case(
        "own = threading.Thread(target=make, args=(name,)); own.start(); own.join()", CARRIED
    ),
    "timer": child_case(
        "own = threading.Timer(0, make, (name,)); own.start(); own.join()", CARRIED
    ),
    "_thread": child_case(
        """
        done = _thread.allocate_lock()
        done.acquire()
        def run():
            make(name)
            done.release()
        _thread.start_new_thread(run, ())
        done.acquire()
        """,
        CARRIED,
    ),
    "thread pool": Case(
        """
        pool = ThreadPoolExecutor(1)
        thrice(lambda name: pool.submit(make, name).result())
        pool.shutdown()
        """,
        CARRIED,
    ),
    "process pool": Case(
        """
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
        pool.submit(int).result()
        thrice(lambda name: pool.submit(make, name).result())
        pool.submit(int).result()  # what ends the pool is not the last chain's
        pool.shutdown()
        """,
        (*MESSAGE, "received > sent", "sent ~ received"),
    ),
    "task": async_case("await asyncio.create_task(asyncio.to_thread(make, name))", CARRIED),
    "call_soon and call_later": loop_case(
        """
        def soon(name, done):
            asyncio.get_running_loop().call_soon(later, name, done)
        def later(name, done):
            asyncio.get_running_loop().call_later(0.001, end, name, done)
        def end(name, done):
            make(name)
            done.set()
        def go(name):
            done = threading.Event()
            loop.call_soon_threadsafe(soon, name, done)
            done.wait()
        thrice(go)
        """
    ),
    "run_coroutine_threadsafe": loop_case(
        """
        async def main(name):
            make(name)
        thrice(lambda name: asyncio.run_coroutine_threadsafe(main(name), loop).result())
        """
    ),
    "run_in_executor": loop_case(
        """
        async def main(name):
            await loop.run_in_executor(None, make, name)
        thrice(lambda name: asyncio.run_coroutine_threadsafe(main(name), loop).result())
        """
    ),
    "to_thread": async_case("await asyncio.to_thread(make, name)", CARRIED),
    "queue.Queue": queue_case("queue.Queue()"),
    "queue.LifoQueue": queue_case("queue.LifoQueue()"),
    "queue.PriorityQueue": queue_case("queue.PriorityQueue()"),
    "queue.SimpleQueue": queue_case("queue.SimpleQueue()", needs_hooks=True),
    "queue, to a thread of the chain": child_case(
        """
        items = queue.Queue()
        own = threading.Thread(target=lambda: make(items.get()))
        own.start()
        items.put(name)
        own.join()
        """,
        MESSAGE,
    )._replace(in_span=("begin > sent", "sent ~ received", "begin > received", "begin > made")),
    "asyncio.Queue": loop_case(
        """
        async def prepare():
            return asyncio.Queue()
        items = asyncio.run_coroutine_threadsafe(prepare(), loop).result()
        done = threading.Semaphore(0)
        got, sent = [], []
        async def take():
            while (item := await items.get()) != "stop":
                got.append(item)
                make(item)
                done.release()
        end = asyncio.run_coroutine_threadsafe(take(), loop)
        def go(name):
            sent.append(Item(name))
            asyncio.run_coroutine_threadsafe(items.put(sent[-1]), loop).result()
            done.acquire()
        thrice(go)
        asyncio.run_coroutine_threadsafe(items.put("stop"), loop).result()
        end.result()
        assert len(sent) == 3
        assert all(one is other for one, other in zip(sent, got, strict=True)), got
        """,
        MESSAGE,
    ),
    "asyncio.Queue, to a task of the chain": async_case(
        """
        items = asyncio.Queue()
        async def take():
            make(await items.get())
        task = asyncio.create_task(take())
        await items.put(name)
        await task
        """,
        MESSAGE,
        ("begin > sent", "sent ~ received", "begin > received", "begin > made"),
    ),
    "multiprocessing.Queue": process_queue_case("Queue", "fork"),
    "multiprocessing.Queue, spawn": process_queue_case("Queue", "spawn"),
    "multiprocessing.JoinableQueue": process_queue_case("JoinableQueue", "fork"),
    "multiprocessing.SimpleQueue": process_queue_case("SimpleQueue", "fork"),
    **{
        f"multiprocessing.Pipe({duplex})": Case(
            f"""
            context = multiprocessing.get_context("fork")
            theirs, ours = context.Pipe({duplex})
            through_process(context, ours.send, theirs.recv)
            """,
            MESSAGE,
        )
        for duplex in (True, False)
    },
    "multiprocessing.Pool": Case(
        """
        pool = multiprocessing.get_context("fork").Pool(1)
        pool.apply(int)
        thrice(lambda name: pool.apply(make, (name,)))
        pool.apply(int)  # what ends the pool is not the last chain's
        pool.close()
        pool.join()
        """,
        (*MESSAGE, "received > sent", "sent ~ received"),
    ),
    "shared memory": Case('through_memory(multiprocessing.get_context("fork"))', MEMORY),
    "shared memory, in one process": Case(
        """
        resource_tracker.ensure_running()
        def go(name):
            items = ShareableList([" " * 20])
            items[0] = name
            own = threading.Thread(target=lambda: make(items[0]))
            own.start()
            own.join()
            items.shm.close()
            items.shm.unlink()
        thrice(go)
        """,
        MEMORY,
        in_span=("begin > written", "written ~ read", "begin > read", "begin > made"),
    ),
    "multiprocessing.Process": child_case(
        """
        own = multiprocessing.get_context("fork").Process(target=make, args=(name,))
        own.start()
        own.join()
        """
    ),
    "a future's callback": child_case(
        """
        async def main():
            future = asyncio.get_running_loop().create_future()
            done = asyncio.Event()
            def called(found):
                make(found.result())
                done.set()
            future.add_done_callback(called)
            asyncio.get_running_loop().call_soon(future.set_result, name)
            await done.wait()
        asyncio.run(main())
        """,
        CARRIED,
    ),
    "subprocess": child_case("subprocess.run([sys.executable, '-c', MAKE, name], check=True)"),
    "subprocess through a shell": child_case(
        """
        command = f'{sys.executable} -c "{MAKE}" {name}; exit 0'
        subprocess.run(command, shell=True, check=True)
        """
    ),
    "subprocess through a script of the shell": child_case(
        """
        with open("script.sh", "w") as file:
            file.write(f'#!/bin/sh\\n{sys.executable} -c "{MAKE}" "$1"\\nexit 0\\n')
        os.chmod("script.sh", 0o755)
        subprocess.run([os.path.abspath("script.sh"), name], check=True)
        """
    ),
    "os.fork": child_case(
        """
        pid = os.fork()
        if pid == 0:
            make(name)
            os._exit(0)
        os.waitpid(pid, 0)
        """
    ),
}


def edges_of(graph: CausalGraph, event: kobs.Event) -> list[str]:
    """The edges of everything that is connected with an event."""
    edges = [e for e in graph.edges if e.target.type_name in SHORT]
    inside = {event.id}
    while True:
        more = {
            end.id for e in edges if {e.source.id, e.target.id} & inside
            for end in (e.source, e.target)
        } - inside  # fmt: skip
        if not more:
            break
        inside |= more
    return sorted(told(e) for e in edges if e.source.id in inside)


def told(edge) -> str:
    sign = {"parent": ">", "link": "~"}[edge.kind]
    return f"{SHORT[edge.source.type_name]} {sign} {SHORT[edge.target.type_name]}"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.says("cause goes with the item, which stays as it is")
def test_exactly_these_edges_cross(runner, case: Case) -> None:
    if case.needs_hooks and hooking.native is None:
        pytest.skip("only the C core sees it")
    lines = textwrap.indent(textwrap.dedent(case.body).strip(), "    ")
    script = runner.write(f"{PRELUDE}\nif __name__ == '__main__':\n{lines}\n")
    ran = runner.kobs("--only", "process,queue,vfs,shm", str(script))
    assert ran.code == 0, ran.err
    with kobs.open_recording(ran.session) as recording:
        assert recording.damage == []
        events = [e for e in recording.events() if not is_noise(e)]
    whole = CausalityTracer.graph(events)
    expected = {
        "in_span": case.in_span or case.edges,
        "in_chain": case.edges,
        "alone": tuple(edge for edge in case.edges if not edge.startswith("begin")),
    }
    made = {Path(e.payload.path).name: e for e in events if isinstance(e.payload, FileChanged)}
    found = {name: edges_of(whole, made[name]) for name in expected}
    assert found == {name: sorted(edges) for name, edges in expected.items()}
    for name in ("in_span", "in_chain"):
        chain = CausalityTracer.graph(events, made[name].causality_id)
        assert Counter(map(told, chain.edges)) == Counter(expected[name])
        assert SHORT[CausalityTracer.root_cause(events, made[name].causality_id).type_name] == (
            "begin"
        )
    assert made["in_chain"].causality_id == 77 != made["alone"].causality_id


def is_noise(event: kobs.Event) -> bool:
    """A span's own end, and how the programs prepare themselves."""
    if isinstance(event.payload, FileChanged):
        return Path(event.payload.path).name not in ("in_span", "in_chain", "alone")
    return event.type_name not in SHORT
