"""Waiting for a pattern: woken when an event is published, here or in a process of the session.

PYTEST_DONT_REWRITE
"""

import _thread
import sys
from collections.abc import Callable
from contextvars import copy_context
from datetime import timedelta
from time import monotonic, sleep
from typing import Any, TypeVar

from kobs._core.doorbell import MOST_S, Doorbell
from kobs.errors import PatternError
from kobs.muted import muted
from kobs.pattern.durations import nanoseconds_of

Found = TypeVar("Found")
Look = Callable[[], Found | None]

_PAUSE_FIRST_S = 0.000_1
_PAUSE_MOST_S = 0.01
_QUIET_S = 0.02
"""Where events come without a break, looks are so far apart: first, at most, and how long nothing
must have come for the next one to be looked at without a pause."""


def seconds(timeout: object, method: str) -> float:
    """A timeout in seconds: a number of them, or a length of time as `within` takes it. Raises
    `PatternError` for what is none."""
    if isinstance(timeout, str | timedelta):
        return nanoseconds_of(timeout, f"kobs.{method}(): timeout") / 1e9
    if isinstance(timeout, int | float) and not isinstance(timeout, bool) and timeout >= 0:
        return float(timeout)
    raise PatternError(
        f"kobs.{method}(timeout={timeout!r}): expected how many seconds to wait, a number "
        "from 0, or a length of time such as '5ms'"
    )


def in_event_loop() -> bool:
    """Asyncio's loop runs in this thread, and whoever sleeps here holds it up."""
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


class _Pace:
    """How long to leave events alone that come without a break and are not the ones."""

    def __init__(self) -> None:
        self._pause = 0.0

    def slept(self, asleep_s: float, look_s: float) -> float:
        """After so long without an event, and a look that took so long: a pause before the
        next look, in seconds."""
        if asleep_s >= _QUIET_S:
            self._pause = 0.0
        else:
            self._pause = min(_PAUSE_MOST_S, max(_PAUSE_FIRST_S, 2 * self._pause))
        return max(self._pause, look_s) if self._pause else 0.0


def wait(look: Look[Found], doorbell: Doorbell, timeout: float) -> Found | None:
    """What `look` finds, as soon as it does; None after `timeout` seconds."""
    __tracebackhide__ = True
    until = monotonic() + timeout
    pace = _Pace()
    while True:
        rung = doorbell.arm()
        began = monotonic()
        found = look()
        now = monotonic()
        if found is not None or now >= until:
            return found
        with muted():
            doorbell.wait(rung, until - now)
            woken = monotonic()
            pause = pace.slept(woken - now, now - began)
            if pause and woken < until:
                sleep(min(pause, until - woken))


async def wait_async(look: Look[Found], doorbell: Doorbell, timeout: float) -> Found | None:
    """The same without holding up the event loop: a thread sleeps, the loop looks, and the task
    goes on when there is something."""
    __tracebackhide__ = True
    try:
        loop = sys.modules["asyncio"].get_running_loop()
    except (KeyError, RuntimeError):
        raise PatternError(
            "await kobs.await_for(...) needs asyncio's event loop, and none is running here; "
            "kobs.wait_for(...) in a thread of its own works under any"
        ) from None
    waiter = _AsyncWait(loop, look, doorbell, timeout)
    with muted():
        _thread.start_new_thread(waiter.sleep_and_have_looked, ())
    try:
        return await waiter.answer  # type: ignore[no-any-return]
    finally:
        waiter.over = True


class _AsyncWait:
    def __init__(
        self, loop: Any, look: Callable[[], object], doorbell: Doorbell, timeout: float
    ) -> None:
        self.answer = loop.create_future()
        self.over = False
        self._loop = loop
        self._look = look
        self._doorbell = doorbell
        self._until = monotonic() + timeout
        self._looked = _thread.allocate_lock()
        self._took = 0.0
        self._context = copy_context()

    def sleep_and_have_looked(self) -> None:
        """In the thread: until it is over. Whoever ends it waits for nothing: the thread is gone
        as soon as it next wakes, `doorbell.MOST_S` later at most."""
        with muted():
            pace = _Pace()
            while not self.over:
                rung = self._doorbell.arm()
                self._looked.acquire()
                try:
                    # Not a step of a task: a watch that tells of those would ring the doorbell.
                    self._loop.call_soon_threadsafe(self._look_once, context=self._context)
                except RuntimeError:  # the loop was closed
                    return
                while not self._looked.acquire(timeout=MOST_S):  # `_look_once` gives it back
                    if self._loop.is_closed():
                        return
                self._looked.release()
                now = monotonic()
                if self.over:
                    return
                self._doorbell.wait(rung, max(self._until - now, 0.0))
                woken = monotonic()
                pause = pace.slept(woken - now, self._took)
                if pause:
                    sleep(max(0.0, min(pause, self._until - woken)))

    def _look_once(self) -> None:
        """In the loop."""
        __tracebackhide__ = True
        began = monotonic()
        try:
            if self.over or self.answer.done():
                self.over = True
                return
            try:
                found = self._look()
            except BaseException as error:
                self.answer.set_exception(error)
                self.over = True
                return
            if found is not None or monotonic() >= self._until:
                self.answer.set_result(found)
                self.over = True
        finally:
            self._took = monotonic() - began
            self._looked.release()
