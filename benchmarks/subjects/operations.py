"""What the watches watch, bare: one operation each.

Runs in the peers' environments too, so that what it imports is the standard library's; gRPC where
it is measured.
"""

import asyncio
import atexit
import gc
import mmap
import os
import queue
import socket
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from multiprocessing.shared_memory import ShareableList, SharedMemory
from typing import Any, NamedTuple

from benchmarks.subject import Work, main


class Operation(NamedTuple):
    """What is measured bare and watched."""

    watch: str
    what: str
    code: str
    names: str
    make: Callable[[], Any]
    unrolled: int = 1

    def statement(self, before: Callable[[], None] = lambda: None) -> Work:
        """The operation, after `before` was called."""

        def make() -> Any:
            before()
            return self.make()

        return Work(self.code, self.names, make, unrolled=self.unrolled)


def nothing() -> None:
    """What threads and callbacks do."""


def a_file() -> str:
    """The path of a file."""
    descriptor, path = tempfile.mkstemp()
    os.close(descriptor)
    atexit.register(os.unlink, path)
    return path


def refuse(path: str) -> None:
    """Execute what is no program."""
    with suppress(PermissionError):
        os.execv(path, [path])


def connect(listener: socket.socket) -> None:
    """Make a connection and close both of its ends."""
    with socket.create_connection(listener.getsockname()), listener.accept()[0]:
        pass


def connected() -> Any:
    """Both ends of a TCP connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    return client, listener.accept()[0]


def run_thread() -> None:
    """Start a thread and wait for it."""
    thread = threading.Thread(target=nothing)
    thread.start()
    thread.join()


async def done() -> None:
    """A task's work. The contrib instrumentation knows it by its name."""


def loop() -> Any:
    """An event loop, and what runs in it."""

    async def make_task() -> None:
        await asyncio.create_task(done())

    return asyncio.new_event_loop().run_until_complete, make_task


def grpc_call() -> Any:
    """A call to a server in this process that gives back what it gets."""
    import grpc

    handler = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench.Echo", {"Say": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    atexit.register(server.stop, None)
    atexit.register(channel.close)
    return channel.unary_unary("/bench.Echo/Say")


def grpc_call_beside_api() -> Any:
    """The same where OpenTelemetry's API is loaded: its propagators then write the metadata."""
    import_module("opentelemetry.propagate")
    import_module("opentelemetry.trace")
    return grpc_call()


def segment() -> None:
    """The life of a segment of shared memory."""
    made = SharedMemory(create=True, size=100)
    made.close()
    made.unlink()


def items() -> Any:
    """A list in shared memory."""
    made = ShareableList([1, 2])
    made.shm.unlink()
    return made


OPERATIONS = {
    "spawn": Operation(
        "process", "`os.posix_spawn` and `os.waitpid`",
        'wait(spawn("/bin/true", ["true"], {}), 0)', "spawn, wait",
        lambda: (os.posix_spawn, os.waitpid),
    ),
    "open": Operation("vfs", "`open` and `close`", "open(path).close()", "path", a_file),
    "put_get": Operation(
        "queue", "`put` and `get` of a `queue.Queue`",
        "items.put(1)\nitems.get()", "items", queue.Queue,
    ),
    "thread": Operation("scheduler", "a thread, started and joined", "run()", "run",
                        lambda: run_thread),
    "submit": Operation(
        "scheduler", "`submit` to a `ThreadPoolExecutor`, and its result",
        "pool.submit(nothing).result()", "pool, nothing", lambda: (ThreadPoolExecutor(1), nothing),
    ),
    "task": Operation(
        "scheduler", "a loop's run with a task that makes another",
        "run(begin())", "run, begin", loop,
    ),
    "read": Operation(
        "syscall", "`os.read` of one byte", "read(zero, 1)", "read, zero",
        lambda: (os.read, os.open("/dev/zero", os.O_RDONLY)), 20,
    ),
    "collect": Operation("memory", "`gc.collect(0)` with nothing to do", "collect(0)", "collect",
                         lambda: gc.collect, 20),
    "look": Operation("memory", "a look at what is used of it, at most once a second", "look(0)",
                      "look", lambda: lambda _: None, 20),
    "mmap": Operation("memory", "`mmap.mmap(-1, 4096).close()`", "map(-1, 4096).close()", "map",
                      lambda: mmap.mmap),
    "segment": Operation("shm", "`SharedMemory(create=True)`, `close`, `unlink`", "live()", "live",
                         lambda: segment),
    "item": Operation("shm", "an item of a `ShareableList`", "items[0]", "items", items),
    "pipe": Operation(
        "pipe", "`os.write` and `os.read` of 64 bytes through a pipe",
        "write(into, data)\nread(out, 64)", "out, into, write, read, data",
        lambda: (*os.pipe(), os.write, os.read, bytes(64)),
    ),
    "transfer": Operation(
        "network", "`send` and `recv` of 100 bytes, TCP",
        "client.send(data)\nserver.recv(100)", "client, server, data",
        lambda: (*connected(), bytes(100)),
    ),
    "connect": Operation(
        "network", "connect, accept, close both ends", "connect(listener)", "connect, listener",
        lambda: (connect, socket.create_server(("127.0.0.1", 0))),
    ),
    "listdir": Operation("permission", "`os.listdir`, allowed", "listdir(folder)",
                         "listdir, folder", lambda: (os.listdir, "/proc/self/fd")),
    "chmod": Operation("permission", "`os.chmod`, a grant", "chmod(path, 0o600)", "chmod, path",
                       lambda: (os.chmod, a_file())),
    "refused": Operation("permission", "`os.execv`, denied", "refuse(path)", "refuse, path",
                         lambda: (refuse, a_file())),
    "judged": Operation("sandbox", "`open` and `close`; a rule names `open.write`",
                        "open(path).close()", "path", a_file),
    "grpc": Operation("grpc", "a unary call and its answer, both sides in one process",
                      "call(b'request')", "call", grpc_call),
    "grpc_beside_api": Operation(
        "grpc", "the same, OpenTelemetry's API loaded", "call(b'request')", "call",
        grpc_call_beside_api,
    ),
}  # fmt: skip

SUBJECTS = {f"bare_{name}": operation.statement() for name, operation in OPERATIONS.items()}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
