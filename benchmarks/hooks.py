"""What a hook in the C entry of a built-in function adds to a call: `python -m benchmarks.hooks`.

Every way is measured in turn, round after round, and compared within its round.
"""

import os
from collections.abc import Callable
from statistics import median
from time import perf_counter_ns
from typing import Any

from kobs import Collector
from kobs._core import hooking
from kobs.levels import SyscallResult
from kobs.payloads import SyscallExit, SyscallSlow
from kobs_instrumentation.watch._patch import Call, Patcher

ROUNDS = 101
CALLS = 5000
NEVER_US = 1e9

Off = Callable[[], None]


def timed(name: str, collector: Collector | None, short_us: float = 0.0) -> Off:
    """A hook that times the calls of an `os` function; without a collector it records nothing."""
    hook = hooking.native.TimedHook(
        name=name, where=name, expected=frozenset((0,)), succeeded=SyscallResult.SUCCESS,
        erred=SyscallResult.ERROR, counts_bytes=False, tell=print,
    )  # fmt: skip
    hook.put(getattr(os, name))
    if collector is not None:
        exit_, slow = collector.emitter(SyscallExit), collector.emitter(SyscallSlow)
        hook.aim(None, exit_, slow, short_us, 100.0)
    off: Off = hook.remove
    return off


def generic(name: str) -> Off:
    """Hooks in Python that do nothing, called from the C entry."""
    hook = hooking.native.Hook(
        before=lambda args, kwargs: True, after=lambda state, result: None,
        failed=lambda state, error: None, where=name, shield=False, changed=Call, tell=print,
        traffic=-1, among=None,
    )  # fmt: skip
    hook.put(getattr(os, name))
    off: Off = hook.remove
    return off


def stand_in(name: str) -> Off:
    """The same hooks, called by a stand-in: what the Python core does."""
    patcher = Patcher("benchmark")
    native, hooking.native = hooking.native, None
    names = (("posix", name), ("os", name))
    patcher.builtin(names, lambda args, kwargs: True, lambda state, result: None)
    hooking.native = native
    return patcher.undo


def nanoseconds(name: str, args: tuple[Any, ...]) -> float:
    """One call."""
    function = getattr(os, name)
    for _ in range(50):  # the interpreter has made up its mind how to call it
        function(*args)
    begin = perf_counter_ns()
    for _ in range(CALLS):
        function(*args)
    return (perf_counter_ns() - begin) / CALLS


def main() -> None:
    """Measure, and print a table."""
    if hooking.native is None:
        print("there are no such hooks with the Python core")
        return
    zero = os.open("/dev/zero", os.O_RDONLY)
    with Collector(size=65_536) as every, Collector(size=65_536, adaptive=True) as few:
        for name, args in (("getpid", ()), ("read", (zero, 1))):
            ways: dict[str, Callable[[], Off]] = {
                "bare": lambda: lambda: None,
                "hooked, nobody watches": lambda name=name: timed(name, None),  # type: ignore[misc]
                "timed, not recorded": lambda name=name: timed(name, few, NEVER_US),  # type: ignore[misc]
                "timed and recorded": lambda name=name: timed(name, every),  # type: ignore[misc]
                "hooks in Python": lambda name=name: generic(name),  # type: ignore[misc]
                "a stand-in": lambda name=name: stand_in(name),  # type: ignore[misc]
            }
            rounds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(ROUNDS):
                for way, put in ways.items():
                    off = put()
                    rounds[way].append(nanoseconds(name, args))
                    off()
            bare = median(rounds["bare"])
            print(f"os.{name}: {bare:.0f} ns a call")
            for way in list(ways)[1:]:
                pairs = zip(rounds[way], rounds["bare"], strict=True)
                added = median(one - other for one, other in pairs)
                print(f"  {way:24} + {added:6.0f} ns   {1 + added / bare:6.2f} x")
    os.close(zero)


if __name__ == "__main__":
    main()
