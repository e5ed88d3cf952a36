"""Who exports a recording, and how far it was exported: a small file beside it,
`00001-42.exported`.

    {"traces": [4711, 3], "logs": [4711, 3], "open": false}

For each signal one past the last ticket, by lane, of which everything was taken by a receiver;
`open`: so were the spans that were open when the process was gone. Who exports the recording next
reads it from its beginning (spans that end later began there) and sends what comes behind.
"""

import json
import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kobs._core.layout import LANES

if TYPE_CHECKING:
    from kobs.collector import Collector

Tickets = list[int]


def is_exported_elsewhere(collector: "Collector") -> bool:
    """Another process exports all of the session that the collector records in, as `kobs run
    --otlp` does. Where that one is gone the marks say how far it came."""
    session = collector.session
    return session is not None and collector.ring.path is not None and session.is_exported


class Marks:
    """The mark of one recording. What cannot be read says that nothing was exported."""

    def __init__(self, recording_path: str) -> None:
        self.path = recording_path.removesuffix(".kobs") + ".exported"
        self._told = False
        self.sent, self.open_sent = self._read()

    def of(self, signal: str) -> Tickets:
        """One past the last ticket of each lane that was exported."""
        return self.sent.get(signal, [0] * LANES)

    def note(
        self, signal: str | None = None, tickets: Iterable[int] = (), *, open_sent: bool = False
    ) -> None:
        """Write down that a signal was exported up to these tickets. Never goes back: another
        process may have exported more meanwhile."""
        there, open_there = self._read()
        for known, lanes in there.items():
            self._raise(known, lanes)
        if signal is not None:
            self._raise(signal, tickets)
        self.open_sent = self.open_sent or open_there or open_sent
        new = f"{self.path}.{os.getpid()}.new"
        try:
            with open(new, "x", encoding="ascii", opener=_private) as file:
                json.dump({**self.sent, "open": self.open_sent}, file)
            os.replace(new, self.path)
        except OSError as error:
            if not self._told:
                self._told = True
                logging.getLogger("kobs").warning(
                    "%s cannot be written (%s): what was exported may be exported again",
                    self.path, error.strerror,
                )  # fmt: skip

    def _raise(self, signal: str, tickets: Iterable[int]) -> None:
        self.sent[signal] = [max(pair) for pair in zip(self.of(signal), tickets, strict=True)]

    def _read(self) -> tuple[dict[str, Tickets], bool]:
        try:
            with open(self.path, "rb") as file:
                found = json.loads(file.read(1 << 12))
            sent = {
                signal: [int(ticket) for ticket in found[signal]]
                for signal in ("traces", "logs")
                if len(found.get(signal, ())) == LANES
            }
            return sent, found.get("open") is True
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}, False


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
