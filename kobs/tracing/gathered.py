"""What is known so far of spans that have not ended, in bounded memory.

A span may go on for days and be told of events and links all the time: where those of all spans
become many, a span that has more than `FEW` of them loses its oldest, and they are counted.
"""

from collections import deque
from collections.abc import Callable

from kobs.events import Event
from kobs.tracing.finished import SpanLink

MOST_SPANS = 65_536
"""Open spans that are remembered; the oldest are forgotten."""
MOST_PARTS = 8192
"""Events and links of all open spans together, but for `FEW` each of every span."""
FEW = 128
"""Events, and links, that a span keeps in any case: as many as OpenTelemetry's limits allow."""


class Gathered:
    """What is known of a span."""

    __slots__ = ("began", "details", "events", "links", "lost_events", "lost_links")

    def __init__(self, began: Event | None = None) -> None:
        self.began = began
        self.links: deque[Event | SpanLink] = deque()
        self.events: deque[Event] = deque()
        self.details: list[Event] = []
        self.lost_links = 0
        self.lost_events = 0


class OpenSpans:
    """The spans that are open, by the ids of their begin events.

    `forget` is told of each record that is left out.
    """

    def __init__(self, forget: Callable[[Event], object]) -> None:
        self._spans: dict[int, Gathered] = {}
        self._forget = forget
        self._parts = 0
        self.get = self._spans.get
        """What is known of a span; None where nothing is."""

    def entry(self, began_id: int) -> Gathered:
        """What is known of a span, of which something is to be known."""
        known = self._spans.get(began_id)
        if known is None:
            while len(self._spans) >= MOST_SPANS:
                oldest = self.pop(next(iter(self._spans)))
                for part in (*oldest.links, *oldest.events):
                    self._leave_out(part)
            known = self._spans[began_id] = Gathered()
        return known

    def pop(self, began_id: int) -> Gathered:
        """What is known of a span, which is open no longer."""
        known = self._spans.pop(began_id, None)
        if known is None:
            return Gathered()
        self._parts -= len(known.links) + len(known.events)
        return known

    def add_event(self, began_id: int, event: Event) -> None:
        """Something happened in a span."""
        known = self.entry(began_id)
        known.events.append(event)
        self._parts += 1
        while self._parts > MOST_PARTS and len(known.events) > FEW:
            self._leave_out(known.events.popleft())
            self._parts -= 1
            known.lost_events += 1

    def add_link(self, began_id: int, link: Event | SpanLink) -> None:
        """A span has a link."""
        known = self.entry(began_id)
        known.links.append(link)
        self._parts += 1
        while self._parts > MOST_PARTS and len(known.links) > FEW:
            self._leave_out(known.links.popleft())
            self._parts -= 1
            known.lost_links += 1

    def _leave_out(self, part: Event | SpanLink) -> None:
        if isinstance(part, Event):
            self._forget(part)
