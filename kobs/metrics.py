"""Counters, gauges and histograms, derived from events.

Besides the table below, every event counts in `events.total`, `events.category.<category>` and
`events.severity.<severity>`, and payload types that the table does not have (users' own) in
`<type>.total`, their durations in `<type>.duration_us`, with the type's name in snake case.

These are of the events that were recorded. What sampling and filters left out is known by category:
`events.happened.<category>` counts it too, `events.sampled_out.<category>` and
`events.filtered.<category>` say how much it was.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from kobs._analysis.histogram import HistogramSnapshot
from kobs._analysis.series import Key, Rule, Series
from kobs._core.contract import LeftOut
from kobs.events import Event
from kobs.levels import Category, Severity
from kobs.schema import PayloadType

MOST_SERIES = 2048
"""Names of metrics that a collector keeps at most; events of more are counted as dropped."""


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
        _counter("process.failed", when=("exit_code", bool)),
    ),
    "ProcessStateChanged": (_counter("process.state_changes"),),
    "SyscallEnter": (_counter("syscall.entered"),),
    "SyscallExit": (
        _counter("syscall.total"),
        _counter("syscall.errors", when=("result", bool)),
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
        _histogram("gc.pause_us", "duration_us", each="generation"),
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
        _counter("span.errors", when=("status", lambda status: status == "error")),
        _histogram("span.duration_us", "duration_us", each="name"),
    ),
    "LogRecorded": (
        _counter("log.total"),
        _counter("log.errors", when=("level", lambda level: level >= 40)),
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
        self._series = Series(RULES, own_rules, most=max_series)

    def reset(self) -> None:
        """Begin again from 0."""
        self._series.reset()

    @property
    def events(self) -> int:
        """Events taken in so far."""
        return self._series.events

    def observe(self, event: Event) -> None:
        """Take in an event."""
        self._series.observe(event)

    def snapshot(self, *, lost: int = 0, left_out: LeftOut | None = None) -> MetricsSnapshot:
        """The metrics now; `lost` is how many events their source knows it missed, `left_out`
        those that were left out on purpose."""
        counts = self._series.counts
        counters: dict[str, float] = {
            rule.metric: 0 for rules in RULES.values() for rule in rules if rule.kind == "counter"
        }
        counters.update((_flat(key), value) for key, value in counts.counters.items())
        counters.update(_events(counts.seen, left_out))
        histograms = {_flat(key): one.snapshot() for key, one in counts.histograms.items()}
        return MetricsSnapshot(
            MappingProxyType(counters),
            MappingProxyType({_flat(key): value for key, value in self._series.gauges.items()}),
            MappingProxyType(histograms),
            lost,
            counts.dropped,
        )


def own_rules(cls: type[PayloadType]) -> tuple[Rule, ...]:
    """The rules of a type that the table does not have."""
    schema = cls.__kobs_schema__
    name = _snake(schema.name)
    if schema.duration_field is None:
        return (_counter(f"{name}.total"),)
    return _counter(f"{name}.total"), _histogram(f"{name}.duration_us", schema.duration_field)


def happened(
    seen: Mapping[tuple[type[PayloadType], int, int], int], left_out: LeftOut | None
) -> Iterator[tuple[Category, int]]:
    """How many events there were of each category, with those left out on purpose."""
    for category in Category:
        number = sum(number for (_, of, _), number in seen.items() if of == category)
        if left_out is not None:
            number += sum(each[category] for each in left_out)
        yield category, number


def _events(
    seen: Mapping[tuple[type[PayloadType], int, int], int], left_out: LeftOut | None
) -> Iterator[tuple[str, float]]:
    yield "events.total", sum(seen.values())
    for category, number in happened(seen, None):
        yield f"events.category.{category.name.lower()}", number
    for severity in Severity:
        number = sum(number for (_, _, of), number in seen.items() if of == severity)
        yield f"events.severity.{severity.name.lower()}", number
    if left_out is None:
        return
    for category, number in happened(seen, left_out):
        yield f"events.happened.{category.name.lower()}", number
    for cause, by_category in left_out._asdict().items():
        for category in Category:
            if by_category[category]:
                yield f"events.{cause}.{category.name.lower()}", by_category[category]


_EACH = {
    rule.metric: rule.each for rules in RULES.values() for rule in rules if rule.each is not None
}


def _flat(key: Key) -> str:
    """A series' name: its attribute's value behind it, or its labels in braces."""
    metric, attributes = key
    if not attributes:
        return metric
    if len(attributes) == 1 and _EACH.get(metric) == attributes[0][0]:
        return f"{metric}.{attributes[0][1]}"
    return f"{metric}{{{','.join(f'{name}={value}' for name, value in attributes)}}}"


def _snake(name: str) -> str:
    """`JobQueued` is `job_queued`."""
    made = ""
    for index, letter in enumerate(name):
        if letter.isupper() and index and not name[index - 1].isupper() and made[-1] != "_":
            made += "_"
        made += letter.lower()
    return made
