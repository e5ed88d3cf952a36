"""What a watch adds to the calls that it watches: `python -m benchmarks.watched_calls`.

Each operation runs bare and watched in turns, in this process; CPU time, the fastest round
counts. Prints nanoseconds a call and what is added.
"""

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from time import thread_time_ns

from kobs import Collector
from kobs_instrumentation.policy import SandboxPolicy
from kobs_instrumentation.watch import network, permission, sandbox

ROUNDS = 15
Operation = Callable[[int], None]
Switch = Callable[[], Callable[[], None]]


def main() -> None:
    """Print the table."""
    with Collector() as collector, operations() as table:
        get = lambda: collector  # noqa: E731
        policy = SandboxPolicy(deny=["open.write:/nowhere/*"])
        watches: dict[str, Switch] = {
            "network": lambda: network.install(get),
            "permission": lambda: permission.install(get),
            "sandbox": lambda: sandbox.install(get, policy=policy),
        }
        print(f"{'':44}{'bare':>10}{'watched':>10}{'added':>10}   ns a call")
        for watch, what, count, operation in table:
            bare, watched = compare(operation, count, watches[watch])
            print(f"{watch + ': ' + what:44}{bare:10.0f}{watched:10.0f}{watched - bare:10.0f}")


def compare(operation: Operation, count: int, switch: Switch) -> tuple[float, float]:
    """Nanoseconds a call, bare and watched."""
    operation(count)
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for watched in (0, 1):
            undo = switch() if watched else None
            began = thread_time_ns()
            operation(count)
            best[watched] = min(best[watched], (thread_time_ns() - began) / count)
            if undo is not None:
                undo()
    return best[0], best[1]


@contextlib.contextmanager
def operations() -> Iterator[list[tuple[str, str, int, Operation]]]:
    """(watch, what, calls a round, what makes that many)."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as server,
    ):
        one, other = socket.socketpair()
        path = os.path.join(folder, "file")
        open(path, "w").close()
        address = listener.getsockname()

        def connect(count: int) -> None:
            for _ in range(count):
                with socket.create_connection(address), listener.accept()[0]:
                    pass

        def tcp(count: int) -> None:
            for _ in range(count):
                client.send(b"x" * 100)
                server.recv(100)

        def pair(count: int) -> None:
            for _ in range(count):
                one.send(b"x")
                other.recv(1)

        def look(count: int) -> None:
            for _ in range(count):
                os.listdir(folder)

        def open_(count: int) -> None:
            for _ in range(count):
                open(path).close()

        def chmod(count: int) -> None:
            for _ in range(count):
                os.chmod(path, 0o600)

        def denied(count: int) -> None:
            for _ in range(count):
                with contextlib.suppress(PermissionError):
                    os.execv(path, [path])

        def audit(count: int) -> None:
            for _ in range(count):
                sys._getframe()

        yield [
            ("network", "connect, accept, close both", 200, connect),
            ("network", "send and recv, TCP", 2000, tcp),
            ("network", "send and recv, socketpair", 2000, pair),
            ("permission", "os.listdir", 2000, look),
            ("permission", "open, close", 2000, open_),
            ("permission", "os.chmod (granted)", 2000, chmod),
            ("permission", "os.execv (denied)", 2000, denied),
            ("sandbox", "sys._getframe (no rule)", 20_000, audit),
            ("sandbox", "open for reading (a rule, not broken)", 2000, open_),
        ]
        one.close()
        other.close()


if __name__ == "__main__":
    main()
