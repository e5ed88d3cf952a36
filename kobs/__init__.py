"""Know what a Python program really did.

Typed events in a lock-free ring, causality across threads, tasks and processes, OpenTelemetry
spans, and assertions in pytest. Names are loaded when they are first used.

PYTEST_DONT_REWRITE: pytest warns of a plugin's packages that were imported before it came.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kobs.anomaly import (
        Anomaly as Anomaly,
        Detector as Detector,
    )
    from kobs.causality import (
        CausalityTracer as CausalityTracer,
    )
    from kobs.collector import (
        Collector as Collector,
        global_collector as global_collector,
        init_collector as init_collector,
    )
    from kobs.context import (
        causal_context as causal_context,
    )
    from kobs.errors import (
        KobsError as KobsError,
    )
    from kobs.events import (
        Event as Event,
        Payload as Payload,
    )
    from kobs.filters import (
        EventFilter as EventFilter,
    )
    from kobs.levels import (
        Category as Category,
        Severity as Severity,
        SyscallResult as SyscallResult,
    )
    from kobs.metrics import (
        MetricsCollector as MetricsCollector,
        MetricsSnapshot as MetricsSnapshot,
    )
    from kobs.observe import (
        arg as arg,
        emits as emits,
        len_of as len_of,
        observe as observe,
        raised as raised,
        returned as returned,
        this as this,
        unobserve as unobserve,
        with_collector as with_collector,
    )
    from kobs.pattern import (
        Inconclusive as Inconclusive,
        between as between,
    )
    from kobs.payloads import (
        AnomalyDetected as AnomalyDetected,
        BudgetExceeded as BudgetExceeded,
        CapabilityDenied as CapabilityDenied,
        ConnectionClosed as ConnectionClosed,
        ConnectionEstablished as ConnectionEstablished,
        ContextSwitch as ContextSwitch,
        CpuThrottled as CpuThrottled,
        FileChanged as FileChanged,
        FileOpened as FileOpened,
        FileSlow as FileSlow,
        GcPaused as GcPaused,
        IpcTimeout as IpcTimeout,
        LogRecorded as LogRecorded,
        LoopStalled as LoopStalled,
        MemoryAllocated as MemoryAllocated,
        MemoryFreed as MemoryFreed,
        MemoryPressure as MemoryPressure,
        MessageReceived as MessageReceived,
        MessageSent as MessageSent,
        MetricUpdate as MetricUpdate,
        MountChanged as MountChanged,
        NetworkError as NetworkError,
        OperationSlow as OperationSlow,
        PermissionDenied as PermissionDenied,
        PermissionGranted as PermissionGranted,
        PipeRead as PipeRead,
        PipeWritten as PipeWritten,
        ProcessCreated as ProcessCreated,
        ProcessPreempted as ProcessPreempted,
        ProcessStateChanged as ProcessStateChanged,
        ProcessTerminated as ProcessTerminated,
        QueueDepth as QueueDepth,
        RateLimitExceeded as RateLimitExceeded,
        ResourceExhausted as ResourceExhausted,
        ResourceLeaked as ResourceLeaked,
        ResourceReclaimed as ResourceReclaimed,
        SchedulerLatency as SchedulerLatency,
        SecurityViolation as SecurityViolation,
        ShmCreated as ShmCreated,
        ShmDestroyed as ShmDestroyed,
        ShmRead as ShmRead,
        ShmWritten as ShmWritten,
        SpanBegan as SpanBegan,
        SpanEnded as SpanEnded,
        SyscallEnter as SyscallEnter,
        SyscallExit as SyscallExit,
        SyscallSlow as SyscallSlow,
    )
    from kobs.query import (
        Aggregation as Aggregation,
        AggregationType as AggregationType,
        CommonQueries as CommonQueries,
        Query as Query,
        QueryResult as QueryResult,
    )
    from kobs.recording import (
        Recording as Recording,
        open_recording as open_recording,
    )
    from kobs.sampling import (
        SampleDecision as SampleDecision,
        Sampler as Sampler,
    )
    from kobs.schema import (
        PayloadType as PayloadType,
        event_type as event_type,
    )
    from kobs.stream import (
        BatchPublisher as BatchPublisher,
        StreamStats as StreamStats,
        Subscriber as Subscriber,
    )
    from kobs.timeouts import (
        TimeoutObserver as TimeoutObserver,
    )
    from kobs.tracing import (
        current_span as current_span,
        emit_from_span as emit_from_span,
        generate_trace_id as generate_trace_id,
        init_tracing as init_tracing,
        span_grpc as span_grpc,
        span_operation as span_operation,
        span_syscall as span_syscall,
    )

__version__ = "0.1.0"

_HOMES = {
    "anomaly": (
        "Anomaly", "Detector",
    ),
    "causality": (
        "CausalityTracer",
    ),
    "collector": (
        "Collector", "global_collector", "init_collector",
    ),
    "context": (
        "causal_context",
    ),
    "errors": (
        "KobsError",
    ),
    "events": (
        "Event", "Payload",
    ),
    "filters": (
        "EventFilter",
    ),
    "levels": (
        "Category", "Severity", "SyscallResult",
    ),
    "metrics": (
        "MetricsCollector", "MetricsSnapshot",
    ),
    "observe": (
        "arg", "emits", "len_of", "observe", "raised", "returned", "this", "unobserve",
        "with_collector",
    ),
    "pattern": (
        "Inconclusive", "between",
    ),
    "payloads": (
        "AnomalyDetected", "BudgetExceeded", "CapabilityDenied", "ConnectionClosed",
        "ConnectionEstablished", "ContextSwitch", "CpuThrottled", "FileChanged", "FileOpened",
        "FileSlow", "GcPaused", "IpcTimeout", "LogRecorded", "LoopStalled", "MemoryAllocated",
        "MemoryFreed", "MemoryPressure", "MessageReceived", "MessageSent", "MetricUpdate",
        "MountChanged", "NetworkError", "OperationSlow", "PermissionDenied", "PermissionGranted",
        "PipeRead", "PipeWritten", "ProcessCreated", "ProcessPreempted", "ProcessStateChanged",
        "ProcessTerminated", "QueueDepth", "RateLimitExceeded", "ResourceExhausted",
        "ResourceLeaked", "ResourceReclaimed", "SchedulerLatency", "SecurityViolation",
        "ShmCreated", "ShmDestroyed", "ShmRead", "ShmWritten", "SpanBegan", "SpanEnded",
        "SyscallEnter", "SyscallExit", "SyscallSlow",
    ),
    "query": (
        "Aggregation", "AggregationType", "CommonQueries", "Query", "QueryResult",
    ),
    "recording": (
        "Recording", "open_recording",
    ),
    "sampling": (
        "SampleDecision", "Sampler",
    ),
    "schema": (
        "PayloadType", "event_type",
    ),
    "stream": (
        "BatchPublisher", "StreamStats", "Subscriber",
    ),
    "timeouts": (
        "TimeoutObserver",
    ),
    "tracing": (
        "current_span", "emit_from_span", "generate_trace_id", "init_tracing", "span_grpc",
        "span_operation", "span_syscall",
    ),
}  # fmt: skip

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'kobs' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"kobs.{home}")
    for sibling in _HOMES[home]:
        globals()[sibling] = getattr(module, sibling)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
