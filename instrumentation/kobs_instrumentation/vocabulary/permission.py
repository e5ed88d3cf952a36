"""Vocabulary of `@observe("permission")`: classes that decide who may do what.

The operation is argument operation, action or op, else the method's name. What it takes is
attribute required of what was returned or raised, else argument required, permission, capability,
mode, resource or path, else the operation.

- `check*` `require*` `authorize*` `access*` `allow*` `can_*` `has_permission*` `verify*`
  `ensure*`
  - PermissionGranted when it returned something true, or None
    - `operation`: the operation
    - `required`: what it takes
    - pid: argument pid
  - PermissionDenied when it returned something false, or raised PermissionError
    - `operation`: the operation
    - `required`: what it takes
    - pid: argument pid
- `grant*`
  - PermissionGranted when it returned
    - `operation`: argument operation, action or op, else "grant"
    - `required`: as above
    - pid: argument pid
- `deny*`
  - PermissionDenied when it returned
    - `operation`: argument operation, action or op, else "deny"
    - `required`: as above
    - pid: argument pid
- `acquire*` `rate_limit*` `check_rate*` `limit*` `throttle*`
  - RateLimitExceeded when it raised an exception with limit and current, or returned False and
    the instance has both
    - `limit`: attribute limit of the exception, else rate_limit or limit of the instance
    - `current`: attribute of the exception, else of the instance
    - pid: argument pid
"""

from typing import Any

from kobs.events import PermissionDenied, PermissionGranted, RateLimitExceeded
from kobs.observe import Call, Emission, Rule, Vocabulary, returned, this
from kobs_instrumentation.vocabulary.common import (
    both,
    combine,
    emission,
    given,
    is_number,
    known,
    number,
    text,
    told,
    whole,
)

_REQUIRED = ("required", "permission", "capability", "mode", "resource", "path")


def _required(operation: str) -> Any:
    return combine(
        _required_text,
        returned("required", default=None),
        given(*_REQUIRED),
        given("operation", "action", "op", default=operation),
    )


def _required_text(own: Any, argument: Any, operation: Any) -> str:
    return text(next(value for value in (own, argument, operation) if value is not None))


def _operation(call: Call) -> str:
    for name in ("operation", "action", "op"):
        if call.arguments.get(name) is not None:
            return text(call.arguments[name])
    return call.method


def _decided(call: Call) -> str:
    own = getattr(call.error or call.result, "required", None)
    candidates = (own, *(call.arguments.get(name) for name in _REQUIRED), _operation(call))
    return text(next(value for value in candidates if value is not None))


def _is_granted(result: Any) -> bool:
    return result is None or bool(result)


def _is_denied(result: Any) -> bool:
    return not _is_granted(result)


_PID = given("pid")
_DECISION: dict[str, Any] = {"operation": _operation, "required": _decided}
_DECISIONS = (
    emission(
        PermissionGranted,
        where=returned(default=None).map(_is_granted),
        fields=_DECISION,
        pid=_PID,
    ),
    emission(
        PermissionDenied,
        where=returned(default=None).map(_is_denied),
        fields=_DECISION,
        pid=_PID,
    ),
    emission(
        PermissionDenied,
        when="raise",
        where=lambda call: isinstance(call.error, PermissionError),
        fields=_DECISION,
        pid=_PID,
    ),
)


def _stated(operation: str) -> dict[str, Any]:
    return {
        "operation": given("operation", "action", "op", default=operation).map(text),
        "required": _required(operation),
    }


def _limit_in_error(call: Call) -> bool:
    return is_number(getattr(call.error, "limit", None)) and is_number(
        getattr(call.error, "current", None)
    )


def _is_false(result: Any) -> bool:
    return result is False


_OWN_LIMIT = told("rate_limit", "limit").map(whole)
_OWN_CURRENT = this("current", default=None).map(number)

_EXCEEDED: tuple[Emission, ...] = (
    emission(
        RateLimitExceeded,
        when="raise",
        where=_limit_in_error,
        fields={
            "limit": lambda call: whole(call.error.limit),
            "current": lambda call: whole(call.error.current),
        },
        pid=_PID,
    ),
    emission(
        RateLimitExceeded,
        where=both(
            returned(default=None).map(_is_false),
            both(known(_OWN_LIMIT), known(_OWN_CURRENT)),
        ),
        fields={"limit": _OWN_LIMIT, "current": _OWN_CURRENT},
        pid=_PID,
    ),
)

VOCABULARY = Vocabulary(
    "permission",
    classes=("*PermissionManager",),
    rules=(
        Rule(
            (
                "check*",
                "require*",
                "authorize*",
                "access*",
                "allow*",
                "can_*",
                "has_permission*",
                "verify*",
                "ensure*",
            ),
            _DECISIONS,
        ),
        Rule(("grant*",), (emission(PermissionGranted, fields=_stated("grant"), pid=_PID),)),
        Rule(("deny*",), (emission(PermissionDenied, fields=_stated("deny"), pid=_PID),)),
        Rule(("acquire*", "rate_limit*", "check_rate*", "limit*", "throttle*"), _EXCEEDED),
    ),
)
