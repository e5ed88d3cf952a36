"""The last events of a test whose process is gone, from what it recorded.

PYTEST_DONT_REWRITE
"""

import re
from collections import deque
from textwrap import wrap

from kobs.events import Event
from kobs.pattern.narrate import clip, describe
from kobs.recording import OpenRecord, Recording, open_recording
from kobs_pytest.capture.boundaries import TestBegan, TestEnded
from kobs_pytest.capture.tap import facts
from kobs_pytest.reporting.section import WIDTH

SHOWN = 20
_PHASES = {"s": "setup", "c": "call", "t": "teardown"}


class _Test:
    """What is known of the events of one attempt at a test."""

    def __init__(self, began: Event) -> None:
        self.began = began
        self.count = 0
        self.last: deque[Event] = deque(maxlen=SHOWN)
        self.phase = ""


def last_words(session: str, worker: str, nodeid: str, ended: str) -> str:
    """What a test did last that `worker` never ended, as plain text of 80 columns; empty if it was
    not captured. `ended`: what became of the worker, if that is known."""
    with open_recording(session) as recording:
        test = _find(recording, worker, nodeid)
        if test is None:
            return ""
        base = test.began.origin
        in_flight = [one for one in recording.open_events() if _belongs(one.origin, base)]
        pid = next(
            (one.pid for one in recording.processes if one.recording == test.began.recording), 0
        )
    return "\n".join(_told(test, in_flight, worker, pid, ended))


def _find(recording: Recording, worker: str, nodeid: str) -> _Test | None:
    """The attempt that was begun last and did not end, and its events."""
    of_worker = re.compile(rf"[0-9a-f]{{6}}{re.escape(worker)}\.")
    found: _Test | None = None
    for part, slots in recording.portions():
        for slot in slots:
            _, _, type_id, *_, origin = facts(slot.data)
            key = part.attached.string(origin) if origin else ""
            if not of_worker.match(key):
                continue
            cls = part.decoder.type_of(type_id)
            mine = found is not None and _belongs(key, found.began.origin)
            if not mine and cls is not TestBegan:
                continue
            event = part.decode(slot)
            if event is None:
                continue
            if cls is TestBegan:
                if nodeid.endswith(event.payload.nodeid):
                    found = _Test(event)
            elif found is not None and cls is TestEnded:
                found = None
            elif found is not None:
                found.count += 1
                found.last.append(event)
                found.phase = _PHASES.get(key[-1], found.phase)
    return found


def _belongs(key: str, base: str) -> bool:
    """The origin is that of the test or one of its phases, or of a wider fixture of its process."""
    if key.startswith(base) and key[len(base) :] in ("", *_PHASES):
        return True
    tag = base.partition(".")[0]
    return key.startswith(f"{tag}.f")


def _told(test: _Test, in_flight: list[OpenRecord], worker: str, pid: int, ended: str) -> list[str]:
    start_ns = test.began.timestamp_ns
    number = f"{test.count} event{'' if test.count == 1 else 's'} of this test"
    if len(test.last) < test.count:
        number += f", the last {len(test.last)}"
    phase = next((_PHASES[one.origin[-1]] for one in in_flight if one.origin[-1] in _PHASES), "")
    what = f"worker {worker} (process {pid})"
    if ended:
        what += f", {ended}"
    if phase or test.phase:
        what += f", in {phase or test.phase}"
    lines = [*wrap(what, WIDTH), f"{number}:" if test.count else number]
    pids = len({event.pid for event in test.last}) > 1
    for event in test.last:
        since = (event.timestamp_ns - start_ns) / 1e6
        of = f"pid={event.pid} " if pids else ""
        lines.append(clip(f"  {since:+.3f}ms {of}{describe(event)}", WIDTH))
    if in_flight:
        lines.append("in flight when it ended:")
        for one in in_flight:
            since = (one.timestamp_ns - start_ns) / 1e6
            name = f" {one.name}" if one.name else ""
            lines.append(clip(f"  {since:+.3f}ms {one.type_name}{name} pid={one.pid}", WIDTH))
    else:
        lines.append("nothing was in flight")
    return lines
