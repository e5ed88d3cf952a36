"""A gRPC service of bytes, for threads and for asyncio, that does what the request says."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import grpc
import grpc.aio

import kobs
from kobs.payloads import SpanBegan, SpanEnded
from kobs.tracing.records import SpanAttributes, join_attributes

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
WAIT_S = 30


def method(kind: str) -> str:
    """The path of the method of a kind."""
    return f"/kobs.test.Service/{kind}"


class Service(grpc.GenericRpcHandler):
    """Answers `ok` twice where it may; `abort`, `code`, `raise` are what it then does, `wait` is to
    wait until the call is broken off."""

    def __init__(self, *, in_loop: bool) -> None:
        self.seen: list[Any] = []
        """What handlers saw: the metadata and the ambient span's ids."""
        self.waiting = threading.Event()
        self.handlers = {
            method(kind): getattr(grpc, f"{kind}_rpc_method_handler")(
                getattr(self, f"{kind}_in_loop" if in_loop else kind)
            )
            for kind in KINDS
        }

    def service(self, details: Any) -> Any:
        return self.handlers.get(details.method)

    def _look(self, context: Any) -> None:
        self.seen.append((context.invocation_metadata(), kobs.current_span().traceparent))

    def _act(self, request: bytes, context: Any) -> bytes:
        if request == b"abort":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        if request == b"code":
            context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
            context.set_details("not now")
        if request == b"raise":
            raise ValueError("its own")
        if request == b"wait":
            over = threading.Event()
            if context.add_callback(over.set):
                self.waiting.set()
                assert over.wait(WAIT_S)
        return request

    def unary_unary(self, request: bytes, context: Any) -> bytes:
        self._look(context)
        return self._act(request, context)

    def unary_stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        self._look(context)
        yield b"first"
        yield self._act(request, context)

    def stream_unary(self, requests: Iterator[bytes], context: Any) -> bytes:
        self._look(context)
        return self._act(b"".join(requests), context)

    def stream_stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self._look(context)
        for request in requests:
            yield b"first"
            yield self._act(request, context)

    async def _act_in_loop(self, request: bytes, context: Any) -> bytes:
        if request == b"abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        if request == b"wait":
            self.waiting.set()
            await asyncio.sleep(WAIT_S)
        return self._act(request, context)

    async def unary_unary_in_loop(self, request: bytes, context: Any) -> bytes:
        self._look(context)
        return await self._act_in_loop(request, context)

    async def unary_stream_in_loop(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self._look(context)
        yield b"first"
        yield await self._act_in_loop(request, context)

    async def stream_unary_in_loop(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        self._look(context)
        return await self._act_in_loop(b"".join([each async for each in requests]), context)

    async def stream_stream_in_loop(
        self, requests: AsyncIterator[bytes], context: Any
    ) -> AsyncIterator[bytes]:
        self._look(context)
        async for request in requests:
            yield b"first"
            yield await self._act_in_loop(request, context)


@contextmanager
def serving(**options: Any) -> Iterator[tuple[Service, str]]:
    """A server with threads: the service, and where it is."""
    service = Service(in_loop=False)
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, **options)
        server.add_generic_rpc_handlers((service,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield service, f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait(WAIT_S)


@asynccontextmanager
async def serving_in_loop(**options: Any) -> AsyncIterator[tuple[Service, str]]:
    """A server of `grpc.aio`."""
    service = Service(in_loop=True)
    server = grpc.aio.server(**options)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield service, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def made(channel: Any, kind: str, request: bytes, **options: Any) -> Any:
    """Make a call of a kind: a response, or gRPC's object of a call whose responses stream."""
    argument = iter([request]) if kind.startswith("stream") else request
    return getattr(channel, kind)(method(kind))(argument, **options)


def answer(channel: Any, kind: str, request: bytes, **options: Any) -> list[bytes]:
    """The responses of a call."""
    found = made(channel, kind, request, **options)
    return list(found) if kind.endswith("stream") else [found]


async def answer_in_loop(channel: Any, kind: str, request: bytes, **options: Any) -> list[bytes]:
    """As `answer`, of a channel of `grpc.aio`."""
    found = made(channel, kind, request, **options)
    return [each async for each in found] if kind.endswith("stream") else [await found]


class Seen(NamedTuple):
    """A span that ended."""

    kind: str
    status: str
    attributes: dict[str, Any]
    began: kobs.Event
    ended: kobs.Event

    @property
    def code(self) -> str:
        return str(self.attributes.get("rpc.response.status_code"))


def spans(collector: kobs.Collector, count: int) -> list[Seen]:
    """The spans of gRPC that a collector was told of, by their beginning, once `count` ended."""
    events: list[kobs.Event] = []
    with collector.subscribe(oldest=True) as subscriber:
        left = count
        for event in subscriber.follow(timeout=WAIT_S):
            events.append(event)
            if isinstance(event.payload, SpanEnded) and event.payload.name.startswith("kobs.test"):
                left -= 1
                if not left:
                    break
    began = {e.span_id: e for e in events if isinstance(e.payload, SpanBegan)}
    rest: dict[int, list[tuple[int, str]]] = {}
    for event in events:
        if isinstance(event.payload, SpanAttributes):
            rest.setdefault(event.parent, []).append((event.payload.index, event.payload.data))
    found = []
    for event in events:
        if isinstance(event.payload, SpanEnded) and event.payload.name.startswith("kobs.test"):
            begin = began[event.span_id]
            attributes = join_attributes(event.payload.attributes, rest.get(begin.id, ()))
            found.append(
                Seen(begin.payload.kind, event.payload.status, attributes, begin, event)  # type: ignore[attr-defined]
            )
    return sorted(found, key=lambda seen: seen.began.timestamp_ns)
