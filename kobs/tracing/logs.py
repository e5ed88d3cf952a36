"""Structured logs: standard `logging`, with the trace and span id of where a record was made.

`KobsLogHandler` records what a program logs as events. `TraceContextFilter` gives any handler's
records the attributes `trace_id` and `span_id`, and `add_trace_context` is the same for structlog,
as a processor.
"""

import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any, TextIO

from kobs import bridge
from kobs.config import Settings
from kobs.tracing.log_content import ambient, content, level_name
from kobs.tracing.log_filter import LogFilter
from kobs.tracing.log_handler import KobsLogHandler as KobsLogHandler
from kobs.tracing.records import encode, plain, text_of
from kobs.tracing.slow import check_slow_thresholds, set_slow_thresholds


def ambient_ids() -> tuple[str, str]:
    """(trace id, span id) of the ambient cause, else of OpenTelemetry's current span, in
    hexadecimal; empty where there is none."""
    known = ambient()
    if known is None or not known.causality_id:
        return "", ""
    trace_id = bridge.whole_trace_id(known.causality_id, known.trace_high)
    return f"{trace_id:032x}", f"{known.span_id:016x}" if known.span_id else ""


class TraceContextFilter(logging.Filter):
    """Lets every record pass, and gives it `trace_id` and `span_id` unless it has them."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "trace_id" not in record.__dict__:
            record.trace_id, span_id = ambient_ids()
            record.__dict__.setdefault("span_id", span_id)
        return True


def add_trace_context(
    logger: object, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor: adds `trace_id` and `span_id` where there are any."""
    trace_id, span_id = ambient_ids()
    for key, value in (("trace_id", trace_id), ("span_id", span_id)):
        if value:
            event.setdefault(key, value)
    return event


class TextFormatter(logging.Formatter):
    """One readable line a record: time, level, target, message, fields, ids."""

    def format(self, record: logging.LogRecord) -> str:
        message, fields, error = content(record)
        line = f"{_timestamp(record)} {level_name(record):>8} {record.name}: {message}"
        for key, value in fields.items():
            line += f" {key}={value}" if _is_word(value) else f" {key}={text_of(value)!r}"
        for key in ("trace_id", "span_id"):
            if value := getattr(record, key, ""):
                line += f" {key}={value}"
        return "\n".join([line, *filter(None, self._traces(record, error))])

    def _traces(self, record: logging.LogRecord, error: BaseException | None) -> list[str]:
        exception = record.exc_text or ""
        if not exception and error is not None:
            exception = self.formatException((type(error), error, error.__traceback__))
        return [exception, self.formatStack(record.stack_info) if record.stack_info else ""]


class JsonFormatter(TextFormatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        message, fields, error = content(record)
        line: dict[str, object] = {
            "timestamp": _timestamp(record),
            "level": level_name(record),
            "target": record.name,
            "message": message,
            "trace_id": getattr(record, "trace_id", ""),
            "span_id": getattr(record, "span_id", ""),
            "pid": record.process,
            "thread": record.threadName,
            "file": f"{record.pathname}:{record.lineno}",
        }
        for key, value in fields.items():
            line[f"fields.{key}" if key in line else key] = plain(value)
        exception, stack = self._traces(record, error)
        if exception:
            line["exception"] = exception
        if stack:
            line["stack"] = stack
        return encode(line)


class LogSetup:
    """What `init_tracing` did to standard logging; `close` undoes it. Also a context manager."""

    def __init__(self) -> None:
        self.handler: logging.Handler | None = None
        """The handler on the root logger; None when closed."""
        self.recorder: KobsLogHandler | None = None
        """The handler that records; None when closed, or where it was not asked for."""
        self._levels: dict[str, tuple[int, int]] = {}
        self._put_aside: list[logging.Handler] = []
        self._thresholds: tuple[float, float] | None = None

    def apply(
        self,
        levels: LogFilter,
        *,
        json: bool,
        stream: TextIO | None,
        record: bool = True,
        slow_syscall_ms: float | None = None,
        slow_operation_ms: float | None = None,
    ) -> None:
        """Put the handler and the levels in place; what was applied before is undone first."""
        check_slow_thresholds(slow_syscall_ms=slow_syscall_ms, slow_operation_ms=slow_operation_ms)
        self.close()
        self._thresholds = set_slow_thresholds(
            syscall_ms=slow_syscall_ms, operation_ms=slow_operation_ms
        )
        handler = _StderrHandler() if stream is None else logging.StreamHandler(stream)
        handler.setFormatter(JsonFormatter() if json else TextFormatter())
        handler.addFilter(TraceContextFilter())
        root = logging.getLogger()
        self._put_aside = [known for known in root.handlers if _writes_to_terminal(known)]
        for known in self._put_aside:
            root.removeHandler(known)
        root.addHandler(handler)
        self.handler = handler
        if record:
            self.recorder = KobsLogHandler()
            root.addHandler(self.recorder)
        for target, level in levels.levels():
            logger = logging.getLogger(target)
            self._levels[target] = (logger.level, level)
            logger.setLevel(level)

    def close(self) -> None:
        """Take the handler away and set levels and handlers back; what someone else changed in
        the meantime stays. Twice is once."""
        root = logging.getLogger()
        for target, (before, ours) in self._levels.items():
            logger = logging.getLogger(target)
            if logger.level == ours:
                logger.setLevel(before)
        self._levels = {}
        if self.recorder is not None:
            root.removeHandler(self.recorder)
            self.recorder.close()
            self.recorder = None
        if self.handler is not None:
            in_place = self.handler in root.handlers
            root.removeHandler(self.handler)
            self.handler.close()
            self.handler = None
            for known in self._put_aside if in_place else []:
                root.addHandler(known)
        self._put_aside = []
        if self._thresholds is not None:
            syscall_ms, operation_ms = self._thresholds
            set_slow_thresholds(syscall_ms=syscall_ms, operation_ms=operation_ms)
            self._thresholds = None

    def __enter__(self) -> "LogSetup":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_setup = LogSetup()


def set_up(
    *,
    level: str | None = None,
    json: bool | None = None,
    stream: TextIO | None = None,
    record: bool = True,
    slow_syscall_ms: float | None = None,
    slow_operation_ms: float | None = None,
) -> LogSetup:
    """What `kobs.init_tracing` does."""
    settings = Settings.from_environment()
    given = None if level is None else LogFilter.parse(level, "level")
    levels = given or LogFilter.from_environment()
    _setup.apply(
        levels,
        json=settings.trace_json if json is None else json,
        stream=stream,
        record=record,
        slow_syscall_ms=slow_syscall_ms,
        slow_operation_ms=slow_operation_ms,
    )
    return _setup


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at the time (tests and redirections change it)."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def _writes_to_terminal(handler: logging.Handler) -> bool:
    return type(handler) is logging.StreamHandler and handler.stream in (
        sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__,
    )  # fmt: skip


def _timestamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.created * 1_000_000) % 1_000_000:06d}Z"


def _is_word(value: object) -> bool:
    return not isinstance(value, str) or (bool(value) and value.isprintable() and " " not in value)
