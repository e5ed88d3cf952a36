"""What an event costs on the Python core, beside its floor and its peers, in one run.

    python benchmarks/hot_path.py [--fast] [-o results.json]

`pyperf` takes the figures (processes, warm-up, calibration); what is printed are medians and the
ratios of this run. Quote the ratios: the machine may be shared.
"""

import struct
import sys
import time
from collections.abc import Callable

import pyperf

from kobs import (
    Collector,
    ContextSwitch,
    ProcessTerminated,
    Query,
    SyscallExit,
    SyscallResult,
    emits,
    observe,
    span_operation,
)
from kobs.query import AggregationType

LOOPS = 1000


def repeat(function: Callable[[], object]) -> Callable[[], None]:
    """A loop long enough that the timer's own cost does not show."""

    def loop() -> None:
        for _ in range(LOOPS):
            function()

    return loop


def pack_and_clock() -> Callable[[], None]:
    buffer = bytearray(192)
    pack_into = struct.Struct("=QQQQQQIIHBBIIId").pack_into
    clock = time.monotonic_ns

    def pack() -> None:
        pack_into(buffer, 0, clock(), 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5.0)

    return repeat(pack)


def emit_fast() -> Callable[[], None]:
    emit = Collector().emitter(ContextSwitch)
    return repeat(lambda: emit(1, 2, "await"))


def emit_duration() -> Callable[[], None]:
    emit = Collector().emitter(SyscallExit)
    ok = SyscallResult.SUCCESS
    return repeat(lambda: emit("read", 12.0, ok, pid=42))


def emit_payload() -> Callable[[], None]:
    collector = Collector()
    payload = ProcessTerminated(0)
    return repeat(lambda: collector.emit(payload))


class Bare:
    def work(self) -> int:
        return 3


def bare_method() -> Callable[[], None]:
    return repeat(Bare().work)


def observed_method() -> Callable[[], None]:
    @observe(collector=Collector())
    class Watched:
        @emits(ProcessTerminated, exit_code=0)
        def work(self) -> int:
            return 3

    return repeat(Watched().work)


def idle_method() -> Callable[[], None]:
    @observe()
    class Watched:
        @emits(ProcessTerminated, exit_code=0)
        def work(self) -> int:
            return 3

    return repeat(Watched().work)


def wrapt_method() -> Callable[[], None]:
    import wrapt

    @wrapt.decorator
    def through(wrapped, instance, args, kwargs):  # type: ignore[no-untyped-def]
        return wrapped(*args, **kwargs)

    class Wrapped:
        @through
        def work(self) -> int:
            return 3

    return repeat(Wrapped().work)


def kobs_span() -> Callable[[], None]:
    from kobs import init_collector

    init_collector(Collector())

    def span() -> None:
        with span_operation("x") as current:
            current.record("key", 1)

    return repeat(span)


def sdk_span() -> Callable[[], None]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans):  # type: ignore[no-untyped-def]
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    tracer = provider.get_tracer("bench")

    def span() -> None:
        with tracer.start_as_current_span("x") as current:
            current.set_attribute("key", 1)

    return repeat(span)


def query_of_1000() -> Callable[[], None]:
    collector = Collector(size=1024)
    for number in range(1000):
        collector.syscall_exit(42, "read", number, True)
    events = collector.snapshot()
    query = Query().aggregate(AggregationType.DURATION_STATS)
    return lambda: query.run(events)  # type: ignore[return-value]


FIGURES: dict[str, tuple[Callable[[], Callable[[], None]], int]] = {
    "pack_into + clock (floor)": (pack_and_clock, LOOPS),
    "emitter, 3 fields": (emit_fast, LOOPS),
    "emitter with duration, anomaly check": (emit_duration, LOOPS),
    "collector.emit(payload)": (emit_payload, LOOPS),
    "bare method": (bare_method, LOOPS),
    "wrapt.decorator, empty": (wrapt_method, LOOPS),
    "observed method, one event": (observed_method, LOOPS),
    "observed method, no collector": (idle_method, LOOPS),
    "span_operation, one attribute": (kobs_span, LOOPS),
    "OpenTelemetry SDK span, batch processor": (sdk_span, LOOPS),
    "query of 1,000 events, percentiles": (query_of_1000, 1),
}


def timed(make: Callable[[], Callable[[], None]]) -> Callable[[int], float]:
    """What pyperf calls in a worker: the making is not timed."""

    def time_loops(loops: int) -> float:
        function = make()
        began = time.perf_counter()
        for _ in range(loops):
            function()
        return time.perf_counter() - began

    return time_loops


def main() -> None:
    """Measure, then print the table."""
    runner = pyperf.Runner()
    medians: dict[str, float] = {}
    for name, (make, calls) in FIGURES.items():
        done = runner.bench_time_func(name, timed(make), inner_loops=calls)
        if done is not None and not runner.args.worker:
            medians[name] = done.median() * 1e9
    if not medians:
        return
    floor = medians["pack_into + clock (floor)"]
    print(f"\n{'Python core, ' + sys.version.split()[0]:<44}{'median':>12}{'x floor':>10}")
    for name, nanoseconds in medians.items():
        print(f"{name:<44}{nanoseconds:>9.0f} ns{nanoseconds / floor:>10.1f}")
    ratio = medians["span_operation, one attribute"]
    print(f"\nspan: {ratio / medians['OpenTelemetry SDK span, batch processor']:.2f} x the SDK's")
    added = medians["observed method, one event"] - medians["bare method"]
    wrapped = medians["wrapt.decorator, empty"] - medians["bare method"]
    print(f"observed method adds {added / wrapped:.1f} x what an empty wrapt.decorator adds")


if __name__ == "__main__":
    main()
