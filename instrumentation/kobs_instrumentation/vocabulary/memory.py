"""Vocabulary of `@observe("memory")`: classes that hand out memory.

- `alloc*` `malloc*` `mmap*` `map_*` `reserve*`
  - MemoryAllocated when it returned a region: a number, a name, or an object with region_id, id
    or name
    - `size`: argument size, nbytes, length or the first
    - `region_id`: what was returned
    - pid: argument pid
  - ResourceExhausted when it raised MemoryError
    - `resource`: attribute of the exception, else "memory"
    - `limit`: attribute of the exception, else budget, limit or capacity of the instance, else 0
    - pid: argument pid
- `free*` `dealloc*` `munmap*` `unmap*`
  - MemoryFreed when it was told which region
    - `size`: the number returned, else argument size, else 0
    - `region_id`: argument region_id, region, address or the first
    - pid: argument pid
- `check_pressure*` `pressure*` `*_pressure` `memory_usage*`
  - MemoryPressure when the usage is known; WARN over 75 %, ERROR over 90 %
    - `usage_pct`: the number returned, or its attribute or argument usage_pct or percent
    - `available_mb`: attribute or argument available_mb, else 0
    - pid: argument pid
- `collect*` `gc*` `run_gc*`
  - GcPaused when it returned how many
    - `generation`: argument generation or the first, else 2
    - `duration_us`: measured
    - `collected`: what was returned
"""

from typing import Any

from kobs.events import (
    GcPaused,
    MemoryAllocated,
    MemoryFreed,
    MemoryPressure,
    ResourceExhausted,
    Severity,
)
from kobs.observe import Rule, Vocabulary, raised, returned, this
from kobs_instrumentation.vocabulary.common import (
    at_most_255,
    both,
    combine,
    count_of,
    emission,
    given,
    identifier,
    is_known,
    is_number,
    known,
    number,
    told,
    whole,
)


def pressure_severity(usage_pct: float) -> Severity:
    """INFO, WARN over 75 %, ERROR over 90 %."""
    if usage_pct > 90:
        return Severity.ERROR
    return Severity.WARN if usage_pct > 75 else Severity.INFO


def _freed(result: Any, size: Any) -> int:
    return whole(result if is_number(result) else size) or 0


def _limit(*candidates: Any) -> int:
    return next((int(value) for value in candidates if is_number(value)), 0)


def _out_of_memory(error: Any) -> bool:
    return isinstance(error, MemoryError)


_SIZE = given("size", "nbytes", "length", 0).map(whole)
_REGION = returned(default=None).map(identifier)
_FREED = given("region_id", "region", "address", 0).map(identifier)
_USAGE = told("usage_pct", "percent", plain=True).map(number)
_COLLECTED = returned(default=None).map(count_of)
_PID = given("pid")

VOCABULARY = Vocabulary(
    "memory",
    classes=("*MemoryManager",),
    rules=(
        Rule(
            ("alloc*", "malloc*", "mmap*", "map_*", "reserve*"),
            (
                emission(
                    MemoryAllocated,
                    where=both(known(_SIZE), known(_REGION)),
                    fields={
                        "size": _SIZE,
                        "region_id": _REGION,
                    },
                    pid=_PID,
                ),
                emission(
                    ResourceExhausted,
                    when="raise",
                    where=lambda call: _out_of_memory(call.error),
                    fields={
                        "resource": raised("resource", default="memory"),
                        "limit": combine(
                            _limit,
                            raised("limit", default=None),
                            this("budget", default=None),
                            this("limit", default=None),
                            this("capacity", default=None),
                        ),
                    },
                    pid=_PID,
                ),
            ),
        ),
        Rule(
            ("free*", "dealloc*", "munmap*", "unmap*"),
            (
                emission(
                    MemoryFreed,
                    where=_FREED.map(is_known),
                    fields={
                        "size": combine(_freed, returned(default=None), given("size")),
                        "region_id": _FREED,
                    },
                    pid=_PID,
                ),
            ),
        ),
        Rule(
            ("check_pressure*", "pressure*", "*_pressure", "memory_usage*"),
            (
                emission(
                    MemoryPressure,
                    where=known(_USAGE),
                    fields={
                        "usage_pct": _USAGE.map(at_most_255),
                        "available_mb": told("available_mb", default=0).map(whole),
                    },
                    header={"severity": _USAGE.map(pressure_severity)},
                    pid=_PID,
                ),
            ),
        ),
        Rule(
            ("collect*", "gc*", "run_gc*"),
            (
                emission(
                    GcPaused,
                    where=known(_COLLECTED),
                    fields={
                        "generation": given("generation", 0, default=2).map(at_most_255),
                        "collected": _COLLECTED,
                    },
                ),
            ),
        ),
    ),
)
