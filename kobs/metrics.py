"""Counters, gauges and histograms, derived from events.

Besides the table below, every event counts in `events.total`, `events.category.<category>` and
`events.severity.<severity>`, and payload types that the table does not have (users' own) in
`<type>.total`, their durations in `<type>.duration_us`, with the type's name in snake case.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from kobs._analysis.histogram import Histogram, HistogramSnapshot
from kobs.errors import ConfigError
from kobs.events import Event
from kobs.levels import Category, Severity

MOST_SERIES = 2048
"""Names of metrics that a collector keeps at most; events of more are counted as dropped."""


class Rule(NamedTuple):
    """What an event of a type does to a metric."""

    kind: str
    """`"counter"`, `"gauge"` or `"histogram"`."""
    metric: str
    field: str | None = None
    """The payload field whose value is taken; None counts 1. `duration_ms` and its like are
    taken in microseconds, as the metric's name says."""
    each: str | None = None
    """A payload field: one metric more for each of its values, with it behind the name."""
    when: Callable[[Any], bool] | None = None
    """Only for payloads that this says yes to."""


def _counter(metric: str, field: str | None = None, **more: Any) -> Rule:
    return Rule("counter", metric, field, **more)


def _gauge(metric: str, field: str, **more: Any) -> Rule:
    return Rule("gauge", metric, field, **more)


def _histogram(metric: str, field: str, **more: Any) -> Rule:
    return Rule("histogram", metric, field, **more)


RULES: dict[str, tuple[Rule, ...]] = {
    "ProcessCreated": (_counter("process.created"),),
    "ProcessTerminated": (
        _counter("process.terminated"),
        _counter("process.failed", when=lambda payload: bool(payload.exit_code)),
    ),
    "ProcessStateChanged": (_counter("process.state_changes"),),
    "SyscallEnter": (_counter("syscall.entered"),),
    "SyscallExit": (
        _counter("syscall.total"),
        _counter("syscall.errors", when=lambda payload: bool(payload.result)),
        _histogram("syscall.duration_us", "duration_us", each="name"),
    ),
    "SyscallSlow": (_counter("syscall.slow"),),
    "MemoryAllocated": (
        _counter("memory.allocations"),
        _counter("memory.allocated_bytes", "size"),
    ),
    "MemoryFreed": (_counter("memory.frees"), _counter("memory.freed_bytes", "size")),
    "MemoryPressure": (
        _counter("memory.pressure_readings"),
        _gauge("memory.usage_pct", "usage_pct"),
        _gauge("memory.available_mb", "available_mb"),
    ),
    "GcPaused": (
        _counter("gc.collections"),
        _counter("gc.collected_objects", "collected"),
        _histogram("gc.pause_us", "duration_us"),
    ),
    "ContextSwitch": (_counter("scheduler.context_switches"),),
    "ProcessPreempted": (_counter("scheduler.preemptions"),),
    "SchedulerLatency": (_histogram("scheduler.wake_to_run_us", "wake_to_run_us"),),
    "LoopStalled": (
        _counter("scheduler.stalls"),
        _histogram("scheduler.stall_us", "duration_ms"),
    ),
    "ConnectionEstablished": (_counter("network.connections"),),
    "ConnectionClosed": (
        _counter("network.connections_closed"),
        _counter("network.bytes_sent", "bytes_sent"),
        _counter("network.bytes_received", "bytes_received"),
    ),
    "NetworkError": (_counter("network.errors"), _counter("network.retries", "retry_count")),
    "MessageSent": (_counter("ipc.messages_sent"), _counter("ipc.bytes_sent", "size")),
    "MessageReceived": (
        _counter("ipc.messages_received"),
        _counter("ipc.bytes_received", "size"),
        _histogram("ipc.wait_us", "wait_time_us"),
    ),
    "IpcTimeout": (_counter("ipc.timeouts"),),
    "QueueDepth": (_gauge("ipc.queue_depth", "depth", each="queue_id"),),
    "PipeRead": (_counter("pipe.reads"), _counter("pipe.bytes_read", "size")),
    "PipeWritten": (_counter("pipe.writes"), _counter("pipe.bytes_written", "size")),
    "ShmCreated": (_counter("shm.created"), _counter("shm.created_bytes", "size")),
    "ShmRead": (_counter("shm.reads"), _counter("shm.bytes_read", "size")),
    "ShmWritten": (_counter("shm.writes"), _counter("shm.bytes_written", "size")),
    "ShmDestroyed": (_counter("shm.destroyed"),),
    "FileOpened": (
        _counter("filesystem.opened"),
        _histogram("filesystem.open_us", "duration_us"),
    ),
    "FileSlow": (_counter("filesystem.slow"),),
    "FileChanged": (_counter("filesystem.changes"),),
    "MountChanged": (_counter("filesystem.mount_changes"),),
    "PermissionDenied": (_counter("security.denied"),),
    "PermissionGranted": (_counter("security.granted"),),
    "RateLimitExceeded": (_counter("security.rate_limited"),),
    "SecurityViolation": (_counter("security.violations"),),
    "CapabilityDenied": (_counter("security.capabilities_denied"),),
    "OperationSlow": (_counter("operation.slow"),),
    "BudgetExceeded": (_counter("operation.over_budget"),),
    "CpuThrottled": (_counter("cpu.throttled"), _histogram("cpu.throttled_us", "duration_ms")),
    "ResourceExhausted": (_counter("resource.exhausted"),),
    "ResourceLeaked": (_counter("resource.leaked", "count"),),
    "ResourceReclaimed": (_counter("resource.reclaimed", "count"),),
    "SpanBegan": (_counter("span.began"),),
    "SpanEnded": (
        _counter("span.total"),
        _counter("span.errors", when=lambda payload: bool(payload.status == "error")),
        _histogram("span.duration_us", "duration_us", each="name"),
    ),
    "AnomalyDetected": (_counter("anomaly.total", "count"),),
    "MetricUpdate": (),  # a gauge of the name that it brings
}
"""What each payload type of kobs does to which metrics."""


class MetricsSnapshot(NamedTuple):
    """The metrics at a moment. Immutable; the counters of `RULES` are there from 0 on."""

    counters: Mapping[str, float]
    gauges: Mapping[str, float]
    """Last values; one that was never set is not there."""
    histograms: Mapping[str, HistogramSnapshot]
    lost: int
    """Events that went by uncounted: the counters are too low by what they would have added."""
    dropped_series: int
    """Values of metrics that were left out because there were too many names."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON can write it."""
        return {
            "counters": dict(self.counters),
            "gauges": dict(self.gauges),
            "histograms": {name: one.to_dict() for name, one in self.histograms.items()},
            "lost": self.lost,
            "dropped_series": self.dropped_series,
        }


class MetricsCollector:
    """Takes events one by one and keeps the metrics of all of them, in bounded memory.

    `max_series`: how many names of metrics it keeps at most.
    """

    def __init__(self, *, max_series: int = MOST_SERIES) -> None:
        if isinstance(max_series, bool) or not isinstance(max_series, int) or max_series < 1:
            raise ConfigError(f"max_series={max_series!r}: expected an int, 1 or more")
        self._room = max_series
        self._appliers: dict[type, tuple[Callable[[Any], None], ...]] = {}
        self.reset()

    def reset(self) -> None:
        """Begin again from 0."""
        self._dropped = 0
        self._counters: dict[str, float] = {
            rule.metric: 0 for rules in RULES.values() for rule in rules if rule.kind == "counter"
        }
        self._gauges: dict[str, float] = {}
        self._histograms: dict[str, Histogram] = {}
        self._events = 0
        self._by_category = [0] * 16
        self._by_severity = [0] * 16

    @property
    def events(self) -> int:
        """Events taken in so far."""
        return self._events

    def observe(self, event: Event) -> None:
        """Take in an event."""
        self._events += 1
        self._by_category[event.category] += 1
        self._by_severity[event.severity] += 1
        appliers = self._appliers.get(event.type)
        if appliers is None:
            appliers = self._appliers[event.type] = self._appliers_of(event)
        payload = event.payload
        for apply in appliers:
            apply(payload)

    def snapshot(self, *, lost: int = 0) -> MetricsSnapshot:
        """The metrics now; `lost` is how many events their source knows it missed."""
        counters = dict(self._counters)
        counters["events.total"] = self._events
        for category in Category:
            counters[f"events.category.{category.name.lower()}"] = self._by_category[category]
        for severity in Severity:
            counters[f"events.severity.{severity.name.lower()}"] = self._by_severity[severity]
        return MetricsSnapshot(
            MappingProxyType(counters),
            MappingProxyType(dict(self._gauges)),
            MappingProxyType({name: one.snapshot() for name, one in self._histograms.items()}),
            lost,
            self._dropped,
        )

    # -- below: how -------------------------------------------------------------------------

    def _appliers_of(self, event: Event) -> tuple[Callable[[Any], None], ...]:
        """What the rules of a type do, as functions of the payload."""
        schema = event.type.__kobs_schema__
        if schema.name == "MetricUpdate":
            return (self._update,)
        rules = RULES.get(schema.name)
        if rules is None:
            name = _snake(schema.name)
            rules = (_counter(f"{name}.total"),)
            if schema.duration_field is not None:
                rules += (_histogram(f"{name}.duration_us", schema.duration_field),)
        fields = schema.field_names  # a recording may have been made by another version
        return tuple(
            self._applier(rule)
            for rule in rules
            if all(name in fields for name in (rule.field, rule.each) if name is not None)
        )

    def _applier(self, rule: Rule) -> Callable[[Any], None]:
        record = {"counter": self._add, "gauge": self._set, "histogram": self._count}[rule.kind]
        metric, field, each, when = rule.metric, rule.field, rule.each, rule.when
        factor = 1000.0 if field is not None and field.endswith("_ms") else 1

        def apply(payload: Any) -> None:
            if when is not None and not when(payload):
                return
            value = 1 if field is None else getattr(payload, field) * factor
            record(metric, value)
            if each is not None:
                record(f"{metric}.{getattr(payload, each)}", value)

        return apply

    def _update(self, payload: Any) -> None:
        labels = payload.labels
        if labels:
            inner = ",".join(f"{key}={labels[key]}" for key in sorted(labels))
            self._set(f"{payload.name}{{{inner}}}", payload.value)
        else:
            self._set(payload.name, payload.value)

    def _add(self, metric: str, value: float) -> None:
        known = self._counters.get(metric)
        if known is not None:
            self._counters[metric] = known + value
        elif self._has_room():
            self._counters[metric] = value

    def _set(self, metric: str, value: float) -> None:
        if metric in self._gauges or self._has_room():
            self._gauges[metric] = value

    def _count(self, metric: str, value: float) -> None:
        known = self._histograms.get(metric)
        if known is None:
            if not self._has_room():
                return
            known = self._histograms[metric] = Histogram()
        known.observe(value)

    def _has_room(self) -> bool:
        if len(self._counters) + len(self._gauges) + len(self._histograms) < self._room:
            return True
        self._dropped += 1
        return False


def _snake(name: str) -> str:
    """`JobQueued` is `job_queued`."""
    made = ""
    for index, letter in enumerate(name):
        if letter.isupper() and index and not name[index - 1].isupper() and made[-1] != "_":
            made += "_"
        made += letter.lower()
    return made
