"""What the fixture `kobs` gives: the events of a test, and assertions on them.

PYTEST_DONT_REWRITE
"""

from typing import TYPE_CHECKING

from kobs_pytest.asserting.assertions import Assertions
from kobs_pytest.capture.attempt import Attempt

if TYPE_CHECKING:
    from kobs_pytest.judging.leaks import Leak


class Kobs(Assertions):
    """What this test caused, and assertions on it."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt)
        self._attempt = attempt

    def _whole(self) -> Attempt:
        return self._attempt

    @property
    def leaks(self) -> "list[Leak]":
        """What the test's function has made so far and is still there: processes, threads,
        tasks, descriptors, shared memory, items in queues. `Inconclusive` where that cannot be
        told."""
        __tracebackhide__ = True
        from kobs_pytest.judging.leaks import left

        return left(self._attempt)

    def no_leaks(self, *kinds: str) -> None:
        """Nothing of these kinds ('process', 'thread', 'task', 'fd', 'shm', 'queue'; without any
        of all) that the test's function has made is still there.

        Raises `AssertionError` naming each with the line that made it, `Inconclusive` where that
        cannot be told, `ConfigError` for another kind.
        """
        __tracebackhide__ = True
        from kobs_pytest.judging.leaks import judge, kinds_of

        wanted = kinds_of(kinds, "kobs.no_leaks()")
        since_ns = self._attempt.phase_began_ns
        message, _ = judge(self._attempt, wanted, "kobs.no_leaks", since_ns=since_ns)
        if message:
            raise AssertionError(message)
