"""The small closed vocabularies of an event's header and payload: severity, category, result."""

from enum import IntEnum


class Severity(IntEnum):
    """How much an event matters; ordered. WARN and above live in the priority lane."""

    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4
    CRITICAL = 5


class Category(IntEnum):
    """Which part of a program an event is about."""

    PROCESS = 0
    MEMORY = 1
    SYSCALL = 2
    NETWORK = 3
    IPC = 4
    SCHEDULER = 5
    SECURITY = 6
    PERFORMANCE = 7
    RESOURCE = 8
    FILESYSTEM = 9


class SyscallResult(IntEnum):
    """How a system call ended. `SyscallExit.errno` has the number of an error."""

    SUCCESS = 0
    ERROR = 1
