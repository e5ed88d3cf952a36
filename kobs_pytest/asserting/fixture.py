"""What the fixture `kobs` gives: the events of a test, and assertions on them.

PYTEST_DONT_REWRITE
"""

from kobs_pytest.asserting.assertions import Assertions
from kobs_pytest.capture.attempt import Attempt


class Kobs(Assertions):
    """What this test caused, and assertions on it."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt)
        self._attempt = attempt

    def _whole(self) -> Attempt:
        return self._attempt
