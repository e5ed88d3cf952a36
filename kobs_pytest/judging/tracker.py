"""Where a test makes what it may leave behind: watched from its beginning, where it asks for that.

PYTEST_DONT_REWRITE
"""

import os
import re
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from time import monotonic_ns
from types import FrameType
from typing import Any, NamedTuple

from kobs.context import origin
from kobs_instrumentation.watch._patch import STAND_IN, Patcher, caller_of_hook

_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_NOT_THE_PROGRAM = ("kobs", "kobs_instrumentation", "kobs_pytest")

RAW_THREAD = "raw thread"
"""A thread without a `threading.Thread`, or the one that a `Thread` runs in."""


class Made(NamedTuple):
    """Something that was made while the tracker was on."""

    kind: str
    """As the marker `kobs_no_leaks` names it, or `RAW_THREAD`."""
    key: Any
    """Pid, descriptor, name or native thread id; of a queue what events call it, and whether what
    was put first is taken first; of other objects nothing."""
    thing: Callable[[], Any]
    """The object while it lives, else None."""
    where: str
    """`file.py:12 in function`, of the program's own code."""
    origin: str
    tid: int
    time_ns: int
    """When it was there."""
    about: Any = None
    """Of a queue what tells how much is in it, of a descriptor what it leads to."""


def _nothing() -> None:
    return None


class Tracker:
    """Hooks on what makes processes, threads, tasks, descriptors, segments and queues."""

    def __init__(self, root: str) -> None:
        self._root = root + os.sep
        self.made: list[Made] = []
        self.descriptors = descriptors()
        """Open descriptors when it began, and what they lead to."""
        self._patcher = Patcher("kobs_no_leaks")
        _patch(self._patcher, self)

    def stop(self) -> None:
        """Take the hooks back."""
        self._patcher.undo()

    def add(self, kind: str, key: Any, thing: Any = None, about: Any = None) -> None:
        """Something was made by who called the hooked function."""
        self.made.append(
            Made(
                kind,
                key,
                _nothing if thing is None else weakref.ref(thing),
                _place(caller_of_hook(), self._root),
                origin.get(),
                threading.get_native_id(),
                monotonic_ns(),
                about,
            )
        )


def descriptors() -> dict[int, str] | None:
    """Open descriptors of this process and what they lead to; None where that cannot be told."""
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return None
    found = {int(number): target_of(int(number)) for number in numbers}
    return {number: target for number, target in found.items() if target}


def native_threads() -> set[int]:
    """The threads of this process, as the kernel numbers them; empty where it does not list
    them. Python lists those that have run Python code alone."""
    try:
        return set(map(int, os.listdir("/proc/self/task")))
    except OSError:
        return set()


def target_of(descriptor: int) -> str:
    """What a descriptor leads to; empty for one that is closed."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def _place(frame: FrameType | None, root: str) -> str:
    """The innermost line of the program; of the library if there is no other."""
    innermost = frame
    while frame is not None and not _of_program(frame):
        frame = frame.f_back
    frame = frame or innermost
    if frame is None:
        return "code in C"
    file = frame.f_code.co_filename
    return f"{file.removeprefix(root)}:{frame.f_lineno} in {frame.f_code.co_name}"


def _of_program(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    if file.startswith("<") or file == STAND_IN:
        return False
    if file.startswith(_LIBRARY) and f"{os.sep}site-packages{os.sep}" not in file:
        return False
    name = str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] not in _NOT_THE_PROGRAM


# -- what makes things -----------------------------------------------------------------------


def _always(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args or True


def _itself(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0]


_Names = tuple[tuple[str, str], ...]
"""The (module, name) pairs that a built-in function has."""


def _of_os(*names: str) -> list[_Names]:
    return [(("posix", name), ("os", name)) for name in names]


_STARTS: list[_Names] = [
    (("_posixsubprocess", "fork_exec"), ("subprocess", "_fork_exec")),
    *_of_os("fork", "posix_spawn", "posix_spawnp"),
]
_THREADS: list[_Names] = [
    (("_thread", "start_new_thread"), ("threading", "_start_new_thread")),
    (("_thread", "start_new"),),
]
_OPENS: list[_Names] = [
    (("_io", "open"), ("io", "open"), ("builtins", "open")),
    *_of_os("open", "dup", "dup2", "pipe", "pipe2", "openpty", "memfd_create", "eventfd"),
]


def _patch(patcher: Patcher, tracker: Tracker) -> None:
    add = tracker.add

    def process(_: Any, result: Any) -> None:
        pid = result[0] if isinstance(result, tuple) else result
        if pid:  # 0 in a forked child
            add("process", pid)

    def thread(made: Any, _: Any) -> None:
        add("thread", made.native_id, made)

    def before_raw_thread(_: Any, __: Any) -> Any:
        return native_threads()

    def raw_thread(before: set[int], _: Any) -> None:
        new = native_threads() - before
        if len(new) == 1:  # it has not ended yet, and nobody else began one meanwhile
            add(RAW_THREAD, new.pop())

    def task(_: Any, made: Any) -> None:
        add("task", None, made)

    def descriptor(args: Any, result: Any) -> None:
        if hasattr(result, "fileno"):
            if isinstance(args, tuple) and args and isinstance(args[0], int):
                return  # around a descriptor that was there
            result = result.fileno()
        for number in result if isinstance(result, tuple) else (result,):
            if type(number) is int and number >= 0:
                add("fd", number, about=target_of(number))

    def socket_made(made: Any, _: Any) -> None:
        add("fd", made.fileno(), about=target_of(made.fileno()))

    def segment_asked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        created = args[2] if len(args) > 2 else kwargs.get("create", False)
        return args[0] if created else None

    def segment(made: Any, _: Any) -> None:
        add("shm", made.name)

    def selector(made: Any, _: Any) -> None:
        if hasattr(made, "fileno"):
            socket_made(made, _)

    def queue(made: Any, _: Any) -> None:
        add("queue", _called(made), made, _level_of(made))

    for names in _STARTS:
        patcher.builtin(names, _always, process)
    for names in _OPENS:
        patcher.builtin(names, _always, descriptor)
    patcher.method(threading.Thread, "start", _itself, thread)
    for names in _THREADS:
        patcher.builtin(names, before_raw_thread, raw_thread)
    patcher.method(socket.socket, "__init__", _itself, socket_made)
    patcher.when_imported(
        "selectors",
        lambda module: patcher.method(module._PollLikeSelector, "__init__", _itself, selector),
    )
    patcher.when_imported(
        "multiprocessing.shared_memory",
        lambda module: patcher.method(module.SharedMemory, "__init__", segment_asked, segment),
    )
    patcher.when_imported(
        "asyncio.base_events",
        lambda module: patcher.method(module.BaseEventLoop, "create_task", _itself, task),
    )
    for module_name in ("queue", "asyncio.queues", "multiprocessing.queues"):
        patcher.when_imported(
            module_name, lambda module: patcher.method(module.Queue, "__init__", _itself, queue)
        )


class Level:
    """How many items a queue holds; after its end, how many it held then.

    What holds the items is held until the queue is gone, and no longer: so the tracker does not
    prolong any life.
    """

    def __init__(self, queue: Any, ask: Callable[[], int]) -> None:
        self._ask: Callable[[], int] | None = ask
        self._last = 0
        weakref.finalize(queue, self._gone).atexit = False

    def _gone(self) -> None:
        self._last = self.now()
        self._ask = None

    def now(self) -> int:
        """Items that nobody has taken."""
        if self._ask is None:
            return self._last
        try:
            return self._ask()
        except (NotImplementedError, OSError, ValueError):
            return 0


def _called(queue: Any) -> tuple[str | int, bool]:
    """What events call a queue (empty where that is not known), and whether it keeps the order."""
    writer = getattr(queue, "_writer", None)
    if writer is None:
        watch = sys.modules.get("kobs_instrumentation.watch.queue")
        return ("", False) if watch is None else watch.called(queue)
    pipe = re.fullmatch(r"(\w+):\[(\d+)\]", target_of(writer.fileno()))
    return f"{pipe[1]}-{pipe[2]}" if pipe else "", True


def _level_of(queue: Any) -> Level | None:
    own = getattr(queue, "__dict__", {})
    for name in ("queue", "_queue"):
        if name in own:
            return Level(queue, own[name].__len__)
    semaphore = getattr(own.get("_sem"), "_semlock", None)  # multiprocessing's: places left
    if semaphore is not None:
        most = own["_maxsize"]
        return Level(queue, lambda: int(most - semaphore._get_value()))
    return None


def feeders(made: Iterable[Made]) -> "dict[Any, Made]":
    """The threads that write what was put on multiprocessing's queues into their pipes, and that
    still run: the program did not end them by `close` and `join_thread`."""
    found = {}
    for one in made:
        queue = one.thing() if one.kind == "queue" else None
        thread = getattr(queue, "_thread", None)
        if isinstance(thread, threading.Thread) and thread.is_alive():
            found[thread] = one
    return found
