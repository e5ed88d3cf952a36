"""Sending: what waits for a receiver in which batches, and what became of it."""

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from kobs.context import EXPORT_ORIGIN, origin
from kobs.export.otlp_encode import Item, encode_request
from kobs.export.otlp_transport import Transport
from kobs.muted import muted

BATCH = 512
"""Spans or log records that are sent together, or a few more: fewer than `A_FEW`."""
A_FEW = 32
LARGEST = 2 << 20
"""Bytes of a request, where its objects are not each that large: receivers take 4 MiB."""
_TRIES = 3

Where = dict[int, list[int]]
"""How far the recordings were read: one past the last ticket, by recording and lane."""


class Sent(NamedTuple):
    """What became of a round of sending."""

    taken: int = 0
    failed: int = 0
    where: Where | None = None
    """Everything up to there was taken, or failed for good."""
    open_of: frozenset[int] = frozenset()
    """So were the spans that were open in these recordings."""
    reason: str = ""
    """Why something failed or waits."""

    def plus(self, other: "Sent") -> "Sent":
        """This round and a later one."""
        return Sent(
            self.taken + other.taken, self.failed + other.failed,
            other.where or self.where, self.open_of | other.open_of, other.reason or self.reason,
        )  # fmt: skip


class Outbox(Protocol):
    """What one signal waits in for its receiver."""

    waiting: int
    """Objects that were not taken yet."""

    @property
    def gathered(self) -> int:
        """Objects that are not in a batch yet."""
        ...

    @property
    def full(self) -> bool:
        """Nothing more is to be read before something was taken."""
        ...

    def seal(self, where: Where, open_of: frozenset[int] = frozenset()) -> None:
        """Make batches of what was gathered; `where` is how far that reaches, `open_of` the
        recordings of which it has all spans that were open at their end."""
        ...

    def send(self, until: float | None = None, *, hurry: bool = False) -> Sent:
        """Send what waits, until the receiver does not take a batch, or to a monotonic time.
        `hurry`: now, even if a wait that nobody but this process asked for is not over."""
        ...

    def due_in_s(self) -> float:
        """How long until trying again makes sense."""
        ...

    def clear(self) -> int:
        """Give up what waits; how much that was."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...

    def forget(self) -> None:
        """In a forked child: what waits is the parent's to send, and so is the connection."""
        ...


class _Request(NamedTuple):
    body: bytes
    number: int
    where: Where | None
    open_of: frozenset[int]


class WireOutbox:
    """Requests that kobs encodes itself, for a transport."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._items: list[Item] = []
        self._requests: deque[_Request] = deque()
        self.waiting = 0
        self.gathered = 0

    def add(self, item: Item) -> None:
        """Let one or more encoded objects wait."""
        self._items.append(item)
        self.gathered += item.number
        self.waiting += item.number

    @property
    def full(self) -> bool:
        return bool(self._requests)

    def seal(self, where: Where, open_of: frozenset[int] = frozenset()) -> None:
        items, self._items, self.gathered = self._items, [], 0
        if not items:
            return
        begin = size = 0
        for index, item in enumerate(items):
            if size and size + len(item.data) > LARGEST:
                self._request(items[begin:index], None, frozenset())
                begin, size = index, 0
            size += len(item.data)
        self._request(items[begin:], where, open_of)

    def send(self, until: float | None = None, *, hurry: bool = False) -> Sent:
        sent = Sent()
        transport = self.transport
        while self._requests:
            now = time.monotonic()
            if now < transport.not_before and not (hurry and not transport.told_to_wait):
                break
            left = None if until is None else max(0.01, until - now)
            body, count, where, open_of = self._requests[0]
            outcome = transport.send(body, left)
            sent = sent.plus(Sent(reason=outcome.reason))
            if outcome.verdict == "away":
                break
            rejected = min(outcome.rejected, count)
            taken = count - rejected if outcome.verdict == "taken" else 0
            self._requests.popleft()
            self.waiting -= count
            sent = sent.plus(Sent(taken, count - taken, where, open_of))
        return sent

    def due_in_s(self) -> float:
        return max(0.0, self.transport.not_before - time.monotonic())

    def clear(self) -> int:
        given_up, self.waiting = self.waiting, 0
        self._items, self.gathered = [], 0
        self._requests.clear()
        return given_up

    def close(self) -> None:
        self.transport.close()

    def forget(self) -> None:
        self.clear()
        self.transport.forget()

    def _request(self, items: list[Item], where: Where | None, open_of: frozenset[int]) -> None:
        count = sum(item.number for item in items)
        self._requests.append(_Request(encode_request(items), count, where, open_of))


class _Batch:
    """Objects that go together, and how often they were refused."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.failures = 0
        self.taken_before = 0
        """How many batches the receiver had taken when this one failed first."""


class ObjectOutbox:
    """Objects of OpenTelemetry's SDK, for one of its exporters.

    An exporter does not say why it did not take a batch: it is kept and tried again later, and
    others meanwhile, for it may be the batch that is at fault. One that is refused three times
    while others are taken is given up.
    """

    def __init__(self, exporter: Any) -> None:
        self.exporter = exporter
        self._items: list[Any] = []
        self._batches: deque[_Batch] = deque()
        self._taken = 0
        self.waiting = 0

    def add(self, item: Any) -> None:
        """Let an object wait."""
        self._items.append(item)
        self.waiting += 1

    @property
    def gathered(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        return self.waiting > BATCH

    def seal(self, where: Where, open_of: frozenset[int] = frozenset()) -> None:
        for begin in range(0, len(self._items), BATCH):
            self._batches.append(_Batch(self._items[begin : begin + BATCH]))
        self._items = []

    def send(self, until: float | None = None, *, hurry: bool = False) -> Sent:
        taken = failed = 0
        while self._batches:
            batch = self._batches.popleft()
            if succeeded(self.exporter, batch.items):
                self._taken += 1
                taken += len(batch.items)
                continue
            if not batch.failures:
                batch.taken_before = self._taken
            batch.failures += 1
            if batch.failures >= _TRIES and self._taken > batch.taken_before:
                failed += len(batch.items)
                continue
            self._batches.append(batch)
            break
        self.waiting -= taken + failed
        return Sent(taken, failed, reason="" if taken else f"{type(self.exporter).__name__} failed")

    def due_in_s(self) -> float:
        return 0.0

    def clear(self) -> int:
        given_up, self.waiting = self.waiting, 0
        self._items = []
        self._batches.clear()
        return given_up

    def close(self) -> None:
        self.exporter.shutdown()

    def forget(self) -> None:
        self.clear()


def succeeded(exporter: Any, items: list[Any]) -> bool:
    """The exporter handed the objects over."""
    try:
        return bool(exporter.export(items).name == "SUCCESS")
    except Exception:
        logging.getLogger("kobs").warning("the OTLP exporter raised", exc_info=True)
        return False


@contextmanager
def quietly(*, foreign: bool = False) -> Iterator[None]:
    """Export without being traced: neither by kobs's watches nor by OpenTelemetry's instrumentors.
    A `foreign` exporter may make spans or events of its own: their origin says whose they are.
    (Else it is left alone: once it was used every event asks for it.)"""
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    with muted(), suppress_instrumentation():
        if not foreign:
            yield
            return
        token = origin.set(EXPORT_ORIGIN)
        try:
            yield
        finally:
            origin.reset(token)
