"""Reads everything that a recording or session has to give, as its users do."""

import faulthandler
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from kobs import Query, open_recording
from kobs._core import layout, select
from kobs._core.contract import AttachedRing, Core
from kobs.errors import KobsError

HANGS_AFTER_S = 5.0
_MOST_ROUNDS = 2000


class Hang(BaseException):
    """It took too long. No `Exception`: nothing on the way may take it for one of its own."""


@contextmanager
def no_hang(seconds: float = HANGS_AFTER_S) -> Iterator[None]:
    """Raises `Hang` in what takes longer; ends the process where even that does not help (C)."""

    def ring(*_: object) -> NoReturn:
        raise Hang(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(2 * seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def look_at_everything(path: str) -> int:
    """Read all that there is at `path` with the core that `KOBS_CORE` names; how many events
    there were. The errors that kobs raises on purpose are answers; any other is let through."""
    core = select()
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    for name in sorted(os.listdir(folder)):
        if name.endswith(".kobs"):
            _file(core, os.path.join(folder, name))
    try:
        return _recording(path)
    except KobsError as error:
        _says_what(error)
        return 0


def _says_what(error: KobsError) -> None:
    lines = str(error).splitlines()
    assert len(lines) == 1, f"an error says what is wrong in one line, not {lines}"


def _file(core: Core, path: str) -> None:
    """One file, through the core alone."""
    try:
        attached = core.attach(path)
    except KobsError as error:
        _says_what(error)
        return
    try:
        _attached(attached)
    finally:
        attached.close()


def _attached(attached: AttachedRing) -> None:
    for oldest in (True, False):
        reader = attached.reader(oldest=oldest)
        rounds = 0
        last = [-1] * layout.LANES
        while slots := reader.read(7):
            rounds += 1
            assert rounds < _MOST_ROUNDS, "there is no end"
            for slot in slots:
                assert len(slot.data) == layout.SLOT_SIZE
                assert int.from_bytes(slot.data[:8], "little") == layout.finished(slot.ticket)
                assert slot.ticket > last[slot.lane], "twice, or out of order"
                last[slot.lane] = slot.ticket
        assert reader.lost >= 0
        assert reader.pending() >= 0
        position = reader.position()
        for place in (position, (0, 0), (1 << 62, 1 << 62)):
            reader.seek(place)
            reader.read(3)
        reader.seek_end()
        reader.seek_oldest()
        reader.close()
        assert reader.read() == []
    assert all(isinstance(number, int) for number, _ in attached.schemas())
    for entry in attached.open_events():
        attached.string(entry.name)
        attached.string(entry.origin)
    for number in (0, 1, 2, 1 << 12, (1 << 32) - 1, (1 << 63) - 1, -1):
        attached.string(number)
    assert all(count >= 0 for count in attached.losses())
    assert attached.produced() >= 0
    assert isinstance(attached.session + attached.command + attached.core, str)
    assert all(isinstance(line, str) for line in attached.damage)
    assert attached.alive + attached.closed < 2
    assert attached.refreshed_wall_ns + attached.refreshed_monotonic_ns >= 0


def _recording(path: str) -> int:
    """All of it, as `kobs.open_recording` gives it."""
    with open_recording(path) as recording:
        events = 0
        for event in recording.events():
            events += 1
            assert events < _MOST_ROUNDS, "there is no end"
            event.to_dict()
            event.payload.to_dict()
            for text in (repr(event), event.type_name, event.name, event.duration_us):
                assert text is None or isinstance(text, str | int | float)
            hash(event)
        for entry in recording.open_events():
            assert isinstance(entry.name + entry.origin + entry.type_name, str)
        for process in recording.processes:
            assert process.state in ("exited", "running", "killed")
        assert isinstance(recording.session_info, dict)
        assert all(isinstance(child, dict) for child in recording.unobserved)
        recording.query(Query())
        deadline = time.monotonic() + 1
        for event in recording.follow(0):
            repr(event)
            assert time.monotonic() < deadline, "there is no end"
        recording.losses()
        recording.losses_by_recording()
        recording.produced()
        assert all("\n" not in line for line in recording.damage), recording.damage
        return events
