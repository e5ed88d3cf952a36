"""Rings whose tickets are far on: after a thousand million events, where ids and words wrap, and
just below the last ticket that there is."""

from functools import partial

import pytest

from kobs import (
    Collector,
    EventFilter,
    Query,
    Severity,
    collector as collectors,
    open_recording,
)
from kobs._core import layout, select
from kobs.following import RecordingSubscriber
from kobs.ids import TICKET_MASK, split_id
from tests.stress.checked import (
    FORMAT,
    Stressed,
    emit_checked,
    emit_number,
    numbers,
    value_of,
)

STARTS = {
    "10^9": 10**9 - 40,
    "2^31": (1 << 31) - 40,
    "2^32": (1 << 32) - 40,
    "an id's 42 bits": (1 << 42) - 40,
    "2^62": (1 << 62) - 40,
    "the last but 200": layout.MAX_TICKET - 200,
}
SLOTS = 64
COUNT = 3 * SLOTS + 5

first_tickets = pytest.mark.parametrize("first", STARTS.values(), ids=STARTS)


@pytest.fixture
def ring(core, tmp_path):
    """Makes a ring that begins with a ticket."""
    made = []

    def make(first: int, **options):
        given = {
            "slots": SLOTS, "path": str(tmp_path / "a.kobs"), "overflow": "overwrite",
            "recording": 7, "session": "", "trace_high": 0, "parent_event": 0,
            "sampling_rate": 100.0, "first_ticket": first,
        }  # fmt: skip
        made.append(core.create(**given | options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@first_tickets
@pytest.mark.parametrize("keep", [0, 64 << 20], ids=["one ring", "further segments"])
def test_every_reader_sees_every_event_and_counts_what_it_missed(ring, tmp_path, first, keep):
    made = ring(first, keep=keep)
    publish = made.publisher(FORMAT)
    cores = [select(name) for name in ("c", "python")]
    readers = [made.reader(), *(each.attach(made.path).reader() for each in cores)]
    slow = made.reader()
    got = [[] for _ in readers]
    for value in range(COUNT):
        event = emit_number(publish, value)
        assert split_id(event) == (7, 0, (first + value) & TICKET_MASK)
        if value % 30 == 0:
            for found, reader in zip(got, readers, strict=True):
                found += numbers(reader.read())
    for found, reader in zip(got, readers, strict=True):
        found += numbers(reader.read())
        assert found == list(range(COUNT))
        assert (reader.lost, reader.pending()) == (0, 0)
        assert reader.position()[0] == first + COUNT
        reader.seek_oldest()
        kept = COUNT if keep else SLOTS
        assert numbers(reader.read()) == list(range(COUNT - kept, COUNT))
        reader.seek((first + COUNT - 1, first))
        assert numbers(reader.read()) == [COUNT - 1]
        reader.seek_end()
        assert reader.read() == []
    assert numbers(slow.read()) == list(range(COUNT - kept, COUNT))
    assert slow.lost == COUNT - kept
    assert made.produced() == COUNT
    made.close()
    for each in cores:
        attached = each.attach(made.path)
        assert numbers(attached.reader(oldest=True).read()) == list(range(COUNT - kept, COUNT))
        assert (attached.produced(), attached.damage) == (COUNT, [])


@first_tickets
def test_a_full_ring_discards_and_goes_on(ring, first):
    made = ring(first, path=None, overflow="discard")
    publish = made.publisher(FORMAT)
    reader = made.reader(lossless=True)
    expected = got = 0
    for _ in range(3):
        kept = [emit_number(publish, expected + number) for number in range(SLOTS + 7)]
        assert [bool(event) for event in kept] == [True] * SLOTS + [False] * 7
        found = numbers(reader.read())
        assert found == list(range(expected, expected + SLOTS))
        expected += SLOTS
        got += len(found)
    assert (got, reader.lost, made.losses().discarded) == (3 * SLOTS, 0, 21)
    assert made.produced() == 3 * SLOTS


@pytest.fixture
def collector(core, tmp_path, monkeypatch):
    """Makes a collector whose ring begins with a ticket."""
    made = []

    class Far:
        name = core.name

        def __init__(self, first: int) -> None:
            self.create = partial(core.create, first_ticket=first)

    def make(first: int, **options) -> Collector:
        with monkeypatch.context() as patch:
            patch.setattr(collectors, "select", lambda: Far(first))
            made.append(Collector(size=SLOTS, path=tmp_path / "a.kobs", **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@first_tickets
@pytest.mark.parametrize("keep", [0, 64 << 20], ids=["one ring", "further segments"])
def test_what_is_built_on_readers_goes_on_as_well(collector, first, keep):
    made = collector(first, keep=keep)
    emit = made.emitter(Stressed)
    subscriber = made.subscribe()
    warned = made.subscribe(EventFilter().severity(Severity.WARN))
    recording = open_recording(made.path)
    follower = RecordingSubscriber(recording, None, True)
    seen, followed, ids = [], [], []
    scopes = []
    for value in range(COUNT):
        ids.append(emit_checked(emit, value))
        if value % 30 == 0:
            scopes.append(made.emit_begin(Stressed(1, 2, 3, 4), severity=Severity.WARN))
            seen += [value_of(event) for event in subscriber if event.severity < Severity.WARN]
            while (event := follower.next()) is not None:
                if event.severity < Severity.WARN:
                    followed.append(value_of(event))
    assert len(set(ids)) == COUNT
    seen += [value_of(event) for event in subscriber if event.severity < Severity.WARN]
    followed += [value_of(e) for e in iter(follower.next, None) if e.severity < Severity.WARN]
    assert seen == followed == list(range(COUNT))
    assert (subscriber.lost, follower.lost) == (0, 0)
    assert [event.id for event in warned] == [scope.event for scope in scopes]
    assert [entry.event for entry in made.open_events()] == [scope.event for scope in scopes]
    for scope in scopes:
        made.emit_end(scope, Stressed(1, 2, 3, 4), severity=Severity.WARN)
    assert made.open_events() == []

    kept = COUNT if keep else SLOTS
    last = [e for e in made.snapshot() if e.severity < Severity.WARN]
    assert [event.id for event in last] == ids[-kept:]
    result = made.query(Query())
    assert result.count == kept + 2 * len(scopes)
    assert made.stream_stats().events_produced == COUNT + 2 * len(scopes)
    metrics = made.metrics()
    assert metrics.lost == COUNT - kept
    made.reset()
    assert made.snapshot() == []
    emit_checked(emit, 5)
    assert [value_of(event) for event in made.snapshot()] == [5]
    made.close()
    with recording, open_recording(made.path) as whole:
        events = [event for event in whole.snapshot() if event.severity < Severity.WARN]
        assert [value_of(event) for event in events][-2:] == [COUNT - 1, 5]
        assert whole.damage == []
