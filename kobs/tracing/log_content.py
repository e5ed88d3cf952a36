"""What a log record says: its message, further fields, its exception, its level and its ids.

Of standard `logging`, and of structlog where that hands its events to standard `logging`.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from kobs import bridge
from kobs.context import Cause, cause
from kobs.tracing.log_filter import TRACE
from kobs.tracing.records import text_of

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "trace_id", "span_id", "taskName", "color_message",
}  # fmt: skip
"""Attributes of a log record that are no further fields of the program's."""

_LEVEL_NAMES = {logging.WARNING: "WARN", TRACE: "TRACE"}
_OF_STRUCTLOG = ("level", "logger", "timestamp", "trace_id", "span_id", "exc_info", "stack_info")
"""What structlog's processors add to an event, and the record has of its own."""


class Content(NamedTuple):
    """What a record says."""

    message: str
    fields: dict[str, Any]
    """What the program gave beside the message: `extra=`, structlog's key-value pairs."""
    error: BaseException | None


def content(record: logging.LogRecord) -> Content:
    """What a record says. Raises what the formatting of its message raises."""
    values = record.__dict__
    fields: dict[str, Any] = {}
    if not values.keys() <= STANDARD:
        fields = {k: v for k, v in values.items() if k not in STANDARD and k[:1] != "_"}
    error = record.exc_info[1] if record.exc_info else None
    said = record.msg
    if said.__class__ is not str and isinstance(said, Mapping) and not record.args:
        fields.update((text_of(key), value) for key, value in said.items())
        error = error or _exception(fields.get("exc_info"))
        for key in (*_OF_STRUCTLOG, "_record"):
            fields.pop(key, None)
        message = fields.pop("event", fields.pop("message", ""))
        return Content(text_of(message), fields, error)
    return Content(record.getMessage(), fields, error)


def level_name(record: logging.LogRecord) -> str:
    """The level in OpenTelemetry's word where it has one (`WARN`), else as the program names it."""
    return _LEVEL_NAMES.get(record.levelno, record.levelname)


def ambient() -> Cause | None:
    """The ambient cause, else what OpenTelemetry's current span is; None where there is none."""
    known = cause.get()
    if (known is None or not known[5]) and "opentelemetry.trace" in sys.modules:
        known = bridge.opentelemetry_cause() or known
    return known


def ids_of(record: logging.LogRecord) -> Cause | None:
    """The cause that the attributes `trace_id` and `span_id` of a record say, which a filter gave
    it where it was made; None where there are none, or others of that name."""
    trace_id, span_id = record.__dict__.get("trace_id"), record.__dict__.get("span_id")
    if trace_id.__class__ is not str or len(trace_id) != 32:
        return None
    return bridge.parse_traceparent(f"00-{trace_id}-{span_id}-01")


def _exception(given: object) -> BaseException | None:
    """The exception that structlog's `exc_info` means: itself, a tuple, or the current one."""
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple) and len(given) == 3:
        return given[1] if isinstance(given[1], BaseException) else None
    return sys.exc_info()[1] if given else None
