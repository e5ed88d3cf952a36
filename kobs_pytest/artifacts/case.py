"""What is told of one test that did not pass, whoever captured it: the process that ran it, or,
where that died, who reads its recording.

PYTEST_DONT_REWRITE
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from kobs.events import Event
from kobs.session import Session
from kobs_pytest.capture.attempt import Attempt, Note
from kobs_pytest.workers.crash import CrashedTest


@dataclass(frozen=True)
class Case:
    """A test that is over."""

    nodeid: str
    attempt: int
    """How often it was begun in this run, counting this time."""
    base: str
    """The origin of its boundaries; that of its phases has a letter more."""
    verdict: str
    start_ns: int
    pid: int
    """The process that ran it."""
    worker: str
    """Of pytest-xdist; empty without."""
    session: Session
    trace_id: str
    """Of the test's own trace, 32 hex digits."""
    own: Sequence[Event]
    """What it caused, by time: numbered as messages number them."""
    unattributed: Sequence[Event]
    """What happened meanwhile that nobody is known to have caused, and which may be the test's."""
    unattributed_count: int
    """How much of that there was, pytest's own doings included."""
    elsewhere: int
    lost: int | None
    """None: it is not known how many."""
    incomplete: tuple[str, ...]
    """Why it may have caused more than was seen."""
    notes: Sequence[Note] = ()

    @property
    def events(self) -> list[Event]:
        """All events, by time."""
        both = [*self.own, *self.unattributed]
        return sorted(both, key=lambda event: (event.timestamp_ns, event.id))


def case_of(attempt: Attempt) -> Case:
    """A test that ended in this process."""
    attempt.drain()
    session = attempt.recorder.session
    assert session is not None  # a collector was made for the test's first event
    return Case(
        attempt.nodeid,
        attempt.tried,
        attempt.base,
        attempt.outcome,
        attempt.start_ns,
        os.getpid(),
        os.environ.get("PYTEST_XDIST_WORKER", ""),
        session,
        trace_id(session, attempt.cause.causality_id),
        attempt.events,
        attempt.unattributed(None),
        attempt.unattributed_count,
        attempt.elsewhere,
        attempt.lost(),
        attempt.incomplete(),
        attempt.notes,
    )


def case_of_crash(crashed: CrashedTest) -> Case:
    """A test whose worker died."""
    session = Session.open(crashed.session)
    began = crashed.began
    return Case(
        crashed.nodeid,
        began.payload.attempt,
        began.origin,
        "crashed",
        began.timestamp_ns,
        crashed.pid,
        crashed.worker,
        session,
        trace_id(session, began.causality_id),
        crashed.own,
        crashed.unattributed,
        len(crashed.unattributed),
        crashed.elsewhere,
        None if crashed.incomplete else 0,
        crashed.incomplete,
    )


def trace_id(session: Session, causality_id: int) -> str:
    """The whole id of a trace that was begun in the session."""
    return f"{session.trace_high:016x}{causality_id:016x}"
