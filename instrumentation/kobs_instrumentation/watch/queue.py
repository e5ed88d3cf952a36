"""Watches queues: what is sent and received, how long it waited, and which send a receive had.

`queue.Queue` and its kind, `asyncio.Queue` and its kind; those of `multiprocessing` are in
`messages`. Nothing is put around an item: a side table knows it by its identity while it waits.
`queue.SimpleQueue` is a C type: the Python core cannot see it. Those that pools use inside are not
told: what is given to a pool is work, not a message.

With the C core a put and a get are seen by the hooks of its `queue_call.c`, twins of those here,
which go on where a call is unusual: inside an observed call that may say the same, and for the
depth where there is one to tell.
"""

import weakref
from collections.abc import Callable
from time import monotonic_ns
from types import MethodDescriptorType
from typing import Any

import kobs.collector
from kobs import handover, inside
from kobs._core import hooking
from kobs.context import Cause, cause, origin
from kobs.handover import Sent
from kobs.payloads import IpcTimeout, MessageReceived, MessageSent, QueueDepth
from kobs_instrumentation.watch import _arguments, _patch, _sends
from kobs_instrumentation.watch._patch import Patcher, caller_of_hook
from kobs_instrumentation.watch._watch import AimedWatch, Always, GetCollector, Undo, words_of

UNREACHABLE = ("queue.SimpleQueue",)
"""What this watch cannot see with the Python core."""

_POOLS = frozenset(
    ("concurrent.futures.thread", "concurrent.futures.process", "multiprocessing.pool")
)

_MISSING = object()

_NAMED = 1000
"""Queues that get a name; later ones are told by number, so that names do not fill a recording."""

_SHALLOW = 8
"""Fewer items are not told as a depth, unless the queue is full with them."""

_PENDING = 65_536
"""Sends that are remembered a queue; beyond that the oldest are forgotten."""


class Pending:
    """The sends into one in-process queue that were not received yet, by identity of the item.
    The C core's twin is `letters.c`."""

    __slots__ = ("items", "label", "level", "order", "queue")

    def __init__(self, queue: Any, number: int) -> None:
        self.queue = weakref.ref(queue, _forget(id(queue)))
        self.label = _label_of(queue, number)
        self.items: dict[int, list[Sent]] = {}
        self.order = _order_of(queue)
        self.level = 0

    def add(self, item: Any, sent: Sent) -> None:
        """Remember a send."""
        items = self.items
        while len(items) >= _PENDING:
            items.pop(next(iter(items)), None)
        waiting = items.get(id(item))
        if waiting is None:
            items[id(item)] = [sent]
        else:
            waiting.append(sent)

    def remove(self, item: Any, sent: Sent) -> None:
        """Forget a send that did not happen."""
        waiting = self.items.get(id(item), [])
        if sent in waiting:
            waiting.remove(sent)
        if not waiting:
            self.items.pop(id(item), None)

    def take(self, item: Any) -> Sent | None:
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


_queues: dict[int, Any] = {}
"""`Pending`, or the C core's `Letters`, by identity of the queue."""
_count = 0
_native: Any = None
"""What the hooks of the C core have in common; None with the Python core."""


def _forget(key: int) -> Callable[[Any], None]:
    take = _queues.pop  # the module's names may be gone when the interpreter ends

    def forget(_: Any) -> None:
        found = take(key, None)
        if _native is not None:
            _native.forget(found)

    return hooking.unseen(forget)


def _is_a(queue: Any, name: str) -> bool:
    return any(base.__name__ == name for base in type(queue).__mro__)


def _label_of(queue: Any, number: int) -> str | int:
    return f"{type(queue).__name__}-{number}" if number <= _NAMED else number


def _order_of(queue: Any) -> str:
    if "Priority" in type(queue).__name__:
        return "any"
    return "last" if _is_a(queue, "LifoQueue") else "first"


def _pending(queue: Any) -> Any:
    global _count
    found = _queues.get(id(queue))
    if found is None or found.queue() is not queue:
        _count += 1
        made = Pending if hooking.native is None else _letters
        found = _queues[id(queue)] = made(queue, _count)
    return found


def called(queue: Any) -> tuple[str | int, bool]:
    """What events call a queue of this process, and whether it gives first what was put first."""
    return _pending(queue).label, _order_of(queue) == "first"


def _letters(queue: Any, number: int) -> Any:
    """`Pending` in the C core."""
    return hooking.native.Letters(
        queue=weakref.ref(queue, _forget(id(queue))), label=_label_of(queue, number),
        order=_order_of(queue), limit=_PENDING, make_sent=_sent, cause_type=Cause,
    )  # fmt: skip


def _sent(link: int, sender: Cause, scope: str, timestamp_ns: int) -> Sent:
    return Sent(link, sender, scope, timestamp_ns=timestamp_ns)


def received(label: str | int, size: int, sent: Sent | None) -> None:
    """Record a receive, and continue the sender's chain. An observed call that says it too tells
    it on its return, when it knows what was received, unless its event is needed as a cause
    before."""
    wait_us = 0.0
    if sent is not None and sent.timestamp_ns:
        wait_us = max(0.0, (monotonic_ns() - sent.timestamp_ns) / 1e3)
    header = handover.header(sent)
    call = _watch.call_saying(MessageReceived) if MessageReceived in inside.said else None
    if call is None:
        handover.adopt(sent, 0)  # what was decided of the sender's chain holds for this event too
        handover.adopt(sent, _watch.emit(MessageReceived, label, size, wait_us, **header))
        return
    words = {"queue_id": words_of(call).get("queue_id", label)}
    fields = {"queue_id": label, "size": size, "wait_time_us": wait_us}
    ambient = cause.get()
    header = {
        "timestamp_ns": monotonic_ns(),
        "causality_id": ambient.causality_id if ambient is not None else 0,
        "parent": ambient.parent if ambient is not None else 0,
        "span_id": ambient.span_id if ambient is not None else 0,
        **header,
    }

    def tell() -> int:
        event = _watch.emit_in(words, MessageReceived, fields, **header)
        if then is not None:
            inside.restore(held, then._replace(parent=event or then.parent))
        return event

    then: Cause | None = None
    held = inside.Held(tell, sent=sent)
    call.hold(held)
    handover.adopt(sent, 0)
    adopted = cause.get()
    if adopted is not None and adopted is not ambient:
        then = adopted
        cause.set(inside.Arriving.of(adopted, held))


# -- queues in this process ------------------------------------------------------------------


def _before_put(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _of_pool():
        return None
    timeout = args[3] if len(args) > 3 else kwargs.get("timeout")
    return _put(args[0], _item(args, kwargs), timeout)


def _of_pool() -> bool:
    """For a hook: a pool calls, for a queue of its own."""
    caller = caller_of_hook()
    return caller is not None and caller.f_globals.get("__name__") in _POOLS


def _item(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[1] if len(args) > 1 else kwargs.get("item", _MISSING)


def _put(queue: Any, item: Any, timeout: Any) -> Any:
    if item is _MISSING:
        return None  # the call will fail
    pending = _pending(queue)
    sent = _sends.send_now(_watch.any_collector())
    pending.add(item, sent)
    return pending, item, sent, timeout


def _after_put(state: tuple[Pending, Any, Sent, Any], _: Any) -> None:
    pending, _item, sent, _timeout = state
    if MessageSent in inside.said:
        fields = {"queue_id": pending.label, "size": 0}
        _watch.tell(MessageSent, fields, once=False, **_sends.header(sent))
    else:
        emitter = _watch.emitter(MessageSent)
        if emitter is not None:
            by = sent.cause
            emitter(
                pending.label, 0, link=sent.link, timestamp_ns=sent.timestamp_ns,
                causality_id=by.causality_id, parent=by.parent, span_id=by.span_id,
            )  # fmt: skip
    _tell_depth(pending)


def _put_failed(state: tuple[Pending, Any, Sent, Any], error: BaseException) -> None:
    pending, item, sent, timeout = state
    pending.remove(item, sent)
    tell_timeout(pending.label, timeout, error, "Full")


def _before_get(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _of_pool():
        return None
    timeout = args[2] if len(args) > 2 else kwargs.get("timeout")
    return _pending(args[0]), timeout


def _after_get(state: tuple[Pending, Any], item: Any) -> None:
    pending, _ = state
    received(pending.label, 0, pending.take(item))
    _tell_depth(pending)


def _get_failed(state: tuple[Pending, Any], error: BaseException) -> None:
    pending, timeout = state
    tell_timeout(pending.label, timeout, error, "Empty")


def tell_timeout(label: str | int, timeout: Any, error: BaseException, expected: str) -> None:
    if timeout is not None and type(error).__name__ == expected:
        fields = {"queue_id": label, "timeout_ms": float(timeout) * 1e3}
        _watch.hold(IpcTimeout, fields, words=("queue_id",))


def _tell_depth(pending: Pending) -> None:
    """Tell the depth where it has doubled since told last, is full, or has fallen to a quarter."""
    queue: Any = pending.queue()
    items = _arguments.own(queue, "queue")
    if items is None:
        items = _arguments.own(queue, "_queue")
    depth = _simple_depth(queue) if items is None else _arguments.count_of(items)
    if depth is None:  # a kind that keeps its items elsewhere
        return
    told = pending.level
    capacity = _capacity(queue)
    if depth < _SHALLOW and not told and (not depth or depth != capacity):
        return
    rises = depth >= max(_SHALLOW, 2 * told) or (capacity and depth == capacity != told)
    falls = told and depth <= told // 4
    if rises or falls:
        pending.level = depth
        now = cause.get()
        # A depth is seen, not caused: it does not need a receive that is held to be told.
        header = {"parent": Cause(*now).parent} if isinstance(now, inside.Arriving) else {}
        _watch.emit(QueueDepth, _label(pending), depth, capacity, **header)


def _capacity(queue: Any) -> int:
    """How many a queue takes; 0 where that is not limited, or not known."""
    most = _arguments.own(queue, "maxsize")
    if most is None:
        most = _arguments.own(queue, "_maxsize")
    return most if type(most) is int and most > 0 else 0


def _simple_depth(queue: Any) -> int | None:
    """Of a SimpleQueue: asked of its own C type (each import of the module makes one), whatever a
    subclass makes of it."""
    for base in type(queue).__mro__:
        if type(qsize := vars(base).get("qsize")) is MethodDescriptorType:
            depth: int = qsize(queue)
            return depth
    return None


def _label(pending: Pending) -> str | int:
    """What a queue is called: by the observed call that is using it, else by number."""
    collector = _watch.collector()
    if collector is not None:
        for call in inside.calls_saying((MessageSent, MessageReceived), collector):
            label: str | int = words_of(call).get("queue_id", pending.label)
            return label
    return pending.label


# -- where -----------------------------------------------------------------------------------


class _QueueWatch(AimedWatch):
    """The C core's hooks are told where events go, whenever that changes."""

    def __init__(self) -> None:
        super().__init__("queue", _patch_all)
        self._aimed: Any = None

    def _choose(self) -> None:
        self._prepare()
        super()._choose()

    def _prepare(self) -> None:
        global _native
        if hooking.native is None or _native is not None:
            return
        _native = hooking.native.QueueWatch(
            cause=cause, cause_type=Cause, origin=origin.variable, origin_used=origin.used,
            queues=_queues, make=_pending, said=inside.said, sends=MessageSent,
            receives=MessageReceived, pools=_POOLS, passed_over=_patch.__name__,
            passed_file=_patch.STAND_IN, put=_put, put_done=_after_put, received=received,
            tell_depth=_tell_depth, timed_out=tell_timeout, tell=self.aim_failed,
        )  # fmt: skip

    def aim(self) -> None:
        if _native is None:
            return
        collector = self.collector()
        any_collector = self.any_collector()
        self._aimed = collector, any_collector
        if collector is None or collector.closed:
            emitters: tuple[Any, ...] = None, None, None
        else:
            told = MessageSent, MessageReceived, QueueDepth
            emitters = tuple(collector.emitter(payload) for payload in told)
        chains: tuple[Any, Any] = None, None
        if any_collector is not None and not any_collector.closed:
            chains = any_collector.gate.decider(), any_collector.gate.up
        _native.aim(*emitters, *chains, None if self._is_told() else self._ask)

    def _is_told(self) -> bool:
        """Whoever watches has one collector, or the process-wide one, and of that we are told."""
        told = kobs.collector.global_collector
        return all(get is told or type(get) is Always for get, _ in self._installs)

    def _ask(self) -> None:
        if (self.collector(), self.any_collector()) != self._aimed:
            self.aim()


def _method(patcher: Patcher, owner: Any, name: str, *, puts: bool, timeout_at: int) -> None:
    """Hook a method in Python. `timeout_at`: among its arguments; -1 where it never waits."""
    if hooking.native is None:
        hooks = (
            (_before_put, _after_put, _put_failed)
            if puts
            else (_before_get, _after_get, _get_failed)
        )
        patcher.method(owner, name, *hooks)
        return

    def stand_in(original: Any, live: list[bool]) -> Any:
        return hooking.native.QueueMethod(
            original=original, watch=_native, puts=puts, timeout_at=timeout_at, live=live,
            where=f"{patcher.where}.{name}",
        )  # fmt: skip

    patcher.stand_in(owner, name, stand_in)


def _c_method(patcher: Patcher, owner: Any, name: str, *, puts: bool, timeout_at: int) -> None:
    if hooking.native is not None:
        hook = hooking.native.QueueHook(
            watch=_native, puts=puts, timeout_at=timeout_at, measure=vars(owner)["qsize"],
            where=f"{patcher.where}.{owner.__name__}.{name}",
        )  # fmt: skip
        patcher.hook(vars(owner).get(name), hook)


def _patch_all(patcher: Patcher) -> None:
    def queues(module: Any) -> None:
        _method(patcher, module.Queue, "put", puts=True, timeout_at=2)
        _method(patcher, module.Queue, "get", puts=False, timeout_at=1)

    def simple_queues(module: Any) -> None:
        for name in ("put", "put_nowait"):  # takes a timeout as `Queue` does, and never waits
            _c_method(patcher, module.SimpleQueue, name, puts=True, timeout_at=-1)
        for name in ("get", "get_nowait"):
            _c_method(patcher, module.SimpleQueue, name, puts=False, timeout_at=1)

    def asyncio_queues(module: Any) -> None:
        _method(patcher, module.Queue, "put_nowait", puts=True, timeout_at=-1)
        _method(patcher, module.Queue, "get_nowait", puts=False, timeout_at=-1)

    def messages(_: Any) -> None:
        from kobs_instrumentation.watch import messages

        messages.patch(patcher, messages.MessageHooks(_watch))

    patcher.when_imported("queue", queues)
    patcher.when_imported("_queue", simple_queues)
    patcher.when_imported("asyncio.queues", asyncio_queues)
    patcher.when_imported("multiprocessing.connection", messages)


_watch = _QueueWatch()


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch queues; returns what takes it back. Without `events` only cause is carried on."""
    return _watch.install(get_collector, events=events)
