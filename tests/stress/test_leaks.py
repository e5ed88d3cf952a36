"""Nothing is left behind by any entry of the C core, however often it is called: no object, no
memory and no reference to what it was given.

`KOBS_LEAK_CALLS=1000000` calls each as often. Where Python counts all references (a debug build)
those are counted too.
"""

import asyncio
import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest

from kobs import (
    Collector,
    ProcessCreated,
    Query,
    SyscallExit,
    SyscallResult,
    arg,
    causal_context,
    collector as collectors,
    emits,
    event_type,
    observe,
    returned,
)
from kobs.context import origin
from kobs.errors import KobsError
from kobs.events import FLAG_BEGIN, Category, Severity
from kobs.filters import EventFilter, SlotFilter
from kobs.observe import len_of, raised
from kobs.payloads import SyscallEnter
from kobs.query import CommonQueries
from kobs.schema import I32, U64, Identifier, Json, Name, PayloadType, Text
from kobs.tracing import span_operation
from tests.collecting import collect_all

_native = pytest.importorskip("kobs._core._native")
pytestmark = [pytest.mark.c_core, pytest.mark.usefixtures("in_c")]

CALLS = int(os.environ.get("KOBS_LEAK_CALLS") or 1000)

Call = Callable[[], object]


@event_type(category=Category.IPC)
class Leaking(PayloadType):
    """A field of every kind."""

    who: Name
    which: Identifier
    note: Annotated[str, Text(20)]
    more: Annotated[dict, Json(40)]
    result: SyscallResult
    level: I32
    share: float
    good: bool
    size: U64 = 0


class Watched:
    """What may not gain references."""

    def __init__(self) -> None:
        self.text = "".join(["watched ", "text"])
        self.long_text = "x" * 3000 + self.text
        self.number = 1 << 50
        self.ratio = 1.2345e7
        self.mapping: dict[str, Any] = {"a": [1, 2], "b": self.text}
        self.error = LookupError("watched")
        self.thing = object()
        self.list: list[int] = []
        self.constants = [None, True, False, (), "", b"", 0, 1, SyscallResult.SUCCESS, int, str]

    def counts(self) -> list[int]:
        watched = [*vars(self).values(), *self.constants, Leaking, SyscallExit, Collector]
        return [sys.getrefcount(each) for each in watched]


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    )]  # fmt: skip


_libc = ctypes.CDLL(None)
_mallinfo = getattr(_libc, "mallinfo2", None)
if _mallinfo is not None:
    _mallinfo.restype = _Memory


def in_use() -> int:
    """Bytes that the C library has handed out."""
    if _mallinfo is None:
        return 0
    memory = _mallinfo()
    return int(memory.uordblks + memory.hblkhd)


def total_references() -> int:
    return int(getattr(sys, "gettotalrefcount", int)())


def repeat(call: Call, times: int) -> None:
    for _ in range(times):
        call()


def check(call: Call, watched: Watched, calls: int = CALLS) -> None:
    """Call it often, and compare what there is before and after."""
    repeat(call, max(200, calls // 20))  # tables and free lists grow to their size
    collect_all()
    references = watched.counts()
    total, blocks, memory = total_references(), sys.getallocatedblocks(), in_use()
    repeat(call, calls)
    collect_all()
    more_total = total_references() - total
    more_blocks, more_memory = sys.getallocatedblocks() - blocks, in_use() - memory
    more = [now - before for before, now in zip(references, watched.counts(), strict=True)]
    few = calls // 10
    assert max(more) < few, f"references: {more}"
    assert min(more) > -few, f"references that were not its own: {more}"
    assert more_blocks < few, f"{more_blocks} blocks"
    assert more_memory < few * 32, f"{more_memory} bytes"
    assert abs(more_total) < few, f"{more_total} references"


def check_thrice(call: Call, watched: Watched) -> None:
    """A leak is there each time. What is there once is of another thread (a worker of xdist has
    one that waits for messages), or a table that grows."""
    for more in (2, 1, 0):
        try:
            check(call, watched)
            return
        except AssertionError:
            if not more:
                raise


@pytest.fixture
def in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOBS_CORE", "c")


@pytest.fixture
def watched() -> Iterator[Watched]:
    gc.freeze()  # what is there already need not be looked through, twice an entry
    yield Watched()
    gc.unfreeze()


@pytest.fixture
def collector(in_c: None) -> Iterator[Collector]:
    with Collector(size=64) as made:
        yield made


def refused(call: Callable[..., object], *args: Any, **kwargs: Any) -> Call:
    """A call that raises."""

    def once() -> None:
        try:
            call(*args, **kwargs)
        except (KobsError, TypeError, ValueError, LookupError, OverflowError):
            return
        raise AssertionError("it was not refused")

    return once


# -- emitters -----------------------------------------------------------------------------------


def emitted(collector: Collector, w: Watched) -> dict[str, Call]:
    exit_ = collector.emitter(SyscallExit)
    leaking = collector.emitter(Leaking)
    begin = collector.begin_emitter(SyscallEnter)
    ring = collector.ring
    good = (w.text, w.thing_text, w.long_text, w.mapping, SyscallResult.SUCCESS, -5, w.ratio, True)
    header = {
        "pid": 7, "tid": 8, "severity": Severity.WARN, "category": Category.IPC,
        "causality_id": w.number, "parent": w.number, "span_id": w.number, "link": w.number,
        "timestamp_ns": w.number, "flags": FLAG_BEGIN,
    }  # fmt: skip

    def begin_and_close() -> None:
        _, entry = begin(w.text, 5)
        ring.close_entry(entry)

    def in_context() -> None:
        with causal_context(w.number, parent=w.number):
            exit_(w.text, w.ratio, SyscallResult.ERROR, 3)

    def in_origin() -> None:
        token = origin.set(w.text)
        try:
            exit_(w.text, w.ratio, SyscallResult.ERROR, 3)
        finally:
            origin.reset(token)

    def keeping_ids() -> None:
        assert len({exit_(w.text, 1.0, SyscallResult.ERROR) for _ in range(3)}) == 3

    class Index:
        def __index__(self) -> int:
            return 5

    class Broken:
        def __index__(self) -> int:
            raise LookupError

        __float__ = __bool__ = __str__ = __index__  # type: ignore[assignment]

    return {
        "exit": lambda: exit_(w.text, w.ratio, SyscallResult.SUCCESS, 0),
        "exit with defaults": lambda: exit_(w.text, w.ratio, SyscallResult.SUCCESS),
        "by keyword": lambda: exit_(
            name=w.text, duration_us=1, result=SyscallResult.SUCCESS, errno=Index()
        ),
        "with a header": lambda: exit_(w.text, w.ratio, SyscallResult.SUCCESS, 0, **header),
        "with a header of None": lambda: exit_(
            w.text, w.ratio, SyscallResult.SUCCESS, 0, **dict.fromkeys(header)
        ),
        "every kind": lambda: leaking(*good, size=w.number),
        "text of all sorts": lambda: leaking(
            w.text, 5, "é" * 40 + "\ud800", {}, SyscallResult.ERROR, 0, 1, False, size=w.number
        ),
        "in a context": in_context,
        "for an origin": in_origin,
        "ids that are kept": keeping_ids,
        "begin": begin_and_close,
        "emit": lambda: collector.emit(SyscallEnter(w.text, 5), link=w.number),
        "emit begin and end": lambda: collector.emit_end(
            collector.emit_begin(SyscallEnter(w.text, 5)), SyscallEnter(w.text, 5)
        ),
        "too many": refused(exit_, *good),
        "too few": refused(exit_, w.text),
        "unknown keyword": refused(exit_, w.text, w.ratio, 0, wrong=w.thing),
        "twice": refused(exit_, w.text, w.ratio, 0, name=w.text),
        "name that is none": refused(exit_, w.thing, w.ratio, 0),
        "number that is none": refused(exit_, w.text, w.thing, 0),
        "enum that is none": refused(exit_, w.text, w.ratio, w.text),
        "out of range": refused(leaking, *good, size=-1),
        "far out of range": refused(leaking, *good, size=1 << 80),
        "mapping that is none": refused(leaking, w.text, 1, "", w.thing, 0, 0, 0.0, True),
        "mapping that cannot be": refused(
            leaking, w.text, 1, "", {w.thing: Broken()}, 0, 0, 0.0, True
        ),
        "header that is none": refused(exit_, w.text, w.ratio, 0, pid=w.text),
        "header out of range": refused(exit_, w.text, w.ratio, 0, link=-1),
        "header that raises": refused(exit_, w.text, w.ratio, 0, parent=Broken()),
        "begin that is refused": refused(begin, w.thing, 5),
        "value that raises": refused(leaking, *good, size=Broken()),
        "number that raises": refused(exit_, w.text, Broken(), 0),
        "emitter": lambda: _anew(collector, Leaking),
    }


def _anew(collector: Collector, cls: type[PayloadType]) -> None:
    """An emitter that is made, used, and goes."""
    del collector.emitters[cls]
    collector._rewirings.clear()
    emitter = collector.emitter(cls)
    emitter.note = emitter  # type: ignore[attr-defined]


def closed(collector: Collector, w: Watched) -> dict[str, Call]:
    """With a ring that is closed."""
    exit_ = collector.emitter(SyscallExit)
    begin = collector.begin_emitter(SyscallEnter)
    ring = collector.ring
    reader = ring.reader()
    collector.close()
    return {
        "emitter": refused(exit_, w.text, w.ratio, SyscallResult.SUCCESS, 0),
        "begin": refused(begin, w.text, 5),
        "read": reader.read,
        "publish": lambda: ring.native.publish(0, bytes(64)),
        "intern": lambda: ring.intern(w.text),
        "open": refused(ring.reader),
    }


def sampled(collector: Collector, w: Watched) -> dict[str, Call]:
    """With a gate that is up."""
    collector.sampler.rate = 50
    exit_ = collector.emitter(SyscallExit)
    decide = collector.gate.decider()
    number = iter(range(1, 1 << 40))

    def chain() -> None:
        with causal_context(next(number)):
            exit_(w.text, w.ratio, SyscallResult.SUCCESS, 0)

    return {
        "by chance": lambda: exit_(w.text, w.ratio, SyscallResult.SUCCESS, 0),
        "chains": chain,
        "a long chain": lambda: exit_(
            w.text, w.ratio, SyscallResult.SUCCESS, causality_id=w.number
        ),
        "decider": lambda: decide(1, 2, next(number), None),
        "decided": lambda: decide(1, 2, next(number), w.list),
        "refused": refused(decide, 1, 99, 5, None),
        "sampled": lambda: collector.gate.sampled(next(number), 3),
        "rates": lambda: setattr(collector.sampler, "rate", 40 + next(number) % 20),
        "forget": lambda: (collector.gate.sampled(next(number), 3), collector.gate.forget()),
    }


def ring_methods(collector: Collector, w: Watched) -> dict[str, Call]:
    ring = collector.ring.native
    body = bytes(64)
    names = iter(range(1 << 40))
    return {
        "publish": lambda: ring.publish(0, body),
        "publish nothing": refused(ring.publish, 0, b""),
        "publish too much": refused(ring.publish, 0, bytes(500)),
        "publish what is none": refused(ring.publish, 0, w.thing),
        "publish nowhere": refused(ring.publish, w.number, body),
        "begin": lambda: ring.close_entry(ring.begin(1, 0, body)[1]),
        "begin with what is none": refused(ring.begin, w.thing, 0, body),
        "intern": lambda: ring.intern(w.text),
        "intern a long one": lambda: ring.intern(w.long_text),
        "intern new ones": lambda: ring.intern(f"{next(names) % 100}"),
        "intern what is none": refused(ring.intern, w.thing),
        "close an entry": lambda: ring.close_entry(w.number),
        "close what is none": refused(ring.close_entry, w.thing),
        "add": lambda: ring.add(collector.ring._offsets["errors"], 1),
        "add nowhere": refused(ring.add, 5, 1),
        "head": lambda: ring.head(1),
        "head of none": refused(ring.head, 9),
        "forget": ring.forget,
        "layout": _native.layout,
        "now": _native.now,
        "clock": _native.clock,
        "make": lambda: _native.Ring(
            collector.ring._memory, bytes(collector.ring._info), 0, {}, w.counts, None, None
        ),
        "make with what is none": refused(
            _native.Ring, collector.ring._memory, b"", 0, {}, w.counts, None, None
        ),
    }


def readers(collector: Collector, w: Watched) -> dict[str, Call]:
    publish, body = collector.ring.native.publish, bytes(64)
    reader = collector.ring.reader()
    subscriber = collector.subscribe(EventFilter().severity(Severity.WARN))

    def read() -> None:
        publish(0, body)
        publish(1, body)
        reader.read()

    def a_few() -> None:
        publish(0, body)
        publish(0, body)
        reader.read(1)

    def late() -> None:
        for _ in range(70):
            publish(0, body)
        reader.read(limit=100)

    return {
        "read": read,
        "read a few": a_few,
        "read late": late,
        "read nothing": reader.read,
        "read what is none": refused(reader.read, w.thing),
        "read by a wrong name": refused(reader.read, most=5),
        "seek": lambda: reader.seek((w.number, w.number)),
        "seek oldest": reader.seek_oldest,
        "seek end": reader.seek_end,
        "seek to what is none": refused(reader.seek, (w.text, w.text)),
        "seek too little": refused(reader.seek, (1,)),
        "position": reader.position,
        "pending": reader.pending,
        "lost": lambda: reader.lost,
        "reader": lambda: collector.ring.reader(oldest=True).read(),
        "lossless reader": lambda: collector.ring.reader(lossless=True).close(),
        "subscriber": lambda: (collector.emit(SyscallEnter(w.text, 1)), list(subscriber)),
        "reader of nothing": refused(_native.Reader, (w.thing,), tuple),
        "reader of what is none": refused(_native.Reader, w.thing, tuple),
    }


def analysed(collector: Collector, w: Watched) -> dict[str, Call]:
    detector = collector.durations._native
    assert detector is None
    exit_ = collector.emitter(SyscallExit)
    for number in range(40):
        exit_(w.text, float(number % 3), SyscallResult.SUCCESS, 0)
        collector.emit(Leaking("who", 1, "note", {"a": 1}, SyscallResult.SUCCESS, 1, 1.0, True))
        collector.emit(SyscallEnter(w.text, number), severity=Severity.ERROR)
    detector = collector.durations._native
    assert detector is not None

    def detector_of_few() -> Any:
        return _native.Detector(
            threshold=3.0, threshold_squared=9.0, min_samples=30, reach=1.0, generation=10,
            interval_ns=5, tell=w.counts,
        )  # fmt: skip

    analyser = detector.of("Some")
    forgetful = detector_of_few().of("Some")
    values = iter(range(1 << 40))
    sample = _native.Sample([1.0, 5.0, 2.0])
    decoder = collector._decoder
    reader = collector.ring.reader(oldest=True)
    slots = reader.read()
    types = decoder.native
    assert types is not None
    query = CommonQueries.syscall_performance()
    wide = EventFilter().severity(Severity.WARN).category(Category.SYSCALL).pid(os.getpid())

    return {
        "analyse": lambda: analyser(w.text, float(next(values) % 5), 7),
        "anomaly": lambda: analyser(w.text, float(next(values) % 31 == 30) * 1e9, 7),
        "many metrics": lambda: forgetful(f"{next(values) % 100}", 5.0, 7),
        "analyse what is none": refused(analyser, w.thing, 5.0, 7),
        "analyse at what is none": refused(analyser, w.text, 5.0, 7, now_ns=w.thing),
        "of": lambda: detector.of(w.text),
        "of what is none": refused(detector.of, w.thing),
        "baselines": detector.baselines,
        "reset": detector.reset,
        "detector": lambda: detector_of_few().of(w.text)(w.text, 5.0, 1),
        "sample": lambda: _native.Sample([w.ratio, 1, 2.5, float("nan")]).percentile(50),
        "sample of what is none": refused(_native.Sample, [1.0, w.thing]),
        "percentile": lambda: sample.percentile(99.0),
        "percentile of what is none": refused(sample.percentile, w.text),
        "percentile of too much": refused(sample.percentile, 101),
        "values": sample.values,
        "query": lambda: collector.query(query),
        "query of everything": lambda: collector.query(CommonQueries.health_check()),
        "query with Python": lambda: collector.query(Query().where(lambda event: event.pid)),
        "filter": lambda: [SlotFilter(wide, decoder)(slot) for slot in slots[:3]],
        "lines": lambda: types.lines(slots, 5, None, lambda slot: None),
        "lines with a clock": lambda: types.lines(slots, None, None, lambda slot: b"x\n"),
        "lines of what is none": refused(types.lines, [w.thing], 5, None, w.counts),
        "snapshot": collector.snapshot,
        "types": lambda: _native.Types(
            recording=1, find=lambda type_id: None, string=lambda number: "text",
            severities=("A",), categories=("B",),
        ).lines(slots, 5, None, lambda slot: None),
        "types with too many names": refused(
            _native.Types, recording=1, find=w.counts, string=w.counts, severities=("A",) * 17,
            categories=(),
        ),
    }  # fmt: skip


def spans(collector: Collector, w: Watched) -> dict[str, Call]:
    def plain() -> None:
        with span_operation(w.text):
            pass

    def nested() -> None:
        with span_operation(w.text) as span:
            span.record("key", w.mapping)
            span.record("text", w.long_text)
            with span_operation("inner"):
                pass

    def failing() -> None:
        try:
            with span_operation(w.text):
                raise w.error
        except LookupError as error:
            error.__traceback__ = error.__context__ = None

    def names() -> None:
        with span_operation(w.text) as span:
            span.trace_id, span.span_id, span.traceparent, span.causality_id, repr(span)

    @span_operation("decorated")
    def decorated(value: object) -> object:
        return value

    def never_entered() -> None:
        span_operation(w.text).record("key", w.number)

    return {
        "plain": plain,
        "nested": nested,
        "failing": failing,
        "names": names,
        "decorated": lambda: decorated(w.thing),
        "never entered": never_entered,
        "bad": refused(span_operation),
    }


class Everything:
    """Observed calls of every style, and what they say of themselves."""

    @emits(ProcessCreated, name=arg("name"), priority=len_of(arg("more")), pid=returned("pid"))
    def plain(self, name: str, more: Any = (), *rest: Any, key: Any = None, **others: Any) -> Any:
        return self

    pid = 77

    @emits(SyscallExit, name=arg("name"))
    def timed(self, name: str) -> Any:
        return name

    @emits(SyscallExit, name=raised("args"), when="raise")
    @emits(SyscallExit, name=arg("name"))
    def failing(self, name: str, error: Exception) -> Any:
        raise error

    @emits(SyscallExit, name=arg("name"))
    def generated(self, name: str) -> Any:
        got = yield name
        yield got

    @emits(SyscallExit, name=arg("name"))
    async def awaited(self, name: str, wait: Any = None) -> Any:
        if wait is not None:
            await wait
        return name

    @emits(SyscallExit, name=arg("name"))
    async def streamed(self, name: str) -> Any:
        yield name
        yield name

    @classmethod
    @emits(SyscallExit, name=arg("name"))
    def of_class(cls, name: str) -> Any:
        return cls

    @staticmethod
    @emits(SyscallExit, name=arg("name"))
    def of_none(name: str) -> Any:
        return name


def calls(collector: Collector, w: Watched) -> dict[str, Call]:
    class Mine(Everything):
        pass

    for name in ("plain", "timed", "failing", "generated", "awaited", "streamed"):
        setattr(Mine, name, Everything.__dict__[name])
    observed = observe(Everything, in_place=True, collector=collector) or Everything
    one = observed()
    assert type(observed.__dict__["plain"]) is _native.function

    def failing() -> None:
        try:
            one.failing(w.text, w.error)
        except LookupError as error:
            error.__traceback__ = error.__context__ = None

    def step(awaitable: Any) -> None:
        try:
            while True:
                awaitable.send(None)
        except (StopIteration, StopAsyncIteration):
            pass

    def thrown() -> None:
        generator = one.generated(w.text)
        next(generator)
        try:
            generator.throw(w.error)
        except LookupError as error:
            error.__traceback__ = error.__context__ = None

    def sent() -> None:
        generator = one.generated(w.text)
        next(generator)
        assert generator.send(w.thing) is w.thing
        assert list(generator) == []

    async def all_of(stream: Any) -> None:
        async for each in stream:
            assert each is w.text

    def dropped() -> None:
        stream = one.streamed(w.text)
        step(stream.__anext__())
        step(stream.aclose())

    def cancelled() -> None:
        future: Any = asyncio.Future(loop=loop)
        coroutine = one.awaited(w.text, future)
        coroutine.send(None)
        coroutine.close()

    loop = asyncio.new_event_loop()
    w.loop = loop  # type: ignore[attr-defined]
    function = observed.__dict__["timed"]
    return {
        "plain": lambda: one.plain(w.text, w.list, w.thing, key=w.thing, other=w.thing),
        "plain by keyword": lambda: one.plain(name=w.text, more=w.list),
        "timed": lambda: one.timed(w.text),
        "failing": failing,
        "wrong": refused(one.plain),
        "wrong keyword": refused(one.timed, nothing=w.thing),
        "generator": lambda: list(one.generated(w.text)),
        "generator that is sent to": sent,
        "generator that is thrown into": thrown,
        "generator that is closed": lambda: one.generated(w.text).close(),
        "generator that is dropped": lambda: next(one.generated(w.text)),
        "coroutine": lambda: step(one.awaited(w.text)),
        "coroutine that is closed": lambda: one.awaited(w.text).close(),
        "coroutine that is cancelled": cancelled,
        "async generator": lambda: step(all_of(one.streamed(w.text))),
        "async generator that is closed": dropped,
        "of a class": lambda: observed.of_class(w.text),
        "static": lambda: observed.of_none(w.text),
        "with what it is told not to fit": lambda: one.plain(w.thing, w.thing),
        "bound": lambda: one.plain.__func__,
        "attributes": lambda: (
            function.__name__, function.__doc__, function.__wrapped__, function.__dict__,
            function.__module__, repr(function), hash(function), function.__reduce_ex__(2),
        ),
        "no attribute": lambda: getattr(function, "nothing", None),
        "site": lambda: (_native.site_of(function), _native.site_of(w.thing)),
        "running": _native.running,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def _thing_text(watched: Watched) -> None:
    watched.thing_text = "identifier"  # type: ignore[attr-defined]


GROUPS = {
    "emitters": emitted,
    "closed": closed,
    "sampled": sampled,
    "ring": ring_methods,
    "readers": readers,
    "analysis": analysed,
    "spans": spans,
    "observed": calls,
}


@pytest.mark.parametrize("group", GROUPS)
def test_nothing_is_left_behind(group, collector, watched, monkeypatch):
    if group == "spans":
        monkeypatch.setattr(collectors, "_global", collector)
        collectors.init_collector(collector)
    failed = []
    try:
        for name, call in GROUPS[group](collector, watched).items():
            try:
                check_thrice(call, watched)
            except AssertionError as error:
                failed.append(f"{name}: {error}")
    finally:
        collectors.clear_collector()
        if group == "observed":
            watched.loop.close()
    assert not failed, "\n".join(failed)


@pytest.mark.skipif(not sys.getallocatedblocks(), reason="PYTHONMALLOC=malloc counts nothing")
def test_a_leak_is_found(watched):
    kept = []
    with pytest.raises(AssertionError, match="blocks"):
        check_thrice(lambda: kept.append(object()), watched)
    with pytest.raises(AssertionError, match="references"):
        check_thrice(lambda: kept.append(watched.thing), watched)
    with pytest.raises(AssertionError, match="bytes"):
        check(lambda: _libc.malloc(2000), watched, 1000)
