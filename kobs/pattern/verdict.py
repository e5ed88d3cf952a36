"""The third verdict, beside passed and failed."""

from kobs.errors import KobsError


class Inconclusive(KobsError):
    """The answer rests on what may not have been seen: neither passed nor failed.

    `reasons` says why, one short sentence each.
    """

    def __init__(self, question: str, reasons: "tuple[str, ...] | list[str]" = ()) -> None:
        self.question = question
        self.reasons = tuple(reasons)
        because = "; ".join(self.reasons)
        super().__init__(f"{question}: {because}" if because else question)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.question, self.reasons)
