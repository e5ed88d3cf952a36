"""Some events of a session, read before, with what exporters ask a recording about them."""

from collections.abc import Iterator, Sequence
from typing import Any

from kobs._core import select
from kobs.errors import RecordingError
from kobs.events import Event
from kobs.payloads import ProcessTerminated
from kobs.recording import OpenRecord, ProcessRecord, process_record
from kobs.session import Session


class Excerpt:
    """`events` (by time) of `session`. Only the recordings that they come from are opened, and
    closed again; one that cannot be read is left out of `processes`."""

    def __init__(self, session: Session, events: Sequence[Event]) -> None:
        self._events = events
        self.session_info: dict[str, Any] = {**session.info, "exit": session.exit}
        self.processes: list[ProcessRecord] = []
        """The processes that recorded these events, in the order of their recordings."""
        self._open: set[int] = set()
        codes = {
            event.pid: event.payload.exit_code
            for event in events
            if event.type is ProcessTerminated
        }
        numbers = {event.recording for event in events}
        for path in session.recordings():
            if int(path.rpartition("/")[2].partition("-")[0]) not in numbers:
                continue
            try:
                attached = select().attach(path)
            except RecordingError:
                continue
            self.processes.append(process_record(attached, codes))
            self._open |= {entry.event for entry in attached.open_events()}
            attached.close()

    def events(self) -> Iterator[Event]:
        """The events, by time."""
        return iter(self._events)

    def open_events(self) -> list[OpenRecord]:
        """Those of the events that begin something which has not ended, by time."""
        return [
            OpenRecord(
                event.id, event.timestamp_ns, event.causality_id, event.span_id, event.parent,
                event.tid, event.pid, event.name or "", event.origin, event.type_name,
                event.recording,
            )
            for event in self._events
            if event.id in self._open
        ]  # fmt: skip
