"""Metrics derived from events."""

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from kobs._analysis.histogram import MOST_BUCKETS, Histogram
from kobs.collector import Collector
from kobs.errors import ConfigError
from kobs.events import Event
from kobs.levels import Category, Severity, SyscallResult
from kobs.metrics import RULES, MetricsCollector
from kobs.payloads import (
    MemoryAllocated,
    MemoryPressure,
    MetricUpdate,
    ProcessCreated,
    ProcessTerminated,
    QueueDepth,
    SyscallExit,
)
from kobs.schema import PayloadType, event_type, registered_types


@event_type(category=Category.IPC, name="JobDoneForMetrics")
class JobDoneForMetrics(PayloadType):
    """A type that the table of rules does not have."""

    job: str
    duration_ms: float


def observe(*payloads: PayloadType, **options: Any) -> Any:
    metrics = MetricsCollector(**options)
    for payload in payloads:
        schema = payload.__kobs_schema__
        metrics.observe(Event(schema.severity, schema.category, payload))
    return metrics.snapshot()


class TestCounters:
    def test_count_what_happened_and_add_up_sizes(self) -> None:
        found = observe(
            ProcessCreated("sh", 5), ProcessCreated("ls", 5),
            ProcessTerminated(0), ProcessTerminated(-9),
            SyscallExit("read", 5.0, SyscallResult.SUCCESS),
            SyscallExit("open", 5.0, SyscallResult.ERROR, 2),
            MemoryAllocated(100, 1), MemoryAllocated(28, 2),
        ).counters  # fmt: skip
        assert found["process.created"] == 2
        assert found["process.terminated"] == 2
        assert found["process.failed"] == 1
        assert found["syscall.total"] == 2
        assert found["syscall.errors"] == 1
        assert found["memory.allocated_bytes"] == 128
        assert found["events.total"] == 8
        assert found["events.category.process"] == 4
        assert found["events.severity.debug"] == 4

    def test_are_0_before_anything_happened(self) -> None:
        found = observe().counters
        assert found["syscall.total"] == found["process.created"] == found["events.total"] == 0

    def test_of_a_users_own_type_carry_its_name(self) -> None:
        found = observe(JobDoneForMetrics("x", 2.0))
        assert found.counters["job_done_for_metrics.total"] == 1
        assert found.histograms["job_done_for_metrics.duration_us"].maximum == 2000.0


class TestRules:
    def test_cover_every_payload_type_of_kobs_with_fields_that_it_has(self) -> None:
        own = {n: t for n, t in registered_types().items() if t.__kobs_schema__.type_id < 1024}
        public = {n for n, cls in own.items() if cls.__module__ == "kobs.payloads"}
        for name in RULES:
            for rule in RULES[name]:
                assert rule.fields <= set(own[name].__kobs_schema__.field_names)
        missing = public - set(RULES)
        assert not missing

    def test_no_metric_is_of_two_kinds(self) -> None:
        kinds: dict[str, set[str]] = {}
        for rules in RULES.values():
            for rule in rules:
                kinds.setdefault(rule.metric, set()).add(rule.kind)
        assert {name for name, found in kinds.items() if len(found) > 1} == set()


class TestGauges:
    def test_have_the_last_value(self) -> None:
        found = observe(MemoryPressure(50, 900), MemoryPressure(60, 800)).gauges
        assert found == {"memory.usage_pct": 60, "memory.available_mb": 800}

    def test_of_queues_are_kept_a_queue(self) -> None:
        found = observe(QueueDepth("a", 3, 10), QueueDepth("b", 5, 10)).gauges
        assert found["ipc.queue_depth.a"] == 3
        assert found["ipc.queue_depth.b"] == 5

    def test_come_from_metric_updates_with_their_labels(self) -> None:
        found = observe(
            MetricUpdate("jobs", 1.0), MetricUpdate("jobs", 2.0, {"zone": "b", "kind": "a"})
        ).gauges
        assert found == {"jobs": 1.0, "jobs{kind=a,zone=b}": 2.0}


class TestSnapshot:
    def test_does_not_change_afterwards_and_cannot_be_changed(self) -> None:
        metrics = MetricsCollector()
        metrics.observe(Event(Severity.INFO, Category.PROCESS, ProcessCreated("sh", 5)))
        before = metrics.snapshot()
        metrics.observe(Event(Severity.INFO, Category.PROCESS, ProcessCreated("sh", 5)))
        assert before.counters["process.created"] == 1
        assert metrics.snapshot().counters["process.created"] == 2
        with pytest.raises(TypeError):
            before.counters["process.created"] = 7  # type: ignore[index]

    def test_says_what_was_lost(self) -> None:
        assert MetricsCollector().snapshot(lost=5).lost == 5

    def test_is_written_as_json(self) -> None:
        found = observe(SyscallExit("read", 5.0, SyscallResult.SUCCESS))
        read = json.loads(json.dumps(found.to_dict()))
        assert read["histograms"]["syscall.duration_us.read"]["count"] == 1

    def test_is_bounded_and_counts_what_it_left_out(self) -> None:
        names = [SyscallExit(f"call{n}", 1.0, SyscallResult.SUCCESS) for n in range(500)]
        found = observe(*names, max_series=200)
        found = found._replace(histograms=dict(found.histograms))
        overflowed = found.histograms.pop("syscall.duration_us{otel.metric.overflow=True}")
        assert len(found.histograms) <= 200
        assert overflowed.count == found.dropped_series == 501 - len(found.histograms)
        assert found.counters["syscall.total"] == 500
        assert found.histograms["syscall.duration_us"].count == 500

    def test_drops_names_that_the_program_makes_up(self) -> None:
        updates = [MetricUpdate(f"metric{n}", 1.0) for n in range(50)]
        found = observe(*updates, max_series=20)
        assert (len(found.gauges), found.dropped_series) == (20, 30)

    def test_reset_begins_again(self) -> None:
        metrics = MetricsCollector()
        metrics.observe(Event(Severity.INFO, Category.PROCESS, ProcessCreated("sh", 5)))
        metrics.reset()
        assert metrics.snapshot() == MetricsCollector().snapshot()

    @pytest.mark.parametrize("bad", [0, -1, True, "5"])
    def test_refuses_a_bad_limit(self, bad: Any) -> None:
        with pytest.raises(ConfigError, match="max_series"):
            MetricsCollector(max_series=bad)


class TestHistogram:
    @given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=300), st.floats(0, 100))
    def test_percentiles_are_close_to_a_true_value_of_that_rank(
        self, values: list[float], q: float
    ) -> None:
        histogram = Histogram()
        for value in values:
            histogram.observe(value)
        snapshot = histogram.snapshot()
        true = sorted(values)[int((len(values) - 1) * q / 100)]
        width = 2 ** (2.0**-snapshot.scale)
        assert true / width**0.51 <= snapshot.percentile(q) <= true * width**0.51

    def test_stays_bounded_whatever_comes(self) -> None:
        histogram = Histogram()
        rng = random.Random(1)
        for _ in range(20_000):
            histogram.observe(10 ** rng.uniform(-300, 300))
        snapshot = histogram.snapshot()
        assert len(snapshot.buckets) <= MOST_BUCKETS
        assert sum(number for _, number in snapshot.buckets) == snapshot.count == 20_000

    def test_keeps_zero_apart_and_refuses_what_is_not_finite(self) -> None:
        histogram = Histogram()
        for value in (0.0, -5.0, 8.0, math.nan, math.inf):
            histogram.observe(value)
        found = histogram.snapshot()
        assert (found.count, found.zero_count, found.minimum, found.maximum) == (3, 1, -5.0, 8.0)
        assert histogram.rejected == 2
        assert found.percentile(50) == 0.0
        assert found.percentile(100) == pytest.approx(8.0, rel=0.03)

    def test_of_nothing_is_nan(self) -> None:
        found = Histogram().snapshot()
        assert math.isnan(found.p99)
        assert found.to_dict()["p99"] is None


CORES = ["python", pytest.param("c", marks=pytest.mark.c_core)]


@pytest.mark.parametrize("core", CORES)
def test_what_was_left_out_is_counted_by_category(
    core: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOBS_CORE", core)
    with Collector(size=4096, sampling=30, hide=["syscall:write"]) as collector:
        for _ in range(500):
            collector.syscall_exit(1, "read", 5, True)
            collector.syscall_exit(1, "write", 5, True)
            collector.process_created(1, "sh", 5)
        found = collector.metrics().counters
        recorded = found["events.category.syscall"], found["events.category.process"]
        assert 0 < recorded[0] < 500
        assert 0 < recorded[1] < 500
        assert found["events.filtered.syscall"] == 500
        assert found["events.sampled_out.syscall"] == 500 - recorded[0]
        assert found["events.sampled_out.process"] == 500 - recorded[1]
        assert (found["events.happened.syscall"], found["events.happened.process"]) == (1000, 500)
        assert collector.left_out().filtered[Category.SYSCALL] == 500
        collector.reset()
        assert collector.metrics().counters["events.happened.syscall"] == 0


def test_short_collections_are_added_up() -> None:
    found = observe(
        MetricUpdate("gc.short_pauses_us", 50.0, {"collections": 3}),
        MetricUpdate("gc.short_pauses_us", 20.0, {"collections": 1}),
    )
    assert (found.counters["gc.short_collections"], found.counters["gc.short_pauses_us"]) == (4, 70)
    assert found.gauges == {}
    theirs = observe(MetricUpdate("gc.short_pauses_us", 50.0, {"collections": "many"}))
    assert theirs.gauges == {"gc.short_pauses_us{collections=many}": 50.0}


def test_a_collectors_metrics_are_of_all_its_events_however_often_they_are_asked_for() -> None:
    with Collector(size=64) as collector:
        collector.process_created(1, "sh", 5)
        assert collector.metrics().counters["process.created"] == 1
        collector.process_created(2, "sh", 5)
        found = collector.metrics()
        assert found.counters["process.created"] == 2
        assert found.lost == 0


def test_a_collectors_metrics_tell_what_went_by_before_they_were_first_asked_for() -> None:
    with Collector(size=16) as collector:
        for _ in range(20):
            collector.process_created(1, "sh", 5)
        found = collector.metrics()
        assert (found.counters["process.created"], found.lost) == (16, 4)
        for _ in range(20):
            collector.process_created(1, "sh", 5)
        found = collector.metrics()
        assert (found.counters["process.created"], found.lost) == (32, 8)
        collector.reset()
        assert collector.metrics().lost == 0
