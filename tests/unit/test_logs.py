"""init_tracing: filters, ids in every record, JSON and text, and leaving no trace behind."""

import io
import json
import logging
import math
from collections.abc import Iterator

import pytest

from kobs import init_tracing, span_operation
from kobs.errors import ConfigError
from kobs.tracing import logs
from kobs.tracing.log_filter import OFF, TRACE, LogFilter
from kobs.tracing.logs import LogSetup, TraceContextFilter, add_trace_context


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("KERNEL_LOG", "RUST_LOG", "KERNEL_TRACE_JSON"):
        monkeypatch.delenv(name, raising=False)
    yield
    logs._setup.close()


def log_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class TestFilter:
    @pytest.mark.parametrize(
        ("text", "default", "targets"),
        [
            ("", logging.INFO, {}),
            ("debug", logging.DEBUG, {}),
            ("WARN", logging.WARNING, {}),
            ("info,kobs.queue=debug", logging.INFO, {"kobs.queue": logging.DEBUG}),
            ("kobs::queue=trace", logging.INFO, {"kobs.queue": TRACE}),
            ("kobs.queue", logging.INFO, {"kobs.queue": TRACE}),
            (" error , a = off ,", logging.ERROR, {"a": OFF}),
            ("debug,info", logging.INFO, {}),
            ("4", logging.DEBUG, {}),
        ],
    )
    def test_the_syntax(self, text: str, default: int, targets: dict[str, int]) -> None:
        read = LogFilter.parse(text)
        assert (read.default, read.targets) == (default, targets)

    @pytest.mark.parametrize(
        "text", ["info,kobs=loud", "a b", "=debug", "x[y]=info", "info,,a=b=c"]
    )
    def test_a_bad_one_is_refused_by_name(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KERNEL_LOG", text)
        with pytest.raises(ConfigError, match="KERNEL_LOG="):
            init_tracing()
        monkeypatch.delenv("KERNEL_LOG")
        monkeypatch.setenv("RUST_LOG", text)
        with pytest.raises(ConfigError, match="RUST_LOG="):
            init_tracing()

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("info,my_crate[load]=debug", "spans"),
            ("[{rows=3}]=trace", "spans"),
            ("info/timeout", "the text of messages"),
        ],
    )
    def test_what_only_rust_can_filter_by_is_refused_by_name(self, text: str, what: str) -> None:
        with pytest.raises(
            ConfigError, match=rf"^RUST_LOG=.*: {what} .*cannot be filtered by here"
        ):
            LogFilter.from_environment({"RUST_LOG": text})

    def test_kernel_log_goes_before_rust_log(self) -> None:
        both = {"KERNEL_LOG": "error", "RUST_LOG": "debug"}
        assert LogFilter.from_environment(both).default == logging.ERROR
        assert LogFilter.from_environment({"RUST_LOG": "debug"}).default == logging.DEBUG
        assert LogFilter.from_environment({}).default == logging.INFO


class TestLevels:
    def test_each_target_has_its_level(self) -> None:
        stream = io.StringIO()
        with init_tracing(level="warn,test.loud=debug,test.loud.off=off", json=True, stream=stream):
            for name in ("test.quiet", "test.loud", "test.loud.deep", "test.loud.off"):
                for level in (logging.DEBUG, logging.WARNING):
                    logging.getLogger(name).log(level, "x")
        seen = [(line["target"], line["level"]) for line in log_lines(stream)]
        assert seen == [
            ("test.quiet", "WARN"), ("test.loud", "DEBUG"), ("test.loud", "WARN"),
            ("test.loud.deep", "DEBUG"), ("test.loud.deep", "WARN"),
        ]  # fmt: skip


class TestIds:
    def test_every_record_has_those_of_its_span(self) -> None:
        stream = io.StringIO()
        with init_tracing(json=True, stream=stream):
            logging.getLogger("test").info("outside")
            with span_operation("load") as span:
                logging.getLogger("test").info("inside")
        outside, inside = log_lines(stream)
        assert (outside["trace_id"], outside["span_id"]) == ("", "")
        assert (inside["trace_id"], inside["span_id"]) == (span.trace_id, span.span_id)

    def test_those_of_an_opentelemetry_span_too(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider

        stream = io.StringIO()
        tracer = TracerProvider().get_tracer("test")
        with (
            init_tracing(json=True, stream=stream),
            tracer.start_as_current_span("outer") as outer,
        ):
            logging.getLogger("test").info("inside")
            context = outer.get_span_context()
        (line,) = log_lines(stream)
        assert line["trace_id"] == f"{context.trace_id:032x}"
        assert line["span_id"] == f"{context.span_id:016x}"

    def test_a_programs_own_fields_of_that_name_are_left(self) -> None:
        stream = io.StringIO()
        with init_tracing(stream=stream), span_operation("load"):
            logging.getLogger("test").info("x", extra={"trace_id": "mine"})
        assert "trace_id=mine" in stream.getvalue()

    def test_any_handler_can_have_them(self) -> None:
        record = logging.makeLogRecord({})
        with span_operation("load") as span:
            assert TraceContextFilter().filter(record)
        assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)  # type: ignore[attr-defined]

    def test_structlog_events_can_have_them(self) -> None:
        assert add_trace_context(None, "info", {"event": "x"}) == {"event": "x"}
        with span_operation("load") as span:
            event = add_trace_context(None, "info", {"event": "x"})
        assert event == {"event": "x", "trace_id": span.trace_id, "span_id": span.span_id}


class TestOutput:
    def test_json_has_one_object_a_line(self) -> None:
        stream = io.StringIO()
        with init_tracing(json=True, stream=stream):
            try:
                raise ValueError("bad\nrow")
            except ValueError:
                logging.getLogger("test").exception(
                    "failed %s", "twice", extra={"rows": 3, "message_id": "x", "level": 1}
                )
        (line,) = log_lines(stream)
        assert line["message"] == "failed twice"
        assert line["level"] == "ERROR"
        assert line["target"] == "test"
        assert (line["rows"], line["message_id"], line["fields.level"]) == (3, "x", 1)
        assert "ValueError: bad\nrow" in str(line["exception"])
        assert str(line["timestamp"]).endswith("Z")

    def test_text_is_one_readable_line(self) -> None:
        stream = io.StringIO()
        with init_tracing(stream=stream), span_operation("load") as span:
            logging.getLogger("test").warning("almost %d", 3, extra={"rows": 3, "who": "a b"})
        line = stream.getvalue()
        ids = f"trace_id={span.trace_id} span_id={span.span_id}\n"
        assert line.endswith(f"    WARN test: almost 3 rows=3 who='a b' {ids}")

    def test_the_environment_chooses_json(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KERNEL_TRACE_JSON", "true")
        stream = io.StringIO()
        with init_tracing(stream=stream):
            logging.getLogger("test").info("x")
        assert log_lines(stream)[0]["message"] == "x"

    def test_a_bad_choice_is_refused_by_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KERNEL_TRACE_JSON", "maybe")
        with pytest.raises(ConfigError, match="KERNEL_TRACE_JSON=maybe"):
            init_tracing()

    def test_standard_error_of_the_moment_is_written_to(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with init_tracing():
            logging.getLogger("test").info("x")
        assert "INFO test: x" in capsys.readouterr().err

    def test_a_structlog_mapping_becomes_fields(self) -> None:
        stream = io.StringIO()
        with init_tracing(json=True, stream=stream):
            logging.getLogger("test").info({"event": "loaded", "rows": 3})
        (line,) = log_lines(stream)
        assert (line["message"], line["rows"]) == ("loaded", 3)

    def test_a_field_that_json_cannot_say_becomes_text(self) -> None:
        stream = io.StringIO()
        with init_tracing(json=True, stream=stream):
            logging.getLogger("test").info("x", extra={"thing": object})
        assert log_lines(stream)[0]["thing"] == "<class 'object'>"


class TestLife:
    def state(self) -> tuple[object, ...]:
        names = ("", "test.one", "test.two")
        return (
            list(logging.getLogger().handlers),
            [logging.getLogger(name).level for name in names],
        )

    def test_close_puts_everything_back(self) -> None:
        known = logging.StreamHandler()
        logging.getLogger().addHandler(known)
        logging.getLogger("test.one").setLevel(logging.ERROR)
        try:
            before = self.state()
            setup = init_tracing(level="debug,test.one=trace", slow_operation_ms=1)
            assert self.state() != before
            assert known not in logging.getLogger().handlers
            setup.close()
            setup.close()
            assert self.state() == before
        finally:
            logging.getLogger().removeHandler(known)
            logging.getLogger("test.one").setLevel(logging.NOTSET)

    def test_twice_is_once(self) -> None:
        before = self.state()
        stream = io.StringIO()
        first = init_tracing(level="debug,test.one=error", stream=stream)
        second = init_tracing(level="debug,test.two=error", stream=stream)
        assert first is second
        logging.getLogger("test.one").debug("x")
        assert stream.getvalue().count("test.one: x") == 1
        second.close()
        assert self.state() == before

    def test_a_level_that_someone_else_set_since_stays(self) -> None:
        with init_tracing(level="info,test.one=debug"):
            logging.getLogger("test.one").setLevel(logging.CRITICAL)
        assert logging.getLogger("test.one").level == logging.CRITICAL
        logging.getLogger("test.one").setLevel(logging.NOTSET)

    def test_handlers_that_write_elsewhere_stay(self) -> None:
        mine = logging.StreamHandler(io.StringIO())
        logging.getLogger().addHandler(mine)
        try:
            with init_tracing():
                assert mine in logging.getLogger().handlers
        finally:
            logging.getLogger().removeHandler(mine)

    def test_a_bad_filter_leaves_what_was_there(self) -> None:
        setup = init_tracing(level="debug")
        with pytest.raises(ConfigError, match="level="):
            init_tracing(level="so loud")
        assert isinstance(setup, LogSetup)
        assert setup.handler in logging.getLogger().handlers

    def test_a_bad_threshold_leaves_what_was_there(self) -> None:
        setup = init_tracing(level="debug")
        before = self.state()
        with pytest.raises(ConfigError, match="syscall_ms=-1"):
            init_tracing(slow_syscall_ms=-1)
        assert self.state() == before
        assert setup.handler in logging.getLogger().handlers

    def test_slow_thresholds_are_set_and_put_back(self) -> None:
        from kobs.tracing import slow

        before = slow.slow_ms[:]
        with init_tracing(slow_syscall_ms=1, slow_operation_ms=2):
            assert set(slow.slow_ms) == {1.0, 2.0, math.inf}
            init_tracing(slow_operation_ms=3)
            assert set(slow.slow_ms) == {10.0, 3.0, math.inf}
        assert slow.slow_ms == before
