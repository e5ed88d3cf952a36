"""The collector that tests record into: made on first use, the process-wide one while it is on.

PYTEST_DONT_REWRITE
"""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_native_id
from typing import Any

import pytest

from kobs._core.contract import LossCounts
from kobs.collector import Collector, clear_collector, global_collector, init_collector
from kobs.decoder import EventDecoder
from kobs.emitters import Emitter
from kobs.errors import SessionError
from kobs.ids import mint_id
from kobs.schema import PayloadType
from kobs.session import Session
from kobs_pytest.capture.boundaries import TestBegan, TestEnded
from kobs_pytest.capture.children import Children
from kobs_pytest.capture.settings import Settings, settings_of_run
from kobs_pytest.capture.tap import Tap

KEPT_SESSIONS = 5
"""Sessions of `pytest --kobs` that stay; older ones go when a new one is made."""
TESTS_A_RECORDING = 2000
TESTS_A_SMALL_RECORDING = 400
PARTS_A_TEST = 4
"""Tests after which a new recording is begun; the small one has room for fewer strings. So many
parts of tests that are captured by themselves count as a test."""


class Recorder:
    """One collector, its session and the watches, for one pytest process."""

    def __init__(self, config: pytest.Config, *, keep: bool, at_once: bool = False) -> None:
        self._config = config
        self._keep = keep
        self._collector: Collector | None = None
        self._collectors: list[Collector] = []
        self.taps: list[Tap] = []
        """What this process records, one a recording; the last is the one in use."""
        self._boundaries: dict[int, dict[type[PayloadType], Emitter]] = {}
        """By the `id` of a collector, what emits the first and the last event of a test."""
        self._by_size: dict[int, tuple[Collector, float]] = {}
        """By size of the ring: the collector, and how many tests have recorded into it."""
        self._previous: Collector | None = None
        self._temporary = ""
        self._pid = os.getpid()
        atexit.register(self._at_exit)
        self._registry: Any = None
        self._muting: Any = None
        self.told_by_watches: set[str] = set()
        """Names of the payload types that watches have told of, in some test or other."""
        self.tid = get_native_id()
        """The thread that runs the tests."""
        self.is_on = False
        self.unwatched = ""
        """Why the standard library is not watched; empty if it is."""
        given = getattr(config, "workerinput", {})
        worker = str(given.get("workerid", ""))
        self.tag = f"{mint_id() & 0xFFFFFF:06x}{worker}"
        """Begins every origin that this process makes."""
        self.settings = settings_of_run(config)
        """How tests are captured whose marker says nothing else."""
        self._now = self.settings
        """How the test that runs is captured."""
        self.session: Session | None = None
        if given.get("kobs_session"):
            self.session = Session.open(given["kobs_session"])
        elif at_once or keep or config.getoption("kobs_session") is not None:
            self.session = self._make_session()

    @property
    def session_path(self) -> str:
        """The session's folder; empty while there is none."""
        return "" if self.session is None else str(self.session.path)

    @property
    def collectors(self) -> list[Collector]:
        """Every collector that was made, one a recording of this process."""
        return self._collectors

    @property
    def collector(self) -> Collector:
        """The collector; made on first use."""
        made = self._collector
        if made is None:
            made = self._collector = self._make_collector()
            self._by_size[self._now.size] = made, 0.0
        return made

    @property
    def boundaries(self) -> dict[type[PayloadType], Emitter]:
        """What emits the first and the last event of the test that runs."""
        return self._boundaries[id(self.collector)]

    def begin_test(self, settings: Settings) -> None:
        """Make ready for a test: everything is on, and what is there now is not its own.

        Each test leaves a few strings in the recording, whose room for strings is bounded: so
        there is a new recording every so many tests. The ones before are still read, for threads
        that go on writing there.
        """
        before, was = self._collector, self._now
        self._now = settings
        made = self._with_room(1)
        if settings is not was and (before is not made or settings.sampling != was.sampling):
            made.sampler.rate = settings.sampling
        same = before is made and (settings is was or _watched(settings) == _watched(was))
        if not same:
            self._watch_again(before)
        if not (self.is_on and global_collector() is made):
            self.on()
        for tap in self.taps:
            tap.new_test()

    def begin_part(self) -> None:
        """A part of a test is captured by itself: its origin is one string more."""
        before = self.collector
        made = self._with_room(1 / PARTS_A_TEST)
        if made is not before:
            self._watch_again(before)
            if self.is_on and global_collector() is before:
                init_collector(made)

    def _with_room(self, tests: float) -> Collector:
        """The collector for rings of the size that is asked for; a new one where the recording
        in use has few strings left."""
        size = self._now.size
        made, used = self._by_size.get(size, (None, 0.0))
        most = TESTS_A_SMALL_RECORDING if size < 8192 else TESTS_A_RECORDING
        if made is None or used + tests > most:
            made, used = self._make_collector(), 0.0
        self._by_size[size] = made, used + tests
        self._collector = made
        return made

    def _watch_again(self, before: Collector | None) -> None:
        if self.is_on and self._registry is not None:
            self._registry.disable(before)
            self._watch()

    def losses(self) -> LossCounts:
        """What all recordings of this process lost so far."""
        each = [collector.ring.losses() for collector in self._collectors]
        return each[0] if len(each) == 1 else LossCounts(*map(sum, zip(*each, strict=True)))

    def anomalies_kept_back(self) -> int:
        """Anomalies that none of the collectors has told, so far."""
        return sum(collector.durations.kept_back for collector in self._collectors)

    def on(self) -> None:
        """Make the collector the process-wide one and watch the standard library."""
        collector = self.collector
        current = global_collector()
        if current is not collector:
            if not self.is_on:
                self._previous = current  # a test's own collector is not put back
            init_collector(collector)
        if not self.is_on:
            self.is_on = True
            self._watch()

    def off(self) -> None:
        """Have the process as it was before `on`. Twice is once."""
        if not self.is_on:
            return
        self.is_on = False
        if self._registry is not None:
            self._registry.disable(self._collector)
        if self._previous is not None:
            init_collector(self._previous)
        else:
            clear_collector()
        self._previous = None

    @contextmanager
    def muted(self) -> Iterator[None]:
        """What kobs does itself in this block is not recorded."""
        busy = self._muting
        if busy is None or busy.inside:
            yield
            return
        busy.inside = True
        try:
            yield
        finally:
            busy.inside = False

    def close(self) -> None:
        """Release everything; remove what is not kept."""
        atexit.unregister(self._at_exit)
        self.off()
        if self._collectors:
            self.children.close()
        for collector in self._collectors:
            collector.close()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _at_exit(self) -> None:
        """Where pytest did not come to its end, close the recordings all the same: pytest-xdist
        interrupts a worker that takes more than 5 seconds for it."""
        if os.getpid() == self._pid:  # a child process may have been forked
            self.close()

    def _make_collector(self) -> Collector:
        if self.session is None:
            self.session = self._make_session()
        made = Collector(
            size=self._now.size, sampling=self._now.sampling, adaptive=False, session=self.session
        )
        self._collectors.append(made)
        self._boundaries[id(made)] = {cls: made.emitter(cls) for cls in (TestBegan, TestEnded)}
        self.taps.append(Tap(made.ring, made.ring.reader(), EventDecoder(made.ring)))
        if len(self._collectors) == 1:
            self.children = Children(self.session)
        self.children.own.add(made.recording)
        return made

    def _watch(self) -> None:
        if self._registry is None and not self.unwatched:
            try:
                from kobs_instrumentation import registry
                from kobs_instrumentation.watch._patch import busy
            except ImportError as error:
                self.unwatched = str(error)
                return
            self._registry, self._muting = registry, busy
        if self._registry is not None:
            self._registry.enable(
                self._collector, self._now.only, self._now.exclude,
                options={"sampling": self._now.sampling, "adaptive": False},
            )  # fmt: skip
            self.told_by_watches |= self._registry.said()

    def _make_session(self) -> Session:
        argv = list(getattr(sys, "orig_argv", sys.argv))
        shared = getattr(self._config, "workerinput", {}).get("kobs_root")
        if shared is not None:
            from kobs_pytest.workers.shared import shared_session

            try:
                return shared_session(shared, argv)
            except SessionError as error:
                raise pytest.UsageError(str(error)) from None
        root = self._config.getoption("kobs_session")
        if root is None and self._keep:
            try:
                made = Session.create("pytest", argv)
            except SessionError:
                pass  # a home that cannot be written, as in many CI jobs: a temporary folder does
            else:
                _drop_old_sessions(made.path)
                return made
        if root is None:
            try:
                root = tempfile.mkdtemp(prefix="kobs-pytest-")
            except OSError as error:
                raise pytest.UsageError(str(error)) from None
            self._temporary = "" if self._keep else root
        return make_session(root, argv)


def make_session(root: str, argv: list[str]) -> Session:
    """A new session folder below `root`. Raises `pytest.UsageError`."""
    try:
        return Session.create("pytest", argv, root=root)
    except (OSError, SessionError) as error:
        raise pytest.UsageError(str(error)) from None


def _watched(settings: Settings) -> tuple[object, ...]:
    return settings.only, settings.exclude, settings.sampling


def _drop_old_sessions(newest: str) -> None:
    """Remove sessions of earlier runs beyond the newest few, where no process of theirs lives."""
    root = os.path.dirname(newest)
    try:
        names = sorted(name for name in os.listdir(root) if "-pytest-" in name)
    except OSError:
        return
    for name in names[:-KEPT_SESSIONS]:
        path = os.path.join(root, name)
        if path != newest and not _in_use(path):
            shutil.rmtree(path, ignore_errors=True)


def _in_use(session: str) -> bool:
    for name in os.listdir(session):
        number, _, rest = name.partition("-")
        pid = rest.partition(".")[0]
        if number.isdigit() and pid.isdigit() and os.path.exists(f"/proc/{pid}"):
            return True
    return False
