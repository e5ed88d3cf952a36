"""Threads that share everything, truly in parallel where Python has no interpreter lock: emitters,
observed callables, spans, switches, readers and collectors that come and go meanwhile."""

import sysconfig

import pytest

from kobs._core.contract import Core
from tests.stress.conftest import Run

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
THREADS = 4

BEFORE = """
import asyncio, gc, os, sys, threading, time
import kobs, kobs.tracing
from kobs import Collector, Query, SyscallExit, SyscallResult, observe, span_operation
from kobs.observe import Emission, Rule, Vocabulary, register_vocabulary, unobserve
from tests.stress.checked import Stressed, emit_checked, value_of

sys.setswitchinterval(1e-5)
failures = []

def in_threads(*works):
    gate = threading.Barrier(len(works))

    def start(work):
        try:
            gate.wait()
            work()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=start, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures

def is_gil_enabled():
    return getattr(sys, "_is_gil_enabled", lambda: True)()
"""

EMIT = """
collector = Collector(size=256, overflow=overflow)
emit = collector.emitter(Stressed)
lossless = collector.subscribe()
kept = []
got = []
switches = 0
working = producers

def produce(source):
    global working
    mine = [
        value for number in range(count)
        if emit_checked(emit, value := source << 32 | number)
    ]
    kept.append(mine)
    with lock:
        working -= 1

def read():
    while working:
        got.extend(value_of(event) for event in lossless)
    end = time.monotonic() + 5
    while time.monotonic() < end:  # what was never finished stops a reader for a moment
        got.extend(value_of(event) for event in lossless)
        if len(got) + lossless.lost >= producers * count - collector.losses().discarded:
            break
        time.sleep(0.001)

def come_and_go():
    while working:
        passing = collector.subscribe()
        for event in passing:
            value_of(event)
        passing.lost
        passing.close()

def ask():
    while working:
        result = collector.query(Query())
        for event in result.events:
            value_of(event)
        collector.stream_stats(), collector.losses()

def others():
    while working:
        other = Collector(size=64)
        emit_other = other.emitter(Stressed)
        assert emit_checked(emit_other, 7)
        other.close()

lock = threading.Lock()
in_threads(*(lambda n=n: produce(n) for n in range(producers)), read, come_and_go, ask, others)
losses = collector.losses()
flat = [value for mine in kept for value in mine]
assert len(flat) + losses.contended + losses.discarded == producers * count
assert len(set(got)) == len(got)
assert len(got) + lossless.lost == producers * count - losses.discarded, (
    len(got), lossless.lost, losses)
assert set(got) <= set(flat)
for source in range(producers):
    mine = [value for value in got if value >> 32 == source]
    assert mine == sorted(mine), "order holds within a thread"
assert losses.errors == 0, losses
print("done", is_gil_enabled())
"""

OBSERVED = """
class Work:
    def plain(self, n):
        return n

    def fails(self, n):
        raise ValueError(n)

    def with_default(self, n, scale=1):
        return n * scale

    def rows(self, n):
        for each in range(n):
            yield each

    async def later(self, n):
        await asyncio.sleep(0)
        return n

    async def each(self, n):
        for each in range(n):
            await asyncio.sleep(0)
            yield each

collector = Collector(size=1 << 16, threshold=1e9)  # no anomalies: each call is one event
other = Collector(size=256)
subscriber = collector.subscribe()
ONCE = (Emission(SyscallExit),)
register_vocabulary(Vocabulary("mine", (Rule(("*",), ONCE),)))
observe(Work, "mine", in_place=True, collector=collector)
shared = Work()
calls = [0] * threads
working = threads
lock = threading.Lock()

def work(which):
    global working
    with asyncio.Runner() as runner:
        for number in range(count):
            assert shared.plain(number) == number
            try:
                shared.fails(number)
            except ValueError as error:
                assert error.args == (number,)
            assert shared.with_default(number) == number
            assert list(shared.rows(3)) == [0, 1, 2]
            early = shared.rows(3)
            next(early)
            early.close()
            if number % 8 == 0:
                async def steps():
                    assert await shared.later(number) == number
                    assert [each async for each in shared.each(2)] == [0, 1]
                    return 2

                calls[which] += runner.run(steps())
            calls[which] += 5
    with lock:
        working -= 1

def switch():
    class Mine(Work):
        pass

    while working:
        if not switched:
            time.sleep(0.001)
            continue
        kobs.init_collector(other)
        kobs.with_collector(shared, other)
        kobs.with_collector(shared, collector)
        observe(Mine, "mine", in_place=True)
        assert Mine().plain(1) == 1
        unobserve(Mine)

in_threads(*(lambda n=n: work(n) for n in range(threads)), switch)
losses = collector.losses()
ended = collector.ring.produced()
if not switched:
    assert ended == sum(calls), (ended, sum(calls), losses)
    seen = [event.payload for event in subscriber]
    assert len(seen) + losses.contended == ended, (len(seen), losses)
    names = {payload.name for payload in seen}
    assert {name.rpartition(".")[2] for name in names} == {
        "plain", "fails", "with_default", "rows", "later", "each"}
assert losses.errors == 0 and other.losses().errors == 0, losses
gc.collect()
print("done", is_gil_enabled())
"""

SPANS = """
collector = Collector(size=1 << 15, threshold=1e9)
other = Collector(size=1 << 15, threshold=1e9)
subscribers = [collector.subscribe(), other.subscribe()]
kobs.init_collector(collector)
kobs.tracing.set_slow_thresholds(operation_ms=1e9)  # a span is two events
working = threads
lock = threading.Lock()
shared = []

def work(which):
    global working
    for number in range(count):
        with span_operation("outer") as outer:
            outer.record("number", number)
            if number % 16 == 0:
                shared.append(outer)
            with span_operation(f"inner {number % 7}") as inner:
                inner.record("a", 1).record("b", 2).record("c", 3).record("d", 4).record("e", 5)
                assert kobs.current_span() is inner
            assert kobs.current_span() is outer
        assert outer.duration_us >= inner.duration_us
    with lock:
        working -= 1

def look():
    while working:
        for span in shared[-8:]:
            span.record("seen", "by another")
            str(span.name), span.duration_us, span.status, span.span_id, span.trace_id

def exchange():
    while working:
        if switched:
            kobs.init_collector(other)
            kobs.init_collector(collector)
        time.sleep(0)

in_threads(*(lambda n=n: work(n) for n in range(threads)), look, exchange)
assert not kobs.current_span().span_id.strip('0')
counted = collector.ring.produced() + other.ring.produced()
began, ended = {}, {}
for subscriber in subscribers:
    for event in subscriber:
        kind = type(event.payload).__name__
        if kind == "SpanBegan":
            assert event.span_id not in began
            began[event.span_id] = event
        elif kind == "SpanEnded":
            assert event.span_id not in ended
            ended[event.span_id] = event
contended = collector.losses().contended + other.losses().contended
assert counted == 4 * count * threads, (counted, 4 * count * threads)
assert len(began) + len(ended) + contended == counted, (len(began), len(ended), contended)
for span_id in began.keys() & ended.keys():
    assert began[span_id].payload.name == ended[span_id].payload.name
    assert began[span_id].causality_id == ended[span_id].causality_id
assert collector.losses().errors == other.losses().errors == 0
print("done", is_gil_enabled())
"""

HOOKED = """
import queue
from kobs import MessageReceived, MessageSent
from kobs_instrumentation.queue import QueueInstrumentor
from kobs_instrumentation.scheduler import SchedulerInstrumentor
from kobs_instrumentation.syscall import SyscallInstrumentor

collector = Collector(size=1 << 17, threshold=1e9)
other = Collector(size=1 << 12, threshold=1e9)
instrumentors = [QueueInstrumentor(), SchedulerInstrumentor(), SyscallInstrumentor()]
kobs.init_collector(collector)
for instrumentor in instrumentors:
    instrumentor.instrument()
shared = [queue.Queue(), queue.SimpleQueue(), queue.LifoQueue()]
got = [[] for _ in range(threads)]
working = threads
lock = threading.Lock()

def work(which):
    global working
    reading, writing = os.pipe()
    with asyncio.Runner() as runner:
        for number in range(count):
            item = (which, number)
            for each in shared:
                each.put(item)
            got[which].extend(each.get() for each in shared)
            assert os.write(writing, b"12345678") == len(os.read(reading, 8)) == 8
            if number % 8 == 0:
                async def steps():
                    mine = asyncio.Queue()
                    async with asyncio.TaskGroup() as group:
                        group.create_task(mine.put(number))
                        return await group.create_task(mine.get())

                assert runner.run(steps()) == number
    os.close(reading)
    os.close(writing)
    with lock:
        working -= 1

def switch():
    while working:
        if not switched:
            time.sleep(0.001)
            continue
        kobs.init_collector(other)
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
        gc.collect()
        kobs.init_collector(collector)
        for instrumentor in instrumentors:
            instrumentor.instrument()

in_threads(*(lambda n=n: work(n) for n in range(threads)), switch)
for instrumentor in instrumentors:
    instrumentor.uninstrument()
items = sorted(item for mine in got for item in mine)
assert items == sorted((n, m) for n in range(threads) for m in range(count) for _ in shared)
losses = collector.losses()
if not switched:
    events = collector.snapshot()
    sent = [event.link for event in events if type(event.payload) is MessageSent]
    received = [event.link for event in events if type(event.payload) is MessageReceived]
    through = threads * (told * count + (count + 7) // 8)
    assert len(sent) + losses.contended >= through >= len(sent), (len(sent), through, losses)
    assert len(set(sent)) == len(sent) and 0 not in sent
    joined = [link for link in received if link]
    assert len(set(joined)) == len(joined), "no send is received twice"
    assert losses.contended or set(joined) <= set(sent)
assert losses.errors == 0 and other.losses().errors == 0, losses
print("done", is_gil_enabled())
"""


def end(core: Core) -> str:
    """Where threads can run in parallel, they did: no core asks for the interpreter lock."""
    return f"done {not FREE_THREADED}\n"


@pytest.mark.parametrize("overflow", ["overwrite", "discard"])
def test_emitters_readers_and_collectors_that_come_and_go(
    run: Run, core: Core, factor: int, overflow: str
) -> None:
    source = BEFORE + EMIT
    assert run(source, overflow=overflow, producers=THREADS, count=800 * factor) == end(core)


@pytest.mark.parametrize("switched", [False, True])
def test_one_observed_object_and_switches(
    run: Run, core: Core, factor: int, switched: bool
) -> None:
    source = BEFORE + OBSERVED
    assert run(source, switched=switched, threads=THREADS, count=100 * factor) == end(core)


@pytest.mark.parametrize("switched", [False, True])
def test_spans_of_the_same_names(run: Run, core: Core, factor: int, switched: bool) -> None:
    source = BEFORE + SPANS
    assert run(source, switched=switched, threads=THREADS, count=150 * factor) == end(core)


@pytest.mark.parametrize("switched", [False, True])
def test_hooks_of_queues_pipes_and_loops(run: Run, core: Core, factor: int, switched: bool) -> None:
    told = 3 if core.name == "c" else 2  # of the queues: a `SimpleQueue` is in C
    source = BEFORE + HOOKED
    given = {"switched": switched, "threads": THREADS, "count": 100 * factor, "told": told}
    assert run(source, **given) == end(core)
