"""OpenTelemetry that is imported inside of a span of kobs knows of that span at once.

Without this it does from the next span of kobs on: nothing else hooks imports.
"""

import sys
from typing import Any

from kobs_instrumentation.watch._patch import Patcher
from kobs_instrumentation.watch._watch import Undo

_MODULE = "opentelemetry.context"


def install() -> Undo:
    """Wait for the import; returns what takes that back."""
    patcher = Patcher("opentelemetry")
    if _MODULE not in sys.modules:
        patcher.when_imported(_MODULE, _imported)
    return patcher.undo


def _imported(_: Any) -> None:
    spans = sys.modules.get("kobs.tracing.open_spans")  # imported with the first span
    if spans is not None and spans.is_any_open():  # else the next span of kobs sees to it
        from kobs import bridge

        bridge.place_context()
