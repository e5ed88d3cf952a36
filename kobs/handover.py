"""How a cause crosses from who sends to who receives, without touching what is sent.

A send registers a token under a key that the receiver will know too (the identity of a queue
item, a digest of a message's bytes); the receive looks the key up. Both events carry the token
as `event.link`.

    store = handover.store_of(collector)
    token = store.send(key)                     # before the message can be received
    store.sent(token, emit_sent(..., link=token))
    ...
    sent = store.receive(key)                   # None: nobody known sent it
    event = emit_received(..., **handover.header(sent))
    handover.adopt(sent, event)

Keys that are tuples stay in the process (identities mean nothing elsewhere); keys that are bytes
go through the session's table where there is one, so that other processes find them.
"""

import os
import threading
import weakref
from itertools import count
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from kobs.context import Cause, cause, origin
from kobs.ids import event_id

if TYPE_CHECKING:
    from kobs.collector import Collector

Key = bytes | tuple[Any, ...]

LIMIT = 65_536
"""Most sends that a store holds; the oldest are forgotten."""

_LINK_LANE = 3  # no lane of a ring has this number: a token is never an event's id


class Sent:
    """One send: what its receiver needs to know of it."""

    __slots__ = ("ambiguous", "cause", "key", "link", "origin", "timestamp_ns")

    def __init__(
        self, link: int, sender: Cause, origin: str, *, timestamp_ns: int = 0, key: Key = ()
    ) -> None:
        self.link = link
        """The token that both events carry."""
        self.cause = sender
        """The sender's chain; its `parent` is the send event, once that is made."""
        self.origin = origin
        self.timestamp_ns = timestamp_ns
        """When it was sent, on the monotonic clock; 0 if unknown."""
        self.key = key
        self.ambiguous = False
        """Other sends under the same key were pending: this may be the wrong one of them."""

    def __repr__(self) -> str:
        return f"<Sent {self.link:#x} in chain {self.cause.causality_id:#x}>"


class LinkStore:
    """The sends of a process that nobody received yet, oldest forgotten past `limit`."""

    def __init__(self, collector: "Collector | None" = None, *, limit: int = LIMIT) -> None:
        self._collector = weakref.ref(collector) if collector is not None else lambda: None
        self._by_key: dict[Key, list[Sent]] = {}
        self._by_link: dict[int, Sent] = {}
        self._limit = limit
        self._lock = threading.Lock()

    def send(
        self,
        key: Key,
        sender: Cause | None = None,
        on_behalf_of: str | None = None,
        *,
        shared: bool = False,
    ) -> int:
        """Register a send under `key`; its token. The cause and origin are the ambient ones
        unless given. `shared`: many may receive it, and it replaces what was sent before under
        the key (a place in memory, not a message)."""
        collector = self._collector()
        sender = sender if sender is not None else cause.get() or Cause(0, 0)
        recording = collector.recording if collector is not None else 1
        sent = Sent(
            event_id(recording, _LINK_LANE, next(_tokens)),
            sender,
            on_behalf_of if on_behalf_of is not None else origin.get(),
            timestamp_ns=monotonic_ns(),
            key=key,
        )
        with self._lock:
            waiting = self._by_key.get(key, ()) if shared else ()
            for before in tuple(waiting):
                self._forget(before)
            self._by_key.setdefault(key, []).append(sent)
            self._by_link[sent.link] = sent
            if len(self._by_link) > self._limit:
                self._forget(next(iter(self._by_link.values())))
        session = collector.session if collector is not None else None
        if session is not None and isinstance(key, bytes):
            session.put_link(key, sender, sent.link, sent.origin)
        return sent.link

    def sent(self, link: int, event: int) -> None:
        """Say which event the send with this token was."""
        sent = self._by_link.get(link)
        if sent is not None and event:
            sent.cause = sent.cause._replace(parent=event)

    def withdraw(self, link: int) -> None:
        """The send did not happen after all."""
        with self._lock:
            sent = self._by_link.get(link)
            if sent is not None:
                self._forget(sent)

    def forget(self, key: Key) -> None:
        """Nobody can receive under `key` any more."""
        with self._lock:
            for sent in tuple(self._by_key.get(key, ())):
                self._forget(sent)

    def receive(self, key: Key, *, shared: bool = False) -> Sent | None:
        """The oldest send under `key` that nobody received yet (`shared`: the newest, which
        stays); None if none is known."""
        collector = self._collector()
        session = collector.session if collector is not None else None
        record = None
        if session is not None and isinstance(key, bytes):  # the one truth among processes
            record = session.peek_link(key) if shared else session.take_link(key)
        with self._lock:
            waiting = self._by_key.get(key)
            own = self._by_link.get(record.link) if record is not None else None
            if own is None and record is None and waiting:
                own = waiting[-1 if shared else 0]
            if own is not None:
                own.ambiguous = len(self._by_key[own.key]) > 1
                if not shared:
                    self._forget(own)
                return own
        if record is None:
            return None
        return Sent(record.link, record.cause, record.origin, key=key)

    def __len__(self) -> int:
        return len(self._by_link)

    def _forget(self, sent: Sent) -> None:
        self._by_link.pop(sent.link, None)
        waiting = self._by_key[sent.key]
        waiting.remove(sent)
        if not waiting:
            del self._by_key[sent.key]


def store_of(collector: "Collector") -> LinkStore:
    """The link store of a collector."""
    store = _stores.get(collector)
    if store is None:
        store = _stores.setdefault(collector, LinkStore(collector))
    return store


def header(sent: Sent | None) -> dict[str, Any]:
    """Header fields of the receive event. Inside a scope it only gets the link; else it belongs
    to the sender's chain, and no earlier receive is its parent."""
    if sent is None:
        return {}
    ambient = cause.get()
    if ambient is not None and ambient.in_scope:
        return {"link": sent.link}
    return {
        "link": sent.link,
        "causality_id": sent.cause.causality_id,
        "parent": 0,
        "span_id": 0,
    }


def adopt(sent: Sent | None, event: int) -> None:
    """Continue the sender's chain after the receive event (0: after the send), until the next
    receive; inside a scope nothing changes. The origin never changes."""
    if sent is None:
        return
    ambient = cause.get()
    if ambient is not None and ambient.in_scope:
        return
    by = sent.cause
    before = by.parent  # asked in any case: where that is a receive that is held, it is told
    cause.set(Cause(by.causality_id, event or before, 0, by.sampled, by.trace_high))


_tokens = count(1)
_stores: "weakref.WeakKeyDictionary[Collector, LinkStore]" = weakref.WeakKeyDictionary()


def _after_fork() -> None:
    for store in list(_stores.values()):
        store._lock = threading.Lock()  # a thread that is not here may have held it


os.register_at_fork(after_in_child=_after_fork)
