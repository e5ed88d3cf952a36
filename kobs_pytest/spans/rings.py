"""Where the spans of a run are recorded: in rings of their own, which no test can flood.

PYTEST_DONT_REWRITE
"""

from kobs.collector import Collector
from kobs.session import Session

SLOTS = 8192
TESTS = 500
"""Tests after which a new ring is begun, or sooner where it is nearly full: each leaves its name
among the strings of a recording, whose room is bounded."""
_NEARLY_FULL = SLOTS - SLOTS // 8
_NO_ANOMALY = 1e12
"""Standard deviations: that a test takes longer than others is nothing to tell of."""


class Rings:
    """Recordings of a session that hold nothing but spans of the run. Their numbers are added to
    `own`."""

    def __init__(self, session: Session, own: set[int]) -> None:
        self._session = session
        self._own = own
        self._made: list[Collector] = []
        self._tests = 0

    def begin_test(self) -> None:
        """A test begins: it is recorded in the newest ring, and so are its phases and fixtures."""
        self._tests += 1
        if not self._made or self._tests >= TESTS or self._ring.produced() > _NEARLY_FULL:
            self._tests = 0
            self._make()

    @property
    def newest(self) -> Collector:
        """The ring in use."""
        if not self._made:
            self._make()
        return self._made[-1]

    def close(self) -> None:
        """Nothing is written any more."""
        for made in self._made:
            made.close()

    def _make(self) -> None:
        made = Collector(
            size=SLOTS, sampling=100, adaptive=False, threshold=_NO_ANOMALY, category_rates={},
            hide=(), session=self._session,
        )  # fmt: skip
        self._made.append(made)
        self._ring = made.ring
        self._own.add(made.recording)
