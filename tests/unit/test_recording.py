"""Recordings and sessions read back: merged by time, with processes, losses and what was in
flight; live, after the end, and damaged."""

import os
import signal
import time
from datetime import timedelta

import pytest

from kobs import (
    Collector,
    EventFilter,
    ProcessCreated,
    ProcessTerminated,
    Query,
    Severity,
    SyscallExit,
    SyscallResult,
    open_recording,
)
from kobs._core.layout import PAGE, SLOT_SIZE, Header, SlotHeader
from kobs.errors import ClosedError, KobsError, RecordingError, SessionError
from kobs.session import Session


@pytest.fixture
def session(tmp_path):
    return Session.create("app.py", ["app.py"], root=tmp_path)


def in_child(work) -> int:
    """Run `work` in a forked child, which is killed by SIGKILL where it returns True; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            if work():
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL)
    return pid


def test_a_single_file_gives_its_events_in_order(tmp_path):
    path = tmp_path / "a.kobs"
    with Collector(size=64, path=path) as collector:
        for number in range(10):
            collector.syscall_exit(7, f"call{number}", number, number % 2 == 0)
        collector.memory_pressure(95, 10)
    with open_recording(path) as recording:
        events = recording.snapshot()
        assert [event.payload.name for event in events[:10]] == [f"call{n}" for n in range(10)]
        assert events[10].severity == Severity.ERROR
        assert events == recording.snapshot(), "each look begins anew"
        (process,) = recording.processes
        assert (process.pid, process.state, process.closed) == (os.getpid(), "exited", True)
        assert recording.session_info["started_wall_ns"] == process.started_wall_ns
        assert (recording.damage, recording.unobserved, recording.open_events()) == ([], [], [])
        assert sum(recording.losses()) == 0
        assert recording.produced() == 11


def test_a_session_merges_its_processes_by_time(session):
    def child() -> bool:
        collector = Collector(session=session, size=64)
        for number in range(20):
            collector.syscall_exit(2, "child", number, True)
        collector.close()
        return False

    collector = Collector(session=session, size=64)
    collector.syscall_exit(1, "before", 1, True)
    pid = in_child(child)
    collector.syscall_exit(1, "after", 1, True)
    collector.emit(ProcessTerminated(exit_code=0), pid=pid)
    collector.close()
    session.write_exit(3)
    with open_recording(session.path) as recording:
        events = recording.snapshot()
        times = [event.timestamp_ns for event in events]
        assert times == sorted(times)
        names = [e.payload.name for e in events if e.type_name == "SyscallExit"]
        assert names == ["before", *["child"] * 20, "after"]
        parent = next(process for process in recording.processes if process.pid == os.getpid())
        # The fork gave the child a recording of its own at once, then it made another.
        children = [process for process in recording.processes if process.pid == pid]
        assert (parent.exit_code, parent.recording) == (3, 1)
        assert {child.exit_code for child in children} == {0}
        assert {child.ppid for child in children} == {os.getpid()}
        assert len({event.id for event in events}) == len(events)
        assert recording.session_info["exit"]["exit_code"] == 3
        assert recording.session_info["command"] == "app.py"


def test_a_killed_process_is_told_with_what_was_in_flight(session):
    def child() -> bool:
        collector = Collector(session=session, size=64)
        done = collector.emit_begin(ProcessCreated(name="done", priority=1))
        collector.emit_end(done, ProcessCreated(name="done", priority=1))
        collector.emit_begin(ProcessCreated(name="unfinished", priority=1), pid=77)
        for number in range(500):
            collector.syscall_exit(1, "flood", number, True)
        return True

    pid = in_child(child)
    with open_recording(session.path) as recording:
        (process,) = recording.processes
        assert (process.pid, process.state, process.closed) == (pid, "killed", False)
        (entry,) = recording.open_events()
        assert (entry.name, entry.type_name, entry.pid) == ("unfinished", "ProcessCreated", 77)
        assert entry.recording == process.recording
        events = recording.snapshot()
        assert len(events) == 64
        assert entry.event not in {event.id for event in events}, "overwritten long ago"
        assert recording.losses().overwritten == 439


def test_a_running_process_is_followed(session):
    collector = Collector(session=session, size=64)
    collector.syscall_exit(1, "early", 1, True)
    with open_recording(session.path) as recording:
        assert recording.running
        assert recording.processes[0].state == "running"
        late = recording.subscribe()
        everything = recording.subscribe(oldest=True)
        warnings = recording.subscribe(EventFilter().severity(Severity.WARN))
        assert [event.payload.name for event in everything] == ["early"]
        assert late.next() is None
        collector.syscall_exit(1, "late", 1, True)
        collector.memory_pressure(80, 1)
        assert [event.type_name for event in late] == ["SyscallExit", "MemoryPressure"]
        assert [event.type_name for event in everything] == ["SyscallExit", "MemoryPressure"]
        assert [event.type_name for event in warnings] == ["MemoryPressure"]
        # A process that begins later is seen as well.
        other = Collector(session=session, size=64)
        other.syscall_exit(1, "other", 1, True)
        assert [event.payload.name for event in late] == ["other"]
        for number in range(200):
            other.syscall_exit(1, f"{number}", 1, True)
        assert len(list(late)) == 64
        assert late.lost == 136
        other.close()
        collector.close()
        late.close()
        with pytest.raises(ClosedError):
            late.next()


def test_follow_ends_when_nothing_runs_or_nothing_comes(session):
    collector = Collector(session=session, size=64)
    collector.syscall_exit(1, "x", 1, True)
    recording = open_recording(session)
    began = time.monotonic()
    assert len(list(recording.follow(timeout=0.05))) == 1
    assert time.monotonic() - began >= 0.05
    stream = recording.follow()
    assert next(stream).payload.name == "x"
    collector.syscall_exit(1, "y", 1, True)
    collector.close()
    assert [event.payload.name for event in stream] == ["y"]
    recording.close()


def test_query_counts_back_from_the_end(tmp_path):
    path = tmp_path / "a.kobs"
    with Collector(size=64, path=path) as collector:
        now = time.monotonic_ns()
        for seconds in (0, 3540, 3600):
            collector.emit(
                SyscallExit("read", 1.0, SyscallResult.SUCCESS),
                timestamp_ns=now + seconds * 1_000_000_000,
                pid=seconds,
            )
    with open_recording(path) as recording:
        assert recording.query(Query().since(timedelta(minutes=5))).count == 2
        assert recording.query(Query().pid(3540)).count == 1


def test_more_than_one_rings_worth_is_read_back(session):
    with Collector(session=session, size=64, keep=1 << 26) as collector:
        for number in range(1000):
            collector.syscall_exit(1, "n", number, True)
    with open_recording(session.path) as recording:
        assert [event.duration_us for event in recording.events()] == list(range(1000))
        assert sum(recording.losses()) == 0
        assert len(recording.processes) == 1


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_read(session):
    paths = []
    for number in range(4):
        with Collector(session=session, size=64) as collector:
            for _ in range(5):
                collector.syscall_exit(number, "n", 1, True)
            paths.append(collector.path)
    os.truncate(paths[0], 100)
    with open(paths[1], "r+b") as file:
        file.write(b"nonsense")
    os.truncate(paths[2], os.path.getsize(paths[2]) - 4096)
    with open_recording(session.path) as recording:
        assert {event.pid for event in recording.events()} == {2, 3}
        damage = recording.damage
        assert len(damage) == 3
        names = [os.path.basename(path) for path in paths]
        assert damage[0].startswith(f"{names[0]}: truncated: 100 bytes")
        assert damage[1].startswith(f"{names[1]}: not a kobs recording")
        assert damage[2].startswith(f"{names[2]}: truncated: ")
        assert all("\n" not in line for line in damage)
        assert len(recording.processes) == 2


def test_scribbled_events_are_left_out_and_counted(tmp_path):
    path = tmp_path / "a.kobs"
    with Collector(size=64, path=path) as collector:
        for number in range(10):
            collector.syscall_exit(1, "n", number, True)
    with open(path, "r+b") as file:
        header = Header.from_buffer_copy(file.read(PAGE))
        file.seek(header.lanes[0].offset + 3 * SLOT_SIZE + SlotHeader.severity_category.offset)
        file.write(b"\xff")
    with open_recording(path) as recording:
        assert len(recording.snapshot()) == 9
        assert recording.damage == ["a.kobs: 1 events could not be decoded"]


def test_a_scribbled_declaration_costs_the_events_of_its_type_and_no_others(tmp_path):
    path = tmp_path / "a.kobs"
    with Collector(size=64, path=path) as collector:
        collector.emit_begin(SyscallExit("read", 1, SyscallResult.SUCCESS))
        collector.emit(ProcessTerminated(exit_code=3), pid=7)
        collector.syscall_exit(1, "n", 1, True)
    whole = path.read_bytes()
    at = whole.index(b'"SyscallExit"')
    path.write_bytes(whole[:at] + b"[" + whole[at + 1 :])
    with open_recording(path) as recording:
        assert [event.type_name for event in recording.events()] == ["ProcessTerminated"]
        (entry,) = recording.open_events()
        assert (entry.name, entry.type_name) == ("read", "?")
        number = SyscallExit.__kobs_schema__.type_id
        assert recording.damage == [
            f"a.kobs: the declaration of payload type {number} makes no sense",
            "a.kobs: 2 events could not be decoded",
        ]


@pytest.mark.parametrize("name", ["none", "empty", "text", "folder"])
def test_what_is_no_recording_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "folder").mkdir()
    with pytest.raises((RecordingError, SessionError)) as caught:
        open_recording(tmp_path / name)
    assert isinstance(caught.value, KobsError)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_a_session_without_recordings_is_empty(session):
    with open_recording(session.path) as recording:
        assert recording.snapshot() == []
        assert recording.processes == []
        assert sum(recording.losses()) == 0
        assert recording.query(Query()).count == 0
        assert not recording.running


def test_a_closed_recording_says_so(session):
    recording = open_recording(session.path)
    recording.close()
    recording.close()
    with pytest.raises(ClosedError, match="open it again"):
        recording.events()
