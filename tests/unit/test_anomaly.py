"""The detector: what it finds unusual, what it keeps quiet about, what it remembers."""

import math
import random
import statistics
from typing import Any

import pytest
from hypothesis import given, strategies as st

from kobs import hooks
from kobs.anomaly import METHODS, Anomaly, Baseline, Detector, Ewma, Mad, ZScore
from kobs.errors import ConfigError

SECOND = 1_000_000_000


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def feed(detector: Detector, metric: str, values: Any) -> list[Anomaly]:
    found = (detector.observe(metric, value, now_ns=n * SECOND) for n, value in enumerate(values))
    return [anomaly for anomaly in found if anomaly is not None]


def around(mean: float, count: int, *, spread: float = 1.0, seed: int = 1) -> list[float]:
    """Values of a uniform distribution: none is beyond two standard deviations."""
    rng = random.Random(seed)
    return [mean + spread * rng.uniform(-1, 1) for _ in range(count)]


class TestWelford:
    @given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=200))
    def test_agrees_with_the_standard_library(self, values: list[float]) -> None:
        baseline = ZScore()
        for value in values:
            baseline.learn(value)
        scale = max(map(abs, values))
        assert baseline.count == len(values)
        assert baseline.mean == pytest.approx(
            statistics.fmean(values), rel=1e-9, abs=1e-9 * scale + 1e-100
        )
        assert baseline.deviation == pytest.approx(
            statistics.pstdev(values), rel=1e-6, abs=1e-7 * scale + 1e-100
        )

    @given(st.lists(st.floats(-1e6, 1e6), min_size=30, max_size=200), st.floats(1, 10))
    def test_the_short_way_says_and_learns_what_the_long_one_does(
        self, values: list[float], threshold: float
    ) -> None:
        short, long = ZScore(), ZScore()
        for value in values:
            expected, spread = long.judge(value)
            if short.accept(value, threshold**2):
                assert abs(value - expected) <= threshold * spread * (1 + 1e-9)
            else:
                short.learn(value)
            long.learn(value)
        assert (short.count, short.mean) == (long.count, long.mean)
        assert short.deviation == pytest.approx(long.deviation, rel=1e-6, abs=1e-3)

    def test_does_not_cancel_where_the_mean_is_large(self) -> None:
        baseline = ZScore()
        for n in range(10_000):
            baseline.learn(1e9 + n % 2)
        assert baseline.deviation == pytest.approx(0.5, rel=1e-6)


class TestVerdict:
    def test_a_value_far_out_is_an_anomaly_and_says_what_was_expected(self) -> None:
        found = feed(Detector(), "latency", [*around(100, 50), 500.0])
        assert len(found) == 1
        anomaly = found[0]
        assert (anomaly.metric, anomaly.value, anomaly.count) == ("latency", 500.0, 1)
        assert anomaly.expected == pytest.approx(100, abs=0.5)
        assert anomaly.deviation > 100

    def test_a_value_far_below_is_one_too(self) -> None:
        assert [a.value for a in feed(Detector(), "m", [*around(100, 50), -300.0])] == [-300.0]

    def test_ordinary_values_are_none(self) -> None:
        assert feed(Detector(), "m", around(100, 2000)) == []

    def test_there_is_no_verdict_before_30_samples(self) -> None:
        assert feed(Detector(), "m", [*around(100, 29), 1e6]) == []
        assert len(feed(Detector(), "m", [*around(100, 30), 1e6])) == 1
        assert len(feed(Detector(min_samples=5), "m", [*around(100, 5), 1e6])) == 1

    @pytest.mark.parametrize(("threshold", "count"), [(3.0, 1), (5.0, 0)])
    def test_the_threshold_is_in_standard_deviations(self, threshold: float, count: int) -> None:
        values = [99.0, 101.0] * 50  # mean 100, deviation 1
        assert len(feed(Detector(threshold=threshold), "m", [*values, 104.0])) == count

    @pytest.mark.parametrize("constant", [0.0, 7.0, -1e9, 1e-9])
    def test_a_jump_from_a_constant_is_an_anomaly_with_a_finite_deviation(
        self, constant: float
    ) -> None:
        detector = Detector()
        assert feed(detector, "m", [constant] * 100) == []
        anomaly = detector.observe("m", constant + 1 + abs(constant), now_ns=1000 * SECOND)
        assert anomaly is not None
        assert anomaly.expected == constant
        assert 3 < anomaly.deviation <= 1e6

    @pytest.mark.parametrize("constant", [0.0, 7.0, -1e9, 1e-9])
    def test_a_constant_is_learned_the_short_way(self, constant: float) -> None:
        judged = []

        class Judged(ZScore):
            def judge(self, value: float) -> tuple[float, float]:
                judged.append(value)
                return super().judge(value)

        detector = Detector(method=Judged)
        feed(detector, "m", [constant] * 100)
        assert judged == []
        baseline = detector.baseline("m")
        assert isinstance(baseline, ZScore)
        assert (baseline.count, baseline.mean, baseline.deviation) == (100, constant, 0.0)

    def test_metrics_are_judged_apart(self) -> None:
        detector = Detector()
        feed(detector, "fast", around(1, 50, spread=0.1))
        feed(detector, "slow", around(1000, 50))
        assert detector.observe("slow", 1000.0) is None
        assert detector.observe("fast", 1000.0) is not None

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_is_counted_and_learned_from_no_more(self, value: float) -> None:
        detector = Detector()
        feed(detector, "m", around(100, 50))
        assert detector.observe("m", value) is None
        assert detector.rejected == 1
        assert detector.observe("m", 100.0) is None
        assert detector.observe("m", 500.0) is not None

    @pytest.mark.parametrize("extreme", [1.9e154, 1e308, math.inf])
    def test_values_that_squares_overflow_of_stop_nothing(self, extreme: float) -> None:
        detector = Detector(min_samples=2, threshold=0.5, interval_s=0)
        values = [8.0, 1.9e154, extreme, -extreme, 8.0, 8.0]
        assert all(found.deviation <= 1e6 for found in feed(detector, "m", values))


class TestWhatAnomaliesTeach:
    def test_one_outlier_does_not_make_the_next_look_normal(self) -> None:
        values = [*around(100, 50), 1e6, *around(100, 5, seed=2), 200.0]
        assert [anomaly.value for anomaly in feed(Detector(), "m", values)] == [1e6, 200.0]

    def test_a_new_level_that_stays_becomes_normal(self) -> None:
        detector = Detector(min_samples=30)
        found = feed(detector, "m", [*around(100, 100), *around(500, 200, seed=2)])
        assert len(found) == 30
        baseline = detector.baseline("m")
        assert isinstance(baseline, ZScore)
        assert baseline.mean == pytest.approx(500, abs=1)

    def test_a_new_constant_after_a_constant_becomes_normal_too(self) -> None:
        detector = Detector()
        assert len(feed(detector, "m", [5.0] * 50 + [9.0] * 200)) == 30

    def test_a_normal_value_between_ends_the_count_towards_a_new_level(self) -> None:
        detector = Detector(min_samples=30)
        rare = [n % 10 == 0 for n in range(1000)]
        feed(detector, "m", around(100, 100))
        for n, out in enumerate(rare):
            detector.observe("m", 1e6 if out else 100.0, now_ns=(1000 + n) * SECOND)
        baseline = detector.baseline("m")
        assert isinstance(baseline, ZScore)
        assert baseline.mean < 1000


class TestRateLimit:
    def test_at_most_one_a_metric_and_second_with_the_count_of_those_kept_back(self) -> None:
        clock = Clock()
        detector = Detector(clock=clock)
        for value in around(100, 50):
            detector.observe("m", value)
        told = []
        for n in range(25):
            clock.now = n * SECOND // 10  # ten a second
            if (anomaly := detector.observe("m", 1e6)) is not None:
                told.append((clock.now / SECOND, anomaly.count))
        assert told == [(0.0, 1), (1.0, 10), (2.0, 10)]
        assert detector.suppressed == 22

    def test_holds_for_each_metric_apart(self) -> None:
        detector = Detector(clock=Clock())
        for metric in ("a", "b"):
            feed(detector, metric, around(100, 50))
        assert detector.observe("a", 1e6) is not None
        assert detector.observe("b", 1e6) is not None
        assert detector.observe("a", 1e6) is None

    def test_can_be_lifted(self) -> None:
        detector = Detector(clock=Clock(), interval_s=0)
        feed(detector, "m", around(100, 50))
        assert all(detector.observe("m", 1e6) is not None for _ in range(5))


class TestMemory:
    def test_the_number_of_metrics_is_bounded_and_the_forgotten_are_counted(self) -> None:
        detector = Detector(max_metrics=100)
        for n in range(10_000):
            detector.observe(f"metric {n}", 1.0)
        assert len(detector.metrics) <= 100
        assert detector.forgotten == 10_000 - len(detector.metrics)

    def test_what_is_in_use_is_not_forgotten(self) -> None:
        detector = Detector(max_metrics=100)
        for n in range(10_000):
            detector.observe("in use", 1.0)
            detector.observe(f"metric {n}", 1.0)
        baseline = detector.baseline("in use")
        assert baseline is not None
        assert baseline.count == 10_000

    def test_reset_forgets_all(self) -> None:
        detector = Detector()
        feed(detector, "m", around(100, 50))
        detector.reset()
        assert detector.metrics == []
        assert detector.observe("m", 1e6) is None


class TestMethods:
    @pytest.mark.parametrize("method", sorted(METHODS))
    def test_each_tells_an_outlier_from_ordinary_values(self, method: str) -> None:
        found = feed(Detector(method=method, threshold=6), "m", [*around(100, 300), 500.0])
        assert [anomaly.value for anomaly in found] == [500.0]

    def test_ewma_follows_a_drift_that_zscore_reports(self) -> None:
        values = [n * 0.5 + wobble for n, wobble in enumerate(around(0, 2000, spread=20))]
        ewma, zscore = Ewma(), ZScore()
        for value in values:
            ewma.learn(value)
            zscore.learn(value)
        assert abs(ewma.mean - 1000) < 60
        assert abs(zscore.mean - 500) < 10

    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
    def test_mad_is_the_median_and_its_deviation(self, values: list[float]) -> None:
        mad = Mad(window=64)
        for value in values:
            mad.learn(value)
        expected, spread = mad.judge(0.0)
        median = statistics.median(values)
        assert expected == pytest.approx(median)
        deviation = statistics.median(abs(value - median) for value in values)
        if deviation:
            assert spread == pytest.approx(1.4826 * deviation)

    def test_mad_is_not_moved_by_outliers_among_the_first_samples(self) -> None:
        values = [*around(100, 25), *[1e6] * 5, *around(100, 20, seed=2)]
        mad, zscore = Detector(method="mad", threshold=6), Detector()
        feed(mad, "m", values)
        feed(zscore, "m", values)
        assert mad.observe("m", 5000.0, now_ns=10**12) is not None
        assert zscore.observe("m", 5000.0, now_ns=10**12) is None

    def test_a_method_of_ones_own_is_a_class_with_three_members(self) -> None:
        class Limit:
            """Everything is expected to be 10, give or take 1."""

            def __init__(self) -> None:
                self.count = 0

            def judge(self, value: float) -> tuple[float, float]:
                return 10.0, 1.0

            def learn(self, value: float) -> None:
                self.count += 1

        made: Baseline = Limit()
        assert made.judge(0) == (10.0, 1.0)
        detector = Detector(method=Limit, min_samples=2)
        found = feed(detector, "m", [50.0, 50.0, 12.0, 14.0])
        assert [(a.value, a.expected, a.deviation) for a in found] == [(14.0, 10.0, 4.0)]

    def test_a_method_of_a_plug_in_has_a_name(self) -> None:
        class Plugin:
            @hooks.hook
            def kobs_detectors(self) -> dict[str, Any]:
                return {"lately": Ewma}

        plugin = Plugin()
        hooks.register(plugin)
        try:
            assert feed(Detector(method="lately", threshold=6), "m", [*around(100, 300), 500.0])
        finally:
            hooks.unregister(plugin)
        with pytest.raises(ConfigError, match="method='lately': expected one of zscore, ewma, mad"):
            Detector(method="lately")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"threshold": 0}, "threshold=0"),
        ({"threshold": math.nan}, "threshold=nan"),
        ({"min_samples": 1}, "min_samples=1: expected an int, 2 or more"),
        ({"max_metrics": 2.5}, "max_metrics=2.5"),
        ({"method": "magic"}, "method='magic': expected one of zscore, ewma, mad"),
        ({"method": object}, "no count, judge, learn"),
        ({"method": 5}, "method=5"),
        ({"interval_s": -1}, "interval_s=-1"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Detector(**arguments)
