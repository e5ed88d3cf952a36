"""Calls of gRPC as spans: every kind, in threads and in asyncio, and every way they end."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

import kobs
from kobs_instrumentation.grpc import GrpcInstrumentor
from kobs_instrumentation.grpc_interceptors import (
    AioServerInterceptor,
    ClientInterceptor,
    ServerInterceptor,
    aio_client_interceptors,
)
from tests.instrumentation.grpc_service import (
    KINDS,
    WAIT_S,
    Seen,
    Service,
    answer,
    answer_in_loop,
    made,
    method,
    serving,
    serving_in_loop,
    spans,
)

STREAMING = [kind for kind in KINDS if kind.endswith("stream")]

OUTCOMES = {
    "ok": ("OK", "unset", "unset"),
    "abort": ("NOT_FOUND", "error", "unset"),
    "code": ("FAILED_PRECONDITION", "error", "unset"),
    "raise": ("UNKNOWN", "error", "error"),
}
"""What is asked of the service: the code, and the status of the client's and the server's span."""


@pytest.fixture
def collector() -> Iterator[kobs.Collector]:
    with kobs.Collector(size=1024) as collector:
        yield collector
        assert collector.losses().errors == 0


@pytest.fixture(params=["instrumentor", "interceptors"])
def server(
    request: pytest.FixtureRequest, collector: kobs.Collector
) -> Iterator[tuple[Service, Any]]:
    """A server with threads and a channel to it: watched by the instrumentor, or by the
    interceptors."""
    if request.param == "instrumentor":
        GrpcInstrumentor().instrument(collector=collector)
        with serving() as (service, target), grpc.insecure_channel(target) as channel:
            grpc.channel_ready_future(channel).result(WAIT_S)
            yield service, channel
        GrpcInstrumentor().uninstrument()
        return
    with (
        serving(interceptors=[ServerInterceptor(collector)]) as (service, target),
        grpc.insecure_channel(target) as channel,
    ):
        grpc.channel_ready_future(channel).result(WAIT_S)
        yield service, grpc.intercept_channel(channel, ClientInterceptor(collector, target=target))


@pytest.fixture(params=["instrumentor", "interceptors"])
def in_loop(
    request: pytest.FixtureRequest, collector: kobs.Collector
) -> Iterator[Callable[..., Any]]:
    """Runs a coroutine function with a service and a channel of `grpc.aio`."""
    by_hand = request.param == "interceptors"

    def run(function: Callable[..., Any]) -> Any:
        async def main() -> Any:
            server = [AioServerInterceptor(collector)] if by_hand else None
            async with serving_in_loop(interceptors=server) as (service, target):
                client = aio_client_interceptors(collector, target=target) if by_hand else None
                async with grpc.aio.insecure_channel(target, interceptors=client) as channel:
                    await channel.channel_ready()  # what has a deadline is to come to the server
                    return await asyncio.wait_for(function(service, channel), WAIT_S)

        return asyncio.run(main())

    if not by_hand:
        GrpcInstrumentor().instrument(collector=collector)
    yield run
    if not by_hand:
        GrpcInstrumentor().uninstrument()


def of_one_call(collector: kobs.Collector, kind: str) -> tuple[Seen, Seen]:
    """The spans of a call's client and server, which are right in all that is the same always."""
    client, server = spans(collector, 2)
    assert (client.kind, server.kind) == ("client", "server")
    for seen in (client, server):
        assert seen.began.payload.name == f"kobs.test.Service/{kind}"  # type: ignore[attr-defined]
    assert server.began.parent == client.began.id
    assert server.began.causality_id == client.began.causality_id
    assert server.began.payload.parent_span == client.began.span_id  # type: ignore[attr-defined]
    assert client.attributes["server.address"] == "127.0.0.1"
    assert server.attributes["network.peer.address"] == "127.0.0.1"
    assert client.attributes["server.port"] != server.attributes["network.peer.port"] > 0
    return client, server


def check(collector: kobs.Collector, kind: str, code: str, *status: str) -> tuple[Seen, Seen]:
    client, server = of_one_call(collector, kind)
    assert (client.code, client.status, server.status) == (code, *status)
    assert server.code == code
    for seen in (client, server):
        assert seen.attributes.get("error.type") == (code if seen.status == "error" else None)
    return client, server


@pytest.mark.parametrize("asked", OUTCOMES)
@pytest.mark.parametrize("kind", KINDS)
class Test_outcomes:
    def test_in_threads(
        self, collector: kobs.Collector, server: Any, kind: str, asked: str
    ) -> None:
        _, channel = server
        request = asked.encode()
        if asked == "ok":
            assert answer(channel, kind, request)[-1] == b"ok"
        else:
            with pytest.raises(grpc.RpcError) as caught:
                answer(channel, kind, request)
            assert caught.value.code().name == OUTCOMES[asked][0]  # type: ignore[attr-defined]
        client, served = check(collector, kind, *OUTCOMES[asked])
        count = 2 if asked in ("ok", "code") else 1
        for seen in (client, served):
            assert seen.attributes.get("kobs.rpc.requests") == (1 if "stream_" in kind else None)
            if kind.endswith("stream"):
                assert seen.attributes["kobs.rpc.responses"] == count
        if asked == "raise":
            assert served.attributes["exception.type"] == "ValueError"

    def test_in_a_loop(
        self, collector: kobs.Collector, in_loop: Any, kind: str, asked: str
    ) -> None:
        async def call(service: Service, channel: Any) -> None:
            if asked == "ok":
                assert (await answer_in_loop(channel, kind, b"ok"))[-1] == b"ok"
                return
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answer_in_loop(channel, kind, asked.encode())
            assert caught.value.code().name == OUTCOMES[asked][0]

        in_loop(call)
        _, served = check(collector, kind, *OUTCOMES[asked])
        assert served.attributes.get("kobs.rpc.requests") == (1 if "stream_" in kind else None)


@pytest.mark.parametrize("kind", KINDS)
class Test_broken_off:
    def test_by_the_client(self, collector: kobs.Collector, server: Any, kind: str) -> None:
        service, channel = server
        if kind.endswith("stream"):
            call = made(channel, kind, b"wait")
            assert next(call) == b"first"
        else:
            argument = iter([b"wait"]) if kind.startswith("stream") else b"wait"
            call = getattr(channel, kind)(method(kind)).future(argument)
        assert service.waiting.wait(WAIT_S) or kind.endswith("stream")
        call.cancel()
        check(collector, kind, "CANCELLED", "error", "unset")

    def test_by_the_deadline(self, collector: kobs.Collector, server: Any, kind: str) -> None:
        _, channel = server
        with pytest.raises(grpc.RpcError) as caught:
            answer(channel, kind, b"wait", timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
        check(collector, kind, "DEADLINE_EXCEEDED", "error", "error")

    def test_by_the_client_in_a_loop(
        self, collector: kobs.Collector, in_loop: Any, kind: str
    ) -> None:
        async def call(service: Service, channel: Any) -> None:
            call = made(channel, kind, b"wait")
            if kind.endswith("stream"):
                assert await call.read() == b"first"
                waiting = asyncio.ensure_future(call.read())
            else:
                waiting = asyncio.ensure_future(call)  # type: ignore[arg-type]
            while not service.waiting.is_set():
                await asyncio.sleep(0.001)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.to_thread(spans, collector, 2)

        in_loop(call)
        check(collector, kind, "CANCELLED", "error", "unset")

    def test_by_the_deadline_in_a_loop(
        self, collector: kobs.Collector, in_loop: Any, kind: str
    ) -> None:
        async def call(service: Service, channel: Any) -> None:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answer_in_loop(channel, kind, b"wait", timeout=0.1)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await asyncio.to_thread(spans, collector, 2)

        in_loop(call)
        check(collector, kind, "DEADLINE_EXCEEDED", "error", "error")


@pytest.mark.parametrize("kind", STREAMING)
class Test_consumers_that_stop_half_way:
    def test_in_threads(self, collector: kobs.Collector, server: Any, kind: str) -> None:
        _, channel = server
        call = made(channel, kind, b"wait")
        assert next(call) == b"first"
        del call  # nobody holds it any more
        gc.collect()
        client, _ = check(collector, kind, "CANCELLED", "error", "unset")
        assert client.attributes["kobs.rpc.responses"] == 1

    def test_in_a_loop(self, collector: kobs.Collector, in_loop: Any, kind: str) -> None:
        """gRPC cancels such a call when its channel is closed."""

        async def call(service: Service, channel: Any) -> None:
            async for response in made(channel, kind, b"wait"):
                assert response == b"first"
                break
            await channel.close()
            await asyncio.to_thread(spans, collector, 2)

        in_loop(call)
        check(collector, kind, "CANCELLED", "error", "unset")
