"""The vocabularies: what they say of themselves is so, and they fit classes of other people."""

import os
import queue
import struct
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from minikernel import QueueManager, ShmManager

import kobs
from kobs import Collector, Event, Severity, observe
from kobs._analysis.graph import CausalGraph
from kobs.observe import Emission, Rule, vocabulary
from tools import vocabularies as reference

PROMISED = {
    "process": "ProcessCreated ProcessTerminated ProcessStateChanged ResourceReclaimed "
    "ResourceLeaked",
    "syscall": "SyscallEnter SyscallExit SyscallSlow",
    "scheduler": "ContextSwitch ProcessPreempted SchedulerLatency LoopStalled CpuThrottled",
    "memory": "MemoryAllocated MemoryFreed MemoryPressure GcPaused ResourceExhausted",
    "queue": "MessageSent MessageReceived IpcTimeout QueueDepth",
    "pipe": "PipeRead PipeWritten MetricUpdate",
    "shm": "ShmCreated ShmRead ShmWritten ShmDestroyed ResourceLeaked",
    "vfs": "FileOpened FileSlow FileChanged MountChanged",
    "permission": "PermissionGranted PermissionDenied RateLimitExceeded",
    "sandbox": "SecurityViolation CapabilityDenied BudgetExceeded",
}


def emissions(subsystem: str) -> list[tuple[Rule, Emission]]:
    return [(rule, em) for rule in vocabulary(subsystem).rules for em in rule.emissions]


class TestWhatTheySay:
    @pytest.mark.parametrize("subsystem", PROMISED)
    def test_each_declares_what_was_promised(self, subsystem: str) -> None:
        declared = {emission.name for _, emission in emissions(subsystem)}
        assert declared == set(PROMISED[subsystem].split())

    def test_each_is_found_by_its_entry_point(self) -> None:
        found = {entry.name for entry in entry_points(group="kobs.vocabularies")}
        assert set(PROMISED) == set(reference.names()) <= found

    @pytest.mark.parametrize("subsystem", PROMISED)
    def test_every_event_of_a_method_is_stated_with_its_fields(self, subsystem: str) -> None:
        stated = reference.stated(subsystem)
        for rule, emission in emissions(subsystem):
            for pattern in rule.methods:
                found = [s for s in stated if pattern in s.methods and s.event == emission.name]
                assert len(found) == 1, f"{pattern} → {emission.name}"
                required = {
                    field.name for field in emission.type.__kobs_schema__.fields if field.required
                }
                wanted = set(emission.fields) | required | set(emission.header) - {"severity"}
                assert wanted <= set(found[0].fields)
                assert ("pid" in found[0].fields) == ("pid" in emission.header)

    @pytest.mark.parametrize("subsystem", PROMISED)
    def test_nothing_else_is_stated(self, subsystem: str) -> None:
        real = {
            (pattern, emission.name)
            for rule, emission in emissions(subsystem)
            for pattern in rule.methods
        }
        stated = reference.stated(subsystem)
        assert {(method, s.event) for s in stated for method in s.methods} == real

    def test_the_reference_page_is_up_to_date(self) -> None:
        assert reference.PAGE.read_text() == reference.page(), "run `make docs`"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    assert made.losses().errors == 0
    made.close()


def payloads(collector: Collector) -> list[Any]:
    return [event.payload for event in collector.snapshot()]


def observed(kind: str, cls: type, collector: Collector) -> Any:
    return kobs.with_collector(observe(kind)(cls)(), collector)


class Child:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode = 7


class TestClassesOfOtherPeople:
    def test_processes_as_objects_and_as_pairs(self, collector: Collector) -> None:
        class Supervisor:
            def create_process(self, command: list[str], nice: int = 3) -> Child:
                return Child(41)

            def start(self) -> None: ...

            async def spawn(self, name: str) -> int:
                return 42

            def wait_any(self) -> tuple[int, int]:
                return 41, 5 << 8

            def join(self, child: Child) -> Child:
                return child

            def set_state(self, pid: int, from_state: str, to_state: str) -> None: ...

            def cleanup(self) -> list[int]:
                return [41, 42]

        boss = observed("process", Supervisor, collector)
        boss.create_process(["/usr/bin/cat", "x"])
        boss.start()  # says no pid: no event
        run(boss.spawn("later"))
        boss.wait_any()
        boss.join(Child(43))
        boss.set_state(41, "ready", "running")
        boss.set_state(41, "running", "running")  # no change: no event
        boss.cleanup()
        assert [(event.pid, event.payload) for event in collector.snapshot()] == [
            (41, kobs.ProcessCreated("cat", 3)),
            (42, kobs.ProcessCreated("later", 0)),
            (41, kobs.ProcessTerminated(5)),
            (43, kobs.ProcessTerminated(7)),
            (41, kobs.ProcessStateChanged("ready", "running")),
            (os.getpid(), kobs.ResourceReclaimed("process", 2)),
        ]

    def test_a_method_a_system_call(self, collector: Collector) -> None:
        class Calls:
            def sys_read(self, fd: int, size: int) -> bytes:
                return b""

            def invoke(self, number: int, **arguments: object) -> None:
                raise FileExistsError(17, "there")

        calls = observed("syscall", Calls, collector)
        calls.sys_read(3, 10)
        with pytest.raises(FileExistsError):
            calls.invoke(9, path="x")
        enter, exit, second, failed = payloads(collector)
        assert (enter.name, exit.name, second.name) == ("read", "read", "9")
        assert enter.args_hash not in (0, second.args_hash)
        assert (failed.result, failed.errno) == (kobs.SyscallResult.ERROR, 17)

    @pytest.mark.parametrize(
        ("usage", "severity"),
        [
            (75, Severity.INFO),
            (75.5, Severity.WARN),
            (90, Severity.WARN),
            (90.1, Severity.ERROR),
            (140, Severity.ERROR),
        ],
    )
    def test_pressure_is_a_warning_over_75_and_an_error_over_90(
        self, collector: Collector, usage: float, severity: Severity
    ) -> None:
        class Memory:
            def memory_pressure(self) -> float:
                return usage

        observed("memory", Memory, collector).memory_pressure()
        (event,) = collector.snapshot()
        assert event.payload == kobs.MemoryPressure(int(usage), 0)
        assert event.severity is severity

    def test_memory_by_address_and_by_object(self, collector: Collector) -> None:
        class Heap:
            limit = 4096

            def malloc(self, nbytes: int) -> Any:
                if nbytes > self.limit:
                    raise MemoryError
                return type("Block", (), {"id": "block-1"})()

            def free(self, address: int, size: int = 16) -> None: ...

            def free_everything(self) -> None: ...

        heap = observed("memory", Heap, collector)
        heap.malloc(100)
        heap.free(0x7F00)
        heap.free_everything()  # says not what: no event
        with pytest.raises(MemoryError):
            heap.malloc(5000)
        # The priority lane's events come in by time as well.
        assert payloads(collector) == [
            kobs.MemoryAllocated(100, "block-1"),
            kobs.MemoryFreed(16, 0x7F00),
            kobs.ResourceExhausted("memory", 4096),
        ]

    def test_a_queue_that_is_its_own_manager(self, collector: Collector) -> None:
        class Mailbox:
            maxsize = 1

            def __init__(self) -> None:
                self.items: queue.Queue[object] = queue.Queue(self.maxsize)

            def put(self, item: object, timeout: float | None = None) -> None:
                self.items.put(item, timeout=timeout)

            def get(self, timeout: float | None = None) -> object:
                return self.items.get(timeout=timeout)

            def qsize(self) -> int:
                return self.items.qsize()

        box = observed("queue", Mailbox, collector)
        parcel = object()
        box.put(parcel)
        box.qsize()
        with pytest.raises(queue.Full):
            box.put(object(), timeout=0.005)
        assert box.get() is parcel
        sent, depth, late, received = collector.snapshot()
        assert sent.payload == kobs.MessageSent("Mailbox", 0)
        assert depth.payload == kobs.QueueDepth("Mailbox", 1, 1)
        assert late.payload == kobs.IpcTimeout("Mailbox", 5)
        assert received.link == sent.link != 0
        assert received.payload.wait_time_us > 0

    def test_a_send_that_failed_is_not_received(self, collector: Collector) -> None:
        class Post:
            def send(self, message: str) -> None:
                raise ConnectionError

            def receive(self) -> str:
                return "hello"

        post = observed("queue", Post, collector)
        with pytest.raises(ConnectionError):
            post.send("hello")
        post.receive()
        (received,) = collector.snapshot()
        assert received.link == 0

    def test_decisions_in_every_form(self, collector: Collector) -> None:
        class Gate:
            limit = 10
            current = 11

            def check_access(self, action: str, permission: str) -> bool:
                return permission == "read"

            def require(self, permission: str) -> None:
                if permission != "read":
                    raise PermissionError(permission)

            def can_fly(self) -> bool:
                return False

            def rate_limit(self) -> bool:
                return False

        gate = observed("permission", Gate, collector)
        gate.check_access("open", "read")
        gate.check_access("open", "write")
        gate.require("read")
        with pytest.raises(PermissionError):
            gate.require("write")
        gate.can_fly()
        gate.rate_limit()
        assert payloads(collector) == [
            kobs.PermissionGranted("open", "read"),
            kobs.PermissionDenied("open", "write"),
            kobs.PermissionGranted("require", "read"),
            kobs.PermissionDenied("require", "write"),
            kobs.PermissionDenied("can_fly", "can_fly"),
            kobs.RateLimitExceeded(10, 11),
        ]

    def test_files_by_path_objects(self, collector: Collector) -> None:
        class Disk:
            slow_threshold_ms = 0

            def open(self, path: Path, flags: int = 0) -> int:
                return 3

            def move(self, src: Path, dst: Path) -> None: ...

        disk = observed("vfs", Disk, collector)
        disk.open(Path("/x"))
        disk.move(Path("/x"), Path("/y"))
        opened, slow, moved, slow_too = payloads(collector)
        assert (opened.path, opened.mode) == ("/x", "0")
        assert moved == kobs.FileChanged("/y", "renamed")
        assert [(s.operation, s.path) for s in (slow, slow_too)] == [
            ("open", "/x"),
            ("rename", "/x"),
        ]

    def test_a_sandbox_that_raises(self, collector: Collector) -> None:
        class Cage:
            def execute(self, code: str) -> None:
                raise PermissionError("no")

        with pytest.raises(PermissionError):
            observed("sandbox", Cage, collector).execute("x")
        assert payloads(collector) == [kobs.SecurityViolation("PermissionError: no")]

    def test_tasks_as_objects(self, collector: Collector) -> None:
        class Task:
            pid = 12

        class Loop:
            def switch(self, prev: Task | None, next: Task) -> None: ...

            def context_switch(self, prev: int, next: int, reason: str) -> None: ...

            def preempt(self, task: Task, remaining_us: float) -> None: ...

            def stall(self, duration_ms: float, stack: str) -> None: ...

        loop = observed("scheduler", Loop, collector)
        loop.switch(None, Task())  # says not from whom: no event
        loop.context_switch(3, 4, "yield")
        loop.preempt(Task(), 1.5)
        loop.stall(70.0, "f (x.py:1)")
        assert payloads(collector) == [
            kobs.ContextSwitch(3, 4, "yield"),
            kobs.ProcessPreempted(1.5),
            kobs.LoopStalled(70.0, "f (x.py:1)"),
        ]
        assert collector.snapshot()[1].pid == 12


def run(coroutine: Any) -> None:
    with pytest.raises(StopIteration):
        coroutine.send(None)


class TestCause:
    def test_a_chain_crosses_shared_memory_and_a_queue(self, collector: Collector) -> None:
        writer, reader, queues = (
            kobs.with_collector(instance, collector)
            for instance in (ShmManager(), ShmManager(), QueueManager())
        )
        name = f"kobs-test-{os.getpid()}-{threading.get_native_id()}-chain"
        queues.create("answers", capacity=1)

        def answer() -> None:
            (number,) = struct.unpack("q", reader.read(name, 8))
            queues.send("answers", str(number + 1).encode())

        writer.create(name, 8)
        writer.write(name, struct.pack("q", 41))
        thread = threading.Thread(target=answer)
        thread.start()
        assert queues.receive("answers", timeout=10).body == b"42"
        thread.join()
        reader.close()
        writer.destroy(name)

        of: dict[str, Event] = {event.type_name: event for event in collector.snapshot()}
        assert of["MessageSent"].parent == of["ShmRead"].id
        graph = CausalGraph(collector.snapshot())
        assert graph.leads_to(of["ShmWritten"], of["MessageReceived"])
        assert not graph.leads_to(of["MessageReceived"], of["ShmWritten"])

    def test_equal_messages_are_joined_in_order(self, collector: Collector) -> None:
        queues = kobs.with_collector(QueueManager(), collector)
        queues.create("q", capacity=3)
        queues.create("other", capacity=3)
        for queue_id in ("q", "other", "q"):
            queues.send(queue_id, b"same")
        for queue_id in ("q", "q", "other"):
            queues.receive(queue_id)
        events = collector.snapshot()
        sent = [event.link for event in events if event.type is kobs.MessageSent]
        received = [event.link for event in events if event.type is kobs.MessageReceived]
        assert received == [sent[0], sent[2], sent[1]]
