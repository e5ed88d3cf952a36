"""What a test made and left behind.

PYTEST_DONT_REWRITE
"""

import gc
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from time import monotonic, sleep
from typing import NamedTuple

from kobs.errors import ConfigError
from kobs.events import Event
from kobs.pattern import Inconclusive
from kobs.payloads import (
    ContextSwitch,
    FileOpened,
    MessageSent,
    ProcessCreated,
    ProcessTerminated,
    SchedulerLatency,
    ShmCreated,
    ShmDestroyed,
)
from kobs.schema import PayloadType
from kobs_pytest.capture.attempt import Attempt
from kobs_pytest.capture.checks import Check, Doubt
from kobs_pytest.capture.recordable import unrecorded
from kobs_pytest.judging.tracker import (
    RAW_THREAD,
    Made,
    Tracker,
    descriptors,
    feeders,
    native_threads,
)

KINDS = ("process", "thread", "task", "fd", "shm", "queue")

WIDTH = 70
"""Of the lines of a message, which pytest indents in a traceback."""
_GRACE_S = 0.05
"""How long a thread that is about to end may take for it."""
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Processes that multiprocessing starts for itself and keeps for the next."""
_TASK_ENDS = ("task done", "task failed", "task cancelled")


class Leak(NamedTuple):
    """One thing that was left."""

    kind: str
    """process, thread, task, fd, shm or queue."""
    what: str
    where: str
    """The line that made it, empty if it is not known."""
    event: Event | None
    """The event that tells of its making, of a queue that of putting the first item that is left;
    None if there is none."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


def kinds_of(given: tuple[object, ...], where: str) -> tuple[str, ...]:
    """The kinds to look for; all without any. Raises `ConfigError`."""
    for kind in given:
        if kind not in KINDS:
            raise ConfigError(f"{where}: there is no kind {kind!r} of leak; there are "
                              f"{', '.join(KINDS)}")  # fmt: skip
    return tuple(str(kind) for kind in given) or KINDS


def find(
    attempt: Attempt, kinds: Iterable[str], since_ns: int = 0
) -> tuple[list[Leak], list[Doubt]]:
    """What of these kinds the test has made (since a moment) and is still there; and why there
    may be more."""
    kinds = tuple(kinds)
    attempt.drain()
    tracker: Tracker | None = attempt.tracker
    if tracker is None:
        return [], [Doubt(Check.leaks_not_tracked, "what the test made was not tracked from its "
                          "beginning: nothing of it speaks of leaks")]  # fmt: skip
    with attempt.recorder.muted():
        search = _Search(attempt, tracker, kinds, since_ns)
        if search.anything():
            gc.collect()  # what the collector still ends is no leak
            search = _Search(attempt, tracker, kinds, since_ns)
        leaks = [leak for kind in kinds for leak in search.of(kind)]
    return leaks, search.doubts


def left(attempt: Attempt) -> list[Leak]:
    """What the phase that runs has made and is still there: fixtures have not put theirs away
    yet. Raises `Inconclusive`."""
    __tracebackhide__ = True
    leaks, doubts = find(attempt, KINDS, attempt.phase_began_ns)
    _refuse(attempt, KINDS, doubts)
    return leaks


def judge(
    attempt: Attempt, kinds: tuple[str, ...], by: str, *, since_ns: int = 0, width: int = WIDTH
) -> tuple[str, list[Leak]]:
    """What is left, and the message about it: empty if nothing is. Raises `Inconclusive`."""
    __tracebackhide__ = True
    leaks, doubts = find(attempt, kinds, since_ns)
    if leaks:
        return told(leaks, attempt.events, by, width), leaks
    _refuse(attempt, kinds, doubts)
    return "", []


def _refuse(attempt: Attempt, kinds: tuple[str, ...], doubts: list[Doubt]) -> None:
    __tracebackhide__ = True
    reasons = list(attempt.unsuppressed(doubts))
    if {"process", "shm"} & set(kinds):  # child processes make them too, seen by events alone
        reasons += attempt.incomplete()
    if reasons:
        raise Inconclusive("it is not known what the test left behind", reasons)


def told(leaks: list[Leak], events: list[Event], by: str, width: int) -> str:
    """Leaks in words; events are numbered as in the report section."""
    numbers = {id(event): number for number, event in enumerate(events, 1)}
    lines = [f"{by}: {'1 leak' if len(leaks) == 1 else f'{len(leaks)} leaks'}"]
    for leak in leaks:
        lines.append(f"  {leak}")
        if leak.where:
            where = leak.where
            room = width - len("    made at ")
            lines.append(
                f"    made at {where if len(where) <= room else f'...{where[3 - room :]}'}"
            )
        if leak.event is not None:
            lines.append(f"    event #{numbers.get(id(leak.event), 0)} {leak.event.payload!r}")
    return "\n".join(line if len(line) <= width else f"{line[: width - 3]}..." for line in lines)


class _Search:
    """One look at what is there."""

    def __init__(
        self, attempt: Attempt, tracker: Tracker, kinds: tuple[str, ...], since_ns: int
    ) -> None:
        self._attempt = attempt
        self._since_ns = since_ns
        self._tracker = tracker
        self._kinds = kinds
        self.doubts: list[Doubt] = []
        self._feeders = feeders(tracker.made) if "queue" in kinds else {}

    def anything(self) -> bool:
        """Something may be left."""
        return any(True for kind in self._kinds for _ in self.of(kind)) or bool(self.doubts)

    def of(self, kind: str) -> Iterator[Leak]:
        """What is left of a kind."""
        found: Iterator[Leak] = getattr(self, f"_{kind}")()
        return found

    def _made(self, kind: str) -> list[Made]:
        """What the test made of a kind; the latest first."""
        attempt = self._attempt
        return [
            made
            for made in reversed(self._tracker.made)
            if made.kind == kind and made.time_ns >= self._since_ns and attempt.owns(made.origin)
        ]

    def _events(self, cls: type) -> list[Event]:
        return [
            event
            for event in self._attempt.events
            if event.type is cls and event.timestamp_ns >= self._since_ns
        ]

    def _before(self, made: Made, events: list[Event]) -> Event | None:
        """The last event of its thread up to its making."""
        found = None
        for event in events:
            if event.tid == made.tid and event.timestamp_ns <= made.time_ns:
                found = event
        return found

    def _doubt(self, what: str, cls: type[PayloadType]) -> None:
        """It is not known, if events of a type are not recorded."""
        recorder = self._attempt.recorder
        if unrecorded({cls}, recorder.collector, recorder.told_by_watches):
            self.doubts.append(Doubt(Check.unrecorded_type, f"{what}: no watch that is on tells "
                                     f"{cls.__kobs_schema__.name}"))  # fmt: skip

    # -- each kind ----------------------------------------------------------------------------

    def _process(self) -> Iterator[Leak]:
        created = {event.pid: event for event in self._events(ProcessCreated) if event.pid}
        places = {made.key: made.where for made in reversed(self._made("process"))}
        if places:
            self._doubt("a child process may have left its own", ProcessCreated)
        ended = {event.pid for event in self._events(ProcessTerminated)}
        for pid in dict.fromkeys((*created, *places)):
            event = created.get(pid)
            state = "" if pid in ended else _state_of(pid)
            if not state or (event is not None and event.payload.name in _HELPERS):
                continue
            name = f" ({event.payload.name})" if event is not None else ""
            fate = "ended, and nobody waited for it" if state == "Z" else "still runs"
            yield Leak("process", f"pid {pid}{name} {fate}", places.get(pid, ""), event)

    def _thread(self) -> Iterator[Leak]:
        started = {event.tid: event for event in self._events(SchedulerLatency)}
        for made in reversed(self._made("thread")):
            thread = made.thing()
            if thread is None or not thread.is_alive() or thread in self._feeders:
                continue
            if thread is not threading.current_thread():
                thread.join(_GRACE_S)
            if thread.is_alive():
                daemon = ", a daemon" if thread.daemon else ""
                what = f"{thread.name!r}{daemon} still runs"
                yield Leak("thread", what, made.where, started.get(thread.native_id or 0))
        of_threading = {made.key for made in self._tracker.made if made.kind == "thread"}
        raw = {
            made.key: made
            for made in reversed(self._made(RAW_THREAD))
            if made.key not in of_threading
        }
        until = monotonic() + _GRACE_S
        while (left := raw.keys() & native_threads()) and monotonic() < until:
            sleep(0.001)
        for number in left:
            what = "one without a threading.Thread still runs"
            yield Leak("thread", what, raw[number].where, None)

    def _task(self) -> Iterator[Leak]:
        switches = self._events(ContextSwitch)
        created = [event for event in switches if event.payload.reason == "task created"]
        ended = {event.payload.from_pid for event in switches if event.payload.reason in _TASK_ENDS}
        for made in reversed(self._made("task")):
            task = made.thing()
            event = self._before(made, created)
            if task is not None:
                if not task.done() and task is not _current_task():
                    what = f"{task.get_name()!r} ({_coroutine(task)}) is still pending"
                    yield Leak("task", what, made.where, event)
            elif event is None:
                self._doubt("a task is gone, and nothing told whether it had ended", ContextSwitch)
            elif event.payload.to_pid not in ended:
                yield Leak("task", "it was destroyed while pending", made.where, event)

    def _fd(self) -> Iterator[Leak]:
        before, now = self._tracker.descriptors, descriptors()
        if before is None or now is None:
            self.doubts.append(
                Doubt(Check.leaks_not_tracked, "/proc/self/fd, the list of descriptors, is missing")
            )
            return
        latest = {made.key: made for made in self._tracker.made if made.kind == "fd"}
        segments = {f"/dev/shm/{made.key.lstrip('/')}": made for made in self._made("shm")}
        opened = self._events(FileOpened)
        kept = _kept_by_multiprocessing()
        for number, target in sorted(now.items()):
            if before.get(number) == target or number in kept:
                continue
            source = segments.get(target)
            if source is not None and "shm" in self._kinds:
                continue  # told as the segment
            if source is None:
                source = latest.get(number)
                if source is not None and source.about != target:
                    source = None  # it was closed, and its number given to another
            if source is None or not source.origin:
                self.doubts.append(
                    Doubt(
                        Check.unattributed_leak,
                        f"descriptor {number} ({target}) was opened and is still open, but nothing "
                        "says by whom: code in C, a finalizer, or a thread of a wider fixture",
                    )
                )
            elif source.time_ns >= self._since_ns and self._attempt.owns(source.origin):
                event = self._before(source, [e for e in opened if _is_of(e, target)])
                yield Leak("fd", f"{number} ({target}) is still open", source.where, event)

    def _shm(self) -> Iterator[Leak]:
        gone = {event.payload.name for event in self._events(ShmDestroyed)}
        created = {event.payload.name: event for event in self._events(ShmCreated)}
        places = {made.key: made.where for made in reversed(self._made("shm"))}
        if self._made("process"):
            self._doubt("a child process may have left shared memory", ShmCreated)
        for name in dict.fromkeys((*created, *places)):
            if name not in gone and os.path.exists(f"/dev/shm/{name.lstrip('/')}"):
                what = f"{name!r} was not unlinked"
                yield Leak("shm", what, places.get(name, ""), created.get(name))

    def _queue(self) -> Iterator[Leak]:
        feeding = {id(made): thread for thread, made in self._feeders.items()}
        for thread in self._feeders:
            thread.join(_GRACE_S)
        if self._feeders:  # they tell what they have sent after it can be received
            self._attempt.drain()
        put = self._events(MessageSent)
        for made in reversed(self._made("queue")):
            label, in_order = made.key
            name = repr(label) if label else "it"
            sent = [event for event in put if event.payload.queue_id == label]
            number = made.about.now() if made.about is not None else 0
            if number:
                items = "1 item" if number == 1 else f"{number} items"
                first = sent[-number] if in_order and len(sent) >= number else None
                yield Leak("queue", f"{name} was left with {items}", made.where, first)
            thread = feeding.get(id(made))
            if thread is not None and thread.is_alive():
                what = f"{name}: its feeder thread runs: close(), join_thread() end it"
                yield Leak("queue", what, made.where, sent[0] if sent else None)


def _kept_by_multiprocessing() -> set[int]:
    """Descriptors to its helpers, which it opens once and keeps."""
    found = set()
    for module, helper, name in (
        ("resource_tracker", "_resource_tracker", "_fd"),
        ("forkserver", "_forkserver", "_forkserver_alive_fd"),
    ):
        there = getattr(sys.modules.get(f"multiprocessing.{module}"), helper, None)
        number = getattr(there, name, None)
        if number is not None:
            found.add(number)
    return found


def _state_of(pid: int) -> str:
    """The letter of /proc for a process; empty for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""


def _current_task() -> object:
    """The task that asks: an async test itself."""
    asyncio = sys.modules.get("asyncio")
    try:
        return None if asyncio is None else asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None


def _coroutine(task: object) -> str:
    coroutine = task.get_coro()  # type: ignore[attr-defined]
    return str(getattr(coroutine, "__qualname__", coroutine))


def _is_of(event: Event, target: str) -> bool:
    """The event tells of the opening of the file that a descriptor leads to."""
    path: str = event.payload.path
    if event.truncated:
        return target.endswith(path)
    return os.path.realpath(path) == target
