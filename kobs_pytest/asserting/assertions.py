"""Assertions on the events of a scope: a test, a part of one, a whole run.

PYTEST_DONT_REWRITE
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic_ns
from typing import TYPE_CHECKING

from kobs.collector import Collector
from kobs.errors import PatternError
from kobs.events import Event
from kobs.muted import muted
from kobs.pattern import Count, Inconclusive, Pattern
from kobs.payloads import AnomalyDetected
from kobs_pytest.asserting import waiting
from kobs_pytest.asserting.every import Every
from kobs_pytest.asserting.failing import fail, require
from kobs_pytest.asserting.scope import Part, Scope
from kobs_pytest.asserting.sequence import Events, Mark
from kobs_pytest.capture.attempt import Attempt

if TYPE_CHECKING:
    from kobs_pytest.asserting.shapes import CausalChain, SpanNode, Timeline

Within = str | timedelta | None


class Assertions:
    """What was caused, and assertions on it."""

    Inconclusive = Inconclusive

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def _whole(self) -> Attempt:
        """The test (or run) that a part is captured of."""
        raise NotImplementedError

    # -- what there is ------------------------------------------------------------------------

    @property
    def collector(self) -> Collector:
        """The collector that records this; process-wide while a test runs, and to give to
        `observe(collector=...)` and `with_collector`."""
        return self._scope.recorder.collector

    @property
    def events(self) -> Events:
        """What was caused so far, in order of time: here, in threads, tasks and child
        processes."""
        scope = self._scope
        scope.drain()
        return Events(scope, scope.current(), scope.incomplete())

    @property
    def anomalies(self) -> Events:
        """The anomalies that were found in it (`AnomalyDetected`)."""
        scope = self._scope
        scope.drain()
        found = Events(scope, scope.current(), (*scope.incomplete(), *scope.kept_back()))
        return found.of(AnomalyDetected)

    @property
    def chains(self) -> "list[CausalChain]":
        """What was caused, as chains of causes and effects, each with its trees."""
        with muted():  # what is imported is read from files
            from kobs_pytest.asserting import shapes
        events = self.events
        return shapes.chains(list(events), events.graph(), events.teller())

    @property
    def spans(self) -> "list[SpanNode]":
        """The spans that have ended, as trees: those without another one around them."""
        with muted():  # what is imported is read from files
            from kobs_pytest.asserting import shapes
        session = self._scope.recorder.session
        return shapes.spans(list(self.events), session.trace_high if session is not None else 0)

    def timeline(self) -> "Timeline":
        """The course of events: each with its time since the test began and its depth below what
        caused it; `str()` of it is a text."""
        with muted():  # what is imported is read from files
            from kobs_pytest.asserting import shapes
        events = self.events
        start_ns = self._scope.start_ns
        return shapes.timeline(list(events), events.graph(), start_ns, events.teller())

    @property
    def lost(self) -> int:
        """How many events were lost since it began, whoever caused them; 0 is what assertions of
        absence need."""
        self._scope.drain()
        return self._scope.lost()

    def mark(self) -> Mark:
        """This moment, for `events.since(mark)`."""
        return Mark(monotonic_ns())

    @contextmanager
    def capture(self) -> Iterator["Captured"]:
        """`with kobs.capture() as inner:` what is done in the block by this thread or task, and
        all that it causes: `inner` has the same events and assertions for that alone."""
        whole = self._whole()
        part = Part(whole)
        part.enter()
        try:
            yield Captured(part, whole)
        finally:
            part.leave()

    # -- assertions ---------------------------------------------------------------------------

    def expect(self, *patterns: Pattern, within: Within = None) -> None:
        """Every pattern was there up to now; with `within` (of chains), from its first to its
        last event in at most so long.

        Raises `AssertionError` with the nearest miss, `Inconclusive` where it may have been
        there unseen, `PatternError` for what is no pattern.
        """
        __tracebackhide__ = True
        require("expect", *patterns)
        asked = [_limited(pattern, within) for pattern in patterns]
        events = self.events
        for pattern in asked:
            if not events.holds(pattern):
                fail(f"expected {pattern!r}", events.explained(pattern, present=False))

    def never(self, *patterns: Pattern) -> None:
        """None of the patterns was there up to now.

        Raises `AssertionError` naming what was found, `Inconclusive` where the capture cannot
        tell.
        """
        __tracebackhide__ = True
        require("never", *patterns)
        events = self.events
        for pattern in patterns:
            if events.holds(pattern):
                fail(f"never expected {pattern!r}", events.explained(pattern, present=True))

    def count(self, pattern: Pattern) -> int:
        """How many events match; of a chain, how many complete it.

        Raises `Inconclusive` where the capture cannot tell.
        """
        __tracebackhide__ = True
        require("count", pattern)
        return self.events.count(pattern)

    def every(self, pattern: Pattern) -> Every:
        """`kobs.every(A).leads_to(B, within="5ms", same="pid")`: no A without its B. Fails where
        there is no A."""
        __tracebackhide__ = True
        return Every(lambda: self.events, pattern)

    def no_anomalies(self) -> None:
        """Nothing was found to be out of the ordinary.

        Raises `AssertionError` naming the anomalies, `Inconclusive` where the capture cannot
        tell.
        """
        __tracebackhide__ = True
        pattern = AnomalyDetected.like()
        events = self.events
        if events.holds(pattern):
            fail("expected no anomalies", events.explained(pattern, present=True))

    # -- waiting ------------------------------------------------------------------------------

    def wait_for(
        self, pattern: Pattern, *, timeout: float | str | timedelta = 5.0, within: Within = None
    ) -> tuple[Event, ...]:
        """Wait until the pattern is there; its events, one a step (of a count, all).

        Woken by the event itself, of whatever thread or process. Raises `AssertionError` with
        the nearest miss after `timeout` (seconds, "5ms", a timedelta), or `Inconclusive`.
        """
        __tracebackhide__ = True
        require("wait_for", pattern)
        asked = _limited(pattern, within)
        limit = waiting.seconds(timeout, "wait_for")
        doorbell = self._scope.recorder.collector.ring.doorbell
        found = waiting.wait(lambda: self._found(asked), doorbell, limit)
        return found if found is not None else self._in_vain(asked, limit, blocking=True)

    async def await_for(
        self, pattern: Pattern, *, timeout: float | str | timedelta = 5.0, within: Within = None
    ) -> tuple[Event, ...]:
        """As `wait_for`, for tests that asyncio runs: its loop goes on meanwhile."""
        __tracebackhide__ = True
        require("await_for", pattern)
        asked = _limited(pattern, within)
        limit = waiting.seconds(timeout, "await_for")
        doorbell = self._scope.recorder.collector.ring.doorbell
        found = await waiting.wait_async(lambda: self._found(asked), doorbell, limit)
        return found if found is not None else self._in_vain(asked, limit)

    def _found(self, pattern: Pattern) -> tuple[Event, ...] | None:
        __tracebackhide__ = True
        events = self.events
        found = events.first(pattern)
        if found is not None and isinstance(pattern, Count):
            events.holds(pattern)  # refuses where there may have been more
        return found

    def _in_vain(
        self, pattern: Pattern, timeout: float, *, blocking: bool = False
    ) -> tuple[Event, ...]:
        __tracebackhide__ = True
        events = self.events
        events.holds(pattern)
        told = events.explained(pattern, present=False)
        if blocking and waiting.in_event_loop():
            hint = "the event loop stood still meanwhile: use await kobs.await_for(...)"
            told = told._replace(lines=(*told.lines[:6], hint))
        fail(f"waited {timeout:g} s for {pattern!r}", told)

    def __repr__(self) -> str:
        return "<kobs>"


class Captured(Assertions):
    """What a block of a test caused, and assertions on it."""

    def __init__(self, part: Part, whole: Attempt) -> None:
        super().__init__(part)
        self._attempt = whole

    def _whole(self) -> Attempt:
        return self._attempt

    def __repr__(self) -> str:
        return "<kobs of a block>"


def _limited(pattern: Pattern, within: Within) -> Pattern:
    __tracebackhide__ = True
    if within is None:
        return pattern
    if isinstance(pattern, Count):
        raise PatternError(f"within={within!r} of {pattern!r}: a count has no first and last step")
    return pattern.within(within)
