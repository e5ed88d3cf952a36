"""Watches gRPC: each call is a span on either side, and goes on in its caller's chain.

Nothing of gRPC, nor of what tells of it, is imported before the program imports gRPC.
"""

import sys
from typing import Any

from kobs_instrumentation.watch._patch import Patcher
from kobs_instrumentation.watch._watch import GetCollector, Undo, Watch

UNSEEN = (
    "gRPC servers that were made before kobs came, and calls of methods that a server has not",
    "how many messages handlers of grpc.aio exchange by context.read and context.write",
)
"""What this watch does not see, with either core."""


def _patch(patcher: Patcher) -> None:
    early = "grpc" in sys.modules

    def imported(grpc: Any) -> None:
        from kobs_instrumentation.watch import _grpc_patches

        _grpc_patches.patch(patcher, _watch, grpc, early)

    patcher.when_imported("grpc", imported)


_watch = Watch("grpc", _patch)


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch gRPC; returns what takes it back. Without `events` only cause is carried on."""
    return _watch.install(get_collector, events=events)
