"""Interceptors for gRPC, for channels and servers that one chooses.

```python
channel = grpc.intercept_channel(grpc.insecure_channel(target), ClientInterceptor())
server = grpc.server(pool, interceptors=[ServerInterceptor()])

channel = grpc.aio.insecure_channel(target, interceptors=aio_client_interceptors())
server = grpc.aio.server(interceptors=[AioServerInterceptor()])
```

They make the spans that `GrpcInstrumentor` makes, which needs none of them: it sees every channel
and server. `collector`: where the spans go; else to that of `kobs.init_collector` at the time of
each call, and nowhere while there is none. `target`: what the channel was made for, for the
attributes `server.address` and `server.port`, since an interceptor is not told. Two of them around
one call make one span.
"""

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from kobs_instrumentation.watch._grpc_calls import (
    follow,
    follow_in_loop,
    requests_counted,
    responses_counted,
)
from kobs_instrumentation.watch._grpc_handlers import watched
from kobs_instrumentation.watch._grpc_spans import ClientCall, Collectors, Streams, mistake

if TYPE_CHECKING:
    from kobs.collector import Collector

__all__ = [
    "AioServerInterceptor",
    "ClientInterceptor",
    "ServerInterceptor",
    "aio_client_interceptors",
]


class _Details(grpc.ClientCallDetails):  # type: ignore[misc]
    """Those that a call was given, with other metadata."""

    def __init__(self, given: Any, metadata: Any) -> None:
        self.method = given.method
        self.timeout = given.timeout
        self.metadata = metadata
        self.credentials = given.credentials
        self.wait_for_ready = getattr(given, "wait_for_ready", None)
        self.compression = getattr(given, "compression", None)


def _details(given: Any, metadata: Any) -> Any:
    if hasattr(given, "_replace"):
        return given._replace(metadata=metadata)
    return _Details(given, metadata)


class _Client:
    """What the interceptors of channels share."""

    def __init__(self, collector: "Collector | None" = None, *, target: str = "") -> None:
        self._collectors = Collectors(collector)
        self._target = target

    def _begin(self, details: Any, streams: Streams) -> ClientCall | None:
        try:
            return ClientCall.begin(
                self._collectors, details.method, details.metadata, streams, self._target
            )
        except Exception as error:
            mistake("grpc: begin of a call", error, self._collectors.for_links())
            return None


class ClientInterceptor(
    _Client,
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """For a channel: `grpc.intercept_channel(channel, ClientInterceptor())`."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """A span around the call."""
        return self._intercept(continuation, details, request, Streams(False, False))

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """A span around the call, until its stream ends."""
        return self._intercept(continuation, details, request, Streams(False, True))

    def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        """A span around the call."""
        return self._intercept(continuation, details, requests, Streams(True, False))

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        """A span around the call, until its stream ends."""
        return self._intercept(continuation, details, requests, Streams(True, True))

    def _intercept(self, continuation: Any, details: Any, request: Any, streams: Streams) -> Any:
        call = self._begin(details, streams)
        if call is None:
            return continuation(details, request)
        if streams.requests:
            request = requests_counted(request, call)
        try:
            made = continuation(_details(details, call.metadata), request)
        except BaseException as error:
            call.leave()
            call.raised(error)
            raise
        call.leave()
        follow(made, call)
        return responses_counted(made, call) if streams.responses else made


class ServerInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    """For a server: `grpc.server(pool, interceptors=[ServerInterceptor()])`."""

    def __init__(self, collector: "Collector | None" = None) -> None:
        self._collectors: Any = Collectors(collector)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """The handler that is found, with a span around each of its calls."""
        return _watched(continuation(details), details, self._collectors, in_loop=False)


class AioServerInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """For a server of `grpc.aio`: `grpc.aio.server(interceptors=[AioServerInterceptor()])`."""

    def __init__(self, collector: "Collector | None" = None) -> None:
        self._collectors: Any = Collectors(collector)

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """The handler that is found, with a span around each of its calls."""
        return _watched(await continuation(details), details, self._collectors, in_loop=True)


def aio_client_interceptors(
    collector: "Collector | None" = None, *, target: str = ""
) -> list[grpc.aio.ClientInterceptor]:
    """For a channel of `grpc.aio`: one for each kind of call, since it takes one kind from each."""
    kinds = (_AioUnaryUnary, _AioUnaryStream, _AioStreamUnary, _AioStreamStream)
    return [kind(collector, target=target) for kind in kinds]


class _AioClient(_Client):
    async def _intercept(
        self, continuation: Any, details: Any, request: Any, streams: Streams
    ) -> Any:
        call = self._begin(details, streams)
        if call is None:
            return await continuation(details, request)
        if streams.requests:
            request = requests_counted(request, call, in_loop=True)
        try:
            made = await continuation(_details(details, call.metadata), request)
        except BaseException as error:
            call.leave()
            call.raised(error)
            raise
        call.leave()
        call.responses = None  # the call that is made here counts for itself, if it is watched
        follow_in_loop(made, call)
        return made


def _watched(handler: Any, details: Any, collectors: Any, *, in_loop: bool) -> Any:
    if handler is None:
        return None
    try:
        return watched(handler, details.method, collectors, in_loop=in_loop)
    except Exception as error:
        mistake("grpc: a handler", error, collectors.for_links())
        return handler


class _AioUnaryUnary(_AioClient, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self._intercept(continuation, details, request, Streams(False, False))


class _AioUnaryStream(_AioClient, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self._intercept(continuation, details, request, Streams(False, True))


class _AioStreamUnary(_AioClient, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await self._intercept(continuation, details, requests, Streams(True, False))


class _AioStreamStream(_AioClient, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await self._intercept(continuation, details, requests, Streams(True, True))
