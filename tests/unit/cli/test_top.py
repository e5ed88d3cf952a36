"""`kobs top`: the busiest operations."""

import json
import subprocess
import sys
import threading

from kobs.cli.top import Busy
from kobs.collector import Collector
from kobs.recording import open_recording
from kobs.session import Session

from .conftest import Kobs, _exit


def test_once_is_a_table_over_everything(command: Kobs, session: Session) -> None:
    said = command("top", "--once", session.path)
    assert said.code == 0
    rows = {line.split()[0]: line.split() for line in said.lines}
    assert rows["write"][1] == "3"
    assert rows["write"][3] == "3"  # all of them failed
    assert "0 processes running" in said.lines[0]


def test_a_scope_counts_once(command: Kobs, session: Session) -> None:
    found = command("top", "--once", "--json", session.path).json
    assert [row["events"] for row in found["rows"] if row["name"] == "request"] == [3]


def test_sort_and_top(command: Kobs, session: Session) -> None:
    found = command("top", "--once", "--json", "--sort", "p99", "--top", 2, session.path).json
    assert [row["name"] for row in found["rows"]] == ["request", "write"]
    assert found["operations"] == 8


def test_conditions_hold(command: Kobs, session: Session) -> None:
    found = command("top", "--once", "--json", "--category", "ipc", session.path).json
    assert {row["type"] for row in found["rows"]} == {"MessageSent", "MessageReceived"}


def test_a_window_forgets(session: Session) -> None:
    table = Busy(10.0)
    with open_recording(session) as recording:
        for event in recording.events():
            table.see(event)
    assert table.rows("events", 10)["rows"] == []


def test_is_refreshed_while_the_session_runs() -> None:
    made = Session.create("live", ["live"])
    collector = Collector(session=made, size=64)
    collector.emit(_exit("read", 1.0))
    process = subprocess.Popen(
        [sys.executable, "-m", "kobs", "top", "--json", "--every", "0.02", made.path],
        stdout=subprocess.PIPE,
        text=True,
    )
    guard = threading.Timer(120, process.kill)
    guard.start()
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert [row["events"] for row in first["rows"]] == [1]
    collector.emit(_exit("read", 1.0))
    while sum(row["events"] for row in json.loads(process.stdout.readline())["rows"]) < 2:
        pass
    collector.close()
    made.write_exit(0)
    process.stdout.read()
    assert process.wait() == 0
    guard.cancel()
    process.stdout.close()
