"""What was begun and has not ended, what was sent and nobody has received: told while it lasts."""

from collections.abc import Callable, Iterable
from time import monotonic_ns
from typing import TYPE_CHECKING, NamedTuple

from kobs.errors import ConfigError
from kobs.events import FLAG_BEGIN, FLAG_END, Event
from kobs.payloads import IpcTimeout, OperationSlow, SyscallSlow
from kobs.schema import PayloadType, registered_types

if TYPE_CHECKING:
    from kobs.collector import Collector

_SENDS = {"MessageSent": "queue_id", "PipeWritten": "pipe_id"}
_RECEIVES = frozenset({"MessageReceived", "PipeRead"})


class Timeout(NamedTuple):
    """Something that has been waiting for too long."""

    payload: PayloadType
    """`IpcTimeout` for a send, `SyscallSlow` for a system call, else `OperationSlow`."""
    cause: int
    """Id of the begin or the send."""
    causality_id: int
    pid: int
    waited_ms: float
    """How long it has been waiting, so far."""
    id: int
    """Id of the event that tells it; 0 where there is no collector to tell it to."""


class _Waiting(NamedTuple):
    """A begin without its end, or a send without its receive."""

    event: int
    timestamp_ns: int
    causality_id: int
    span_id: int
    pid: int
    type_name: str
    subject: int | str


class TimeoutObserver:
    """Finds operations that do not end and messages that nobody takes.

    With a collector, `check()` reads what is new there, looks at its in-flight table, and emits
    one event for each thing that has waited for longer than it may, caused by the begin or the
    send, once: `IpcTimeout` for a message or bytes in a pipe (sends that carry a link token),
    `SyscallSlow` for a system call, `OperationSlow` for any other scope, with the allowed time
    as `p99_ms`. What is told may still end later; it is not told again.

    Without one, `observe` is given the events, and `check` returns what it finds and emits
    nothing: for events of a recording.

    Where events were lost, the receives of what waited before may be among them: those sends
    are forgotten and counted (`unsure`), never told. At most `capacity` sends and begins are
    remembered; of more, the oldest are forgotten (`unsure` too). Call `check` from wherever it
    suits, about as often as half the shorter time allowed: kobs starts no thread for it.
    """

    def __init__(
        self,
        collector: "Collector | None" = None,
        *,
        ipc_timeout_ms: float = 1000.0,
        operation_timeout_ms: float = 1000.0,
        capacity: int = 4096,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        self.ipc_timeout_ms = _milliseconds(ipc_timeout_ms, "ipc_timeout_ms")
        self.operation_timeout_ms = _milliseconds(operation_timeout_ms, "operation_timeout_ms")
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise ConfigError(f"capacity={capacity!r}: expected an int, 1 or more")
        self.unsure = 0
        """Sends and begins that were forgotten without a verdict."""
        self._capacity = capacity
        self._clock = clock
        self._sends: dict[int, _Waiting] = {}
        self._begins: dict[int, _Waiting] = {}
        self._told: set[int] = set()
        self._lost = 0
        self._collector = collector
        self._subscriber = None if collector is None else collector.subscribe(oldest=True)

    def observe(self, event: Event) -> None:
        """Take in an event: a send, a receive, a begin or an end."""
        if event.link:
            if event.type_name in _SENDS:
                subject = getattr(event.payload, _SENDS[event.type_name])
                self._remember(self._sends, event.link, event, subject)
            elif event.type_name in _RECEIVES:
                self._sends.pop(event.link, None)
        if event.flags & FLAG_BEGIN and self._collector is None:
            self._remember(self._begins, event.id, event, event.name or event.type_name)
        elif event.flags & FLAG_END:
            self._begins.pop(event.parent, None)

    def check(self, *, now_ns: int | None = None) -> list[Timeout]:
        """Everything that has waited for too long by now and was not told yet, the longest
        first; it is told to the collector too. `now_ns`: the moment (default: the clock)."""
        self._read()
        now = self._clock() if now_ns is None else now_ns
        begins = list(self._open())
        self._told &= {begin.event for begin in begins}
        found: list[Timeout] = []
        for begin in begins:
            waited = (now - begin.timestamp_ns) / 1e6
            if waited >= self.operation_timeout_ms and begin.event not in self._told:
                self._told.add(begin.event)
                found.append(self._tell(begin, self._slow(begin, waited), waited))
        for token, send in list(self._sends.items()):
            waited = (now - send.timestamp_ns) / 1e6
            if waited >= self.ipc_timeout_ms:
                del self._sends[token]
                payload = IpcTimeout(send.subject, self.ipc_timeout_ms)
                found.append(self._tell(send, payload, waited))
        found.sort(key=lambda timeout: -timeout.waited_ms)
        return found

    @property
    def waiting(self) -> int:
        """Sends without a receive and begins without an end that are known now."""
        return len(self._sends) + sum(1 for _ in self._open())

    def close(self) -> None:
        """Stop reading the collector. Twice is once."""
        if self._subscriber is not None:
            self._subscriber.close()

    def __enter__(self) -> "TimeoutObserver":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- below: how -------------------------------------------------------------------------

    def _read(self) -> None:
        subscriber = self._subscriber
        if subscriber is None or subscriber.closed:
            return
        while (event := subscriber.next()) is not None:
            self._forget_if_lost(subscriber.lost)
            self.observe(event)
        self._forget_if_lost(subscriber.lost)

    def _forget_if_lost(self, lost: int) -> None:
        if lost != self._lost:
            self._lost = lost
            self.unsure += len(self._sends)
            self._sends.clear()

    def _open(self) -> Iterable[_Waiting]:
        """The begins without an end: the collector's own table knows best, it loses none."""
        collector = self._collector
        if collector is None:
            return self._begins.values()
        if collector.closed:
            return ()
        entries = collector.open_events()
        if not entries:
            return ()
        names = {cls.__kobs_schema__.type_id: name for name, cls in registered_types().items()}
        return [
            _Waiting(
                entry.event,
                entry.timestamp_ns,
                entry.causality_id,
                entry.span_id,
                entry.pid,
                names.get(entry.type_id, "?"),
                collector.ring.string(entry.name) if entry.name else names.get(entry.type_id, "?"),
            )
            for entry in entries
        ]

    def _remember(
        self, where: dict[int, _Waiting], key: int, event: Event, subject: int | str
    ) -> None:
        if len(where) >= self._capacity:
            where.pop(next(iter(where)))
            self.unsure += 1
        where[key] = _Waiting(
            event.id, event.timestamp_ns, event.causality_id, event.span_id, event.pid,
            event.type_name, subject,
        )  # fmt: skip

    def _slow(self, begin: _Waiting, waited_ms: float) -> PayloadType:
        cls = SyscallSlow if begin.type_name == "SyscallEnter" else OperationSlow
        return cls(str(begin.subject), waited_ms, self.operation_timeout_ms)

    def _tell(self, waiting: _Waiting, payload: PayloadType, waited_ms: float) -> Timeout:
        event = 0
        if self._collector is not None and not self._collector.closed:
            event = self._collector.emit(
                payload,
                pid=waiting.pid,
                causality_id=waiting.causality_id,
                parent=waiting.event,
                span_id=waiting.span_id,
            )
        return Timeout(payload, waiting.event, waiting.causality_id, waiting.pid, waited_ms, event)


def _milliseconds(given: object, name: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < 1e15:
        raise ConfigError(f"{name}={given!r}: expected a number of milliseconds, above 0")
    return float(given)
