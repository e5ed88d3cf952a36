"""Log records as events: what is recorded of them, of whom, and what is not."""

import logging
import logging.handlers
import os
import queue
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.sdk._logs._internal import std_to_otel
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from kobs import (
    Collector,
    Event,
    LogRecorded,
    Severity,
    init_collector,
    init_tracing,
    open_recording,
    span_operation,
)
from kobs.collector import clear_collector
from kobs.context import EXPORT_ORIGIN, origin
from kobs.muted import muted
from kobs.tracing import log_handler
from kobs.tracing.log_records import (
    MESSAGE_BYTES,
    MESSAGE_ERROR,
    LogAssembler,
    Logged,
    severity_number,
    severity_of,
)
from kobs.tracing.logs import KobsLogHandler, TraceContextFilter, add_trace_context
from kobs.tracing.records import CUT, INCOMPLETE, MAX_VALUE


@pytest.fixture(params=["python", pytest.param("c", marks=pytest.mark.c_core)])
def collector(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Collector]:
    monkeypatch.setenv("KOBS_CORE", request.param)
    monkeypatch.delenv("KERNEL_LOG", raising=False)
    monkeypatch.delenv("RUST_LOG", raising=False)
    with Collector(size=8192, sampling=100) as made:
        init_collector(made)
        yield made
        clear_collector()


@pytest.fixture
def handler() -> Iterator[KobsLogHandler]:
    made = KobsLogHandler()
    yield made
    made.close()


@pytest.fixture
def log(collector: Collector, handler: KobsLogHandler) -> logging.Logger:
    """A logger whose records become events, and go nowhere else."""
    logger = logging.Logger("test.shop", 1)
    logger.addHandler(handler)
    return logger


def events(collector: Collector, name: str = "LogRecorded") -> list[Event]:
    return [event for event in collector.snapshot() if event.type_name == name]


def logged(collector: Collector) -> list[Logged]:
    assembler = LogAssembler()
    return [one for event in collector.snapshot() if (one := assembler.observe(event))]


class TestARecord:
    def test_is_one_event(self, collector: Collector, log: logging.Logger) -> None:
        line = sys._getframe().f_lineno + 1
        log.info("packed %s", "apples")
        (event,) = collector.snapshot()
        assert event.payload == LogRecorded(
            "test.shop", "packed apples", 20, "INFO", __file__, line, "test_is_one_event",
            "MainThread",
        )  # fmt: skip
        assert (event.severity, event.pid, event.causality_id) == (Severity.INFO, os.getpid(), 0)
        assert event.name == "test.shop"
        assert LogRecorded.like(message="packed apples").matches(event)

    def test_has_the_cause_of_its_span(self, collector: Collector, log: logging.Logger) -> None:
        with span_operation("order") as order:
            log.info("packed")
        (event,) = events(collector)
        assert event.causality_id == order.causality_id
        assert f"{event.span_id:016x}" == order.span_id
        assert event.parent == events(collector, "SpanBegan")[0].id

    def test_under_another_tracers_span(self, collector: Collector, log: logging.Logger) -> None:
        tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")
        with tracer.start_as_current_span("outer") as outer:
            log.info("one")
            log.info("two", extra={"n": 1})
        context = outer.get_span_context()
        (adopted,) = events(collector, "TraceAdopted")
        assert adopted.payload.trace_high << 64 | adopted.payload.trace_low == context.trace_id
        assert not adopted.payload.sampled
        for event in (*events(collector), *events(collector, "LogAttributes")):
            assert event.causality_id == context.trace_id & (1 << 64) - 1
            assert event.span_id == context.span_id

    def test_that_was_handed_to_another_thread_has_the_ids_it_was_given(
        self, collector: Collector, handler: KobsLogHandler
    ) -> None:
        handed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        sender = logging.handlers.QueueHandler(handed)
        sender.addFilter(TraceContextFilter())
        log = logging.Logger("test.shop")
        log.addHandler(sender)
        with span_operation("order") as order:
            log.warning("packed %d", 3)
        sender.close()
        thread = threading.Thread(target=lambda: handler.handle(handed.get()))
        thread.start()
        thread.join()
        (event,) = events(collector)
        assert event.causality_id == order.causality_id
        assert f"{event.span_id:016x}" == order.span_id
        assert event.payload.message == "packed 3"
        assert event.payload.thread == "MainThread"

    def test_of_another_program_is_about_its_process(
        self, collector: Collector, handler: KobsLogHandler
    ) -> None:
        odd = {"name": "far", "msg": "hi", "process": 4242, "lineno": -1, "levelno": "?"}
        handler.handle(logging.makeLogRecord(odd))
        (event,) = events(collector)
        assert (event.pid, event.payload.logger, event.payload.line) == (4242, "far", 0)
        assert event.severity is Severity.TRACE

    def test_of_a_class_of_its_own_says_its_own_message(
        self, collector: Collector, handler: KobsLogHandler
    ) -> None:
        class Braces(logging.LogRecord):
            def getMessage(self) -> str:
                return str(self.msg).format(*self.args)  # type: ignore[misc]

        handler.handle(Braces("test", 20, __file__, 1, "{} of {}", (1, 2), None))
        assert events(collector)[0].payload.message == "1 of 2"

    def test_can_be_hidden_by_its_logger(self, log: logging.Logger) -> None:
        with Collector(size=64, hide=["LogRecorded:test.*"]) as picky:
            init_collector(picky)
            log.info("x")
            assert not picky.snapshot()
            assert picky.losses().filtered == 1

    def test_in_a_forked_child_is_the_childs(self, tmp_path: Any) -> None:
        program = """
            import logging, os, sys
            from kobs import Collector, init_collector, init_tracing
            from kobs.session import Session

            session = Session.create("shop", ["shop"], root=sys.argv[1])
            init_collector(Collector(size=256, session=session))
            print(session.path)
            init_tracing()
            logging.getLogger("shop").info("before")
            if not os.fork():
                logging.getLogger("shop").info("in the child", extra={"n": 1})
                os._exit(0)
            os.wait()
        """
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
            check=True, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        with open_recording(ended.stdout.splitlines()[0]) as recording:
            pids = {process.recording: process.pid for process in recording.processes}
            said = {
                event.payload.message: (event.pid, pids[event.recording], event.payload.logger)
                for event in recording.events()
                if event.type_name == "LogRecorded"
            }
        first, second = said["before"], said["in the child"]
        assert first[0] == first[1] != second[0] == second[1]
        assert first[2] == second[2] == "shop"


class TestLevels:
    @pytest.mark.parametrize(
        ("level", "number", "severity"),
        [
            (0, 0, "TRACE"), (1, 1, "TRACE"), (5, 1, "TRACE"), (9, 4, "TRACE"),
            (10, 5, "DEBUG"), (20, 9, "INFO"), (25, 12, "INFO"), (30, 13, "WARN"),
            (40, 17, "ERROR"), (50, 21, "CRITICAL"), (99, 24, "CRITICAL"), (-3, 0, "TRACE"),
        ],
    )  # fmt: skip
    def test_severities(self, level: int, number: int, severity: str) -> None:
        assert severity_number(level) == number
        assert severity_of(level) is Severity[severity]

    def test_numbers_are_those_of_opentelemetrys_sdk(self) -> None:
        for level in range(10, 61):
            assert severity_number(level) == std_to_otel(level).value, level

    def test_a_level_of_the_programs_own(self, collector: Collector, log: logging.Logger) -> None:
        logging.addLevelName(35, "NOTICE")
        try:
            log.log(35, "x")
        finally:
            logging._levelToName.pop(35)
            logging._nameToLevel.pop("NOTICE")
        log.warning("y")
        notice, warning = events(collector)
        assert (notice.payload.level, notice.payload.level_name) == (35, "NOTICE")
        assert notice.severity is warning.severity is Severity.WARN
        assert warning.payload.level_name == "WARN"

    def test_from_the_handlers_level_on(
        self, collector: Collector, handler: KobsLogHandler, log: logging.Logger
    ) -> None:
        handler.setLevel("ERROR")
        log.warning("x")
        log.error("y")
        assert [event.payload.message for event in events(collector)] == ["y"]


class TestWhatDoesNotFit:
    def test_a_long_message(self, collector: Collector, log: logging.Logger) -> None:
        long = "é" * MESSAGE_BYTES
        log.info(long)
        (event,) = events(collector)
        assert event.truncated
        assert event.payload.message == "é" * (MESSAGE_BYTES // 2)
        assert logged(collector)[0].message == long

    def test_one_that_just_fits(self, collector: Collector, log: logging.Logger) -> None:
        log.info("x" * MESSAGE_BYTES)
        (event,) = collector.snapshot()
        assert not event.truncated
        assert event.payload.overflow == 0

    def test_fields_keep_their_types(self, collector: Collector, log: logging.Logger) -> None:
        given = {
            "rows": 3, "ratio": 0.5, "who": "é\ud800", "flag": True, "none": None, "raw": b"\x00",
            "list": [1, "a", {"deep": 1.5}], "": "empty",
        }  # fmt: skip
        log.info("x", extra=given)
        (one,) = logged(collector)
        assert one.fields == {**{key: v for key, v in given.items() if key}, "_": "empty"}
        assert one.attributes["code.function.name"] == "test_fields_keep_their_types"
        assert one.attributes["rows"] == 3

    def test_an_exception_and_a_stack(self, collector: Collector, log: logging.Logger) -> None:
        try:
            raise ValueError("bad\nrow")
        except ValueError:
            log.exception("failed", stack_info=True)
        (one,) = logged(collector)
        assert one.attributes["exception.type"] == "ValueError"
        assert one.attributes["exception.message"] == "bad\nrow"
        assert "test_an_exception_and_a_stack" in one.attributes["exception.stacktrace"]
        assert one.attributes["code.stacktrace"].startswith("Stack (most recent call last)")
        assert one.level_name == "ERROR"

    def test_the_text_of_an_exception_that_is_gone(
        self, collector: Collector, handler: KobsLogHandler
    ) -> None:
        handler.handle(
            logging.makeLogRecord({"name": "far", "msg": "x", "exc_text": "Trace\nE: x"})
        )
        assert logged(collector)[0].attributes["exception.stacktrace"] == "Trace\nE: x"

    def test_a_value_that_is_far_too_long_is_cut_and_counted(
        self, collector: Collector, log: logging.Logger
    ) -> None:
        log.info("x", extra={"long": "y" * (MAX_VALUE + 1), "n": 1})
        (one,) = logged(collector)
        assert one.fields == {"long": "y" * MAX_VALUE, "n": 1, CUT: 1}

    def test_fields_beyond_the_most_there_may_be_are_counted(
        self, collector: Collector, log: logging.Logger
    ) -> None:
        log.info("x", extra={**{f"k{n}": "y" * 60_000 for n in range(9)}, "last": 1})
        (one,) = logged(collector)
        assert one.fields.keys() == {*(f"k{n}" for n in range(7)), "last", CUT}
        assert one.fields[CUT] == 2
        assert len(events(collector, "LogAttributes")) <= 4096

    def test_lost_parts_are_told(self, collector: Collector, log: logging.Logger) -> None:
        log.info("x", extra={"a": "y" * 300})
        some = [e for e in collector.snapshot() if getattr(e.payload, "index", 0) != 1]
        assembler = LogAssembler()
        (one,) = [found for event in some if (found := assembler.observe(event))]
        assert one.fields == {INCOMPLETE: True}
        assert LogAssembler().observe(events(collector)[0]).fields == {INCOMPLETE: True}  # type: ignore[union-attr]

    def test_new_names_for_ever_do_not_fill_the_recording(
        self, collector: Collector, handler: KobsLogHandler
    ) -> None:
        for number in range(600):
            handler.handle(
                logging.makeLogRecord({"name": f"conn.{number}", "threadName": f"t{number}"})
            )
        assert [(one.logger, one.attributes["thread.name"]) for one in logged(collector)] == [
            (f"conn.{number}", f"t{number}") for number in range(600)
        ]
        assert collector.ring.known("conn.0")
        assert not collector.ring.known("conn.599")
        assert collector.losses().strings_overflow == 0


class TestWhatIsNotRecorded:
    def test_what_kobs_and_opentelemetry_log(
        self, collector: Collector, handler: KobsLogHandler
    ) -> None:
        for name in ("kobs", "kobs.queue", "opentelemetry.sdk.trace", "opentelemetry"):
            handler.handle(logging.makeLogRecord({"name": name, "msg": "x"}))
        assert not collector.snapshot()
        for name in ("kobsian", "my.kobs"):
            handler.handle(logging.makeLogRecord({"name": name, "msg": "x"}))
        assert [event.payload.logger for event in collector.snapshot()] == ["kobsian", "my.kobs"]

    def test_what_an_exporter_sets_off(self, collector: Collector, log: logging.Logger) -> None:
        token = origin.set(EXPORT_ORIGIN)
        try:
            log.warning("connection refused")
        finally:
            origin.reset(token)
        suppressed = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            log.warning("connection refused")
        finally:
            detach(suppressed)
        with muted():
            log.warning("inside kobs")
        assert not collector.snapshot()

    def test_without_a_collector_nothing(self, log: logging.Logger, collector: Collector) -> None:
        collector.close()
        log.info("x")
        assert not log_handler._told

    def test_what_cannot_be_formatted_is_recorded_as_it_is_and_counted(
        self, collector: Collector, log: logging.Logger, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class Broken:
            def __str__(self) -> str:
                raise LookupError("no name")

        log.info("who: %s", Broken())
        log.info("%d of %d", 1)
        log.info(Broken())
        log.info("x", extra={"who": Broken()})
        first, second, third, fourth = logged(collector)
        assert (first.message, first.fields) == (
            "who: %s", {MESSAGE_ERROR: "LookupError: no name"}
        )  # fmt: skip
        assert second.message == "%d of %d"
        assert second.fields[MESSAGE_ERROR].startswith("TypeError: not enough arguments")
        assert third.message == fourth.fields["who"] == "<Broken: no text, LookupError>"
        assert collector.losses().errors == 3
        assert capsys.readouterr() == ("", "")


class TestInitTracing:
    def test_what_the_filter_lets_through_becomes_events(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RUST_LOG", "warn,test.loud=debug,test.loud.off=off")
        with init_tracing(stream=open(os.devnull, "w")) as setup:
            assert isinstance(setup.recorder, KobsLogHandler)
            for name in ("test.quiet", "test.loud", "test.loud.off"):
                for level in (logging.DEBUG, logging.WARNING):
                    logging.getLogger(name).log(level, "x")
            setup.handler.stream.close()  # type: ignore[union-attr]
        logging.getLogger("test.loud").warning("after the end")
        assert [(e.payload.logger, e.payload.level_name) for e in events(collector)] == [
            ("test.quiet", "WARN"), ("test.loud", "DEBUG"), ("test.loud", "WARN"),
        ]  # fmt: skip

    def test_it_can_be_switched_off(self, collector: Collector) -> None:
        before = list(logging.getLogger().handlers)
        with init_tracing(record=False) as setup:
            assert setup.recorder is None
            logging.getLogger("test").info("x")
        assert not events(collector)
        with init_tracing(), init_tracing() as setup:
            logging.getLogger("test").info("x")
        assert len(events(collector)) == 1
        assert logging.getLogger().handlers == before


class TestStructlog:
    @pytest.fixture(autouse=True)
    def as_before(self) -> Iterator[None]:
        yield
        structlog.reset_defaults()

    @pytest.mark.parametrize(
        "last",
        [
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            structlog.stdlib.render_to_log_kwargs,
        ],
    )
    def test_its_events_are_log_records(
        self, collector: Collector, handler: KobsLogHandler, last: Any
    ) -> None:
        standard = logging.Logger("test.shop", logging.INFO)
        standard.addHandler(handler)
        structlog.configure(
            processors=[
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(),
                add_trace_context,
                last,
            ],
            logger_factory=lambda *_: standard,
            wrapper_class=structlog.stdlib.BoundLogger,
        )
        shop = structlog.get_logger("test.shop").bind(customer=42)
        with span_operation("order") as order:
            shop.info("packed", what="apples")
            try:
                raise ValueError("bad")
            except ValueError:
                shop.exception("failed")
        packed, failed = logged(collector)
        assert (packed.logger, packed.message) == ("test.shop", "packed")
        extra = {k: v for k, v in packed.fields.items() if k not in ("logger", "timestamp")}
        assert extra == {"customer": 42, "what": "apples"}
        assert failed.fields["exception.type"] == "ValueError"
        assert "exc_info" not in failed.fields
        assert {event.causality_id for event in events(collector)} == {order.causality_id}
