"""What is known of a test beside its outcome, on its teardown's report: plain built-ins, so that
it survives pytest-xdist, and the controller can make one report of all.

Whoever knows something adds it in `Feature.reported`, when `report.when` is "teardown", or in
`Feature.crashed`:

    verdict, attempt, trace_id       str, int, 32 hex digits
    events, unattributed, elsewhere, lost    int: how many there were while it ran
    incomplete     [str]: why something may not have been seen
    operations     [[type, name, count, errors, total_us, min_us, max_us, zeros, [[bucket, n]]]]:
                   durations, as `kobs_pytest.artifacts.tally` counts them
    anomalies      [[metric, value, expected, deviation, count, pid]]
    artifacts      {"page": path, "perfetto": path, "events": path, "error": str}
    leaks          [[kind, what, where]] of a test that was asked about leaks; [] if it has none
    budgets        [[what, limit, used, unit]] of a test with a budget: text, two numbers, and
                   "us", "bytes", or a noun

A key that is not there was not asked for.

PYTEST_DONT_REWRITE
"""

from typing import Any

import pytest


def facts_of(report: pytest.TestReport) -> dict[str, Any]:
    """The facts of a report, to read and to add to."""
    facts: dict[str, Any] | None = getattr(report, "kobs_facts", None)
    if facts is None:
        facts = {}
        setattr(report, "kobs_facts", facts)
    return facts
