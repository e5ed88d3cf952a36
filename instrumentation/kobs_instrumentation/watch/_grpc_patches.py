"""What the watch of gRPC patches, once the program has imported it.

Calls are seen where channels make them, of whatever channel and stub, made before or after; their
objects and errors are gRPC's own. Servers are given an interceptor when they are made.
"""

import gc
import sys
from collections.abc import Callable
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from kobs_instrumentation.watch._grpc_calls import (
    follow,
    follow_in_loop,
    requests_counted,
    settle,
)
from kobs_instrumentation.watch._grpc_spans import ClientCall, Collectors, Streams
from kobs_instrumentation.watch._patch import Call, Patcher
from kobs_instrumentation.watch._watch import Watch

if TYPE_CHECKING:
    from kobs.collector import Collector

_CLIENT = {
    "_UnaryUnaryMultiCallable": Streams(False, False),
    "_UnaryStreamMultiCallable": Streams(False, True),
    "_SingleThreadedUnaryStreamMultiCallable": Streams(False, True),
    "_StreamUnaryMultiCallable": Streams(True, False),
    "_StreamStreamMultiCallable": Streams(True, True),
}
_AIO_CLIENT = {
    "UnaryUnaryMultiCallable": Streams(False, False),
    "UnaryStreamMultiCallable": Streams(False, True),
    "StreamUnaryMultiCallable": Streams(True, False),
    "StreamStreamMultiCallable": Streams(True, True),
}
_RENDEZVOUS = ("_MultiThreadedRendezvous", "_SingleThreadedRendezvous")
_METADATA = 3
"""Which argument of a call it is: after the callable, the request and the timeout."""

_calls: "WeakKeyDictionary[Any, ClientCall]" = WeakKeyDictionary()
"""By gRPC's object of the call; those that return before the call is over."""


class _OfWatch(Collectors):
    """What the watch says, while there is one."""

    watch: Watch

    def for_spans(self) -> "Collector | None":
        collector = self.watch.collector()
        return None if collector is None or collector.closed else collector

    def for_links(self) -> "Collector | None":
        collector = self.watch.any_collector()
        return None if collector is None or collector.closed else collector


_of_watch = _OfWatch()


# -- clients -------------------------------------------------------------------------------------


def _before(streams: Streams) -> Callable[..., Any]:
    def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = _begin(args, kwargs, streams, getattr(args[0], "_target", None))
        if call is None:
            return None
        if streams.requests and len(args) > 1:
            args = (args[0], requests_counted(args[1], call), *args[2:])
        elif streams.requests and "request_iterator" in kwargs:
            counted = requests_counted(kwargs["request_iterator"], call)
            kwargs = kwargs | {"request_iterator": counted}
        if len(args) > _METADATA:
            args = (*args[:_METADATA], call.metadata, *args[_METADATA + 1 :])
        else:
            kwargs = kwargs | {"metadata": call.metadata}
        return Call(call, args, kwargs)

    return before


def _before_in_loop(streams: Streams) -> Callable[..., Any]:
    def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        target = getattr(getattr(args[0], "_channel", None), "target", None)
        call = _begin(args, kwargs, streams, target)
        return None if call is None else Call(call, args, kwargs | {"metadata": call.metadata})

    return before


def _begin(
    args: tuple[Any, ...], kwargs: dict[str, Any], streams: Streams, target: Any
) -> ClientCall | None:
    metadata = args[_METADATA] if len(args) > _METADATA else kwargs.get("metadata")
    return ClientCall.begin(_of_watch, args[0]._method, metadata, streams, target)


def _after_blocking(call: ClientCall, _: Any) -> None:
    call.end("OK")


def _after_start(call: ClientCall, made: Any) -> None:
    call.leave()
    _calls[made] = call
    follow(made, call)


def _after_start_in_loop(call: ClientCall, made: Any) -> None:
    call.leave()
    if hasattr(made, "_cython_call"):
        _calls[made] = call
    else:  # of a channel with interceptors: the call that they make is another
        call.requests = call.responses = None
    follow_in_loop(made, call)


def _failed(call: ClientCall, error: BaseException) -> None:
    call.leave()
    call.raised(error)


def _before_next(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = _calls.get(args[0])
    if call is not None:
        call.reading = True
    return call


def _after_next(call: ClientCall, _: Any) -> None:
    call.count_response()
    call.read()


def _next_failed(call: ClientCall, _: Any) -> None:
    call.read()
    settle(call)


def _before_result(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _calls.get(args[0])


def _after_result(call: ClientCall, _: Any) -> None:
    settle(call)


def _reading(original: FunctionType, live: list[bool]) -> Any:
    """For the coroutine function of a call of `grpc.aio` that receives a message, or `EOF`."""
    from grpc.aio import EOF

    async def _read(self: Any) -> Any:
        call = _calls.get(self) if live else None
        if call is None:
            return await original(self)
        call.reading = True
        try:
            message = await original(self)
            if message is not EOF:
                call.count_response()
            return message
        except BaseException as error:
            error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
            raise
        finally:
            call.read()

    return _read


def _writing(original: FunctionType, live: list[bool]) -> Any:
    """For the one that sends a message."""

    async def _write(self: Any, request: Any) -> None:
        call = _calls.get(self) if live else None
        if call is not None:
            call.count_request()
        try:
            await original(self, request)
        except BaseException as error:
            error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
            raise

    return _write


# -- servers -------------------------------------------------------------------------------------


def _interceptor(name: str) -> Any:
    from kobs_instrumentation import grpc_interceptors

    made = getattr(grpc_interceptors, name)()
    made._collectors = _of_watch
    return made


def _before_server(index: int, name: str) -> Callable[..., Any]:
    """Before a server is made: its interceptors are the argument of a number."""

    def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = args[index] if len(args) > index else kwargs.get("interceptors")
        interceptors = (_interceptor(name), *(given or ()))
        if len(args) > index:
            return Call(None, (*args[:index], interceptors, *args[index + 1 :]), kwargs)
        return Call(None, args, kwargs | {"interceptors": interceptors})

    return before


def _tell_of_early_servers(patcher: Patcher) -> None:
    servers = (sys.modules["grpc._server"]._Server, sys.modules["grpc.aio"]._server.Server)
    there = sum(type(each) in servers for each in gc.get_objects())
    if there:
        patcher.missed(
            f"grpc: calls to {there} server{'s' if there > 1 else ''} are not seen: made before "
            "kobs came"
        )


# -- all -----------------------------------------------------------------------------------------


def patch(patcher: Patcher, watch: Watch, grpc: Any, early: bool) -> None:
    """Put everything in place. `early`: the program had imported gRPC before."""
    _of_watch.watch = watch
    channel, server = import_module("grpc._channel"), import_module("grpc._server")
    aio = import_module("grpc.aio")
    aio_channel, aio_call = aio._channel, aio._call

    def owner(module: Any, name: str) -> Any:
        found = getattr(module, name, None)
        if found is None:
            patcher.missed(f"grpc: {module.__name__}.{name} is not in grpcio {grpc.__version__}")
        return found

    for name, streams in _CLIENT.items():
        if (made_by := owner(channel, name)) is None:
            continue
        before = _before(streams)
        if streams.responses:
            patcher.method(made_by, "__call__", before, _after_start, _failed)
            continue
        patcher.method(made_by, "__call__", before, _after_blocking, _failed)
        patcher.method(made_by, "with_call", before, _after_blocking, _failed)
        patcher.method(made_by, "future", before, _after_start, _failed)
    for name in _RENDEZVOUS:
        if (rendezvous := owner(channel, name)) is not None:
            patcher.method(rendezvous, "_next", _before_next, _after_next, _next_failed)
            for asking in ("result", "exception"):
                patcher.method(rendezvous, asking, _before_result, _after_result, _after_result)
    for name, streams in _AIO_CLIENT.items():
        if (made_by := owner(aio_channel, name)) is not None:
            before = _before_in_loop(streams)
            patcher.method(made_by, "__call__", before, _after_start_in_loop, _failed)
    if (receiving := owner(aio_call, "_StreamResponseMixin")) is not None:
        patcher.stand_in(receiving, "_read", _reading)
    if (sending := owner(aio_call, "_StreamRequestMixin")) is not None:
        patcher.stand_in(sending, "_write", _writing)
    patcher.method(server, "create_server", _before_server(2, "ServerInterceptor"))
    aio_server = owner(aio._server, "Server")
    if aio_server is not None:
        patcher.method(aio_server, "__init__", _before_server(3, "AioServerInterceptor"))
    if early:
        _tell_of_early_servers(patcher)
