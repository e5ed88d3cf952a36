"""A collector for spans, outside any chain, where nothing is slow; and what was recorded there."""

from collections.abc import Iterator

import pytest

from kobs import Collector, collector as collectors
from kobs.context import cause
from kobs.events import Event
from kobs.tracing import (
    set_slow_thresholds,
)
from kobs.tracing.records import join_attributes


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector(size=1024, sampling=100) as made:
        monkeypatch.setattr(collectors, "_global", made)
        yield made


@pytest.fixture(autouse=True)
def outside_any_chain() -> Iterator[None]:
    token = cause.set(None)
    yield
    cause.reset(token)


@pytest.fixture(autouse=True)
def default_thresholds() -> Iterator[tuple[float, float]]:
    """Nothing is slow here unless a test says so, however busy the machine is."""
    before = set_slow_thresholds(syscall_ms=1e9, operation_ms=1e9)
    yield before
    set_slow_thresholds(syscall_ms=before[0], operation_ms=before[1])


def named(collector: Collector, *types: str) -> list[Event]:
    return [event for event in collector.snapshot() if event.type_name in types]


def ended(collector: Collector) -> Event:
    (event,) = named(collector, "SpanEnded")
    return event


def attributes_of(collector: Collector, end: Event) -> dict[str, object]:
    records = [
        (event.payload.index, event.payload.data)
        for event in named(collector, "SpanAttributes")
        if event.parent == end.parent
    ]
    return join_attributes(end.payload.attributes, records)
