"""One gRPC call as a span: the client's and the server's side of it.

Attributes and status are those of OpenTelemetry's conventions for RPC (1.45): the status code by
name, and which codes are errors. `rpc.system.name` and `rpc.method` follow from a span's category
and name: they are added where it is exported.
"""

from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from kobs import bridge
from kobs.collector import global_collector
from kobs.context import Cause, cause, origin
from kobs.muted import busy
from kobs.tracing.exceptions import exception_type
from kobs.tracing.open_spans import open_span
from kobs.tracing.spans import span_grpc
from kobs_instrumentation.watch import _grpc_metadata as carried, _watch

if TYPE_CHECKING:
    from kobs.collector import Collector
    from kobs.tracing.span import Span

STATUS_CODE = "rpc.response.status_code"
REQUESTS, RESPONSES = "kobs.rpc.requests", "kobs.rpc.responses"
"""Attributes: messages of a call whose requests, or responses, are a stream."""

SERVER_ERRORS = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
"""Status codes that are a server's error; on the client's side all but OK are."""

CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""The status codes of gRPC, by number."""


class Streams(NamedTuple):
    """Which sides of a call are streams."""

    requests: bool
    responses: bool


class Collectors:
    """Where the spans go, and whose links cause is carried by."""

    def __init__(self, given: "Collector | None" = None) -> None:
        self._given = given

    def for_spans(self) -> "Collector | None":
        """None: no span is made."""
        collector = self._given if self._given is not None else global_collector()
        return None if collector is None or collector.closed else collector

    def for_links(self) -> "Collector | None":
        """None: nothing is carried."""
        return self.for_spans()


def code_name(code: Any) -> str:
    """A status code as the conventions name it; of one that gRPC does not know, its number."""
    if code is None:
        return "OK"
    if isinstance(code, int):
        return CODES[code] if 0 <= code < len(CODES) else str(code)
    return str(getattr(code, "name", code))


def method_name(method: Any) -> str:
    """`package.Service/Method` of the path that a call has."""
    text = method.decode("utf-8", "replace") if isinstance(method, bytes) else str(method)
    return text.removeprefix("/")


@lru_cache(256)
def server_of(target: str | bytes | None) -> dict[str, Any]:
    """`server.address` and `server.port` of a channel's target."""
    text = target.decode("utf-8", "replace") if isinstance(target, bytes) else str(target or "")
    scheme, colon, rest = text.partition(":")
    if colon and scheme in ("unix", "unix-abstract"):
        return {"server.address": rest.removeprefix("//")}
    if colon and (rest.startswith("//") or scheme in ("dns", "ipv4", "ipv6", "xds")):
        text = rest.removeprefix("//")
        text = text.rpartition("/")[2] if rest.startswith("//") else text
    return _address(text.partition(",")[0], "server")


@lru_cache(256)
def peer_of(peer: str) -> dict[str, Any]:
    """`network.peer.address` and `.port` of what a server's context says of its peer."""
    kind, _, rest = peer.partition(":")
    if kind == "unix":
        return {"network.peer.address": rest} if rest else {}
    return _address(unquote(rest), "network.peer") if kind in ("ipv4", "ipv6") else {}


def _address(text: str, prefix: str) -> dict[str, Any]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or (":" in host and not host.startswith("[")):
        host, port = text, ""
    found: dict[str, Any] = {f"{prefix}.address": host.strip("[]")} if host else {}
    if port:
        found[f"{prefix}.port"] = int(port)
    return found


def mistake(where: str, error: BaseException, collector: "Collector | None") -> None:
    """Count and tell an error of ours; the call goes on."""
    if collector is None:
        _watch.tell_error(where, error)
        return
    undo = _watch.errors_go_to(lambda: collector)
    try:
        _watch.tell_error(where, error)
    finally:
        undo()


class Call:
    """What both sides have: a span that ends once."""

    __slots__ = ("__weakref__", "_open", "collector", "requests", "responses", "span", "streams")

    def __init__(self, span: "Span | None", streams: Streams, collector: "Collector") -> None:
        self.span = span
        self.streams = streams
        self.collector = collector
        self.requests: int | None = 0
        self.responses: int | None = 0
        """Messages so far; None where they are not seen."""
        self._open = [True]

    def count_request(self) -> None:
        """One more message from the client."""
        if self.requests is not None:
            self.requests += 1

    def count_response(self) -> None:
        """One more message from the server."""
        if self.responses is not None:
            self.responses += 1

    def _end(self, code: str, description: str, error: BaseException | None, failed: bool) -> bool:
        """End the span; False where it ended before."""
        try:
            self._open.pop()
        except IndexError:
            return False
        span = self.span
        if span is None:
            return True
        if code:
            span.record(STATUS_CODE, code)
        if self.streams.requests and self.requests is not None:
            span.record(REQUESTS, self.requests)
        if self.streams.responses and self.responses is not None:
            span.record(RESPONSES, self.responses)
        if failed:
            span.record_error(error if error is not None else description or code)
            span.record("error.type", code or exception_type(error))  # type: ignore[arg-type]
        span.__exit__(None, None, None)
        return True


class ClientCall(Call):
    """A call on the client's side. Its span is current until `leave`."""

    __slots__ = (
        "_inside", "_key", "_outside", "_pending", "grpc_call", "metadata", "reading",
    )  # fmt: skip

    def __init__(
        self,
        span: "Span | None",
        streams: Streams,
        collector: "Collector",
        outside: Cause | None,
    ) -> None:
        super().__init__(span, streams, collector)
        self._outside = outside
        self._inside = cause.get()
        self._key = b""
        self._pending: tuple[Any, Any] | None = None
        self.reading = False
        """The program waits for a message; if it is there it counts, though the call is over."""
        self.metadata: Any = None
        """What the call is to be made with."""
        self.grpc_call: Any = lambda: None
        """A weak reference to gRPC's object of the call."""

    @classmethod
    def begin(
        cls, collectors: Any, method: Any, metadata: Any, streams: Streams, target: Any = None
    ) -> "ClientCall | None":
        """A call that is about to be made; None where nothing is to be told of it, nor carried.

        A call that is made in its own span, with metadata that says so, has been begun by another
        of ours: an interceptor on a channel that is watched as well."""
        carrier = collectors.for_links()
        if carrier is None or carrier.closed or bridge.is_suppressed():
            return None
        name, outside = method_name(method), cause.get()
        if outside is not None and _is_begun(outside, name, metadata):
            return None
        collector = collectors.for_spans()
        if collector is None and outside is None:
            return None
        span = None
        if collector is not None:
            span = _span(name, "client", streams, collector)
            span.__enter__()
        call = cls(span, streams, collector or carrier, outside)
        call.metadata = metadata
        try:
            if span is not None:
                for key, value in server_of(target).items():
                    span.record(key, value)
            own = call._inside
            if own is not None:
                call.metadata = carried.added(metadata, carried.outgoing(own))
                call._key = carried.hand_over(carrier, own)
        except Exception as error:  # it is told of all the same
            mistake("grpc: metadata", error, call.collector)
        return call

    def leave(self) -> None:
        """The call goes on by itself: its span is no longer current here."""
        if cause.get() is self._inside:
            cause.set(self._outside)

    def end(self, code: Any, details: Any = "", *, at_once: bool = False) -> None:
        """The call is over. Twice is once. `at_once`: and nothing may be waited for."""
        name = code_name(code)
        if at_once:
            self._key = b""
        self._over(name, text_of(details), None, name != "OK")

    def over(self, code: Any, details: Any) -> None:
        """gRPC says that the call is over, in whatever thread."""
        self._pending = code, details  # before the look at who reads, who looks the other way round
        if not self.reading:
            self.end(code, details)

    def read(self) -> None:
        """The program has its message, or learned that there is none."""
        self.reading = False
        if self._pending is not None:
            self.end(*self._pending)

    def raised(self, error: BaseException) -> None:
        """The call raised: what gRPC has to say of it, or that it was not made at all."""
        code = getattr(error, "code", None)
        if callable(code):
            self.end(code(), error.details())  # type: ignore[attr-defined]
        elif isinstance(error, Exception):
            self._over("", "", error, True)
        else:  # asyncio cancels it, or a signal handler raised
            self.end("CANCELLED")

    def _over(self, *how: Any) -> None:
        try:
            if self._end(*how) and self._key:
                carried.take_back(self.collector, self._key)
        except Exception as own:
            mistake("grpc: end of a call", own, self.collector)


def _span(name: str, kind: str, streams: Streams, collector: "Collector") -> "Span":
    """A span that is not begun. A stream is not slow because it lasts."""
    if collector is global_collector():  # those are recorded in C
        return span_grpc(name, kind=kind, slow_ms=inf if any(streams) else None)
    return span_grpc(name, kind=kind, slow_ms=inf if any(streams) else None, collector=collector)


def _is_begun(ambient: Cause, name: str, metadata: Any) -> bool:
    span = open_span(ambient.span_id)
    if span is None or span.kind != "client" or span.name != name:
        return False
    return carried.is_in(metadata, carried.outgoing(ambient))


class ServerCall(Call):
    """A call on the server's side: the cause, the origin and OpenTelemetry's context that its
    handler runs with."""

    __slots__ = ("_context", "_inside", "_origin", "_tokens", "running")

    def __init__(
        self,
        span: "Span | None",
        streams: Streams,
        collector: "Collector",
        came: carried.Incoming,
    ) -> None:
        super().__init__(span, streams, collector)
        self._inside = cause.get()
        self._origin = came.origin
        self._context = came.context
        self._tokens: tuple[Any, ...] = ()
        self.running = False
        """Code of the handler runs now."""

    @classmethod
    def begin(
        cls, collectors: Any, method: Any, metadata: Any, streams: Streams, peer: str
    ) -> "ServerCall | None":
        """A call that a handler is about to answer; None where nothing is told nor carried."""
        carrier = collectors.for_links()
        if carrier is None or carrier.closed or busy.inside:
            return None
        came = carried.incoming(carrier, metadata)
        collector = collectors.for_spans()
        tokens = _enter(came.sender, came.origin, came.context)
        try:
            span = None
            if collector is not None:
                span = _span(method_name(method), "server", streams, collector)
                span.__enter__()
                for key, value in peer_of(peer).items():
                    span.record(key, value)
            call = cls(span, streams, collector or carrier, came)
            own = call._inside
            if own is not None and came.context is not None:
                there = bridge.opentelemetry_context()
                if there is None or there.span_id != own.span_id:
                    call._context = carried.with_own_span(came.context, own)
            return call
        finally:
            _leave(tokens)

    def enter(self) -> None:
        """Run what follows as the handler's."""
        self.running = True
        self._tokens = _enter(self._inside, self._origin, self._context)

    def leave(self) -> None:
        """Undo `enter`."""
        self.running = False
        tokens, self._tokens = self._tokens, ()
        _leave(tokens)

    def end(self, code: Any, details: Any = "", error: BaseException | None = None) -> None:
        """The handler is done, or will not go on. `error`: what it raised that was no `abort`."""
        try:
            name = code_name(code)
            self._end(name, text_of(details), error, name in SERVER_ERRORS)
        except Exception as own:
            mistake("grpc: end of a call", own, self.collector)


def _enter(ambient: Cause | None, scope: str, context: Any) -> tuple[Any, ...]:
    # The context first: what is set after it is newer, and within its span.
    attached = carried.attach(context) if context is not None else None
    return attached, cause.set(ambient), origin.set(scope) if scope else None


def _leave(tokens: tuple[Any, ...]) -> None:
    if not tokens:
        return
    attached, ambient, scope = tokens
    try:
        cause.reset(ambient)
    except ValueError:  # in another context: an async generator that another task closes
        return
    if attached is not None:
        carried.detach(attached)
    if scope is not None:
        origin.reset(scope)


def text_of(details: Any) -> str:
    """Details of a status, which gRPC has as bytes or text, or not at all."""
    if isinstance(details, bytes):
        return details.decode("utf-8", "replace")
    return details if isinstance(details, str) else ""
