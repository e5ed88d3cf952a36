"""Tests of the example kernel that look at what it did: `pytest --kobs test_minikernel.py`."""

import errno
import os
import struct
import sys
from pathlib import Path

import pytest
from minikernel import (
    MemoryManager,
    PermissionManager,
    ProcessManager,
    QueueManager,
    SandboxManager,
    Scheduler,
    ShmManager,
    SyscallExecutor,
)
from minikernel.memory import OutOfMemory
from minikernel.scheduler import Body, Sleep

from kobs import (
    CapabilityDenied,
    ContextSwitch,
    MemoryPressure,
    MessageReceived,
    MessageSent,
    PermissionDenied,
    ProcessCreated,
    ProcessTerminated,
    ResourceExhausted,
    ResourceLeaked,
    Severity,
    ShmRead,
    ShmWritten,
    SyscallExit,
    SyscallResult,
)
from kobs_pytest.asserting.fixture import Kobs

HERE = str(Path(__file__).parent)
MB = 1 << 20


def test_a_figure_goes_from_one_process_through_shared_memory_and_a_queue(kobs: Kobs) -> None:
    """One child writes figures, another adds them up: they know each other by names alone."""
    segment = f"minikernel-test-{os.getpid()}"
    memory, queues = ShmManager(), QueueManager()
    worker = [sys.executable, "-m", "minikernel.worker"]
    with ProcessManager() as processes:
        memory.create(segment, 8 * 100)
        answers = queues.create_shared("answers", capacity=1)
        measure = processes.spawn("measure", [*worker, "measure", segment, "100"], cwd=HERE)
        assert processes.wait(measure, timeout=30) == 0
        add = processes.spawn("add", [*worker, "add", segment, "100", answers], cwd=HERE)
        assert queues.receive("answers", timeout=30).body == b"5050"
        processes.wait(add, timeout=30)
    memory.destroy(segment)
    queues.close_all()

    kobs.expect(
        ProcessCreated.like().on(pid=measure)
        >> ShmWritten.like(name=segment, size=800).on(pid=measure)
        >> ShmRead.like(name=segment, size=800).on(pid=add)
        >> MessageSent.like(queue_id="answers", size=4).on(pid=add)
        >> MessageReceived.like(queue_id="answers", size=4).on(pid=os.getpid())
    )
    kobs.expect(
        ProcessTerminated.like(exit_code=0).on(pid=measure),
        ProcessTerminated.like(exit_code=0).on(pid=add),
    )


def test_a_shared_memory_answer_comes_after_the_question(kobs: Kobs) -> None:
    """The same within one process: what is read is what was written, and leads to the answer."""
    segment = f"minikernel-test-{os.getpid()}-here"
    memory, queues = ShmManager(), QueueManager()
    queues.create("answers", capacity=1)
    memory.create(segment, 8)
    memory.write(segment, struct.pack("<q", 41))
    (figure,) = struct.unpack("<q", memory.read(segment, 8))
    queues.send("answers", str(figure + 1).encode())
    assert queues.receive("answers").body == b"42"
    memory.destroy(segment)

    kobs.expect(ShmWritten.like(name=segment) >> ShmRead.like() >> MessageReceived.like(size=2))
    kobs.never(ResourceLeaked.like())


def test_a_missing_file_is_an_error_with_its_number(kobs: Kobs, tmp_path: Path) -> None:
    kernel = SyscallExecutor()
    with pytest.raises(FileNotFoundError):
        kernel.execute("open", str(tmp_path / "missing"), os.O_RDONLY)

    failed = SyscallExit.like(name="open", result=SyscallResult.ERROR, errno=errno.ENOENT)
    assert failed in kobs.events
    assert SyscallExit.like(name="read") not in kobs.events


def test_memory_pressure_rises_before_memory_runs_out(kobs: Kobs) -> None:
    memory = MemoryManager(budget=10 * MB)
    for _ in range(10):
        memory.allocate(MB)
    with pytest.raises(OutOfMemory):
        memory.allocate(1)
    memory.free_all()

    warning = MemoryPressure.like(usage_pct=80).on(severity=Severity.WARN)
    alarm = MemoryPressure.like(usage_pct=100).on(severity=Severity.ERROR)
    exhausted = ResourceExhausted.like(resource="memory", limit=10 * MB)
    kobs.expect(warning.then(alarm).then(exhausted))


def test_a_sleeping_task_gives_way(kobs: Kobs) -> None:
    def sleeper() -> Body:
        yield Sleep(0.005)

    def worker() -> Body:
        yield None

    scheduler = Scheduler()
    first = scheduler.submit("sleeper", sleeper(), priority=1)
    second = scheduler.submit("worker", worker())
    scheduler.run()

    kobs.expect(ContextSwitch.like(from_pid=first, to_pid=second, reason="sleep"))


def test_nobody_reads_a_private_file(kobs: Kobs, tmp_path: Path) -> None:
    (tmp_path / "diary").touch(mode=0o600)
    tmp_path.chmod(0o711)
    nobody = 65534
    guard = PermissionManager(str(tmp_path))
    assert not guard.check(nobody, "read", "diary")

    kobs.expect(PermissionDenied.like(operation="read", required="other:r on diary"))


def test_the_sandbox_refuses_the_network(kobs: Kobs, tmp_path: Path) -> None:
    outcome = SandboxManager(str(tmp_path)).run("import socket; socket.socket()")
    assert outcome.exit_code == 1

    kobs.expect(CapabilityDenied.like(capability="network").on(pid=outcome.pid))
