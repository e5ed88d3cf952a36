"""Judging tests by their markers: events at the end of the call, leaks after the teardown.

PYTEST_DONT_REWRITE
"""

import os
from textwrap import wrap

import pytest

from kobs.errors import KobsError
from kobs.events import Event
from kobs.pattern import EventPattern, Inconclusive
from kobs.payloads import AnomalyDetected
from kobs_pytest.asserting.fixture import Kobs
from kobs_pytest.capture.attempt import Attempt
from kobs_pytest.capture.settings import refuse_marker
from kobs_pytest.features import Feature
from kobs_pytest.judging import leaks, spending
from kobs_pytest.judging.failure import AnomalyWarning, Verdicts
from kobs_pytest.judging.limits import budget_of_text
from kobs_pytest.judging.plan import Plan, checked_anomalies, plan_of
from kobs_pytest.judging.tracker import Tracker
from kobs_pytest.options import given
from kobs_pytest.plugin import MARKED
from kobs_pytest.reporting.facts import facts_of
from kobs_pytest.reporting.reporter import note
from kobs_pytest.runtime import Runtime

PLAN = pytest.StashKey[Plan]()


class Judging(Feature):
    """The judge of a run."""

    name = "judging"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._trackers: list[Tracker] = []
        """Those that are on: one, or none."""
        try:
            text, where = given(runtime.config, "kobs_budget")
            self._budget = budget_of_text(str(text), where) if text else {}
            word, where = given(runtime.config, "kobs_anomalies")
            self._anomalies = checked_anomalies(word, where) if word else "allow"
        except KobsError as error:
            raise pytest.UsageError(str(error)) from None

    def pytest_sessionfinish(self) -> None:
        """The run was broken off in a test: nothing stays patched."""
        for tracker in self._trackers:
            tracker.stop()
        self._trackers.clear()

    def began(self, attempt: Attempt, item: pytest.Item) -> None:
        """Read what a test is judged by, and track what it makes if leaks are."""
        marked = MARKED in item.stash
        if not (marked or self._budget or self._anomalies != "allow"):
            return
        wrong = ""
        try:
            plan = plan_of(item, self._budget, self._anomalies)
        except KobsError as error:
            wrong = str(error)
        if wrong:
            refuse_marker(wrong)
        item.stash[PLAN] = plan
        if plan.judges_events or plan.leaks:
            attempt.watch_losses()
        asks_for_leaks = item.stash.get(MARKED, False)
        if plan.leaks or asks_for_leaks or (marked and _has_places(plan)):
            with self.runtime.recorder.muted():
                plan.tracker = Tracker(str(item.config.rootpath))
            self._trackers.append(plan.tracker)
            attempt.tracker = plan.tracker

    def called(self, attempt: Attempt, item: pytest.Item) -> None:
        """Judge what the test caused."""
        __tracebackhide__ = True
        plan = item.stash.get(PLAN, None)
        if plan is None or not plan.judges_events:
            return
        verdicts = Verdicts()
        with self.runtime.recorder.muted():
            kobs = Kobs(attempt)
            for judge, marker, patterns in (
                (kobs.expect, "kobs_expect", plan.expected),
                (kobs.never, "kobs_never", plan.never),
            ):
                for pattern in patterns:
                    try:
                        judge(pattern)
                    except AssertionError as error:
                        verdicts.failures.append(f"{marker}: {error}")
                    except Inconclusive as error:
                        verdicts.unknown.append(error)
            plan.uses = spending.judge(
                plan.budget.values(), attempt, kobs.events, _places(attempt, plan), verdicts
            )
            if plan.anomalies != "allow":
                _judge_anomalies(plan, attempt, item, verdicts)
        verdicts.give()

    def torn_down(self, attempt: Attempt, item: pytest.Item) -> None:
        """Judge what the test left."""
        __tracebackhide__ = True
        plan = item.stash.get(PLAN, None)
        if plan is None or plan.tracker is None:
            return
        plan.tracker.stop()
        if not plan.leaks or attempt.outcome != "passed":
            return
        verdicts = Verdicts()
        try:
            message, plan.left = leaks.judge(attempt, plan.leaks, "kobs_no_leaks", width=78)
            if message:
                verdicts.failures.append(message)
        except Inconclusive as error:
            verdicts.unknown.append(error)
        verdicts.give()

    def reported(self, attempt: Attempt, item: pytest.Item, report: pytest.TestReport) -> None:
        """After the teardown nothing is tracked any more, however it ended."""
        if report.when != "teardown":
            return
        plan = item.stash.get(PLAN, None)
        if plan is not None:
            del item.stash[PLAN]
            attempt.tracker = None
            if plan.tracker in self._trackers:
                plan.tracker.stop()
                self._trackers.remove(plan.tracker)
            if plan.warned:
                note(report, "anomalies", plan.warned)
            if plan.left is not None:
                facts_of(report)["leaks"] = [[one.kind, one.what, one.where] for one in plan.left]
            if plan.uses:
                facts_of(report)["budgets"] = [
                    [f"{use.limit.subject} {use.limit.kind}", use.limit.allowed, use.used,
                     use.limit.unit]
                    for use in plan.uses
                ]  # fmt: skip


feature = Judging


def _judge_anomalies(plan: Plan, attempt: Attempt, item: pytest.Item, verdicts: Verdicts) -> None:
    pattern = AnomalyDetected.like()
    events = Kobs(attempt).events
    found = [_anomaly(event) for event in spending.matching(pattern, events.known)]
    if plan.anomalies == "warn":
        plan.warned = found
        for line in found:
            try:
                item.warn(AnomalyWarning(f"kobs: {line}"))
            except AnomalyWarning as error:  # warnings are errors
                verdicts.failures.append(_told("warnings are errors", [str(error)]))
    elif found:
        number = "1 anomaly" if len(found) == 1 else f"{len(found)} anomalies"
        verdicts.failures.append(_told(number, found))
    else:
        try:
            events.holds(pattern)
        except Inconclusive as error:
            verdicts.unknown.append(error)


def _told(headline: str, found: list[str]) -> str:
    lines = [f"kobs_anomalies: {headline}"]
    for line in found:
        lines += wrap(line, 76, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def _anomaly(event: Event) -> str:
    found = event.payload
    return (
        f"{found.metric} = {found.value:.4g}, expected {found.expected:.4g}: "
        f"{found.deviation:.3g} standard deviations"
    )


def _has_places(plan: Plan) -> bool:
    """Its budget is about what is tracked: then the lines that used it can be named."""
    return any(
        cls.__kobs_schema__.name in _KINDS
        for limit in plan.budget.values()
        if isinstance(limit.pattern, EventPattern)
        for cls in limit.pattern.types()
    )


def _places(attempt: Attempt, plan: Plan) -> spending.Where:
    """Where in the code an event comes from, as far as that was tracked."""
    tracker = plan.tracker
    if tracker is None:
        return lambda event: ""
    made = [one for one in tracker.made if attempt.owns(one.origin)]

    def where(event: Event) -> str:
        if event.pid != os.getpid() and event.type_name != "ProcessCreated":
            return ""
        kind = _KINDS.get(event.type_name)
        near = [
            one
            for one in made
            if one.kind == kind and one.tid == event.tid and one.time_ns >= event.timestamp_ns
        ]
        return min(near, key=lambda one: one.time_ns).where if near else ""

    return where


_KINDS = {"FileOpened": "fd", "ProcessCreated": "process", "ShmCreated": "shm"}
"""What is tracked by the events that tell of it."""
