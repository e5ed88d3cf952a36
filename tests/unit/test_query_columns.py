"""Reading one field of many events: the same as decoding each, without decoding any."""

from typing import Any

import pytest

from kobs._analysis import columns
from kobs.collector import Collector
from kobs.payloads import (
    FileSlow,
    MessageSent,
    MetricUpdate,
    OperationSlow,
    ProcessCreated,
    ProcessTerminated,
    SchedulerLatency,
    SpanEnded,
    SyscallExit,
    SyscallResult,
)

PAYLOADS = [
    SyscallExit("read", 12.5, SyscallResult.ERROR, 4),
    SyscallExit("write", 0.0, SyscallResult.SUCCESS),
    OperationSlow("job", 3.25, 1.0),
    FileSlow("open", "/a/b", 2.0, 1.0),
    SpanEnded("request", 7.0, "ok", {"a": 1}),
    MessageSent("jobs", 10),
    MessageSent(17, 2**60),
    ProcessCreated("sh", 255),
    ProcessTerminated(-9),
    SchedulerLatency(1.5),
    MetricUpdate("load", 0.5, {"cpu": 0}),
]


@pytest.fixture
def collector() -> Any:
    with Collector(size=64) as made:
        for payload in PAYLOADS:
            made.emit(payload)
        yield made


FIELDS = sorted({field for payload in PAYLOADS for field in payload.__kobs_schema__.field_names})


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_is_what_the_payload_has(collector: Collector, field: str) -> None:
    fresh, decoded = collector.snapshot(), collector.snapshot()
    column = columns.payload_field(field)
    expected = [getattr(event.payload, field, None) for event in decoded]
    assert column.of(fresh) == expected
    assert column.of(decoded) == expected


def test_durations_are_in_microseconds_and_names_as_the_event_says(collector: Collector) -> None:
    fresh, decoded = collector.snapshot(), collector.snapshot()
    assert columns.own_durations().of(fresh) == [event.duration_us for event in decoded]
    names = [name if name is None else str(name) for name in columns.names().of(fresh)]
    assert names == [event.name for event in decoded]


def test_events_of_several_recordings_keep_their_own_names() -> None:
    with Collector(size=64) as one, Collector(size=64) as other:
        for collector, names in ((one, "ab"), (other, "ba")):
            for name in names:
                collector.syscall_exit(1, name, 1.0, True)
        mixed = [
            event for pair in zip(one.snapshot(), other.snapshot(), strict=True) for event in pair
        ]
        assert columns.names().of(mixed) == ["a", "b", "b", "a"]
