"""Sends and receives that the watches see: `kobs.handover`'s, with what only they need."""

from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from kobs.context import Cause, cause, origin
from kobs.handover import Sent
from kobs.ids import mint_id
from kobs.levels import Category

if TYPE_CHECKING:
    from kobs.collector import Collector

_REMEMBERED = 65_536


def send_now(collector: "Collector | None", by: tuple[Cause | None, str] | None = None) -> Sent:
    """A send that happens now, by whoever runs, or by (cause, origin). Outside of any chain it
    begins one: what a worker does for one message is told apart from what it does for another."""
    if by is None:
        sender, scope = cause.get(), origin.get()
    else:
        sender, scope = by
    if sender is None or not sender.causality_id:
        chain = mint_id()
        sampled = True
        if collector is not None and collector.gate.up[0]:
            sampled = collector.gate.sampled(chain, Category.IPC)
        sender = Cause(chain, sender.parent if sender is not None else 0, 0, sampled)
    return Sent(mint_id(), sender, scope, timestamp_ns=monotonic_ns())


def header(sent: Sent) -> dict[str, Any]:
    """Header fields of the event that tells of a send, from whatever thread it is told."""
    by = sent.cause
    return {
        "link": sent.link, "timestamp_ns": sent.timestamp_ns, "causality_id": by.causality_id,
        "parent": by.parent, "span_id": by.span_id,
    }  # fmt: skip


_local: dict[bytes, list[Sent]] = {}
"""Messages between processes where there is no session: a process knows its own."""


def leave(collector: "Collector", key: bytes, sent: Sent) -> None:
    """Let whoever receives the message of this key know of the send."""
    if collector.session is not None:
        collector.session.put_link(key, sent.cause, sent.link, sent.origin)
        return
    while len(_local) >= _REMEMBERED:
        _local.pop(next(iter(_local)), None)
    _local.setdefault(key, []).append(sent)


def find(collector: "Collector", key: bytes) -> Sent | None:
    """The send of a message that was received; None if nobody we know sent it."""
    if collector.session is not None:
        record = collector.session.take_link(key)
        if record is None:
            return None
        return Sent(record.link, record.cause, record.origin, timestamp_ns=record.put_ns)
    waiting = _local.get(key)
    if not waiting:
        return None
    sent = waiting.pop(0)
    if not waiting:
        _local.pop(key, None)
    return sent


def segment_key(name: str) -> bytes:
    """The key under which what was written to a shared memory segment is read."""
    return b"shm " + name.encode(errors="surrogatepass")
