"""The spans of a run: one for the session, and for each test a trace of its own, linked to it.

    session                          the span of CI's TRACEPARENT is its parent
      fixture NAME, ... teardown     of wider scope than a test
    test (another trace)
      setup, call, teardown
        fixture NAME, ... teardown

PYTEST_DONT_REWRITE
"""

import functools
import sys
import time
from collections.abc import Callable, Generator
from types import CodeType
from typing import TYPE_CHECKING, Any

import pytest

from kobs import bridge
from kobs._core.layout import priority_slots
from kobs.context import Cause, cause
from kobs.ids import mint_id
from kobs_pytest.features import Feature
from kobs_pytest.spans import outcomes
from kobs_pytest.spans.asked import from_outside, receiver
from kobs_pytest.spans.rings import Rings
from kobs_pytest.spans.written import RunSpan

if TYPE_CHECKING:
    from _pytest.fixtures import SubRequest

    from kobs_pytest.capture.attempt import Attempt
    from kobs_pytest.runtime import Runtime
    from kobs_pytest.spans.sender import Sender

_PAUSE_S = 1.0
_OURS = ("kobs", "kobs_session")
"""Fixtures that are no part of what is tested."""
_PARAMETER = "get_direct_param_fixture_func"
"""What makes a fixture of a parameter of `pytest.mark.parametrize`."""


class _Running:
    """A test that is running."""

    def __init__(self, attempt: "Attempt", span: RunSpan) -> None:
        self.attempt = attempt
        self.span = span
        self.phase: RunSpan | None = None
        self.error: BaseException | None = None
        self.of_phase = "passed"
        """The worst outcome of what was reported in the phase: subtests, and the phase itself."""
        self.outcome = "passed"
        self.failure: dict[str, object] = {}
        self.undo: Callable[[], None] | None = None


class Spans(Feature):
    """Writes the spans of a run into its recording, and has them sent."""

    name = "spans"

    def __init__(self, runtime: "Runtime") -> None:
        super().__init__(runtime)
        recorder = runtime.recorder
        session = recorder.collector.session  # with it comes what is known of child processes
        assert session is not None
        self._rings = Rings(session, recorder.children.own)
        self._running: dict[int, _Running] = {}
        self._fixtures: dict[int, tuple[RunSpan, Callable[[], None]]] = {}
        """Fixtures that are being torn down, by the `id` of their definition."""
        self._torn_down: list[tuple[RunSpan, CodeType | None]] = []
        self._failed = False
        self._span: RunSpan | None = None
        """The session's; None in a worker of pytest-xdist, where it is the controller's."""
        self._sender: Sender | None = None
        self._sent = 0.0
        given = getattr(runtime.config, "workerinput", None)
        if given is None:
            self._begin_session()
        else:
            self._session = bridge.parse_traceparent(given.get("kobs_session_span", "")) or Cause(
                mint_id(), 0
            )

    def _begin_session(self) -> None:
        from kobs_pytest.spans.sender import Sender

        runtime, config = self.runtime, self.runtime.config
        self._sender = Sender(
            runtime.recorder.session_path, str(config.rootpath), receiver(config) or ""
        )
        outer = from_outside()
        self._span = self._begin("pytest", outer or Cause(mint_id(), 0), remote=outer is not None)
        self._span.attributes.update({
            "test.suite.name": config.rootpath.name,
            "process.command_args": list(map(str, config.invocation_params.args)),
        })  # fmt: skip
        self._session = self._span.inside

    def _begin(self, name: str, outer: Cause, *, remote: bool = False) -> RunSpan:
        return RunSpan(self._rings.newest, name, outer, remote=remote)

    # -- tests and their phases ---------------------------------------------------------------

    def began(self, attempt: "Attempt", item: pytest.Item) -> None:
        """A test and its setup begin."""
        self._rings.begin_test()
        span = self._begin(item.nodeid, attempt.cause)
        span.attributes = {**outcomes.of_item(item), **span.attributes}
        if attempt.tried > 1:
            span.attributes["kobs.test.attempt"] = attempt.tried
        span.link(self._session)
        running = self._running[id(item)] = _Running(attempt, span)
        attempt.attach = _attach
        self._enter(running, "setup")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Around the scope of the phase."""
        return (yield from self._phase(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """As above."""
        return (yield from self._phase(item, "call"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """As above."""
        return (yield from self._phase(item, "teardown"))

    def _phase(self, item: pytest.Item, name: str = "") -> Generator[None, Any, Any]:
        running = self._running.get(id(item))
        if running is not None and name:
            self._enter(running, name)
        error: BaseException | None = None
        try:
            return (yield)
        except BaseException as raised:
            error = raised
            raise
        finally:
            running = self._running.get(id(item))
            if running is not None and running.phase is not None:
                running.error = error
                running.phase.over()
                running.attempt.inside = None
                if running.undo is not None:
                    running.undo()
                    running.undo = None

    def _enter(self, running: _Running, name: str) -> None:
        phase = running.phase = self._begin(name, running.span.inside)
        running.of_phase = "passed"
        attempt = running.attempt
        attempt.inside = phase.inside
        detach = _attach(phase.inside)

        def undo() -> None:
            detach()
            attempt.leave()

        running.undo = undo

    def reported(self, attempt: "Attempt", item: pytest.Item, report: pytest.TestReport) -> None:
        """A phase, or a subtest in the middle of one, was reported."""
        running = self._running.get(id(item))
        if running is None or running.phase is None:
            return
        outcome = running.of_phase = outcomes.worse(running.of_phase, outcomes.outcome_of(report))
        running.outcome = outcomes.worse(running.outcome, outcome)
        failed = outcomes.status_of(outcome) == "error"
        self._failed = self._failed or failed
        if not running.phase.ended_ns:
            return  # a subtest's: the phase goes on
        failure: dict[str, object] = {}
        if failed:
            failure = outcomes.of_error(running.error, report.longreprtext)
            if not running.failure:
                running.failure = {"error.type": failure.get("exception.type", outcome)}
        if report.when == "teardown":
            self._end_fixtures(running.error)
        running.phase.end(outcomes.status_of(outcome), failure)
        if report.when == "teardown":
            del self._running[id(item)]
            self._end_test(running)

    def _end_test(self, running: _Running) -> None:
        outcome = running.outcome
        running.span.end(
            outcomes.status_of(outcome),
            {
                "test.case.result.status": outcomes.result_of(outcome),
                "kobs.test.outcome": outcome,
                **running.failure,
            },
        )

    # -- fixtures -----------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: "SubRequest"
    ) -> Generator[None, Any, Any]:
        """A span around the fixture, below the phase or, of wider scope, below the session."""
        running = self._running.get(id(request._pyfuncitem))
        if (
            running is None
            or fixturedef.argname in _OURS
            or getattr(fixturedef.func, "__name__", "") == _PARAMETER
        ):
            return (yield)
        span = self._fixture(f"fixture {fixturedef.argname}", fixturedef, running)
        span.attributes.update(self._about(fixturedef))
        before = cause.get()
        finalizers = len(getattr(fixturedef, "_finalizers", ()))
        cause.set(span.inside)
        detach = _attach(span.inside)
        error: BaseException | None = None
        try:
            return (yield)
        except BaseException as raised:
            error = raised
            raise
        finally:
            detach()
            cause.set(before)
            failed = error is not None and not isinstance(error, pytest.skip.Exception)
            span.end("error" if failed else "ok", outcomes.of_error(error, "") if failed else None)
            if len(getattr(fixturedef, "_finalizers", ())) > finalizers:
                # Finalizers run in reverse: this one before the fixture's own.
                fixturedef.addfinalizer(
                    functools.partial(self._finalize, fixturedef, request._pyfuncitem)
                )

    def _fixture(
        self, name: str, fixturedef: pytest.FixtureDef[Any], running: _Running | None
    ) -> RunSpan:
        if fixturedef.scope != "function" or running is None or running.phase is None:
            return self._begin(name, self._session)
        above, ambient = running.phase.inside, cause.get()
        if ambient is not None and ambient.causality_id == above.causality_id:
            above = ambient  # asked for inside another fixture
        return self._begin(name, above)

    def _about(self, fixturedef: pytest.FixtureDef[Any]) -> dict[str, object]:
        about = {"kobs.fixture.name": fixturedef.argname, "kobs.fixture.scope": fixturedef.scope}
        return {**about, **outcomes.of_worker(self.runtime.config)}

    def _finalize(self, fixturedef: pytest.FixtureDef[Any], item: pytest.Item) -> None:
        name = f"fixture {fixturedef.argname} teardown"
        span = self._fixture(name, fixturedef, self._running.get(id(item)))
        span.attributes.update(self._about(fixturedef))
        before = cause.get()
        detach = _attach(span.inside)

        def undo() -> None:
            detach()
            cause.set(before)

        self._fixtures[id(fixturedef)] = span, undo

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Its finalizers ran. Whether one failed is known when the phase is reported."""
        span, undo = self._fixtures.pop(id(fixturedef), (None, _nothing))
        if span is not None:
            span.over()
            undo()
            self._torn_down.append((span, getattr(fixturedef.func, "__code__", None)))

    def _end_fixtures(self, error: BaseException | None) -> None:
        for span, code in self._torn_down:
            if outcomes.passed_through(error, code):
                span.end("error", outcomes.of_error(error, ""))
            else:
                span.end()
        self._torn_down.clear()

    # -- the session --------------------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Under pytest-xdist, in the controller: workers join the session's span."""
        if self._span is not None:
            node.workerinput["kobs_session_span"] = self._span.traceparent

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """In the process that sends: the controller of pytest-xdist, where there is one."""
        if report.outcome == "failed":
            self._failed = True
        if self._sender is None or report.when != "teardown":
            return
        recorder = self.runtime.recorder
        if hasattr(report, "node"):  # nothing waits for the controller
            now = time.monotonic()
            due = now - self._sent > _PAUSE_S
        else:
            # Spans of tests are in the main ring, those of the run are never overwritten.
            ring = recorder.collector.ring
            now = float(ring.produced())
            due = not 0 <= now - self._sent < priority_slots(ring.slots) / 2
        if due:
            self._sent = now
            with recorder.muted():
                self._sender.send()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """The session's span ends, and everything is sent."""
        for running in list(self._running.values()):  # pytest is stopped in the middle of a test
            for span in (running.phase, running.span):
                if span is not None:
                    span.end("error", {"kobs.unfinished": True})
        self._running.clear()
        self._end_fixtures(None)
        if self._span is None or self._sender is None:
            return
        failed = self._failed or int(exitstatus) not in (0, 5)
        status = "failure" if failed and not exitstatus else outcomes.RUN_STATUS.get(
            int(exitstatus), "failure"
        )  # fmt: skip
        self._span.end(
            "error" if failed else "ok",
            {"test.suite.run.status": status, "process.exit.code": int(exitstatus)},
        )
        with self.runtime.recorder.muted():
            self._sender.finish()

    def pytest_unconfigure(self) -> None:
        """Put everything back."""
        self._rings.close()

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """What became of the spans."""
        if self._sender is not None:
            terminalreporter.write_line(self._sender.summary)


def _attach(inside: Cause) -> Callable[[], None]:
    """Make a span the current one for OpenTelemetry's API too, where that is imported: whatever
    provider makes spans. No provider is touched. Returns what takes it back."""
    cause.set(inside)
    if "opentelemetry.trace" not in sys.modules:
        return _nothing
    from opentelemetry import context, trace

    from kobs.tracing.view import ended_span

    token = context.attach(trace.set_span_in_context(ended_span(inside)))

    def detach() -> None:
        try:
            # Not by `context.detach`: it logs where the loop of an async test has ended.
            context._RUNTIME_CONTEXT.detach(token)
        except (ValueError, RuntimeError):
            pass

    return detach


def _nothing() -> None:
    return None


feature = Spans
