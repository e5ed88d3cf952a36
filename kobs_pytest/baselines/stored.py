"""Runs of earlier sessions in which a test passed.

PYTEST_DONT_REWRITE
"""

import os
from typing import NamedTuple

from kobs._analysis.graph import CausalGraph
from kobs._analysis.recorded_tests import (
    RecordedTest,
    events_of,
    passed,
    recorded_name,
    recorded_tests,
)
from kobs._analysis.shapes import of_phase
from kobs.errors import KobsError
from kobs.events import Event
from kobs.recording import open_recording

MOST_SESSIONS = 10
"""Sessions that are looked at, the newest first."""


class StoredRun(NamedTuple):
    """A test that passed in an earlier session."""

    session: str
    """The session's folder."""
    events: list[Event]
    """What the phase did that was asked for, and what that led to."""
    lost: int
    """Events of the session that its recordings lack."""


class StoredRuns:
    """Looks tests up in sessions; what was passed there is read once."""

    def __init__(self, sessions: list[str]) -> None:
        self._sessions = sessions[:MOST_SESSIONS]
        self._passed: dict[str, dict[str, RecordedTest]] = {}

    def find(self, nodeid: str, phase: str) -> StoredRun | None:
        """The latest run in which a test passed; None where there is none that can be read."""
        name = recorded_name(nodeid)
        for session in self._sessions:
            try:
                run = self._of(session).get(name)
                if run is not None:
                    return _read(session, run, phase)
            except KobsError:  # removed meanwhile, or damaged: an older one may do
                self._passed[session] = {}
        return None

    def _of(self, session: str) -> dict[str, RecordedTest]:
        found = self._passed.get(session)
        if found is None:
            with open_recording(session) as recording:
                found = self._passed[session] = passed(recorded_tests(recording))
        return found


def _read(session: str, run: RecordedTest, phase: str) -> StoredRun:
    with open_recording(session) as recording:
        events = events_of(recording, run)
        chosen = of_phase(CausalGraph(events), run.origin, phase)
        for event in chosen:
            _ = event.payload  # decoded while the file is open
        losses = recording.losses()
    lost = losses.overwritten + losses.discarded + losses.sampled_out + losses.contended
    return StoredRun(session, chosen, lost + losses.too_big + losses.errors)


def sessions_below(*roots: str, but: str) -> list[str]:
    """The sessions of pytest in some folders, the newest first, without `but`."""
    found: dict[str, str] = {}
    for root in roots:
        try:
            names = os.listdir(root)
        except OSError:
            continue
        found |= {name: os.path.join(root, name) for name in names if "-pytest-" in name}
    own = os.path.basename(but)
    return [found[name] for name in sorted(found, reverse=True) if name != own]
