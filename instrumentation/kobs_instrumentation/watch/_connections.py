"""The connections that are open: who they were made with, what went through them, and telling of
their beginning, errors and end.

Connections are known by their descriptor, so that they stay one when a socket is detached and
wrapped (TLS does). No socket is kept alive.
"""

import weakref
from collections.abc import Callable
from struct import Struct
from sys import byteorder
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from kobs.context import Cause, cause
from kobs.ids import mint_id
from kobs.levels import Category
from kobs.payloads import ConnectionClosed, ConnectionEstablished, NetworkError, ResourceLeaked
from kobs_instrumentation.watch import _patch
from kobs_instrumentation.watch._sockets import traffic

if TYPE_CHECKING:
    from kobs_instrumentation.watch._watch import Watch

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


connections: dict[int, Connection] = {}
"""By descriptor."""
pending: dict[int, Any] = {}
"""Where a non-blocking connect is under way: the address, by descriptor."""
failures: dict[Any, int] = {}
"""How often in a row connecting to an address failed."""
_count = 0
counted: set[str] = set()
"""Methods whose bytes the C core counts: all of those that move any, or none."""
_watch: "Watch"


def tell_to(watch: "Watch") -> None:
    """Have what happens to connections told by a watch."""
    global _watch
    _watch = watch


# -- sockets ---------------------------------------------------------------------------------

names: Any = None
"""The module `_socket`, once it is there."""
fd_of: Callable[[Any], int]
_family: Callable[[Any], int]
_type: Callable[[Any], int]
name_of: Callable[[Any], Any]
peer_of: Callable[[Any], Any]
option_of: Callable[..., Any]
_protocols: dict[tuple[int, int], str] = {}
"""What the payload calls a socket of a family and type; others are not told of."""


def bind(module: Any) -> None:
    """Methods of the C type as they are, whatever a subclass makes of them."""
    global names, fd_of, _family, _type, name_of, peer_of, option_of
    base = module.socket
    names = module
    fd_of, _family, _type = base.fileno, base.family.__get__, base.type.__get__
    name_of, peer_of, option_of = base.getsockname, base.getpeername, base.getsockopt
    for family in (module.AF_INET, module.AF_INET6):
        _protocols[family, module.SOCK_STREAM] = "tcp"
        _protocols[family, module.SOCK_DGRAM] = "udp"
    for kind in (module.SOCK_STREAM, module.SOCK_DGRAM, module.SOCK_SEQPACKET):
        _protocols[module.AF_UNIX, kind] = "unix"


def protocol_of(sock: Any) -> str:
    """What the payload calls it; empty for what is not told of."""
    return _protocols.get((_family(sock), _type(sock)), "")


# -- beginning -------------------------------------------------------------------------------


def established(sock: Any, peer: Any = None, *, accepted: bool = False) -> Connection | None:
    """Tell of a connection that is made now, and know it from here on."""
    global _count
    protocol = protocol_of(sock)
    if not protocol:
        return None
    fd = fd_of(sock)
    pending.pop(fd, None)
    before = connections.pop(fd, None)
    if before is not None and before.protocol in ("udp", "unix"):  # it connects anew
        tell_closed(before, *bytes_of(sock, before))
    if counted:
        traffic(fd)
    try:
        local = name_of(sock)
        if not peer:
            peer = peer_of(sock)
    except OSError:  # gone already
        return None
    port = local[1] if protocol != "unix" else 0
    made = Connection(protocol, port, address_text(peer) or _who(sock, protocol))
    while len(connections) >= _REMEMBERED:
        connections.pop(next(iter(connections)), None)
    _count += 1
    made.number = _count
    connections[fd] = made
    own(made, fd, sock)
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


def own(made: Connection, fd: int, sock: Any) -> None:
    try:
        made.owner = owner = _Owner(sock, _dropped)
    except TypeError:  # a plain `_socket.socket`
        made.owner = None
    else:
        owner.fd, owner.number = fd, made.number


def _dropped(owner: Any) -> None:
    """A socket went without being closed."""
    made = connections.get(owner.fd)
    if made is not None and made.number == owner.number:
        del connections[owner.fd]
        _patch.run(_tell_dropped, made, None, "network: socket dropped")


def _tell_dropped(made: Connection, _: Any) -> None:
    _watch.emit(ResourceLeaked, "connection", 1, **header(made))


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


def address_text(address: Any) -> str:
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
        found = option_of(sock, names.SOL_SOCKET, names.SO_PEERCRED, 12)
    except OSError:
        return ""
    return f"pid {int.from_bytes(found[:4], byteorder)}"


# -- errors ----------------------------------------------------------------------------------


def hashable(address: Any) -> Any:
    return address_text(address) or repr(address)


def tell_error(operation: str, where: str, error: Any, address: Any = None, **header: Any) -> None:
    retries = 0
    if operation == "connect":
        key = hashable(address)
        retries = failures.pop(key, 0)
        while len(failures) >= _REMEMBERED:
            failures.pop(next(iter(failures)), None)
        failures[key] = retries + 1
    _watch.emit(NetworkError, f"{operation} {where}: {_words(error)}", retries, **header)


def _words(error: Any) -> str:
    if isinstance(error, OSError) and error.errno is not None and not error.strerror:
        from os import strerror

        return f"[Errno {error.errno}] {strerror(error.errno)}"
    return str(error) or type(error).__name__


# -- ending ----------------------------------------------------------------------------------

_tcp_info = Struct("=B127xQ8xI52xQQ")
"""Of Linux's `struct tcp_info`: tcpi_state, tcpi_bytes_received, tcpi_notsent_bytes,
tcpi_bytes_sent, tcpi_bytes_retrans."""
_CLOSED_STATE = 7
_AFTER_FIN = frozenset((6, 8, 9, 11))
"""States in which the end of the other side's data was received, which counts as a byte."""


def bytes_of(sock: Any, made: Connection) -> tuple[int, int]:
    """What the program sent and the kernel received."""
    if made.protocol not in ("tcp", "tls"):
        return traffic(fd_of(sock)) if counted else (made.sent, made.received)
    size = _tcp_info.size
    try:
        info = option_of(sock, names.IPPROTO_TCP, names.TCP_INFO, size)
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
    poll.register(fd_of(sock), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def tell_closed(made: Connection, sent: int, received: int) -> None:
    lasted = (monotonic_ns() - made.began_ns) / 1e6 if made.began_ns else 0.0
    _watch.emit(ConnectionClosed, sent, received, lasted, **header(made))


def header(made: Connection) -> dict[str, Any]:
    """What happens to a connection belongs to the chain that it was made in."""
    return {"parent": made.event, "causality_id": made.chain} if made.event else {}
