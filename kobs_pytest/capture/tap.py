"""Reading a ring on behalf of one test: whose event is it, before anything is decoded.

PYTEST_DONT_REWRITE
"""

from collections.abc import Callable, Iterator
from enum import IntEnum
from struct import Struct
from time import sleep
from typing import NamedTuple

from kobs._core.contract import AttachedRing, RawSlot, Reader, Ring
from kobs.decoder import EventDecoder
from kobs.events import Event
from kobs.schema import PayloadType

_CHUNK = 1024
_LAG = 256
_STALL_S = 0.001
_STALLS = 15
facts = Struct("=24xQ8xQ8xHBBI").unpack_from
"""parent, link, type id, severity and category, flags, origin of a slot."""


class Whose(IntEnum):
    """Who caused an event."""

    CAUSED = 0
    """The test, in whatever thread, task or process."""
    UNATTRIBUTED = 1
    """Nobody knows: it may be the test's doing, or not."""
    ELSEWHERE = 2
    """Someone who is known, and not this test."""


Classify = Callable[[str], Whose]


class Raw(NamedTuple):
    """An event that is not decoded yet."""

    decoder: EventDecoder
    slot: RawSlot

    @property
    def type(self) -> type[PayloadType] | None:
        """Its payload type; None where its recording does not say."""
        return self.decoder.type_of(facts(self.slot.data)[2])

    @property
    def joined(self) -> bool:
        """It has a cause or carries a link: paths may lead through it."""
        parent, link = facts(self.slot.data)[:2]
        return bool(parent or link)

    def event(self) -> Event | None:
        """The event itself."""
        return self.decoder.decode(self.slot)


class Tap:
    """A cursor over a ring, live or attached."""

    def __init__(self, ring: Ring | AttachedRing, reader: Reader, decoder: EventDecoder) -> None:
        self.reader = reader
        self._ring = ring
        self._decoder = decoder
        self._whose: dict[int, Whose] = {}

    def new_test(self) -> None:
        """Go past what is there, and forget whose was whose."""
        self.reader.seek_end()
        self._whose.clear()

    @property
    def lost(self) -> int:
        """Events that were overwritten before they were read, since `new_test`."""
        return self.reader.lost

    def read(self, classify: Classify) -> Iterator[tuple[Whose, Raw]]:
        """What was written up to now and not read yet. What is written meanwhile stays for the
        next time: with a producer that never stops, this stops all the same."""
        reader = self.reader
        whose_of = self._whose
        # A little more than is counted: the count may lag behind what is finished.
        remaining = reader.pending() + _LAG
        stalls = 0
        while remaining > 0:
            slots = reader.read(min(_CHUNK, remaining))
            if not slots:
                # A slot that is being written holds up what was finished after it, for a moment.
                stalls += 1
                if stalls > _STALLS or not reader.pending():
                    return
                sleep(_STALL_S)
                continue
            remaining -= len(slots)
            for slot in slots:
                origin = facts(slot.data)[5]
                whose = whose_of.get(origin)
                if whose is None:
                    whose = whose_of[origin] = classify(self._ring.string(origin) if origin else "")
                yield whose, Raw(self._decoder, slot)
