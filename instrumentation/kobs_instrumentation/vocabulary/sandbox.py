"""Vocabulary of `@observe("sandbox")`: classes that run code which they do not trust.

The subject of an event is the confined process: argument pid, process, child or outcome (a
number, or an object with a pid).

- `deny*` `refuse*` `capability_denied*`
  - CapabilityDenied when it returned
    - `capability`: argument capability or permission, else "unknown"
    - `operation`: argument operation, action or call, else nothing
    - pid: the subject
- `record_violation*` `report_violation*` `violation*` `violate*` `on_violation*`
  - SecurityViolation when it returned
    - `description`: argument description, message, reason or violation, else "violation"
    - pid: the subject
- `run*` `execute*`
  - BudgetExceeded when it was given a budget (budget_ms) and took as long or longer, also when it
    raised
    - `operation`: argument name or operation, else "run"
    - `budget_ms`: argument budget_ms
    - `actual_ms`: attribute duration_ms of what was returned, else measured
    - pid: of what was returned
  - SecurityViolation when it raised PermissionError
    - `description`: the exception in words
"""

import math
from typing import Any

from kobs.events import BudgetExceeded, CapabilityDenied, SecurityViolation
from kobs.observe import Call, Rule, Vocabulary, raised
from kobs_instrumentation.vocabulary.common import emission, given, is_number, text

_SUBJECT = given("pid", "process", "child", "outcome")
_BUDGET = given("budget_ms")


def _budget(value: Any) -> float:
    return float(value) if is_number(value) else math.inf


def _actual_ms(call: Call) -> float:
    own = getattr(call.result, "duration_ms", None)
    return float(own) if is_number(own) else call.duration_us / 1000


def _confined(call: Call) -> Any:
    return call.result


VOCABULARY = Vocabulary(
    "sandbox",
    classes=("*SandboxManager", "*Sandbox"),
    rules=(
        Rule(
            ("deny*", "refuse*", "capability_denied*"),
            (
                emission(
                    CapabilityDenied,
                    fields={
                        "capability": given("capability", "permission", default="unknown").map(
                            text
                        ),
                        "operation": given("operation", "action", "call", default="").map(text),
                    },
                    pid=_SUBJECT,
                ),
            ),
        ),
        Rule(
            (
                "record_violation*",
                "report_violation*",
                "violation*",
                "violate*",
                "on_violation*",
            ),
            (
                emission(
                    SecurityViolation,
                    fields={
                        "description": given(
                            "description", "message", "reason", "violation", default="violation"
                        ).map(text)
                    },
                    pid=_SUBJECT,
                ),
            ),
        ),
        Rule(
            ("run*", "execute*"),
            (
                emission(
                    BudgetExceeded,
                    when="exit",
                    threshold_ms=_BUDGET.map(_budget),
                    fields={
                        "operation": given("name", "operation", default="run").map(text),
                        "budget_ms": _BUDGET,
                        "actual_ms": _actual_ms,
                    },
                    pid=_confined,
                ),
                emission(
                    SecurityViolation,
                    when="raise",
                    where=lambda call: isinstance(call.error, PermissionError),
                    fields={"description": raised()},
                ),
            ),
        ),
    ),
)
