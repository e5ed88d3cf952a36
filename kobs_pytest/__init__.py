"""Assertions in pytest on what the code really did.

The entry point is `kobs_pytest.plugin`; its fixture `kobs` is a `kobs_pytest.Kobs`,
`kobs_session` a `KobsSession`; what `capture()` gives is a `Captured`.

PYTEST_DONT_REWRITE
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kobs.pattern import Inconclusive as Inconclusive
    from kobs_pytest.asserting.assertions import Captured as Captured
    from kobs_pytest.asserting.fixture import Kobs as Kobs
    from kobs_pytest.asserting.run import KobsSession as KobsSession
    from kobs_pytest.capture.checks import Check as Check
    from kobs_pytest.judging.failure import AnomalyWarning as AnomalyWarning

__all__ = ["AnomalyWarning", "Captured", "Check", "Inconclusive", "Kobs", "KobsSession"]


def __getattr__(name: str) -> Any:
    if name == "Inconclusive":
        from kobs.pattern import Inconclusive

        return Inconclusive
    if name == "Kobs":
        from kobs_pytest.asserting.fixture import Kobs

        return Kobs
    if name == "Captured":
        from kobs_pytest.asserting.assertions import Captured

        return Captured
    if name == "KobsSession":
        from kobs_pytest.asserting.run import KobsSession

        return KobsSession
    if name == "AnomalyWarning":
        from kobs_pytest.judging.failure import AnomalyWarning

        return AnomalyWarning
    if name == "Check":
        from kobs_pytest.capture.checks import Check

        return Check
    raise AttributeError(f"module 'kobs_pytest' has no attribute {name!r}")
