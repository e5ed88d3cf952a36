"""The C core's detector says of any sequence of durations what the Python one says, to the last
bit: which are anomalies, what was expected, how far out, how many were kept back, what was
forgotten."""

import math
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from kobs import AnomalyDetected, Collector, SyscallExit, SyscallResult
from kobs.anomaly import METHODS, Detector, Ewma
from tests.thorough import many

_native = pytest.importorskip("kobs._core._native")

usual = st.floats(8.0, 12.0)
odd = st.one_of(
    st.floats(),
    st.integers(-(1 << 60), 1 << 60),
    st.sampled_from([10.0, 0.0, -0.0, 5e-324, 1e308, -1e308, math.inf, -math.inf, math.nan, 40.0]),
)
values = st.one_of(usual, usual, usual, usual, usual, odd)
steps = st.tuples(
    st.sampled_from([("A", "read"), ("A", "write"), ("A", ""), ("B", "read"), ("B", "x" * 9)]),
    values,
    st.sampled_from([0, 0, 1, 400_000_000, 1_000_000_000, 7_000_000_000]),
)
runs = st.lists(st.tuples(st.sampled_from([1, 1, 5, 40]), steps), max_size=40)


def metric(type_name: str, name: str) -> str:
    return f"{type_name}.{name}"


def both(**options: Any) -> tuple[Detector, Any, list[Any]]:
    told: list[Any] = []

    def tell(type_name: str, name: str, *said: Any) -> None:
        told.append((metric(type_name, name), *said))

    made = Detector(**options).native(_native, tell)
    assert made is not None
    return Detector(**options), made, told


def same(one: object, other: object) -> bool:
    return repr(one) == repr(other)  # nan is not equal to itself, and 0.0 is to -0.0


@settings(max_examples=many(150), deadline=None)
@given(
    runs,
    st.sampled_from([2, 3, 30]),
    st.sampled_from([0.5, 3.0, 3, 1e-9, 6.25]),
    st.sampled_from([2, 3, 4, 1024]),
    st.sampled_from([0.0, 1.0, 2.5]),
)
def test_any_sequence_is_judged_alike(
    run: Any, min_samples: int, threshold: float, max_metrics: int, interval_s: float
) -> None:
    python, c, told = both(
        min_samples=min_samples, threshold=threshold, max_metrics=max_metrics,
        interval_s=interval_s,
    )  # fmt: skip
    analysers = {name: c.of(name) for name in ("A", "B")}
    expected = []
    now = event = 0
    for times, ((type_name, name), value, later) in run:
        for _ in range(times):
            now += later
            event += 1
            anomaly = python.observe(metric(type_name, name), value, now_ns=now)
            if anomaly is not None:
                expected.append((*anomaly[:1], float(value), *anomaly[2:], event))
            analysers[type_name](name, value, event, now_ns=now)
    assert same(told, expected)
    assert (c.suppressed, c.rejected, c.forgotten) == (
        python.suppressed, python.rejected, python.forgotten,
    )  # fmt: skip
    learned = {metric(*key): value for key, value in c.baselines().items()}
    assert learned.keys() == set(python.metrics)
    for name, (count, mean, squares) in learned.items():
        baseline: Any = python.baseline(name)
        assert same((count, mean, squares), (baseline.count, baseline.mean, baseline._squares))


def test_what_was_learned_can_be_forgotten() -> None:
    _, c, _ = both()
    c.of("A")("read", 1.0, 1)
    c.of("A")("read", math.nan, 1)
    assert c.baselines() == {("A", "read"): (1, 1.0, 0.0)}
    c.reset()
    assert (c.baselines(), c.rejected) == ({}, 0)


def test_other_methods_stay_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Detector(method="ewma").native(_native, print) is None
    monkeypatch.setitem(METHODS, "zscore", Ewma)
    assert Detector().native(_native, print) is None


def test_an_error_of_whoever_is_told_comes_through() -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no")

    c: Any = Detector(min_samples=2).native(_native, refuse)
    analyse = c.of("A")
    analyse("read", 1.0, 1)
    analyse("read", 1.0, 2)
    with pytest.raises(RuntimeError, match="no"):
        analyse("read", 9.0, 3)
    assert c.suppressed == 0


@pytest.mark.parametrize("core", ["python", "c"])
def test_an_anomaly_is_an_event_caused_by_the_one_that_set_it_off(
    core: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOBS_CORE", core)
    with Collector(size=1024, threshold=3.0) as collector:
        emit = collector.emitter(SyscallExit)
        for n in range(40):
            emit("read", 10.0 + n % 3, SyscallResult.SUCCESS)
        slow = emit("read", 500, SyscallResult.SUCCESS)
        for _ in range(3):  # kept back: one a second
            emit("read", 9000.0, SyscallResult.SUCCESS)
        told = [event for event in collector.snapshot() if event.type is AnomalyDetected]
        assert [event.parent for event in told] == [slow]
        assert told[0].payload.metric == "SyscallExit.read.duration_us"
        assert (told[0].payload.value, told[0].payload.count) == (500.0, 1)
        collector.reset()
        emit("read", 500, SyscallResult.SUCCESS)
        assert [event.type for event in collector.snapshot()] == [SyscallExit]
