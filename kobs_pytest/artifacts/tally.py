"""What a test did, counted: small enough to send from a worker to its controller, and to add up.

PYTEST_DONT_REWRITE
"""

from collections.abc import Iterable
from math import ceil, exp2
from typing import Any, NamedTuple

from kobs._analysis.histogram import FINEST_SCALE, finest_index
from kobs.events import Event
from kobs.payloads import AnomalyDetected

_SCALE = 4
"""Buckets end 4.4 % above where they begin: 2 ** (2 ** -4)."""
_COARSER = FINEST_SCALE - _SCALE
_RETOLD = {"SyscallSlow", "FileSlow", "OperationSlow", "BudgetExceeded"}
_MOST_NAMES = 200
"""Operations of a test with a name of their own; the durations of others are counted together."""
_MOST_ANOMALIES = 20
OTHER = "(other names)"


class Operation:
    """Durations of one operation, in microseconds."""

    __slots__ = ("buckets", "count", "errors", "maximum", "minimum", "tests", "total", "zeros")

    def __init__(self) -> None:
        self.count = 0
        self.errors = 0
        self.total = 0.0
        self.minimum = float("inf")
        self.maximum = 0.0
        self.zeros = 0
        self.buckets: dict[int, int] = {}
        self.tests = 0
        """In how many tests it was added up."""

    def add(self, us: float) -> None:
        """Count one."""
        self.count += 1
        self.total += us
        self.minimum = min(self.minimum, us)
        self.maximum = max(self.maximum, us)
        if us:
            bucket = finest_index(us) >> _COARSER
            self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        else:
            self.zeros += 1

    def plain(self) -> list[Any]:
        """As plain values, for `merge`."""
        buckets = [[bucket, number] for bucket, number in self.buckets.items()]
        return [
            self.count, self.errors, self.total, self.minimum, self.maximum, self.zeros, buckets,
        ]  # fmt: skip

    def merge(self, plain: list[Any]) -> None:
        """Add what another one counted."""
        count, errors, total, minimum, maximum, zeros, buckets = plain
        self.count += count
        self.errors += errors
        self.total += total
        self.minimum = min(self.minimum, minimum)
        self.maximum = max(self.maximum, maximum)
        self.zeros += zeros
        self.tests += 1
        for bucket, number in buckets:
            self.buckets[bucket] = self.buckets.get(bucket, 0) + number

    def percentile(self, q: float) -> float:
        """The least duration that `q` percent do not exceed (nearest rank), as the middle of its
        bucket; the shortest and the longest are exact."""
        rank = ceil(self.count * q / 100)
        if rank >= self.count:
            return self.maximum
        seen = self.zeros
        for bucket, number in sorted(self.buckets.items()):
            if rank <= seen:
                break
            seen += number
            if rank <= seen:
                middle = exp2((bucket + 0.5) * exp2(-_SCALE))
                return min(max(middle, self.minimum), self.maximum)
        return self.minimum


class Tally(NamedTuple):
    """What a test did, as plain values."""

    operations: list[list[Any]]
    anomalies: list[list[Any]]


def tally(events: Iterable[Event]) -> Tally:
    """Count the durations by operation, and list the anomalies."""
    operations: dict[tuple[str, str], Operation] = {}
    anomalies: list[list[Any]] = []
    for event in events:
        schema = event.type.__kobs_schema__
        if event.type is AnomalyDetected:
            found = event.payload
            anomalies.append(
                [found.metric, found.value, found.expected, found.deviation, found.count, event.pid]
            )
        if schema.duration_field is None or schema.name in _RETOLD:
            continue
        us = event.duration_us
        if us is None or not us >= 0:
            continue
        # A type that is about paths is one operation: by path it would be a list of files.
        name = "" if schema.name_field == "path" else event.name or ""
        key = schema.name, name
        operation = operations.get(key)
        if operation is None:
            if len(operations) >= _MOST_NAMES:
                key = schema.name, OTHER
            operation = operations.setdefault(key, Operation())
        operation.add(us)
        result = getattr(event.payload, "result", None)
        if (result is not None and int(result)) or getattr(event.payload, "status", "") == "error":
            operation.errors += 1
    anomalies.sort(key=lambda one: abs(one[3]), reverse=True)
    listed = [[kind, name, *found.plain()] for (kind, name), found in operations.items()]
    return Tally(listed, anomalies[:_MOST_ANOMALIES])


def added_up(all_facts: Iterable[dict[str, Any]]) -> dict[tuple[str, str], Operation]:
    """The operations of many tests together, by type and name."""
    operations: dict[tuple[str, str], Operation] = {}
    for facts in all_facts:
        for kind, name, *plain in facts.get("operations", ()):
            operations.setdefault((kind, name), Operation()).merge(plain)
    return operations
