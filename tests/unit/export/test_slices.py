"""Slices on tracks: they nest or lie apart, whatever comes."""

from hypothesis import given, strategies as st

from kobs.export.slices import FOREVER, Lane, Lanes, NewTrack, Places
from kobs.export.spool import Spool
from kobs.ids import event_id

SLICES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)), max_size=60)


@given(SLICES)
def test_slices_of_a_track_never_cross(pairs: list[tuple[int, int]]) -> None:
    new_track = NewTrack()
    lanes = Lanes(new_track(), new_track)
    placed: dict[int, list[tuple[int, int]]] = {}
    for start, length in sorted(pairs, key=lambda pair: pair[0] + pair[1]):
        track = lanes.place(start, start + length)
        assert track
        placed.setdefault(track, []).append((start, start + length))
    for slices in placed.values():
        for a, b in slices:
            for c, d in slices:
                assert b <= c or d <= a or (a <= c and d <= b) or (c <= a and b <= d)


@given(SLICES)
def test_ends_on_a_track_never_go_back_in_any_order(pairs: list[tuple[int, int]]) -> None:
    new_track = NewTrack()
    lanes = Lanes(new_track(), new_track)
    last: dict[int, int] = {}
    for start, length in pairs:
        track = lanes.place(start, start + length)
        assert start + length >= last.get(track, 0)
        last[track] = start + length


def test_nested_calls_need_one_track() -> None:
    new_track = NewTrack()
    lanes = Lanes(new_track(), new_track)
    for depth in range(1000):
        assert lanes.place(1000 - depth, 1000 + depth + 1) == 1
    assert not new_track.parents


def test_a_long_row_of_slices_is_forgotten_safely() -> None:
    lane = Lane(1)
    for at in range(20_000):
        assert lane.place(at * 10, at * 10 + 5)
    assert len(lane._starts) <= 8193
    assert not lane.place(2, 300_000), "it would cross what is forgotten"
    assert lane.place(150_000, 300_000)


def test_too_much_overlap_gives_no_track() -> None:
    new_track = NewTrack()
    lanes = Lanes(new_track(), new_track)
    tracks = [lanes.place(at, at + 1000) for at in range(300)]
    assert tracks.count(0) == 300 - 256


def test_unfinished_slices_nest_when_the_innermost_comes_first() -> None:
    new_track = NewTrack()
    lanes = Lanes(new_track(), new_track)
    assert [lanes.place(start, FOREVER) for start in (30, 20, 10)] == [1, 1, 1]


@given(st.lists(st.integers(0, 3000), max_size=100), st.integers(0, 50))
def test_places_are_found_again_in_any_order(tickets: list[int], offset: int) -> None:
    places = Places()
    known = {}
    for number, ticket in enumerate(tickets, 1):
        event = event_id(1 + number % 2, number % 3 % 2, ticket + offset)
        places.put(event, number, ticket)
        known[event] = number, ticket
    for event, place in known.items():
        assert places.get(event) == place
    assert places.get(event_id(9, 0, 1)) is None


def test_tickets_that_are_far_apart_cost_no_memory_between_them() -> None:
    places = Places()
    places.put(event_id(1, 0, 0), 1, 10)
    places.put(event_id(1, 0, 1 << 40), 2, 20)
    places.put(event_id(1, 0, 5), 3, 30)
    assert places.get(event_id(1, 0, 1 << 40)) == (2, 20)
    assert places.get(event_id(1, 0, 5)) == (3, 30)
    assert places.get(event_id(1, 0, 3)) is None


def test_a_spool_gives_packets_by_time_ends_before_begins_the_outermost_begin_first() -> None:
    spool = Spool()
    spool.add(10, b"inner", opens=True, event=1)
    spool.add(20, b"inner ends")
    spool.add(10, b"outer", opens=True, event=2, partner=3)
    spool.add(10, b"end before")
    spool.add(30, b"outer ends")
    assert list(spool.sorted()) == [
        (10, 0, 0, b"end before"),
        (10, 2, 3, b"outer"),
        (10, 1, 0, b"inner"),
        (20, 0, 0, b"inner ends"),
        (30, 0, 0, b"outer ends"),
    ]
    spool.close()


def test_an_empty_spool_gives_nothing() -> None:
    spool = Spool()
    assert list(spool.sorted()) == []
    spool.close()
