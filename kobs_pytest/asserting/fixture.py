"""What the fixture `kobs` gives: the events of a test, and assertions on them.

PYTEST_DONT_REWRITE
"""

from threading import Event as Alarm
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING

from kobs.collector import Collector
from kobs.errors import PatternError
from kobs.events import Event
from kobs.pattern import Count, Explanation, Inconclusive, Pattern
from kobs.pattern.base import require, shown
from kobs.pattern.explain import fold
from kobs.payloads import AnomalyDetected
from kobs_pytest.asserting.sequence import FIRST_LINE, Events, Mark
from kobs_pytest.capture.attempt import Attempt

if TYPE_CHECKING:
    from kobs_pytest.judging.leaks import Leak

_PAUSE_FIRST = 0.000_5
_PAUSE_MOST = 0.01


class Kobs:
    """What this test caused, and assertions on it."""

    Inconclusive = Inconclusive

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    @property
    def collector(self) -> Collector:
        """The collector that records this test; process-wide while the test runs, and to give
        to `observe(collector=...)` and `with_collector`."""
        return self._attempt.recorder.collector

    @property
    def events(self) -> Events:
        """What this test caused so far, in order of time: here, in threads, tasks and child
        processes."""
        attempt = self._attempt
        attempt.drain()
        return Events(attempt, list(attempt.events), attempt.incomplete())

    @property
    def anomalies(self) -> Events:
        """The anomalies that were found in what the test caused (`AnomalyDetected`)."""
        return self.events.of(AnomalyDetected)

    @property
    def lost(self) -> int:
        """How many events were lost since the test began, whoever caused them; 0 is what
        assertions of absence need."""
        self._attempt.drain()
        return self._attempt.lost()

    @property
    def leaks(self) -> "list[Leak]":
        """What the test's function has made so far and is still there: processes, threads,
        tasks, descriptors, shared memory, items in queues. `Inconclusive` where that cannot be
        told."""
        __tracebackhide__ = True
        from kobs_pytest.judging.leaks import left

        return left(self._attempt)

    def no_leaks(self, *kinds: str) -> None:
        """Nothing of these kinds ('process', 'thread', 'task', 'fd', 'shm', 'queue'; without any
        of all) that the test's function has made is still there.

        Raises `AssertionError` naming each with the line that made it, `Inconclusive` where that
        cannot be told, `ConfigError` for another kind.
        """
        __tracebackhide__ = True
        from kobs_pytest.judging.leaks import judge, kinds_of

        wanted = kinds_of(kinds, "kobs.no_leaks()")
        since_ns = self._attempt.phase_began_ns
        message = judge(self._attempt, wanted, "kobs.no_leaks", since_ns=since_ns)
        if message:
            raise AssertionError(message)

    def mark(self) -> Mark:
        """This moment, for `kobs.events.since(mark)`."""
        return Mark(monotonic_ns())

    def expect(self, *patterns: Pattern) -> None:
        """Every pattern was there up to now.

        Raises `AssertionError` with the nearest miss, `Inconclusive` where it may have been
        there unseen, `PatternError` for what is no pattern.
        """
        __tracebackhide__ = True
        _require("expect", patterns)
        events = self.events
        for pattern in patterns:
            if not events.holds(pattern):
                _fail(f"expected {pattern!r}", events.explained(pattern, present=False))

    def never(self, *patterns: Pattern) -> None:
        """None of the patterns was there up to now.

        Raises `AssertionError` naming what was found, `Inconclusive` where the capture cannot
        tell.
        """
        __tracebackhide__ = True
        _require("never", patterns)
        events = self.events
        for pattern in patterns:
            if events.holds(pattern):
                _fail(f"never expected {pattern!r}", events.explained(pattern, present=True))

    def count(self, pattern: Pattern) -> int:
        """How many events match; of a chain, how many complete it.

        Raises `Inconclusive` where the capture cannot tell.
        """
        __tracebackhide__ = True
        _require("count", (pattern,))
        return self.events.count(pattern)

    def wait_for(self, pattern: Pattern, *, timeout: float = 5.0) -> tuple[Event, ...]:
        """Wait until the pattern is there; its events, one a step (of a count, all).

        Raises `AssertionError` with the nearest miss after `timeout` seconds, or `Inconclusive`.
        """
        __tracebackhide__ = True
        _require("wait_for", (pattern,))
        until = monotonic() + timeout
        pause = _PAUSE_FIRST
        alarm = Alarm()
        while True:
            events = self.events
            found = events.first(pattern)
            if found is not None:
                if isinstance(pattern, Count):
                    events.count(pattern.pattern)
                return found
            if monotonic() >= until:
                break
            with self._attempt.recorder.muted():
                alarm.wait(min(pause, max(0.0, until - monotonic())))
            pause = min(_PAUSE_MOST, pause * 2)
        events.holds(pattern)
        told = events.explained(pattern, present=False)
        _fail(f"waited {timeout:g} s for {pattern!r}", told)
        raise AssertionError  # unreachable: _fail raises

    def __repr__(self) -> str:
        return "<kobs>"


def _require(method: str, patterns: tuple[object, ...]) -> None:
    __tracebackhide__ = True
    if not patterns:
        raise PatternError(f"kobs.{method}() without a pattern says nothing: give it one")
    for pattern in patterns:
        require(pattern, f"kobs.{method}({shown(pattern)})")


def _fail(headline: str, told: Explanation) -> None:
    __tracebackhide__ = True
    lines = [*fold(headline, FIRST_LINE), *(f"  {line}" for line in told.lines)]
    raise AssertionError("\n".join(lines))
