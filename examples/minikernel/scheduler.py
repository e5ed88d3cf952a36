"""A scheduler of generators: priorities, time slices, sleep and wake-up, CPU limits."""

import heapq
import itertools
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kobs import observe


@dataclass(frozen=True)
class Sleep:
    """What a task yields to be left alone for some time. `None` is a point to switch at."""

    seconds: float


@dataclass(frozen=True)
class WaitFor:
    """What a task yields to be woken by `notify` of the same signal."""

    signal: str


Body = Generator[Sleep | WaitFor | None, None, Any]


class Stall(NamedTuple):
    """One step of a task held the processor for too long."""

    pid: int
    duration_ms: float
    stack: str
    """Where the task stood afterwards."""


class Throttle(NamedTuple):
    """A task used more than its share and must pause."""

    pid: int
    usage_pct: int
    duration_ms: float


@dataclass
class _Task:
    pid: int
    name: str
    priority: int
    body: Body
    ready_ns: int
    cpu_ns: int = 0
    window_ns: int = field(default_factory=time.monotonic_ns)
    result: object = None


@observe("scheduler")
class Scheduler:
    """Runs tasks in one thread: the most urgent first (highest priority), equals in turn.

    A task runs until it yields after `quantum_ms`, or a more urgent one is ready at its yield.
    A step longer than `stall_ms` is a stall. A task that used more than `cpu_limit_pct` of a
    `window_ms` pauses until it is back at that share.
    """

    def __init__(
        self,
        *,
        quantum_ms: float = 5.0,
        stall_ms: float = 50.0,
        cpu_limit_pct: int = 100,
        window_ms: float = 100.0,
    ) -> None:
        self.quantum_ns = int(quantum_ms * 1e6)
        self.stall_ms = stall_ms
        self.cpu_limit_pct = cpu_limit_pct
        self.window_ns = int(window_ms * 1e6)
        self.running = 0
        self.throttles = 0
        """How often a task had to pause."""
        self._tasks: dict[int, _Task] = {}
        self._ready: list[tuple[int, int, int]] = []
        self._timers: list[tuple[int, int]] = []
        self._waiting: dict[str, list[int]] = {}
        self._finished: dict[int, object] = {}
        self._turn = itertools.count()
        self._next_pid = 1
        self._slice_began_ns = 0

    def submit(self, name: str, body: Body, *, priority: int = 0) -> int:
        """Add a task; its number. It runs when `run` does."""
        pid = self._next_pid
        self._next_pid += 1
        self._tasks[pid] = _Task(pid, name, priority, body, time.monotonic_ns())
        self._enqueue(pid)
        return pid

    def run(self) -> dict[int, object]:
        """Run until every task has finished; what each returned, by its number.

        `RuntimeError` when those that are left wait for signals that nobody can give.
        """
        reason = "start"
        while self._tasks:
            self._fire_timers()
            if not self._ready:
                self._idle()
                continue
            before = self.running
            _, _, pid = heapq.heappop(self._ready)
            if pid != before:
                self.switch(before, pid, reason)
            self.dispatch(pid)
            reason = self._run_slice(self._tasks[pid])
        if self.running:
            self.switch(self.running, 0, reason)
        done, self._finished = self._finished, {}
        return done

    def notify(self, signal: str) -> int:
        """Wake the tasks that wait for `signal`; how many."""
        woken = self._waiting.pop(signal, [])
        for pid in woken:
            self.wake(pid)
        return len(woken)

    def wake(self, pid: int) -> None:
        """Make a task ready to run."""
        self._tasks[pid].ready_ns = time.monotonic_ns()
        self._enqueue(pid)

    def switch(self, from_pid: int, to_pid: int, reason: str) -> None:
        """Give the processor to another task; 0 is none at all."""
        self.running = to_pid

    def dispatch(self, pid: int) -> float:
        """Begin a task's time slice; how long it was ready before that, in microseconds."""
        self._slice_began_ns = time.monotonic_ns()
        return (self._slice_began_ns - self._tasks[pid].ready_ns) / 1000

    def preempt(self, pid: int) -> float:
        """Put the running task back among the ready; what was left of its slice, microseconds."""
        left = self.quantum_ns - (time.monotonic_ns() - self._slice_began_ns)
        self.wake(pid)
        return max(left, 0) / 1000

    def stall(self, pid: int, duration_ms: float) -> Stall:
        """Note a step that took too long, and where its task stands."""
        task = self._tasks[pid]
        frame = getattr(task.body, "gi_frame", None)
        place = "" if frame is None else f" ({frame.f_code.co_name}:{frame.f_lineno})"
        return Stall(pid, duration_ms, f"{task.name}{place}")

    def throttle(self, pid: int, elapsed_ns: int) -> Throttle:
        """Make a task that used the processor for more than its share of `elapsed_ns` pause
        until its share is down at the limit."""
        task = self._tasks[pid]
        self.throttles += 1
        usage = min(100, 100 * task.cpu_ns // elapsed_ns)
        pause_ns = task.cpu_ns * 100 // self.cpu_limit_pct - elapsed_ns
        self._sleep(pid, pause_ns)
        task.cpu_ns, task.window_ns = 0, time.monotonic_ns() + pause_ns
        return Throttle(pid, usage, pause_ns / 1e6)

    def _run_slice(self, task: _Task) -> str:
        """Run a task until it gives the processor up or loses it; why it did."""
        while True:
            cpu = time.thread_time_ns()
            began = time.monotonic_ns()
            wish, finished = self._step(task)
            now = time.monotonic_ns()
            task.cpu_ns += time.thread_time_ns() - cpu
            if (now - began) / 1e6 > self.stall_ms:
                self.stall(task.pid, (now - began) / 1e6)
            if finished:
                self._finished[task.pid] = task.result
                del self._tasks[task.pid]
                return "exit"
            if isinstance(wish, Sleep):
                self._sleep(task.pid, int(wish.seconds * 1e9))
                return "sleep"
            if isinstance(wish, WaitFor):
                self._waiting.setdefault(wish.signal, []).append(task.pid)
                return "wait"
            if self._over_its_share(task, now):
                self.throttle(task.pid, now - task.window_ns)
                return "throttled"
            self._fire_timers()
            if self._ready and -self._ready[0][0] > task.priority:
                self.preempt(task.pid)
                return "preempted"
            if now - self._slice_began_ns >= self.quantum_ns:
                self.preempt(task.pid)
                return "quantum"

    @staticmethod
    def _step(task: _Task) -> tuple[Sleep | WaitFor | None, bool]:
        try:
            return next(task.body), False
        except StopIteration as stop:
            task.result = stop.value
            return None, True

    def _over_its_share(self, task: _Task, now: int) -> bool:
        elapsed = now - task.window_ns
        if elapsed < self.window_ns:
            return False
        if task.cpu_ns * 100 > elapsed * self.cpu_limit_pct:
            return True
        task.cpu_ns, task.window_ns = 0, now
        return False

    def _enqueue(self, pid: int) -> None:
        heapq.heappush(self._ready, (-self._tasks[pid].priority, next(self._turn), pid))

    def _sleep(self, pid: int, duration_ns: int) -> None:
        heapq.heappush(self._timers, (time.monotonic_ns() + duration_ns, pid))

    def _fire_timers(self) -> None:
        now = time.monotonic_ns()
        while self._timers and self._timers[0][0] <= now:
            self.wake(heapq.heappop(self._timers)[1])

    def _idle(self) -> None:
        if not self._timers:
            stuck = {signal: pids for signal, pids in self._waiting.items() if pids}
            raise RuntimeError(f"every task waits for a signal that nobody can give: {stuck}")
        time.sleep(max(0, self._timers[0][0] - time.monotonic_ns()) / 1e9)
