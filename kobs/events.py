"""An event: a header and a typed payload."""

from typing import Any

from kobs.ids import split_id
from kobs.levels import Category, Severity, SyscallResult
from kobs.payloads import *  # noqa: F403  (every payload type is also there by its own name)
from kobs.schema import PayloadType, registered_types

FLAG_TRUNCATED = 1
FLAG_PARTIAL = 2
FLAG_BEGIN = 4
FLAG_END = 8

__all__ = ["Category", "Event", "Payload", "Severity", "SyscallResult"]


class _Payloads:
    """The payload types by name: `Payload.SyscallExit` is `kobs.SyscallExit`; users' own too."""

    def __getattr__(self, name: str) -> type[PayloadType]:
        try:
            return registered_types()[name]
        except KeyError:
            known = ", ".join(sorted(registered_types()))
            raise AttributeError(f"there is no payload type {name!r}; there are {known}") from None

    def __dir__(self) -> list[str]:
        return sorted(registered_types())


Payload = _Payloads()


class _Fields:
    """The storage of `Event`, writable while one is made."""

    __slots__ = (
        "_decoder",
        "_payload",
        "category",
        "causality_id",
        "flags",
        "id",
        "link",
        "origin",
        "parent",
        "pid",
        "severity",
        "span_id",
        "tid",
        "timestamp_ns",
        "type",
    )
    severity: Severity
    category: Category
    type: type[PayloadType]
    pid: int
    tid: int
    timestamp_ns: int
    causality_id: int
    parent: int
    span_id: int
    link: int
    id: int
    flags: int
    origin: str
    _payload: PayloadType | None
    _decoder: Any


class Event(_Fields):
    """Something that happened. Immutable; the builders return new events.

    `pid` is the subject (0: the recording process, filled in when it is emitted), `tid` the
    kernel's id of the thread that emitted it, `timestamp_ns` monotonic nanoseconds (0: now),
    `causality_id` the low 64 bits of the trace id, `parent` the id of the event that caused
    this one, `span_id` the current span, `link` the token that joins a send to its receive,
    `id` where it stands in its recording (0 until it is emitted), `origin` on whose behalf it
    happened (a test).
    """

    __slots__ = ()

    def __init__(
        self,
        severity: Severity,
        category: Category,
        payload: PayloadType,
        *,
        pid: int | None = None,
        tid: int = 0,
        timestamp_ns: int = 0,
        causality_id: int = 0,
        parent: int = 0,
        span_id: int = 0,
        link: int = 0,
    ) -> None:
        if not isinstance(payload, PayloadType):
            raise TypeError(
                f"Event(payload={payload!r}): expected an instance of a payload type, "
                "for instance ProcessCreated(name='sh', priority=5)"
            )
        store = object.__setattr__
        store(self, "severity", Severity(severity))
        store(self, "category", Category(category))
        store(self, "type", type(payload))
        store(self, "pid", pid or 0)
        store(self, "tid", tid)
        store(self, "timestamp_ns", timestamp_ns)
        store(self, "causality_id", causality_id)
        store(self, "parent", parent)
        store(self, "span_id", span_id)
        store(self, "link", link)
        store(self, "id", 0)
        store(self, "flags", 0)
        store(self, "origin", "")
        store(self, "_payload", payload)
        store(self, "_decoder", None)

    @property
    def payload(self) -> Any:
        """The typed payload."""
        payload = self._payload
        if payload is None:
            decode = self._decoder
            if decode is None:  # another thread, or a signal handler, did it meanwhile
                return self._payload
            payload = decode()
            object.__setattr__(self, "_payload", payload)
            object.__setattr__(self, "_decoder", None)
        return payload

    @property
    def type_name(self) -> str:
        """Name of the payload type."""
        return self.type.__kobs_schema__.name

    @property
    def truncated(self) -> bool:
        """Text in the payload was cut."""
        return bool(self.flags & FLAG_TRUNCATED)

    @property
    def partial(self) -> bool:
        """Its chain was sampled out or thinned; it was kept for its severity."""
        return bool(self.flags & FLAG_PARTIAL)

    @property
    def recording(self) -> int:
        """Number of its recording in the session."""
        return split_id(self.id)[0]

    @property
    def name(self) -> str | None:
        """What it happened to: the payload's name, operation, queue, path ...; None without."""
        field = self.type.__kobs_schema__.name_field
        return None if field is None else str(getattr(self.payload, field))

    @property
    def duration_us(self) -> float | None:
        """How long it took, in microseconds; None where its type has no duration."""
        field = self.type.__kobs_schema__.duration_field
        if field is None:
            return None
        value = float(getattr(self.payload, field))
        return value * 1000.0 if field.endswith("_ms") else value

    def with_pid(self, pid: int) -> "Event":
        """This event about another process."""
        return self._with(pid=pid)

    def with_causality(self, causality_id: int) -> "Event":
        """This event in another chain."""
        return self._with(causality_id=causality_id)

    def with_parent(self, parent: int) -> "Event":
        """This event with another cause."""
        return self._with(parent=parent)

    def with_severity(self, severity: Severity) -> "Event":
        """This event with another severity."""
        return self._with(severity=Severity(severity))

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON can write it; ids and counts are numbers, the payload nested."""
        return {
            "id": self.id,
            "type": self.type_name,
            "timestamp_ns": self.timestamp_ns,
            "severity": self.severity.name,
            "category": self.category.name,
            "pid": self.pid,
            "tid": self.tid,
            "causality_id": self.causality_id,
            "parent": self.parent,
            "span_id": self.span_id,
            "link": self.link,
            "origin": self.origin,
            "truncated": self.truncated,
            "partial": self.partial,
            "payload": self.payload.to_dict(),
        }

    def _with(self, **changes: Any) -> "Event":
        copy = object.__new__(Event)
        for field in _Fields.__slots__:
            object.__setattr__(copy, field, changes.get(field, getattr(self, field)))
        return copy

    def _key(self) -> tuple[Any, ...]:
        return (
            self.id, self.severity, self.category, self.pid, self.tid, self.timestamp_ns,
            self.causality_id, self.parent, self.span_id, self.link, self.origin, self.flags,
        )  # fmt: skip

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Event.{name} is read-only; the with_... methods make changed copies")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Event.{name} is read-only")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return self._key() == other._key() and self.payload == other.payload

    def __hash__(self) -> int:
        return hash((self.id, self.timestamp_ns, self.type))

    def __repr__(self) -> str:
        extra = "".join(
            f" {label}={value:#x}"
            for label, value in (
                ("causality", self.causality_id),
                ("parent", self.parent),
                ("link", self.link),
            )
            if value
        )
        return (
            f"<Event {self.severity.name} {self.category.name} {self.payload!r} "
            f"pid={self.pid}{extra}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        _ = self.payload
        return _restore, (tuple(getattr(self, field) for field in _Fields.__slots__),)


def _restore(values: tuple[Any, ...]) -> Event:
    event = object.__new__(Event)
    for field, value in zip(_Fields.__slots__, values, strict=True):
        object.__setattr__(event, field, value)
    return event
