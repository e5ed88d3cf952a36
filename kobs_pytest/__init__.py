"""Assertions in pytest on what the code really did.

The entry point is `kobs_pytest.plugin`; its fixture `kobs` is a `kobs_pytest.Kobs`.

PYTEST_DONT_REWRITE
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kobs.pattern import Inconclusive as Inconclusive
    from kobs_pytest.asserting.fixture import Kobs as Kobs
    from kobs_pytest.capture.checks import Check as Check
    from kobs_pytest.judging.failure import AnomalyWarning as AnomalyWarning

__all__ = ["AnomalyWarning", "Check", "Inconclusive", "Kobs"]


def __getattr__(name: str) -> Any:
    if name == "Inconclusive":
        from kobs.pattern import Inconclusive

        return Inconclusive
    if name == "Kobs":
        from kobs_pytest.asserting.fixture import Kobs

        return Kobs
    if name == "AnomalyWarning":
        from kobs_pytest.judging.failure import AnomalyWarning

        return AnomalyWarning
    if name == "Check":
        from kobs_pytest.capture.checks import Check

        return Check
    raise AttributeError(f"module 'kobs_pytest' has no attribute {name!r}")
