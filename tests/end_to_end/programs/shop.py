"""A small real program: takes two orders, one of which fails, and exports what it recorded.

Prints as JSON what a receiver must have got from it.
"""

import json
import logging
import sys
import threading

from kobs import (
    Collector,
    Event,
    init_collector,
    init_tracing,
    span_grpc,
    span_operation,
    span_syscall,
)
from kobs.context import cause
from kobs.export.otlp import OtlpExporter
from kobs.payloads import MessageReceived, MessageSent, ResourceExhausted
from kobs.tracing import set_slow_thresholds


def take_order(number: int, stock: int) -> None:
    """Charge for an order; where there is nothing left, fail."""
    with span_operation("charge", kind="client") as span:
        span.record("order", number).record("total", 12.5).record("vip", number == 1)
        span.record("note", "für dich " * 100).record("items", ["a", "b"])
        if number > stock:
            raise LookupError(f"order {number}: nothing left")


def run(collector: Collector) -> dict[str, object]:
    """What the program does; what must come out of it."""
    with span_grpc("shop.Orders/Take") as call:
        collector.emit(MessageSent("orders", 42), link=0x7777, severity=None)
        with span_syscall("read", 4242):
            take_order(1, stock=1)
        exhausted = collector.emit(ResourceExhausted("stock", 1), pid=4242)
        failed = ""
        try:
            take_order(2, stock=1)
        except LookupError as error:
            failed = str(error)
            logging.getLogger("shop.orders").exception(
                "order %d failed", 2, extra={"left": 0, "items": ["a"], "vip": False}
            )

    def worker() -> None:
        with span_operation("deliver", kind="consumer"):
            collector.emit(MessageReceived("orders", 42, 1.0), link=0x7777)

    thread = threading.Thread(target=worker)
    thread.start()
    thread.join()
    spans = {}
    begins = {e.id: e for e in collector.snapshot() if e.type_name == "SpanBegan"}
    for event in collector.snapshot():
        if event.type_name == "SpanEnded":
            began: Event = begins[event.parent]
            spans[f"{event.span_id:016x}"] = {
                "name": event.payload.name,
                "trace_id": f"{collector.ring.trace_high:016x}{event.causality_id:016x}",
                "parent": f"{began.payload.parent_span:016x}" if began.payload.parent_span else "",
                "kind": began.payload.kind,
                "status": event.payload.status,
                "took_ns": event.timestamp_ns - began.timestamp_ns,
            }
    return {
        "trace_id": call.trace_id,
        "span_id": call.span_id,
        "spans": spans,
        "exhausted": f"{exhausted:016x}",
        "failed": failed,
    }


if __name__ == "__main__":
    set_slow_thresholds(syscall_ms=1e9, operation_ms=1e9)  # However busy the machine is.
    recorder = init_collector(Collector(size=1024, sampling=100))
    cause.set(None)
    with OtlpExporter(recorder) as exporter, init_tracing(level="info"):
        expected = run(recorder)
        report = exporter.shutdown(timeout=20)
    expected["report"] = report._asdict()
    json.dump(expected, sys.stdout)
