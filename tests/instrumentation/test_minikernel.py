"""The example kernel by itself: its classes do what they say, on the system's own resources."""

import errno
import os
import re
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from minikernel import (
    MemoryManager,
    MountManager,
    PermissionManager,
    PipeManager,
    ProcessManager,
    QueueManager,
    SandboxManager,
    Scheduler,
    ShmManager,
    SyscallExecutor,
)
from minikernel.memory import OutOfMemory
from minikernel.permission import RateLimitError
from minikernel.process import read_state
from minikernel.sandbox import Limits
from minikernel.scheduler import Body, Sleep, WaitFor

EXAMPLES = Path(__file__).parents[2] / "examples"
NOBODY = 65534


class TestProcesses:
    def test_exit_codes_and_signals_are_the_childs_own(self) -> None:
        with ProcessManager() as manager:
            assert manager.wait(manager.spawn("three", ["sh", "-c", "exit 3"])) == 3
            assert manager.terminate(manager.spawn("sleeper", ["sleep", "60"])) == -signal.SIGTERM
            assert manager.kill(manager.spawn("sleeper", ["sleep", "60"])) == -signal.SIGKILL

    def test_a_child_that_ignores_being_asked_is_made_to_end(self) -> None:
        with ProcessManager() as manager:
            stubborn = manager.spawn(
                "stubborn", ["sh", "-c", "trap '' TERM; echo ready; exec sleep 60"], capture=True
            )
            stdout = manager._child(stubborn).stdout
            assert stdout is not None
            assert stdout.readline() == b"ready\n"
            assert manager.terminate(stubborn, grace=0.05) == -signal.SIGKILL

    def test_priority_is_the_childs_niceness(self) -> None:
        with ProcessManager() as manager:
            pid = manager.spawn("nice", ["sleep", "60"], priority=7)
            expected = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 7)
            assert os.getpriority(os.PRIO_PROCESS, pid) == expected

    def test_a_stopped_child_is_stopped_until_it_is_resumed(self) -> None:
        with ProcessManager() as manager:
            pid = manager.spawn("sleeper", ["sleep", "60"])
            assert manager.suspend(pid).to_state == "stopped"
            assert read_state(pid) == "stopped"
            resumed = manager.resume(pid)
            assert resumed.from_state == "stopped"
            assert resumed.to_state != "stopped"

    def test_a_child_that_nobody_waited_for_is_a_zombie_until_cleanup(self) -> None:
        with ProcessManager() as manager:
            pid = manager.spawn("forgotten", ["true"])
            manager.await_exit(pid)
            assert manager.find_zombies() == [pid]
            assert manager.cleanup() == 1
            assert read_state(pid) == "dead"

    def test_leaving_the_block_leaves_no_child(self) -> None:
        with ProcessManager() as manager:
            pid = manager.spawn("sleeper", ["sleep", "60"])
        assert read_state(pid) == "dead"

    def test_a_stranger_is_refused(self) -> None:
        with pytest.raises(ProcessLookupError, match="no child 1 here"):
            ProcessManager().wait(1)


class TestSyscalls:
    def test_calls_have_their_effect(self, tmp_path: Path) -> None:
        kernel = SyscallExecutor()
        fd = kernel.execute("open", str(tmp_path / "f"), os.O_RDWR | os.O_CREAT, 0o600)
        assert kernel.execute("write", fd, b"hello") == 5
        kernel.execute("close", fd)
        assert (tmp_path / "f").read_bytes() == b"hello"

    @pytest.mark.parametrize(
        ("call", "code"),
        [
            (("open", "/does/not/exist", os.O_RDONLY), errno.ENOENT),
            (("read", 1_000_000, 1), errno.EBADF),
            (("rmdir", "/proc"), errno.EBUSY),
            (("no_such_call",), errno.ENOSYS),
        ],
    )
    def test_failures_are_the_systems(self, call: tuple[str, ...], code: int) -> None:
        kernel = SyscallExecutor()
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            kernel.execute(*call)
        assert caught.value.errno == code
        assert kernel.failures == {errno.errorcode[code]: 1}


class TestScheduler:
    def test_the_most_urgent_runs_first_and_equals_take_turns(self) -> None:
        order: list[str] = []

        def body(name: str) -> Body:
            for _ in range(2):
                order.append(name)
                yield None

        scheduler = Scheduler(quantum_ms=0)
        scheduler.submit("a", body("a"))
        scheduler.submit("b", body("b"))
        scheduler.submit("urgent", body("urgent"), priority=1)
        scheduler.run()
        assert order == ["urgent", "urgent", "a", "b", "a", "b"]

    def test_what_the_tasks_returned_comes_back(self) -> None:
        def body() -> Body:
            yield Sleep(0.001)
            return 42

        scheduler = Scheduler()
        pid = scheduler.submit("answer", body())
        assert scheduler.run() == {pid: 42}

    def test_a_signal_wakes_those_who_wait_for_it(self) -> None:
        scheduler = Scheduler()
        order: list[str] = []

        def waiter() -> Body:
            yield WaitFor("go")
            order.append("woken")

        def notifier() -> Body:
            order.append("notifies")
            assert scheduler.notify("go") == 1
            yield None

        scheduler.submit("waiter", waiter(), priority=1)
        scheduler.submit("notifier", notifier())
        scheduler.run()
        assert order == ["notifies", "woken"]

    def test_tasks_that_can_never_run_are_an_error(self) -> None:
        def waiter() -> Body:
            yield WaitFor("godot")

        scheduler = Scheduler()
        scheduler.submit("waiter", waiter())
        with pytest.raises(RuntimeError, match="godot"):
            scheduler.run()


class TestMemory:
    def test_regions_keep_what_is_stored(self) -> None:
        manager = MemoryManager(budget=1 << 20)
        region = manager.allocate(8192)
        manager.store(region, b"data", offset=5000)
        assert manager.load(region, 4, offset=5000) == b"data"
        assert manager.free(region) == 8192
        assert manager.used == 0

    def test_the_budget_is_a_limit(self) -> None:
        manager = MemoryManager(budget=10_000)
        manager.allocate(6_000)
        with pytest.raises(OutOfMemory) as refused:
            manager.allocate(6_000)
        assert refused.value.limit == 10_000
        assert manager.used == 6_000
        manager.free_all()

    def test_a_region_is_freed_once(self) -> None:
        manager = MemoryManager(budget=10_000)
        region = manager.allocate(100)
        manager.free(region)
        with pytest.raises(ValueError, match="no region"):
            manager.free(region)


@pytest.fixture(params=["threads", "processes"])
def queues(request: pytest.FixtureRequest) -> object:
    manager = QueueManager()
    if request.param == "threads":
        manager.create("q", capacity=2)
    else:
        manager.create_shared("q", capacity=2)
    yield manager
    manager.close_all()


class TestQueues:
    def test_first_in_first_out(self, queues: QueueManager) -> None:
        queues.send("q", b"1")
        queues.send("q", b"2")
        assert [queues.receive("q").body, queues.receive("q").body] == [b"1", b"2"]

    def test_a_full_queue_makes_the_sender_wait(self, queues: QueueManager) -> None:
        queues.send("q", b"1")
        queues.send("q", b"2")
        assert queues.depth("q") == (2, 2)
        with pytest.raises(TimeoutError, match="still full"):
            queues.send("q", b"3", timeout=0.01)
        taker = threading.Timer(0.02, queues.receive, ("q",))
        taker.start()
        queues.send("q", b"3", timeout=60)
        taker.join()
        assert queues.depth("q") == (2, 2)

    def test_an_empty_queue_makes_the_receiver_wait(self, queues: QueueManager) -> None:
        with pytest.raises(TimeoutError, match="still empty"):
            queues.receive("q", timeout=0.01)
        sender = threading.Timer(0.02, queues.send, ("q", b"late"))
        sender.start()
        assert queues.receive("q", timeout=60).body == b"late"
        sender.join()

    def test_wait_time_is_from_send_to_receive(self, queues: QueueManager) -> None:
        queues.send("q", b"1")
        threading.Event().wait(0.03)
        assert 30_000 <= queues.receive("q").wait_time_us < 10_000_000

    def test_many_processes_take_each_message_once(self) -> None:
        manager = QueueManager()
        tasks = manager.create_shared("tasks", capacity=50)
        done = manager.create_shared("done", capacity=50)
        taker = (
            "import sys\n"
            "from minikernel.queues import QueueManager\n"
            "q = QueueManager(); q.attach('tasks', sys.argv[1]); q.attach('done', sys.argv[2])\n"
            "while (m := q.receive('tasks', timeout=30)).body != b'stop':\n"
            "    q.send('done', m.body, timeout=30)\n"
            "q.close_all()\n"
        )
        with ProcessManager() as processes:
            pids = [
                processes.spawn(
                    "taker", [sys.executable, "-c", taker, tasks, done], cwd=str(EXAMPLES)
                )
                for _ in range(3)
            ]
            for number in range(40):
                manager.send("tasks", b"%d" % number, timeout=30)
            taken = {int(manager.receive("done", timeout=30).body) for _ in range(40)}
            for _ in pids:
                manager.send("tasks", b"stop")
            assert [processes.wait(pid, timeout=30) for pid in pids] == [0, 0, 0]
        manager.close_all()
        assert taken == set(range(40))
        assert not Path(tasks).exists()


class TestPipes:
    def test_what_is_written_is_read_until_the_end(self) -> None:
        pipes = PipeManager()
        pipe = pipes.create()
        assert pipes.write(pipe, b"one") == 3
        pipes.close_writer(pipe)
        assert (pipes.read(pipe), pipes.read(pipe)) == (b"one", b"")
        assert pipes.throughput(pipe) > 0
        pipes.close_all()


class TestSharedMemory:
    def test_another_manager_reads_what_was_written(self) -> None:
        name = f"kobs-test-{os.getpid()}-shared"
        here, there = ShmManager(), ShmManager()
        here.create(name, 64)
        here.write(name, b"words", offset=3)
        assert there.read(name, 5, offset=3) == b"words"
        there.close()
        here.destroy(name)
        with pytest.raises(FileNotFoundError):
            there.attach(name)

    def test_a_child_that_attached_leaves_the_segment_alone(self) -> None:
        # Before Python 3.13 the child's resource tracker would remove it.
        name = f"kobs-test-{os.getpid()}-child"
        manager = ShmManager()
        manager.create(name, 16)
        manager.write(name, struct.pack("<2q", 20, 22))
        queues = QueueManager()
        answers = queues.create_shared("answers", capacity=1)
        done = subprocess.run(
            [sys.executable, "-m", "minikernel.worker", "add", name, "2", answers],
            cwd=EXAMPLES,
            stderr=subprocess.PIPE,
            check=True,
        )
        assert done.stderr == b""
        assert queues.receive("answers", timeout=1).body == b"42"
        queues.close_all()
        assert Path("/dev/shm", name).exists()
        manager.destroy(name)

    def test_a_segment_that_nobody_maps_is_a_leak(self) -> None:
        prefix = f"kobs-test-{os.getpid()}-leak"
        manager = ShmManager()
        manager.create(prefix, 16)
        assert manager.leaks(prefix) == []
        manager.detach(prefix)
        assert manager.leaks(prefix) == [prefix]
        manager.destroy(prefix)
        assert manager.leaks(prefix) == []

    def test_bytes_outside_are_refused(self) -> None:
        name = f"kobs-test-{os.getpid()}-bounds"
        manager = ShmManager()
        manager.create(name, 8)
        with pytest.raises(ValueError, match="not all inside"):
            manager.write(name, b"123456789")
        manager.destroy(name)


class TestMounts:
    def test_one_tree_over_two_folders(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        tree = MountManager()
        tree.mount("/", str(tmp_path / "a"))
        tree.mount("/b", str(tmp_path / "b"))
        tree.write_file("/b/x", b"1")
        tree.rename("/b/x", "/y")
        assert (tmp_path / "a" / "y").read_bytes() == b"1"
        tree.unlink("/y")
        assert tree.list_folder("/") == []

    @pytest.mark.parametrize("path", ["/m/../secret", "/m/link"])
    def test_no_path_leads_out(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "m").mkdir()
        (tmp_path / "secret").write_text("x")
        (tmp_path / "m" / "link").symlink_to(tmp_path / "secret")
        tree = MountManager()
        tree.mount("/m", str(tmp_path / "m"))
        with pytest.raises(OSError, match="out of its mount"):
            tree.read_file(path)

    def test_a_link_is_removed_itself(self, tmp_path: Path) -> None:
        (tmp_path / "target").write_text("x")
        (tmp_path / "link").symlink_to("target")
        tree = MountManager()
        tree.mount("/m", str(tmp_path))
        tree.unlink("/m/link")
        assert tree.list_folder("/m") == ["target"]

    def test_read_only_is_read_only(self, tmp_path: Path) -> None:
        tree = MountManager()
        tree.mount("/m", str(tmp_path), read_only=True)
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            tree.write_file("/m/x", b"")
        tree.remount("/m", read_only=False)
        assert tree.write_file("/m/x", b"abc") == 3


class TestPermissions:
    @pytest.mark.parametrize(
        ("mode", "uid", "gids", "operation", "granted"),
        [
            (0o640, "owner", (), "write", True),
            (0o440, "owner", (), "write", False),
            (0o640, NOBODY, (), "read", False),
            (0o640, NOBODY, ("group",), "read", True),
            (0o604, NOBODY, ("group",), "read", False),
            (0o604, NOBODY, (), "read", True),
            (0o600, 0, (), "write", True),
            (0o600, 0, (), "execute", False),
            (0o610, 0, (), "execute", True),
        ],
    )
    def test_mode_bits_decide(
        self,
        tmp_path: Path,
        mode: int,
        uid: int | str,
        gids: tuple[str, ...],
        operation: str,
        granted: bool,
    ) -> None:
        tmp_path.chmod(0o711)
        file = tmp_path / "file"
        file.touch()
        group = file.stat().st_gid
        owner = 1000 if os.getuid() == 0 else os.getuid()
        if os.getuid() == 0:
            os.chown(file, owner, group)
        file.chmod(mode)
        guard = PermissionManager(str(tmp_path))
        decision = guard.check(
            owner if uid == "owner" else int(uid),
            operation,
            "file",
            gids=tuple(group for _ in gids),
        )
        assert bool(decision) is granted

    def test_a_closed_folder_hides_an_open_file(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o711)
        (tmp_path / "closed").mkdir(mode=0o700)
        (tmp_path / "closed" / "file").touch(mode=0o666)
        guard = PermissionManager(str(tmp_path))
        with pytest.raises(PermissionError, match="other:x on closed"):
            guard.require(NOBODY, "read", "closed/file")

    def test_capabilities_come_and_go(self, tmp_path: Path) -> None:
        guard = PermissionManager(str(tmp_path))
        assert not guard.authorize(7, "reboot", "sys_boot")
        guard.grant(7, "sys_boot")
        assert guard.authorize(7, "reboot", "sys_boot")
        guard.revoke(7, "sys_boot")
        assert not guard.authorize(7, "reboot", "sys_boot")
        assert [decision.granted for _, decision in guard.trail] == [False, True, False]

    def test_a_rate_is_kept_for_each_user(self, tmp_path: Path) -> None:
        guard = PermissionManager(str(tmp_path), rate_limit=2, window=60)
        assert [guard.acquire(1), guard.acquire(1), guard.acquire(2)] == [1, 0, 1]
        with pytest.raises(RateLimitError) as refused:
            guard.acquire(1)
        assert (refused.value.limit, refused.value.current) == (2, 3)


class TestSandbox:
    def test_code_that_behaves_just_runs(self, tmp_path: Path) -> None:
        outcome = SandboxManager(str(tmp_path)).run("import json; print(json.dumps([1, 2]))")
        assert (outcome.exit_code, outcome.output, outcome.denied) == (0, "[1, 2]\n", [])

    @pytest.mark.parametrize(
        ("code", "capability"),
        [
            ("open('x', 'w')", "file.write"),
            ("open('/etc/hostname')", "file.read"),
            ("import os; os.listdir('.')", "file.read"),
            ("import socket; socket.socket()", "network"),
            ("import os; os.system('true')", "process"),
            ("import subprocess; subprocess.run(['true'])", "process"),
            ("import os; os.kill(os.getppid(), 9)", "signal"),
            ("import ctypes; ctypes.CDLL(None)", "native"),
        ],
    )
    def test_what_is_not_granted_is_refused(
        self, tmp_path: Path, code: str, capability: str
    ) -> None:
        outcome = SandboxManager(str(tmp_path)).run(code)
        assert outcome.exit_code == 1
        assert outcome.error.startswith("PermissionError")
        assert [denied for denied, _ in outcome.denied] == [capability]

    def test_a_grant_holds_inside_the_folder_only(self, tmp_path: Path) -> None:
        box = SandboxManager(str(tmp_path))
        assert box.run("open('x', 'w').write('hi')", allow=["file.write"]).exit_code == 0
        assert (tmp_path / "x").read_text() == "hi"
        outcome = box.run("open('../y', 'w')", allow=["file.write"])
        assert "outside of its folder" in outcome.violations[0]
        assert not (tmp_path.parent / "y").exists()

    @pytest.mark.parametrize(
        ("code", "violation"),
        [
            ("x = bytearray(1 << 30)", "more memory"),
            ("x = [open('f', 'w') for _ in range(100)]", "more files"),
            ("open('f', 'wb').write(bytes(1 << 20))", "past its limit"),
            ("while True: pass", f"signal {int(signal.SIGXCPU)}"),
        ],
    )
    def test_the_system_enforces_the_limits(
        self, tmp_path: Path, code: str, violation: str
    ) -> None:
        limits = Limits(open_files=32, file_size=4096, cpu_seconds=1)
        box = SandboxManager(str(tmp_path), limits=limits)
        outcome = box.run(code, allow=["file.write"], budget_ms=30_000)
        assert outcome.exit_code != 0
        assert [text for text in outcome.violations if violation in text]

    def test_a_run_past_its_budget_is_killed(self, tmp_path: Path) -> None:
        outcome = SandboxManager(str(tmp_path)).run("while True: pass", budget_ms=200)
        assert outcome.over_budget
        assert outcome.exit_code == -signal.SIGKILL
        assert outcome.duration_ms >= 200


def test_the_story_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "minikernel")],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "the sum is 500500" in done.stdout
    assert list(tmp_path.iterdir()) == []
    (segment,) = set(re.findall(r"minikernel-\d+", done.stdout))
    assert not Path("/dev/shm", segment).exists()
