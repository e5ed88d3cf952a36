"""How cost grows: with the ring, with what an event carries, with who reads, with depth."""

from collections.abc import Callable
from typing import Any

from benchmarks.subject import Statement, Subject, main
from benchmarks.subjects.calls import written

RING = (1024, 16384, 65536, 262144)
TEXT = (0, 16, 64, 100, 1000)
SUBSCRIBERS = (0, 1, 4, 16)
DEPTH = (0, 1, 8, 32)
CHAIN = (10, 100, 1000)


def ring(slots: int) -> Callable[[], Any]:
    """An emitter into a ring of so many slots."""

    def make() -> Any:
        from kobs import Collector, ContextSwitch

        emit = Collector(size=slots).emitter(ContextSwitch)
        for number in range(slots):
            emit(number, number, "await")
        return emit

    return make


def text(length: int) -> Callable[[], Any]:
    """An emitter, and a path of so many characters; what does not fit is cut."""

    def make() -> Any:
        from kobs import FileChanged

        return written().emitter(FileChanged), "x" * length

    return make


def subscribers(number: int) -> Callable[[], Any]:
    """An emitter, with so many subscribers that are open and read nothing."""

    def make() -> Any:
        from kobs import ContextSwitch

        collector = written()
        return collector.emitter(ContextSwitch), [collector.subscribe() for _ in range(number)]

    return make


def depth(spans: int) -> Callable[[], Any]:
    """An emitter, below so many spans that are open."""

    def make() -> Any:
        from kobs import ContextSwitch, init_collector, span_operation

        collector = init_collector(written())
        opened = [span_operation(f"span {number}") for number in range(spans)]
        for span in opened:
            span.__enter__()
        return collector.emitter(ContextSwitch), opened

    return make


def chain(length: int) -> Callable[[], Any]:
    """A chain of so many events, each caused by the one before it."""

    def make() -> Any:
        from kobs import CausalityTracer, Collector, ContextSwitch

        collector = Collector()
        emit = collector.emitter(ContextSwitch)
        event = 0
        for number in range(length):
            event = emit(number, number + 1, "await", causality_id=1, parent=event)
        return CausalityTracer, collector.snapshot()

    return make


EMIT = 'emit(1, 2, "await")'
SUBJECTS: dict[str, Subject] = {
    **{f"ring.{n}": Statement(EMIT, "emit", ring(n)) for n in RING},
    **{f"text.{n}": Statement('emit(path, "written")', "emit, path", text(n)) for n in TEXT},
    **{f"subscribers.{n}": Statement(EMIT, "emit, _", subscribers(n)) for n in SUBSCRIBERS},
    **{f"depth.{n}": Statement(EMIT, "emit, _", depth(n)) for n in DEPTH},
    **{
        f"chain.{n}": Statement(
            "tracer.critical_path(events, 1)", "tracer, events", chain(n), unrolled=1
        )
        for n in CHAIN
    },
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
