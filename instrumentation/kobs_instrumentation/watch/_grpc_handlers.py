"""A server's handlers, with a span around what they do.

A handler keeps its kind (a function, a coroutine function, an async generator function), since
gRPC goes by it, and whatever attributes it has. The context that it is given is gRPC's own.
"""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from time import monotonic_ns
from typing import Any

from kobs_instrumentation.watch._grpc_spans import ServerCall, Streams, mistake

_CLOSE_NS = 50_000_000
"""A client whose deadline passes breaks the call off, which may arrive this much before the
server's own clock says that it has passed."""

_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}
_MARK = "_kobs_grpc"
Begin = Callable[[Any], "_Answer | None"]


def watched(handler: Any, method: Any, collectors: Any, *, in_loop: bool) -> Any:
    """A handler like `handler` with a span around each call of it. `in_loop`: of a server of
    `grpc.aio`."""
    import grpc

    if collectors.for_links() is None:
        return handler
    streams = Streams(bool(handler.request_streaming), bool(handler.response_streaming))
    kind = _KINDS[streams]
    behavior = getattr(handler, kind)
    if getattr(behavior, _MARK, False):  # by another interceptor of ours
        return handler

    def begin(context: Any) -> "_Answer | None":
        try:
            call = ServerCall.begin(
                collectors, method, context.invocation_metadata(), streams, context.peer()
            )
        except Exception as error:
            mistake("grpc: begin of a call", error, collectors.for_links())
            return None
        return None if call is None else _Answer(call, context)

    around = _around(behavior, streams, begin, in_loop)
    if hasattr(handler, "_replace"):
        return handler._replace(**{kind: around})
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(around, handler.request_deserializer, handler.response_serializer)


def _around(behavior: Any, streams: Streams, begin: Begin, in_loop: bool) -> Any:
    if in_loop and inspect.iscoroutinefunction(behavior):
        around = _coroutine(behavior, streams, begin)
    elif in_loop and inspect.isasyncgenfunction(behavior):
        around = _async_generator(behavior, streams, begin)
    else:
        around = _function(behavior, streams, begin, in_loop)
    functools.update_wrapper(around, behavior)
    setattr(around, _MARK, True)
    return around


class _Answer:
    """One call that is being answered."""

    def __init__(self, call: ServerCall, context: Any) -> None:
        self.call = call
        self.context = context
        left = context.time_remaining()
        self._deadline_ns = monotonic_ns() + int(left * 1e9) if _is_near(left) else None
        self.said: list[Any] = []
        """The code that the handler set, where the context cannot be asked for it."""

    def returned(self) -> None:
        """The handler did all that it was to do."""
        self.call.leave()
        code, details = self._status()
        if code is None and self._is_broken_off():
            code = self._why_broken_off()
        self.call.end(code, details)

    def failed(self, error: BaseException) -> None:
        """The handler raised."""
        self.call.leave()
        code, details = self._status()
        if code is not None:  # by `abort`, or by what it had said before
            self.call.end(code, details)
        elif self._is_broken_off() or not isinstance(error, Exception):
            self.call.end(self._why_broken_off())
        else:
            self.call.end("UNKNOWN", error=error)

    def dropped(self, *_: Any) -> None:
        """The call is over on the wire. Where nothing of the handler runs, nothing more will."""
        if not self.call.running:
            code, details = self._status()
            self.call.end(code if code is not None else self._why_broken_off(), details)

    def over(self, *_: Any) -> None:
        """The call is over, of a handler that went on after it returned."""
        code, details = self._status()
        if code is None and self._was_cancelled():
            code = self._why_broken_off()
        self.call.end(code, details)

    def _status(self) -> tuple[Any, Any]:
        context = self.context
        try:
            code = context.code() or None  # asyncio's has 0 for none yet
            return code, context.details()
        except (AttributeError, NotImplementedError):
            return self.said[-1] if self.said else None, ""

    def _is_broken_off(self) -> bool:
        is_active = getattr(self.context, "is_active", None)
        return not is_active() if is_active is not None else self._was_cancelled()

    def _was_cancelled(self) -> bool:
        cancelled = getattr(self.context, "cancelled", None)
        if cancelled is not None:
            return bool(cancelled())
        state = getattr(self.context, "_state", None)
        return getattr(state, "client", None) == "cancelled"

    def _why_broken_off(self) -> str:
        deadline = self._deadline_ns
        late = deadline is not None and monotonic_ns() >= deadline - _CLOSE_NS
        return "DEADLINE_EXCEEDED" if late else "CANCELLED"


def _is_near(left: float | None) -> bool:
    """There is a deadline: without one the time that is left is None, or longer than a life."""
    return left is not None and left < 1e9


# -- functions: of servers with threads, and those that `grpc.aio` runs in threads ----------------


def _function(behavior: Any, streams: Streams, begin: Begin, in_loop: bool) -> Any:
    def call(request: Any, context: Any, *more: Any) -> Any:
        answer = begin(context)
        if answer is None:
            return behavior(request, context, *more)
        if streams.requests:
            request = _Counted(request, answer.call)
        if in_loop:
            context = _noting(context, answer)
        if more:  # it answers through a callback, after it returned as well
            context.add_callback(answer.over)
        answer.call.enter()
        try:
            response = behavior(request, context, *more)
        except BaseException as error:
            answer.failed(error)
            error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
            raise
        answer.call.leave()
        if more:
            return response
        if streams.responses:
            return _Responses(response, answer)
        answer.returned()
        return response

    return call


class _Responses:
    """The responses of a handler, each made inside the call's span."""

    def __init__(self, responses: Any, answer: _Answer) -> None:
        self._responses = responses
        self._answer = answer
        answer.context.add_callback(answer.dropped)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        answer = self._answer
        answer.call.enter()
        try:
            response = next(self._responses)
        except StopIteration:
            answer.returned()
            raise
        except BaseException as error:
            answer.failed(error)
            error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
            raise
        answer.call.leave()
        answer.call.count_response()
        if answer._was_cancelled():  # while it ran: nobody asks for more
            answer.dropped()
        return response


class _Counted:
    """An iterator over requests that counts them, and is the program's in all else."""

    def __init__(self, requests: Any, call: ServerCall) -> None:
        self._requests = requests
        self._call = call

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        request = next(self._requests)
        self._call.count_request()
        return request

    next = __next__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._requests, name)


def _noting(context: Any, answer: _Answer) -> Any:
    """A context that cannot be asked for the code that was set: one that remembers it."""
    made = _noting_type()(context)
    made._self_said = answer.said
    return made


@functools.cache
def _noting_type() -> Any:
    from wrapt import ObjectProxy

    class Noting(ObjectProxy):  # type: ignore[type-arg]
        _self_said: list[Any]

        def set_code(self, code: Any) -> None:
            self._self_said.append(code)
            self.__wrapped__.set_code(code)

        def abort(self, code: Any, *args: Any, **kwargs: Any) -> None:
            self._self_said.append(code)
            self.__wrapped__.abort(code, *args, **kwargs)

    return Noting


# -- coroutines and async generators of `grpc.aio` -----------------------------------------------


def _coroutine(behavior: Any, streams: Streams, begin: Begin) -> Any:
    async def call(request: Any, context: Any) -> Any:
        answer = begin(context)
        if answer is None:
            return await behavior(request, context)
        if streams.requests:
            request = _CountedAsync(request, answer.call)
        if streams.responses:  # by `context.write`, which is gRPC's own
            answer.call.responses = None
        answer.call.enter()
        try:
            response = await behavior(request, context)
        except BaseException as error:
            answer.failed(error)
            error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
            raise
        answer.returned()
        return response

    return call


def _async_generator(behavior: Any, streams: Streams, begin: Begin) -> Any:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        answer = begin(context)
        if answer is not None and streams.requests:
            request = _CountedAsync(request, answer.call)
        responses = behavior(request, context)
        if answer is None:
            async for response in responses:
                yield response
            return
        context.add_done_callback(answer.dropped)
        try:
            while True:
                answer.call.enter()
                try:
                    response = await anext(responses)
                except StopAsyncIteration:
                    answer.returned()
                    return
                except BaseException as error:
                    answer.failed(error)
                    error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
                    raise
                answer.call.leave()
                answer.call.count_response()
                yield response
        finally:
            await responses.aclose()
            answer.dropped()

    return call


class _CountedAsync:
    """As `_Counted`, of `grpc.aio`."""

    def __init__(self, requests: Any, call: ServerCall) -> None:
        self._requests = requests
        self._call = call

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._count(self._requests.__aiter__())

    async def _count(self, requests: Any) -> AsyncIterator[Any]:
        async for request in requests:
            self._call.count_request()
            yield request

    async def __anext__(self) -> Any:
        request = await self._requests.__anext__()
        self._call.count_request()
        return request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._requests, name)
