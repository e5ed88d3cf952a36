"""What spans need before the first of them begins: of a collector, and in the C core."""

from typing import Any

from kobs import bridge, collector as collectors
from kobs._core import select
from kobs.collector import Collector
from kobs.payloads import SpanBegan, SpanEnded
from kobs.tracing.records import SpanAttributes


def prepare(collector: Collector) -> None:
    """Before the first span of a collector: what an end needs is there, where the stack has no room
    left to make it."""
    for status in ("unset", "ok", "error"):
        collector.ring.intern(status)
    collector.emitter(SpanEnded)
    collector.emitter(SpanAttributes)
    if collector is collectors._global:
        wire(collector)


def look_elsewhere(variable: Any = None, nothing: object = None) -> None:
    """Tell the C core where another tracer keeps its context, and what is there where it has
    none; and what the sampler says now."""
    if select().name == "c":
        from kobs._core import _native

        _native.look_elsewhere(variable, nothing, max(0, bridge.sampler.bound - 1))


def wire(collector: Collector | None) -> None:
    """Have the spans of the process-wide collector recorded without Python, where they can be."""
    bridge.sampler = bridge.RootSampler.from_environment()
    look_elsewhere()
    if select().name != "c":
        return
    from kobs._core import _native

    began = ended = None
    if collector is not None:
        began, ended = collector.begin_emitter(SpanBegan), collector.emitter(SpanEnded)
    if isinstance(began, _native.Emitter) and isinstance(ended, _native.Emitter):
        high = collector.ring.trace_high
        _native.wire_spans(collector, began, ended, collector.gate.up, high)
    else:
        _native.wire_spans(None)


collectors.watch_global_collector(lambda _: wire(None))
