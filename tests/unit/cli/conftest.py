"""Sessions to look at, recorded through the public API, and the command in this process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kobs.cli.main import main
from kobs.collector import Collector
from kobs.context import causal_context
from kobs.events import Category, Event, Severity
from kobs.levels import SyscallResult
from kobs.payloads import (
    AnomalyDetected,
    FileOpened,
    MessageReceived,
    MessageSent,
    PermissionDenied,
    SpanBegan,
    SpanEnded,
    SyscallEnter,
    SyscallExit,
)
from kobs.session import Session

SECOND = 1_000_000_000


class Said(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """stdout's lines."""
        return self.out.splitlines()


Kobs = Callable[..., Said]


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("KOBS_SESSION", "KOBS_DEBUG", "KERNEL_SAMPLING_RATE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Kobs:
    """Runs the command in this process."""

    def run(*arguments: object) -> Said:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return run


@pytest.fixture
def command_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command in a process of its own."""

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        options.setdefault("stdout", subprocess.PIPE)
        return subprocess.run(
            [sys.executable, "-m", "kobs", *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
            **options,
        )

    return run


@pytest.fixture
def session() -> Session:
    """A session that ended in order: three requests, each with system calls and a message to
    another thread; a warning, an anomaly, and a child that was not observed."""
    made = Session.create("shop", ["python", "shop.py", "--fast"])
    with Collector(session=made, size=4096) as collector:
        _shop(collector)
    made.add_unobserved(4711, ["/bin/true", "-x"], "not a Python program")
    made.write_exit(3)
    return made


@pytest.fixture
def quiet_session() -> Session:
    """A session of which nothing is missing."""
    made = Session.create("quiet", ["python", "quiet.py"])
    with Collector(session=made, size=64) as collector:
        for number in range(3):
            collector.emit(_exit("read", 10.0 * number), pid=7)
    made.write_exit(0)
    return made


@pytest.fixture
def killed_session() -> Session:
    """A session whose child was killed while it was in `flock`."""
    made = Session.create("killed", ["python", "killed.py"])
    collector = Collector(session=made, size=64)
    pid = os.fork()
    if pid == 0:
        collector.emit(_exit("read", 5.0))
        collector.emit_begin(SyscallEnter(name="flock"))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    collector.process_created(pid, "worker", 5)
    collector.process_terminated(pid, -9)
    collector.close()
    made.write_exit(0)
    made.info["child"] = pid
    return made


def _exit(name: str, duration_us: float, errno: int = 0) -> SyscallExit:
    result = SyscallResult.ERROR if errno else SyscallResult.SUCCESS
    return SyscallExit(name=name, duration_us=duration_us, result=result, errno=errno)


def _shop(collector: Collector) -> None:
    start = 100 * SECOND
    for number in range(3):
        chain = 0x1000 + number
        at = start + number * SECOND
        scope = collector.emit_begin(
            SpanBegan(name="request"), causality_id=chain, timestamp_ns=at, tid=1
        )
        with causal_context(chain, parent=scope.event):
            collector.emit(_exit("read", 100.0), timestamp_ns=at + 200_000, tid=1)
            collector.emit(_exit("write", 300.0, 5), timestamp_ns=at + 600_000, tid=1)
            collector.emit(
                MessageSent(queue_id="jobs", size=8), link=chain, timestamp_ns=at + 700_000, tid=1
            )
        collector.emit_end(
            scope, SpanEnded(name="request", duration_us=800.0),
            causality_id=chain, timestamp_ns=at + 800_000, tid=1,
        )  # fmt: skip
        received = collector.emit(
            MessageReceived(queue_id="jobs", size=8, wait_time_us=300.0),
            link=chain, causality_id=chain, timestamp_ns=at + 1_000_000, tid=2,
        )  # fmt: skip
        collector.emit(
            FileOpened(path=f"/srv/{number}.txt", mode="w", duration_us=50.0),
            causality_id=chain, parent=received, timestamp_ns=at + 1_100_000, tid=2,
        )  # fmt: skip
    collector.emit(
        Event(
            Severity.WARN, Category.SECURITY, PermissionDenied(operation="open", required="root")
        ),
        timestamp_ns=start + 4 * SECOND,
    )
    collector.emit(
        AnomalyDetected(metric="read.duration_us", value=900.0, expected=100.0, deviation=8.5),
        timestamp_ns=start + 5 * SECOND,
    )
