"""`overflow="discard"`: the slowest lossless reader loses nothing; new events are dropped."""

import pytest

from kobs.errors import ConfigError


def test_what_a_lossless_reader_has_not_read_is_kept(make, writer, numbers):
    ring = make(64, overflow="discard")
    reader = ring.reader(lossless=True)
    write = writer(ring)
    ids = [write(number) for number in range(100)]
    assert sum(map(bool, ids)) == 64
    assert ring.losses().discarded == 36
    assert numbers(reader.read()) == list(range(64))
    assert reader.lost == 0
    assert [write(number) > 0 for number in range(65)] == [True] * 64 + [False]
    assert numbers(reader.read()) == list(range(64))
    assert ring.losses() == ring.losses()._replace(discarded=37, overwritten=64)


def test_the_slowest_reader_counts(make, writer, numbers):
    ring = make(64, overflow="discard")
    slow, fast = ring.reader(lossless=True), ring.reader(lossless=True)
    write = writer(ring)
    for number in range(64):
        write(number)
    assert len(fast.read()) == 64
    assert write(64) == 0
    assert numbers(slow.read(10)) == list(range(10))
    assert write(65)


def test_without_a_lossless_reader_it_overwrites(make, writer, numbers):
    ring = make(64, overflow="discard")
    plain = ring.reader()
    write = writer(ring)
    for number in range(100):
        assert write(number)
    assert numbers(plain.read()) == list(range(36, 100))
    assert plain.lost == 36
    assert ring.losses().discarded == 0


def test_a_reader_that_closes_holds_up_nobody(make, writer):
    ring = make(64, overflow="discard")
    reader = ring.reader(lossless=True)
    write = writer(ring)
    for number in range(64):
        write(number)
    assert write(64) == 0
    reader.close()
    assert write(65)


def test_a_reader_that_comes_later_loses_nothing_either(make, writer, numbers):
    ring = make(64, overflow="discard")
    write = writer(ring)
    for number in range(50):
        write(number)
    reader = ring.reader(lossless=True, oldest=True)
    for number in range(50, 200):
        write(number)
    assert numbers(reader.read()) == list(range(64))
    assert reader.lost == 0
    assert ring.losses().discarded == 136


def test_lanes_are_held_up_apart(make, writer):
    ring = make(64, overflow="discard")
    reader = ring.reader(lossless=True)
    write = writer(ring)
    for number in range(100):
        write(number)
    assert write(1, lane=1)
    assert reader.pending() == 65


def test_lossless_readers_are_limited_and_the_places_come_back(make):
    ring = make(64, overflow="discard")
    readers = [ring.reader(lossless=True) for _ in range(32)]
    with pytest.raises(ConfigError, match="32 lossless readers"):
        ring.reader(lossless=True)
    readers[5].close()
    ring.reader(lossless=True)


def test_a_closed_ring_gives_out_no_more_tickets(make, writer):
    ring = make(64, overflow="discard")
    write = writer(ring)
    assert write(1)
    ring.close()
    assert write(2) == 0
    assert ring.losses().discarded == 0
