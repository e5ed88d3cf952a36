"""The C core decides of any chain, in any order of events and changes of rate, what Python does:
the same chains are kept, marked partial, thinned, forgotten, and as many counted."""

from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings, strategies as st

import kobs.gate
from kobs import Category, Collector, ContextSwitch, ProcessCreated, Severity
from kobs._core import select
from kobs.context import Cause, cause
from kobs.errors import ClosedError
from kobs.gate import Gate
from kobs.sampling import ChainThinner, Sampler
from tests.thorough import many

pytest.importorskip("kobs._core._native")


class Owner:
    """A collector as far as its gate sees it."""

    def __init__(self, core: str) -> None:
        self.ring: Any = select(core).create(
            slots=16, path=None, overflow="overwrite", recording=1, session="", trace_high=0,
            parent_event=0, sampling_rate=100.0,
        )  # fmt: skip

    def calibrate(self) -> Any:
        raise AssertionError("nothing is measured here")


def gate_of(core: str, rate: float, adaptive: bool, limit: int, chains: int) -> Gate:
    made = Gate(Owner(core), rate, adaptive=adaptive)  # type: ignore[arg-type]
    made.measured = 0  # type: ignore[attr-defined]

    def measure() -> None:
        made.measured += 1  # type: ignore[attr-defined]

    made.sampler.measure = measure  # type: ignore[assignment, method-assign]
    made._thinner = ChainThinner(limit, chains=chains)
    return made


chains = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 1 << 63, (1 << 64) - 1, 0x123456789ABCDEF])
rates = st.sampled_from([0.0, 0.01, 10.0, 33.3, 50.0, 99.99, 100.0])
severities = st.integers(0, 5)
categories = st.integers(0, 9)
steps = st.one_of(
    st.tuples(
        st.just("decide"),
        severities,
        categories,
        chains,
        st.sampled_from([None, None, True, False]),
    ),
    st.tuples(st.just("decide"), severities, categories, chains, st.none()),
    st.tuples(st.just("sampled"), chains, categories),
    st.tuples(st.just("rate"), rates),
    st.tuples(st.just("category"), categories, st.one_of(st.none(), rates)),
    st.tuples(st.just("overhead"), st.sampled_from([0.0, 0.2, 3.0, 50.0])),
    st.tuples(st.just("adaptive"), st.booleans()),
    st.tuples(st.just("forget")),
)


def take(gate: Gate, step: Any) -> Any:
    kind, *given = step
    if kind == "decide":
        return gate.decider()(*given)
    if kind == "sampled":
        return gate.sampled(*given)
    if kind == "rate":
        gate.sampler.rate = given[0]
    elif kind == "category":
        gate.sampler.set_category_rate(*given)
    elif kind == "overhead":
        gate.sampler.update_overhead(*given)
    elif kind == "adaptive":
        gate.sampler.adaptive = given[0]
    else:
        gate.forget()
    return None


@settings(max_examples=many(150), deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 1, 1, 9]), steps), max_size=60),
    rates, st.booleans(), st.integers(1, 4), st.sampled_from([2, 4, 7, 4096]),
)  # fmt: skip
def test_any_sequence_is_decided_alike(
    run: Any, rate: float, adaptive: bool, limit: int, remembered: int
) -> None:
    with (
        mock.patch.object(kobs.gate, "CHAINS_REMEMBERED", remembered),
        mock.patch.object(kobs.gate, "CHAIN_LIMIT", limit),
        mock.patch.object(kobs.gate, "CHECK_EVERY", 64),
        mock.patch.object(kobs.gate, "CHECK_MS", 0.0),
    ):
        python, c = (gate_of(core, rate, adaptive, limit, remembered) for core in ("python", "c"))
        for times, step in run:
            for _ in range(times):
                assert take(c, step) == take(python, step), step
        assert c.decider() is c._native is not None
        assert python._thinner is not None
        assert c._native.dropped == python._thinner.dropped
        rings = [gate._owner.ring for gate in (python, c)]
        assert rings[0].losses().sampled_out == rings[1].losses().sampled_out
        assert c.measured == python.measured  # type: ignore[attr-defined]
        for ring in rings:
            ring.close()


@pytest.mark.parametrize(("check_ms", "often"), [(0.0, 10), (1e6, 1)])
def test_an_overhead_that_was_looked_at_is_not_looked_at_again_soon(
    check_ms: float, often: int
) -> None:
    with mock.patch.object(kobs.gate, "CHECK_MS", check_ms):
        gate = gate_of("c", 50.0, True, 3, 16)
        for _ in range(10 * kobs.gate.CHECK_EVERY):
            gate.sampled(0, 1)
    assert gate.measured == often  # type: ignore[attr-defined]


@settings(max_examples=many(80), deadline=None)
@given(st.integers(1, (1 << 64) - 1), st.floats(0.0, 100.0))
def test_any_chain_is_kept_at_any_rate_as_the_sampler_says(chain: int, rate: float) -> None:
    gate = gate_of("c", rate, False, 3, 16)
    assert gate.sampled(chain, 2) is Sampler(rate).keeps(chain, 2)


def test_chance_keeps_about_as_many_events_without_a_chain() -> None:
    gate = gate_of("c", 25.0, False, 3, 16)
    kept = sum(gate.sampled(0, 1) for _ in range(20_000))
    assert 4_500 < kept < 5_500


def test_a_closed_gate_lets_nothing_through() -> None:
    gate = gate_of("c", 50.0, False, 3, 16)
    decide = gate.decider()
    gate.close()
    with pytest.raises(ClosedError):
        decide(0, 0, 1, True)


@pytest.mark.parametrize("core", ["python", "c"])
class TestOfACollector:
    def test_the_ambient_cause_decides_and_goes_into_the_header(
        self, core: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KOBS_CORE", core)
        with Collector(size=64, sampling=0) as collector:
            emit = collector.emitter(ContextSwitch)
            token = cause.set(Cause(7, 8, 9, True))
            emit(1, 2, "kept")
            cause.set(Cause(7, 8, 9, False))
            emit(1, 2, "dropped")
            emit(1, 2, "partial", severity=Severity.ERROR)
            cause.set(Cause(10, 8, 9, None))
            emit(1, 2, "dropped")
            cause.reset(token)
            events = collector.snapshot()
            assert [(e.payload.reason, e.partial) for e in events] == [
                ("kept", False), ("partial", True),
            ]  # fmt: skip
            assert [(e.causality_id, e.parent, e.span_id) for e in events] == [(7, 8, 9)] * 2
            assert collector.losses().sampled_out == 2

    def test_what_is_given_goes_before_the_ambient_cause(
        self, core: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KOBS_CORE", core)
        with Collector(size=64) as collector:
            token = cause.set(Cause(7, 8, 9, True))
            collector.emitter(ContextSwitch)(1, 2, "x", causality_id=1, parent=0, span_id=3)
            cause.reset(token)
            [event] = collector.snapshot()
            assert (event.causality_id, event.parent, event.span_id) == (1, 0, 3)

    def test_rates_of_categories_hold(self, core: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KOBS_CORE", core)
        with Collector(size=64) as collector:
            collector.sampler.set_category_rate(Category.SCHEDULER, 0)
            collector.emitter(ContextSwitch)(1, 2, "x", causality_id=5)
            collector.emitter(ProcessCreated)("sh", 1, causality_id=6)
            assert [event.type for event in collector.snapshot()] == [ProcessCreated]
            collector.sampler.set_category_rate(Category.SCHEDULER, None)
            collector.emitter(ContextSwitch)(1, 2, "x", causality_id=5)  # decided already
            collector.emitter(ContextSwitch)(1, 2, "x", causality_id=7)
            assert [event.causality_id for event in collector.snapshot()] == [6, 7]
            collector.reset()
            collector.emitter(ContextSwitch)(1, 2, "x", causality_id=5)
            assert [event.causality_id for event in collector.snapshot()] == [5]
