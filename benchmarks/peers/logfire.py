"""logfire: a span with one attribute, and its pytest plugin; sent to nobody."""

import os
from typing import Any

from benchmarks.subject import Statement, Subject, main
from benchmarks.subjects.suites import each, suite, whole

os.environ |= {"LOGFIRE_SEND_TO_LOGFIRE": "false", "LOGFIRE_CONSOLE": "false"}


def configured() -> Any:
    """logfire without its console and its service."""
    import logfire

    logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)
    return logfire


SPAN = 'with logfire.span("x") as span:\n    span.set_attribute("key", 1)'
OFF = ("-p", "no:kobs", "-p", "no:logfire", "-p", "no:pytest_logfire")
ON = ("-p", "no:kobs", "--logfire")

SUBJECTS: dict[str, Subject] = {
    "logfire_span": Statement(SPAN, "logfire", configured, unrolled=1),
    "logfire_off_run": whole(*OFF),
    "logfire_unused_run": whole("-p", "no:kobs"),
    "logfire_off_test": each(*OFF),
    "logfire_on_test": each(*ON),
    "logfire_off_suite": suite(*OFF),
    "logfire_on_suite": suite(*ON),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
