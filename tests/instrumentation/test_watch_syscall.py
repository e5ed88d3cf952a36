"""The watch of system calls, with real ones; each core in a process of its own."""

import errno
import os
import select
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

import kobs
from kobs._core import hooking
from kobs.context import Cause, cause
from kobs.levels import Severity
from kobs.payloads import AnomalyDetected, SyscallEnter, SyscallExit, SyscallSlow
from kobs_instrumentation.syscall import SyscallInstrumentor
from kobs_instrumentation.watch import _patch, syscall

early_read = os.read


@pytest.fixture(params=["c", "python"])
def collector(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[kobs.Collector]:
    """A collector that the watch tells, by the hooks of either core."""
    if request.param == "c" and hooking.native is None:
        pytest.skip("the C core is not built here")
    if request.param == "python":
        monkeypatch.setattr(hooking, "native", None)
    with kobs.Collector(size=4096) as made:
        undo = syscall.install(lambda: made)
        yield made
        undo()


def told(collector: kobs.Collector, *names: str) -> list[kobs.Event]:
    """The events of some system calls."""
    return [e for e in collector.snapshot() if getattr(e.payload, "name", "") in names]


def exits(collector: kobs.Collector, *names: str) -> list[tuple[str, str, int]]:
    return [
        (e.payload.name, e.payload.result.name, e.payload.errno)
        for e in told(collector, *names)
        if isinstance(e.payload, SyscallExit)
    ]


@pytest.mark.says("entry, exit and duration")
def test_a_call_that_returns_is_told_with_its_duration(collector: kobs.Collector) -> None:
    reader, writer = os.pipe()
    before = time.monotonic_ns()
    os.write(writer, b"abc")
    assert os.read(reader, 2) == b"ab"
    after = time.monotonic_ns()
    os.close(reader)
    os.close(writer)
    assert exits(collector, "pipe", "write", "read", "close") == [
        (name, "SUCCESS", 0) for name in ("pipe", "write", "read", "close", "close")
    ]
    (event,) = told(collector, "read")
    assert before - 1000 <= event.timestamp_ns <= after + 1000
    assert 0 < event.payload.duration_us <= (after - before) / 1e3 + 1
    assert event.severity is Severity.DEBUG


@pytest.mark.says("errno of failed system calls")
def test_a_call_that_fails_is_told_with_its_error_number(collector: kobs.Collector) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(-1, 1)
    with pytest.raises(FileNotFoundError):
        os.stat("/no/such/file")
    assert exits(collector, "read", "stat") == [
        ("read", "ERROR", errno.EBADF),
        ("stat", "ERROR", errno.ENOENT),
    ]
    assert [e.severity for e in told(collector, "read", "stat")] == [Severity.DEBUG, Severity.WARN][
        ::-1
    ]  # only the first is one that nobody expects, and the lane of warnings comes first


def test_arguments_that_do_not_fit_are_no_system_call(collector: kobs.Collector) -> None:
    with pytest.raises(TypeError):
        os.read()  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="null"):
        os.stat("a\0b")
    with pytest.raises(OverflowError):
        os.read(1 << 100, 1)
    assert told(collector, "read", "stat") == []


@pytest.mark.says("entry, exit and duration", "slow calls")
def test_a_slow_call_is_told_under_its_entry(
    collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    time.sleep(0.11)
    entry, end, slow = sorted(told(collector, "sleep"), key=lambda e: type(e.payload).__name__)
    assert isinstance(entry.payload, SyscallEnter)
    assert isinstance(end.payload, SyscallExit)
    assert isinstance(slow.payload, SyscallSlow)
    assert end.parent == slow.parent == entry.id
    assert entry.timestamp_ns < end.timestamp_ns == slow.timestamp_ns
    assert slow.payload.duration_ms >= 110
    assert slow.payload.threshold_ms == syscall.SLOW_MS
    assert end.payload.duration_us == pytest.approx(slow.payload.duration_ms * 1e3)


def test_waiting_for_whatever_comes_is_not_slow(collector: kobs.Collector) -> None:
    assert select.select([], [], [], 0.11) == ([], [], [])
    entry, end = told(collector, "select")
    assert isinstance(entry.payload, SyscallEnter)
    assert end.payload.duration_us >= 110_000
    assert end.parent == entry.id


def test_an_interrupted_call_is_an_error_without_a_number(collector: kobs.Collector) -> None:
    import signal

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        with pytest.raises(KeyboardInterrupt):
            time.sleep(10)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert exits(collector, "sleep") == [("sleep", "ERROR", 0)]


@pytest.mark.says("anomalies")
def test_anomalies_of_durations_are_found(collector: kobs.Collector) -> None:
    for _ in range(60):
        time.sleep(0)
    time.sleep(0.05)
    found = [e.payload for e in collector.snapshot() if isinstance(e.payload, AnomalyDetected)]
    assert {payload.metric for payload in found} == {"SyscallExit.sleep.duration_us"}


def test_nothing_is_told_after_undo_and_to_a_closed_collector() -> None:
    collector = kobs.Collector(size=64)
    undo = syscall.install(lambda: collector)
    os.getcwd()
    assert exits(collector, "getcwd") == [("getcwd", "SUCCESS", 0)]
    collector.close()
    errors: list[BaseException] = []
    before = _patch.on_error
    _patch.on_error = lambda where, error: errors.append(error)
    try:
        os.getcwd()
        os.getcwd()
    finally:
        _patch.on_error = before
        undo()
    os.getcwd()
    assert errors == []


def test_the_process_wide_collector_may_change() -> None:
    instrumentor = SyscallInstrumentor()
    instrumentor.instrument(skip_dep_check=True)
    try:
        with kobs.Collector(size=64) as one, kobs.Collector(size=64) as two:
            os.getcwd()
            kobs.init_collector(one)
            os.getcwd()
            kobs.init_collector(two)
            os.getcwd()
            os.getcwd()
            kobs.collector.clear_collector()
            os.getcwd()
            assert len(exits(one, "getcwd")) == 1
            assert len(exits(two, "getcwd")) == 2
    finally:
        kobs.collector.clear_collector()
        instrumentor.uninstrument()


def test_a_flood_of_short_calls_is_thinned_and_counted(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for native in {hooking.native, None}:
        monkeypatch.setattr(hooking, "native", native)
        monkeypatch.setattr(syscall, "SHORT_US", 1e6)
        with kobs.Collector(size=8192, adaptive=True) as collector:
            undo = syscall.install(lambda made=collector: made)  # type: ignore[misc]
            zero = os.open("/dev/zero", os.O_RDONLY)
            for _ in range(5000):
                os.read(zero, 1)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.read(-1, 1)
            counted = syscall.calls()["read"]
            undo()
            os.close(zero)
            recorded = exits(collector, "read")
            assert recorded.count(("read", "ERROR", errno.EBADF)) == 1
            assert syscall.SHORTS_A_SECOND <= len(recorded) < 2500
            assert counted.calls == 5001
            assert counted.bytes == 5000
            assert counted.unrecorded == 5001 - len(recorded)
            assert collector.stream_stats().events_sampled_out >= counted.unrecorded


def test_short_calls_of_a_chain_are_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for native in {hooking.native, None}:
        monkeypatch.setattr(hooking, "native", native)
        monkeypatch.setattr(syscall, "SHORT_US", 1e6)
        with kobs.Collector(size=8192, adaptive=True) as collector:
            undo = syscall.install(lambda made=collector: made)  # type: ignore[misc]
            token = cause.set(Cause(7, 0))
            for _ in range(500):
                os.getcwd()
            cause.reset(token)
            undo()
            found = told(collector, "getcwd")
            assert len(found) == 500
            assert {event.causality_id for event in found} == {7}


def test_of_a_dropped_chain_only_what_fails_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for native in {hooking.native, None}:
        monkeypatch.setattr(hooking, "native", native)
        monkeypatch.setattr(syscall, "SHORT_US", 1e6)
        with kobs.Collector(size=8192, adaptive=True) as collector:
            undo = syscall.install(lambda made=collector: made)  # type: ignore[misc]
            token = cause.set(Cause(7, 0, sampled=False))
            for _ in range(500):
                os.getcwd()
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.read(-1, 1)
            cause.reset(token)
            counted = syscall.calls()["getcwd"]
            undo()
            (event,) = [event for event in collector.snapshot() if event.causality_id == 7]
            assert (event.payload.name, event.payload.errno, event.partial) == ("read", 9, True)
            assert (counted.calls, counted.unrecorded) == (500, 500 - syscall.SHORTS_A_SECOND)
            left_out = collector.ring.left_out().sampled_out
            assert left_out[kobs.Category.SYSCALL] == 500


@pytest.mark.c_core
@pytest.mark.skipif(hooking.native is None, reason="the Python core has no such hooks")
def test_sockets_and_early_names_are_seen_with_the_c_core() -> None:
    with kobs.Collector(size=256) as collector:
        undo = syscall.install(lambda: collector)
        one, other = socket.socketpair()
        one.send(b"hello")
        assert other.recv(3) == b"hel"
        with pytest.raises(OSError, match="Bad file descriptor"):
            early_read(-1, 1)
        poll = select.poll()
        poll.register(other, select.POLLIN)
        poll.poll(0)
        counted = syscall.calls()
        undo()
        assert exits(collector, "send", "recv", "poll") == [
            (name, "SUCCESS", 0) for name in ("send", "recv", "poll")
        ]
        assert exits(collector, "read") == [("read", "ERROR", errno.EBADF)]
        assert (counted["send"].bytes, counted["recv"].bytes) == (5, 3)
        one.close()
        other.close()


def test_failures_without_end_do_not_fill_the_lane_of_warnings(collector: kobs.Collector) -> None:
    for _ in range(300):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.close(-1)
    severities = [event.severity for event in told(collector, "close")]
    assert len(severities) == 300
    assert syscall.WARNINGS_A_SECOND <= severities.count(Severity.WARN) < 300


PROGRAM = """
import os, time
from os import read
import json, wave  # files that the interpreter reads are its own
try:
    read(99, 1)
except OSError:
    pass
time.sleep(0.11)
zero = os.open("/dev/zero", os.O_RDONLY)
for _ in range(3000):
    os.read(zero, 1)
"""


@pytest.mark.parametrize("core", ["c", "python"])
def test_a_recorded_program(runner, core: str) -> None:
    script = str(runner.write(PROGRAM))
    runner.adaptive = True
    ran = runner.kobs("--only", "syscall", script, env={"KOBS_CORE": core})
    assert ran.code == 0, ran.err
    events = ran.events(SyscallExit, SyscallSlow)
    slow = [e.payload.name for e in events if isinstance(e.payload, SyscallSlow)]
    assert slow == ["sleep"]
    failed = [e.payload for e in events if getattr(e.payload, "errno", 0) == errno.EBADF]
    assert [p.name for p in failed] == ["read"]
    reads = [e for e in events if e.payload.name == "read"]
    assert 0 < len(reads) < 3000


def test_a_forked_child_records_its_own(runner) -> None:
    ran = runner.script(
        """
        import os
        if os.fork() == 0:
            try:
                os.chdir("/no/such/folder")
            except OSError:
                os._exit(0)
        os.wait()
        os.rmdir
        """
    )
    (event,) = [e for e in ran.events(SyscallExit) if e.payload.name == "chdir"]
    assert event.payload.errno == errno.ENOENT
    (waited,) = [e for e in ran.events(SyscallExit) if e.payload.name == "wait"]
    assert waited.pid != event.pid


def test_the_interpreter_ends_with_the_watch_in_place() -> None:
    program = """
        import os, kobs
        from kobs_instrumentation import registry

        class Late:
            def __del__(self, read=os.read, stat=os.stat):
                stat("/")
                try:
                    read(-1, 1)
                except OSError as error:
                    print("late", error.errno)

        collector = kobs.Collector(size=64)
        registry.enable(collector)
        late = Late()
        late.itself = late
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert (ran.stdout, ran.stderr) == ("late 9\n", "")
