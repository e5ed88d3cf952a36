"""Raising what an assertion has to say.

PYTEST_DONT_REWRITE
"""

from typing import NoReturn

from kobs.errors import PatternError
from kobs.pattern import Explanation
from kobs.pattern.base import check_variables, require as require_pattern, shown
from kobs.pattern.explain import fold

FIRST_LINE = 49
"""What pytest leaves of 80 columns after `E       AssertionError: assert `."""


def require(method: str, *patterns: object) -> None:
    """Raises `PatternError` where something is no pattern, or says nothing."""
    __tracebackhide__ = True
    if not patterns:
        raise PatternError(f"kobs.{method}() without a pattern says nothing: give it one")
    for pattern in patterns:
        check_variables(require_pattern(pattern, f"kobs.{method}({shown(pattern)})"))


def fail(headline: str, told: Explanation) -> NoReturn:
    """The failure of an assertion: what was expected, and why it is not so."""
    __tracebackhide__ = True
    first, *more = fold(headline, FIRST_LINE)
    lines = [first, *(f"    {line.strip()}" for line in more)]
    raise AssertionError("\n".join([*lines, *(f"  {line}" for line in told.lines)]))
