"""One thing that happened is one event: an observed class under the standard library's watches."""

import asyncio
import multiprocessing
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kobs
from kobs import (
    FileChanged,
    FileOpened,
    IpcTimeout,
    MessageReceived,
    MessageSent,
    ProcessCreated,
    ProcessTerminated,
    QueueDepth,
    arg,
    emits,
    inside,
    observe,
    returned,
    with_collector,
)
from kobs.causality import CausalGraph
from kobs.session import Session
from kobs_instrumentation import registry


@pytest.fixture(params=["watched", "unwatched"])
def collector(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[kobs.Collector]:
    """The process-wide collector, with the watches on and off."""
    session = Session.create("test", ["test"], root=tmp_path / "state")
    with kobs.Collector(session=session, size=1024) as made:
        kobs.init_collector(made)
        if request.param == "watched":
            registry.enable(made)
        try:
            yield made
        finally:
            registry.disable(made)
            kobs.collector.clear_collector()
    assert inside.notes == {}
    assert made.losses().errors == 0


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[kobs.Collector]:
    """The process-wide collector, with the watches on."""
    session = Session.create("test", ["test"], root=tmp_path / "state")
    with kobs.Collector(session=session, size=1024) as made:
        kobs.init_collector(made)
        registry.enable(made)
        try:
            yield made
        finally:
            registry.disable(made)
            kobs.collector.clear_collector()
    assert inside.notes == {}


def told(collector: kobs.Collector, *types: type[Any]) -> list[kobs.Event]:
    return [event for event in collector.snapshot() if event.type in types]


def payloads(collector: kobs.Collector, *types: type[Any]) -> list[Any]:
    return [event.payload for event in told(collector, *types)]


@observe("process")
class Manager:
    def __init__(self) -> None:
        self.children: dict[int, subprocess.Popen[bytes]] = {}

    def spawn(self, name: str, command: list[str], priority: int = 3) -> int:
        child = subprocess.Popen(command)
        self.children[child.pid] = child
        return child.pid

    def launch(self, program: str) -> int:
        return self.spawn(f"{program} by launch", ["true"])

    def spawn_all(self, commands: list[list[str]]) -> list[int]:
        made = [subprocess.Popen(command) for command in commands]
        self.children.update({child.pid: child for child in made})
        return [child.pid for child in made]

    def spawn_many(self, names: list[str]) -> list[int]:
        return [self.spawn(name, ["true"]) for name in names]

    def start_and_fail(self, name: str) -> int:
        self.spawn_all([["true"]])
        raise RuntimeError(name)

    def wait(self, pid: int) -> int:
        return self.children[pid].wait()

    def wait_unseen(self, pid: int) -> int:
        return self.children[pid].wait()


class TestProcesses:
    def test_one_creation_and_one_end_a_process(self, collector: kobs.Collector) -> None:
        manager = Manager()
        pids = [manager.spawn("one", ["true"]), manager.spawn("two", ["false"], priority=7)]
        codes = [manager.wait(pid) for pid in pids]
        created = told(collector, ProcessCreated)
        assert [event.payload for event in created] == [
            ProcessCreated("one", 3),
            ProcessCreated("two", 7),
        ]
        assert [event.pid for event in created] == pids
        ended = told(collector, ProcessTerminated)
        assert [(event.pid, event.payload.exit_code) for event in ended] == list(
            zip(pids, codes, strict=True)
        )
        if registry.enabled():
            assert [event.parent for event in ended] == [event.id for event in created]

    def test_a_child_s_events_are_caused_by_the_one_creation(self, watched: kobs.Collector) -> None:
        manager = Manager()
        pid = manager.spawn("child", [sys.executable, "-c", "open('/dev/zero').close()"])
        assert manager.wait(pid) == 0
        watched.close()
        assert watched.session is not None
        with kobs.open_recording(watched.session) as recording:
            events = recording.snapshot()
        (created,) = [event for event in events if event.type is ProcessCreated]
        assert (created.payload.name, created.pid) == ("child", pid)
        (opened,) = [
            event
            for event in events
            if event.type is FileOpened and event.payload.path == "/dev/zero"
        ]
        assert opened.pid == pid
        assert CausalGraph(events).leads_to(created.id, opened.id)

    def test_the_inner_call_of_two_names_it(self, watched: kobs.Collector) -> None:
        manager = Manager()
        manager.wait(manager.launch("tool"))
        assert payloads(watched, ProcessCreated) == [ProcessCreated("tool by launch", 3)]
        assert len(told(watched, ProcessTerminated)) == 1

    def test_three_in_one_call_are_three(self, watched: kobs.Collector) -> None:
        manager = Manager()
        pids = manager.spawn_all([["true"], ["true"], ["true"]])
        for pid in pids:
            manager.wait(pid)
        assert [event.pid for event in told(watched, ProcessCreated)] == pids
        assert [event.pid for event in told(watched, ProcessTerminated)] == pids

    def test_three_inner_calls_are_three_by_name(self, collector: kobs.Collector) -> None:
        manager = Manager()
        for pid in manager.spawn_many(["a", "b", "c"]):
            manager.wait(pid)
        assert [each.name for each in payloads(collector, ProcessCreated)] == ["a", "b", "c"]
        assert len(told(collector, ProcessTerminated)) == 3

    def test_one_that_was_made_before_an_error_is_told(self, watched: kobs.Collector) -> None:
        manager = Manager()
        with pytest.raises(RuntimeError):
            manager.start_and_fail("broken")
        (pid,) = manager.children
        manager.wait(pid)
        assert [event.pid for event in told(watched, ProcessCreated)] == [pid]

    def test_an_end_that_was_seen_before_is_not_told_again(self, watched: kobs.Collector) -> None:
        manager = Manager()
        pid = manager.spawn("polled", ["false"])
        manager.children[pid].wait()  # past the observed methods
        assert manager.wait(pid) == 1
        assert [event.pid for event in told(watched, ProcessTerminated)] == [pid]

    def test_one_that_another_thread_made_is_told_once(self, watched: kobs.Collector) -> None:
        @observe("process")
        class Pool:
            def spawn(self, name: str) -> subprocess.Popen[bytes]:
                made: list[subprocess.Popen[bytes]] = []
                thread = threading.Thread(target=lambda: made.append(subprocess.Popen(["true"])))
                thread.start()
                thread.join()
                return made[0]

        child = Pool().spawn("by a thread")
        child.wait()
        assert [event.pid for event in told(watched, ProcessCreated)] == [child.pid]

    def test_pids_that_are_made_up_are_told(self, watched: kobs.Collector) -> None:
        @observe("process")
        class Simulated:
            def create(self, name: str, pid: int) -> int:
                return pid

        child = subprocess.Popen(["true"])
        Simulated().create("simulated", child.pid)
        child.wait()
        assert [each.name for each in payloads(watched, ProcessCreated)] == ["true", "simulated"]

    def test_a_call_that_tells_another_collector_tells_it_too(
        self, watched: kobs.Collector
    ) -> None:
        with kobs.Collector(size=64) as own:
            manager = with_collector(Manager(), own)
            pid = manager.spawn("mine", ["true"])
            manager.wait(pid)
            assert [each.name for each in payloads(own, ProcessCreated)] == ["mine"]
            assert len(told(own, ProcessTerminated)) == 1
        assert [each.name for each in payloads(watched, ProcessCreated)] == ["true"]
        assert len(told(watched, ProcessTerminated)) == 1

    def test_a_coroutine(self, collector: kobs.Collector) -> None:
        @observe("process")
        class Asynchronous:
            async def spawn(self, name: str) -> asyncio.subprocess.Process:
                return await asyncio.create_subprocess_exec("true")

            async def wait(self, process: asyncio.subprocess.Process) -> int:
                return await process.wait()

        async def main() -> int:
            manager = Asynchronous()
            child = await manager.spawn("async")
            assert await manager.wait(child) == 0
            return child.pid

        pid = asyncio.run(main())
        (created,) = told(collector, ProcessCreated)
        assert (created.payload.name, created.pid) == ("async", pid)
        assert [event.pid for event in told(collector, ProcessTerminated)] == [pid]

    def test_what_emits_says(self, collector: kobs.Collector) -> None:
        @observe
        class Launcher:
            @emits(ProcessCreated, name=arg("title"), priority=9, pid=returned("pid"))
            def go(self, title: str) -> subprocess.Popen[bytes]:
                return subprocess.Popen(["true"])

        child = Launcher().go("by emits")
        child.wait()
        (created,) = told(collector, ProcessCreated)
        assert (created.payload, created.pid) == (ProcessCreated("by emits", 9), child.pid)

    def test_words_that_cannot_be_had_leave_the_watch_s(self, watched: kobs.Collector) -> None:
        def broken(_: object) -> str:
            raise ZeroDivisionError

        @observe
        class Launcher:
            @emits(ProcessCreated, name=arg("title").map(broken), priority=9, pid=returned("pid"))
            def go(self, title: str) -> subprocess.Popen[bytes]:
                return subprocess.Popen(["true"])

        child = Launcher().go("x")
        child.wait()
        assert [each.name for each in payloads(watched, ProcessCreated)] == ["true"]


@observe("queue")
class Orders:
    def __init__(self, made: Any) -> None:
        self.queue = made

    def send(self, queue_id: str, body: object) -> None:
        self.queue.put((1, body))

    def receive(self, queue_id: str, timeout: float = 5) -> Any:
        return self.queue.get(timeout=timeout)[1]

    def receive_and_act(self, queue_id: str, act: Callable[[], None]) -> Any:
        item = self.queue.get()[1]
        act()
        return item

    def receive_all(self, queue_id: str, count: int) -> None:
        for _ in range(count):
            self.queue.get()


class TestQueues:
    def test_one_send_and_one_receive_a_message(self, collector: kobs.Collector) -> None:
        orders = Orders(queue.Queue())
        for body in (b"four", b"fives"):
            orders.send("orders", body)
        assert [orders.receive("orders") for _ in range(2)] == [b"four", b"fives"]
        sent, received = told(collector, MessageSent), told(collector, MessageReceived)
        assert [event.payload for event in sent] == [
            MessageSent("orders", 4),
            MessageSent("orders", 5),
        ]
        assert [(e.payload.queue_id, e.payload.size) for e in received] == [
            ("orders", 4),
            ("orders", 5),
        ]
        assert [event.link for event in sent] == [event.link for event in received]
        assert all(event.link for event in sent)
        assert all(event.payload.wait_time_us > 0 for event in received)
        graph = CausalGraph(collector.snapshot())
        assert graph.leads_to(sent[0].id, received[0].id)

    def test_what_follows_a_receive_inside_the_call_is_caused_by_it(
        self, watched: kobs.Collector
    ) -> None:
        orders = Orders(queue.Queue())
        orders.send("orders", b"four")
        orders.receive_and_act("orders", lambda: open(os.devnull).close())
        (received,), (opened,) = told(watched, MessageReceived), told(watched, FileOpened)
        assert received.payload.queue_id == "orders"
        assert opened.parent == received.id

    def test_what_follows_the_call_is_caused_by_the_receive(
        self, collector: kobs.Collector
    ) -> None:
        orders = Orders(queue.Queue())
        orders.send("orders", b"four")
        orders.receive("orders")
        after = collector.emit(ProcessTerminated(0))
        (received,) = told(collector, MessageReceived)
        assert CausalGraph(collector.snapshot()).leads_to(received.id, after)

    def test_three_receives_in_one_call_that_returns_none_are_three(
        self, watched: kobs.Collector
    ) -> None:
        orders = Orders(queue.Queue())
        for _ in range(3):
            orders.send("orders", b"four")
        orders.receive_all("orders", 3)
        received, sent = told(watched, MessageReceived), told(watched, MessageSent)
        assert [event.payload.queue_id for event in received] == ["orders"] * 3
        assert [event.link for event in received] == [event.link for event in sent]

    def test_one_timeout(self, collector: kobs.Collector) -> None:
        orders = Orders(queue.Queue())
        with pytest.raises(queue.Empty):
            orders.receive("orders", timeout=0.01)
        assert payloads(collector, IpcTimeout) == [IpcTimeout("orders", 10.0)]

    def test_depths_are_told_of_the_queue_by_its_name(self, watched: kobs.Collector) -> None:
        orders = Orders(queue.Queue())
        for _ in range(8):
            orders.send("orders", b"")
        assert payloads(watched, QueueDepth) == [QueueDepth("orders", 8, 0)]

    def test_a_depth_does_not_cost_the_receive_its_words(self, watched: kobs.Collector) -> None:
        orders = Orders(queue.Queue(1))
        orders.send("orders", b"four")
        orders.receive("orders")
        depths, (received,) = payloads(watched, QueueDepth), payloads(watched, MessageReceived)
        assert depths == [QueueDepth("orders", 1, 1), QueueDepth("orders", 0, 1)]
        assert received.size == 4

    def test_past_the_class_the_watch_tells(self, watched: kobs.Collector) -> None:
        orders = Orders(queue.Queue())
        orders.queue.put((1, b"four"))
        orders.receive("orders")
        (sent,), (received,) = told(watched, MessageSent), told(watched, MessageReceived)
        assert sent.payload.queue_id.startswith("Queue-")
        assert (received.payload.queue_id, received.payload.size) == ("orders", 4)
        assert sent.link == received.link

    def test_between_processes(self, collector: kobs.Collector) -> None:
        orders = Orders(multiprocessing.get_context("spawn").Queue())
        orders.send("orders", b"four")
        assert orders.receive("orders") == b"four"
        orders.queue.close()
        orders.queue.join_thread()  # it is the feeder that tells
        (sent,), (received,) = told(collector, MessageSent), told(collector, MessageReceived)
        assert sent.payload == MessageSent("orders", 4)
        assert (received.payload.queue_id, received.payload.size) == ("orders", 4)
        assert sent.link == received.link != 0

    def test_coroutines(self, collector: kobs.Collector) -> None:
        @observe("queue")
        class Topics:
            def __init__(self) -> None:
                self.queue: asyncio.Queue[bytes] = asyncio.Queue()

            async def publish(self, topic: str, data: bytes) -> None:
                await self.queue.put(data)

            async def take(self, topic: str) -> bytes:
                return await self.queue.get()

        async def main() -> None:
            topics = Topics()
            taker = asyncio.create_task(topics.take("news"))
            await asyncio.sleep(0)
            await topics.publish("news", b"four")
            assert await taker == b"four"

        asyncio.run(main())
        (sent,), (received,) = told(collector, MessageSent), told(collector, MessageReceived)
        assert sent.payload == MessageSent("news", 4)
        assert (received.payload.queue_id, received.payload.size) == ("news", 4)
        assert sent.link == received.link != 0


@observe("vfs")
class Tree:
    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, path: str, mode: str = "r") -> Any:
        (self.root / "log").open().close()
        return (self.root / path).open(mode)

    def write(self, path: str, text: str) -> None:
        temporary = self.root / "temporary"
        temporary.write_text(text)
        temporary.replace(self.root / path)

    def mkdir(self, path: str) -> None:
        (self.root / path).mkdir()

    def chmod(self, path: str) -> None:
        (self.root / path).chmod(0o600)

    def unlink(self, path: str) -> None:
        (self.root / path).unlink()


class TestFiles:
    def test_one_change_is_one_event(self, collector: kobs.Collector, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        collector.reset()
        tree = Tree(tmp_path)
        tree.mkdir("folder")
        tree.chmod("file")
        tree.unlink("file")
        assert payloads(collector, FileChanged) == [
            FileChanged("folder", "created"),
            FileChanged("file", "changed"),
            FileChanged("file", "removed"),
        ]

    def test_what_more_happened_is_told_as_it_was(
        self, watched: kobs.Collector, tmp_path: Path
    ) -> None:
        Tree(tmp_path).write("file", "text")
        assert payloads(watched, FileChanged) == [
            FileChanged("file", "written"),
            FileChanged(str(tmp_path / "file"), "renamed"),
        ]

    def test_the_words_are_for_the_first_that_was_opened(
        self, watched: kobs.Collector, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "log").touch()
        watched.reset()
        Tree(tmp_path).open("file").close()
        assert len(told(watched, FileOpened)) == 2

    def test_opened(self, collector: kobs.Collector, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        collector.reset()

        @observe("vfs")
        class Simple:
            def open(self, path: str, mode: str = "rb") -> Any:
                return (tmp_path / path).open(mode)

        Simple().open("file").close()
        (opened,) = payloads(collector, FileOpened)
        assert (opened.path, opened.mode) == ("file", "rb")
        assert opened.duration_us > 0


def test_the_vocabularies_are_looked_up_once_and_unseen(tmp_path: Path) -> None:
    session = tmp_path / "session"
    code = (
        "import kobs\n"
        "for number in range(10):\n"
        "    kobs.observe('process')(type('C', (), {'spawn': lambda self: 1}))\n"
    )
    subprocess.run(
        [sys.executable, "-m", "kobs", "run", "--session", str(session), "--",
         sys.executable, "-c", code],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with kobs.open_recording(session) as recording:
        opened = [e.payload.path for e in recording.events() if e.type is FileOpened]
    assert not [path for path in opened if path.endswith((".txt", "METADATA"))]
