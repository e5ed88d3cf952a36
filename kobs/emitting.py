"""How events go into a collector: the fast path, the general one, scopes, chains."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from kobs._core import select
from kobs._core.contract import Ring
from kobs._core.layout import FLAG_BEGIN, FLAG_END, MIN_SLOTS
from kobs.context import cause
from kobs.emitters import BeginEmitter, Emitter, Rewire, ThreadIds, make_emitter
from kobs.errors import FieldTypeError
from kobs.events import Event
from kobs.gate import DurationWatch, Gate
from kobs.hiding import Hiding
from kobs.ids import mint_id
from kobs.levels import Severity, SyscallResult
from kobs.payloads import (
    ContextSwitch,
    MemoryPressure,
    OperationSlow,
    ProcessCreated,
    ProcessTerminated,
    ResourceReclaimed,
    SyscallExit,
)
from kobs.schema import PayloadType
from kobs.straight import makes, takes_payload

_PRESSURE = ((75, Severity.WARN), (90, Severity.ERROR))
"""Memory pressure above so many percent has this severity."""


class OpenScope(NamedTuple):
    """A begin event without its end: what `emit_end` needs."""

    event: int
    """Id of the begin event; 0 if it was sampled out, or lost."""
    entry: int
    """Its entry in the in-flight table; -1 for none."""


class Emitting:
    """The producers' half of a collector. `gate`, `durations`, `emitters` and `threads` are for
    kobs's own modules."""

    __slots__ = ("__dict__", "__weakref__", "emitters")

    ring: Ring
    """The core's ring; for kobs's own modules."""

    def __init__(
        self, gate: Gate, durations: DurationWatch, pid: int, hiding: Hiding | None = None
    ) -> None:
        self._hiding = hiding
        self.gate = gate
        self.durations = durations
        self._pid = pid
        self.threads = [ThreadIds()]
        self._rewirings: list[Rewire] = []
        self.emitters: dict[type[PayloadType], Emitter] = {}
        self.begin_emitters: dict[type[PayloadType], BeginEmitter] = {}

    @takes_payload
    def emit(
        self,
        event: Event | PayloadType,
        *,
        pid: int | None = None,
        tid: int | None = None,
        severity: Severity | None = None,
        category: int | None = None,
        causality_id: int | None = None,
        parent: int | None = None,
        span_id: int | None = None,
        link: int = 0,
        timestamp_ns: int | None = None,
        flags: int = 0,
    ) -> int:
        """Record an event, or a payload with the severity and category of its type.

        Returns the event's id, 0 if it was not recorded (sampled out, or lost and counted).
        What is not given comes from the event, then from the ambient cause. Raises
        `FieldError` for a header or payload value that does not fit.
        """
        if isinstance(event, Event):
            payload: PayloadType = event.payload
            pid = pid if pid is not None else event.pid or None
            tid = tid if tid is not None else event.tid or None
            severity = event.severity if severity is None else severity
            category = event.category if category is None else category
            causality_id = causality_id if causality_id is not None else event.causality_id or None
            parent = parent if parent is not None else event.parent or None
            span_id = span_id if span_id is not None else event.span_id or None
            link = link or event.link
            timestamp_ns = timestamp_ns or event.timestamp_ns or None
        elif isinstance(event, PayloadType):
            payload = event
        else:
            raise FieldTypeError(
                f"emit({event!r}): expected an Event or a payload, "
                "for instance ProcessCreated(name='sh', priority=5)"
            )
        cls = type(payload)
        emitter = self._emitter(cls)
        # With the Python core: the half of the emitter that takes all of these.
        return getattr(emitter, "general", emitter)(
            *[getattr(payload, name) for name in cls.__kobs_schema__.field_names],
            pid=pid, tid=tid, severity=severity, category=category, causality_id=causality_id,
            parent=parent, span_id=span_id, link=link, timestamp_ns=timestamp_ns, flags=flags,
        )  # fmt: skip

    def emitter(self, cls: type[PayloadType]) -> Emitter:
        """The fast path: a callable that takes the fields of `cls`, and header fields
        (`pid`, `severity`, `link`, `parent`, `causality_id`, `span_id`, ...) by keyword,
        and returns the event's id."""
        made = self.emitters.get(cls)
        if made is not None:
            return made
        if not (isinstance(cls, type) and issubclass(cls, PayloadType)):
            raise FieldTypeError(
                f"emitter({cls!r}): expected a payload type, for instance kobs.SyscallExit"
            )
        made = self.emitters[cls] = self._made(cls, begins=False)
        return made

    def begin_emitter(self, cls: type[PayloadType]) -> BeginEmitter:
        """As `emitter`, for events that open a scope: it returns the event's id and the entry in
        the in-flight table, which `ring.close_entry` takes."""
        made = self.begin_emitters.get(cls)
        if made is None:
            self.emitter(cls)
            made = self.begin_emitters[cls] = self._made(cls, begins=True)
        return made

    def _made(self, cls: type[PayloadType], *, begins: bool) -> Callable[..., Any]:
        self.gate.refuse_closed()
        schema = cls.__kobs_schema__
        made, rewire = make_emitter(
            schema,
            self.ring,
            self._pid,
            begins=begins,
            gate=self.gate.up,
            threads=self.threads,
            decide=self.gate.decider(),
            hide=self._hiding.of(schema) if self._hiding is not None else None,
            analyse=(
                self.durations.of(schema.name) if "duration_us" in schema.field_names else None
            ),
        )
        self._rewirings.append(rewire)
        return made

    def emit_begin(self, payload: PayloadType, **header: Any) -> OpenScope:
        """Record an event that opens a scope and enter it in the in-flight table until
        `emit_end`, also where the event itself is lost. Takes the header fields of `emit`."""
        cls = type(payload)
        emitter = self.begin_emitters.get(cls) or self.begin_emitter(cls)
        values = [getattr(payload, name) for name in cls.__kobs_schema__.field_names]
        return OpenScope(*emitter(*values, flags=FLAG_BEGIN, **header))

    def emit_end(self, scope: OpenScope, payload: PayloadType, **header: Any) -> int:
        """Record the event that closes a scope; its parent is the begin event."""
        self.ring.close_entry(scope.entry)
        header.setdefault("parent", scope.event or None)
        return self.emit(payload, flags=FLAG_END, **header)

    def emit_causal(self, event: Event | PayloadType) -> int:
        """Record an event as the root of a new chain, or of the current one where a span is
        current; returns the chain's `causality_id`. Sets no ambient context."""
        ambient = cause.get()
        causality_id = ambient.causality_id if ambient is not None else 0
        if not causality_id:
            causality_id = mint_id()
        self.emit(event, causality_id=causality_id)
        return causality_id

    def emit_in_chain(self, event: Event | PayloadType, causality_id: int) -> int:
        """Record an event as part of a chain; returns the event's id."""
        return self.emit(event, causality_id=causality_id)

    def calibrate(self) -> Callable[[], object]:
        """Something that costs what recording an event costs here, and leaves no trace: it
        emits into a small ring of its own."""
        ring = self.ring
        scratch = Emitting(Gate(self, 100.0, adaptive=False), self.durations, self._pid)
        scratch.ring = select().create(
            slots=MIN_SLOTS, path=None, overflow="overwrite", recording=ring.recording,
            session="", trace_high=ring.trace_high, parent_event=0, sampling_rate=100.0,
        )  # fmt: skip
        return partial(scratch.emitter(ContextSwitch), 0, 0, "calibration")

    # -- convenience ------------------------------------------------------------------------

    @makes(SyscallExit, ok=("result", SyscallResult.ERROR, SyscallResult.SUCCESS))
    def syscall_exit(
        self, pid: int, name: str, duration_us: float, ok: bool, *, errno: int = 0
    ) -> int:
        """A system call returned."""
        result = SyscallResult.SUCCESS if ok else SyscallResult.ERROR
        return self._emitter(SyscallExit)(name, duration_us, result, errno, pid=pid)

    @makes(ProcessCreated)
    def process_created(self, pid: int, name: str, priority: int) -> int:
        """A process was started."""
        return self._emitter(ProcessCreated)(name, priority, pid=pid)

    @makes(ProcessTerminated)
    def process_terminated(self, pid: int, exit_code: int) -> int:
        """A process ended."""
        return self._emitter(ProcessTerminated)(exit_code, pid=pid)

    @makes(ResourceReclaimed)
    def resource_cleanup(self, pid: int, resource: str, count: int) -> int:
        """Resources were given back."""
        return self._emitter(ResourceReclaimed)(resource, count, pid=pid)

    @makes(MemoryPressure, levels=_PRESSURE)
    def memory_pressure(self, usage_pct: int, available_mb: int) -> int:
        """How full memory is: INFO, WARN over 75 %, ERROR over 90 %."""
        level = Severity.INFO
        for above, severity in _PRESSURE:
            if usage_pct > above:
                level = severity
        return self._emitter(MemoryPressure)(usage_pct, available_mb, severity=level)

    @makes(OperationSlow)
    def slow_operation(self, operation: str, duration_ms: float, p99_ms: float) -> int:
        """An operation took longer than its threshold."""
        return self._emitter(OperationSlow)(operation, duration_ms, p99_ms)

    def _emitter(self, cls: type[PayloadType]) -> Emitter:
        return self.emitters.get(cls) or self.emitter(cls)
