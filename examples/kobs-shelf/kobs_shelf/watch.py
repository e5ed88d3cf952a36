"""Watches `shelve.Shelf`, which is a class in Python: what is read, written and deleted.

`kobs run` finds this module by its entry point and calls `install`. It imports nothing that a
program would not have: `shelve` is patched once the program imports it.
"""

from time import monotonic_ns
from typing import Any

from kobs_instrumentation.watch import GetCollector, Patcher, Undo, Watch
from kobs_shelf.events import ShelfUsed

SAYS = ("ShelfUsed",)
"""The types of the events that this watch tells."""

UNSEEN = ("what other programs change in a shelf's file",)
"""What it cannot see. `UNREACHABLE` would say what it cannot see with the Python core only."""


class _Hooks:
    """Around one method. None of them changes the call; an error in one is counted by kobs."""

    def __init__(self, operation: str) -> None:
        self.operation = operation

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What `after` gets as `state`; None if there is nothing to do afterwards."""
        _, key, *_ = args
        return (key, monotonic_ns()) if type(key) is str else None

    def after(self, state: tuple[str, int], result: Any) -> None:
        """The method returned. (`failed(state, error)` would be called where it raised.)"""
        key, began = state
        _watch.emit(ShelfUsed, self.operation, key, (monotonic_ns() - began) / 1e3)


def _patch(patcher: Patcher) -> None:
    def shelves(module: Any) -> None:
        for method, operation in (
            ("__getitem__", "read"), ("__setitem__", "write"), ("__delitem__", "delete")
        ):  # fmt: skip
            hooks = _Hooks(operation)
            patcher.method(module.Shelf, method, hooks.before, hooks.after)

    patcher.when_imported("shelve", shelves)


_watch = Watch("shelf", _patch)


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch shelves; returns what takes it back."""
    return _watch.install(get_collector, events=events)
