"""A program that breaks the hooks of one watch, one after the other, and compares what happens.

Prints as JSON: `differences` (where the outcome is another than without hooks), `silent` (what was
broken and no call reached), `uncounted` (those whose errors nobody in this process counted),
`broken` (where), `session` (where they were told).
"""

import contextvars
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

from faulty_io import IO_WORK, permission, system_call
from faulty_work import WORK

import kobs
from kobs._core import hooking
from kobs.payloads import MemoryPressure
from kobs.session import Session
from kobs_instrumentation.policy import SandboxPolicy
from kobs_instrumentation.watch import _patch, _watch

ALL_WORK = WORK | IO_WORK
BY_FUNCTION = {"syscall": system_call, "permission": permission}
OPTIONS = {"sandbox": {"policy": SandboxPolicy(deny=["open"])}}

INSIDE: dict[str, tuple[tuple[str, str], ...]] = {
    "memory": (
        ("memory.gc", "_collections.tell"),
        ("memory.gc", "_levels.look"),
        ("memory.mmap", "_mapped._count"),
        ("memory: taking back", "_collections.tell_held"),
    ),
    "process": (("process.at_end", "_left"),),
    "network": (("network: socket dropped", "known._tell_dropped"),),
    "sandbox": (("audit event open", "SandboxPolicy.judge"), ("sandbox.open", "_tell")),
    "scheduler": (("scheduler._run", "_tell_end"),),
    "shm": (("shm.at_end", "_look_for_leaks"),),
}
"""What is told by other ways than hooks: where, and a name in the module that is broken."""


def work_for(where: str) -> Callable[[], str]:
    watch, _, rest = where.partition(".")
    if watch in BY_FUNCTION:
        return lambda: BY_FUNCTION[watch](rest.partition(".")[0])
    name = where.partition(": ")[0]
    while name not in ALL_WORK and "." in name:
        name = name.rpartition(".")[0]
    return ALL_WORK[name]


class Broken(Exception):
    """What the broken hooks raise."""


class Turn(NamedTuple):
    """Something to break, and what then has to be told."""

    what: str
    wheres: tuple[str, ...]
    number: int = -1
    """Of the hooks in the order in which the watch makes them."""
    inside: str = ""
    """A name in the module of the watch."""


class Breaker:
    """Breaks the hook whose turn it is, of those that a watch makes."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []
        self.turn = Turn("nothing", ())
        self.real = _patch.Hooks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        hooks = self.real(*args, **kwargs)
        number = len(self.made)
        kinds = [
            k
            for k in ("before", "after", "failed")
            if getattr(hooks, k) not in (None, _patch.nothing)
        ]
        self.made.append((hooks.where, " ".join(kinds)))
        if self.turn.number == number:
            hooks = hooks._replace(**{self.turn.what.rpartition(" ")[2]: self.broken})
        return hooks

    def broken(self, *_: Any, **__: Any) -> None:
        raise Broken(self.turn.what)

    @contextmanager
    def inside(self, watch: Any) -> Iterator[None]:
        """What is no hook is broken meanwhile."""
        path, _, name = self.turn.inside.rpartition(".")
        owner = watch
        for each in filter(None, path.split(".")):
            owner = getattr(owner, each, None) or getattr(import_module(POLICY), each)
        if not name:
            yield
            return
        real = getattr(owner, name)
        setattr(owner, name, MemoryPressure if name.startswith("Syscall") else self.broken)
        try:
            yield
        finally:
            setattr(owner, name, real)


POLICY = "kobs_instrumentation.policy"


class Notes:
    """Which errors were told of, in this process or in forked children."""

    def __init__(self) -> None:
        self.file = os.open("../notes", os.O_CREAT | os.O_RDWR | os.O_APPEND)
        self.real = _patch.on_error

    def __call__(self, where: str, error: BaseException) -> None:
        os.write(self.file, f"{where}: {type(error).__name__}\n".encode())
        self.real(where, error)

    def take(self) -> set[str]:
        found = os.pread(self.file, 1 << 20, 0).decode().splitlines()
        os.ftruncate(self.file, 0)
        return {line.rpartition(": ")[0] for line in found}


def turns_of(name: str, watch: Any, made: list[tuple[str, str]]) -> list[Turn]:
    """Everything that can break in a watch."""
    turns = [
        Turn(f"{where} {kind}", (where,), number)
        for number, (where, kinds) in enumerate(made)
        if hooking.native is not None or where.count(".") == 1  # others are methods of C types
        for kind in kinds.split()
    ]
    turns += [
        Turn(f"{where} {path}", (where,), inside=path)
        for where, path in INSIDE.get(name, ())
        if hooking.native is not None or where != "memory.mmap"
    ]
    if name == "syscall" and not made:  # the C core tells by itself: have it tell another event
        functions = [function for function, _ in watch._watch.timed]
        for event, told in (
            ("SyscallEnter", [f for f in functions if f.waits]),
            ("SyscallExit", functions),
            ("SyscallSlow", [f for f in functions if not f.patient]),
        ):
            wheres = tuple(f"syscall.{function.name}" for function in told)
            turns.append(Turn(event, wheres, inside=event))
    return turns


def main(name: str) -> None:
    session = Session.create("faults", ["faults"], root=os.getcwd())
    os.mkdir("work")
    os.chdir("work")
    watch = import_module(f"kobs_instrumentation.watch.{name}")
    options = OPTIONS.get(name, {})
    breaker = Breaker()
    _patch.Hooks = breaker  # type: ignore[misc,assignment]
    undo = watch.install(lambda: None, **options)
    turns = turns_of(name, watch, breaker.made)
    undo()
    works = {where: work_for(where) for turn in turns for where in turn.wheres}
    bare = {where: work() for where, work in works.items()}
    _patch.on_error = notes = Notes()
    if name == "syscall":
        watch.SLOW_MS = 0.0
    differences, silent, uncounted, told = [], [], [], set()
    for turn in turns:
        breaker.turn, breaker.made = turn, []
        with kobs.Collector(session=session, size=256) as collector, kobs.causal_context(7):
            undo_errors = _watch.errors_go_to(lambda: collector)
            with breaker.inside(watch):
                undo = watch.install(lambda: collector, **options)
                found = {
                    where: contextvars.copy_context().run(works[where]) for where in turn.wheres
                }
                undo()
            undo_errors()
            assert watch._watch._patcher is None
            noted = notes.take()
            told |= noted
            for where in turn.wheres:
                if found[where] != bare[where]:
                    differences.append((turn.what, where, bare[where], found[where]))
                if where not in noted:
                    silent.append(turn.what if turn.number >= 0 else f"{turn.what} of {where}")
            if noted and not collector.closed and not collector.losses().errors:
                uncounted.append(turn.what)
    print(json.dumps({
        "differences": differences, "silent": silent, "uncounted": uncounted,
        "broken": sorted(told), "session": str(session.path),
    }))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
