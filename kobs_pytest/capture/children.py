"""The recordings that a test's child processes made in the session.

PYTEST_DONT_REWRITE
"""

import os
from collections.abc import Iterator

from kobs._core import select
from kobs._core.contract import AttachedRing, LossCounts
from kobs.decoder import EventDecoder
from kobs.errors import RecordingError
from kobs.events import Event
from kobs.session import Session
from kobs_pytest.capture.checks import Check, Doubt
from kobs_pytest.capture.tap import Classify, Raw, Tap, Whose

_NO_RECORDING = ("multiprocessing.resource_tracker",)
_NOT_PYTHON = "not Python"


class Child:
    """One recording that is being read."""

    def __init__(self, ring: AttachedRing, *, oldest: bool) -> None:
        self.ring = ring
        self.pid = ring.pid
        self.tap = Tap(ring, ring.reader(oldest=oldest), EventDecoder(ring, ring.schemas))
        self._before = None if oldest else ring.losses()

    def skip(self) -> None:
        """Go past what is there: it belongs to earlier tests."""
        self.tap.new_test()
        self._before = self.ring.losses()

    def missing(self) -> int:
        """Events of this recording that were not seen, since the last `skip`."""
        return self.tap.lost + lost(self.ring.losses(), self._before)

    def close(self) -> None:
        """Let go of the file."""
        self.tap.reader.close()
        self.ring.close()


class Children:
    """Every recording in the session that processes below this one made."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.own: set[int] = set()
        """Numbers of the recordings that this process itself makes."""
        self._numbers = os.path.join(session.path, "numbers")
        self._open: dict[str, Child] = {}
        self._done: set[str] = set()
        self._pids: set[int] = set()
        self._parents: dict[int, int] = {}
        self._given_out = 0
        self._unreadable: dict[str, str] = {}

    def begin(self) -> None:
        """A test begins: what is there now is not its own."""
        try:
            given_out = os.stat(self._numbers).st_size
        except OSError:
            return
        if given_out != self._given_out:
            self._attach(oldest=False)
            self._given_out = given_out
        for path, child in list(self._open.items()):
            if child.ring.alive:
                child.skip()
            else:
                self._forget(path)

    def read(self, classify: Classify) -> Iterator[tuple[Whose, Raw]]:
        """What child processes recorded since the last call."""
        self._attach(oldest=True)
        for child in self._open.values():
            yield from child.tap.read(classify)

    def missing(self) -> int:
        """Events of child processes that were lost or left out."""
        return sum(child.missing() for child in self._open.values())

    def doubts(self, created: list[Event]) -> list[Doubt]:
        """Why what child processes did may not have been seen; `created` are the
        `ProcessCreated` events of the test."""
        found = [
            Doubt(
                Check.child_lost, f"{child.missing()} events of child process {child.pid} were lost"
            )
            for child in self._open.values()
            if child.missing()
        ]
        found += [
            Doubt(
                Check.child_damaged,
                f"the recording of child process {child.pid} is damaged: {child.ring.damage[0]}",
            )
            for child in self._open.values()
            if child.ring.damage
        ]
        found += [Doubt(Check.child_unreadable, why) for why in self._unreadable.values()]
        reasons: dict[int, str] | None = None
        for event in created:
            if not event.link or not event.pid or event.pid in self._pids:
                continue
            name = event.payload.name
            if name in _NO_RECORDING:
                continue
            if reasons is None:
                reasons = self._unobserved()
            why = reasons.get(event.pid, "it has made no recording, or none yet")
            if why != _NOT_PYTHON:
                what = f"child process {event.pid} ({name}) was not observed: {why}"
                found.append(Doubt(Check.child_not_observed, what))
        return found

    def close(self) -> None:
        """Let go of all files."""
        for path in list(self._open):
            self._forget(path)

    def _attach(self, *, oldest: bool) -> None:
        if self._all_known():
            return
        self._unreadable.clear()
        for path in self._session.recordings():
            if path in self._open or path in self._done:
                continue
            number, _, rest = os.path.basename(path).partition("-")
            if int(number) in self.own:
                self._done.add(path)
                continue
            pid = int(rest.partition(".")[0])
            try:
                ring = select().attach(path)
            except RecordingError as error:
                self._unreadable[path] = f"the recording of process {pid} cannot be read: {error}"
                continue
            self._parents[ring.pid] = ring.ppid
            if self._is_sibling(ring.pid):
                self._done.add(path)
                ring.close()
                continue
            self._open[path] = Child(ring, oldest=oldest)
            self._pids.add(ring.pid)

    def _all_known(self) -> bool:
        """Of every number that was given out the recording was looked at: there is no other."""
        try:
            given_out = os.stat(self._numbers).st_size
        except OSError:
            return False
        return given_out == len(self._open) + len(self._done)

    def _is_sibling(self, pid: int) -> bool:
        """It is another worker of pytest-xdist, or below one."""
        if "PYTEST_XDIST_WORKER" not in os.environ:
            return False
        own, controller = os.getpid(), os.getppid()
        seen = set()
        while pid != own and pid not in seen:
            seen.add(pid)
            above = self._parents.get(pid)
            if above == controller:
                return True
            if above is None:
                return False
            pid = above
        return False

    def _unobserved(self) -> dict[int, str]:
        reasons: dict[int, str] = {}
        for entry in self._session.unobserved():
            reasons.setdefault(int(entry.get("pid", 0)), str(entry.get("reason", "")))
        return reasons

    def _forget(self, path: str) -> None:
        self._open.pop(path).close()
        self._done.add(path)


def lost(now: LossCounts, before: LossCounts | None) -> int:
    """Events that a producer could not keep, since `before`; what was overwritten is counted by
    readers."""
    return sum(losses_by_cause(now, before).values())


def losses_by_cause(now: LossCounts, before: LossCounts | None) -> dict[str, int]:
    """The same by cause, without those that are 0."""
    found = {}
    for name in _CAUSES:
        number = getattr(now, name) - (getattr(before, name) if before is not None else 0)
        if number > 0:
            found[name] = number
    return found


_CAUSES = (
    "contended", "discarded", "sampled_out", "too_big", "errors", "strings_overflow",
    "segments_dropped", "filtered",
)  # fmt: skip
