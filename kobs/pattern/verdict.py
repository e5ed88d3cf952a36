"""The third verdict, beside passed and failed."""

from collections.abc import Sequence
from textwrap import wrap

from kobs.errors import KobsError


class Inconclusive(KobsError):
    """The answer rests on what may not have been seen: neither passed nor failed.

    `reasons` says why, one short sentence each.
    """

    at_end = False
    """It was found out at the end of a test, and no line of the test raised it."""

    def __init__(self, question: str, reasons: Sequence[str] = ()) -> None:
        self.question = question
        self.reasons = tuple(reasons)
        lines = [question]
        for reason in self.reasons:
            lines += wrap(reason, 72, initial_indent="  ", subsequent_indent="  ")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.question, self.reasons)


Inconclusive.__module__ = "kobs.pattern"
