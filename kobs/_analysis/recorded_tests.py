"""The tests of a session that pytest recorded: which there were, and whose event is whose.

A test's `TestBegan` and `TestEnded` have its origin; all that it causes has that origin and the
first letter of the phase (setup, call, teardown); a part of it that is captured by itself has `/`
and a number behind. What has no such origin may still be led to by what has: events of the same
process, or of nobody, that happened meanwhile.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kobs.events import Event
from kobs.filters import EventFilter
from kobs.query import Query

if TYPE_CHECKING:
    from kobs.recording import Recording

_NODEID_BYTES = 112
"""What a recording keeps of a test's name, from its end."""
_PHASES = ("s", "c", "t")


class RecordedTest(NamedTuple):
    """One attempt at a test."""

    test: str
    """The last 112 bytes of its name."""
    origin: str
    outcome: str
    """passed, failed, skipped or inconclusive; empty where it has no end."""
    began_ns: int
    ended_ns: int

    @property
    def process(self) -> str:
        """What the origins of its process begin with."""
        return self.origin.rsplit(".", 2)[0]


def recorded_name(nodeid: str) -> str:
    """What a recording keeps of pytest's name of a test."""
    data = nodeid.encode("utf-8", "surrogateescape")
    start = max(0, len(data) - _NODEID_BYTES)
    while start < len(data) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:].decode("utf-8", "surrogateescape")


def recorded_tests(recording: "Recording") -> list[RecordedTest]:
    """The tests that were begun, in order of time."""
    boundaries = EventFilter().among("type_name", {"TestBegan", "TestEnded"})
    began: dict[str, Event] = {}
    found = []
    for event in recording.query(Query().passing(boundaries)).events:
        if event.type_name == "TestBegan":
            began[event.origin] = event
        elif event.origin in began:
            begin = began.pop(event.origin)
            found.append(_run(begin, event.payload.outcome, event.timestamp_ns))
    found += [_run(begin, "", (1 << 64) - 1) for begin in began.values()]
    return sorted(found, key=lambda run: run.began_ns)


def _run(begin: Event, outcome: str, ended_ns: int) -> RecordedTest:
    return RecordedTest(begin.payload.nodeid, begin.origin, outcome, begin.timestamp_ns, ended_ns)


def passed(runs: Iterable[RecordedTest]) -> dict[str, RecordedTest]:
    """The last attempt that passed of each test, by its recorded name."""
    return {run.test: run for run in runs if run.outcome == "passed"}


def events_by_test(events: Iterable[Event], runs: Sequence[RecordedTest]) -> dict[str, list[Event]]:
    """The events of each run by its origin, with those of others through which its causes may
    lead. `events` come by time."""
    own = {run.origin: run for run in runs}
    waiting = sorted(runs, key=lambda run: run.began_ns, reverse=True)
    active: list[RecordedTest] = []
    found: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        at, origin = event.timestamp_ns, event.origin
        while waiting and waiting[-1].began_ns <= at:
            active.append(waiting.pop())
            active = [run for run in active if run.ended_ns >= at]
        phase = origin.partition("/")[0]
        base = phase[:-1] if phase.endswith(_PHASES) else phase
        if base in own and base != phase:
            found[base].append(event)
        if not (event.parent or event.link):
            continue
        for run in active:
            foreign = run.origin != base and run.ended_ns >= at
            if foreign and (not origin or origin.startswith(run.process)):
                found[run.origin].append(event)
    return found


def events_of(recording: "Recording", run: RecordedTest) -> list[Event]:
    """The events of one run, as `events_by_test` gives them."""
    query = Query().since(run.began_ns)
    if run.outcome:
        query = query.until(run.ended_ns)
    return events_by_test(recording.query(query).events, [run])[run.origin]
