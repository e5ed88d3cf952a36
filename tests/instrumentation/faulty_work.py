"""What reaches the hooks of processes, threads, queues and files: for `faulty_hooks.py`.

Each piece of work says what came of it, without what differs from time to time.
"""

import asyncio
import concurrent.futures.process
import concurrent.futures.thread
import multiprocessing.pool
import multiprocessing.popen_forkserver
import multiprocessing.popen_spawn_posix
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """What a call returned or raised, without what differs from time to time."""
    try:
        result = function(*args, **kwargs)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return result if isinstance(result, str) else type(result).__name__


def child(start: Callable[[], Any]) -> str:
    result = start()
    pid = result[0] if isinstance(result, tuple) else result
    if pid == 0:
        os._exit(3)
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def spawned(wait: Callable[[int], Any]) -> str:
    return str(wait(os.posix_spawn("/bin/true", ["true"], {}))[1:2])


def waited_for(_pid: int) -> Any:
    return os.wait()


def waited_with(function: Callable[..., Any]) -> Callable[[int], Any]:
    return lambda pid: function(pid, 0) if function is os.wait4 else function(0)


def waited_by_id(pid: int) -> Any:
    return (pid, os.waitid(os.P_PID, pid, os.WEXITED).si_status)


def no_program() -> str:
    with open("data", "w"):
        pass
    os.chmod("data", 0o755)
    return os.path.abspath("data")


def processes() -> str:
    codes = []
    for method in ("fork", "spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=os.getcwd)
        process.start()
        while process.is_alive():
            time.sleep(0.001)
        process.join()
        codes.append(process.exitcode)
    return str(codes)


def launch_fails() -> str:
    for module in (
        multiprocessing.popen_fork, multiprocessing.popen_spawn_posix,
        multiprocessing.popen_forkserver,
    ):  # fmt: skip
        popen = module.Popen.__new__(module.Popen)

        class Process:
            @property
            def name(self) -> str:
                return "x"

            _identity = (1,)
            _parent_pid = 1

        fork = os.fork
        try:
            os.fork = None  # type: ignore[assignment]
            popen._launch(Process())
        except Exception:
            pass
        finally:
            os.fork = fork
    return "done"


def threads() -> str:
    seen: list[int] = []
    thread = threading.Thread(target=seen.append, args=(1,))
    thread.start()
    thread.join()
    try:
        thread.start()
    except RuntimeError as error:
        return f"{seen} {error}"
    return "started twice"


def raw_thread(start: Callable[..., Any]) -> str:
    done = threading.Lock()
    done.acquire()
    start(done.release, ())
    done.acquire()
    return "done"


def pools() -> str:
    with concurrent.futures.thread.ThreadPoolExecutor(1) as pool:
        found = [pool.submit(len, "ab").result()]
        found.append(str(pool.submit(len, 5).exception()))  # type: ignore[arg-type]
    context = multiprocessing.get_context("fork")
    with concurrent.futures.process.ProcessPoolExecutor(1, mp_context=context) as processes:
        found.append(processes.submit(len, "abc").result())
    with context.Pool(1) as jobs:
        found.append(jobs.apply(len, ("abcd",)))
        found.extend(jobs.imap(len, ["ab"]))
    return str(found)


def tasks() -> str:
    async def main() -> str:
        items: asyncio.Queue[int] = asyncio.Queue(1)
        items.put_nowait(4)
        found = [outcome(items.put_nowait, 5), await items.get(), outcome(items.get_nowait)]
        task = asyncio.create_task(asyncio.sleep(0, 6))
        return f"{found} {await task}"

    return asyncio.run(main(), debug=True)


def queues() -> str:
    found: list[Any] = []
    for kind in (queue.Queue, queue.SimpleQueue):
        items: Any = kind()
        items.put(1)
        items.put_nowait(2)
        found += [items.get(), items.get_nowait(), outcome(items.get, True, 0.001)]
        found.append(outcome(items.get_nowait))
    found.append(outcome(queue.Queue.put, queue.Queue(1), 1))
    full: Any = queue.Queue(1)
    full.put(1)
    found.append(outcome(full.put, 1, True, 0.001))
    found += [outcome(queue.SimpleQueue().put), outcome(queue.Queue().put)]
    found.append(outcome(queue.SimpleQueue().put, 1, wrong=2))
    found.append(outcome(queue.SimpleQueue().put_nowait, 1, wrong=2))
    return str(found)


def messages() -> str:
    context = multiprocessing.get_context("fork")
    found: list[Any] = []
    for kind in (context.Queue, context.JoinableQueue):
        items: Any = kind(1)
        items.put("x")
        found += [outcome(items.put, "y", True, 0.001), items.get(True, 5)]
        found.append(outcome(items.get, True, 0.001))
        items.close()
        items.join_thread()
    simple = context.SimpleQueue()
    simple.put("z")
    found.append(simple.get())
    ours, theirs = context.Pipe()
    ours.send([1])
    found.append(theirs.recv())
    return str(found)


def files() -> str:
    with open("f", "w") as file:
        file.write("x")
    os.close(os.open("f", os.O_RDWR))
    os.rename("f", "g")
    os.replace("g", "f")
    os.truncate("f", 0)
    os.link("f", "h")
    os.symlink("f", "s")
    os.chmod("f", 0o600)
    os.chown("f", -1, -1)
    os.utime("f")
    os.mkfifo("p")
    for name in ("h", "s", "p"):
        os.unlink(name)
    os.remove("f")
    os.mkdir("d")
    os.rmdir("d")
    return outcome(os.rmdir, "d") + str(sorted(os.listdir()))


WORK: dict[str, Callable[[], str]] = {
    "process.fork": lambda: child(os.fork),
    "process.forkpty": lambda: child(os.forkpty),
    "process._exit": lambda: child(os.fork),
    "process.posix_spawn": lambda: spawned(lambda pid: os.waitpid(pid, 0)),
    "process.posix_spawnp": lambda: str(
        os.waitpid(os.posix_spawnp("true", ["true"], os.environ), 0)[1]
    ),
    "process.execv": lambda: outcome(os.execv, no_program(), ["x"]),
    "process.execve": lambda: outcome(os.execve, no_program(), ["x"], {}),
    "process.system": lambda: str(os.system("exit 3")),
    "process.wait": lambda: spawned(waited_for),
    "process.waitpid": lambda: spawned(lambda pid: os.waitpid(pid, 0)),
    "process.wait3": lambda: spawned(waited_with(os.wait3)),
    "process.wait4": lambda: spawned(waited_with(os.wait4)),
    "process.waitid": lambda: spawned(waited_by_id),
    "process.fork_exec": lambda: str(subprocess.run(["sh", "-c", "exit 4"]).returncode),
    "process._handle_exitstatus": lambda: str(subprocess.run(["sh", "-c", "exit 4"]).returncode),
    "process._launch": lambda: processes() + launch_fails(),
    "process.poll": processes,
    "process._bootstrap": processes,
    "scheduler.start_new_thread": lambda: raw_thread(sys.modules["_thread"].start_new_thread),
    "scheduler.start_new": lambda: raw_thread(sys.modules["_thread"].start_new),
    "scheduler.start": threads,
    "scheduler._bootstrap_inner": threads,
    "scheduler.__init__": pools,
    "scheduler.run": pools,
    "scheduler.create_task": tasks,
    "scheduler._run": tasks,
    "scheduler._set_running_loop": tasks,
    "scheduler.extract_stack": tasks,
    "queue.put_nowait": tasks,
    "queue.get_nowait": tasks,
    "queue.SimpleQueue": queues,
    "queue.put": lambda: queues() + messages(),
    "queue.get": lambda: queues() + messages(),
    "queue.__init__": pools,
    "queue": messages,
    "vfs": files,
}
"""By a hook's whole name, or the longest beginning of it."""
