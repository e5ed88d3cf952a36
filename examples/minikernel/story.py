"""What the example does when it is run: one chapter a subsystem, each on real resources."""

import errno
import gc
import itertools
import os
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path

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
from minikernel.scheduler import Body, Sleep, WaitFor

EXAMPLES = str(Path(__file__).parents[1])
MB = 1 << 20

Say = Callable[[str], None]


def tell(say: Say) -> None:
    """Run every chapter, and say what happens."""
    with tempfile.TemporaryDirectory(prefix="minikernel-") as folder:
        for chapter in CHAPTERS:
            say(f"\n{(chapter.__doc__ or '').splitlines()[0]}")
            # A context each, as tasks of an event loop have: what one chapter received last is
            # not what the next one acts on.
            copy_context().run(chapter, Path(folder), lambda line: say(f"  {line}"))
    say("\nDone: every child reaped, every segment, pipe, queue and file removed.")


def processes(folder: Path, say: Say) -> None:
    """Processes: children that end well, badly, late, and not at all"""
    with ProcessManager() as manager:
        good = manager.spawn("good", ["sh", "-c", "exit 0"])
        bad = manager.spawn("bad", ["sh", "-c", "exit 3"], priority=5)
        say(f"good ended with {manager.wait(good)}, bad with {manager.wait(bad)}")
        sleeper = manager.spawn("sleeper", ["sleep", "60"])
        stopped = manager.suspend(sleeper)
        resumed = manager.resume(sleeper)
        say(f"sleeper: {stopped.from_state} → {stopped.to_state} → {resumed.to_state}")
        say(f"sleeper, asked to end: {manager.terminate(sleeper)}")
        for name in ("forgotten", "neglected"):
            manager.await_exit(manager.spawn(name, ["true"]))
        say(f"zombies: {len(manager.find_zombies())}, reaped: {manager.cleanup()}")


def syscalls(folder: Path, say: Say) -> None:
    """System calls: some that work, some that fail, one that keeps us waiting"""
    kernel = SyscallExecutor(slow_threshold_ms=20)
    path = str(folder / "calls.txt")
    fd = kernel.execute("open", path, os.O_RDWR | os.O_CREAT, 0o600)
    for line in range(1000):
        kernel.execute("write", fd, f"line {line}\n".encode())
    kernel.execute("lseek", fd, 0, os.SEEK_SET)
    kernel.execute("read", fd, 4096)
    kernel.execute("close", fd)
    for name, *args in (
        ("open", str(folder / "missing"), os.O_RDONLY),
        ("read", fd, 1),
        ("rmdir", str(folder)),
        ("frobnicate",),
    ):
        try:
            kernel.execute(str(name), *args)
        except OSError as error:
            say(f"{name}: {errno.errorcode[error.errno or 0]}")
    read_fd, write_fd = os.pipe()
    answer = threading.Timer(0.05, os.write, (write_fd, b"at last"))
    answer.start()
    kernel.execute("read", read_fd, 100)
    answer.join()
    os.close(read_fd)
    os.close(write_fd)
    kernel.execute("unlink", path)
    say(f"{kernel.calls} calls; failures {kernel.failures}; one read took over 20 ms")


def scheduling(folder: Path, say: Say) -> None:
    """Scheduler: tasks that share one thread, more or less fairly"""
    scheduler = Scheduler(quantum_ms=2, stall_ms=30, cpu_limit_pct=20, window_ms=40)

    def spin(seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    def cruncher(steps: int) -> Body:
        for step in itertools.count():
            spin(0.0005)
            yield None
            # On a busy machine it takes a while to get more than one's share.
            if step >= steps and (scheduler.throttles or step >= 20 * steps):
                return "crunched"

    def ticker() -> Body:
        for _ in range(5):
            yield Sleep(0.01)
        scheduler.notify("ticked")
        return "ticked"

    def waiter() -> Body:
        yield WaitFor("ticked")
        return "woken"

    def hog() -> Body:
        spin(0.045)
        yield None
        return "had its way"

    scheduler.submit("cruncher", cruncher(300))
    scheduler.submit("cruncher too", cruncher(100))
    scheduler.submit("ticker", ticker(), priority=9)
    scheduler.submit("waiter", waiter(), priority=5)
    scheduler.submit("hog", hog())
    say(f"every task came to its end: {', '.join(map(str, scheduler.run().values()))}")


def memory(folder: Path, say: Say) -> None:
    """Memory: up to the brim of a budget and past it"""
    manager = MemoryManager(budget=16 * MB)
    regions = [manager.allocate(4 * MB) for _ in range(3)]
    regions.append(manager.allocate(int(3.2 * MB)))
    say(f"{len(regions)} regions: {manager.check_pressure().usage_pct} % of the budget")
    try:
        manager.allocate(4 * MB)
    except OutOfMemory as refused:
        say(str(refused))
    manager.store(regions[0], b"hello")
    say(f"region {regions[0]} keeps {manager.load(regions[0], 5)!r}; then all are freed")
    manager.free_all()
    gc.disable()
    for _ in range(1000):
        cycle: list[object] = []
        cycle.append(cycle)
    del cycle
    say(f"unreachable objects collected: {manager.collect()}")
    gc.enable()


def queueing(folder: Path, say: Say) -> None:
    """Queues: a producer faster than its consumer, and nobody at the other end"""
    manager = QueueManager()
    manager.create("orders", capacity=4)

    def produce() -> None:
        for number in range(200):
            manager.send("orders", f"order {number}".encode(), timeout=5)

    producer = threading.Thread(target=produce, name="producer")
    producer.start()
    longest = max(manager.receive("orders", timeout=5).wait_time_us for _ in range(200))
    producer.join()
    say(f"200 orders taken; the longest waited {longest / 1000:.2f} ms")
    manager.send("orders", b"one more")
    say("depth {} of {}".format(*manager.depth("orders")))
    manager.receive("orders")
    try:
        manager.receive("orders", timeout=0.02)
    except TimeoutError as error:
        say(str(error))
    manager.close_all()


def piping(folder: Path, say: Say) -> None:
    """Pipes: a child writes, we read"""
    pipes = PipeManager()
    pipe = pipes.create()
    with ProcessManager() as manager:
        end = pipes.write_end(pipe)
        count = f"head -c 300000 /dev/zero >&{end}"
        # Before the child fills it: once it is full, whoever writes waits for us to read.
        pipes.write(pipe, b"header: ")
        child = manager.spawn("zeros", ["sh", "-c", count], pass_fds=[end])
        pipes.close_writer(pipe)
        total = 0
        while data := pipes.read(pipe):
            total += len(data)
        manager.wait(child)
    say(f"{total} bytes at {pipes.throughput(pipe) / MB:.0f} MB a second")
    pipes.close_all()


def sharing(folder: Path, say: Say) -> None:
    """Across processes: one writes figures to shared memory, one adds them up and sends the sum"""
    segment = f"minikernel-{os.getpid()}"
    memory, queues = ShmManager(), QueueManager()
    worker = [sys.executable, "-m", "minikernel.worker"]
    try:
        with ProcessManager() as manager:
            memory.create(segment, 8 * 1000)
            answers = queues.create_shared("answers", capacity=8)
            measure = [*worker, "measure", segment, "1000"]
            manager.wait(manager.spawn("measure", measure, cwd=EXAMPLES))
            first, last = struct.unpack("<q7984xq", memory.read(segment))
            say(f"{segment} holds the figures from {first} to {last}")
            add = [*worker, "add", segment, "1000", answers]
            children = [manager.spawn("add", add, cwd=EXAMPLES) for _ in range(2)]
            for _ in children:
                answer = queues.receive("answers", timeout=30)
                say(f"a child read them and says: the sum is {answer.body.decode()}")
            for child in children:
                manager.wait(child)
    finally:
        queues.close_all()
        memory.close()
        leaked = memory.leaks(segment)
        for name in leaked:
            memory.destroy(name)
    say(f"we forgot the segment, nobody had it any more: {leaked}")


def mounting(folder: Path, say: Say) -> None:
    """Mounts: one tree over two folders, one of them read-only"""
    for name in ("disk", "rom"):
        (folder / name).mkdir()
    (folder / "rom" / "boot.cfg").write_text("quiet\n")
    tree = MountManager(slow_threshold_ms=20)
    tree.mount("/data", str(folder / "disk"))
    tree.mount("/boot", str(folder / "rom"), read_only=True)
    tree.mkdir("/data/inbox")
    tree.write_file("/data/inbox/draft", b"words\n" * 100)
    tree.rename("/data/inbox/draft", "/data/inbox/letter")
    say(f"/data/inbox holds {tree.list_folder('/data/inbox')}")
    for attempt in ("/boot/boot.cfg", "/data/../../etc/hostname"):
        try:
            tree.write_file(attempt, b"mine")
        except OSError as error:
            say(f"writing {attempt}: {error.strerror}")
    os.mkfifo(folder / "disk" / "tap")
    drip = threading.Timer(0.04, (folder / "disk" / "tap").write_bytes, (b"drop",))
    drip.start()
    say(f"a file that takes its time: {tree.read_file('/data/tap')!r}")
    drip.join()
    tree.unlink("/data/inbox/letter")
    for point in list(tree.mounts()):
        tree.unmount(point)


def permissions(folder: Path, say: Say) -> None:
    """Permissions: mode bits, capabilities, and somebody who asks too often"""
    folder.chmod(0o711)
    secret = folder / "secret"
    secret.write_text("42")
    secret.chmod(0o640)
    guard = PermissionManager(str(folder), rate_limit=5, window=60)
    for uid in (os.getuid(), 65534):
        decision = guard.check(uid, "read", "secret")
        word = "granted" if decision else "denied"
        say(f"user {uid} reads secret: {word} ({decision.required})")
    guard.grant(65534, "net_bind")
    guard.authorize(65534, "bind port 80", "net_bind")
    say(f"may user 65534 load a module? {bool(guard.authorize(65534, 'insmod', 'sys_module'))}")
    try:
        for _ in range(10):
            guard.acquire(65534)
    except RateLimitError as error:
        say(str(error))


def sandboxing(folder: Path, say: Say) -> None:
    """Sandbox: code that behaves, code that tries, code that never ends"""
    (folder / "cell").mkdir()
    box = SandboxManager(str(folder / "cell"))
    say(f"sum: {box.run('print(sum(range(10)))', name='sum').output.strip()}")
    curious = "import socket; socket.create_connection(('127.0.0.1', 9))"
    say(f"curious: {box.run(curious, name='curious').error}")
    escape = "open('/etc/hostname', 'w')"
    say(f"escape: {box.run(escape, name='escape', allow=['file.write']).violations[0]}")
    greedy = "files = [open('f', 'w') for _ in range(1000)]"
    say(f"greedy: {box.run(greedy, name='greedy', allow=['file.write']).violations[0]}")
    endless = box.run("while True: pass", name="endless", budget_ms=300)
    say(f"endless: killed after {endless.duration_ms:.0f} ms")


CHAPTERS = (
    processes,
    syscalls,
    scheduling,
    memory,
    queueing,
    piping,
    sharing,
    mounting,
    permissions,
    sandboxing,
)
