"""Child processes: started, signalled, watched through `/proc`, waited for and reaped."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from kobs import observe

_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "disk sleep",
    "T": "stopped",
    "t": "traced",
    "Z": "zombie",
    "X": "dead",
    "I": "idle",
}


class StateChange(NamedTuple):
    """A process went from one state to another."""

    pid: int
    from_state: str
    to_state: str


@observe("process")
class ProcessManager:
    """Owns the child processes that it starts; leaving its `with` block ends those still there."""

    def __init__(self) -> None:
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._last_state: dict[int, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    def spawn(
        self,
        name: str,
        command: Sequence[str],
        *,
        priority: int = 0,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        pass_fds: Sequence[int] = (),
        capture: bool = False,
    ) -> int:
        """Start `command` and return its pid.

        `priority` is added to the child's niceness (0 to 19). With `capture` its standard output
        is kept for `output`.
        """
        child = subprocess.Popen(
            list(command),
            env=None if env is None else {**os.environ, **env},
            cwd=cwd,
            pass_fds=tuple(pass_fds),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else None,
        )
        self._children[child.pid] = child
        if priority:
            niceness = os.getpriority(os.PRIO_PROCESS, child.pid)
            os.setpriority(os.PRIO_PROCESS, child.pid, niceness + priority)
        self._last_state[child.pid] = read_state(child.pid)
        return child.pid

    def wait(self, pid: int, *, timeout: float | None = None) -> int:
        """Wait for the child to end and reap it: its exit code, or minus the signal's number.

        `TimeoutError` if it still runs after `timeout` seconds.
        """
        return self._reap(pid, timeout)

    def terminate(self, pid: int, *, grace: float = 1.0) -> int:
        """Ask the child to end; make it, after `grace` seconds. Its exit code."""
        child = self._child(pid)
        child.terminate()
        try:
            return self._reap(pid, grace)
        except TimeoutError:
            child.kill()
            return self._reap(pid, None)

    def kill(self, pid: int) -> int:
        """End the child at once. Its exit code, which is minus SIGKILL's number."""
        self._child(pid).kill()
        return self._reap(pid, None)

    def suspend(self, pid: int) -> StateChange:
        """Stop the child where it is, and return when the system says that it has stopped."""
        before = self.state(pid)
        os.kill(pid, signal.SIGSTOP)
        # WNOWAIT: a child that ends instead must stay there for `wait` to reap.
        report = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if report is not None and report.si_code == os.CLD_STOPPED:
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
        return self._moved(pid, before)

    def resume(self, pid: int) -> StateChange:
        """Let a stopped child go on."""
        before = self.state(pid)
        os.kill(pid, signal.SIGCONT)
        report = os.waitid(os.P_PID, pid, os.WCONTINUED | os.WEXITED | os.WNOWAIT)
        if report is not None and report.si_code == os.CLD_CONTINUED:
            os.waitid(os.P_PID, pid, os.WCONTINUED | os.WNOHANG)
        return self._moved(pid, before)

    def poll_state(self, pid: int) -> StateChange | None:
        """What changed since this child's state was last looked at; None if nothing did."""
        before = self._last_state.get(pid, "new")
        change = self._moved(pid, before)
        return None if change.to_state == before else change

    def state(self, pid: int) -> str:
        """The child's state as the system has it: "running", "sleeping", "stopped", "zombie", …"""
        return read_state(self._child(pid).pid)

    def pids(self) -> list[int]:
        """The children that were not reaped yet, in the order of their start."""
        return list(self._children)

    def output(self, pid: int) -> bytes:
        """All that a child started with `capture` writes; returns when it closes its output."""
        stream = self._child(pid).stdout
        if stream is None:
            raise ValueError(f"process {pid} was started without capture=True")
        return stream.read()

    def await_exit(self, pid: int) -> None:
        """Return when the child has ended, without reaping it: it stays a zombie."""
        os.waitid(os.P_PID, self._child(pid).pid, os.WEXITED | os.WNOWAIT)

    def find_zombies(self) -> list[int]:
        """The children that have ended and that nobody has waited for."""
        return [pid for pid in self._children if read_state(pid) == "zombie"]

    def cleanup(self) -> int:
        """Reap every child that has ended; how many there were."""
        ended = self.find_zombies()
        for pid in ended:
            self.wait(pid)
        return len(ended)

    def shutdown(self) -> None:
        """End and reap whatever still runs."""
        for pid in list(self._children):
            self.kill(pid)

    def _child(self, pid: int) -> subprocess.Popen[bytes]:
        try:
            return self._children[pid]
        except KeyError:
            raise ProcessLookupError(f"no child {pid} here; children: {self.pids()}") from None

    def _reap(self, pid: int, timeout: float | None) -> int:
        child = self._child(pid)
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"process {pid} still runs after {timeout} s") from None
        if child.stdout is not None:
            child.stdout.close()
        del self._children[pid]
        self._last_state.pop(pid, None)
        return code

    def _moved(self, pid: int, before: str) -> StateChange:
        after = self.state(pid)
        self._last_state[pid] = after
        return StateChange(pid, before, after)


def read_state(pid: int) -> str:
    """The state in `/proc/<pid>/stat`; "dead" when there is no such process any more."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The name in parentheses may hold spaces and parentheses: the last one ends it.
            letter = stat.read().rpartition(b")")[2].split()[0].decode()
    except (FileNotFoundError, ProcessLookupError):
        return "dead"
    return _STATES.get(letter, letter)
