"""What kobs's metrics are called outside: OpenTelemetry's names, units and descriptions.

Names are of OpenTelemetry's semantic conventions where these have one, else `kobs.` and by
their rules for names; units are UCUM codes (https://ucum.org). Durations are in seconds, as the
conventions say.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Instrument(NamedTuple):
    """How a metric is exported."""

    name: str
    unit: str
    description: str
    factor: float = 1.0
    """What a value of kobs's is multiplied with; histograms have their unit already."""
    attributes: Mapping[str, str] = {}
    """What kobs's attributes are called outside; others stay."""
    fixed: Mapping[str, str] = {}
    """Attributes that every point has."""
    kind: str = ""
    """`"total"` or `"updown"` for a value that kobs knows as a gauge."""


HAPPENED = Instrument(
    "kobs.event.happened", "{event}", "Events that happened, recorded or left out on purpose"
)
RECORDED = Instrument("kobs.event.recorded", "{event}", "Events that were recorded, by type")
LEFT_OUT = Instrument(
    "kobs.event.left_out", "{event}", "Events that sampling or filters left out on purpose"
)
LOST = Instrument("kobs.event.lost", "{event}", "Events that these metrics lack, by cause")
DROPPED = Instrument(
    "kobs.metric.overflowed", "{value}", "Values without a series of their own: too many series"
)
OWN_DURATION = Instrument("kobs.event.duration", "s", "Duration that an event of a type tells of")
GC_COLLECTIONS = Instrument(
    "cpython.gc.collections", "{collection}",
    "The number of times a generation was collected since interpreter start.",
)  # fmt: skip
GC_COLLECTED = Instrument(
    "cpython.gc.collected_objects", "{object}",
    "The total number of objects collected inside a generation since interpreter start.",
)  # fmt: skip
GC_UNCOLLECTABLE = Instrument(
    "cpython.gc.uncollectable_objects", "{object}",
    "The total number of objects which were found to be uncollectable inside a generation since "
    "interpreter start.",
)  # fmt: skip
GC_GENERATION = "cpython.gc.generation"

_QUEUE = {"queue_id": "messaging.destination.name"}


def _kobs(name: str, unit: str, description: str, **more: Any) -> Instrument:
    return Instrument(f"kobs.{name}", unit, description, **more)


INSTRUMENTS: dict[str, Instrument] = {
    "process.created": _kobs("process.created", "{process}", "Processes that were started"),
    "process.terminated": _kobs("process.terminated", "{process}", "Processes that ended"),
    "process.failed": _kobs("process.failed", "{process}", "Processes that ended with an error"),
    "process.state_changes": _kobs("process.state_changes", "{change}", "Changes of state"),
    "syscall.entered": _kobs("syscall.entered", "{call}", "System calls that began"),
    "syscall.total": _kobs("syscall.calls", "{call}", "System calls that ended"),
    "syscall.errors": _kobs("syscall.errors", "{call}", "System calls that ended with an error"),
    "syscall.duration_us": _kobs(
        "syscall.duration", "s", "Duration of system calls", attributes={"name": "kobs.syscall"}
    ),
    "syscall.slow": _kobs("syscall.slow", "{call}", "System calls over their threshold"),
    "memory.allocations": _kobs("memory.allocations", "{allocation}", "Allocations"),
    "memory.allocated_bytes": _kobs("memory.allocated", "By", "Memory that was allocated"),
    "memory.frees": _kobs("memory.frees", "{free}", "Allocations that were freed"),
    "memory.freed_bytes": _kobs("memory.freed", "By", "Memory that was freed"),
    "memory.pressure_readings": _kobs("memory.readings", "{reading}", "Readings of memory use"),
    "memory.usage_pct": _kobs(
        "memory.utilization", "1", "Used share of the memory limit", factor=0.01
    ),
    "memory.available_mb": _kobs(
        "memory.available", "By", "What is left below the memory limit", factor=1 << 20
    ),
    "memory.resident": Instrument(
        "process.memory.usage", "By", "The amount of physical memory in use.", kind="updown"
    ),
    "memory.stalled": _kobs(
        "memory.stalled", "1", "Share of time that tasks waited for memory", factor=0.01
    ),
    "gc.collections": _kobs("gc.collections", "{collection}", "Collections told one by one"),
    "gc.collected_objects": _kobs("gc.collected", "{object}", "Objects that these collected"),
    "gc.pause_us": _kobs(
        "gc.pause", "s", "Duration of collections told one by one",
        attributes={"generation": GC_GENERATION},
    ),
    "gc.short_collections": _kobs(
        "gc.short_collections", "{collection}", "Collections too short to be told one by one"
    ),
    "gc.short_pauses_us": _kobs(
        "gc.short_time", "s", "Duration of all of these", factor=1e-6
    ),
    "scheduler.context_switches": _kobs(
        "scheduler.task_switches", "{switch}", "Switches between tasks of asyncio"
    ),
    "scheduler.preemptions": _kobs(
        "scheduler.preemptions", "{preemption}", "Preemptions that were told one by one"
    ),
    "scheduler.wake_to_run_us": _kobs(
        "scheduler.latency", "s", "Time from when a task could run to when it did"
    ),
    "scheduler.stalls": _kobs("scheduler.stalls", "{stall}", "Event loops that stood still"),
    "scheduler.stall_us": _kobs("scheduler.stall", "s", "How long event loops stood still"),
    "network.connections": _kobs("network.connections", "{connection}", "Connections made"),
    "network.connections_closed": _kobs(
        "network.connections_closed", "{connection}", "Connections closed"
    ),
    "network.bytes_sent": _kobs("network.sent", "By", "Bytes sent over closed connections"),
    "network.bytes_received": _kobs(
        "network.received", "By", "Bytes received over closed connections"
    ),
    "network.errors": _kobs("network.errors", "{error}", "Errors of connections"),
    "network.retries": _kobs("network.retries", "{retry}", "Retries after errors"),
    "ipc.messages_sent": _kobs("ipc.messages_sent", "{message}", "Messages put into queues"),
    "ipc.bytes_sent": _kobs("ipc.sent", "By", "Size of the messages put into queues"),
    "ipc.messages_received": _kobs(
        "ipc.messages_received", "{message}", "Messages taken from queues"
    ),
    "ipc.bytes_received": _kobs("ipc.received", "By", "Size of the messages taken from queues"),
    "ipc.wait_us": _kobs("ipc.wait", "s", "Time that receivers waited for a message"),
    "ipc.timeouts": _kobs("ipc.timeouts", "{timeout}", "Waits for a message that were given up"),
    "ipc.queue_depth": _kobs(
        "ipc.queue_depth", "{message}", "Messages in a queue", attributes=_QUEUE
    ),
    "pipe.reads": _kobs("pipe.reads", "{read}", "Reads from pipes"),
    "pipe.bytes_read": _kobs("pipe.read", "By", "Bytes read from pipes"),
    "pipe.writes": _kobs("pipe.writes", "{write}", "Writes to pipes"),
    "pipe.bytes_written": _kobs("pipe.written", "By", "Bytes written to pipes"),
    "pipe.throughput": _kobs(
        "pipe.throughput", "By/s", "What went through a pipe in a second",
        attributes={"pipe_id": "kobs.pipe", "direction": "kobs.direction"},
    ),
    "shm.created": _kobs("shm.created", "{segment}", "Shared memory segments created"),
    "shm.created_bytes": _kobs("shm.size_created", "By", "Size of the segments created"),
    "shm.reads": _kobs("shm.reads", "{read}", "Reads from shared memory"),
    "shm.bytes_read": _kobs("shm.read", "By", "Bytes read from shared memory"),
    "shm.writes": _kobs("shm.writes", "{write}", "Writes to shared memory"),
    "shm.bytes_written": _kobs("shm.written", "By", "Bytes written to shared memory"),
    "shm.destroyed": _kobs("shm.destroyed", "{segment}", "Shared memory segments destroyed"),
    "filesystem.opened": _kobs("filesystem.opened", "{file}", "Files opened"),
    "filesystem.open_us": _kobs("filesystem.open", "s", "Duration of opening a file"),
    "filesystem.slow": _kobs("filesystem.slow", "{operation}", "Slow operations on files"),
    "filesystem.changes": _kobs("filesystem.changes", "{change}", "Files changed"),
    "filesystem.mount_changes": _kobs("filesystem.mount_changes", "{change}", "Mounts changed"),
    "security.denied": _kobs("security.denied", "{check}", "Permissions denied"),
    "security.granted": _kobs("security.granted", "{check}", "Permissions granted"),
    "security.rate_limited": _kobs("security.rate_limited", "{check}", "Rate limits exceeded"),
    "security.violations": _kobs("security.violations", "{violation}", "Security violations"),
    "security.capabilities_denied": _kobs(
        "security.capabilities_denied", "{check}", "Capabilities denied"
    ),
    "operation.slow": _kobs("operation.slow", "{operation}", "Operations over their threshold"),
    "operation.over_budget": _kobs(
        "operation.over_budget", "{operation}", "Operations that took more than their budget"
    ),
    "cpu.throttled": _kobs("cpu.throttled", "{period}", "Periods of throttling"),
    "cpu.throttled_us": _kobs("cpu.throttling", "s", "How long the processor was throttled"),
    "resource.exhausted": _kobs("resource.exhausted", "{event}", "Resources that ran out"),
    "resource.leaked": _kobs("resource.leaked", "{resource}", "Resources that were leaked"),
    "resource.reclaimed": _kobs("resource.reclaimed", "{resource}", "Resources given back"),
    "span.began": _kobs("span.began", "{span}", "Spans that began"),
    "span.total": _kobs("span.ended", "{span}", "Spans that ended"),
    "span.errors": _kobs("span.errors", "{span}", "Spans that ended with an error"),
    "span.duration_us": _kobs(
        "span.duration", "s", "Duration of spans", attributes={"name": "span.name"}
    ),
    "rpc.client.call.duration": Instrument(
        "rpc.client.call.duration", "s",
        "Measures the duration of an outgoing Remote Procedure Call (RPC).",
        fixed={"rpc.system.name": "grpc"},
    ),
    "rpc.server.call.duration": Instrument(
        "rpc.server.call.duration", "s",
        "Measures the duration of an incoming Remote Procedure Call (RPC).",
        fixed={"rpc.system.name": "grpc"},
    ),
    "log.total": _kobs("log.records", "{record}", "Log records"),
    "log.errors": _kobs("log.errors", "{record}", "Log records of level ERROR and above"),
    "anomaly.total": _kobs("anomaly.detected", "{anomaly}", "Durations out of the ordinary"),
}  # fmt: skip
"""By the names of `kobs.metrics` and `kobs.export.metric_calls`. A metric that the program keeps
itself (`MetricUpdate`) and that is not here has its own name and no unit."""

GAUGES: dict[str, Instrument] = {
    "scheduler.preemptions": Instrument(
        "process.context_switches", "{context_switch}",
        "Number of times the process has been context switched.",
        fixed={"process.context_switch.type": "involuntary"}, kind="total",
    ),
}  # fmt: skip
"""As `INSTRUMENTS`, for gauges that share a counter's name."""
