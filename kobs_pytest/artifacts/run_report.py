"""`--kobs-report`: one page about the whole run, of what all its processes found.

PYTEST_DONT_REWRITE
"""

from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from kobs_pytest.artifacts.places import asked_path, shown_path
from kobs_pytest.features import Feature
from kobs_pytest.reporting.facts import facts_of
from kobs_pytest.reporting.outcomes import outcomes_of

if TYPE_CHECKING:
    from kobs_pytest.capture.attempt import Attempt
    from kobs_pytest.runtime import Runtime
    from kobs_pytest.workers.crash import CrashedTest


class RunReport(Feature):
    """Counts what each test did where it ran; writes the page where the run is."""

    name = "report"

    def __init__(self, runtime: "Runtime") -> None:
        super().__init__(runtime)
        config = runtime.config
        path = asked_path(config, "kobs_report")
        assert path is not None  # else this is not made
        self.path: Path = path
        self._is_worker = hasattr(config, "workerinput")
        self._began = monotonic()
        self._began_at = datetime.now(UTC)
        self._exit_code = 0
        self._workers: set[str] = set()
        self._trouble = ""
        if self._is_worker:
            return
        if path.is_dir():
            raise pytest.UsageError(f"--kobs-report={path}: this is a folder; give a file's name")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise pytest.UsageError(
                f"--kobs-report={path}: its folder cannot be made: {error.strerror}"
            ) from None
        self.outcomes = outcomes_of(config)

    # -- where tests run ----------------------------------------------------------------------

    def began(self, attempt: "Attempt", item: pytest.Item) -> None:
        """What is lost from here on is told."""
        with self.runtime.recorder.muted():
            attempt.watch_losses()

    def reported(self, attempt: "Attempt", item: pytest.Item, report: pytest.TestReport) -> None:
        """Count what the test did when it is over."""
        if report.when != "teardown":
            return
        from kobs_pytest.artifacts.tally import tally

        with self.runtime.recorder.muted():
            attempt.drain()
            counted = tally(attempt.events)
            incomplete = [str(reason) for reason in attempt.incomplete()]
            facts_of(report).update(
                attempt=attempt.tried,
                events=len(attempt.events),
                unattributed=attempt.unattributed_count,
                elsewhere=attempt.elsewhere,
                lost=attempt.lost() if incomplete else 0,
                incomplete=incomplete,
                operations=counted.operations,
                anomalies=counted.anomalies,
            )

    def crashed(self, test: "CrashedTest", report: pytest.TestReport) -> None:
        """Count what the test did whose worker died."""
        from kobs_pytest.artifacts.tally import tally

        counted = tally(test.own)
        facts_of(report).update(
            attempt=test.began.payload.attempt,
            events=test.count,
            unattributed=len(test.unattributed),
            elsewhere=test.elsewhere,
            lost=0,
            incomplete=list(test.incomplete),
            operations=counted.operations,
            anomalies=counted.anomalies,
        )

    # -- where the page is written ------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """A worker of pytest-xdist counts, and leaves the page to its controller."""
        self._workers.add(node.gateway.id)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the page."""
        if self._is_worker or self.runtime.config.getoption("collectonly"):
            return
        from kobs.export.files import whole_file
        from kobs_pytest.artifacts.run_page import Run, page

        config = self.runtime.config
        run = Run(
            arguments=[str(part) for part in config.invocation_params.args],
            began=self._began_at,
            seconds=monotonic() - self._began,
            exit_code=int(exitstatus),
            workers=len(self._workers),
            folder=self.path.parent,
            base=Path(config.invocation_params.dir),
        )
        try:
            with whole_file(str(self.path), sync=False) as file:
                file.write(page(run, self.outcomes.results))
        except OSError as error:
            self._trouble = error.strerror or str(error)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Where the page is."""
        if self._is_worker or self.runtime.config.getoption("collectonly"):
            return
        where = shown_path(self.runtime.config, self.path)
        if self._trouble:
            terminalreporter.write_line(f"kobs: no report {where}: {self._trouble}")
        else:
            terminalreporter.write_line(f"kobs: report of the run in {where}")


feature = RunReport
