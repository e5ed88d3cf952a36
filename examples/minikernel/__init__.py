"""A small user-space kernel: ten subsystem classes that do real work on real resources.

Each class is an ordinary class with one line of kobs on it, `@observe("…")`. Without a collector
that line costs one test a call, and nothing here knows what is recorded. Run it with
`python -m minikernel` from the `examples` folder, or record it:
`kobs run -m minikernel`.
"""

from minikernel.memory import MemoryManager
from minikernel.permission import PermissionManager
from minikernel.pipes import PipeManager
from minikernel.process import ProcessManager
from minikernel.queues import QueueManager
from minikernel.sandbox import SandboxManager
from minikernel.scheduler import Scheduler
from minikernel.shm import ShmManager
from minikernel.syscall import SyscallExecutor
from minikernel.vfs import MountManager

__all__ = [
    "MemoryManager",
    "MountManager",
    "PermissionManager",
    "PipeManager",
    "ProcessManager",
    "QueueManager",
    "SandboxManager",
    "Scheduler",
    "ShmManager",
    "SyscallExecutor",
]
