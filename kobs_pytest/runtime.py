"""The plugin at work: scopes around tests, capture on and off, verdicts. Registered on first use.

PYTEST_DONT_REWRITE
"""

import functools
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

import pytest

from kobs.context import cause, origin
from kobs.pattern import Inconclusive, Pattern
from kobs_pytest.attempt import Attempt
from kobs_pytest.events import TestBegan, TestEnded
from kobs_pytest.fixture import Events, Kobs
from kobs_pytest.recorder import Recorder
from kobs_pytest.reporting import Reporter, mark_inconclusive, reporter_of
from kobs_pytest.section import section

if TYPE_CHECKING:
    from _pytest.fixtures import SubRequest

RUNTIME = pytest.StashKey["Runtime"]()
ATTEMPT = pytest.StashKey[Attempt]()
TRIED = pytest.StashKey[int]()

_Skipped = pytest.skip.Exception
_set_origin = origin.variable.set
"""As `origin.set`, for a test's origins: that there are some is said when it begins."""


def activate(config: pytest.Config, *, every_test: bool = False) -> "Runtime":
    """The plugin's runtime; made and registered the first time."""
    runtime = config.stash.get(RUNTIME, None)
    if runtime is None:
        runtime = config.stash[RUNTIME] = Runtime(config, every_test=every_test)
        config.pluginmanager.register(runtime, "kobs-runtime")
    return runtime


class Runtime:
    """The hooks of a run in which something is captured."""

    def __init__(self, config: pytest.Config, *, every_test: bool) -> None:
        self.config = config
        self.every_test = every_test
        self.reporter: Reporter = reporter_of(config)
        self.recorder = Recorder(config, keep=every_test)
        if every_test:
            self.reporter.session = self.recorder.session_path
        self._number = 0
        self._fixtures = 0

    # -- a test and its phases ----------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Begin a test, innermost, so that what pytest does around it stays outside."""
        if self.every_test or _uses_kobs(item):
            self._begin(item)
        return (yield from self._phase(item, "setup"))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """The test itself; at its end comes the verdict on what it read."""
        try:
            result = yield from self._phase(item, "call")
        except AssertionError as error:
            attempt = item.stash.get(ATTEMPT, None)
            if attempt is not None and attempt.doubts:
                raise attempt.verdict() from error
            raise
        attempt = item.stash.get(ATTEMPT, None)
        if attempt is not None and attempt.doubts:
            raise attempt.verdict()
        return result

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, Any, Any]:
        """End a test; wider fixtures that end with it have their own origin."""
        try:
            return (yield from self._phase(item, "teardown"))
        finally:
            if not (self.every_test or (nextitem is not None and _uses_kobs(nextitem))):
                self.recorder.off()

    def _begin(self, item: pytest.Item) -> Attempt:
        self._number += 1
        tried = item.stash[TRIED] = item.stash[TRIED] + 1 if TRIED in item.stash else 1
        self.recorder.begin_test()
        attempt = Attempt(self.recorder, item.nodeid, self._number, tried)
        if _uses_kobs(item):
            attempt.watch_losses()
        origin.used[0] = True
        attempt.begun = self._boundary(attempt, TestBegan)
        item.stash[ATTEMPT] = attempt
        return attempt

    def _phase(self, item: pytest.Item, phase: str) -> Generator[None, Any, Any]:
        """Run a phase as its own origin, with no cause from before."""
        attempt = item.stash.get(ATTEMPT, None)
        undo: Callable[[], None] | None = None
        try:
            if attempt is not None:
                key = attempt.key(phase)
                _set_origin(key)
                cause.set(None)
                if phase == "call":
                    undo = _enter_in_coroutine(item, key)
            return (yield)
        finally:
            if undo is not None:
                undo()
            if attempt is None:  # it may have begun in this phase
                attempt = item.stash.get(ATTEMPT, None)
            if attempt is not None:
                if phase == "teardown":
                    self._boundary(attempt, TestEnded, attempt.outcome)
                _set_origin(attempt.outside[0])
                cause.set(attempt.outside[1])

    def _boundary(
        self, attempt: Attempt, cls: type[TestBegan] | type[TestEnded], *fields: str
    ) -> int:
        """Emit the test's first or last event: its origin is the test's, of no phase."""
        collector = self.recorder.collector
        if collector.closed:
            return 0
        _set_origin(attempt.base)
        cause.set(attempt.cause)
        emitter = collector.emitters.get(cls) or collector.emitter(cls)
        return emitter(attempt.nodeid, *fields, attempt.tried)

    # -- fixtures -----------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: "SubRequest"
    ) -> Generator[None, Any, Any]:
        """A fixture of wider scope is not the test that happens to need it first."""
        if fixturedef.scope == "function" or not self.recorder.is_on:
            return (yield)
        self._fixtures += 1
        own = f"{self.recorder.tag}.f{self._fixtures}"
        before: list[str] = []

        def enter() -> None:
            before.append(origin.get())
            origin.set(own)

        def leave() -> None:
            origin.set(before.pop() if before else "")

        fixturedef.addfinalizer(leave)  # finalizers run in reverse: this one last
        enter()
        try:
            return (yield)
        finally:
            leave()
            fixturedef.addfinalizer(enter)

    def fixture_of(self, item: pytest.Item) -> Kobs:
        """What the fixture `kobs` gives to a test."""
        attempt = item.stash.get(ATTEMPT, None)
        if attempt is None:  # asked for by `getfixturevalue`: capture begins here
            attempt = self._begin(item)
            _set_origin(attempt.key("setup"))
            cause.set(None)
        attempt.watch_losses()
        return Kobs(attempt)

    # -- verdicts and failures ----------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the captured events to a failure; give an inconclusive one its name."""
        attempt = item.stash.get(ATTEMPT, None)
        error = call.excinfo.value if call.excinfo is not None else None
        if attempt is not None and error is not None and not isinstance(error, _Skipped):
            with self.recorder.muted():
                item.add_report_section(call.when, "kobs", section(attempt))
        report = yield
        if isinstance(error, Inconclusive):
            mark_inconclusive(item, report, error)
        if attempt is not None:
            attempt.reported(report, isinstance(error, Inconclusive))
            if call.when == "teardown":
                attempt.close()
                del item.stash[ATTEMPT]
        return report

    def pytest_assertrepr_compare(
        self, config: pytest.Config, op: str, left: object, right: object
    ) -> Iterable[str] | None:
        """Explain `assert pattern in kobs.events`."""
        if isinstance(left, Pattern) and isinstance(right, Events) and op in ("in", "not in"):
            return right.why(left, present=op == "not in")
        return None

    # -- the run ------------------------------------------------------------------------------

    def pytest_report_header(self) -> str | None:
        """Where the recording is kept."""
        path = self.recorder.session_path
        return f"kobs: recording into {path}" if self.every_test and path else None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """The last test is over, and nothing is captured any more."""
        self.recorder.off()

    def pytest_unconfigure(self) -> None:
        """Put everything back."""
        self.recorder.close()


def _enter_in_coroutine(item: pytest.Item, key: str) -> Callable[[], None] | None:
    """Have an async test enter its origin inside the coroutine: a loop of wider scope runs it in
    a context of its own. Returns what takes it back, if there is anything."""
    if not isinstance(item, pytest.Function):
        return None
    if type(item) is not pytest.Function:
        context = getattr(item.instance, "_asyncioTestContext", None)
        if context is not None:  # unittest made it when the test was collected
            context.run(origin.set, key)
            return None
    test = item.obj
    if not _is_coroutine_function(test):
        return None
    original: Any = test

    @functools.wraps(original)
    async def in_origin(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        before = origin.get(), cause.get()
        origin.set(key)
        cause.set(None)
        try:
            return await original(*args, **kwargs)
        finally:
            origin.set(before[0])
            cause.set(before[1])

    item.obj = in_origin

    def undo() -> None:
        item.obj = original

    return undo


def _is_coroutine_function(test: object) -> bool:
    code = getattr(getattr(test, "__func__", test), "__code__", None)
    return code is not None and bool(code.co_flags & 0x80)  # inspect.CO_COROUTINE


def _uses_kobs(item: pytest.Item) -> bool:
    return "kobs" in getattr(item, "fixturenames", ())


__all__ = ["Runtime", "activate"]
