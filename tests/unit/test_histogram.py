"""The exponential histogram: OpenTelemetry's mapping, and what merging may and may not change."""

import math
from decimal import Decimal, getcontext

import pytest
from hypothesis import example, given, strategies as st
from opentelemetry.sdk.metrics._internal.exponential_histogram.mapping.logarithm_mapping import (
    LogarithmMapping,
)

from kobs._analysis.histogram import (
    FINEST_SCALE,
    MOST_BUCKETS,
    Histogram,
    HistogramSnapshot,
    finest_index,
)

ABOVE_0 = st.floats(min_value=5e-324, allow_infinity=False, allow_nan=False)
ANY = st.floats(allow_infinity=False, allow_nan=False)
LATENCIES = st.lists(st.floats(1e-7, 1e3), min_size=1, max_size=400)


def of(values: list[float], bounds: tuple[float, ...] = ()) -> Histogram:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    return histogram


def held(snapshot: HistogramSnapshot) -> int:
    return snapshot.zero_count + sum(
        number for each in (snapshot.buckets, snapshot.negative) for _, number in each
    )


class TestMapping:
    @given(ABOVE_0)
    def test_is_the_data_models(self, value: float) -> None:
        """base**i < value <= base**(i + 1), but for the last bits of the logarithm."""
        getcontext().prec = 50
        exact = Decimal(value).ln() / Decimal(2).ln() * (1 << FINEST_SCALE)
        slack = Decimal("1e-6")
        assert finest_index(value) - slack < exact <= finest_index(value) + 1 + slack

    @given(st.integers(-1074, 1023))
    def test_has_powers_of_two_at_the_upper_end_of_a_bucket(self, exponent: int) -> None:
        power = math.ldexp(1.0, exponent)
        for scale in (FINEST_SCALE, 3, 0):
            at = finest_index(power) >> (FINEST_SCALE - scale)
            assert at == (exponent << scale) - 1
            above = finest_index(math.nextafter(power, math.inf)) >> (FINEST_SCALE - scale)
            # Of the smallest numbers the next one is in another octave.
            assert above == at + 1 or exponent < -1022

    @given(st.floats(1e-300, 1e300), st.integers(1, FINEST_SCALE))
    @example(1.0, 1)
    def test_is_the_sdks(self, value: float, scale: int) -> None:
        position = math.log2(value) * 2.0**scale
        if abs(position - round(position)) < 1e-6 and math.frexp(value)[0] != 0.5:
            return  # at an edge the two may differ by rounding
        theirs = LogarithmMapping(scale).map_to_index(value)
        assert finest_index(value) >> (FINEST_SCALE - scale) == theirs


class TestBuckets:
    @given(st.lists(ANY, max_size=500))
    def test_hold_every_value_and_are_bounded(self, values: list[float]) -> None:
        found = of(values).snapshot()
        assert len(found.buckets) + len(found.negative) <= MOST_BUCKETS
        assert found.count == len(values) == held(found)
        assert found.zero_count == values.count(0.0)
        assert sum(number for _, number in found.negative) == sum(value < 0 for value in values)
        if values:
            assert (found.minimum, found.maximum) == (min(values), max(values))

    @given(st.lists(ANY, max_size=500), st.integers(2, 200))
    def test_made_wider_hold_what_they_held(self, values: list[float], most: int) -> None:
        whole = of(values).snapshot()
        found = whole.downscaled(most)
        assert held(found) == whole.count
        for buckets in (found.buckets, found.negative):
            assert not buckets or buckets[-1][0] - buckets[0][0] < most
        by = FINEST_SCALE - found.scale
        direct: dict[int, int] = {}
        for value in values:
            if value > 0:
                at = finest_index(value) >> by
                direct[at] = direct.get(at, 0) + 1
        assert dict(found.buckets) == direct

    @given(st.lists(ANY, max_size=400), st.lists(ANY, max_size=400))
    def test_of_two_are_those_of_all(self, some: list[float], others: list[float]) -> None:
        bounds = (-1.0, 0.0, 1.0, 1e10)
        merged, whole = of(some, bounds), of(some + others, bounds).snapshot()
        merged.merge(of(others, bounds))
        found = merged.snapshot()
        assert (found.count, found.zero_count) == (whole.count, whole.zero_count)
        assert held(found) == found.count
        assert found.by_bound == whole.by_bound
        assert len(found.buckets) + len(found.negative) <= MOST_BUCKETS
        if whole.count:
            assert (found.minimum, found.maximum) == (whole.minimum, whole.maximum)
        coarser = min(found.scale, whole.scale)
        assert at_scale(found, coarser) == at_scale(whole, coarser)

    @given(st.lists(ANY, max_size=100))
    def test_by_bound_count_up_to_and_with_each(self, values: list[float]) -> None:
        bounds = (-5.0, 0.0, 0.5, 100.0)
        found = of(values, bounds).snapshot()
        for at, bound in enumerate(bounds):
            assert sum(found.by_bound[: at + 1]) == sum(value <= bound for value in values)
        assert sum(found.by_bound) == len(values)


class TestPercentiles:
    @given(LATENCIES, st.floats(0, 100))
    def test_are_as_close_as_the_scale_promises(self, values: list[float], q: float) -> None:
        for found in (of(values).snapshot(), of(values).snapshot().downscaled(160)):
            true = sorted(values)[int((len(values) - 1) * q / 100)]
            # The middle of a bucket is half a width from its ends; a hair for the logarithm.
            error = 2 ** (0.5 * 2.0**-found.scale) * (1 + 1e-9)
            assert true / error <= found.percentile(q) <= true * error

    @given(LATENCIES)
    def test_of_160_buckets_are_within_an_eighth(self, values: list[float]) -> None:
        found = of(values).snapshot().downscaled(160)
        assert found.scale >= 2  # 34 octaves and less

    @pytest.mark.parametrize(("q", "about"), [(0, -8.0), (30, -1.0), (60, 0.0), (100, 4.0)])
    def test_go_from_the_lowest_to_the_highest(self, q: float, about: float) -> None:
        found = of([-8.0, -1.0, -1.0, 0.0, 2.0, 4.0]).snapshot()
        assert found.percentile(q) == pytest.approx(about, rel=1e-5)

    def test_of_the_largest_numbers_there_are_do_not_overflow(self) -> None:
        found = of([1.7e308, -1.7e308, 1.0]).snapshot().downscaled(2)
        assert found.percentile(100) <= 1.7e308
        assert found.percentile(0) >= -1.7e308


def at_scale(snapshot: HistogramSnapshot, scale: int) -> list[dict[int, int]]:
    coarser: list[dict[int, int]] = []
    for buckets in (snapshot.buckets, snapshot.negative):
        made: dict[int, int] = {}
        for index, number in buckets:
            at = index >> (snapshot.scale - scale)
            made[at] = made.get(at, 0) + number
        coarser.append(made)
    return coarser
