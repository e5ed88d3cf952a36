"""What a baseline file knows of one test, and what another run of that test makes of it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kobs._analysis.shapes import ANY, Change, changes, path_of

CANDIDATE, CONFIRMED = "candidate", "confirmed"


class Seen(NamedTuple):
    """What one run of a test showed."""

    counts: Mapping[str, int]
    """Events by shape."""
    durations: Mapping[str, float] = {}
    """Medians by operation, in units of the run's calibration."""
    tolerance: float = 0.0
    """What medians may differ by, as a factor; 0: durations were not asked for."""


class Slower(NamedTuple):
    """An operation that takes longer than its tolerance allows."""

    operation: str
    before: float
    now: float


class Entry(NamedTuple):
    """What is known of one test. It is judged by it when two runs have agreed: `confirmed`."""

    state: str
    counts: Mapping[str, int]
    varies: frozenset[str] = frozenset()
    """Shapes that differed between two runs; `PATH(...)`: whatever the fields."""
    durations: Mapping[str, float] = {}
    varying_durations: frozenset[str] = frozenset()
    comments: tuple[str, ...] = ()

    @property
    def confirmed(self) -> bool:
        """Two runs have agreed."""
        return self.state == CONFIRMED

    def changes(self, counts: Mapping[str, int]) -> list[Change]:
        """Where a run differs."""
        return changes(self.counts, counts, self.varies)

    def slower(self, durations: Mapping[str, float], tolerance: float) -> list[Slower]:
        """Operations that take more than `tolerance` times what they took."""
        return [
            Slower(operation, before, durations[operation])
            for operation, before in sorted(self.durations.items())
            if operation not in self.varying_durations
            and durations.get(operation, 0.0) > before * tolerance
        ]

    def updated(self, seen: Seen) -> "Entry":
        """This entry after one more run that is to be accepted.

        A candidate that the run agrees with is confirmed; what the two disagree on varies from
        then on. A confirmed entry that the run differs from is a candidate again.
        """
        state, counts, varies = self.state, dict(self.counts), self.varies
        different = self.changes(seen.counts)
        if state == CANDIDATE:
            varies |= _varying(different)
            for change in different:
                counts.pop(change.shape, None)
            state = CONFIRMED
        elif different:
            counts = {shape: n for shape, n in seen.counts.items() if not exempt(shape, varies)}
            state = CANDIDATE
        made = self._replace(state=state, counts=counts, varies=varies)
        return made._with_durations(seen, first=self.state == CONFIRMED) if seen.tolerance else made

    def _with_durations(self, seen: Seen, *, first: bool) -> "Entry":
        """Take in medians: those within the tolerance stay what they are; of the others a
        candidate's vary, a confirmed entry's are new."""
        known, varying = dict(self.durations), set(self.varying_durations)
        for operation, now in seen.durations.items():
            before = known.get(operation, now)
            if operation in varying:
                continue
            if max(now, before) <= min(now, before) * seen.tolerance:
                known[operation] = before
            elif first:
                known[operation] = now
            else:
                varying.add(operation)
                known.pop(operation)
        return self._replace(durations=known, varying_durations=frozenset(varying))


def first_entry(seen: Seen) -> Entry:
    """What is known of a test after its first run."""
    return Entry(CANDIDATE, dict(seen.counts), durations=dict(seen.durations))


def compared(one: Entry, other: Entry) -> list[Change]:
    """Where two entries differ in what varies in neither."""
    return [
        change
        for change in changes(one.counts, other.counts)
        if not any(
            change.shape in entry.varies
            or (change.shape not in entry.counts and path_of(change.shape) + ANY in entry.varies)
            for entry in (one, other)
        )
    ]


def exempt(shape: str, varies: Iterable[str]) -> bool:
    """A shape varies, or any of its path does."""
    return shape in varies or path_of(shape) + ANY in varies


def _varying(different: list[Change]) -> frozenset[str]:
    """What varies where two runs differ so: a number, or the fields themselves where each run
    has shapes of a path that the other has not."""
    only: defaultdict[str, set[bool]] = defaultdict(set)
    for change in different:
        if not change.before or not change.now:
            only[path_of(change.shape)].add(not change.before)
    return frozenset(
        path_of(change.shape) + ANY
        if not (change.before and change.now) and len(only[path_of(change.shape)]) == 2
        else change.shape
        for change in different
    )
