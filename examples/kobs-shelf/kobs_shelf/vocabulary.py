"""What the methods of a class that keeps values under keys mean: `@observe("shelf")`."""

from kobs import arg
from kobs.observe import Emission, Rule, Vocabulary
from kobs_shelf.events import ShelfUsed


def _rule(operation: str, *methods: str) -> Rule:
    fields = {"operation": operation, "key": arg("key", "name", 0)}  # the duration fills itself
    return Rule(methods=methods, emissions=(Emission(ShelfUsed, fields=fields),))


VOCABULARY = Vocabulary(
    "shelf",
    rules=(
        _rule("read", "get*", "load*"),
        _rule("write", "put*", "store*"),
        _rule("delete", "drop*", "delete*"),
    ),
    classes=("*Shelf",),
)
