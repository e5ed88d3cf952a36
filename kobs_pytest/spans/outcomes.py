"""How a phase, a test and a run ended, as attributes and status of their spans.

PYTEST_DONT_REWRITE
"""

from types import CodeType, TracebackType

import pytest

_TRACE = 4000
"""Characters of a failure's text that are kept; the end is what tells."""

RUN_STATUS = {0: "success", 1: "failure", 2: "aborted", 5: "skipped"}
"""`test.suite.run.status` by pytest's exit code; another one is an error of pytest or its use."""
_ORDER = ("failed", "error", "inconclusive", "xpassed", "xfailed", "skipped", "passed")


def outcome_of(report: pytest.TestReport) -> str:
    """The outcome of one phase, in pytest's words."""
    if hasattr(report, "kobs_inconclusive"):
        return "inconclusive"
    if report.outcome == "failed":
        return "failed" if report.when == "call" else "error"
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.outcome == "skipped" else "xpassed"
    return report.outcome


def worse(one: str, other: str) -> str:
    """What a test is that was both."""
    return min(one, other, key=_ORDER.index)


def status_of(outcome: str) -> str:
    """The status of a span."""
    if outcome in ("failed", "error", "inconclusive"):
        return "error"
    return "ok" if outcome in ("passed", "xpassed") else "unset"


def result_of(outcome: str) -> str:
    """`test.case.result.status`. The conventions have pass and fail; what was skipped or failed
    as expected is neither, as in JUnit."""
    return {"error": "fail", "unset": "skip"}.get(status_of(outcome), "pass")


def of_item(item: pytest.Item) -> dict[str, object]:
    """Where a test is."""
    suite, _, _ = item.nodeid.rpartition("::")
    found: dict[str, object] = {
        "test.case.name": item.nodeid,
        "test.suite.name": suite,
        "code.file.path": str(item.path),
        "code.function.name": getattr(item, "originalname", None) or item.name,
    }
    line = item.location[1]
    if line is not None:
        found["code.line.number"] = line + 1
    return {**found, **of_worker(item.config)}


def of_worker(config: pytest.Config) -> dict[str, object]:
    """Which worker of pytest-xdist runs it; empty without."""
    worker = getattr(config, "workerinput", {}).get("workerid")
    return {"kobs.test.worker": worker} if worker else {}


def of_error(error: BaseException | None, text: str) -> dict[str, object]:
    """Why something failed; `text` is what pytest shows of it."""
    if error is None:
        return {"error.message": text[-_TRACE:]} if text else {}
    cls = type(error)
    module = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
    return {
        "exception.type": f"{module}{cls.__qualname__}",
        "exception.message": str(error)[:_TRACE],
        "exception.stacktrace": text[-_TRACE:],
    }


def passed_through(error: BaseException | None, code: CodeType | None) -> bool:
    """The error comes out of a function, or one of a group of errors does."""
    if error is None or code is None:
        return False
    if isinstance(error, BaseExceptionGroup):
        return any(passed_through(one, code) for one in error.exceptions)
    at: TracebackType | None = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code is code:
            return True
        at = at.tb_next
    return False
