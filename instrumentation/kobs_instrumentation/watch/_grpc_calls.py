"""A client's calls after they were made: when they are over, and what came of them.

A call is followed without being held: what nobody holds any more gRPC cancels, as it does without
kobs.
"""

from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import cache
from typing import Any
from weakref import ref

from kobs_instrumentation.watch._grpc_spans import ClientCall, mistake


def follow(made: Any, call: ClientCall) -> None:
    """End the span when the call is over: its status arrived, or nobody holds it."""
    try:
        state = getattr(made, "_state", None)
        # A call that no thread of gRPC's looks after learns of its end only from who reads it.
        is_alone = hasattr(made, "_consume_next_event")
        call.grpc_call = ref(made, (lambda _: _gone(call, state)) if is_alone else None)
        if made.done() or not made.add_callback(lambda: _over(call, state)):
            call.end(made.code(), made.details())
    except Exception as error:
        mistake("grpc: following a call", error, call.collector)
        call.end("UNKNOWN")


def settle(call: ClientCall) -> None:
    """End the span, if the call is over: before its program goes on that learned of it."""
    made = call.grpc_call()
    if made is not None and made.done():
        call.end(made.code(), made.details())


def _over(call: ClientCall, state: Any) -> None:
    try:
        if state is not None:
            call.over(state.code, state.details)
        elif (made := call.grpc_call()) is not None:
            call.over(made.code(), made.details())
        else:
            call.end("CANCELLED")
    except Exception as error:
        mistake("grpc: end of a call", error, call.collector)


def _gone(call: ClientCall, state: Any) -> None:
    """Nobody holds the call: gRPC has cancelled it, unless it was over. This may be in the middle
    of anything, so that nothing is done that might wait."""
    code = getattr(state, "code", None)
    call.end("CANCELLED" if code is None else code, getattr(state, "details", ""), at_once=True)


# -- of grpc.aio ---------------------------------------------------------------------------------


def follow_in_loop(made: Any, call: ClientCall) -> None:
    """As `follow`, for a call of `grpc.aio`."""
    try:
        call.grpc_call = ref(made)
        inner = getattr(made, "_cython_call", None)
        if made.done():
            _over_in_loop(call)
        elif inner is not None:  # what it calls back holds nothing
            inner.add_done_callback(lambda: _over_in_loop(call))
        else:
            made.add_done_callback(lambda _: _over_in_loop(call))
    except NotImplementedError:  # an interceptor answered in place of a call
        call.end("OK")
    except Exception as error:
        mistake("grpc: following a call", error, call.collector)
        call.end("UNKNOWN")


def _over_in_loop(call: ClientCall) -> None:
    try:
        made = call.grpc_call()
        if made is None:
            call.end("CANCELLED")
        else:
            call.over(_at_once(made.code()), _at_once(made.details()))
    except Exception as error:
        mistake("grpc: end of a call", error, call.collector)


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    return "UNKNOWN"


# -- counting ------------------------------------------------------------------------------------


def requests_counted(requests: Any, call: ClientCall, *, in_loop: bool = False) -> Any:
    """An iterator as `requests`, that counts what goes through it. What is none stays: gRPC says
    what is wrong with it."""
    if hasattr(requests, "__aiter__"):
        return _AsyncRequests(requests, call)
    if hasattr(requests, "__next__"):
        return _Requests(requests, call)
    if in_loop and hasattr(requests, "__iter__"):
        return _Requests(iter(requests), call)
    call.requests = None
    return requests


class _Requests:
    def __init__(self, requests: Iterator[Any], call: ClientCall) -> None:
        self._requests = requests
        self._call = call

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        request = next(self._requests)
        self._call.count_request()
        return request


class _AsyncRequests:
    def __init__(self, requests: Any, call: ClientCall) -> None:
        self._requests = requests
        self._call = call

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for request in self._requests:
            self._call.count_request()
            yield request


def responses_counted(made: Any, call: ClientCall) -> Any:
    """gRPC's object of a call whose responses are a stream, that counts them."""
    counted = _counted_type()(made)
    counted._self_call = call
    return counted


@cache
def _counted_type() -> Any:
    from wrapt import ObjectProxy

    class Counted(ObjectProxy):  # type: ignore[type-arg]
        _self_call: ClientCall

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            call = self._self_call
            call.reading = True
            try:
                response = next(self.__wrapped__)
                call.count_response()
            except BaseException:
                call.read()
                settle(call)
                raise
            call.read()
            return response

        next = __next__

        def __repr__(self) -> str:
            return repr(self.__wrapped__)

    return Counted
