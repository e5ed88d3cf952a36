"""Watches connections: who they were made with, what went through them, what went wrong.

TCP, with or without TLS, unix sockets, and UDP sockets that were connected, through `socket`,
`ssl` and asyncio's transports. The bytes of a TCP connection are the kernel's own count, asked for
when it ends (`TCP_INFO`): sending and receiving costs nothing, and TLS counts as it went over the
wire. Those of others are counted call by call.

Connections are known by their descriptor, so that they stay one when a socket is detached and
wrapped (TLS does). No socket is kept alive.
"""

import errno
import weakref
from collections.abc import Callable
from functools import partial
from struct import Struct
from sys import byteorder
from time import monotonic_ns
from typing import Any

from kobs.context import Cause, cause
from kobs.ids import mint_id
from kobs.levels import Category, Severity
from kobs.payloads import ConnectionClosed, ConnectionEstablished, NetworkError, ResourceLeaked
from kobs_instrumentation.watch import _denials, _patch
from kobs_instrumentation.watch._patch import Patcher
from kobs_instrumentation.watch._sockets import count, hook, traffic
from kobs_instrumentation.watch._watch import GetCollector, Undo, Watch

UNREACHABLE = (
    "calls by way of _socket.socket, and methods of sockets bound before the watch",
    "errors of _ssl objects used without ssl.SSLSocket or asyncio",
)
"""What this watch cannot see with the Python core."""

_REMEMBERED = 65_536


class Connection:
    """A connection that is open."""

    __slots__ = ("began_ns", "chain", "event", "number", "owner", "port", "protocol", "received",
                 "remote", "reset", "sent")  # fmt: skip

    def __init__(self, protocol: str, port: int, remote: str) -> None:
        self.protocol = protocol
        self.port = port
        self.remote = remote
        self.began_ns = monotonic_ns()
        self.event = 0
        """Its ConnectionEstablished, 0 if that was not recorded."""
        self.chain = 0
        self.number = 0
        self.owner: Any = None
        """A weak reference to its socket object."""
        self.reset = False
        """The program was told that the other side gave up."""
        self.sent = 0
        self.received = 0
        """Bytes, where the kernel does not count them."""


_connections: dict[int, Connection] = {}
"""By descriptor."""
_pending: dict[int, Any] = {}
"""Where a non-blocking connect is under way: the address, by descriptor."""
_failures: dict[Any, int] = {}
"""How often in a row connecting to an address failed."""
_count = 0


_names: Any = None
"""The module `_socket`, once it is there."""
_fd: Callable[[Any], int]
_family: Callable[[Any], int]
_type: Callable[[Any], int]
_getsockname: Callable[[Any], Any]
_getpeername: Callable[[Any], Any]
_getsockopt: Callable[..., Any]
_protocols: dict[tuple[int, int], str] = {}
"""What the payload calls a socket of a family and type; others are not told of."""


def _bind(module: Any) -> None:
    """Methods of the C type as they are, whatever a subclass makes of them."""
    global _names, _fd, _family, _type, _getsockname, _getpeername, _getsockopt
    base = module.socket
    _names = module
    _fd, _family, _type = base.fileno, base.family.__get__, base.type.__get__
    _getsockname, _getpeername, _getsockopt = base.getsockname, base.getpeername, base.getsockopt
    for family in (module.AF_INET, module.AF_INET6):
        _protocols[family, module.SOCK_STREAM] = "tcp"
        _protocols[family, module.SOCK_DGRAM] = "udp"
    for kind in (module.SOCK_STREAM, module.SOCK_DGRAM, module.SOCK_SEQPACKET):
        _protocols[module.AF_UNIX, kind] = "unix"


def _protocol(sock: Any) -> str:
    return _protocols.get((_family(sock), _type(sock)), "")


# -- beginning -------------------------------------------------------------------------------


def _established(sock: Any, peer: Any = None, *, accepted: bool = False) -> Connection | None:
    global _count
    protocol = _protocol(sock)
    if not protocol:
        return None
    fd = _fd(sock)
    _pending.pop(fd, None)
    before = _connections.pop(fd, None)
    if before is not None and before.protocol in ("udp", "unix"):  # it connects anew
        _tell_closed(before, *_bytes(sock, before))
    if _counted:
        traffic(fd)
    try:
        local = _getsockname(sock)
        if not peer:
            peer = _getpeername(sock)
    except OSError:  # gone already
        return None
    port = local[1] if protocol != "unix" else 0
    made = Connection(protocol, port, _address(peer) or _who(sock, protocol))
    while len(_connections) >= _REMEMBERED:
        _connections.pop(next(iter(_connections)), None)
    _count += 1
    made.number = _count
    _connections[fd] = made
    _own(made, fd, sock)
    ambient = cause.get()
    if accepted and not (ambient is not None and ambient.in_scope):
        _begin_anew(made)
        return made
    made.chain = ambient.causality_id if ambient is not None else 0
    made.event = _watch.emit(ConnectionEstablished, protocol, port, made.remote)
    return made


class _Owner(weakref.ref[Any]):
    """The socket object of a connection."""

    __slots__ = ("fd", "number")
    fd: int
    number: int


def _own(made: Connection, fd: int, sock: Any) -> None:
    try:
        made.owner = owner = _Owner(sock, _dropped)
    except TypeError:  # a plain `_socket.socket`
        made.owner = None
    else:
        owner.fd, owner.number = fd, made.number


def _dropped(owner: Any) -> None:
    """A socket went without being closed."""
    made = _connections.get(owner.fd)
    if made is not None and made.number == owner.number:
        del _connections[owner.fd]
        _patch.run(_tell_dropped, made, None, "network: socket dropped")


def _tell_dropped(made: Connection, _: Any) -> None:
    _watch.emit(ResourceLeaked, "connection", 1, **_header(made))


def _begin_anew(made: Connection) -> None:
    """What an accepted connection sets off has no cause in this process."""
    made.chain = chain = mint_id()
    sampled = True
    collector = _watch.any_collector()
    if collector is not None and collector.gate.up[0]:
        sampled = collector.gate.sampled(chain, Category.NETWORK)
    cause.set(Cause(chain, 0, 0, sampled))
    made.event = event = _watch.emit(ConnectionEstablished, made.protocol, made.port, made.remote)
    if event:
        cause.set(Cause(chain, event, 0, sampled))


def _address(address: Any) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
        if isinstance(host, bytes | bytearray):
            host = bytes(host).decode(errors="replace")
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    if isinstance(address, bytes):
        return address.decode("utf-8", "surrogateescape").replace("\0", "@")
    return address.replace("\0", "@") if isinstance(address, str) else ""


def _who(sock: Any, protocol: str) -> str:
    """The process at the other end of a unix socket without a name."""
    if protocol != "unix":
        return ""
    try:
        found = _getsockopt(sock, _names.SOL_SOCKET, _names.SO_PEERCRED, 12)
    except OSError:
        return ""
    return f"pid {int.from_bytes(found[:4], byteorder)}"


# -- connecting ------------------------------------------------------------------------------

_UNDER_WAY = frozenset((errno.EINPROGRESS, errno.EALREADY, errno.EINTR))
_NOT_THE_NETWORK_S = frozenset((errno.EBADF, errno.ENOTSOCK, errno.EINVAL))


def _before_connect(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args


def _after_connect(args: tuple[Any, ...], _: Any) -> None:
    sock, address = args
    if _failures:
        _failures.pop(_hashable(address), None)
    _established(sock)


def _connect_failed(args: tuple[Any, ...], error: BaseException) -> None:
    if len(args) == 2 and isinstance(error, OSError) and not _denials.is_by_policy(error):
        _did_not_connect(args[0], args[1], error.errno, error)


def _after_connect_ex(args: tuple[Any, ...], number: int) -> None:
    if number == 0:
        _after_connect(args, None)
    else:
        _did_not_connect(args[0], args[1], number, None)


def _did_not_connect(sock: Any, address: Any, number: int | None, error: OSError | None) -> None:
    if not _protocol(sock):
        return
    fd = _fd(sock)
    if number in _UNDER_WAY:
        _pending.setdefault(fd, address)
    elif number == errno.EISCONN and fd in _pending:
        _after_connect((sock, _pending[fd]), None)
    elif number not in _NOT_THE_NETWORK_S and number != errno.EISCONN:
        _pending.pop(fd, None)
        if error is None and number == errno.EWOULDBLOCK and _names.socket.gettimeout(sock):
            _tell_error("connect", _address(address), "timed out", address)
        else:
            _tell_error("connect", _address(address), error or OSError(number, ""), address)


def _before_getsockopt(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Asking for SO_ERROR is how a program learns what became of a non-blocking connect."""
    if args[1:] != (_names.SOL_SOCKET, _names.SO_ERROR):
        return None
    fd = _fd(args[0])
    return args[0] if fd in _pending or fd in _connections else None


def _after_getsockopt(sock: Any, number: int) -> None:
    fd = _fd(sock)
    if fd not in _pending:
        if number in _RESETS:
            _connections[fd].reset = True
        return
    if number:
        _did_not_connect(sock, _pending[fd], number, None)
    else:
        _complete(sock, fd)


def _complete(sock: Any, fd: int) -> None:
    """A non-blocking connect may be done."""
    try:
        _getpeername(sock)
    except OSError:
        return
    _after_connect((sock, _pending[fd]), None)


def _hashable(address: Any) -> Any:
    return _address(address) or repr(address)


def _tell_error(operation: str, where: str, error: Any, address: Any = None, **header: Any) -> None:
    retries = 0
    if operation == "connect":
        key = _hashable(address)
        retries = _failures.pop(key, 0)
        while len(_failures) >= _REMEMBERED:
            _failures.pop(next(iter(_failures)), None)
        _failures[key] = retries + 1
    _watch.emit(NetworkError, f"{operation} {where}: {_words(error)}", retries, **header)


def _words(error: Any) -> str:
    if isinstance(error, OSError) and error.errno is not None and not error.strerror:
        from os import strerror

        return f"[Errno {error.errno}] {strerror(error.errno)}"
    return str(error) or type(error).__name__


# -- accepting -------------------------------------------------------------------------------


def _before_accept(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0]


def _after_accept(listener: Any, result: Any) -> None:
    _established(*result, accepted=True)


def _accept_failed(listener: Any, error: BaseException) -> None:
    if _is_network_s(error) and not isinstance(error, TimeoutError):
        _tell_error("accept", _address(_getsockname(listener)), error)


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


_counted: set[str] = set()
"""Methods whose bytes the C core counts: all of those that move any, or none."""


class _Transfer:
    """The hooks of one method that sends or receives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sends = name.startswith("send")

    def failed(self, state: tuple[tuple[Any, ...], Any], error: BaseException) -> None:
        if not _is_network_s(error):
            return
        sock = state[0][0]
        made = _connections.get(_fd(sock))
        where = made.remote if made is not None else _address(state[0][-1])
        if made is not None and getattr(error, "errno", 0) in _RESETS:
            made.reset = True
        # Waiting for an answer in vain is what a timeout is often for.
        waits = isinstance(error, TimeoutError) and error.errno is None and not self.sends
        _tell_error(self.name, where, error, **({"severity": Severity.INFO} if waits else {}))

    def after(self, state: tuple[tuple[Any, ...], Any], result: Any) -> None:
        """Count, where neither the kernel nor the C core does."""
        args = state[0]
        made = _connections.get(_fd(args[0]))
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

_tcp_info = Struct("=B127xQ8xI52xQQ")
"""Of Linux's `struct tcp_info`: tcpi_state, tcpi_bytes_received, tcpi_notsent_bytes,
tcpi_bytes_sent, tcpi_bytes_retrans."""
_CLOSED_STATE = 7
_AFTER_FIN = frozenset((6, 8, 9, 11))
"""States in which the end of the other side's data was received, which counts as a byte."""


def _before_close(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    sock = args[0]
    fd = _fd(sock)
    if fd < 0:
        return None
    if fd in _pending:
        _complete(sock, fd)
        _pending.pop(fd, None)
    made = _connections.pop(fd, None)
    if made is None:
        made = _unknown(sock)
        if made is None:
            return None
    made.owner = None
    return made, *_bytes(sock, made)


def _unknown(sock: Any) -> Connection | None:
    """A TCP connection that was made before the watch came, or came from elsewhere."""
    if _protocol(sock) != "tcp":
        return None
    try:
        peer = _getpeername(sock)
    except OSError:
        return None
    made = Connection("tcp", 0, _address(peer))
    made.began_ns = 0
    return made


def _bytes(sock: Any, made: Connection) -> tuple[int, int]:
    """What the program sent and the kernel received."""
    if made.protocol not in ("tcp", "tls"):
        return traffic(_fd(sock)) if _counted else (made.sent, made.received)
    size = _tcp_info.size
    try:
        info = _getsockopt(sock, _names.IPPROTO_TCP, _names.TCP_INFO, size)
    except OSError:
        return 0, 0
    if len(info) < size:
        return 0, 0
    state, received, not_sent, sent, sent_again = _tcp_info.unpack(info)
    if state in _AFTER_FIN or (state == _CLOSED_STATE and not _was_reset(sock, made)):
        received = max(0, received - 1)
    return sent - sent_again + not_sent, received


def _was_reset(sock: Any, made: Connection) -> bool:
    """Whether a connection that is over was broken off, rather than ended by both sides."""
    if made.reset:
        return True
    import select

    poll = select.poll()
    poll.register(_fd(sock), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _after_close(state: tuple[Connection, int, int], _: Any) -> None:
    _tell_closed(*state)


def _tell_closed(made: Connection, sent: int, received: int) -> None:
    lasted = (monotonic_ns() - made.began_ns) / 1e6 if made.began_ns else 0.0
    _watch.emit(ConnectionClosed, sent, received, lasted, **_header(made))


def _header(made: Connection) -> dict[str, Any]:
    """What happens to a connection belongs to the chain that it was made in."""
    return {"parent": made.event, "causality_id": made.chain} if made.event else {}


def _before_detach(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The connection goes on without this object."""
    made = _connections.get(_fd(args[0]))
    if made is not None:
        made.owner = None


# -- TLS -------------------------------------------------------------------------------------


def _before_handshake(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0]


def _after_handshake(sock: Any, _: Any) -> None:
    made = _connections.get(_fd(sock))
    if made is None:
        made = _established(sock)
    elif made.owner is None or made.owner() is not sock:
        _own(made, _fd(sock), sock)
    _tell_secured(made)


def _tell_secured(made: Connection | None) -> None:
    if made is None or made.protocol == "tls":
        return
    made.protocol = "tls"
    header = _header(made)
    made.event = _watch.emit(ConnectionEstablished, "tls", made.port, made.remote, **header) or (
        made.event
    )


def _handshake_failed(sock: Any, error: BaseException) -> None:
    if isinstance(error, OSError) and type(error).__name__ not in _WANTS:
        made = _connections.get(_fd(sock))
        _tell_error("handshake", made.remote if made is not None else "", error)


_WANTS = ("SSLWantReadError", "SSLWantWriteError")


def _before_completed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """asyncio's `SSLProtocol._on_handshake_complete(self, exception)`."""
    protocol, error = args
    transport = protocol._transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    made = _connections.get(sock.fileno()) if sock is not None else None
    if error is None:
        _tell_secured(made)
    elif isinstance(error, OSError):
        _tell_error("handshake", made.remote if made is not None else "", error)


def _secure_failed(state: tuple[tuple[Any, ...], Any], error: BaseException) -> None:
    """Of an SSLSocket's `read`, `write` and `send`, or of `_ssl._SSLSocket`'s."""
    if not _is_network_s(error):
        return
    sock = state[0][0]
    sock = getattr(sock, "owner", sock)
    made = _connections.get(sock.fileno()) if sock is not None else None
    if made is not None:
        _tell_error("tls", made.remote, error)


# -- names -----------------------------------------------------------------------------------

_LOOKUPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")


def _lookup_failed(name: str, state: tuple[tuple[Any, ...], Any], error: BaseException) -> None:
    if isinstance(error, OSError):
        args = state[0]
        host = args[0] if args else ""
        port = args[1] if name == "getaddrinfo" and len(args) > 1 else None
        where = _address((host, port)) if port is not None else _address((host, 0))[:-2]
        _tell_error(name, where, error)


# -- where -----------------------------------------------------------------------------------


def _patch_sockets(patcher: Patcher, module: Any) -> None:
    import _socket

    _bind(_socket)
    hook(patcher, "connect", _before_connect, _after_connect, _connect_failed)
    hook(patcher, "connect_ex", _before_connect, _after_connect_ex)
    hook(patcher, "getsockopt", _before_getsockopt, _after_getsockopt)
    _counted.clear()
    for name in _TRANSFERS:
        transfer = _Transfer(name)
        if count(patcher, name, transfer.after, transfer.failed, sends=transfer.sends):
            _counted.add(name)
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


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch connections; returns what takes it back."""
    undo_watch = _watch.install(get_collector, events=events)

    def undo() -> None:
        undo_watch()
        if not _watch.active:
            _connections.clear()
            _pending.clear()
            _failures.clear()

    return undo
