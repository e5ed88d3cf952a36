"""Watches messages between processes: `multiprocessing`'s connections, queues and pools.

The bytes are sent as they are. The session's links table knows a message by the pipe it went
through and a digest of its bytes; who receives it finds the sender's chain there. Between
`Client` and `Listener` (managers) both ends of a socket have nothing in common that kobs could
look up: such messages are told, their cause is not carried.

Part of the `queue` subsystem.
"""

import os
import weakref
from _thread import get_ident, get_native_id
from stat import S_ISFIFO
from typing import Any

from kobs.context import Cause, cause, origin
from kobs.handover import Sent
from kobs.payloads import MessageSent
from kobs_instrumentation import propagate
from kobs_instrumentation.watch import _sends
from kobs_instrumentation.watch._patch import Patcher, caller_of_hook
from kobs_instrumentation.watch._watch import Watch, words_of
from kobs_instrumentation.watch.queue import received, tell_timeout

_REMEMBERED = 65_536
_WHOLE = 65_536
"""Longest message that is digested whole."""


class _Put:
    """An object put into a queue, which the queue's feeder thread sends later."""

    __slots__ = ("queue", "sent", "tid", "words")

    def __init__(self, queue: Any, sent: Sent) -> None:
        self.queue = weakref.ref(queue)
        self.sent = sent
        self.tid = get_native_id()
        self.words: dict[str, Any] = {}
        """Those of the observed call that put it and leaves the telling to us."""

    def is_fed_here(self) -> bool:
        """This thread is the feeder of the queue."""
        feeder = getattr(self.queue(), "_thread", None)
        return feeder is not None and feeder.ident == get_ident()


class MessageHooks:
    """The hooks; their events go where the watch sends them."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.putting: dict[int, list[_Put]] = {}
        """By identity of the object."""
        self.pickled: dict[int, tuple[Sent, int, dict[str, Any]]] = {}
        """By thread: (send, thread that did it, its words) of what the thread has just pickled."""
        self.last: dict[int, Sent] = {}
        """By thread: the send of the message that it received last."""
        self.jobs: dict[int, tuple[Cause | None, str]] = {}
        """By number: who gave a pool its job."""
        self.pairs: dict[int, int] = {}
        """By inode: what the two ends of a socket pair have in common."""

    # -- queues, whose objects a feeder thread pickles and sends

    def before_put(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        obj = args[1] if len(args) > 1 else kwargs["obj"]
        timeout = args[3] if len(args) > 3 else kwargs.get("timeout")
        while len(self.putting) >= _REMEMBERED:
            self.putting.pop(next(iter(self.putting)), None)
        by = propagate.take_sender(obj)
        put = _Put(args[0], _sends.send_now(self.watch.any_collector(), by))
        call = self.watch.call_saying(MessageSent)
        if call is not None:
            put.words = words_of(call)
            call.tell()
        self.putting.setdefault(id(obj), []).append(put)
        return args[0], obj, put, timeout

    def put_failed(self, state: tuple[Any, Any, _Put, Any], error: BaseException) -> None:
        queue, obj, put, timeout = state
        self._forget(id(obj), put)
        tell_timeout(self._identity(queue._writer)[0], timeout, error, "Full")

    def before_dumps(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        obj = args[1] if len(args) > 1 else kwargs["obj"]
        for put in self.putting.get(id(obj), ()):
            if put.is_fed_here():
                self._forget(id(obj), put)
                return put.sent, put.tid, put.words
        by = self._job_of(obj)
        if by is None:
            return None
        return _sends.send_now(self.watch.any_collector(), by), get_native_id(), {}

    def after_dumps(self, sender: tuple[Sent, int, dict[str, Any]], _: Any) -> None:
        self.pickled[get_ident()] = sender

    def before_get(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        timeout = args[2] if len(args) > 2 else kwargs.get("timeout")
        return args[0], timeout

    def after_get(self, _: Any, item: Any) -> None:
        sent = self.last.pop(get_ident(), None)
        if sent is not None and (type(item).__name__ == "_CallItem" or _is_task(item)):
            origin.set(sent.origin)  # executors and pools work on their submitters' behalf

    def get_failed(self, state: tuple[Any, Any], error: BaseException) -> None:
        queue, timeout = state
        tell_timeout(self._identity(queue._reader)[0], timeout, error, "Empty")

    def _forget(self, key: int, put: _Put) -> None:
        waiting = self.putting.get(key, [])
        if put in waiting:
            waiting.remove(put)
        if not waiting:
            self.putting.pop(key, None)

    # -- pools, whose tasks a handler thread sends

    def before_job(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[0]

    def after_job(self, result: Any, _: Any) -> None:
        while len(self.jobs) >= _REMEMBERED:
            self.jobs.pop(next(iter(self.jobs)), None)
        self.jobs[result._job] = cause.get(), origin.get()

    def _job_of(self, obj: Any) -> tuple[Cause | None, str] | None:
        return self.jobs.get(obj[0]) if self.jobs and _is_task(obj) else None

    # -- connections

    def before_send(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        connection, message = args[0], args[1]
        collector = self.watch.any_collector()
        if collector is None or collector.closed or _wakes_a_pool():
            return None
        sent, tid, words = self.pickled.pop(get_ident(), (None, 0, {}))
        if sent is None:
            sent, tid = _sends.send_now(collector), get_native_id()
            call = self.watch.call_saying(MessageSent)
            if call is not None:
                words = words_of(call)
                call.tell()
        label, identity = self._identity(connection)
        if identity:
            _sends.leave(collector, _digest(identity, message), sent)
        return sent, tid, words, {"queue_id": label, "size": len(message)}

    def after_send(self, state: tuple[Sent, int, dict[str, Any], dict[str, Any]], _: Any) -> None:
        sent, tid, words, fields = state
        token = origin.set(sent.origin)
        try:
            self.watch.emit_in(words, MessageSent, fields, tid=tid, **_sends.header(sent))
        finally:
            origin.reset(token)

    def before_receive(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return None if _wakes_a_pool() else args[0]

    def after_receive(self, connection: Any, buffer: Any) -> None:
        collector = self.watch.any_collector()
        if collector is None or collector.closed:
            return
        label, identity = self._identity(connection)
        with buffer.getbuffer() as message:
            size = len(message)
            key = _digest(identity, message) if identity else b""
        sent = _sends.find(collector, key) if key else None
        received(label, size, sent)
        if sent is None:
            self.last.pop(get_ident(), None)
        else:
            self.last[get_ident()] = sent

    def before_pipe(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return True if (args[0] if args else kwargs.get("duplex", True)) else None

    def after_pipe(self, _: Any, ends: Any) -> None:
        """The ends of a socket pair have nothing in common but that they were made together."""
        inodes = [os.fstat(end.fileno()).st_ino for end in ends]
        collector = self.watch.any_collector()
        for inode in inodes:
            self.pairs[inode] = min(inodes)
            if collector is not None and collector.session is not None:
                collector.session.put_link(b"socket %d" % inode, Cause(0, min(inodes)), 0)

    def _identity(self, connection: Any) -> tuple[str, int]:
        """A name for a connection, and what both its ends have in common (0: nothing known)."""
        try:
            found = os.fstat(connection.fileno())
        except (OSError, ValueError):
            return "connection", 0
        if S_ISFIFO(found.st_mode):
            return f"pipe-{found.st_ino}", found.st_ino
        pair = self.pairs.get(found.st_ino)
        if pair is None:
            pair = self.pairs[found.st_ino] = self._pair_of(found.st_ino)
        return f"socket-{pair or found.st_ino}", pair

    def _pair_of(self, inode: int) -> int:
        collector = self.watch.any_collector()
        if collector is None or collector.session is None:
            return 0
        record = collector.session.peek_link(b"socket %d" % inode)
        return record.parent if record is not None else 0


_WAKES = frozenset(
    (
        "_ThreadWakeup.wakeup", "_ThreadWakeup.clear",
        "_PoolCache.__delitem__", "Pool._wait_for_updates",
    )
)  # fmt: skip
"""Functions of pools that wake a thread of their own by a message."""


def _wakes_a_pool() -> bool:
    """For a hook of a connection: the message is for a pool's own thread, and says nothing."""
    frame = caller_of_hook()
    for _ in range(4):  # the connection's method, the queue's, its stand-in
        if frame is None:
            return False
        if frame.f_code.co_qualname in _WAKES:
            return True
        frame = frame.f_back
    return False


def _is_task(obj: Any) -> bool:
    """What a `Pool` sends its workers: (job, index, function, arguments, keyword arguments)."""
    return (
        type(obj) is tuple
        and len(obj) == 5
        and type(obj[0]) is int
        and callable(obj[2])
        and type(obj[4]) is dict
    )


def _digest(identity: int, message: Any) -> bytes:
    """The key of a message: its pipe and its bytes; of a long one its length, begin and end."""
    from _blake2 import blake2b

    size = len(message)
    digest = blake2b(b"%d %d " % (identity, size), digest_size=16)
    if size <= _WHOLE:
        digest.update(message)
    else:
        digest.update(message[: _WHOLE // 2])
        digest.update(message[-_WHOLE // 2 :])
    return digest.digest()


def patch(patcher: Patcher, hooks: MessageHooks) -> None:
    """Put the hooks in place, in modules that are there or when they are imported."""

    def queues(module: Any) -> None:
        for queue in (module.Queue, module.JoinableQueue):
            patcher.method(queue, "put", hooks.before_put, failed=hooks.put_failed)
        patcher.method(module.Queue, "get", hooks.before_get, hooks.after_get, hooks.get_failed)
        patcher.method(module.SimpleQueue, "get", hooks.before_get, hooks.after_get)

    def connections(module: Any) -> None:
        connection = module.Connection
        patcher.method(connection, "_send_bytes", hooks.before_send, hooks.after_send)
        patcher.method(connection, "_recv_bytes", hooks.before_receive, hooks.after_receive)
        patcher.method(module, "Pipe", hooks.before_pipe, hooks.after_pipe)

    def reduction(module: Any) -> None:
        patcher.method(module.ForkingPickler, "dumps", hooks.before_dumps, hooks.after_dumps)

    def pool(module: Any) -> None:
        for result in (module.ApplyResult, module.IMapIterator):
            patcher.method(result, "__init__", hooks.before_job, hooks.after_job)

    patcher.when_imported("multiprocessing.queues", queues)
    patcher.when_imported("multiprocessing.connection", connections)
    patcher.when_imported("multiprocessing.reduction", reduction)
    patcher.when_imported("multiprocessing.pool", pool)
