"""Watches queues: what is sent and received, how long it waited, and which send a receive had.

`queue.Queue` and its kind, `asyncio.Queue` and its kind, and what `multiprocessing` sends through
its queues and connections. Nothing is put around an item: in a process a side table knows it by
its identity while it waits, between processes the session's table knows a message by a digest of
its bytes. `queue.SimpleQueue` is a C type: the Python core cannot see it.
"""

import os
import weakref
from _thread import get_ident, get_native_id
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

from kobs.context import origin
from kobs.payloads import IpcTimeout, MessageReceived, MessageSent, QueueDepth
from kobs_instrumentation import propagate
from kobs_instrumentation.watch import _sends
from kobs_instrumentation.watch._patch import Patcher, method, nothing
from kobs_instrumentation.watch._sends import Send
from kobs_instrumentation.watch._watch import GetCollector, Undo, Watch

UNREACHABLE = ("queue.SimpleQueue",)
"""What this watch cannot see with the Python core."""

_NAMED = 1000
"""Queues that get a name; later ones are told by number, so that names do not fill a recording."""

_PENDING = 65_536
"""Sends that are remembered a queue; beyond that the oldest are forgotten."""


class Pending:
    """The sends into one in-process queue that were not received yet, by identity of the item."""

    __slots__ = ("items", "label", "level", "order", "queue")

    def __init__(self, queue: Any, number: int) -> None:
        kind = type(queue).__name__
        self.queue = weakref.ref(queue, _forget(id(queue)))
        self.label: str | int = f"{kind}-{number}" if number <= _NAMED else number
        self.items: dict[int, list[Send]] = {}
        self.order = (
            "any" if "Priority" in kind else "last" if _is_a(queue, "LifoQueue") else "first"
        )
        self.level = 0

    def add(self, item: Any, send: Send) -> None:
        """Remember a send."""
        while len(self.items) >= _PENDING:
            self.items.pop(next(iter(self.items)), None)
        self.items.setdefault(id(item), []).append(send)

    def remove(self, item: Any, send: Send) -> None:
        """Forget a send that did not happen."""
        waiting = self.items.get(id(item), [])
        if send in waiting:
            waiting.remove(send)
        if not waiting:
            self.items.pop(id(item), None)

    def take(self, item: Any) -> Send | None:
        """The send of a received item; None if it is not known, or not which one of several."""
        waiting = self.items.get(id(item))
        if not waiting:
            return None
        if len(waiting) == 1:
            self.items.pop(id(item), None)
            return waiting[0]
        if self.order == "any":
            waiting.pop(0)
            return None
        return waiting.pop(0 if self.order == "first" else -1)


_queues: dict[int, Pending] = {}
_count = 0


def _forget(key: int) -> Callable[[Any], None]:
    def forget(_: Any) -> None:
        _queues.pop(key, None)

    return forget


def _is_a(queue: Any, name: str) -> bool:
    return any(base.__name__ == name for base in type(queue).__mro__)


def _pending(queue: Any) -> Pending:
    global _count
    found = _queues.get(id(queue))
    if found is None or found.queue() is not queue:
        _count += 1
        found = _queues[id(queue)] = Pending(queue, _count)
    return found


def _received(label: str | int, size: int, send: Send | None) -> None:
    wait_us = 0.0
    if send is not None and send.timestamp_ns:
        wait_us = max(0.0, (monotonic_ns() - send.timestamp_ns) / 1e3)
    event = _watch.emit(MessageReceived, label, size, wait_us, **_sends.received_header(send))
    _sends.adopt(send, event)


# -- queues in this process ------------------------------------------------------------------


def _before_put(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    queue = args[0]
    item = args[1] if len(args) > 1 else kwargs["item"]
    timeout = args[3] if len(args) > 3 else kwargs.get("timeout")
    pending = _pending(queue)
    send = Send.now()
    pending.add(item, send)
    return pending, item, send, timeout


def _after_put(state: tuple[Pending, Any, Send, Any], _: Any) -> None:
    pending, _item, send, _timeout = state
    _watch.emit(MessageSent, pending.label, 0, **send.sent_header())
    _tell_depth(pending)


def _put_failed(state: tuple[Pending, Any, Send, Any], error: BaseException) -> None:
    pending, item, send, timeout = state
    pending.remove(item, send)
    _tell_timeout(pending.label, timeout, error, "Full")


def _before_get(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    timeout = args[2] if len(args) > 2 else kwargs.get("timeout")
    return _pending(args[0]), timeout


def _after_get(state: tuple[Pending, Any], item: Any) -> None:
    pending, _ = state
    _received(pending.label, 0, pending.take(item))
    _tell_depth(pending)


def _get_failed(state: tuple[Pending, Any], error: BaseException) -> None:
    pending, timeout = state
    _tell_timeout(pending.label, timeout, error, "Empty")


def _tell_timeout(label: str | int, timeout: Any, error: BaseException, expected: str) -> None:
    if timeout is not None and type(error).__name__ == expected:
        _watch.emit(IpcTimeout, label, float(timeout) * 1e3)


def _tell_depth(pending: Pending) -> None:
    """Tell the depth where it has doubled since told last, is full, or has fallen to a quarter."""
    queue: Any = pending.queue()
    items = queue.queue if hasattr(queue, "queue") else getattr(queue, "_queue", ())
    depth = len(items)
    told = pending.level
    capacity = max(0, int(getattr(queue, "maxsize", 0) or getattr(queue, "_maxsize", 0) or 0))
    rises = depth >= max(8, 2 * told) or (capacity and depth == capacity != told)
    falls = told and depth <= told // 4
    if rises or falls:
        pending.level = depth
        _watch.emit(QueueDepth, pending.label, depth, capacity)


# -- messages between processes --------------------------------------------------------------


_Put = tuple[Send, int]
"""(the send, the thread that did it) of an object that a queue's feeder thread sends later."""

_putting: dict[int, list[_Put]] = {}
"""By identity of the object."""
_feeding: dict[int, tuple[Send | None, int]] = {}
"""By thread: the send of the object that the thread has just pickled."""
_last: dict[int, Send] = {}
"""By thread: the send of the message that the thread received last."""


def _before_mp_put(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    obj = args[1] if len(args) > 1 else kwargs["obj"]
    timeout = args[3] if len(args) > 3 else kwargs.get("timeout")
    while len(_putting) >= _PENDING:
        _putting.pop(next(iter(_putting)), None)
    put = Send.now(propagate.take_sender(obj)), get_native_id()
    _putting.setdefault(id(obj), []).append(put)
    return args[0], obj, put, timeout


def _mp_put_failed(state: tuple[Any, Any, _Put, Any], error: BaseException) -> None:
    queue, obj, put, timeout = state
    waiting = _putting.get(id(obj), [])
    if put in waiting:
        waiting.remove(put)
    if not waiting:
        _putting.pop(id(obj), None)
    _tell_timeout(_label_and_inode(queue._writer)[0], timeout, error, "Full")


def _before_mp_get(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    timeout = args[2] if len(args) > 2 else kwargs.get("timeout")
    return args[0], timeout


def _after_mp_get(_: Any, item: Any) -> None:
    send = _last.pop(get_ident(), None)
    if send is not None and type(item).__name__ == "_CallItem":
        origin.set(send.origin)  # work for an executor's process is done on its submitter's behalf


def _mp_get_failed(state: tuple[Any, Any], error: BaseException) -> None:
    queue, timeout = state
    _tell_timeout(_label_and_inode(queue._reader)[0], timeout, error, "Empty")


def _before_dumps(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    obj = args[1] if len(args) > 1 else kwargs["obj"]
    waiting = _putting.get(id(obj))
    if not waiting:
        return None
    put = waiting.pop(0)
    if not waiting:
        _putting.pop(id(obj), None)
    return put


def _after_dumps(put: _Put, _: Any) -> None:
    _feeding[get_ident()] = put


def _before_send(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    connection, message = args[0], args[1]
    collector = _watch_collector()
    if collector is None:
        return None
    send, tid = _feeding.pop(get_ident(), (None, 0))
    if send is None:
        send, tid = Send.now(), get_native_id()
    label, inode = _label_and_inode(connection)
    _sends.leave(collector, _digest(inode, message), send)
    return send, tid, label, len(message)


def _after_send(state: tuple[Send, int, str, int], _: Any) -> None:
    send, tid, label, size = state
    token = origin.set(send.origin)
    try:
        _watch.emit(MessageSent, label, size, tid=tid, **send.sent_header())
    finally:
        origin.reset(token)


def _before_receive(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0]


def _after_receive(connection: Any, buffer: Any) -> None:
    collector = _watch_collector()
    if collector is None:
        return
    label, inode = _label_and_inode(connection)
    with buffer.getbuffer() as message:
        size = len(message)
        send = _sends.find(collector, _digest(inode, message))
    _received(label, size, send)
    if send is None:
        _last.pop(get_ident(), None)
    else:
        _last[get_ident()] = send


def _watch_collector() -> Any:
    collector = _watch.any_collector()
    return None if collector is None or collector.closed else collector


def _label_and_inode(connection: Any) -> tuple[str, int]:
    """A name for a connection, and what both its ends have in common (0 for a socket pair)."""
    from stat import S_ISFIFO

    try:
        found = os.fstat(connection.fileno())
    except (OSError, ValueError):
        return "connection", 0
    if S_ISFIFO(found.st_mode):
        return f"pipe-{found.st_ino}", found.st_ino
    return f"socket-{found.st_ino}", 0


_WHOLE = 65_536


def _digest(inode: int, message: Any) -> bytes:
    """The key of a message: its pipe and its bytes; of a long one its length, begin and end."""
    from _blake2 import blake2b

    size = len(message)
    digest = blake2b(b"%d %d " % (inode, size), digest_size=16)
    if size <= _WHOLE:
        digest.update(message)
    else:
        digest.update(message[: _WHOLE // 2])
        digest.update(message[-_WHOLE // 2 :])
    return digest.digest()


# -- where -----------------------------------------------------------------------------------


def _patch(patcher: Patcher) -> None:
    def queues(module: Any) -> None:
        patcher.method(module.Queue, "put", _before_put, _after_put, _put_failed)
        patcher.method(module.Queue, "get", _before_get, _after_get, _get_failed)

    def asyncio_queues(module: Any) -> None:
        patcher.method(module.Queue, "put_nowait", _before_put, _after_put, _put_failed)
        patcher.method(module.Queue, "get_nowait", _before_get, _after_get, _get_failed)

    def multiprocessing_queues(module: Any) -> None:
        patcher.method(module.Queue, "put", _before_mp_put, failed=_mp_put_failed)
        patcher.method(module.Queue, "get", _before_mp_get, _after_mp_get, _mp_get_failed)

    def connections(module: Any) -> None:
        patcher.method(module.Connection, "_send_bytes", _before_send, _after_send)
        patcher.method(module.Connection, "_recv_bytes", _before_receive, _after_receive)

    def reduction(module: Any) -> None:
        dumps = vars(module.ForkingPickler)["dumps"].__func__
        stand_in = method(dumps, _before_dumps, _after_dumps, nothing, "queue.dumps")
        patcher.replace(module.ForkingPickler, "dumps", classmethod(stand_in))

    patcher.when_imported("queue", queues)
    patcher.when_imported("asyncio.queues", asyncio_queues)
    patcher.when_imported("multiprocessing.queues", multiprocessing_queues)
    patcher.when_imported("multiprocessing.connection", connections)
    patcher.when_imported("multiprocessing.reduction", reduction)


_watch = Watch("queue", _patch)


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch queues; returns what takes it back. Without `events` only cause is carried on."""
    return _watch.install(get_collector, events=events)
