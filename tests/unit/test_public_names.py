"""`import kobs` gives the promised names, and costs little."""

import subprocess
import sys

import pytest

import kobs

PROMISED = [
    "Collector",
    "init_collector",
    "global_collector",
    "Event",
    "EventFilter",
    "Payload",
    "Severity",
    "Category",
    "SyscallResult",
    "Subscriber",
    "StreamStats",
    "BatchPublisher",
    "Query",
    "QueryResult",
    "CommonQueries",
    "Aggregation",
    "AggregationType",
    "CausalityTracer",
    "Detector",
    "Anomaly",
    "Sampler",
    "SampleDecision",
    "MetricsCollector",
    "MetricsSnapshot",
    "TimeoutObserver",
    "observe",
    "with_collector",
    "emits",
    "arg",
    "returned",
    "event_type",
    "init_tracing",
    "span_syscall",
    "span_operation",
    "span_grpc",
    "current_span",
    "generate_trace_id",
    "emit_from_span",
    "causal_context",
    "open_recording",
    "ProcessCreated",
    "ProcessTerminated",
    "ProcessStateChanged",
    "SyscallEnter",
    "SyscallExit",
    "SyscallSlow",
    "MemoryAllocated",
    "MemoryFreed",
    "MemoryPressure",
    "GcPaused",
    "ContextSwitch",
    "ProcessPreempted",
    "SchedulerLatency",
    "LoopStalled",
    "ConnectionEstablished",
    "ConnectionClosed",
    "NetworkError",
    "MessageSent",
    "MessageReceived",
    "IpcTimeout",
    "QueueDepth",
    "PipeRead",
    "PipeWritten",
    "ShmCreated",
    "ShmRead",
    "ShmWritten",
    "ShmDestroyed",
    "FileOpened",
    "FileSlow",
    "FileChanged",
    "MountChanged",
    "PermissionDenied",
    "PermissionGranted",
    "RateLimitExceeded",
    "SecurityViolation",
    "CapabilityDenied",
    "OperationSlow",
    "BudgetExceeded",
    "CpuThrottled",
    "ResourceExhausted",
    "ResourceLeaked",
    "ResourceReclaimed",
    "SpanBegan",
    "SpanEnded",
    "AnomalyDetected",
    "MetricUpdate",
]


@pytest.mark.parametrize("name", PROMISED)
def test_every_promised_name_is_there(name: str) -> None:
    assert getattr(kobs, name) is not None
    assert name in kobs.__all__


def test_every_name_of_all_resolves() -> None:
    for name in kobs.__all__:
        assert getattr(kobs, name) is not None


def test_payload_is_the_namespace_of_payload_types() -> None:
    assert kobs.Payload.SyscallExit is kobs.SyscallExit
    with pytest.raises(AttributeError, match=r"no payload type 'Nope'; there are .*SyscallExit"):
        _ = kobs.Payload.Nope


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = kobs.nothing_like_it  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", ["import kobs", "import kobs; kobs.Collector(size=64)"])
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    heavy = {"wrapt", "pluggy", "opentelemetry", "rich", "asyncio", "inspect", "dataclasses"}
    seen = subprocess.run(
        [sys.executable, "-c", f"import sys; before = set(sys.modules); {code}; "
         "print(*sorted(set(sys.modules) - before))"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert heavy.isdisjoint(seen), heavy.intersection(seen)
