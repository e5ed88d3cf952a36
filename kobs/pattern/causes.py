"""Which event led to which: the edges between the events of a list."""

from collections import deque
from collections.abc import Iterable, Sequence

from kobs.events import Event


class Causes:
    """The causal edges of a list of events, for walking from causes to effects.

    An edge is a *parent* (`event.parent` is the id of its cause) or a *link* (the first event
    that carries a link token sent what the later ones with it received).
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self.order = {id(event): index for index, event in enumerate(events)}
        self._by_id = {event.id: event for event in events if event.id}
        self._effects: dict[int, list[Event]] = {}
        self._causes: dict[int, list[Event]] = {}
        senders: dict[int, Event] = {}
        for event in events:
            parent = self._by_id.get(event.parent) if event.parent else None
            if parent is not None and parent is not event:
                self._add(parent, event)
            if event.link:
                sender = senders.setdefault(event.link, event)
                if sender is not event and sender is not parent:
                    self._add(sender, event)

    def effects(self, event: Event) -> list[Event]:
        """What `event` led to in one step, in order of time."""
        return self._effects.get(id(event), [])

    def causes(self, event: Event) -> list[Event]:
        """What led to `event` in one step: its parent, then the sender of what it received."""
        return self._causes.get(id(event), [])

    def missing_parent(self, event: Event) -> bool:
        """`event` has a parent that is not among the events."""
        return bool(event.parent) and event.parent not in self._by_id

    def reached_from(self, starts: Iterable[Event]) -> list[tuple[Event, Event]]:
        """Every event that one of `starts` led to in one or more steps, with the start it was
        first reached from, in order of the list."""
        reached: dict[int, tuple[Event, Event]] = {}
        waiting = deque((start, start) for start in starts)
        while waiting:
            event, start = waiting.popleft()
            for effect in self.effects(event):
                if id(effect) not in reached:
                    reached[id(effect)] = (effect, start)
                    waiting.append((effect, start))
        return sorted(reached.values(), key=lambda pair: self.order[id(pair[0])])

    def _add(self, cause: Event, effect: Event) -> None:
        self._effects.setdefault(id(cause), []).append(effect)
        self._causes.setdefault(id(effect), []).append(cause)
