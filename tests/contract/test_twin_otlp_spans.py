"""The C core encodes of any span the very bytes that Python does."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from kobs import Collector, span_grpc, span_operation, span_syscall
from kobs.context import causal_context, cause, origin
from kobs.export.otlp_encode import Item
from kobs.export.otlp_feeds import RingFeed, Source, ring_source
from kobs.export.otlp_send import WireOutbox
from kobs.export.otlp_streams import SpanStream
from kobs.export.otlp_transport import Outcome
from kobs.payloads import MessageReceived, MessageSent
from kobs.tracing import Span, TracerProvider as KobsTracerProvider
from kobs.tracing.assembler import SpanAssembler
from kobs.tracing.records import SpanDetailed, SpanNoted, TraceAdopted
from kobs.tracing.resource import Given

pytest.importorskip("kobs._core._native")


class Kept:
    """A transport that takes everything, and keeps it."""

    not_before = 0.0
    told_to_wait = False

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def send(self, body: bytes, timeout_s: float | None = None) -> Outcome:
        self.bodies.append(body)
        return Outcome("taken")

    def close(self) -> None: ...


class InPython(SpanStream):
    def _make_encoder(self, source: Source) -> None:
        return None


class Outbox(WireOutbox):
    """Keeps the spans as they were encoded."""

    def __init__(self) -> None:
        transport: Any = Kept()
        super().__init__(transport)
        self.spans: list[bytes] = []
        self.scopes: list[tuple[bytes, str]] = []

    def add(self, item: Item) -> None:
        super().add(item)
        data, before = item.data, len(self.spans)
        while data:
            assert data[0] == 2 << 3 | 2
            length = at = 0
            while True:
                at += 1
                length |= (data[at] & 127) << 7 * (at - 1)
                if data[at] < 128:
                    break
            self.spans.append(data[at + 1 : at + 1 + length])
            self.scopes.append((self.spans[-1], repr(item.scope)))
            data = data[at + 1 + length :]
        assert len(self.spans) - before == item.number


def exported(collector: Collector, kind: type[SpanStream], source: Source) -> tuple[Any, ...]:
    outbox = Outbox()
    assembler = SpanAssembler(lambda _: source.trace_high)
    stream = kind(RingFeed(collector, source), assembler, outbox, None)
    sent = stream.export()
    assert stream.undecoded == 0
    return sent.taken, stream.unsampled, sorted(outbox.spans), sorted(outbox.scopes)


def same(collector: Collector) -> int:
    """Both export the same; how many spans."""
    given = Given.read()
    source = ring_source(collector, given)
    in_c = exported(collector, SpanStream, source)
    assert in_c == exported(collector, InPython, source)
    return int(in_c[0])


@pytest.fixture
def collector() -> Iterator[Collector]:
    token = cause.set(None)
    with Collector(size=4096) as made:
        yield made
    cause.reset(token)


values = st.one_of(
    st.text(max_size=12), st.integers(), st.integers(-9, 9), st.booleans(), st.none(),
    st.floats(), st.binary(max_size=4), st.lists(st.integers(-9, 9), max_size=2),
    st.text("abc \"\\\x7fé", max_size=90),
)  # fmt: skip
keys = st.one_of(
    st.text(min_size=1, max_size=8),
    st.sampled_from(["kobs.x", "error.type", "rpc.method", "k", "a.b", "error.message"]),
    st.sampled_from(["exception.type", "exception.message", "kobs.span.name", "thread.id"]),
    st.sampled_from(["process.pid", "kobs.origin", "kobs.syscall", "kobs.attributes.incomplete"]),
)
makers: list[Callable[..., Any]] = [
    lambda name, collector: span_operation(name, collector=collector),
    lambda name, collector: span_operation(name, kind="client", collector=collector),
    lambda name, collector: span_grpc(name, collector=collector),
    lambda name, collector: span_syscall(name, 4242, collector=collector),
]
told = st.tuples(
    st.sampled_from(range(len(makers))),
    st.text(min_size=1, max_size=9),
    st.dictionaries(keys, values, max_size=4),
    st.sampled_from(["", "ok", "error", "raises", "linked", "noted", "detailed", "message"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(told, min_size=1, max_size=6))
def test_any_spans(found: list[tuple[int, str, dict[str, Any], str]]) -> None:
    token = cause.set(None)
    with Collector(size=1024) as collector:
        nest(collector, found)
        assert same(collector) == len(found)
    cause.reset(token)


def nest(collector: Collector, found: list[tuple[int, str, dict[str, Any], str]]) -> None:
    """Each span in the one before."""
    if not found:
        return
    (maker, name, attributes, more), *rest = found
    try:
        with makers[maker](name, collector) as span:
            for key, value in attributes.items():
                span.record(key, value)
            more_of(collector, span, more)
            nest(collector, rest)
            if more == "raises":
                raise ValueError("as told")
    except ValueError:
        pass


def more_of(collector: Collector, span: Span, more: str) -> None:
    if more == "ok":
        span.record_result(True)
    elif more == "error":
        span.record_error("bad")
    elif more == "linked":
        span.add_link("00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")
    elif more == "noted":
        span.emit(SpanNoted("seen", 5, {"k": 1}), parent=span._event)
    elif more == "detailed":
        span.emit(SpanDetailed(details={"status": "x", "ended_ns": 9}), parent=span._event)
    elif more == "message":
        collector.emitter(MessageSent)("queue", 5, link=77)


def test_plain_spans_are_left_to_nobody(collector: Collector) -> None:
    with span_operation("a", collector=collector), span_syscall("read", 4242, collector=collector):
        pass
    with span_operation("b", kind="client", collector=collector) as span:
        span.record("k", 1).record("x", 0.5).record("s", "text").record("yes", True)
        span.record("nothing", None).record_result(True)
    source = ring_source(collector, Given.read())
    asked: list[str] = []

    class Watched(SpanStream):
        def _take_slot(self, slot: Any, source: Source, before: list[int]) -> None:
            event = source.decode(slot)
            assert event is not None
            asked.append(event.type_name)
            super()._take_slot(slot, source, before)

    taken, *_ = exported(collector, Watched, source)
    assert taken == 3
    assert asked == []


def test_spans_of_a_provider(collector: Collector) -> None:
    """Of more scopes than the encoder keeps apart, with and without further details."""
    provider = KobsTracerProvider(collector=collector)
    for number in range(12):
        tracer = provider.get_tracer(f"library {number}", "1.0", attributes={"team": "a"})
        with tracer.start_as_current_span("outer", attributes={"k": number}) as outer:
            with tracer.start_as_current_span("inner", kind=SpanKind.CLIENT) as inner:
                inner.set_status(StatusCode.OK)
            if number == 1:
                outer.add_event("seen")
                outer.set_status(StatusCode.ERROR, "why")
            elif number == 2:
                outer.set_status(StatusCode.ERROR)
    with span_operation("own", collector=collector):
        pass
    assert same(collector) == 25


def test_plain_spans_of_a_provider_are_left_to_nobody(collector: Collector) -> None:
    tracer = KobsTracerProvider(collector=collector).get_tracer("library", "1.0")
    with tracer.start_as_current_span("outer") as outer:
        outer.set_attribute("k", 1)
    source = ring_source(collector, Given.read())

    class Refusing(SpanStream):
        def _take_slot(self, slot: Any, source: Source, before: list[int]) -> None:
            raise AssertionError(source.decode(slot))

    taken, _, (span,), _ = exported(collector, Refusing, source)
    assert taken == 1
    assert b"thread.id" not in span


def test_traces_that_another_tracer_made(collector: Collector) -> None:
    tracer = TracerProvider().get_tracer("test")
    off = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")
    with tracer.start_as_current_span("sdk"), span_operation("a", collector=collector) as a:
        with span_operation("b", collector=collector):
            pass
        a.emit(TraceAdopted(1, a.causality_id, True, "k=v", 3, True), span_id=78)
    with off.start_as_current_span("sdk"), span_operation("c", collector=collector):
        pass
    assert same(collector) == 2


def test_messages_link_spans(collector: Collector) -> None:
    sent, received = collector.emitter(MessageSent), collector.emitter(MessageReceived)
    with span_operation("sender", collector=collector):
        sent("queue", 5, link=77)
    with span_operation("receiver", collector=collector), span_operation("in", collector=collector):
        received("queue", 5, link=77)
    assert same(collector) == 3


def test_messages_of_spans_that_began_before_and_after_the_first_of_them(
    collector: Collector,
) -> None:
    sent, received = collector.emitter(MessageSent), collector.emitter(MessageReceived)
    with span_operation("early", collector=collector):
        with span_operation("plain", collector=collector):
            sent("queue", 5, link=77)
        with span_operation("late", collector=collector):
            received("queue", 5, link=77)
        received("queue", 5, link=77)
    with span_operation("later", collector=collector):
        received("queue", 5, link=77)
    assert same(collector) == 4


def test_what_begins_with_what_was_received_is_a_child_of_who_sent_it(
    collector: Collector,
) -> None:
    sent, received = collector.emitter(MessageSent), collector.emitter(MessageReceived)
    with span_operation("sender", collector=collector) as sender:
        sent("queue", 5, link=77)
    parent = received("queue", 5, link=77, causality_id=sender.causality_id)
    with (
        causal_context(sender.causality_id, parent=parent),
        span_operation("deliver", collector=collector),
    ):
        pass
    source = ring_source(collector, Given.read())
    _, _, spans, _ = exported(collector, SpanStream, source)
    assert [bytes.fromhex(sender.span_id) in span for span in spans] == [True, True]
    assert same(collector) == 2


def test_origins_pids_and_long_names(collector: Collector) -> None:
    token = origin.set("test_a")
    with span_operation("with an origin", collector=collector):
        pass
    origin.reset(token)
    for name in ("x" * 3000, 'with "quotes"', "é", "?", ""):
        with span_operation(name, collector=collector):
            pass
    assert same(collector) == 6


def test_a_begin_that_was_lost_and_spans_that_are_open(collector: Collector) -> None:
    with Collector(size=16) as small:
        with span_operation("long", collector=small):
            for _ in range(20):
                small.emitter(MessageSent)("queue", 5)
        with span_operation("open", collector=small):
            assert same(small) == 1


def test_what_was_exported_before_is_not_encoded_again(collector: Collector) -> None:
    for name in "abc":
        with span_operation(name, collector=collector):
            pass
    source = ring_source(collector, Given.read())

    class After:
        """Of a progress: the end of `a` and all before it was exported."""

        def sent(self, source: Source) -> list[int]:
            ends = [e for e in collector.snapshot() if e.type_name == "SpanEnded"]
            return [(ends[0].id & (1 << 42) - 1) + 1, 0]

        def passed(self, run: object) -> None: ...
        def where(self) -> dict[int, list[int]]:
            return {}

        def note(self, where: object) -> None: ...
        def note_open(self, recordings: object) -> None: ...

    for kind in (SpanStream, InPython):
        transport: Any = Kept()
        stream = kind(
            RingFeed(collector, source), SpanAssembler(lambda _: source.trace_high),
            WireOutbox(transport), After(),
        )  # fmt: skip
        assert stream.export().taken == 2
        assert b"\x2a\x01a" not in transport.bodies[0]


def test_a_recording_with_another_layout_is_left_to_python(collector: Collector) -> None:
    from kobs._core._native import SpanEncoder, Types

    types = Types(
        recording=1, find=lambda type_id: None, string=lambda number: "?",
        severities=("TRACE",), categories=("PROCESS",),
    )  # fmt: skip
    encoder = SpanEncoder(
        types=types, trace_high=1, pid=1, type_ids=(100, 101, 106, 100, 106), kinds={}, statuses={},
        syscall=2, network=3, adopted={}, received={}, remote={}, most=10,
    )  # fmt: skip
    with span_operation("a", collector=collector):
        pass
    left: list[Any] = []
    slots = collector.ring.reader(oldest=True).read()
    found, unsampled, _ = encoder.take(slots, (0, 0), ((0, 0),), left.append)
    assert (found, unsampled) == ([], 0)
    assert left == slots
    assert encoder.release() == []
