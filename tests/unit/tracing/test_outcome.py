"""How a span went: its status, and the warning where it was slow."""

import subprocess
import sys

import pytest

import kobs
from kobs import Collector
from kobs.errors import ConfigError
from kobs.tracing import (
    set_slow_thresholds,
    span_operation,
    span_syscall,
)

from .conftest import attributes_of, ended, named


class TestStatus:
    @pytest.mark.parametrize(
        ("result", "status"),
        [
            (True, "ok"),
            (False, "error"),
            (kobs.SyscallResult.SUCCESS, "ok"),
            (kobs.SyscallResult.ERROR, "error"),
            ("done", "unset"),
            (0, "unset"),
        ],
    )
    def test_a_result_sets_it(self, collector: Collector, result: object, status: str) -> None:
        with span_operation("load") as span:
            span.record_result(result)
        assert ended(collector).payload.status == status

    def test_an_exception_is_an_error_and_goes_on_untouched(self, collector: Collector) -> None:
        error = KeyError("gone")
        with pytest.raises(KeyError) as caught, span_operation("load"):
            raise error
        assert caught.value is error
        end = ended(collector)
        assert end.payload.status == "error"
        kept = attributes_of(collector, end)
        assert kept["exception.type"] == "KeyError"
        assert kept["exception.message"] == "'gone'"
        assert "test_an_exception_is_an_error" in str(kept["exception.stacktrace"])

    def test_an_error_told_in_words(self, collector: Collector) -> None:
        with span_operation("load") as span:
            span.record_error("no such row")
        end = ended(collector)
        assert end.payload.status == "error"
        assert end.payload.attributes == {"error.message": "no such row"}

    def test_leaving_in_good_order_is_no_error(self, collector: Collector) -> None:
        with pytest.raises(SystemExit), span_operation("load"):
            raise SystemExit(0)
        assert ended(collector).payload.status == "unset"

    def test_an_exception_with_a_broken_message_breaks_nothing(self, collector: Collector) -> None:
        class Broken(Exception):
            def __str__(self) -> str:
                raise ValueError

        with pytest.raises(Broken), span_operation("load"):
            raise Broken
        assert ended(collector).payload.status == "error"

    def test_a_recursion_error_is_told_with_frames_left_out(self, collector: Collector) -> None:
        def deeper() -> None:
            deeper()

        with pytest.raises(RecursionError), span_operation("load"):
            deeper()
        stack = str(attributes_of(collector, ended(collector))["exception.stacktrace"])
        assert "frames left out" in stack
        assert len(stack.splitlines()) < 80


class TestSlow:
    def test_a_slow_operation_is_told(self, collector: Collector) -> None:
        with span_operation("load", slow_ms=0) as span:
            pass
        (slow,) = named(collector, "OperationSlow")
        began = named(collector, "SpanBegan")[0]
        assert slow.severity.name == "WARN"
        assert slow.parent == began.id
        assert slow.payload.operation == "load"
        assert slow.payload.duration_ms == pytest.approx((span.duration_us or 0) / 1000)

    def test_a_warning_is_logged_where_the_program_has_a_log(
        self, collector: Collector, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level("WARNING", "kobs.tracing"), span_operation("load", slow_ms=0):
            pass
        (record,) = caplog.records
        assert record.getMessage().startswith("operation load took ")
        assert record.levelname == "WARNING"

    def test_no_warning_goes_to_standard_error_by_itself(self) -> None:
        code = (
            "from kobs import Collector, init_collector, span_syscall\n"
            "init_collector(Collector(size=16))\n"
            "with span_syscall('read', slow_ms=0): pass\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert (done.stdout, done.stderr) == (b"", b"")

    def test_a_slow_system_call_is_told(self, collector: Collector) -> None:
        with span_syscall("read", 42, slow_ms=0):
            pass
        (slow,) = named(collector, "SyscallSlow")
        assert (slow.pid, slow.payload.name, slow.payload.threshold_ms) == (42, "read", 0.0)

    def test_a_quick_one_is_not(self, collector: Collector) -> None:
        with span_operation("load"), span_syscall("read"):
            pass
        assert named(collector, "OperationSlow", "SyscallSlow") == []

    def test_thresholds_are_set_for_all(self, collector: Collector) -> None:
        set_slow_thresholds(syscall_ms=0, operation_ms=0)
        with span_operation("load"), span_syscall("read"):
            pass
        assert len(named(collector, "OperationSlow", "SyscallSlow")) == 2

    def test_they_are_10_and_100_milliseconds(
        self, default_thresholds: tuple[float, float]
    ) -> None:
        assert default_thresholds == (10.0, 100.0)

    def test_a_bad_threshold_is_refused_by_name(self) -> None:
        with pytest.raises(ConfigError, match="operation_ms=-1"):
            set_slow_thresholds(operation_ms=-1)
