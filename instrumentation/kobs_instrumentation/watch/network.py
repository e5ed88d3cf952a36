"""Watches connections: who they were made with, what went through them, what went wrong.

TCP, with or without TLS, unix sockets, and UDP sockets that were connected, through `socket`,
`ssl` and asyncio's transports. The bytes of a TCP connection are the kernel's own count, asked for
when it ends (`TCP_INFO`): sending and receiving costs nothing, and TLS counts as it went over the
wire. Those of others are counted call by call.

Here are the hooks; the connections themselves are in `_connections`.
"""

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

from kobs.levels import Severity
from kobs.payloads import ConnectionEstablished
from kobs_instrumentation.watch import _connections as known, _denials
from kobs_instrumentation.watch._patch import Patcher
from kobs_instrumentation.watch._sockets import count, hook
from kobs_instrumentation.watch._watch import GetCollector, Undo, Watch

UNREACHABLE = (
    "calls by way of _socket.socket, and methods of sockets bound before the watch",
    "errors of _ssl objects used without ssl.SSLSocket or asyncio",
)
"""What this watch cannot see with the Python core."""

# -- connecting ------------------------------------------------------------------------------

_UNDER_WAY = frozenset((errno.EINPROGRESS, errno.EALREADY, errno.EINTR))
_NOT_THE_NETWORK_S = frozenset((errno.EBADF, errno.ENOTSOCK, errno.EINVAL))


def _before_connect(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args


def _after_connect(args: tuple[Any, ...], _: Any) -> None:
    sock, address = args
    if known.failures:
        known.failures.pop(known.hashable(address), None)
    known.established(sock)


def _connect_failed(args: tuple[Any, ...], error: BaseException) -> None:
    if len(args) == 2 and isinstance(error, OSError) and not _denials.is_by_policy(error):
        _did_not_connect(args[0], args[1], error.errno, error)


def _after_connect_ex(args: tuple[Any, ...], number: int) -> None:
    if number == 0:
        _after_connect(args, None)
    else:
        _did_not_connect(args[0], args[1], number, None)


def _did_not_connect(sock: Any, address: Any, number: int | None, error: OSError | None) -> None:
    if not known.protocol_of(sock):
        return
    fd = known.fd_of(sock)
    if number in _UNDER_WAY:
        known.pending.setdefault(fd, address)
    elif number == errno.EISCONN and fd in known.pending:
        _after_connect((sock, known.pending[fd]), None)
    elif number not in _NOT_THE_NETWORK_S and number != errno.EISCONN:
        known.pending.pop(fd, None)
        if error is None and number == errno.EWOULDBLOCK and known.names.socket.gettimeout(sock):
            said: Any = "timed out"
        else:
            said = error or OSError(number, "")
        known.tell_error("connect", known.address_text(address), said, address)


def _before_getsockopt(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Asking for SO_ERROR is how a program learns what became of a non-blocking connect."""
    if args[1:] != (known.names.SOL_SOCKET, known.names.SO_ERROR):
        return None
    fd = known.fd_of(args[0])
    return args[0] if fd in known.pending or fd in known.connections else None


def _after_getsockopt(sock: Any, number: int) -> None:
    fd = known.fd_of(sock)
    if fd not in known.pending:
        if number in _RESETS:
            known.connections[fd].reset = True
        return
    if number:
        _did_not_connect(sock, known.pending[fd], number, None)
    else:
        _complete(sock, fd)


def _complete(sock: Any, fd: int) -> None:
    """A non-blocking connect may be done."""
    try:
        known.peer_of(sock)
    except OSError:
        return
    _after_connect((sock, known.pending[fd]), None)


# -- accepting -------------------------------------------------------------------------------


def _before_accept(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0]


def _after_accept(listener: Any, result: Any) -> None:
    known.established(*result, accepted=True)


def _accept_failed(listener: Any, error: BaseException) -> None:
    if _is_network_s(error) and not isinstance(error, TimeoutError):
        known.tell_error("accept", known.address_text(known.name_of(listener)), error)


# -- sending and receiving: only what fails is of interest ------------------------------------

_RESETS = frozenset((errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH))
_ERRORS = frozenset(
    (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EHOSTDOWN,
     errno.ETIMEDOUT, errno.ENOBUFS, errno.EMSGSIZE)
)  # fmt: skip


def _is_network_s(error: BaseException) -> bool:
    return isinstance(error, ConnectionError | TimeoutError) or (
        isinstance(error, OSError) and error.errno in _ERRORS
    )


class _Transfer:
    """The hooks of one method that sends or receives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sends = name.startswith("send")

    def failed(self, state: tuple[tuple[Any, ...], Any], error: BaseException) -> None:
        if not _is_network_s(error):
            return
        sock = state[0][0]
        made = known.connections.get(known.fd_of(sock))
        where = made.remote if made is not None else known.address_text(state[0][-1])
        if made is not None and getattr(error, "errno", 0) in _RESETS:
            made.reset = True
        # Waiting for an answer in vain is what a timeout is often for.
        waits = isinstance(error, TimeoutError) and error.errno is None and not self.sends
        known.tell_error(self.name, where, error, **({"severity": Severity.INFO} if waits else {}))

    def after(self, state: tuple[tuple[Any, ...], Any], result: Any) -> None:
        """Count, where neither the kernel nor the C core does."""
        args = state[0]
        made = known.connections.get(known.fd_of(args[0]))
        if made is None or made.protocol in ("tcp", "tls"):
            return
        if result is None:  # of `sendall`
            size = memoryview(args[1]).nbytes
        else:
            first = result[0] if isinstance(result, tuple) else result
            size = first if isinstance(first, int) else len(first)
        if self.sends:
            made.sent += size
        else:
            made.received += size


_TRANSFERS = ("recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "send",
              "sendall", "sendmsg", "sendto")  # fmt: skip


# -- ending ----------------------------------------------------------------------------------


def _before_close(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    sock = args[0]
    fd = known.fd_of(sock)
    if fd < 0:
        return None
    if fd in known.pending:
        _complete(sock, fd)
        known.pending.pop(fd, None)
    made = known.connections.pop(fd, None)
    if made is None:
        made = _unknown(sock)
        if made is None:
            return None
    made.owner = None
    return made, *known.bytes_of(sock, made)


def _unknown(sock: Any) -> known.Connection | None:
    """A TCP connection that was made before the watch came, or came from elsewhere."""
    if known.protocol_of(sock) != "tcp":
        return None
    try:
        peer = known.peer_of(sock)
    except OSError:
        return None
    made = known.Connection("tcp", 0, known.address_text(peer))
    made.began_ns = 0
    return made


def _after_close(state: tuple[known.Connection, int, int], _: Any) -> None:
    known.tell_closed(*state)


def _before_detach(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The connection goes on without this object."""
    made = known.connections.get(known.fd_of(args[0]))
    if made is not None:
        made.owner = None


# -- TLS -------------------------------------------------------------------------------------


def _before_handshake(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0]


def _after_handshake(sock: Any, _: Any) -> None:
    made = known.connections.get(known.fd_of(sock))
    if made is None:
        made = known.established(sock)
    elif made.owner is None or made.owner() is not sock:
        known.own(made, known.fd_of(sock), sock)
    _tell_secured(made)


def _tell_secured(made: known.Connection | None) -> None:
    if made is None or made.protocol == "tls":
        return
    made.protocol = "tls"
    header = known.header(made)
    made.event = _watch.emit(ConnectionEstablished, "tls", made.port, made.remote, **header) or (
        made.event
    )


def _handshake_failed(sock: Any, error: BaseException) -> None:
    if isinstance(error, OSError) and type(error).__name__ not in _WANTS:
        made = known.connections.get(known.fd_of(sock))
        known.tell_error("handshake", made.remote if made is not None else "", error)


_WANTS = ("SSLWantReadError", "SSLWantWriteError")


def _before_completed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """asyncio's `SSLProtocol._on_handshake_complete(self, exception)`."""
    protocol, error = args
    transport = protocol._transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    made = known.connections.get(sock.fileno()) if sock is not None else None
    if error is None:
        _tell_secured(made)
    elif isinstance(error, OSError):
        known.tell_error("handshake", made.remote if made is not None else "", error)


def _secure_failed(state: tuple[tuple[Any, ...], Any], error: BaseException) -> None:
    """Of an SSLSocket's `read`, `write` and `send`, or of `_ssl._SSLSocket`'s."""
    if not _is_network_s(error):
        return
    sock = state[0][0]
    sock = getattr(sock, "owner", sock)
    made = known.connections.get(sock.fileno()) if sock is not None else None
    if made is not None:
        known.tell_error("tls", made.remote, error)


# -- names -----------------------------------------------------------------------------------

_LOOKUPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")


def _lookup_failed(name: str, state: tuple[tuple[Any, ...], Any], error: BaseException) -> None:
    if isinstance(error, OSError):
        args = state[0]
        host = args[0] if args else ""
        port = args[1] if name == "getaddrinfo" and len(args) > 1 else None
        where = known.address_text((host, 0 if port is None else port))
        where = where.removesuffix(":0") if port is None else where
        known.tell_error(name, where, error)


# -- where -----------------------------------------------------------------------------------


def _patch_sockets(patcher: Patcher, module: Any) -> None:
    import _socket

    known.bind(_socket)
    hook(patcher, "connect", _before_connect, _after_connect, _connect_failed)
    hook(patcher, "connect_ex", _before_connect, _after_connect_ex)
    hook(patcher, "getsockopt", _before_getsockopt, _after_getsockopt)
    known.counted.clear()
    for name in _TRANSFERS:
        transfer = _Transfer(name)
        if count(patcher, name, transfer.after, transfer.failed, sends=transfer.sends):
            known.counted.add(name)
    patcher.method(module.socket, "accept", _before_accept, _after_accept, _accept_failed)
    hook(patcher, "close", _before_close, _after_close, python_name="_real_close")
    hook(patcher, "detach", _before_detach, python_name="detach")
    for name in _LOOKUPS:
        failed: Callable[[Any, Any], None] = partial(_lookup_failed, name)
        patcher.builtin((("_socket", name), ("socket", name)), None, failed=failed)


def _patch_all(patcher: Patcher) -> None:
    def sockets(module: Any) -> None:
        _patch_sockets(patcher, module)

    def secure(module: Any) -> None:
        handshake = _before_handshake, _after_handshake, _handshake_failed
        patcher.method(module.SSLSocket, "do_handshake", *handshake)
        kind = module._ssl._SSLSocket
        hooked = [
            patcher.c_method(kind, name, None, failed=_secure_failed) for name in ("read", "write")
        ]
        if not any(hooked):
            for name in ("read", "write", "send"):
                patcher.method(module.SSLSocket, name, None, failed=_secure_failed)

    def secure_loops(module: Any) -> None:
        patcher.method(module.SSLProtocol, "_on_handshake_complete", _before_completed)

    patcher.when_imported("socket", sockets)
    patcher.when_imported("ssl", secure)
    patcher.when_imported("asyncio.sslproto", secure_loops)


_watch = Watch("network", _patch_all)
known.tell_to(_watch)


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch connections; returns what takes it back."""
    undo_watch = _watch.install(get_collector, events=events)

    def undo() -> None:
        undo_watch()
        if not _watch.active:
            known.connections.clear()
            known.pending.clear()
            known.failures.clear()

    return undo
