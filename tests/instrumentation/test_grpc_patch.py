"""Watching gRPC changes nothing that a program sees, and can be taken back."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc._channel
import grpc._server
import grpc.aio
import pytest

import kobs
from kobs import bridge
from kobs.session import Session
from kobs_instrumentation import registry
from kobs_instrumentation.grpc import GrpcInstrumentor
from kobs_instrumentation.grpc_interceptors import (
    AioServerInterceptor,
    ClientInterceptor,
    ServerInterceptor,
    aio_client_interceptors,
)
from kobs_instrumentation.watch import _grpc_metadata
from tests.instrumentation.grpc_service import (
    KINDS,
    answer,
    answer_in_loop,
    made,
    method,
    serving,
    serving_in_loop,
    spans,
)


@pytest.fixture
def collector() -> Iterator[kobs.Collector]:
    with kobs.Collector(size=1024) as collector:
        yield collector
        GrpcInstrumentor().uninstrument()


def outcomes(target: str, service: Any) -> list[Any]:
    """Everything that a program can see of calls to a service with threads."""
    seen: list[Any] = []

    def note(function: Callable[[], Any]) -> None:
        try:
            found = function()
        except Exception as error:
            seen.append((type(error), _plain(repr(error)), error.__cause__, error.__context__))
            if isinstance(error, grpc.Call):
                seen.append((error.code(), _plain(error.details()), error.trailing_metadata()))
        else:
            seen.append((type(found), _plain(repr(found))))

    mine = (("x-mine", "1"), ("x-mine", "2"), ("y-bin", b"\x00\xff"))
    with grpc.insecure_channel(target) as channel:
        seen.append((type(channel), type(channel.unary_unary(method("unary_unary")))))
        for kind in KINDS:
            for request in (b"ok", b"abort", b"code", b"raise"):
                note(lambda: answer(channel, kind, request, metadata=mine, wait_for_ready=True))  # noqa: B023
            note(lambda: answer(channel, kind, b"wait", timeout=0.05))  # noqa: B023
        call = channel.unary_unary(method("unary_unary"))
        note(lambda: call.with_call(b"ok", compression=grpc.Compression.Gzip))
        note(lambda: call.future(b"ok").result())
        note(lambda: call.future(b"abort").exception())
        note(lambda: call(b"ok", metadata=[("bad key", "x")]))
        note(lambda: call(b"ok", metadata=5))
        note(lambda: call(3))
        note(lambda: call())
        note(lambda: channel.stream_unary(method("stream_unary"))([b"no iterator"]))
        note(lambda: channel.unary_unary("/kobs.test.Service/none")(b"ok"))
        stream = made(channel, "unary_stream", b"ok")
        seen += [type(stream), isinstance(stream, grpc.Call), next(stream), list(stream)]
        seen += [_plain(repr(stream)), stream.code(), stream.initial_metadata()]
    note(lambda: call(b"ok"))  # the channel is closed
    seen.append([[pair for pair in metadata if pair[0] in ("x-mine", "y-bin")]
                 for metadata, _ in service.seen])  # fmt: skip
    return seen


async def outcomes_in_loop(target: str) -> list[Any]:
    """The same of a channel of `grpc.aio`."""
    seen: list[Any] = []
    async with grpc.aio.insecure_channel(target) as channel:
        for kind in KINDS:
            for request in (b"ok", b"abort", b"code", b"raise"):
                try:
                    seen.append(await answer_in_loop(channel, kind, request))
                except grpc.aio.AioRpcError as error:
                    seen += [_plain(repr(error)), error.code(), error.trailing_metadata()]
        call = made(channel, "unary_unary", b"ok", metadata=grpc.aio.Metadata(("x-mine", "1")))
        seen += [type(call), await call, await call.code(), _plain(repr(call))]
        writing = channel.stream_stream(method("stream_stream"))()
        await writing.write(b"ok")
        await writing.done_writing()
        seen += [await writing.read(), await writing.read(), await writing.read()]
        for wrong in ({"metadata": 5}, {"nonsense": 1}):
            try:
                await made(channel, "unary_unary", b"ok", **wrong)
            except Exception as error:
                seen.append((type(error), str(error)))
    return seen


def _plain(text: str) -> str:
    """Without what differs from run to run: addresses, and how a deadline is put in words."""
    text = text.replace("Stream removed (Deadline Exceeded)", "Deadline Exceeded")
    return re.sub(r"0x[0-9a-f]+|127\.0\.0\.1:\d+", "", text)


def test_a_program_sees_what_it_sees_without(collector: kobs.Collector) -> None:
    with serving() as (service, target):
        bare = outcomes(target, service)
    GrpcInstrumentor().instrument(collector=collector)
    with serving() as (service, target):
        watched = outcomes(target, service)
    assert len(watched) == len(bare) > 30
    for seen, expected in zip(watched, bare, strict=True):
        assert seen == expected
    assert collector.losses().errors == 0


def test_a_program_in_a_loop_sees_what_it_sees_without(collector: kobs.Collector) -> None:
    async def run() -> list[Any]:
        async with serving_in_loop() as (_, target):
            return await outcomes_in_loop(target)

    bare = asyncio.run(run())
    GrpcInstrumentor().instrument(collector=collector)
    assert asyncio.run(run()) == bare
    assert collector.losses().errors == 0


def test_metadata_of_the_program_s_own_is_not_changed(collector: kobs.Collector) -> None:
    GrpcInstrumentor().instrument(collector=collector)
    own = [("x-mine", "1"), ("TraceParent", "theirs")]
    theirs = [("x-mine", "1"), ("traceparent", "00-" + "1" * 32 + "-" + "2" * 16 + "-01")]
    with serving() as (service, target), grpc.insecure_channel(target) as channel:
        answer(channel, "unary_unary", b"ok", metadata=theirs)
        with pytest.raises((ValueError, grpc.RpcError)):
            answer(channel, "unary_unary", b"ok", metadata=own)
        (metadata, _), *_ = service.seen
    assert [pair for pair in metadata if pair[0] == "traceparent"] == [theirs[1]]
    assert theirs[0] == ("x-mine", "1")
    assert len(theirs) == 2


PATCHED = [
    *(getattr(grpc._channel, name) for name in dir(grpc._channel) if name.endswith(
        ("MultiCallable", "Rendezvous")) and name.startswith("_")),
    *(getattr(grpc.aio._channel, name) for name in dir(grpc.aio._channel)
      if name.endswith("MultiCallable")),
    grpc.aio._call._StreamRequestMixin, grpc.aio._call._StreamResponseMixin,
    grpc.aio._server.Server, grpc._server, grpc._channel, grpc, grpc.aio,
]  # fmt: skip


def everything() -> dict[str, object]:
    return {f"{owner.__name__}.{n}": value for owner in PATCHED for n, value in vars(owner).items()}


def test_it_is_symmetric_and_idempotent_in_any_order(collector: kobs.Collector) -> None:
    before = everything()
    for first, second in (("instrumentor", "registry"), ("registry", "instrumentor")):
        GrpcInstrumentor().instrument(collector=collector)
        GrpcInstrumentor().instrument(collector=collector)
        registry.enable(collector, only=["grpc"])
        assert everything() != before
        for each in (first, second):
            for _ in range(2):
                if each == "registry":
                    registry.disable(collector)
                else:
                    GrpcInstrumentor().uninstrument()
        now = everything()
        assert [name for name in before if now[name] is not before[name]] == []
        assert now.keys() == before.keys()


def test_what_was_made_while_it_was_on_goes_on_without(collector: kobs.Collector) -> None:
    GrpcInstrumentor().instrument(collector=collector)
    with serving() as (_, target), grpc.insecure_channel(target) as channel:
        stream = made(channel, "unary_stream", b"ok")
        assert next(stream) == b"first"
        GrpcInstrumentor().uninstrument()
        assert list(stream) == [b"ok"]
        assert answer(channel, "unary_unary", b"ok") == [b"ok"]
    assert [seen.code for seen in spans(collector, 2)] == ["OK", "OK"]


def test_channels_and_stubs_from_before_are_seen_and_servers_are_named(tmp_path: Path) -> None:
    session = Session.create("late", ["late"], root=tmp_path)
    with (
        serving() as (_, target),
        grpc.insecure_channel(target) as channel,
        kobs.Collector(session=session, size=1024) as collector,
    ):
        stub = channel.unary_unary(method("unary_unary"))
        registry.enable(collector, only=["grpc"])
        assert stub(b"ok") == b"ok"
        registry.disable(collector)
        (seen,) = spans(collector, 1)
    assert seen.kind == "client"
    reasons = [entry["reason"] for entry in session.unobserved()]
    (reason,) = [text for text in reasons if text.startswith("grpc: ")]
    assert re.fullmatch(r"grpc: calls to \d+ servers? are not seen: made before kobs came", reason)


def test_interceptors_on_what_is_watched_make_no_second_span(collector: kobs.Collector) -> None:
    GrpcInstrumentor().instrument(collector=collector)
    with (
        serving(interceptors=[ServerInterceptor(collector)]) as (_, target),
        grpc.insecure_channel(target) as channel,
    ):
        twice = grpc.intercept_channel(
            channel, ClientInterceptor(collector), ClientInterceptor(collector)
        )
        for kind in KINDS:
            assert answer(twice, kind, b"ok")[-1] == b"ok"
            spans(collector, 2 * (KINDS.index(kind) + 1))

    async def main() -> None:
        async with serving_in_loop(interceptors=[AioServerInterceptor(collector)]) as (_, target):
            theirs = aio_client_interceptors(collector)
            async with grpc.aio.insecure_channel(target, interceptors=theirs) as channel:
                for kind in KINDS:
                    assert (await answer_in_loop(channel, kind, b"ok"))[-1] == b"ok"

    asyncio.run(main())
    found = spans(collector, 16)
    assert [seen.kind for seen in found] == ["client", "server"] * 8
    assert len({seen.began.causality_id for seen in found}) == 8


@pytest.mark.parametrize(
    "broken", ["outgoing", "incoming", "hand_over", "added", "take_back", "is_suppressed"]
)
def test_an_error_of_ours_is_counted_and_leaves_the_call(
    collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("kobs is broken")

    GrpcInstrumentor().instrument(collector=collector)
    owner = _grpc_metadata if hasattr(_grpc_metadata, broken) else bridge
    monkeypatch.setattr(owner, broken, fails)
    with serving() as (_, target), grpc.insecure_channel(target) as channel:
        for kind in KINDS:
            assert answer(channel, kind, b"ok")[-1] == b"ok"
            with pytest.raises(grpc.RpcError):
                answer(channel, kind, b"abort")
    assert collector.losses().errors >= 8


def test_nothing_is_recorded_where_there_is_no_collector() -> None:
    GrpcInstrumentor().instrument()
    try:
        with serving() as (service, target), grpc.insecure_channel(target) as channel:
            assert answer(channel, "unary_unary", b"ok") == [b"ok"]
            ((metadata, _),) = service.seen
    finally:
        GrpcInstrumentor().uninstrument()
    assert [key for key, _ in metadata if key != "user-agent"] == []


def test_grpc_is_not_imported_by_it() -> None:
    code = (
        "import sys; from kobs_instrumentation.grpc import GrpcInstrumentor;"
        "GrpcInstrumentor().instrument(); assert 'grpc' not in sys.modules;"
        "assert 'kobs_instrumentation.watch._grpc_spans' not in sys.modules;"
        "import grpc; assert 'kobs_instrumentation.watch._grpc_spans' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
