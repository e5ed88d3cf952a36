"""What a test did whose process is gone, from what it recorded.

PYTEST_DONT_REWRITE
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import wrap

from kobs._core.contract import RawSlot
from kobs._core.layout import MAIN_LANE
from kobs.events import Event
from kobs.pattern.narrate import clip, describe
from kobs.recording import OpenRecord, Part, Recording, open_recording
from kobs_pytest.capture.attempt import UNATTRIBUTED_KEPT
from kobs_pytest.capture.boundaries import TestBegan, TestEnded
from kobs_pytest.capture.children import losses_by_cause
from kobs_pytest.capture.tap import facts
from kobs_pytest.reporting.section import WIDTH

SHOWN = 20
_PHASES = {"s": "setup", "c": "call", "t": "teardown"}


@dataclass
class CrashedTest:
    """An attempt at a test that its worker never ended."""

    session: str
    worker: str
    nodeid: str
    began: Event
    pid: int = 0
    """The worker's process."""
    count: int = 0
    """How many events it caused."""
    own: list[Event] = field(default_factory=list)
    """These, by time; only the last where no more were asked for."""
    unattributed: list[Event] = field(default_factory=list)
    """What nobody is known to have caused in the worker and its child processes meanwhile."""
    elsewhere: int = 0
    """How many events others caused there meanwhile."""
    in_flight: list[OpenRecord] = field(default_factory=list)
    """What it had begun and not ended."""
    phase: str = ""
    """setup, call or teardown; empty where it is not known."""
    incomplete: tuple[str, ...] = ()
    """Why it may have caused more than was seen."""

    def told(self, ended: str) -> str:
        """What it did last, as plain text of 80 columns. `ended`: what became of the worker, if
        that is known."""
        return "\n".join(_told(self, ended))


def read(session: str, worker: str, nodeid: str, *, whole: bool) -> CrashedTest | None:
    """The test of this name that `worker` began last and did not end; None if it was not captured.

    `whole`: with all its events and what nobody is known to have caused, not only the last.
    """
    with open_recording(session) as recording:
        slots = _Slots(recording, worker, nodeid)
        if slots.began is None:
            return None
        base = slots.began.origin
        test = CrashedTest(session, worker, nodeid, slots.began, count=len(slots.own))
        test.in_flight = [
            one for one in recording.open_events() if _owned(one.origin, base) or _wider(one, base)
        ]
        test.own = list(_decoded(slots.own if whole else slots.own[-SHOWN:]))
        if whole:
            test.unattributed = list(_decoded(slots.unattributed))
        test.elsewhere = slots.elsewhere
        origins = [one.origin for one in test.in_flight if _owned(one.origin, base)]
        origins += [event.origin for event in test.own[-1:]]
        test.phase = _PHASES.get(origins[0][len(base) :][:1], "") if origins else ""
        test.pid = slots.part.attached.pid
        test.incomplete = tuple(_incomplete(slots, test.began))
    return test


class _Slots:
    """The slots of the last attempt at a test that was begun and did not end, by time."""

    def __init__(self, recording: Recording, worker: str, nodeid: str) -> None:
        self.began: Event | None = None
        self.part: Part
        """The recording in which it began, the worker's; there is none without `began`."""
        self.own: list[tuple[Part, RawSlot]] = []
        self.unattributed: list[tuple[Part, RawSlot]] = []
        self.elsewhere = 0
        self.oldest: dict[int, RawSlot] = {}
        """Of each recording, by the `id` of its part, what is left of its main lane begins so."""
        of_worker = re.compile(rf"[0-9a-f]{{6}}{re.escape(worker)}\.").match
        for part, slots in recording.portions():
            for slot in slots:
                _, _, type_id, *_, origin = facts(slot.data)
                key = part.attached.string(origin) if origin else ""
                cls = part.decoder.type_of(type_id)
                if cls is TestBegan or cls is TestEnded:
                    if of_worker(key):
                        self._boundary(part, slot, nodeid)
                    continue
                if slot.lane == MAIN_LANE:
                    self.oldest.setdefault(id(part), slot)
                if self.began is None:
                    continue
                if _owned(key, self.began.origin):
                    self.own.append((part, slot))
                elif key and not of_worker(key):
                    self.elsewhere += 1
                elif len(self.unattributed) < UNATTRIBUTED_KEPT:
                    self.unattributed.append((part, slot))
        if self.began is not None:
            below = _below(recording, self.part)
            self.unattributed = [one for one in self.unattributed if id(one[0]) in below]

    def _boundary(self, part: Part, slot: RawSlot, nodeid: str) -> None:
        event = part.decode(slot)
        if event is None:
            return
        if event.type is TestEnded:
            self.began = None
        elif nodeid.endswith(event.payload.nodeid):
            self.began, self.part = event, part
            self.own.clear()
            self.unattributed.clear()
            self.elsewhere = 0


def _owned(key: str, base: str) -> bool:
    """The origin is that of the test, or of one of its phases."""
    return key.startswith(base) and key[len(base) :].partition("/")[0] in ("", *_PHASES)


def _wider(one: OpenRecord, base: str) -> bool:
    """It is of a wider fixture of the worker."""
    return one.origin.startswith(f"{base.partition('.')[0]}.f")


def _decoded(slots: list[tuple[Part, RawSlot]]) -> Iterator[Event]:
    for part, slot in slots:
        event = part.decode(slot)
        if event is not None:
            yield event


def _below(recording: Recording, top: Part) -> set[int]:
    """By their `id`, the recordings of a process and of those that it started."""
    pids = {top.attached.pid}
    parts = list(recording.parts.values())
    while True:
        more = {one.attached.pid for one in parts if one.attached.ppid in pids} - pids
        if not more:
            return {id(one) for one in parts if one.attached.pid in pids}
        pids |= more


def _incomplete(slots: _Slots, began: Event) -> Iterator[str]:
    losses = slots.part.attached.losses()
    first = slots.oldest.get(id(slots.part))
    oldest = slots.part.decode(first) if first is not None else None
    if losses.overwritten and (oldest is None or oldest.timestamp_ns > began.timestamp_ns):
        yield (
            "the ring overflowed: the first events of this test were overwritten [overflow]: "
            "--kobs-size, @pytest.mark.kobs(size=...)"
        )
    for cause, number in losses_by_cause(losses, None).items():
        yield f"{number} events of the worker's tests, this one or earlier, were lost: {cause}"


def _told(test: CrashedTest, ended: str) -> list[str]:
    start_ns = test.began.timestamp_ns
    number = f"{test.count} event{'' if test.count == 1 else 's'} of this test"
    last = test.own[-SHOWN:]
    if len(last) < test.count:
        number += f", the last {len(last)}"
    what = f"worker {test.worker} (process {test.pid})"
    if ended:
        what += f", {ended}"
    if test.phase:
        what += f", in {test.phase}"
    lines = wrap(what, WIDTH)
    for reason in test.incomplete:
        lines += wrap(f"incomplete: {reason}", WIDTH, subsequent_indent="  ")
    lines.append(f"{number}:" if test.count else number)
    pids = len({event.pid for event in last}) > 1
    for event in last:
        since = (event.timestamp_ns - start_ns) / 1e6
        of = f"pid={event.pid} " if pids else ""
        lines.append(clip(f"  {since:+.3f}ms {of}{describe(event)}", WIDTH))
    if test.in_flight:
        lines.append("in flight when it ended:")
        for one in test.in_flight:
            since = (one.timestamp_ns - start_ns) / 1e6
            name = f" {one.name}" if one.name else ""
            lines.append(clip(f"  {since:+.3f}ms {one.type_name}{name} pid={one.pid}", WIDTH))
    else:
        lines.append("nothing was in flight")
    return lines
