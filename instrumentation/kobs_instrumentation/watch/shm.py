"""Watches shared memory: `multiprocessing.shared_memory`.

Segments are told when they are made, mapped, unmapped and unlinked, and those that nobody had
unlinked when the program ended. Who maps a segment continues the chain of who made it: the
session's links table knows it by the segment's name. What is read and written through `shm.buf`
is plain memory, which nothing can see; the items of a `ShareableList` are methods.
"""

import atexit
import os
import sys
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from kobs import handover
from kobs.context import Cause, cause
from kobs.errors import SessionError
from kobs.payloads import (
    MemoryAllocated,
    MemoryFreed,
    ResourceLeaked,
    ShmCreated,
    ShmDestroyed,
    ShmRead,
    ShmWritten,
)
from kobs_instrumentation.watch import _patch as patching, _sends
from kobs_instrumentation.watch._patch import Patcher
from kobs_instrumentation.watch._sends import segment_key
from kobs_instrumentation.watch._watch import GetCollector, Undo, Watch

if TYPE_CHECKING:
    from kobs.collector import Collector

UNREACHABLE = ("reads and writes through SharedMemory.buf",)
"""What this watch cannot see, with either core."""

_FOLDER = "/dev/shm"
_LEFT_KEYS = 64
"""Under so many keys processes leave what they did not unlink for the first one to look after."""
_KNOWN = 4096
"""Segments that are remembered until they are unlinked; beyond that the oldest are forgotten."""
_NAMED = 100
"""Leaked segments that are told by name; the others are counted, so that names do not fill a
recording."""
_TOGETHER_NS = 10_000_000
"""Items of a `ShareableList` are told together where they are read or written this soon after one
another, in one chain."""


class _Segment:
    """A segment that this process has made."""

    __slots__ = ("causality_id", "event", "pid", "where")

    def __init__(self, event: int, causality_id: int, where: str) -> None:
        self.event = event
        self.causality_id = causality_id
        self.where = where
        self.pid = os.getpid()


_segments: dict[str, _Segment] = {}
"""By name: what this process has made and did not unlink."""


# -- making, mapping, unmapping, unlinking ----------------------------------------------------


def _before_init(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    create = args[2] if len(args) > 2 else kwargs.get("create", False)
    return args[0], bool(create)


def _after_init(state: tuple[Any, bool], _: Any) -> None:
    shm, created = state
    collector = _watch.any_collector()
    if collector is None or collector.closed:
        return
    if created:
        _tell_created(collector, shm.name, shm.size)
    else:
        _tell_mapped(collector, shm.name, shm.size)


def _tell_created(collector: "Collector", name: str, size: int) -> None:
    store = handover.store_of(collector)
    sender = _sends.send_now(collector).cause  # outside of any chain it begins one
    link = store.send(_made_key(name), sender, shared=True)
    event = _watch.tell(
        ShmCreated,
        {"name": name, "size": size},
        fits=_says(name),
        link=link,
        **_in_chain(sender),
    )
    store.sent(link, event)
    _watch.emit(MemoryAllocated, size, name, **{**_in_chain(sender), "parent": event})
    while len(_segments) >= _KNOWN:
        _segments.pop(next(iter(_segments)), None)
    _segments[name] = _Segment(event, sender.causality_id, _caller())


def _tell_mapped(collector: "Collector", name: str, size: int) -> None:
    """Mapping is no receive: it is linked to the making, and moves no cause that there is."""
    sent = handover.store_of(collector).receive(_made_key(name), shared=True)
    if sent is None or cause.get() is not None:
        link = sent.link if sent is not None else 0
        _watch.emit(MemoryAllocated, size, name, link=link)
    else:
        event = _watch.emit(MemoryAllocated, size, name, **handover.header(sent))
        handover.adopt(sent, event)


def _made_key(name: str) -> bytes:
    return b"made " + segment_key(name)


def _before_close(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    shm = args[0]
    return (shm.name, shm.size) if shm._mmap is not None else None


def _after_close(state: tuple[str, int], _: Any) -> None:
    name, size = state
    for accesses in (_reads, _writes):
        accesses.end(name)
    _watch.emit(MemoryFreed, size, name)


def _before_unlink(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0].name


def _after_unlink(name: str, _: Any) -> None:
    _segments.pop(name, None)
    collector = _watch.any_collector()
    if collector is not None:
        handover.store_of(collector).forget(_made_key(name))
    _watch.tell(ShmDestroyed, {"name": name}, fits=_says(name))


def _says(name: str) -> Callable[[dict[str, Any]], bool]:
    """Whether an observed call speaks of this segment, or does not say yet of which."""
    return lambda words: words.get("name", name) == name


def _in_chain(sender: Cause) -> dict[str, Any]:
    return {
        "causality_id": sender.causality_id,
        "parent": sender.parent,
        "span_id": sender.span_id,
    }


def _caller() -> str:
    """Where in the program a segment is made."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in _NOT_THE_PROGRAM and not frame.f_code.co_filename.startswith("<kobs"):
            return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


_NOT_THE_PROGRAM = ("kobs", "kobs_instrumentation", "multiprocessing")


# -- items of a ShareableList ------------------------------------------------------------------


class _Accesses:
    """Reads or writes of items, told together where they follow one another closely."""

    def __init__(self, cls: type[ShmRead] | type[ShmWritten]) -> None:
        self.cls = cls
        self.due: dict[str, tuple[int, int, int]] = {}
        """By segment: (when the next is told, the chain of the last, the write it was of)."""
        self.untold: dict[str, int] = {}
        """By segment: bytes that were not told yet."""

    def add(self, name: str, size: int) -> None:
        """An item was accessed."""
        now_ns = monotonic_ns()
        ambient = cause.get()
        chain = ambient.causality_id if ambient is not None else 0
        due_ns, last, link = self.due.get(name, (0, -1, 0))
        collector = _watch.any_collector()
        if collector is None or collector.closed:
            return
        if now_ns < due_ns and chain == last and not self.is_news(collector, name, link):
            self.untold[name] = self.untold.get(name, 0) + size
            return
        if _watch.call_saying(self.cls, _says(name)) is not None:
            return  # the observed call tells it, and hands the cause on
        size += self.untold.pop(name, 0)
        link = self.tell(collector, name, size)
        ambient = cause.get()
        chain = ambient.causality_id if ambient is not None else 0
        self.due[name] = (monotonic_ns() + _TOGETHER_NS, chain, link)

    def is_news(self, collector: "Collector", name: str, link: int) -> bool:
        """What is read now was written after what was read last."""
        if self.cls is ShmWritten:
            return False
        sent = handover.store_of(collector).receive(segment_key(name), shared=True)
        return sent is not None and sent.link != link

    def tell(self, collector: "Collector", name: str, size: int) -> int:
        """Tell of an access, and hand the cause on to readers, or take it from a writer; the link
        between the two."""
        store, key = handover.store_of(collector), segment_key(name)
        if self.cls is ShmWritten:
            sender = _sends.send_now(collector).cause  # outside of any chain it begins one
            link = store.send(key, sender, shared=True)
            store.sent(link, _watch.emit(ShmWritten, name, size, link=link, **_in_chain(sender)))
            return link
        sent = store.receive(key, shared=True)
        handover.adopt(sent, _watch.emit(ShmRead, name, size, **handover.header(sent)))
        return sent.link if sent is not None else 0

    def end(self, name: str) -> None:
        """Tell what is left of a segment."""
        self.due.pop(name, None)
        size = self.untold.pop(name, 0)
        if size:
            _watch.emit(self.cls, name, size)

    def end_all(self) -> None:
        """Tell what is left of every segment."""
        for name in list(self.due):
            self.end(name)


def _before_item(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0].shm._name


def _after_read(name: str, value: Any) -> None:
    _reads.add(name.lstrip("/"), _size_of(value))


def _before_write(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0].shm._name, args[2]


def _after_write(state: tuple[str, Any], _: Any) -> None:
    name, value = state
    _writes.add(name.lstrip("/"), _size_of(value))


def _size_of(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    return len(value) if isinstance(value, bytes) else 8


# -- what nobody unlinks -----------------------------------------------------------------------


class _End:
    """What is told when the process ends."""

    first = True
    """No watched process has started this one: what the others leave is told here."""
    pid = 0


def started_by_another() -> None:
    """A watched process has started this one: it tells what is left at the end."""
    _End.first = False


def at_end() -> None:
    """The process ends: tell the segments that it made and nobody has unlinked, or leave them for
    the first process to look after: another may still unlink them."""
    try:
        _look_for_leaks()
    except SessionError:
        pass  # the program has deleted the session, or given away the right to it
    except Exception as error:  # an exit function's would be printed
        patching.on_error("shm.at_end", error)


def _look_for_leaks() -> None:
    collector = _watch.collector()
    if collector is None or collector.closed:
        return
    _reads.end_all()
    _writes.end_all()
    pid = os.getpid()
    left = [
        (name, segment.where, segment.event, segment.causality_id)
        for name, segment in _segments.items()
        if segment.pid == pid and _exists(name)
    ]
    _segments.clear()
    session = collector.session
    if _End.first and _End.pid == pid:
        left += [found for found in _left_by_others(collector) if _exists(found[0])]
        _tell_leaked(left)
    elif session is not None:
        for name, where, event, causality_id in left:
            session.put_link(_left_key(name), Cause(causality_id, event), 0, f"{name}\n{where}")


def _left_by_others(collector: "Collector") -> list[tuple[str, str, int, int]]:
    found: list[tuple[str, str, int, int]] = []
    session = collector.session
    if session is None or session.recordings_begun() < 2:
        return found  # there are no others
    for number in range(_LEFT_KEYS):
        while (record := session.take_link(b"shm left %d" % number)) is not None:
            name, _, where = record.origin.partition("\n")
            found.append((name, where, record.parent, record.causality_id))
    return found


def _left_key(name: str) -> bytes:
    return b"shm left %d" % (sum(os.fsencode(name)) % _LEFT_KEYS)


def _tell_leaked(left: list[tuple[str, str, int, int]]) -> None:
    for name, where, event, causality_id in left[:_NAMED]:
        header = {"parent": event, "causality_id": causality_id}
        _watch.emit(ResourceLeaked, f"shared memory {name} made at {where}", 1, **header)
    if len(left) > _NAMED:
        _watch.emit(ResourceLeaked, "shared memory", len(left) - _NAMED)


def _exists(name: str) -> bool:
    return not os.path.isdir(_FOLDER) or os.path.exists(os.path.join(_FOLDER, name))


# -- where -----------------------------------------------------------------------------------


def _patch(patcher: Patcher) -> None:
    _End.pid = os.getpid()

    def shared_memory(module: Any) -> None:
        shm, items = module.SharedMemory, module.ShareableList
        patcher.method(shm, "__init__", _before_init, _after_init)
        patcher.method(shm, "close", _before_close, _after_close)
        patcher.method(shm, "unlink", _before_unlink, _after_unlink)
        patcher.method(items, "__getitem__", _before_item, _after_read)
        patcher.method(items, "__setitem__", _before_write, _after_write)

    patcher.when_imported("multiprocessing.shared_memory", shared_memory)
    atexit.register(at_end)
    patcher.on_undo(lambda: atexit.unregister(at_end))
    patcher.on_undo(_reads.end_all)
    patcher.on_undo(_writes.end_all)


_reads, _writes = _Accesses(ShmRead), _Accesses(ShmWritten)
_watch = Watch("shm", _patch)


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch shared memory; returns what takes it back. Without `events` only cause is carried
    on."""
    return _watch.install(get_collector, events=events)
