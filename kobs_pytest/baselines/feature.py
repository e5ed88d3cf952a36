"""`--kobs-baseline`: what each test does is compared with what it did, or taken into the file.

A test is judged at the end of its call, by what the call did and led to: what fixtures do while
they are set up depends on which test needs them first.

PYTEST_DONT_REWRITE
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from kobs._analysis.baseline_entry import Entry, Seen
from kobs._analysis.baseline_file import Baseline, Made, is_missing, read, require_made
from kobs._analysis.graph import CausalGraph
from kobs._analysis.shapes import Change, form_of, medians, of_phase, shapes
from kobs._core import select
from kobs.errors import BaselineError
from kobs.events import Event
from kobs.pattern import Inconclusive
from kobs_pytest.baselines.calibration import unit_us
from kobs_pytest.baselines.run import BaselineRun
from kobs_pytest.baselines.settings import normalizer_of, settings_of
from kobs_pytest.baselines.told import failure
from kobs_pytest.capture.attempt import Attempt
from kobs_pytest.features import Feature
from kobs_pytest.options import flag
from kobs_pytest.runtime import Runtime

QUESTION = "it is not known whether the test did what it did before"


class BaselineDifference(AssertionError):
    """What a test did is not what its baseline says."""


class Baselines(Feature):
    """Judges tests by a baseline file, or updates it."""

    name = "baselines"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        config = runtime.config
        self.settings = settings_of(config)
        made = Made(select().name, "all" if flag(config, "kobs_all") else "default")
        self._normalizer = normalizer_of(config)
        self._known = self._read(made)
        if not hasattr(config, "workerinput"):
            run = BaselineRun(config, self.settings, made, self._known)
            config.pluginmanager.register(run, "kobs-baseline-run")
        self._judged: dict[int, str] = {}
        """What to show of tests that failed here, by the `id` of their attempts."""
        self._found: dict[int, dict[str, Any]] = {}
        """What to tell the controller, by the `id` of the attempts."""

    def _read(self, made: Made) -> Baseline:
        path = self.settings.path
        if self.settings.update and is_missing(path):
            return Baseline(made, {})
        try:
            found = read(path)
            require_made(path, found, made)
        except BaselineError as error:
            hint = "; --kobs-update-baseline makes one" if is_missing(path) else ""
            raise pytest.UsageError(f"{error}{hint}") from None
        return found

    # -- a test -------------------------------------------------------------------------------

    def began(self, attempt: Attempt, item: pytest.Item) -> None:
        """Losses are counted where something will be asked."""
        if self._asks(name_of(item)):
            with self.runtime.recorder.muted():
                attempt.watch_losses()

    def called(self, attempt: Attempt, item: pytest.Item) -> None:
        """Judge the test, or note what it did.

        Raises `BaselineDifference`, or `Inconclusive` where it may have done more than was seen.
        """
        name = name_of(item)
        entry = self._known.entries.get(name)
        if not self._asks(name):
            self._found[id(attempt)] = {"state": "candidate" if entry else "new"}
            return
        with self.runtime.recorder.muted():
            self._require_complete(attempt)
            events = of_phase(attempt.graph(), attempt.base, "call")
            seen = self._seen(events)
        if self.settings.update:
            self._found[id(attempt)] = {
                "state": "seen",
                "counts": dict(seen.counts),
                "durations": dict(seen.durations),
            }
            return
        assert entry is not None
        changes = entry.changes(seen.counts)
        slower = entry.slower(seen.durations, self.settings.tolerance) if seen.tolerance else []
        if changes or slower:
            self._refuse_unattributed(attempt, changes, events)
            self._found[id(attempt)] = {"state": "different"}
            told = failure(changes, slower, self.settings, name)
            self._judged[id(attempt)] = told
            raise BaselineDifference(told)
        self._found[id(attempt)] = {"state": "same"}

    def reported(self, attempt: Attempt, item: pytest.Item, report: pytest.TestReport) -> None:
        """Have the report say what was found, in the controller too."""
        if report.when != "call":
            return
        told = self._judged.pop(id(attempt), None)
        if told is not None and report.outcome == "failed":
            report.longrepr = told
        found = self._found.pop(id(attempt), None)
        if found is not None and (found["state"] != "seen" or _passed(report)):
            setattr(report, "kobs_baseline", found | {"test": name_of(item)})

    def _asks(self, name: str) -> bool:
        """The test is to be judged or noted."""
        entry: Entry | None
        return self.settings.update or (
            (entry := self._known.entries.get(name)) is not None and entry.confirmed
        )

    def _require_complete(self, attempt: Attempt) -> None:
        attempt.drain()
        reasons = attempt.incomplete()
        if reasons:
            raise self._unsure(attempt, reasons)

    def _seen(self, events: Sequence[Event]) -> Seen:
        settings = self.settings
        counts = shapes(events, CausalGraph(events), self._normalizer)
        if not settings.tolerance:
            return Seen(counts)
        taken = medians(events, self._normalizer, settings.samples)
        unit = unit_us() if taken else 1.0
        durations = {operation: found.us / unit for operation, found in taken.items()}
        return Seen(counts, durations, settings.tolerance)

    def _refuse_unattributed(
        self, attempt: Attempt, changes: Sequence[Change], events: Sequence[Event]
    ) -> None:
        """What is missing may be there, done by someone who is not known."""
        missing = {form_of(change.shape) for change in changes if change.now < change.before}
        if not missing:
            return
        mine = {event.id for event in events}
        with self.runtime.recorder.muted():
            others = Counter(
                self._normalizer.event(event)
                for event in attempt.unattributed(None)
                if event.id not in mine
            )
        reasons = [
            f"{others[form]} {form} happened meanwhile of which nothing says who caused it: a "
            "thread of a wider fixture, of an earlier test, or older than the test"
            for form in sorted(missing & others.keys())
        ]
        if reasons:
            raise self._unsure(attempt, reasons)

    def _unsure(self, attempt: Attempt, reasons: Sequence[str]) -> Inconclusive:
        self._found[id(attempt)] = {"state": "inconclusive"}
        error = Inconclusive(QUESTION, reasons)
        error.at_end = True
        return error


def name_of(item: pytest.Item) -> str:
    """pytest's name of a test, without what `--dist=loadgroup` of pytest-xdist adds."""
    name = item.nodeid
    if "@" in name:
        mark = item.get_closest_marker("xdist_group")
        if mark is not None:
            group = mark.args[0] if mark.args else mark.kwargs.get("name", "default")
            return name.removesuffix(f"@{group}")
    return name


def _passed(report: pytest.TestReport) -> bool:
    return report.outcome == "passed" and not hasattr(report, "wasxfail")


feature = Baselines
