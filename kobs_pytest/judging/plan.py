"""What the markers of a test and the run's options say that it is judged by.

PYTEST_DONT_REWRITE
"""

from typing import Any

import pytest

from kobs.errors import ConfigError
from kobs.pattern import Pattern
from kobs.pattern.base import require, shown
from kobs.schema import PayloadType
from kobs_pytest.judging.leaks import Leak, kinds_of
from kobs_pytest.judging.limits import Budget, budget_of_marker
from kobs_pytest.judging.spending import Use
from kobs_pytest.judging.tracker import Tracker

ANOMALIES = ("fail", "warn", "allow")


class Plan:
    """What one test is judged by."""

    def __init__(self) -> None:
        self.expected: list[Pattern] = []
        self.never: list[Pattern] = []
        self.budget: Budget = {}
        self.leaks: tuple[str, ...] = ()
        """Kinds that must not be left."""
        self.anomalies = "allow"
        self.warned: list[str] = []
        """Anomalies that were warned of."""
        self.left: list[Leak] | None = None
        """What it left behind; None: not judged."""
        self.uses: list[Use] = []
        """What it used of its budget."""
        self.tracker: Tracker | None = None
        """What watches the makings of what may be left; None: nobody has asked."""

    @property
    def judges_events(self) -> bool:
        """Something is judged when the test's function has returned."""
        limited = any(limit.allowed is not None for limit in self.budget.values())
        return bool(self.expected or self.never or limited or self.anomalies != "allow")


def plan_of(item: pytest.Item, budget: Budget, anomalies: str) -> Plan:
    """The plan of a test. Raises `ConfigError` or `PatternError` for a marker that makes no
    sense."""
    plan = Plan()
    plan.anomalies = anomalies
    plan.budget = dict(budget)
    for mark in item.iter_markers("kobs_expect"):
        plan.expected += _patterns(mark)
    for mark in item.iter_markers("kobs_never"):
        plan.never += _patterns(mark)
    callspec = getattr(item, "callspec", None)
    for mark in reversed(list(item.iter_markers("kobs_budget"))):  # the closest overrides
        plan.budget |= budget_of_marker(
            mark.args, mark.kwargs, None if callspec is None else callspec.id
        )
    for mark in item.iter_markers("kobs_no_leaks"):
        where = _shown(mark)
        if mark.kwargs:
            raise ConfigError(f"{where}: expected kinds such as 'process', not by keyword")
        plan.leaks += kinds_of(mark.args, where)
    plan.leaks = tuple(dict.fromkeys(plan.leaks))
    closest = item.get_closest_marker("kobs_anomalies")
    if closest is not None:
        if closest.kwargs or len(closest.args) != 1:
            raise ConfigError(f"{_shown(closest)}: expected one of {', '.join(ANOMALIES)}")
        plan.anomalies = checked_anomalies(closest.args[0], _shown(closest))
    return plan


def checked_anomalies(value: object, where: str) -> str:
    """What an anomaly is: fail, warn or allow. Raises `ConfigError`."""
    if value not in ANOMALIES:
        raise ConfigError(f"{where}: {value!r} is none of {', '.join(ANOMALIES)}")
    return str(value)


def _patterns(mark: pytest.Mark) -> list[Pattern]:
    where = _shown(mark)
    if mark.kwargs or not mark.args:
        raise ConfigError(f"{where}: expected patterns, such as FileOpened.like(mode='w')")
    return [require(_with_like(value), where) for value in mark.args]


def _with_like(value: Any) -> Any:
    """A payload type stands for any of its events."""
    if isinstance(value, type) and issubclass(value, PayloadType):
        return value.like()
    return value


def _shown(mark: pytest.Mark) -> str:
    given = [*map(shown, mark.args), *(f"{name}={shown(v)}" for name, v in mark.kwargs.items())]
    return f"@pytest.mark.{mark.name}({', '.join(given)})"
