"""`--kobs-artifacts`: what each failing test leaves, and where people are told of it.

PYTEST_DONT_REWRITE
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from kobs_pytest.artifacts import ci
from kobs_pytest.artifacts.places import asked_path, folder_name, shown_path
from kobs_pytest.features import Feature
from kobs_pytest.reporting.facts import facts_of
from kobs_pytest.reporting.outcomes import Result, outcomes_of

if TYPE_CHECKING:
    from kobs_pytest.artifacts.case import Case
    from kobs_pytest.capture.attempt import Attempt
    from kobs_pytest.runtime import Runtime
    from kobs_pytest.workers.crash import CrashedTest


class Failure(NamedTuple):
    """A phase of a test that failed."""

    when: str
    verdict: str
    """failed, inconclusive, error, or crashed."""
    text: str
    sections: tuple[tuple[str, str], ...]
    """What was captured: titles and texts."""
    reasons: tuple[str, ...]


class Artifacts(Feature):
    """Writes a folder for each failing test where that test ran; tells of it where the run is."""

    name = "artifacts"

    def __init__(self, runtime: "Runtime") -> None:
        super().__init__(runtime)
        config = runtime.config
        folder = asked_path(config, "kobs_artifacts")
        assert folder is not None  # else this is not made
        self.folder: Path = folder
        given = getattr(config, "workerinput", {})
        self._worker = str(given["workerid"]) if given.get("kobs_each") else ""
        self._failed: dict[int, list[pytest.TestReport]] = {}
        """By the `id` of the attempt, of tests that are running."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise pytest.UsageError(
                f"--kobs-artifacts={folder}: the folder cannot be made: {error.strerror}; "
                "give one that can be written"
            ) from None
        if not given:
            self.outcomes = outcomes_of(config)

    # -- where tests run ----------------------------------------------------------------------

    def began(self, attempt: "Attempt", item: pytest.Item) -> None:
        """What is lost from here on is told."""
        with self.runtime.recorder.muted():
            attempt.watch_losses()

    def reported(self, attempt: "Attempt", item: pytest.Item, report: pytest.TestReport) -> None:
        """Remember what failed; write it all when the test is over."""
        if report.outcome == "failed":
            self._failed.setdefault(id(attempt), []).append(report)
        if report.when == "teardown":
            failed = self._failed.pop(id(attempt), None)
            if failed:
                from kobs_pytest.artifacts.case import case_of

                with self.runtime.recorder.muted():
                    failures = [_failure(one) for one in failed]
                    item.user_properties += self._write(
                        case_of(attempt), self._worker, failures, report
                    )

    def crashed(self, test: "CrashedTest", report: pytest.TestReport) -> None:
        """Write what the test did whose worker died."""
        from kobs_pytest.artifacts.case import case_of_crash

        worker = test.worker if self._each(self.runtime.config) else ""
        with self.runtime.recorder.muted():
            failure = _failure(report)._replace(when=test.phase, verdict="crashed")
            properties = self._write(case_of_crash(test), worker, [failure], report)
        for plugin in self.runtime.config.pluginmanager.get_plugins():
            if hasattr(plugin, "node_reporter"):  # JUnit's: it takes a report's after a teardown
                for name, value in properties:
                    plugin.node_reporter(report).add_property(name, value)

    def _write(
        self, case: "Case", worker: str, failures: list[Failure], report: pytest.TestReport
    ) -> list[tuple[str, object]]:
        """Write a test's folder; the properties that tell of it, which the report has then."""
        from kobs_pytest.artifacts.failure_folder import write

        config = self.runtime.config
        facts = facts_of(report)
        folder = self.folder / folder_name(case.nodeid, case.attempt, worker)
        try:
            written = write(folder, case, failures, report)
        except OSError as error:
            facts["artifacts"] = {"error": f"{error.filename or folder}: {error.strerror}"}
            return []
        paths = {name: shown_path(config, path) for name, path in written.items()}
        facts["artifacts"] = paths
        facts["trace_id"] = case.trace_id
        properties: list[tuple[str, object]] = [("kobs.trace_id", case.trace_id)]
        properties += [(f"kobs.artifacts.{name}", path) for name, path in paths.items()]
        report.user_properties += properties
        return properties

    # -- where the run is told of -------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of pytest-xdist where its controller wants the artifacts."""
        node.workerinput["kobs_artifacts"] = str(self.folder)
        node.workerinput["kobs_each"] = self._each(node.config)

    @staticmethod
    def _each(config: pytest.Config) -> bool:
        """Every worker runs every test: folders are told apart by worker."""
        return bool(config.getoption("dist") == "each")

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Where the artifacts are; a line for each failing test where GitHub reads it."""
        if hasattr(self.runtime.config, "workerinput"):
            return
        told = self.outcomes.not_passed()
        left = [result for result in told if "page" in result.facts.get("artifacts", {})]
        if left:
            tests = "1 failing test" if len(left) == 1 else f"{len(left)} failing tests"
            where = shown_path(self.runtime.config, self.folder)
            terminalreporter.write_line(f"kobs: artifacts of {tests} in {where}")
        for result in told:
            error = result.facts.get("artifacts", {}).get("error")
            if error:
                terminalreporter.write_line(f"kobs: no artifacts of {result.nodeid}: {error}")
        if ci.in_github():
            terminalreporter.ensure_newline()
            for line in ci.github_commands(told, self.runtime.config.rootpath):
                terminalreporter.write_line(line)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Write what GitHub and GitLab read from files."""
        config = self.runtime.config
        if hasattr(config, "workerinput"):
            return
        told: list[Result] = self.outcomes.not_passed()
        try:
            if ci.in_github():
                ci.write_github_summary(told, len(self.outcomes.results))
            if ci.in_gitlab():
                ci.write_gitlab_reports(told, config.rootpath, self.folder)
        except OSError as error:
            config.issue_config_time_warning(
                pytest.PytestWarning(f"kobs: {error.filename}: {error.strerror}"), stacklevel=2
            )


def _failure(report: pytest.TestReport) -> Failure:
    inconclusive = getattr(report, "kobs_inconclusive", None)
    verdict = "inconclusive" if inconclusive is not None else "failed"
    if verdict == "failed" and report.when != "call":
        verdict = "error"
    return Failure(
        report.when or "",
        verdict,
        report.longreprtext,
        tuple((str(title), str(text)) for title, text in report.sections),
        tuple(map(str, inconclusive or ())),
    )


feature = Artifacts
