"""What a receiver needs to know of a send: the token, the chain, on whose behalf, and when."""

from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from kobs.context import Cause, cause, origin
from kobs_instrumentation import propagate

if TYPE_CHECKING:
    from kobs.collector import Collector

_REMEMBERED = 65_536


class Send:
    """One send that was not received yet."""

    __slots__ = ("cause", "link", "origin", "timestamp_ns")

    def __init__(
        self, link: int, sender: Cause | None, on_behalf_of: str, timestamp_ns: int
    ) -> None:
        self.link = link
        self.cause = sender
        self.origin = on_behalf_of
        self.timestamp_ns = timestamp_ns
        """On the monotonic clock; 0 where that is not known."""

    @classmethod
    def now(cls, by: tuple[Cause | None, str] | None = None) -> "Send":
        """A send that happens now, by whoever runs, or by (cause, origin)."""
        sender, scope = by or (cause.get(), origin.get())
        return cls(propagate.new_link(), sender, scope, monotonic_ns())

    def sent_header(self) -> dict[str, Any]:
        """Header fields of the event that tells of the send, from whatever thread it is told."""
        by = self.cause or Cause(0, 0)
        return {
            "link": self.link, "timestamp_ns": self.timestamp_ns, "causality_id": by.causality_id,
            "parent": by.parent, "span_id": by.span_id,
        }  # fmt: skip


def received_header(send: Send | None) -> dict[str, Any]:
    """Header fields of a receive. Inside a scope it only gets the link; else it belongs to the
    sender's chain, and what was received before is not its parent."""
    if send is None:
        return {}
    ambient = cause.get()
    if ambient is not None and ambient.in_scope:
        return {"link": send.link}
    chain = send.cause.causality_id if send.cause is not None else 0
    return {"link": send.link, "causality_id": chain, "parent": 0, "span_id": 0}


def adopt(send: Send | None, event: int) -> None:
    """Go on with the sender's chain after a receive, until the next one or the end of the task;
    inside a scope nothing changes. The origin never changes."""
    if send is None:
        return
    ambient = cause.get()
    if ambient is not None and ambient.in_scope:
        return
    by = send.cause or Cause(0, 0)
    cause.set(Cause(by.causality_id, event or by.parent, 0, by.sampled, by.trace_high))


_local: dict[bytes, list[Send]] = {}
"""Messages between processes where there is no session: parent and forked child know none of each
other's, a process knows its own."""


def leave(collector: "Collector", key: bytes, send: Send) -> None:
    """Let whoever receives the message of this key know of the send."""
    if collector.session is not None:
        collector.session.put_link(key, send.cause or Cause(0, 0), send.link, send.origin)
        return
    while len(_local) >= _REMEMBERED:
        _local.pop(next(iter(_local)), None)
    _local.setdefault(key, []).append(send)


def find(collector: "Collector", key: bytes) -> Send | None:
    """The send of a message that was received; None if nobody we know sent it."""
    if collector.session is not None:
        record = collector.session.take_link(key)
        if record is None:
            return None
        return Send(record.link, record.cause, record.origin, getattr(record, "put_ns", 0))
    waiting = _local.get(key)
    if not waiting:
        return None
    send = waiting.pop(0)
    if not waiting:
        _local.pop(key, None)
    return send
