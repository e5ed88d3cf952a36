"""The collector's methods that make an event do the same in C as they are written in Python."""

import copy
import inspect
import pickle
import sys
from typing import Any
from unittest import mock

import pytest

from kobs import (
    Category,
    Collector,
    ContextSwitch,
    Event,
    MemoryPressure,
    MetricUpdate,
    OperationSlow,
    ProcessCreated,
    ProcessTerminated,
    ResourceReclaimed,
    Severity,
    SyscallExit,
    SyscallResult,
)
from kobs.context import Cause, cause
from kobs.errors import ClosedError

METHODS = (
    "emit", "syscall_exit", "process_created", "process_terminated", "resource_cleanup",
    "memory_pressure", "slow_operation",
)  # fmt: skip
MADE = (
    ContextSwitch, MemoryPressure, MetricUpdate, OperationSlow, ProcessCreated, ProcessTerminated,
    ResourceReclaimed, SyscallExit,
)  # fmt: skip
"""The first event of a type is made in Python anyway."""
CORES = ["python", pytest.param("c", marks=pytest.mark.c_core)]


def written(name: str) -> Any:
    """A method as it is written in Python, whatever stands for it."""
    method = getattr(Collector, name)
    return getattr(method, "__wrapped__", method)


@pytest.fixture(params=CORES)
def collector(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KOBS_CORE", request.param)
    with Collector(size=256) as made:
        for cls in MADE:
            made.emitter(cls)
        yield made


def outcome(collector: Collector, call: Any) -> Any:
    """What a call gives: the event that it made, or its error."""
    subscriber = collector.subscribe()
    try:
        number = call()
    except Exception as error:
        return type(error), str(error), list(subscriber)
    (event,) = subscriber
    assert event.id == number
    told = event.to_dict()
    del told["id"], told["timestamp_ns"]
    return told


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("syscall_exit", (42, "read", 12, True), {}),
    ("syscall_exit", (42, "read", 12.5, False), {"errno": 2}),
    ("syscall_exit", (), {"pid": 1, "name": "read", "duration_us": 1, "ok": True}),
    ("syscall_exit", (42, "read"), {"errno": -1, "ok": False, "duration_us": 3}),
    ("syscall_exit", (42, "read", 12, 1), {}),
    ("syscall_exit", (42, "read", 12, []), {}),
    ("syscall_exit", (None, "read", 12, True), {}),
    ("syscall_exit", (True, "read", 12, True), {}),
    ("syscall_exit", (42, "read", 12, True, 3), {}),
    ("syscall_exit", (42, "read", 12), {}),
    ("syscall_exit", (42, "read", 12, True), {"pid": 3}),
    ("syscall_exit", (42, "read", 12, True), {"link": 3}),
    ("syscall_exit", (-1, "read", 12, True), {}),
    ("syscall_exit", ("42", "read", 12, True), {}),
    ("syscall_exit", (1 << 32, "read", 12, True), {}),
    ("syscall_exit", (42, b"read", 12, True), {}),
    ("syscall_exit", (42, "read", "12", True), {}),
    ("syscall_exit", (42, "read", 12, True), {"errno": 1 << 31}),
    ("syscall_exit", (42, "read", 12, True), {"errno": None}),
    ("syscall_exit", (-1, b"read", "12", True), {"errno": 1 << 31}),
    ("process_created", (42, "sh", 5), {}),
    ("process_created", (42, "sh", 256), {}),
    ("process_created", (42, "sh"), {"priority": 1}),
    ("process_created", (), {"name": "sh", "priority": 5}),
    ("process_terminated", (42, -9), {}),
    ("process_terminated", (42, 1 << 40), {}),
    ("resource_cleanup", (42, "files", 3), {}),
    ("resource_cleanup", (42, "files", -3), {}),
    ("memory_pressure", (75, 10), {}),
    ("memory_pressure", (76, 10), {}),
    ("memory_pressure", (90, 10), {}),
    ("memory_pressure", (91, 10), {}),
    ("memory_pressure", (91,), {"available_mb": 1 << 40}),
    ("memory_pressure", (300, 10), {}),
    ("memory_pressure", (-1, 10), {}),
    ("memory_pressure", (80.0, 10), {}),
    ("memory_pressure", (1 << 70, 10), {}),
    ("memory_pressure", ("80", 10), {}),
    ("slow_operation", ("query", 12.5, 3), {}),
    ("slow_operation", ("query", 12.5, None), {}),
    ("emit", (ProcessCreated("sh", 5),), {}),
    ("emit", (ProcessCreated("sh", 5),), {"pid": 9, "tid": 8, "link": 7, "parent": 6, "flags": 2}),
    ("emit", (ProcessCreated("sh", 5),), {"severity": Severity.ERROR, "causality_id": 5}),
    ("emit", (ProcessCreated("sh", 5),), {"category": Category.IPC, "span_id": 1 << 63}),
    ("emit", (ProcessCreated("sh", 5),), {"pid": None, "link": None, "flags": None}),
    ("emit", (ProcessCreated("sh", 5),), {"pid": -1}),
    ("emit", (ProcessCreated("sh", 5),), {"severity": 99}),
    ("emit", (ProcessCreated("sh", 5),), {"colour": 1}),
    ("emit", (ProcessCreated("sh", 5), 3), {}),
    ("emit", (), {"event": ProcessCreated("sh", 5)}),
    ("emit", (), {}),
    ("emit", (3,), {}),
    ("emit", (MetricUpdate("m", 1.5, {"a": "b"}),), {}),
    ("emit", (object.__new__(ProcessCreated),), {}),
    ("emit", (Event(Severity.WARN, Category.IPC, ProcessCreated("sh", 5)),), {}),
    (
        "emit",
        (
            Event(
                Severity.INFO, Category.IPC, ContextSwitch(1, 2, "await"), pid=3, tid=4,
                causality_id=1 << 60, parent=6, span_id=7, link=8,
            ),
        ),
        {},
    ),
    (
        "emit",
        (Event(Severity.INFO, Category.IPC, ContextSwitch(1, 2, "x"), pid=3, parent=6, link=8),),
        {"pid": 9, "severity": Severity.ERROR, "link": 11, "tid": 0},
    ),
    ("emit", (Event(Severity.INFO, Category.IPC, ContextSwitch(1, 2, "x"), pid=-3),), {}),
    ("emit", (Event(Severity.INFO, Category.IPC, ContextSwitch(1, 2, "x"), link="x"),), {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "keywords"), CALLS)
@pytest.mark.parametrize("ambient", [None, Cause(77, 78, 79, True)])
def test_a_method_does_what_is_written(
    collector: Collector, name: str, args: Any, keywords: Any, ambient: Cause | None
) -> None:
    token = cause.set(ambient)
    try:
        function = written(name)
        expected = outcome(collector, lambda: function(collector, *args, **keywords))
        assert outcome(collector, lambda: getattr(collector, name)(*args, **keywords)) == expected
    finally:
        cause.reset(token)


def test_an_events_time_is_kept_unless_another_is_given(collector: Collector) -> None:
    event = Event(Severity.INFO, Category.IPC, ContextSwitch(1, 2, "x"), timestamp_ns=123)
    subscriber = collector.subscribe()
    collector.emit(event)
    collector.emit(event, timestamp_ns=456)
    collector.emit(event, timestamp_ns=0)
    assert sorted(e.timestamp_ns for e in subscriber) == [123, 123, 456]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_can_be_asked_what_a_function_can(name: str) -> None:
    method, function = getattr(Collector, name), written(name)
    assert inspect.isfunction(method)
    assert inspect.signature(method) == inspect.signature(function)
    assert method.__doc__ == function.__doc__
    assert method.__doc__
    assert method.__qualname__ == f"Emitting.{name}"
    assert method.__module__ == "kobs.emitting"
    assert pickle.loads(pickle.dumps(method)) is method
    assert copy.deepcopy(method) is method


@pytest.mark.parametrize("name", METHODS)
def test_a_bound_method_leaves_out_the_collector(collector: Collector, name: str) -> None:
    parameters = list(inspect.signature(written(name)).parameters)[1:]
    assert list(inspect.signature(getattr(collector, name)).parameters) == parameters
    assert getattr(collector, name) == getattr(collector, name)


def test_a_closed_collector_refuses(collector: Collector) -> None:
    collector.close()
    for call in (
        lambda: collector.syscall_exit(42, "read", 12, True),
        lambda: collector.emit(ContextSwitch(1, 2, "x")),
        lambda: collector.process_created(1, "sh", 2),
    ):
        with pytest.raises(ClosedError):
            call()


def test_a_subclass_overrides(collector: Collector) -> None:
    class Loud(Collector):
        def syscall_exit(self, pid: int, name: str, *args: Any, **keywords: Any) -> int:
            return super().syscall_exit(pid, name.upper(), *args, **keywords)

    with Loud(size=64) as loud:
        for _ in range(2):
            loud.syscall_exit(42, "read", 12, True)
        assert [event.payload.name for event in loud.snapshot()] == ["READ", "READ"]


def test_a_method_can_be_replaced(collector: Collector) -> None:
    collector.syscall_exit(42, "read", 12, True)
    with mock.patch.object(Collector, "syscall_exit", autospec=True, return_value=7) as fake:
        assert collector.syscall_exit(42, "read", 12, True) == 7
        fake.assert_called_once_with(collector, 42, "read", 12, True)
    with mock.patch.object(collector, "emit", return_value=8):
        assert collector.emit(ContextSwitch(1, 2, "x")) == 8
    assert collector.emit(ContextSwitch(1, 2, "x")) != 8


def test_a_copy_of_a_collector_emits_into_the_same_ring(collector: Collector) -> None:
    twin = copy.copy(collector)
    subscriber = collector.subscribe()
    twin.syscall_exit(42, "read", 12, True)
    assert [event.payload.name for event in subscriber] == ["read"]


def test_what_is_no_collector_has_no_emitters() -> None:
    with pytest.raises(AttributeError, match="emitter"):
        Collector.syscall_exit(object(), 42, "read", 12, True)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Collector.syscall_exit()  # type: ignore[call-arg]


def test_no_reference_is_kept_or_lost(collector: Collector) -> None:
    payload = ContextSwitch(1 << 31, 2, "".join(["re", "ason"]))
    event = Event(Severity.INFO, Category.IPC, payload, pid=1 << 30)
    name, emitter = "".join(["na", "me"]), collector.emitter(ContextSwitch)
    watched = (payload, payload.from_pid, event, name, emitter, event.pid, SyscallResult.SUCCESS)

    def calls() -> None:
        for _ in range(300):
            collector.emit(payload)
            collector.emit(event, link=1 << 40)
            collector.syscall_exit(42, name, 12, True)

    calls()
    before = [sys.getrefcount(value) for value in watched]
    calls()
    assert [sys.getrefcount(value) for value in watched] == before
