"""The plugin at work: scopes around tests, capture on and off, verdicts. Registered on first use.

PYTEST_DONT_REWRITE
"""

import functools
from collections.abc import Callable, Generator, Iterable
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest

from kobs.context import cause, origin
from kobs.errors import ClosedError
from kobs.pattern import Inconclusive, Pattern
from kobs_pytest.asserting.fixture import Kobs
from kobs_pytest.asserting.sequence import Events
from kobs_pytest.capture.attempt import Attempt, set_origin
from kobs_pytest.capture.boundaries import TestBegan, TestEnded
from kobs_pytest.capture.recorder import Recorder
from kobs_pytest.features import Feature, wanted
from kobs_pytest.options import every_test
from kobs_pytest.reporting.reporter import Reporter, mark_inconclusive, reporter_of
from kobs_pytest.reporting.section import section

if TYPE_CHECKING:
    from _pytest.fixtures import SubRequest

RUNTIME = pytest.StashKey["Runtime"]()

_Skipped = pytest.skip.Exception
_Function = pytest.Function
CO_COROUTINE = 0x80
"""As in `inspect`."""


def configure(config: pytest.Config) -> None:
    """Capture in every test if the options say so."""
    if every_test(config):
        activate(config, every_test=True)


def activate(config: pytest.Config, *, every_test: bool = False) -> "Runtime":
    """The plugin's runtime; made and registered the first time."""
    runtime = config.stash.get(RUNTIME, None)
    if runtime is None:
        runtime = config.stash[RUNTIME] = Runtime(config, every_test=every_test)
        config.pluginmanager.register(runtime, "kobs-runtime")
        for feature in wanted(config):
            runtime.add(feature(runtime))
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
        self._tried: dict[str, int] = {}
        """How often each test was begun."""
        self._attempts: dict[int, Attempt] = {}
        """The tests that are running, by the `id` of their items, which they keep alive."""
        self._fixtures = 0
        self.features: list[Feature] = []

    def add(self, feature: Feature) -> None:
        """Have a feature take part in the tests from now on."""
        self.features.append(feature)
        self.config.pluginmanager.register(feature, f"kobs-{feature.name}")

    # -- a test and its phases ----------------------------------------------------------------
    #
    # These run in every test: each is one generator, and calls what it can without.

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Begin a test, innermost, so that what pytest does around it stays outside."""
        attempt = self._begin(item) if self.every_test or _uses_kobs(item) else None
        try:
            if attempt is not None:
                attempt.enter("setup")
            return (yield)
        finally:
            if attempt is None:  # it may have begun in this phase
                attempt = self._attempts.get(id(item))
            if attempt is not None:
                attempt.leave()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """The test itself; at its end comes the verdict on what it read."""
        attempt = self._attempts.get(id(item))
        undo: Callable[[], None] | None = None
        try:
            if attempt is not None:
                undo = _enter_in_coroutine(item, attempt.enter("call"))
            result = yield
        except AssertionError as error:
            read = self._attempts.get(id(item))
            if read is not None and read.doubts:
                raise read.verdict() from error
            raise
        finally:
            if undo is not None:
                undo()
            if attempt is None:
                attempt = self._attempts.get(id(item))
            if attempt is not None:
                attempt.leave()
        if attempt is not None:
            if attempt.doubts:
                raise attempt.verdict()
            for feature in self.features:
                feature.called(attempt, item)
        return result

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, Any, Any]:
        """End a test; wider fixtures that end with it have their own origin."""
        attempt = self._attempts.get(id(item))
        try:
            if attempt is not None:
                attempt.enter("teardown")
            result = yield
            for feature in self.features:
                if attempt is not None:
                    feature.torn_down(attempt, item)
            return result
        finally:
            if attempt is None:
                attempt = self._attempts.get(id(item))
            if attempt is not None:
                self._boundary(attempt, TestEnded, attempt.outcome)
                attempt.leave()
            if not (self.every_test or (nextitem is not None and _uses_kobs(nextitem))):
                self.recorder.off()

    def _begin(self, item: pytest.Item) -> Attempt:
        self._number += 1
        nodeid = item.nodeid
        tried = self._tried[nodeid] = self._tried.get(nodeid, 0) + 1
        self.recorder.begin_test()
        attempt = Attempt(self.recorder, item, nodeid, self._number, tried)
        if _uses_kobs(item):
            attempt.watch_losses()
        origin.used[0] = True
        attempt.begun = self._boundary(attempt, TestBegan)
        self._attempts[id(item)] = attempt
        for feature in self.features:
            feature.began(attempt, item)
        return attempt

    def _boundary(
        self, attempt: Attempt, cls: type[TestBegan] | type[TestEnded], *fields: str
    ) -> int:
        """Emit the test's first or last event: its origin is the test's, of no phase."""
        set_origin(attempt.base)
        cause.set(attempt.cause)
        try:
            return self.recorder.boundaries[cls](attempt.nodeid, *fields, attempt.tried)
        except ClosedError:
            return 0

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
        attempt = self._attempts.get(id(item))
        if attempt is None:  # asked for by `getfixturevalue`: capture begins here
            attempt = self._begin(item)
            attempt.enter("setup")
        attempt.watch_losses()
        return Kobs(attempt)

    # -- verdicts and failures ----------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the captured events to a failure; give an inconclusive one its name."""
        attempt = self._attempts.get(id(item))
        error = None if call.excinfo is None else call.excinfo.value
        if error is not None and attempt is not None and not isinstance(error, _Skipped):
            with self.recorder.muted():
                item.add_report_section(call.when, "kobs", section(attempt))
        report = yield
        if error is not None and isinstance(error, Inconclusive):
            mark_inconclusive(item, report, error)
        if attempt is not None:
            if error is not None or report.outcome != "passed":
                attempt.reported(report, isinstance(error, Inconclusive))
            for feature in self.features:
                feature.reported(attempt, item, report)
            if call.when == "teardown":
                attempt.close()
                self._attempts.pop(id(item), None)
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
    if type(item) is not _Function:
        if not isinstance(item, _Function):
            return None
        context = getattr(item.instance, "_asyncioTestContext", None)
        if context is not None:  # unittest made it when the test was collected
            context.run(origin.set, key)
            return None
    test = item.obj
    function = test if type(test) is FunctionType else getattr(test, "__func__", test)
    code = getattr(function, "__code__", None)
    if code is None or not code.co_flags & CO_COROUTINE:
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


def _uses_kobs(item: pytest.Item) -> bool:
    return "kobs" in getattr(item, "fixturenames", ())


__all__ = ["Runtime", "activate"]
