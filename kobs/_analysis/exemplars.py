"""Exemplars: a few of the values of a histogram, with what happened around them."""

from math import frexp
from typing import NamedTuple

from kobs.events import Event
from kobs.ids import split_id

MOST = 8
"""Exemplars that a series keeps at most."""


class Exemplar(NamedTuple):
    """A value with the moment and the span it was seen in."""

    value: float
    timestamp_ns: int
    """Monotonic, as of the event it comes from."""
    causality_id: int
    span_id: int
    recording: int


class Reservoir:
    """Keeps the newest value of each magnitude (a factor of four), of `MOST` magnitudes.

    What is rare stays beside what is frequent: a slow call is not pushed out by the thousands of
    fast ones that follow it. Of magnitudes, the one not seen for longest goes first.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[int, tuple[float, int, int, int, int]] = {}

    def offer(self, value: float, event: Event) -> None:
        """Keep a value of an event."""
        kept = self._kept
        magnitude = frexp(value)[1] >> 1
        kept.pop(magnitude, None)  # what is entered anew stands last
        kept[magnitude] = (
            value, event.timestamp_ns, event.causality_id, event.span_id, event.id,
        )  # fmt: skip
        if len(kept) > MOST:
            del kept[next(iter(kept))]

    def merge(self, newer: "Reservoir") -> None:
        """Take what another one kept since."""
        for magnitude, exemplar in newer._kept.items():
            self._kept.pop(magnitude, None)
            self._kept[magnitude] = exemplar
        while len(self._kept) > MOST:
            del self._kept[next(iter(self._kept))]

    def kept(self) -> tuple[Exemplar, ...]:
        """The exemplars, by time of their coming."""
        return tuple(
            Exemplar(value, timestamp_ns, causality_id, span_id, split_id(event)[0])
            for value, timestamp_ns, causality_id, span_id, event in self._kept.values()
        )
