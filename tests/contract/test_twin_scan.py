"""Queries and filters say the same of any slots whether the C core looks at them or Python at
events made of them: which match, how many, in what order, and what they amount to."""

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from kobs import (
    AggregationType,
    Category,
    Collector,
    EventFilter,
    MessageSent,
    Query,
    Severity,
    SyscallExit,
    SyscallResult,
    open_recording,
)
from kobs._analysis import scanned
from kobs._analysis.scanned import Scan
from kobs._analysis.stats import DurationStats, Stats
from kobs._core.contract import RawSlot
from kobs.decoder import EventDecoder
from kobs.filters import SlotFilter
from kobs.query import Aggregation
from kobs.session import Session
from tests.thorough import many

from . import twins

_native = pytest.importorskip("kobs._core._native")

FEW = [SyscallExit, MessageSent, twins.TwinOfAllKinds, twins.TwinInNanoseconds]
IDS = [cls.__kobs_schema__.type_id for cls in FEW]
kinds = st.sampled_from(FEW)
pids = st.lists(st.sampled_from([0, 1, 2, -1, 1 << 40]), min_size=1, max_size=3)
names = st.lists(st.sampled_from(["read", "", "12", "7", "?", "🐟"]), min_size=1, max_size=2)
severities = st.sampled_from(list(Severity))
categories = st.lists(st.sampled_from(list(Category)), max_size=6)
AGGREGATIONS = [
    *(kind for kind in AggregationType if kind.value not in ("field_stats", "sum")),
    Aggregation(AggregationType.COUNT, by="pid"),
    Aggregation(AggregationType.DURATION_STATS, by="name"),
    Aggregation(AggregationType.DURATION_STATS, field="size"),
]


def odd(event: Any) -> bool:
    return bool(event.tid % 2)


@st.composite
def queries(draw: Any) -> Query:
    query = Query()
    for method, arguments in draw(
        st.lists(
            st.one_of(
                st.tuples(st.just("category"), categories),
                st.tuples(st.just("severity"), severities.map(lambda level: [level])),
                st.tuples(st.just("pid"), pids),
                st.tuples(st.just("causality"), pids),
                st.tuples(st.just("type"), st.lists(kinds, max_size=3)),
                st.tuples(st.just("name"), names),
                st.tuples(st.sampled_from(["since", "until"]), st.sampled_from([
                    [0], [1], [2], [-1], [1 << 70], [timedelta(microseconds=1)],
                ])),
                st.tuples(st.just("where"), st.just([odd])),
                st.tuples(st.just("limit"), st.sampled_from([[0], [2]])),
                st.tuples(st.just("order_by"), st.sampled_from([["time"], ["pid"], ["type"]])),
                st.tuples(st.just("aggregate"), st.lists(st.sampled_from(AGGREGATIONS))),
            ),
            max_size=5,
        )
    ):  # fmt: skip
        query = getattr(query, method)(*arguments)
    if draw(st.integers(0, 3)) == 0:
        query = query.slower_than(us=draw(st.sampled_from([0.0, 12.5, 1e6])))
    return query


def plain(value: Any) -> Any:
    """What can be compared: nan is not equal to itself."""
    if isinstance(value, Stats):
        numbers = [value.count, value.rejected, value.total, value.mean]
        numbers += [value.percentile(q) for q in (0, 12.5, 50, 95, 99, 100)]
        return (type(value), [None if number != number else number for number in numbers])
    if isinstance(value, dict):
        return [(key, plain(inner)) for key, inner in value.items()]
    return value


def said(result: Any) -> Any:
    events = [repr(event.to_dict()) for event in result.events]  # nan is not equal to itself
    return result.count, result.lost, plain(result.aggregations), events


@settings(max_examples=many(80), deadline=None)
@given(st.lists(twins.slots(types=[*IDS, *IDS, 65_000], small=True), max_size=12), queries())
def test_any_query_says_the_same_of_any_slots(slots: list[RawSlot], query: Query) -> None:
    decoder = twins.decoder()
    events = [event for slot in slots if (event := decoder.decode(slot)) is not None]
    expected = query.run(events, now_ns=1002, lost=3)
    scan = Scan(query, decoder, slots)
    found = scan.found(1002)
    if found is not None:
        assert (found.seen, found.undecoded) == (len(events), [len(slots) - len(events)])
        assert said(scan.result(found, 1002, 3)) == said(expected)


@settings(max_examples=many(60), deadline=None)
@given(
    st.lists(twins.slots(types=[*IDS, 65_000], small=True), max_size=8),
    severities, categories, pids, st.lists(kinds, max_size=2), pids, st.integers(0, 63),
)  # fmt: skip
def test_any_filter_lets_the_same_slots_through(
    slots: list[RawSlot], severity: Severity, categories: list[Category], pids: list[int],
    types: Any, chains: list[int], parts: int,
) -> None:  # fmt: skip
    event_filter = EventFilter()
    for bit, (method, arguments) in enumerate([
        ("severity", [severity]), ("category", categories), ("pid", pids), ("type", types),
        ("causality", chains), ("where", [odd]),
    ]):  # fmt: skip
        if parts >> bit & 1:
            event_filter = getattr(event_filter, method)(*arguments)
    decoder = twins.decoder()
    assert event_filter.native(decoder) is not None
    through = SlotFilter(event_filter, decoder)
    for slot in slots:
        event = decoder.decode(slot)
        wanted = event is not None and event_filter.matches(event)
        assert (through(slot) is not None) is wanted


@settings(max_examples=many(80), deadline=None)
@given(
    st.lists(twins.durations, max_size=60)
    | st.lists(st.sampled_from([1.0, 2.5, 0.1]), max_size=200)
    | st.lists(st.integers(0, 10**7).map(lambda ns: ns / 1000), max_size=400),
    st.lists(st.floats(0, 100) | st.integers(0, 100), max_size=6),
)
def test_any_numbers_have_the_same_sum_and_percentiles(
    values: list[float], percents: list[float]
) -> None:
    python, c = DurationStats(values), DurationStats.of_sample(_native.Sample(values))
    assert (c.count, c.rejected) == (python.count, python.rejected)
    for one, other in [
        (c.total, python.total), (c.mean, python.mean), (c.minimum, python.minimum),
        (c.maximum, python.maximum), (c.p50, python.p50), (c.p95, python.p95), (c.p99, python.p99),
        *((c.percentile(q), python.percentile(q)) for q in percents),
    ]:  # fmt: skip
        assert one == other or (math.isnan(one) and math.isnan(other))
    assert c == python
    assert repr(c) == repr(python) or -0.0 in values or 0.0 in values


def test_numbers_have_no_percentile_past_a_hundred() -> None:
    with pytest.raises(ValueError, match="0 to 100"):
        _native.Sample([1.0]).percentile(101)


def test_the_condition_is_python_s_where_only_it_can_tell() -> None:
    decoder = twins.decoder()
    assert Query().pid(2.0).native(decoder, 0) is None  # type: ignore[arg-type]
    assert Query().until(-5).native(decoder, 0) is None
    assert Query().where(odd).native(decoder, 0) is not None


@pytest.fixture(params=[64, 1024])
def collector(request: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KOBS_CORE", "c")
    with Collector(size=request.param) as made:
        emit = made.emitter(SyscallExit)
        for n in range(500):
            emit(f"call{n % 7}", n / 1000 + n % 3, SyscallResult.SUCCESS, pid=n % 5)
            if n % 10 == 0:
                made.emit(MessageSent("q", n), severity=Severity(n % 6))
        yield made


EVERYTHING = Query().aggregate(*AGGREGATIONS)


def test_a_ring_is_asked_without_making_events(collector: Any, monkeypatch: Any) -> None:
    expected = EVERYTHING.type(SyscallExit).limit(3).run(collector.snapshot())
    plain_query = Query().type(SyscallExit).limit(3).aggregate(AggregationType.DURATION_STATS)
    calls = []
    decode = collector._decoder.decode
    monkeypatch.setattr(
        collector._decoder, "decode", lambda slot: calls.append(slot) or decode(slot)
    )
    result = collector.query(plain_query)
    assert result.aggregations["duration_stats"] == expected.aggregations["duration_stats"]
    assert (result.count, calls) == (expected.count, [])
    assert result.events == expected.events
    assert len(calls) == 3


@pytest.mark.parametrize("query", [
    EVERYTHING, EVERYTHING.severity(Severity.WARN), EVERYTHING.limit(5), EVERYTHING.name("call3"),
    EVERYTHING.where(lambda event: event.pid == 2), EVERYTHING.order_by("duration").limit(4),
    EVERYTHING.slower_than(ms=0.002), Query(), EVERYTHING.since(timedelta(hours=1)),
])  # fmt: skip
def test_a_ring_says_what_its_events_say(collector: Any, query: Query) -> None:
    produced = collector.stream_stats().events_produced
    events = collector.snapshot()
    expected = query.run(events, lost=produced - len(events))
    assert said(collector.query(query)) == said(expected)
    collector.reset()
    assert said(collector.query(query)) == said(query.run([]))
    collector.emit(MessageSent("q", 3))
    assert collector.query(query.aggregate(AggregationType.COUNT)).lost == 0


def test_the_events_of_a_result_are_those_that_were_there_when_it_was_asked(
    collector: Any,
) -> None:
    before = collector.snapshot()
    result = collector.query(Query())
    for n in range(5000):
        collector.emit(MessageSent("later", n))
    assert result.events == before


@pytest.mark.parametrize("query", [EVERYTHING, EVERYTHING.since(timedelta(seconds=5)).limit(2)])
def test_a_recording_says_the_same_with_both_cores(
    tmp_path: Any, monkeypatch: Any, query: Query
) -> None:
    with Collector(path=tmp_path / "a.kobs", size=64) as made:
        emit = made.emitter(SyscallExit)
        for n in range(300):
            emit(f"call{n % 7}", n / 1000, SyscallResult.SUCCESS, severity=Severity(n % 6))
    answers = []
    for core in ("python", "c"):
        monkeypatch.setenv("KOBS_CORE", core)
        with open_recording(tmp_path / "a.kobs") as recording:
            answers.append(said(recording.query(query)))
    assert answers[0] == answers[1]


QUERIES = [
    EVERYTHING, EVERYTHING.since(timedelta(seconds=5)).limit(2), EVERYTHING.name("call3"),
    EVERYTHING.where(lambda event: event.pid == 2), EVERYTHING.order_by("duration").limit(4),
    Query().type(SyscallExit, twins.TwinOfAllKinds).aggregate(AggregationType.BY_TYPE),
]  # fmt: skip


@pytest.fixture
def session(tmp_path: Any) -> Any:
    """Two recordings, one of them in several files, whose events take turns; they number types and
    strings differently."""
    made = Session.create("two", ["two"], root=str(tmp_path))
    one = Collector(session=made, size=64, keep=1 << 26)
    other = Collector(session=made, size=1024)
    other.emitter(MessageSent)
    other.emitter(twins.TwinInNanoseconds)
    for n in range(500):
        number, severity = n % 5, Severity(n % 6)
        collector = one if n * 7 % 5 > 2 else other
        collector.emit(
            SyscallExit(f"call{number}", n / 1000 + n % 3, SyscallResult.SUCCESS),
            severity=severity, pid=number,
        )  # fmt: skip
        if n % 9 == 0:
            collector.emit(MessageSent(n, n), pid=n)
    other.close()
    one.close()
    return made


@pytest.mark.parametrize("query", QUERIES)
def test_a_session_says_the_same_with_both_cores(
    session: Any, monkeypatch: Any, query: Query
) -> None:
    answers = []
    for core in ("python", "c"):
        monkeypatch.setenv("KOBS_CORE", core)
        with open_recording(session.path) as recording:
            assert len(recording.parts) == 2
            answers.append(said(recording.query(query)))
            assert recording.damage == []
    assert answers[0] == answers[1]
    assert answers[0][0] > 0


def test_a_session_is_asked_without_making_events(session: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("KOBS_CORE", "c")
    calls = []
    decode = EventDecoder.decode
    monkeypatch.setattr(
        EventDecoder, "decode", lambda self, slot: calls.append(slot) or decode(self, slot)
    )
    query = Query().type(SyscallExit).aggregate(AggregationType.DURATION_STATS).limit(3)
    with open_recording(session.path) as recording:
        result = recording.query(query.since(timedelta(hours=1)))
        assert result.count == result.aggregations["duration_stats"].count > 300
        assert calls == []
        times = [event.timestamp_ns for event in result.events]
        assert len(calls) == len(times) == 3
        assert times == sorted(times)


def test_more_events_than_can_be_held_are_looked_at_as_they_come(
    session: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("KOBS_CORE", "c")
    with open_recording(session.path) as recording:
        expected = said(recording.query(EVERYTHING))
        monkeypatch.setattr(scanned, "_WHOLE", 499)
        assert said(recording.query(EVERYTHING)) == expected


@pytest.mark.parametrize("query", [*QUERIES, Query().limit(3)])
def test_a_ring_that_goes_on_in_further_files_says_what_its_events_say(
    tmp_path: Any, monkeypatch: Any, query: Query
) -> None:
    monkeypatch.setenv("KOBS_CORE", "c")
    with Collector(path=tmp_path / "a.kobs", size=64, keep=1 << 26) as made:
        emit = made.emitter(SyscallExit)
        for n in range(300):
            emit(f"call{n % 7}", n / 1000, SyscallResult.SUCCESS, pid=n % 5)
        assert made.ring.segmented
        events = made.snapshot()
        assert len(events) == 300
        assert said(made.query(query)) == said(query.run(events))
        made.reset()
        assert said(made.query(query)) == said(query.run([]))


@pytest.mark.parametrize("sources", [
    [], [7], [(1, [])], [(Query().native(twins.decoder(), 0), [7])],
    [(Query().native(twins.decoder(), 0), [[7]])],
])  # fmt: skip
def test_what_is_no_source_is_refused(sources: Any) -> None:
    with pytest.raises(TypeError):
        _native.scan(sources, 0, False, False, False)
