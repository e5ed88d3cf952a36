"""Statistics of a set of numbers: exact, whatever the numbers are."""

import itertools
import json
import math
import statistics

import pytest
from hypothesis import given, strategies as st

from kobs._analysis.stats import DurationStats, Stats
from kobs.errors import ConfigError

NUMBERS = st.floats(min_value=-1e12, max_value=1e12)


class TestPercentiles:
    @given(st.lists(NUMBERS, min_size=2, max_size=200))
    def test_agree_with_the_inclusive_quantiles_of_the_standard_library(
        self, values: list[float]
    ) -> None:
        stats = Stats(values)
        expected = statistics.quantiles(values, n=100, method="inclusive")
        largest = max(map(abs, values))
        for q, quantile in enumerate(expected, 1):
            assert stats.percentile(q) == pytest.approx(quantile, rel=1e-9, abs=1e-9 * largest)

    @given(st.lists(NUMBERS, min_size=1, max_size=50))
    def test_never_go_down_as_q_goes_up_and_end_at_the_extremes(self, values: list[float]) -> None:
        stats = Stats(values)
        found = [stats.percentile(q) for q in range(101)]
        slack = 1e-9 * max(map(abs, values))
        assert all(a <= b + slack for a, b in itertools.pairwise(found))
        assert found[0] == stats.minimum == min(values)
        assert found[-1] == stats.maximum == max(values)

    def test_of_one_value_are_that_value(self) -> None:
        assert {Stats([7.0]).percentile(q) for q in (0, 1, 50, 99.9, 100)} == {7.0}

    def test_interpolate_between_the_two_closest_ranks(self) -> None:
        assert Stats([10, 20]).p50 == 15
        assert Stats([1, 2, 3, 4]).percentile(25) == 1.75

    @pytest.mark.parametrize("q", [-0.1, 100.1, math.nan])
    def test_outside_0_to_100_are_refused(self, q: float) -> None:
        with pytest.raises(ConfigError, match="0 to 100"):
            Stats([1.0]).percentile(q)


class TestStats:
    @given(st.lists(NUMBERS, min_size=1))
    def test_count_total_and_mean_are_those_of_the_values(self, values: list[float]) -> None:
        stats = Stats(values)
        assert stats.count == len(values)
        assert stats.total == pytest.approx(math.fsum(values), rel=1e-9, abs=1e-3)
        assert stats.mean == pytest.approx(statistics.fmean(values), rel=1e-9, abs=1e-3)

    def test_of_nothing_satisfy_no_limit(self) -> None:
        stats = DurationStats()
        assert not stats
        assert stats.count == 0
        assert not stats.p99 < 1e9
        assert not stats.p99 > 0
        assert json.loads(json.dumps(stats.to_dict()))["p99"] is None

    def test_leave_out_what_is_not_finite_and_say_so(self) -> None:
        stats = Stats([1.0, math.inf, 3.0, math.nan])
        assert (stats.count, stats.rejected, stats.mean, stats.maximum) == (2, 2, 2.0, 3.0)

    def test_do_not_depend_on_the_order_of_the_values(self) -> None:
        assert Stats([3, 1, 2]) == Stats([1, 2, 3])
        assert Stats([3, 1, 2]) != Stats([1, 2])
