"""Every payload type of kobs, declared once each. Ids are part of the format: only add."""

from collections.abc import Mapping
from typing import Annotated, TypeVar, dataclass_transform

from kobs.levels import Category, Severity, SyscallResult
from kobs.schema import (
    F64,
    I32,
    U8,
    U16,
    U32,
    U64,
    Identifier,
    Json,
    Name,
    PayloadType,
    Text,
    declare_type,
)

T = TypeVar("T")

Path = Annotated[str, Text(100, keep="tail")]


@dataclass_transform(frozen_default=True)
class _declare:
    """`event_type` with the fixed id that the format gives a built-in type."""

    def __init__(
        self,
        type_id: int,
        category: Category,
        severity: Severity = Severity.INFO,
        *,
        stable: bool = False,
    ) -> None:
        self.type_id = type_id
        self.category = category
        self.severity = severity
        self.stable = stable

    def __call__(self, cls: type[T]) -> type[T]:
        return declare_type(
            cls, cls.__name__, self.type_id, self.category, self.severity,
            stable=self.stable, keep=False,
        )  # fmt: skip


@_declare(1, Category.PROCESS, stable=True)
class ProcessCreated(PayloadType):
    """A process was started; the event's `pid` is the new process."""

    name: Annotated[str, Text(112)]
    """Program or process name"""
    priority: U8 = 0
    """Scheduling priority, 0 to 255"""


@_declare(2, Category.PROCESS, stable=True)
class ProcessTerminated(PayloadType):
    """A process ended; the event's `pid` is the ended process."""

    exit_code: I32
    """Exit code; the negative signal number if a signal ended it"""


@_declare(3, Category.PROCESS, Severity.DEBUG)
class ProcessStateChanged(PayloadType):
    """A process went from one state to another."""

    from_state: Name
    """State before"""
    to_state: Name
    """State now"""


@_declare(10, Category.SYSCALL, Severity.TRACE, stable=True)
class SyscallEnter(PayloadType):
    """A system call begins."""

    name: Name
    """Name of the system call"""
    args_hash: U64 = 0
    """64-bit hash of the arguments, 0 if not taken"""


@_declare(11, Category.SYSCALL, Severity.DEBUG, stable=True)
class SyscallExit(PayloadType):
    """A system call returned."""

    name: Name
    """Name of the system call"""
    duration_us: F64
    """Time from entry to exit"""
    result: SyscallResult
    """Success or error"""
    errno: I32 = 0
    """Error number, 0 on success"""


@_declare(12, Category.SYSCALL, Severity.WARN)
class SyscallSlow(PayloadType):
    """A system call took longer than its threshold."""

    name: Name
    """Name of the system call"""
    duration_ms: F64
    """Time from entry to exit"""
    threshold_ms: F64
    """The threshold it passed"""


@_declare(20, Category.MEMORY, Severity.DEBUG)
class MemoryAllocated(PayloadType):
    """Memory was allocated."""

    size: U64
    """Bytes"""
    region_id: Identifier
    """Which region"""


@_declare(21, Category.MEMORY, Severity.DEBUG)
class MemoryFreed(PayloadType):
    """Memory was given back."""

    size: U64
    """Bytes"""
    region_id: Identifier
    """Which region"""


@_declare(22, Category.MEMORY)
class MemoryPressure(PayloadType):
    """How full memory is; WARN over 75 %, ERROR over 90 %."""

    usage_pct: U8
    """Used share of the limit"""
    available_mb: U64
    """What is left below the limit"""


@_declare(23, Category.MEMORY, Severity.DEBUG)
class GcPaused(PayloadType):
    """The garbage collector ran."""

    generation: U8
    """Generation collected"""
    duration_us: F64
    """How long it ran"""
    collected: U64
    """Objects collected"""


@_declare(30, Category.SCHEDULER, Severity.TRACE)
class ContextSwitch(PayloadType):
    """Another process, thread or task runs now."""

    from_pid: U32
    """What ran before"""
    to_pid: U32
    """What runs now"""
    reason: Name
    """Why: await, cancel, done, yield, preempted, ..."""


@_declare(31, Category.SCHEDULER, Severity.DEBUG)
class ProcessPreempted(PayloadType):
    """The running process lost the processor before it gave it up."""

    quantum_remaining_us: F64
    """What was left of its time slice"""


@_declare(32, Category.SCHEDULER, Severity.DEBUG)
class SchedulerLatency(PayloadType):
    """Time between being ready and running."""

    wake_to_run_us: F64
    """From wake-up to first instruction"""


@_declare(33, Category.SCHEDULER, Severity.WARN)
class LoopStalled(PayloadType):
    """An event loop or scheduler did not get to run for too long."""

    duration_ms: F64
    """How long one step held it"""
    stack: Annotated[str, Text(118, keep="tail")] = ""
    """Innermost frames of the culprit"""


@_declare(40, Category.NETWORK, stable=True)
class ConnectionEstablished(PayloadType):
    """A connection was made or accepted."""

    protocol: Name
    """tcp, udp, unix, tls"""
    local_port: U16
    """Port on this side, 0 if it has none"""
    remote_addr: Annotated[str, Text(100)]
    """Address of the other side"""


@_declare(41, Category.NETWORK, stable=True)
class ConnectionClosed(PayloadType):
    """A connection ended."""

    bytes_sent: U64
    """Bytes sent over its life"""
    bytes_received: U64
    """Bytes received over its life"""
    duration_ms: F64 = 0.0
    """How long it was open, 0 if unknown"""


@_declare(42, Category.NETWORK, Severity.ERROR)
class NetworkError(PayloadType):
    """A network operation failed."""

    error: Annotated[str, Text(112)]
    """What went wrong"""
    retry_count: U32 = 0
    """Retries so far"""


@_declare(50, Category.IPC, Severity.DEBUG, stable=True)
class MessageSent(PayloadType):
    """A message was put on a queue; `link` joins it to its receive."""

    queue_id: Identifier
    """Which queue"""
    size: U64 = 0
    """Bytes, 0 if unknown"""


@_declare(51, Category.IPC, Severity.DEBUG, stable=True)
class MessageReceived(PayloadType):
    """A message was taken from a queue; `link` joins it to its send."""

    queue_id: Identifier
    """Which queue"""
    size: U64 = 0
    """Bytes, 0 if unknown"""
    wait_time_us: F64 = 0.0
    """Time from send to receive"""


@_declare(52, Category.IPC, Severity.WARN)
class IpcTimeout(PayloadType):
    """Waiting on a queue, pipe or lock took longer than allowed."""

    queue_id: Identifier
    """Which queue"""
    timeout_ms: F64
    """The time allowed"""


@_declare(53, Category.IPC, Severity.DEBUG)
class QueueDepth(PayloadType):
    """How many items a queue holds."""

    queue_id: Identifier
    """Which queue"""
    depth: U64
    """Items now"""
    capacity: U64 = 0
    """Most items it takes, 0 if unlimited"""


@_declare(54, Category.IPC, Severity.DEBUG)
class PipeRead(PayloadType):
    """Bytes were read from a pipe."""

    pipe_id: Identifier
    """Which pipe"""
    size: U64
    """Bytes"""


@_declare(55, Category.IPC, Severity.DEBUG)
class PipeWritten(PayloadType):
    """Bytes were written to a pipe."""

    pipe_id: Identifier
    """Which pipe"""
    size: U64
    """Bytes"""


@_declare(56, Category.IPC, stable=True)
class ShmCreated(PayloadType):
    """A shared memory segment was made."""

    name: Annotated[str, Text(100)]
    """Name of the segment"""
    size: U64
    """Bytes"""


@_declare(57, Category.IPC, Severity.DEBUG, stable=True)
class ShmRead(PayloadType):
    """A shared memory segment was read."""

    name: Annotated[str, Text(100)]
    """Name of the segment"""
    size: U64
    """Bytes"""


@_declare(58, Category.IPC, Severity.DEBUG, stable=True)
class ShmWritten(PayloadType):
    """A shared memory segment was written."""

    name: Annotated[str, Text(100)]
    """Name of the segment"""
    size: U64
    """Bytes"""


@_declare(59, Category.IPC, stable=True)
class ShmDestroyed(PayloadType):
    """A shared memory segment was unlinked."""

    name: Annotated[str, Text(100)]
    """Name of the segment"""


@_declare(60, Category.FILESYSTEM, Severity.DEBUG, stable=True)
class FileOpened(PayloadType):
    """A file was opened."""

    path: Path
    """Which file"""
    mode: Name
    """As given to open()"""
    duration_us: F64 = 0.0
    """How long opening took"""


@_declare(61, Category.FILESYSTEM, Severity.WARN)
class FileSlow(PayloadType):
    """A file operation took longer than its threshold."""

    operation: Name
    """open, read, write, rename, ..."""
    path: Path
    """Which file"""
    duration_ms: F64
    """How long it took"""
    threshold_ms: F64
    """The threshold it passed"""
    mount: Name = ""
    """Where the file system that it lies on is mounted, empty if not known"""


@_declare(62, Category.FILESYSTEM, stable=True)
class FileChanged(PayloadType):
    """A file or folder was made, renamed, written or removed."""

    path: Path
    """Which file"""
    change: Name
    """created, written, renamed, removed, ..."""


@_declare(63, Category.FILESYSTEM, stable=True)
class MountChanged(PayloadType):
    """A mount was added, removed or changed."""

    path: Path
    """Where it is mounted"""
    change: Name
    """mounted, unmounted, remounted"""


@_declare(70, Category.SECURITY, Severity.WARN, stable=True)
class PermissionDenied(PayloadType):
    """An operation was refused for want of a permission."""

    operation: Name
    """What was tried"""
    required: Annotated[str, Text(112)]
    """What it needed"""


@_declare(71, Category.SECURITY, Severity.DEBUG, stable=True)
class PermissionGranted(PayloadType):
    """A permission was checked and given."""

    operation: Name
    """What was tried"""
    required: Annotated[str, Text(112)]
    """What it needed"""


@_declare(72, Category.SECURITY, Severity.WARN)
class RateLimitExceeded(PayloadType):
    """More was asked for than the limit allows."""

    limit: U64
    """The limit"""
    current: U64
    """What was asked for"""


@_declare(73, Category.SECURITY, Severity.CRITICAL, stable=True)
class SecurityViolation(PayloadType):
    """Something happened that the policy forbids."""

    description: Annotated[str, Text(120)]
    """What happened"""


@_declare(74, Category.SECURITY, Severity.WARN, stable=True)
class CapabilityDenied(PayloadType):
    """A capability was missing."""

    capability: Name
    """Which capability"""
    operation: Annotated[str, Text(112)]
    """What was tried"""


@_declare(80, Category.PERFORMANCE, Severity.WARN)
class OperationSlow(PayloadType):
    """An operation took longer than its threshold."""

    operation: Name
    """Which operation"""
    duration_ms: F64
    """How long it took"""
    p99_ms: F64
    """The threshold, or the 99th percentile so far"""


@_declare(81, Category.PERFORMANCE, Severity.WARN)
class BudgetExceeded(PayloadType):
    """An operation used more than its budget."""

    operation: Name
    """Which operation"""
    budget_ms: F64
    """What it was allowed"""
    actual_ms: F64
    """What it took"""


@_declare(82, Category.PERFORMANCE, Severity.WARN)
class CpuThrottled(PayloadType):
    """The processor was taken away by a limit."""

    usage_pct: U8
    """Share of the processor used"""
    duration_ms: F64
    """How long it was held back"""


@_declare(90, Category.RESOURCE, Severity.ERROR, stable=True)
class ResourceExhausted(PayloadType):
    """A resource ran out."""

    resource: Name
    """Which resource"""
    limit: U64
    """How much there was"""


@_declare(91, Category.RESOURCE, Severity.WARN)
class ResourceLeaked(PayloadType):
    """A resource was not given back."""

    resource: Name
    """Which resource"""
    count: U64
    """How many"""


@_declare(92, Category.RESOURCE)
class ResourceReclaimed(PayloadType):
    """Resources were given back."""

    resource: Name
    """Which resource"""
    count: U64
    """How many"""


@_declare(100, Category.PERFORMANCE, Severity.DEBUG, stable=True)
class SpanBegan(PayloadType):
    """A span begins; it stays in the in-flight table until it ends."""

    name: Name
    """Name of the span"""
    kind: Name = "internal"
    """internal, server, client, producer, consumer"""
    parent_span: U64 = 0
    """Span id of the parent, 0 at the root"""


@_declare(101, Category.PERFORMANCE, Severity.DEBUG, stable=True)
class SpanEnded(PayloadType):
    """A span ended; its parent is the begin event."""

    name: Name
    """Name of the span"""
    duration_us: F64
    """From begin to end"""
    status: Name = "unset"
    """unset, ok, error"""
    attributes: Annotated[Mapping[str, object], Json(104)] = {}
    """Attributes that fit; the rest is in overflow records"""


@_declare(110, Category.PERFORMANCE, Severity.WARN)
class AnomalyDetected(PayloadType):
    """A value is far from what it was so far; its parent is the event that set it off."""

    metric: Name
    """Which metric"""
    value: F64
    """The value"""
    expected: F64
    """The mean so far"""
    deviation: F64
    """Distance in standard deviations"""
    count: U32 = 1
    """Anomalies of this metric that this event stands for"""


@_declare(111, Category.PERFORMANCE, Severity.TRACE)
class MetricUpdate(PayloadType):
    """A metric has a new value."""

    name: Name
    """Which metric"""
    value: F64
    """Its value"""
    labels: Annotated[Mapping[str, object], Json(112)] = {}
    """Its labels"""


@_declare(120, Category.PERFORMANCE)
class LogRecorded(PayloadType):
    """A log record of the program's, of a severity by its level; what does not fit is in
    `LogAttributes` events right before it."""

    logger: Name
    """Name of the logger"""
    message: Annotated[str, Text(91)]
    """The message, formatted"""
    level: I32 = 20
    """Level as `logging` numbers them: 10 is debug, 20 info, 30 warn, 40 error, 50 critical"""
    level_name: Name = "INFO"
    """Level in words"""
    file: Name = ""
    """Source file that logged"""
    line: U32 = 0
    """Line in it"""
    function: Name = ""
    """Function that logged"""
    thread: Name = ""
    """Name of the thread that logged"""
    overflow: U64 = 0
    """Number that the `LogAttributes` of this record have, 0 without any"""
