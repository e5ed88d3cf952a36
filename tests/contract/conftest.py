"""The cores that the contract is tested on; each test runs on each of them."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kobs._core import select
from kobs._core.contract import Core, RawSlot, Ring

CORES = ["python", pytest.param("c", marks=pytest.mark.c_core)]


@pytest.fixture(params=CORES)
def core(request: pytest.FixtureRequest) -> Core:
    """The core under test, and nothing else in its place."""
    found = select(request.param)
    assert found.name == request.param
    return found


@pytest.fixture
def make(core: Core) -> Iterator[Callable[..., Ring]]:
    """Makes rings; they are closed after the test."""
    made: list[Ring] = []

    def create(slots: int = 64, **options: Any) -> Ring:
        given: dict[str, Any] = {
            "slots": slots,
            "path": None,
            "overflow": "overwrite",
            "recording": 7,
            "session": "5e" * 16,
            "trace_high": 0x1234,
            "parent_event": 99,
            "sampling_rate": 100.0,
        }
        given.update(options)
        if isinstance(given["path"], Path):
            given["path"] = str(given["path"])
        ring = core.create(**given)
        made.append(ring)
        return ring

    yield create
    for ring in made:
        ring.close()


class Writer:
    """Publishes numbers: what the tests look for in the payload."""

    def __init__(self, ring: Ring, payload_format: str = "Q") -> None:
        self.publish = ring.publisher(payload_format)
        self.time = 0

    def __call__(self, *values: Any, lane: int = 0, timestamp_ns: int | None = None) -> int:
        self.time += 1
        at = self.time if timestamp_ns is None else timestamp_ns
        return self.publish(lane, at, 11, 12, 13, 14, 15, 16, 17, 0x21, 4, 18, *values)


@pytest.fixture
def writer() -> type[Writer]:
    """Makes a `Writer` for a ring."""
    return Writer


def _numbers(slots: list[RawSlot]) -> list[int]:
    """The payloads of events that a `Writer` wrote."""
    return [struct.unpack_from("=Q", slot.data, 64)[0] for slot in slots]


@pytest.fixture
def numbers() -> Callable[[list[RawSlot]], list[int]]:
    """The payloads of events that a `Writer` wrote."""
    return _numbers


@pytest.fixture
def read_all() -> Callable[[Any], list[RawSlot]]:
    """Everything that a reader gives."""
    return _read_all


def _read_all(reader: Any) -> list[RawSlot]:
    """Everything that a reader gives."""
    found: list[RawSlot] = []
    while slots := reader.read():
        found += slots
    return found
