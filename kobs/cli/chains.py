"""Which causal chain of a recording is the longest, without keeping its events.

Three numbers an event are kept; `CausalGraph`, which knows what a cause is, is then made of the
longest chain alone.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from kobs._analysis.graph import RECEIVES, SENDS
from kobs.events import Event
from kobs.export.slices import Places

if TYPE_CHECKING:
    from kobs.recording import Recording

_SEND, _RECEIVE, _OTHER = 1, 2, 0
_NONE = -1


class Longest(NamedTuple):
    """The longest chain."""

    path: list[int]
    """Ids from the first cause to the last effect."""
    members: "Members"
    """Everything that goes back to the first cause."""


class Members:
    """Which events belong to a chain."""

    def __init__(self, places: Places, flags: bytearray) -> None:
        self._places = places
        self._flags = flags

    def __contains__(self, event: int) -> bool:
        place = self._places.get(event)
        return place is not None and bool(self._flags[place[1]])

    def __len__(self) -> int:
        return sum(self._flags)


class Chains:
    """Who caused whom, event by event."""

    def __init__(self) -> None:
        self._ids = array("Q")
        self._parents = array("Q")
        self._times = array("Q")
        self._linked: dict[int, list[tuple[int, int]]] = {}
        self._places = Places()

    def see(self, event: Event) -> None:
        """Take one event."""
        index = len(self._ids)
        self._ids.append(event.id)
        self._parents.append(event.parent)
        self._times.append(event.timestamp_ns)
        self._places.put(event.id, 1, index)
        if event.link:
            name = event.type_name
            role = _SEND if name in SENDS else _RECEIVE if name in RECEIVES else _OTHER
            self._linked.setdefault(event.link, []).append((index, role))

    def longest(self) -> Longest | None:
        """The chain with the most steps (of several, the one that took longest); None where no
        event caused another."""
        parents, sends = self._causes()
        order = self._order(parents, sends)
        count = len(self._ids)
        steps = array("I", bytes(4 * count))
        before = array("q", [_NONE]) * count
        began = array("Q", self._times)
        for index in order:
            for cause in (parents[index], sends.get(index, _NONE)):
                if cause in (_NONE, index):
                    continue
                reached = steps[cause] + 1, -began[cause]
                if reached > (steps[index], -began[index]) or before[index] == _NONE:
                    steps[index], began[index], before[index] = reached[0], began[cause], cause
        best = max(range(count), key=lambda i: (steps[i], self._times[i] - began[i]), default=_NONE)
        if best == _NONE or not steps[best]:
            return None
        path = [best]
        while before[path[-1]] != _NONE:
            path.append(before[path[-1]])
        flags = bytearray(count)
        flags[path[-1]] = 1
        for index in order:
            for cause in (parents[index], sends.get(index, _NONE)):
                if cause != _NONE and flags[cause]:
                    flags[index] = 1
        return Longest([self._ids[i] for i in reversed(path)], Members(self._places, flags))

    def _causes(self) -> tuple["array[int]", dict[int, int]]:
        """For each event the index of its parent (-1: none), and for what was received, that of
        who sent it."""
        get = self._places.get
        parents = array("q", [_NONE]) * len(self._ids)
        for index, parent in enumerate(self._parents):
            if parent and (place := get(parent)) is not None:
                parents[index] = place[1]
        sends: dict[int, int] = {}
        for group in self._linked.values():
            senders = [index for index, role in group if role == _SEND]
            if not senders:
                senders = [index for index, role in group if role == _OTHER][:1]
            receivers = [index for index, _ in group if index not in set(senders)]
            at = 0
            for receiver in receivers if senders else ():
                while at + 1 < len(senders) and senders[at + 1] < receiver:
                    at += 1
                sends[receiver] = senders[at]
        return parents, sends

    def _order(self, parents: "array[int]", sends: dict[int, int]) -> Iterable[int]:
        """Indices with causes before effects. By time that is so but for sends that were
        recorded after what they sent was received."""
        late = any(parent > index for index, parent in enumerate(parents))
        if not late and not any(send > index for index, send in sends.items()):
            return range(len(parents))
        order: list[int] = []
        state = bytearray(len(parents))
        for start in range(len(parents)):
            waiting = [start]
            while waiting:
                index = waiting[-1]
                if state[index]:
                    waiting.pop()
                    if state[index] == 1:
                        state[index] = 2
                        order.append(index)
                    continue
                state[index] = 1
                for cause in (parents[index], sends.get(index, _NONE)):
                    if cause == _NONE or state[cause] == 2:
                        continue
                    if state[cause] == 1:  # a circle, in a damaged recording: cut here
                        if cause == parents[index]:
                            parents[index] = _NONE
                        sends.pop(index, None) if sends.get(index) == cause else None
                    else:
                        waiting.append(cause)
        return order


def events_of(recording: "Recording", longest: Longest, most: int) -> Iterator[Event]:
    """The events of the chain, by time: all of its path and up to `most` others."""
    path = set(longest.path)
    for event in recording.events():
        if event.id in longest.members and (most > 0 or event.id in path):
            most -= 1
            yield event
