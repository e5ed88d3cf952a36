"""Handlers and channels of less usual kinds."""

import asyncio
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import grpc.experimental
import pytest

import kobs
from kobs_instrumentation.grpc import GrpcInstrumentor
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
    spans,
)


@pytest.fixture
def collector() -> Iterator[kobs.Collector]:
    with kobs.Collector(size=1024) as collector:
        GrpcInstrumentor().instrument(collector=collector)
        yield collector
        GrpcInstrumentor().uninstrument()
        assert collector.losses().errors == 0


def run_in_loop(handlers: Any, function: Any, pool: ThreadPoolExecutor | None = None) -> None:
    """A server of `grpc.aio` with handlers by kind of method, and what a client does."""

    async def main() -> None:
        server = grpc.aio.server(pool)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("kobs.test.Service", handlers),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await function(channel)
        await server.stop(None)

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def served(collector: kobs.Collector, count: int) -> list[Seen]:
    """The server's spans of so many calls."""
    return [seen for seen in spans(collector, 2 * count) if seen.kind == "server"]


class Test_functions_that_asyncio_s_server_runs_in_threads:
    def _handlers(self) -> Any:
        looked: list[Any] = []

        def act(request: bytes, context: Any) -> bytes:
            looked.append(kobs.current_span().span_id)
            if request == b"code":
                context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
            if request == b"abort":
                context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
            if request == b"raise":
                raise ValueError("its own")
            return request

        def unary_stream(request: bytes, context: Any) -> Iterator[bytes]:
            yield b"first"
            yield act(request, context)

        return looked, {
            "unary_unary": grpc.unary_unary_rpc_method_handler(act),
            "unary_stream": grpc.unary_stream_rpc_method_handler(unary_stream),
        }

    @pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
    def test_they_are_seen(self, collector: kobs.Collector, kind: str) -> None:
        async def calls(channel: Any) -> None:
            assert (await answer_in_loop(channel, kind, b"ok"))[-1] == b"ok"
            for request in asked:
                with pytest.raises(grpc.aio.AioRpcError):
                    await answer_in_loop(channel, kind, request)
            await asyncio.to_thread(spans, collector, 2 * len(codes))

        # gRPC itself may fail to abort while it writes what a function yielded before.
        asked = [b"code", b"raise", *([b"abort"] if kind == "unary_unary" else [])]
        codes = ["OK", "FAILED_PRECONDITION", "UNKNOWN", "NOT_FOUND"][: 1 + len(asked)]
        looked, handlers = self._handlers()
        with ThreadPoolExecutor(2) as pool:
            run_in_loop(handlers, calls, pool)
        found = served(collector, len(codes))
        assert [seen.code for seen in found] == codes
        expected = ["unset", "unset", "error", "unset"][: len(codes)]
        assert [seen.status for seen in found] == expected
        assert looked == [f"{seen.began.span_id:016x}" for seen in found]


def test_a_coroutine_that_reads_and_writes(collector: kobs.Collector) -> None:
    async def stream_stream(requests: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(request)

    async def call(channel: Any) -> None:
        assert await answer_in_loop(channel, "stream_stream", b"ok") == [b"ok"]

    handler = grpc.stream_stream_rpc_method_handler(stream_stream)
    run_in_loop({"stream_stream": handler}, call)
    client, server = spans(collector, 2)
    assert (client.code, server.code) == ("OK", "OK")
    assert client.attributes["kobs.rpc.responses"] == 1
    assert "kobs.rpc.responses" not in server.attributes  # not seen is not none


def test_a_slow_call_is_told_where_it_is_not_streaming(collector: kobs.Collector) -> None:
    async def unary_unary(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(0.11)
        return request

    async def unary_stream(request: bytes, context: Any) -> Any:
        await asyncio.sleep(0.11)
        yield request

    async def call(channel: Any) -> None:
        for kind in ("unary_unary", "unary_stream"):
            assert await answer_in_loop(channel, kind, b"ok") == [b"ok"]

    handlers = {
        "unary_unary": grpc.unary_unary_rpc_method_handler(unary_unary),
        "unary_stream": grpc.unary_stream_rpc_method_handler(unary_stream),
    }
    run_in_loop(handlers, call)
    spans(collector, 4)
    slow = [e.payload for e in collector.snapshot() if isinstance(e.payload, kobs.OperationSlow)]
    assert [each.operation for each in slow] == ["kobs.test.Service/unary_unary"] * 2
    assert all(each.duration_ms >= 100 for each in slow)


def test_a_handler_that_answers_after_it_returned(
    collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as (service, target), ThreadPoolExecutor(1) as pool:

        def unary_stream(request: bytes, context: Any, send: Any) -> None:
            pool.submit(lambda: [send(b"first"), send(request), send(None)])

        unary_stream.experimental_non_blocking = True  # type: ignore[attr-defined]
        handler = grpc.unary_stream_rpc_method_handler(unary_stream)
        monkeypatch.setitem(service.handlers, method("unary_stream"), handler)
        with grpc.insecure_channel(target) as channel:
            assert answer(channel, "unary_stream", b"ok") == [b"first", b"ok"]
            (server,) = served(collector, 1)
    assert (server.code, server.status) == ("OK", "unset")


class Test_channels_that_no_thread_looks_after:
    OPTIONS = ((grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),)

    def test_to_the_end(self, collector: kobs.Collector) -> None:
        with serving() as (_, target), grpc.insecure_channel(target, self.OPTIONS) as channel:
            assert answer(channel, "unary_stream", b"ok") == [b"first", b"ok"]
            client, _ = spans(collector, 2)
        assert (client.code, client.attributes["kobs.rpc.responses"]) == ("OK", 2)

    def test_half_way(self, collector: kobs.Collector) -> None:
        with serving() as (_, target), grpc.insecure_channel(target, self.OPTIONS) as channel:
            call = made(channel, "unary_stream", b"wait")
            assert next(call) == b"first"
            del call
            gc.collect()
            client, server = spans(collector, 2)
        assert (client.code, server.code) == ("CANCELLED", "CANCELLED")


def test_credentials_are_the_program_s(collector: kobs.Collector) -> None:
    class Plugin(grpc.AuthMetadataPlugin):
        def __call__(self, context: Any, callback: Any) -> None:
            callback((("x-token", context.method_name),), None)

    per_call = grpc.metadata_call_credentials(Plugin())
    service = Service(in_loop=False)
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((service,))
        local = grpc.local_server_credentials(grpc.LocalConnectionType.LOCAL_TCP)
        port = server.add_secure_port("127.0.0.1:0", local)
        server.start()
        where = grpc.local_channel_credentials(grpc.LocalConnectionType.LOCAL_TCP)
        with grpc.secure_channel(f"127.0.0.1:{port}", where) as channel:
            for kind in KINDS:
                assert answer(channel, kind, b"ok", credentials=per_call)[-1] == b"ok"
        server.stop(None).wait()
    assert [seen.code for seen in spans(collector, 8)] == ["OK"] * 8
    tokens = [value for metadata, _ in service.seen for key, value in metadata if key == "x-token"]
    assert tokens == list(KINDS)


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("localhost:50051", ("localhost", 50051)),
        ("[::1]:50051", ("::1", 50051)),
        ("dns:///shop.example:443", ("shop.example", 443)),
        ("dns://1.1.1.1/shop.example:443", ("shop.example", 443)),
        ("ipv4:10.0.0.1:80,10.0.0.2:80", ("10.0.0.1", 80)),
        ("ipv6:[2001:db8::1]:80", ("2001:db8::1", 80)),
        ("unix:/run/shop.sock", ("/run/shop.sock", None)),
        ("unix:///run/shop.sock", ("/run/shop.sock", None)),
        ("shop", ("shop", None)),
    ],
)
def test_where_a_channel_leads_to(
    collector: kobs.Collector, target: str, address: tuple[str, int | None]
) -> None:
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary(method("unary_unary")).future(b"ok")
        call.cancel()
        (client,) = spans(collector, 1)
    assert client.attributes["server.address"] == address[0]
    assert client.attributes.get("server.port") == address[1]
