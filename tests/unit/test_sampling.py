"""Sampling: which chains are kept, and how the rate follows what recording costs."""

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from kobs.collector import Collector
from kobs.errors import ConfigError
from kobs.levels import Category, Severity
from kobs.sampling import ChainThinner, SampleDecision, Sampler, spread_bits

KEEP, DROP, PARTIAL = SampleDecision.KEEP, SampleDecision.DROP, SampleDecision.PARTIAL
RANDOM = random.Random(7)
CHAINS = [RANDOM.getrandbits(64) for _ in range(20_000)]
ROOT = Path(__file__).resolve().parents[2]


def share(sampler: Sampler, chains: Any = CHAINS, category: Category = Category.SYSCALL) -> float:
    kept = sum(sampler.keeps(chain, category) for chain in chains)
    return 100 * kept / len(chains)


class TestDecision:
    @pytest.mark.parametrize("rate", [0, 0.5, 10, 50, 99, 100])
    def test_keeps_about_as_many_chains_as_the_rate_says(self, rate: float) -> None:
        assert share(Sampler(rate)) == pytest.approx(rate, abs=1.2)

    def test_at_0_and_100_there_is_no_chance_in_it(self) -> None:
        assert share(Sampler(0)) == 0
        assert share(Sampler(100)) == 100

    @pytest.mark.parametrize("ids", [range(1, 20_001), range(0, 20_000 << 40, 1 << 40)])
    def test_ids_that_follow_one_another_are_spread_as_well(self, ids: range) -> None:
        assert share(Sampler(25), ids) == pytest.approx(25, abs=1.2)

    def test_follows_from_the_id_alone_in_every_process(self) -> None:
        code = (
            "from kobs.sampling import Sampler\n"
            "s = Sampler(30)\n"
            "print(''.join(str(int(s.keeps(i))) for i in range(500)))\n"
        )
        seen = {
            subprocess.run(
                [sys.executable, "-c", code],
                cwd=ROOT, check=True, capture_output=True, text=True, timeout=60,
                env={**os.environ, "PYTHONHASHSEED": seed},
            ).stdout.strip()
            for seed in ("1", "2")
        }  # fmt: skip
        sampler = Sampler(30)
        assert seen == {"".join(str(int(sampler.keeps(i))) for i in range(500))}

    @given(st.integers(0, 2**64 - 1), st.floats(0, 100), st.floats(0, 100))
    def test_what_is_kept_at_one_rate_is_kept_at_every_higher_one(
        self, chain: int, one: float, other: float
    ) -> None:
        low, high = sorted((one, other))
        assert Sampler(high).keeps(chain) >= Sampler(low).keeps(chain)

    @given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
    def test_ids_are_mixed_one_to_one(self, one: int, other: int) -> None:
        assert (spread_bits(one) == spread_bits(other)) == (one == other)
        assert 0 <= spread_bits(one) < 2**64

    @pytest.mark.parametrize("severity", list(Severity))
    def test_warn_and_above_of_a_dropped_chain_is_kept_as_partial(self, severity: Severity) -> None:
        expected = PARTIAL if severity >= Severity.WARN else DROP
        assert Sampler(0).decide(Category.IPC, severity) is expected
        assert Sampler(100).decide(Category.IPC, severity) is KEEP

    def test_a_chain_without_an_id_is_left_to_chance(self) -> None:
        sampler = Sampler(50)
        seen = [sampler.decide(Category.IPC, Severity.INFO) for _ in range(4000)]
        assert seen.count(KEEP) == pytest.approx(2000, abs=200)

    def test_a_chain_with_an_id_gets_the_same_answer_every_time(self) -> None:
        sampler = Sampler(50)
        for chain in CHAINS[:100]:
            seen = {sampler.decide(Category.IPC, Severity.INFO, chain) for _ in range(5)}
            assert len(seen) == 1


class TestRates:
    def test_can_be_changed_for_the_chains_that_follow(self) -> None:
        sampler = Sampler(100)
        assert share(sampler) == 100
        sampler.rate = 20
        assert sampler.rate == 20
        assert share(sampler) == pytest.approx(20, abs=1.2)

    def test_a_category_may_have_one_of_its_own(self) -> None:
        sampler = Sampler(10, category_rates={Category.SECURITY: 100})
        assert share(sampler, category=Category.SECURITY) == 100
        assert share(sampler, category=Category.SYSCALL) == pytest.approx(10, abs=1.2)
        sampler.set_category_rate(Category.SYSCALL, 0)
        assert share(sampler, category=Category.SYSCALL) == 0
        assert sampler.category_rates == {Category.SECURITY: 100, Category.SYSCALL: 0}
        sampler.set_category_rate(Category.SECURITY, None)
        assert share(sampler, category=Category.SECURITY) == pytest.approx(10, abs=1.2)

    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (lambda: Sampler(101), "rate=101: expected a number from 0 to 100"),
            (lambda: Sampler(-1), "rate=-1"),
            (lambda: Sampler(float("nan")), "rate=nan"),
            (lambda: Sampler("many"), "rate=many"),  # type: ignore[arg-type]
            (lambda: Sampler(category_rates={Category.IPC: 200}), r"category_rates\[IPC\]=200"),
            (lambda: Sampler(category_rates={99: 2}), "expected one of Category.PROCESS"),  # type: ignore[dict-item]
            (lambda: Sampler(target=0), "target=0: expected a number, above 0, at most 100"),
            (lambda: Sampler(cost_ns=-5), "cost_ns=-5"),
            (lambda: Sampler().update_overhead(-1), "update_overhead=-1: expected a number, 0"),
            (lambda: Sampler().update_overhead(float("nan")), "update_overhead=nan"),
            (lambda: ChainThinner(0), "limit=0: expected an int, 1 or more"),
        ],
    )
    def test_bad_values_are_refused_by_name(self, make: Any, says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            make()


class Load:
    """A program that makes events at a rate per second of CPU time, as long as they are kept."""

    def __init__(self, per_second: float, cost_ns: float) -> None:
        self.per_second = per_second
        self.cost_ns = cost_ns
        self.cpu = 0.0
        self.recorded = 0
        self.sampler = Sampler(
            adaptive=True, cost_ns=cost_ns, events=lambda: self.recorded, cpu_time=lambda: self.cpu
        )

    def run(self, seconds: float) -> float:
        """Overhead over that time, in percent."""
        before = self.recorded
        for _ in range(int(seconds * 10)):
            self.cpu += 0.1
            self.recorded += round(self.per_second / 10 * self.sampler.rate / 100)
            for chain in range(64):  # decisions, so that it looks at the clock
                self.sampler.keeps(chain)
        return (self.recorded - before) * self.cost_ns / 1e9 / seconds * 100


class TestAdaptation:
    @pytest.mark.parametrize("per_second", [1e5, 1e6, 1e7])
    def test_holds_the_overhead_under_the_target(self, per_second: float) -> None:
        load = Load(per_second, cost_ns=1000)
        load.run(3)
        assert load.run(20) <= 1.0
        assert load.sampler.rate < 100

    def test_leaves_the_rate_alone_where_there_is_room(self) -> None:
        load = Load(per_second=1000, cost_ns=1000)
        assert load.run(10) == pytest.approx(0.1)
        assert load.sampler.rate == 100

    def test_uses_the_room_there_is_and_comes_back_when_the_load_goes(self) -> None:
        load = Load(per_second=1e6, cost_ns=1000)
        load.run(5)
        assert load.run(20) > 0.4
        load.per_second = 100
        load.run(20)
        assert load.sampler.rate == 100

    def test_changes_at_most_once_per_second_of_cpu_time(self) -> None:
        load = Load(per_second=1e6, cost_ns=1000)
        rates = []
        for _ in range(50):
            load.run(0.1)
            rates.append(load.sampler.rate)
        changes = sum(one != other for one, other in itertools.pairwise(rates))
        assert 1 <= changes <= 5

    @pytest.mark.parametrize("quiet", [0.1, 0.5, 3])
    def test_a_flood_is_met_before_the_second_ends(self, quiet: float) -> None:
        load = Load(per_second=100, cost_ns=1000)
        load.run(quiet)
        load.per_second = 1e6
        load.run(0.1)
        assert load.sampler.rate == pytest.approx(1.0)

    def test_a_flood_after_a_change_waits_for_the_second_to_end(self) -> None:
        load = Load(per_second=1e6, cost_ns=1000)
        load.run(0.1)
        lowered = load.sampler.rate
        load.per_second = 1e8
        load.run(0.8)
        assert load.sampler.rate == lowered
        load.run(0.3)
        assert load.sampler.rate < lowered

    def test_what_is_no_flood_is_averaged_over_the_second(self) -> None:
        load = Load(per_second=90_000, cost_ns=1000)
        load.run(0.9)
        assert load.sampler.rate == 100
        load.run(0.2)
        assert load.sampler.rate < 100

    def test_without_adaptation_the_rate_stays(self) -> None:
        sampler = Sampler(events=lambda: 10**9, cpu_time=lambda: 1e6)
        for chain in range(1000):
            sampler.keeps(chain)
        assert sampler.rate == 100

    def test_events_can_be_counted_by_hand(self) -> None:
        cpu = [0.0]
        sampler = Sampler(adaptive=True, cost_ns=1000, cpu_time=lambda: cpu[0])
        assert sampler.measure() is None
        sampler.count_events(100_000)
        cpu[0] = 2.0
        assert sampler.measure() == pytest.approx(5.0)
        assert sampler.rate == pytest.approx(20)


class TestUpdateOverhead:
    def test_over_the_target_lowers_all_rates_in_proportion(self) -> None:
        sampler = Sampler(80, category_rates={Category.IPC: 40})
        sampler.update_overhead(4)
        assert sampler.rate == pytest.approx(20)
        assert sampler.category_rates[Category.IPC] == pytest.approx(10)
        assert sampler.overhead == 4

    def test_at_the_target_nothing_changes(self) -> None:
        sampler = Sampler()
        sampler.update_overhead(1.0)
        assert sampler.rate == 100

    def test_well_under_it_goes_back_up_but_never_above_what_was_given(self) -> None:
        sampler = Sampler(60)
        sampler.update_overhead(8)
        low = sampler.rate
        sampler.update_overhead(0)
        assert low < sampler.rate <= 2 * low
        for _ in range(20):
            sampler.update_overhead(0)
        assert sampler.rate == 60

    def test_something_is_always_seen(self) -> None:
        sampler = Sampler()
        for _ in range(50):
            sampler.update_overhead(1e6)
        assert sampler.rate == pytest.approx(0.01)
        off = Sampler(0)
        off.update_overhead(50)
        assert off.rate == 0

    def test_reaches_the_collector(self) -> None:
        with Collector(size=64, sampling=100) as collector:
            collector.update_overhead(4)
            assert collector.sampling_rate() == pytest.approx(25)


class TestCalibration:
    def test_measures_what_an_event_costs(self) -> None:
        sampler = Sampler()
        calls = []
        cost = sampler.calibrate(lambda: calls.append(1), rounds=50)
        assert len(calls) == 250
        assert 1 <= cost == sampler.cost_ns < 1e6

    def test_waits_until_the_first_measurement_is_due(self) -> None:
        calls: list[int] = []
        cpu_time = iter([0.0, 0.9, 1.0, 2.0])
        sampler = Sampler(
            adaptive=True,
            cpu_time=lambda: next(cpu_time),
            calibration=lambda: lambda: calls.append(1),
        )
        assert sampler.measure() is None
        assert calls == []
        assert sampler.measure() is not None
        assert len(calls) == 1000
        assert sampler.measure() is not None
        assert len(calls) == 1000


class TestThinning:
    def test_past_the_limit_what_is_below_info_goes_and_the_rest_is_partial(self) -> None:
        thinner = ChainThinner(limit=10)
        assert {thinner.decide(5, Severity.TRACE) for _ in range(10)} == {KEEP}
        assert thinner.decide(5, Severity.DEBUG) is DROP
        assert thinner.decide(5, Severity.INFO) is PARTIAL
        assert thinner.decide(5, Severity.CRITICAL) is PARTIAL
        assert thinner.dropped == 1

    def test_the_limit_is_10_000_events_a_chain(self) -> None:
        thinner = ChainThinner()
        for _ in range(10_000):
            assert thinner.decide(1, Severity.TRACE) is KEEP
        assert thinner.decide(1, Severity.TRACE) is DROP
        assert thinner.decide(2, Severity.TRACE) is KEEP

    def test_events_of_no_chain_are_never_thinned(self) -> None:
        thinner = ChainThinner(limit=1)
        assert {thinner.decide(0, Severity.TRACE) for _ in range(100)} == {KEEP}

    def test_memory_is_bounded_and_a_busy_chain_is_not_forgotten(self) -> None:
        thinner = ChainThinner(limit=100, chains=64)
        for chain in range(1, 5000):
            thinner.decide(chain, Severity.TRACE)
            thinner.decide(2**63, Severity.TRACE)
            assert len(thinner) <= 64
        assert thinner.decide(2**63, Severity.TRACE) is DROP
