"""An event is an immutable header with a typed payload."""

import json
import pickle
import sys
from types import FrameType
from typing import Any

import pytest

from kobs import (
    Category,
    Collector,
    Event,
    OperationSlow,
    ProcessCreated,
    Severity,
    SyscallExit,
    SyscallResult,
    causal_context,
)
from kobs.ids import MAX_RECORDING, TICKET_MASK, event_id, mint_id, split_id


def test_severities_are_ordered() -> None:
    assert list(Severity) == sorted(Severity)
    assert [severity.name for severity in Severity] == [
        "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "CRITICAL",
    ]  # fmt: skip


def test_an_event_made_by_hand_is_recorded_as_it_is() -> None:
    with Collector(size=16) as collector:
        made = Event(
            Severity.WARN, Category.RESOURCE, ProcessCreated("sh", 5), pid=42, tid=7,
            timestamp_ns=1_000, causality_id=11, parent=12, span_id=13, link=14,
        )  # fmt: skip
        event_number = collector.emit(made)
        (seen,) = collector.snapshot()
    assert seen.id == event_number != 0
    for field in (
        "severity", "category", "payload", "pid", "tid", "timestamp_ns", "causality_id",
        "parent", "span_id", "link",
    ):  # fmt: skip
        assert getattr(seen, field) == getattr(made, field), field


def test_builders_return_new_events() -> None:
    event = Event(Severity.INFO, Category.PROCESS, ProcessCreated("sh"), pid=1)
    changed = event.with_pid(2).with_causality(3).with_parent(4).with_severity(Severity.ERROR)
    assert (event.pid, event.causality_id, event.parent, event.severity) == (1, 0, 0, Severity.INFO)
    assert (changed.pid, changed.causality_id, changed.parent) == (2, 3, 4)
    assert changed.severity is Severity.ERROR
    assert changed.payload is event.payload


def test_an_event_is_read_only() -> None:
    event = Event(Severity.INFO, Category.PROCESS, ProcessCreated("sh"))
    with pytest.raises(AttributeError, match="with_"):
        event.pid = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del event.pid


def test_a_payload_is_required() -> None:
    with pytest.raises(TypeError, match="expected an instance of a payload type"):
        Event(Severity.INFO, Category.PROCESS, "sh")  # type: ignore[arg-type]


def test_an_event_pickles_and_compares_by_value() -> None:
    with Collector(size=16) as collector:
        collector.emit(ProcessCreated("sh", 5), pid=42)
        (event,) = collector.snapshot()
    again = pickle.loads(pickle.dumps(event))
    assert again == event
    assert hash(again) == hash(event)
    assert event != event.with_pid(1)


def test_a_dictionary_of_an_event_is_json() -> None:
    with Collector(size=16) as collector:
        collector.syscall_exit(42, "read", 12.5, False, errno=4)
        (event,) = collector.snapshot()
    back = json.loads(json.dumps(event.to_dict()))
    assert back["type"] == "SyscallExit"
    assert back["severity"] == "DEBUG"
    assert back["payload"] == {"name": "read", "duration_us": 12.5, "result": "ERROR", "errno": 4}


def test_durations_are_microseconds_whatever_the_field() -> None:
    exited = Event(
        Severity.DEBUG, Category.SYSCALL, SyscallExit("read", 1500, SyscallResult.SUCCESS)
    )
    slow = Event(Severity.WARN, Category.PERFORMANCE, OperationSlow("load", 1.5, 1.0))
    created = Event(Severity.INFO, Category.PROCESS, ProcessCreated("sh"))
    assert (exited.duration_us, slow.duration_us, created.duration_us) == (1500, 1500, None)
    assert (exited.name, slow.name, created.name) == ("read", "load", "sh")


def test_an_id_tells_recording_lane_and_ticket() -> None:
    for parts in ((1, 0, 0), (MAX_RECORDING, 1, TICKET_MASK), (77, 1, 12345)):
        assert split_id(event_id(*parts)) == parts
    assert event_id(1, 0, 0) != 0


def test_minted_ids_are_64_bits_and_differ() -> None:
    ids = {mint_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(0 < number < 1 << 64 for number in ids)


def test_events_carry_the_ambient_cause() -> None:
    with Collector(size=16) as collector:
        with causal_context(99, parent=7, span_id=8):
            collector.emit(ProcessCreated("inside"))
            collector.emit(ProcessCreated("said outright"), causality_id=5, parent=6)
        collector.emit(ProcessCreated("outside"))
        inside, outright, outside = collector.snapshot()
    assert (inside.causality_id, inside.parent, inside.span_id) == (99, 7, 8)
    assert (outright.causality_id, outright.parent) == (5, 6)
    assert (outside.causality_id, outside.parent, outside.span_id) == (0, 0, 0)


@pytest.mark.parametrize("lines", range(1, 6))
def test_a_payload_that_another_decodes_meanwhile(lines: int) -> None:
    """A thread or a signal handler that comes after so many lines of who looks at it first."""
    with Collector(size=64) as collector:
        collector.emit(ProcessCreated("sh", 5))
        (event,) = collector.snapshot()
    seen = 0

    def trace(frame: FrameType, what: str, _: object) -> Any:
        nonlocal seen
        if frame.f_code is not Event.payload.fget.__code__:  # type: ignore[attr-defined]
            return None
        seen += what == "line"
        if seen == lines:
            sys.settrace(None)
            assert event.payload == ProcessCreated("sh", 5)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        payload = event.payload
    finally:
        sys.settrace(before)
    assert payload == ProcessCreated("sh", 5)
    assert seen >= lines
