"""Spans made whole again, with what they were given beside their two events."""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from kobs import Collector, Subscriber, collector as collectors
from kobs.payloads import MessageReceived, MessageSent
from kobs.tracing import Span, assembler as assembling, gathered, span_operation
from kobs.tracing.assembler import SpanAssembler
from kobs.tracing.finished import (
    OWN_SCOPE,
    FinishedSpan,
    Scope,
    SpanEvent,
    attributes_by_convention,
)
from kobs.tracing.gathered import FEW
from kobs.tracing.records import (
    DROPPED,
    LINK_FLAGS,
    LINK_REMOTE,
    LINK_STATE,
    SpanAttributes,
    SpanDetailed,
    SpanLinked,
    SpanNoted,
    TraceAdopted,
    cut_up,
    encode,
    room_of,
    scope_text,
    split_attributes,
)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector(size=1024, sampling=100) as made:
        monkeypatch.setattr(collectors, "_global", made)
        yield made


def finished(collector: Collector) -> list[FinishedSpan]:
    assembler = SpanAssembler(lambda recording: collector.ring.trace_high)
    spans = [assembler.observe(event) for event in collector.snapshot()]
    assert not assembler._parts, "parts of records are left"
    return [span for span in spans if span is not None]


def write(span: Span, record: Any, field: str = "") -> None:
    """A record of a span, and what of its attributes does not fit."""
    if not field:
        span.emit(record, parent=span._event)
        return
    kind = type(record)
    inline, parts = split_attributes(getattr(record, field), room_of(kind, field))
    names = kind.__kobs_schema__.field_names
    values = {name: getattr(record, name) for name in names} | {field: inline}
    number = span.emit(kind(**values), parent=span._event)
    for index, data in enumerate(parts):
        span.emit(SpanAttributes(index, len(parts), data), parent=number)


class TestEvents:
    def test_they_are_told_in_order_with_their_attributes(self, collector: Collector) -> None:
        with span_operation("load") as span:
            write(span, SpanNoted("first", 5, {"rows": 1}))
            write(span, SpanNoted("second", 4, {"text": "x" * 300, DROPPED: 2}), "attributes")
        (load,) = finished(collector)
        assert load.events == [
            SpanEvent("first", 5, {"rows": 1}),
            SpanEvent("second", 4, {"text": "x" * 300}, dropped_attributes=2),
        ]

    def test_an_exception_is_one(self, collector: Collector) -> None:
        with pytest.raises(ValueError, match="no"), span_operation("load"):
            raise ValueError("no")
        (load,) = finished(collector)
        (event,) = load.events
        assert (event.name, event.time_ns) == ("exception", load.ended_ns)
        assert event.attributes["exception.type"] == "ValueError"
        assert load.attributes == {"error.type": "ValueError"}
        assert (load.status, load.status_description) == ("error", "no")

    def test_limits_leave_out_the_oldest(self, collector: Collector) -> None:
        with span_operation("load") as span:
            for number in range(3):
                write(span, SpanNoted(str(number), 5))
            write(span, SpanDetailed(details={"dropped": [1, 2, 0]}))
        (load,) = finished(collector)
        assert [event.name for event in load.events] == ["2"]
        assert (load.dropped_attributes, load.dropped_events, load.dropped_links) == (1, 2, 0)


class TestDetails:
    def test_a_span_has_its_scope_flags_and_state(self, collector: Collector) -> None:
        scope = scope_text("shop", "1.2", None, {"team": "a"})
        with span_operation("load") as span:
            write(span, SpanDetailed(scope, 7, 0x02, {"trace_state": "a=" + "b" * 200}), "details")
            write(span, SpanDetailed(details={"status": "bad", "ended_ns": 9, "remote": True}))
        (load,) = finished(collector)
        assert load.scope == Scope("shop", "1.2", "", {"team": "a"})
        assert (load.provider, load.flags) == (7, 0x02)
        assert not load.trace.exported
        assert load.trace.state == "a=" + "b" * 200
        assert (load.status_description, load.ended_ns, load.parent_is_remote) == ("bad", 9, True)

    def test_a_plain_span_is_of_kobss_own_scope(self, collector: Collector) -> None:
        with span_operation("load"):
            pass
        (load,) = finished(collector)
        assert (load.scope, load.flags, load.provider) == (OWN_SCOPE, 1, 0)
        assert load.trace.exported

    def test_conventions_add_nothing_to_what_a_tracer_made(self, collector: Collector) -> None:
        with span_operation("load") as span:
            span.record("rows", 1)
            write(span, SpanDetailed(provider=1))
        with span_operation("own"):
            pass
        load, own = finished(collector)
        assert attributes_by_convention(load, None) == {"rows": 1}
        assert attributes_by_convention(own, own.pid) == {"thread.id": own.tid}


class TestLinks:
    def test_they_keep_what_the_other_context_said(self, collector: Collector) -> None:
        known = {
            "why": "x" * 90, LINK_STATE: "k=v", LINK_FLAGS: 3, LINK_REMOTE: True, DROPPED: 4,
        }  # fmt: skip
        with span_operation("load") as span:
            write(span, SpanLinked(1, 2, 3, known), "attributes")
        (load,) = finished(collector)
        (link,) = load.links
        assert (link.trace_id, link.span_id) == (1 << 64 | 2, 3)
        assert link.attributes == {"why": "x" * 90}
        assert (link.trace_state, link.flags, link.remote) == ("k=v", 3, True)
        assert link.dropped_attributes == 4


class TestTraces:
    def test_a_long_tracestate_is_whole(self, collector: Collector) -> None:
        state = ",".join(f"k{number}={'v' * 20}" for number in range(20))
        parts = cut_up(state)
        with span_operation("load") as span:
            adopted = TraceAdopted(1, span.causality_id, True, "", 3, True, len(parts))
            number = span.emit(adopted, span_id=77)
            for index, data in enumerate(parts):
                span.emit(SpanAttributes(index, len(parts), data), parent=number)
        (load,) = finished(collector)
        assert load.trace.state == state
        assert load.trace.trace_id == 1 << 64 | span.causality_id
        assert load.flags == 3

    def test_scope_text_of_another_version_is_left(self, collector: Collector) -> None:
        with span_operation("load") as span:
            write(span, SpanDetailed(encode({"new": 1})))
        assert finished(collector)[0].scope == OWN_SCOPE


class TestMemory:
    """What is gathered of spans that do not end is bounded, and what is left out counted."""

    def assembled(self, collector: Collector) -> tuple[SpanAssembler, Subscriber]:
        assembler = SpanAssembler(lambda recording: collector.ring.trace_high)
        return assembler, collector.subscribe(oldest=True)

    def read(self, assembler: SpanAssembler, subscriber: Subscriber) -> list[FinishedSpan]:
        spans = [assembler.observe(event) for event in subscriber]
        return [span for span in spans if span is not None]

    def test_a_span_that_goes_on_and_on_keeps_its_newest_events_and_links(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gathered, "MOST_PARTS", 300)
        assembler, subscriber = self.assembled(collector)
        tracemalloc.start()
        sizes = []
        with span_operation("worker") as span, span_operation("short") as other:
            for number in range(200):
                write(other, SpanNoted("e", number))
            assert not self.read(assembler, subscriber)
            for _ in range(4):
                for number in range(150):
                    write(span, SpanNoted("e", number, {"text": "x" * 200}), "attributes")
                    write(span, SpanLinked(1, 2, number))
                    collector.emit(MessageReceived("q", 1, 0.0), link=7)
                assert not self.read(assembler, subscriber)
                sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert sizes[-1] < 1.2 * sizes[1], "it does not grow with what happens"
        short, worker = self.read(assembler, subscriber)
        assert (len(short.events), short.dropped_events) == (200, 0)
        assert len(worker.events) == len(worker.links) == FEW
        assert worker.dropped_events == worker.dropped_links == 600 - FEW
        assert worker.events[-1].attributes == {"text": "x" * 200}
        assert [link.span_id for link in worker.links] == list(range(150))[-FEW:]
        assert not assembler._parts

    def test_what_its_own_limits_left_out_is_counted_once(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gathered, "MOST_PARTS", 10)
        assembler, subscriber = self.assembled(collector)
        for told in (3, FEW):
            with span_operation("worker") as span:
                for number in range(FEW + 20):
                    write(span, SpanNoted(str(number), number))
                write(span, SpanDetailed("-", 0, 255, {"dropped": [0, told, 0]}))
            (worker,) = self.read(assembler, subscriber)
            assert worker.dropped_events == max(told, 20)
            assert [event.time_ns for event in worker.events] == list(range(FEW + 20))[
                worker.dropped_events :
            ]

    def test_sends_and_receives_are_remembered_up_to_a_number(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(assembling, "MOST_SENDS", 20)
        monkeypatch.setattr(assembling, "MOST_RECEIVED", 10)
        assembler, subscriber = self.assembled(collector)
        with span_operation("producer") as producer:
            for link in range(1, 31):
                collector.emit(MessageSent("q", 1), link=link)
        for link in (5, 12, 30):
            with span_operation(f"consumer of {link}"):
                collector.emit(MessageReceived("q", 1, 0.0), link=link)
        spans = {span.name: span for span in self.read(assembler, subscriber)}
        assert not spans["consumer of 5"].links
        for link in (12, 30):
            (joined,) = spans[f"consumer of {link}"].links
            assert f"{joined.span_id:016x}" == producer.span_id
        for _ in range(40):
            collector.emit(MessageReceived("q", 1, 0.0), link=30)
        assert not self.read(assembler, subscriber)
        assert len(assembler.received) == 10
