"""Each event of the vocabulary `memory`, each field held against what really happened."""

import gc
import mmap
import time
from typing import Any

import pytest
from minikernel import (
    MemoryManager,
)
from minikernel.memory import OutOfMemory

from kobs import (
    GcPaused,
    MemoryAllocated,
    MemoryFreed,
    MemoryPressure,
    ResourceExhausted,
    Severity,
)

SUBSYSTEM = "memory"
PAGE = mmap.PAGESIZE


def test_MemoryAllocated__the_region_and_its_size(stage: Any) -> None:
    manager = stage.watch(MemoryManager(budget=100 * PAGE))
    regions = [manager.allocate(3 * PAGE), manager.allocate(PAGE)]
    assert manager.regions() == {regions[0]: 3 * PAGE, regions[1]: PAGE}
    manager.free_all()
    assert [event.payload for event in stage.all(MemoryAllocated)] == [
        MemoryAllocated(size=3 * PAGE, region_id=regions[0]),
        MemoryAllocated(size=PAGE, region_id=regions[1]),
    ]


def test_MemoryFreed__what_was_given_back(stage: Any) -> None:
    manager = stage.watch(MemoryManager(budget=100 * PAGE))
    region = manager.allocate(3 * PAGE)
    manager.free(region)
    with pytest.raises(ValueError, match="no region"):
        manager.free(region)  # and no event
    assert stage.one(MemoryFreed).payload == MemoryFreed(size=3 * PAGE, region_id=region)


def test_MemoryPressure__the_levels_as_they_are_crossed(stage: Any) -> None:
    budget = 100 << 20
    manager = stage.watch(MemoryManager(budget=budget))
    manager.check_pressure()
    manager.allocate(76 << 20)
    last = manager.allocate(15 << 20)
    assert manager.used == 91 << 20
    manager.free(last)
    manager.free_all()
    assert [
        (event.payload.usage_pct, event.payload.available_mb, event.severity)
        for event in stage.all(MemoryPressure)
    ] == [
        (0, 100, Severity.INFO),
        (76, 24, Severity.WARN),
        (91, 9, Severity.ERROR),
        (76, 24, Severity.WARN),
        (0, 100, Severity.INFO),
    ]


def test_GcPaused__what_the_collector_found(stage: Any) -> None:
    manager = stage.watch(MemoryManager(budget=PAGE))
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            cycle: list[object] = []
            cycle.append(cycle)
        del cycle
        began = time.perf_counter()
        found = manager.collect(1)
        took_us = (time.perf_counter() - began) * 1e6
    finally:
        gc.enable()
    event = stage.one(GcPaused).payload
    assert event.generation == 1
    assert event.collected == found >= 50
    assert 0 < event.duration_us <= took_us


def test_ResourceExhausted__the_budget_that_ran_out(stage: Any) -> None:
    manager = stage.watch(MemoryManager(budget=10 * PAGE))
    with pytest.raises(OutOfMemory):
        manager.allocate(11 * PAGE)
    event = stage.one(ResourceExhausted)
    assert event.payload == ResourceExhausted("memory", 10 * PAGE)
    assert stage.all(MemoryAllocated) == []


def test_every_event_of_the_vocabulary_has_a_test_of_its_own(unproven: set[str]) -> None:
    assert unproven == set()
