"""Which subsystems there are, and choosing among them.

Light to import: `kobs run` chooses, and watches nothing itself.
"""

from collections.abc import Iterable, Mapping

from kobs.errors import UnknownSubsystemError
from kobs_instrumentation import others

SUBSYSTEMS = (
    "process", "vfs", "queue", "scheduler", "syscall", "memory", "shm", "pipe",
    "network", "permission", "sandbox",
)  # fmt: skip
"""Subsystems whose standard-library parts are watched."""

LIBRARIES = ("grpc",)
"""Other packages that are watched, where a program imports them."""

WATCHED = (*SUBSYSTEMS, *LIBRARIES)
"""All that kobs has a watch of its own for."""

SAYS = {
    "process": ("ProcessCreated", "ProcessTerminated", "ProcessStateChanged"),
    "vfs": ("FileOpened", "FileSlow", "FileChanged"),
    "queue": ("MessageSent", "MessageReceived", "QueueDepth", "IpcTimeout"),
    "scheduler": ("SchedulerLatency", "ContextSwitch", "LoopStalled"),
    "syscall": ("SyscallEnter", "SyscallExit", "SyscallSlow"),
    "network": ("ConnectionEstablished", "ConnectionClosed", "NetworkError", "ResourceLeaked"),
    "permission": ("PermissionDenied", "PermissionGranted"),
    "sandbox": ("SecurityViolation", "CapabilityDenied"),
    "memory": ("GcPaused", "MemoryPressure", "MetricUpdate"),
    "shm": ("ShmCreated", "ShmDestroyed", "ResourceLeaked"),
    "pipe": ("PipeRead", "PipeWritten", "MetricUpdate"),
    "grpc": ("SpanBegan", "SpanEnded"),
}
"""The payload types that each watch tells whenever there is something to tell. Those that it sees
some of (what is mapped, what is written to shared memory) are not among them: that none was told
says nothing."""


def choose(
    only: Iterable[str] | None,
    exclude: Iterable[str] | None,
    found: Mapping[str, others.Other] | None = None,
) -> tuple[str, ...]:
    """The subsystems that `only` and `exclude` leave, of kobs's own and those that were `found`.
    Raises `UnknownSubsystemError`."""
    there_are = (*WATCHED, *(others.find(WATCHED) if found is None else found))
    for name in (*(only or ()), *(exclude or ())):
        if name not in there_are:
            raise UnknownSubsystemError(
                f"there is no subsystem {name!r} to watch; there are {', '.join(there_are)}"
            )
    wanted = tuple(only) if only else there_are
    return tuple(name for name in wanted if name not in tuple(exclude or ()))
