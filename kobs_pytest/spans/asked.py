"""Whether and where the spans of a run are to be sent.

PYTEST_DONT_REWRITE
"""

import os

import pytest

from kobs import bridge
from kobs.context import Cause
from kobs_pytest.options import NO, YES, given


def receiver(config: pytest.Config) -> str | None:
    """What `--kobs-otlp` was given: a receiver's base URL, "" for what OpenTelemetry's variables
    say. None where no spans are wanted.

    Raises `pytest.UsageError` for what is no URL.
    """
    value, where = given(config, "kobs_otlp")
    if value is None:
        return None
    text = str(value).strip()
    if text.lower() in NO and text:
        return None
    if text.lower() in YES:
        text = ""
    if text and not text.startswith(("http://", "https://")):
        raise pytest.UsageError(
            f"{where}={text}: expected a URL such as http://localhost:4318 (without one, write "
            f"{where} behind the paths)"
        )
    return text


def wanted(config: pytest.Config) -> bool:
    """Spans are to be made: someone asked, and nobody outside stopped it."""
    if receiver(config) is None or not_sent():
        return False
    outer = from_outside()
    return outer is None or outer.sampled is not False


def not_sent() -> bool:
    """`OTEL_SDK_DISABLED=true`."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def from_outside() -> Cause | None:
    """The span that the run is part of, by the `TRACEPARENT` and `TRACESTATE` that a CI system
    gave it."""
    outer = bridge.parse_traceparent(os.environ.get("TRACEPARENT", ""))
    state = os.environ.get("TRACESTATE", "")
    if outer is not None and state:
        flags = bridge.trace_flags(outer)
        bridge.keep_trace(outer.causality_id, outer.trace_high, flags, state)
    return outer
