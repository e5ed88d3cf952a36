"""The handler of standard `logging` that records log records as events.

logging.getLogger().addHandler(KobsLogHandler())
"""

import logging
import sys
from typing import Any

from kobs import bridge, collector as collectors
from kobs._core.contract import Ring
from kobs.collector import Collector
from kobs.context import EXPORT_ORIGIN, Cause, cause, origin
from kobs.ids import mint_id
from kobs.levels import Severity
from kobs.muted import busy
from kobs.payloads import LogRecorded
from kobs.tracing.adopting import adopt
from kobs.tracing.exceptions import describe_exception
from kobs.tracing.log_content import Content, ambient, content, ids_of, level_name
from kobs.tracing.log_records import (
    FILE,
    FUNCTION,
    LEVEL,
    LOGGER,
    MESSAGE,
    MESSAGE_BYTES,
    MESSAGE_ERROR,
    STACK,
    THREAD,
    LogAttributes,
    severity_of,
    split,
)
from kobs.tracing.records import plain, text_of

_modules = sys.modules
_OWN = ("kobs", "opentelemetry")
_MOST_NAMES = 512
"""Loggers and threads whose names become strings of the recording: a program may make new ones
for ever, and the room for strings is everyone's."""
_MOST_ADOPTED = 1024
_LINES = 1 << 32


class KobsLogHandler(logging.Handler):
    """Records log records as `LogRecorded` events, with the cause of where they were made.

    `level`: from which level on. `collector`: where to record; else the process-wide one, and
    nothing where there is none. Loggers of kobs and OpenTelemetry are left out, and what an
    exporter logs while it exports. It waits for nothing and raises nothing; what fails is counted
    as an error of the recording.
    """

    def __init__(self, level: int | str = logging.NOTSET, *, collector: Collector | None = None):
        super().__init__(level)
        self._collector = collector
        self._ring: Ring | None = None
        self._names: set[object] = set()
        self._room = 0
        self._adopted: dict[int, None] = {}

    def createLock(self) -> None:
        """It needs none: events are recorded without one."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> Any:
        """Record a record that the filters let pass."""
        passed: Any = self.filter(record)
        if isinstance(passed, logging.LogRecord):
            record = passed
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Record a record."""
        collector = self._collector or collectors._global
        if collector is None or collector.closed or busy.inside:
            return
        if record.name not in self._names and _is_own(record.name):
            return
        if origin.used[0] and origin.get() == EXPORT_ORIGIN:
            return
        if "opentelemetry.context" in _modules and bridge.is_suppressed():
            return
        try:
            self._record(collector, record)
        except Exception as error:
            _count_error(collector, error)

    # -- below: how -------------------------------------------------------------------------

    def _record(self, collector: Collector, record: logging.LogRecord) -> None:
        rest: dict[str, object] = {}
        try:
            message, fields, error = content(record)
        except Exception as mistake:  # of the program's: what it gave does not fit its message
            collector.ring.count("errors")
            message, fields, error = Content(text_of(record.msg), {}, None)
            rest[MESSAGE_ERROR] = f"{type(mistake).__name__}: {text_of(mistake)}"
        if self._ring is not collector.ring:
            self._begin(collector.ring)
        header = self._header(collector, record)
        if _bytes(message) > MESSAGE_BYTES:
            rest[MESSAGE] = message
        for key, value in fields.items():
            rest[key or "_"] = plain(value)
        if error is not None:
            rest.update(describe_exception(error))
        elif record.exc_text:
            rest["exception.stacktrace"] = record.exc_text
        if record.stack_info:
            rest[STACK] = record.stack_info
        names = self._names
        logger, level, file = record.name, level_name(record), record.pathname
        function, thread = record.funcName, record.threadName
        if logger not in names:
            logger = self._named(logger, LOGGER, rest, bounded=True)
        if level not in names:
            level = self._named(level, LEVEL, rest, bounded=True)
        if file not in names:
            file = self._named(file, FILE, rest)
        if function not in names:
            function = self._named(function, FUNCTION, rest)
        if thread not in names:
            thread = self._named(thread, THREAD, rest, bounded=True)
        number, line = record.levelno, record.lineno
        if number.__class__ is not int or not -_LINES < 2 * number < _LINES:
            number = logging.NOTSET
        if line.__class__ is not int or not 0 <= line < _LINES:
            line = 0
        overflow = self._overflow(collector, rest, header) if rest else 0
        severity = _severities.get(number)
        if severity is None:
            severity = _severity(number)
        if severity != Severity.INFO:  # which the type says: the emitter's fast way
            header["severity"] = severity
        (collector.emitters.get(LogRecorded) or collector.emitter(LogRecorded))(
            logger, message, number, level, file, line, function, thread, overflow, **header
        )

    def _begin(self, ring: Ring) -> None:
        """Nothing is known yet of a recording."""
        self._ring = ring
        self._names = set()
        self._room = _MOST_NAMES
        self._adopted = {}

    def _named(self, name: object, key: str, rest: dict[str, object], bounded: bool = False) -> str:
        """A name as the event has it: where the recording has no room for more names it is empty,
        and in the overflow records."""
        text = name if isinstance(name, str) else "" if name is None else text_of(name)
        if text:
            if (bounded and not self._room) or not self._ring or not self._ring.intern(text):
                rest[key] = text
                return ""
            if bounded:
                self._room -= 1
            self._names.add(text)
        return text

    def _header(self, collector: Collector, record: logging.LogRecord) -> dict[str, Any]:
        """What the event's header is to say that its emitter does not know."""
        header: dict[str, Any] = {}
        if record.process.__class__ is int:
            header["pid"] = record.process
        known = ambient()
        if known is None and "trace_id" in record.__dict__:
            known = ids_of(record)
        if known is not None and known is not cause.get():
            header.update(
                causality_id=known.causality_id, parent=known.parent, span_id=known.span_id
            )
            self._adopt(collector, known)
        return header

    def _adopt(self, collector: Collector, foreign: Cause) -> None:
        """Record once that a chain is another tracer's."""
        chain = foreign.causality_id
        if chain in self._adopted or not bridge.is_foreign(foreign, collector.ring.trace_high):
            return
        while len(self._adopted) >= _MOST_ADOPTED:
            self._adopted.pop(next(iter(self._adopted)), None)
        self._adopted[chain] = None
        adopt(collector, foreign)

    def _overflow(
        self, collector: Collector, rest: dict[str, object], header: dict[str, Any]
    ) -> int:
        """Write what does not fit into overflow records; their number."""
        parts = split(rest)
        emit = collector.emitter(LogAttributes)
        number = mint_id()
        for index, data in enumerate(parts):
            emit(number, index, len(parts), data, **header)
        return number


_severities: dict[int, Severity] = {}


def _severity(level: int) -> Severity:
    severity = severity_of(level)
    if len(_severities) < _MOST_NAMES:
        _severities[level] = severity
    return severity


def _bytes(text: str) -> int:
    """How many the event needs for a text, at most."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "backslashreplace"))


def _is_own(logger: str) -> bool:
    """Of kobs's own loggers, or OpenTelemetry's."""
    return logger.__class__ is str and logger.partition(".")[0] in _OWN


def _count_error(collector: Collector, error: Exception) -> None:
    """A mistake inside kobs: counted, logged once, never the program's."""
    global _told
    try:
        collector.ring.count("errors")
        if not _told and not collector.closed:
            _told = True
            logging.getLogger("kobs").warning("a log record was not recorded: %r", error)
    except Exception:
        return


_told = False
