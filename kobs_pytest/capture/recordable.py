"""Whether a payload type could have been recorded at all: what nothing tells is not absent."""

import sys
from collections.abc import Collection

from kobs.collector import Collector
from kobs.schema import PayloadType, registered_types

_OF_SPANS = ("SpanBegan", "SpanEnded", "SyscallSlow", "OperationSlow")
_ALWAYS = ("AnomalyDetected",)
"""Told by the collector itself."""


def unrecorded(
    types: Collection[type[PayloadType]], collector: Collector, once_watched: Collection[str] = ()
) -> list[str]:
    """The names of those of kobs's own payload types that nothing in this process tells: no
    watch, no observed class, nobody who asked the collector for an emitter.

    Users' own types are told by users' code alone: of them it is not known, and they are left
    out. `once_watched`: what watches told that may be off by now; that they have asked for an
    emitter says nothing.
    """
    known = {cls.__kobs_schema__.name for cls in collector.emitters}.difference(once_watched)
    known.update(_ALWAYS)
    known.update(_watched())
    known.update(_observed())
    if "kobs.tracing" in sys.modules:
        known.update(_OF_SPANS)
    own = {
        name for name, cls in registered_types().items() if cls.__module__ == "kobs.payloads"
    } - known
    return sorted({cls.__kobs_schema__.name for cls in types} & own)


def reason(names: list[str]) -> str:
    """The missing types in words, and what to do."""
    which = ", ".join(names)
    return (
        f"nothing here records {which}: no watch that is on tells it, no class that is decorated "
        "emits it, and nobody asked the collector for its emitter"
    )


def _watched() -> set[str]:
    registry = sys.modules.get("kobs_instrumentation.registry")
    return set(registry.said()) if registry is not None else set()


def _observed() -> set[str]:
    sites = sys.modules.get("kobs.observe.sites")
    return {cls.__kobs_schema__.name for cls in sites.emitted()} if sites is not None else set()
