"""Conditions held against an event one by one, and how near an event came."""

from collections.abc import Sequence
from typing import NamedTuple


class Check(NamedTuple):
    """One condition of a pattern, held against one event."""

    name: str
    wanted: str
    actual: str
    met: bool


def closeness(checks: Sequence[Check]) -> tuple[int, int, float]:
    """How near an event came: the type first, then conditions met, then how alike the rest is."""
    of_type = sum(check.met for check in checks if check.name == "type")
    others = [check for check in checks if check.name != "type"]
    met = sum(check.met for check in others)
    alike = sum(_alike(check) for check in others if not check.met)
    return of_type, met - len(others), alike


def _alike(check: Check) -> float:
    try:
        wanted, actual = float(check.wanted), float(check.actual)
        return 1.0 / (1.0 + abs(wanted - actual))
    except ValueError:
        from difflib import SequenceMatcher

        return SequenceMatcher(None, check.wanted, check.actual).ratio()
