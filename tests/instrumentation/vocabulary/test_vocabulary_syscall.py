"""Each event of the vocabulary `syscall`, each field held against what really happened."""

import errno
import os
import threading
import time
from typing import Any

import pytest
from minikernel import (
    SyscallExecutor,
    syscall,
)

from kobs import (
    SyscallEnter,
    SyscallExit,
    SyscallResult,
    SyscallSlow,
)

SUBSYSTEM = "syscall"


def test_SyscallEnter__the_call_and_a_hash_of_its_arguments(stage: Any) -> None:
    kernel = stage.watch(SyscallExecutor())
    for size in (8, 8, 9):
        os.close(kernel.execute("open", "/dev/zero", os.O_RDONLY))
        kernel.execute("getpid")
        with pytest.raises(OSError, match="Bad file"):
            kernel.execute("read", 1_000_000, size)
    reads = [e for e in stage.all(SyscallEnter) if e.payload.name == "read"]
    first, same, other = (event.payload.args_hash for event in reads)
    assert first == same != other
    assert {event.payload.name for event in stage.all(SyscallEnter)} == {"open", "getpid", "read"}
    assert {event.pid for event in reads} == {os.getpid()}


def test_SyscallExit__how_it_ended_and_how_long_it_took(stage: Any) -> None:
    kernel = stage.watch(SyscallExecutor())
    began = time.perf_counter()
    kernel.execute("nanosleep", 0.02)
    took_us = (time.perf_counter() - began) * 1e6
    with pytest.raises(FileNotFoundError):
        kernel.execute("open", str(stage.folder / "missing"), os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file"):
        kernel.execute("close", 1_000_000)
    slept, opened, closed = stage.all(SyscallExit)
    assert slept.payload.name == "nanosleep"
    assert 20_000 <= slept.payload.duration_us <= took_us
    assert (slept.payload.result, slept.payload.errno) == (SyscallResult.SUCCESS, 0)
    assert (opened.payload.result, opened.payload.errno) == (SyscallResult.ERROR, errno.ENOENT)
    assert (closed.payload.name, closed.payload.errno) == ("close", errno.EBADF)
    entries = stage.all(SyscallEnter)
    assert [exit.parent for exit in (slept, opened, closed)] == [enter.id for enter in entries]


def test_SyscallSlow__a_read_that_really_waits(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = stage.watch(SyscallExecutor(slow_threshold_ms=300))
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"at once")
    kernel.execute("read", read_fd, 100)
    late = threading.Timer(0.35, os.write, (write_fd, b"late"))

    def read(*args: Any) -> bytes:
        late.start()  # not before the call began, or a busy machine spends the wait elsewhere
        return os.read(*args)

    monkeypatch.setitem(syscall._CALLS, "read", read)
    began = time.perf_counter()
    assert kernel.execute("read", read_fd, 100) == b"late"
    took_ms = (time.perf_counter() - began) * 1000
    late.join()
    os.close(read_fd)
    os.close(write_fd)
    slow = stage.one(SyscallSlow).payload
    assert (slow.name, slow.threshold_ms) == ("read", 300)
    assert 300 <= slow.duration_ms <= took_ms


def test_every_event_of_the_vocabulary_has_a_test_of_its_own(unproven: set[str]) -> None:
    assert unproven == set()
