"""`kobs tail`: following a session from another process."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from kobs.cli import tail
from kobs.collector import Collector
from kobs.payloads import MessageSent, PermissionDenied
from kobs.recording import open_recording
from kobs.schema import Name, PayloadType, event_type
from kobs.session import Session

from .conftest import Kobs, _exit


@pytest.fixture
def live() -> Iterator[tuple[Session, Collector]]:
    """A session that runs."""
    made = Session.create("live", ["live"])
    collector = Collector(session=made, size=1024)
    yield made, collector
    collector.close()


class Tail:
    """`kobs tail` in a process of its own, its lines read as they come."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kobs", "tail", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # A test that waits for a line that never comes fails instead of hanging.
        self._guard = threading.Timer(120, self.process.kill)
        self._guard.start()

    def line(self) -> str:
        """The next line."""
        return self._out.readline().rstrip("\n")

    @property
    def _out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, the rest of its output, stderr."""
        out, err = self.process.communicate()
        self._guard.cancel()
        return self.process.returncode, out, err


def started(*arguments: object) -> Tail:
    """A tail that has shown the newest event there was."""
    return Tail(*arguments)


class TestFollowing:
    def test_shows_events_as_they_come_and_ends_with_the_session(
        self, live: tuple[Session, Collector]
    ) -> None:
        session, collector = live
        collector.emit(_exit("first", 1.0))
        follower = started(session.path)
        assert "name=first" in follower.line()
        collector.emit(_exit("second", 1.0))
        assert "name=second" in follower.line()
        collector.emit(_exit("third", 1.0))
        collector.close()
        session.write_exit(0)
        code, out, err = follower.end()
        assert (code, err) == (0, "")
        assert "name=third" in out

    def test_picks_up_processes_that_begin_later(self, live: tuple[Session, Collector]) -> None:
        session, collector = live
        collector.emit(_exit("first", 1.0))
        follower = started("--json", session.path)
        assert json.loads(follower.line())["recording"] == 1
        child = os.fork()
        if child == 0:
            collector.emit(_exit("child", 1.0))
            os._exit(0)
        os.waitpid(child, 0)
        made = json.loads(follower.line())
        assert (made["payload"]["name"], made["recording"]) == ("child", 2)
        collector.close()
        session.write_exit(0)
        assert follower.end()[0] == 0

    def test_an_interrupt_ends_it_without_a_word(self, live: tuple[Session, Collector]) -> None:
        session, collector = live
        collector.emit(_exit("first", 1.0))
        follower = started(session.path)
        follower.line()
        follower.process.send_signal(signal.SIGINT)
        assert follower.end() == (130, "", "")

    def test_a_reader_that_leaves_ends_it(self, live: tuple[Session, Collector]) -> None:
        session, collector = live
        collector.emit(_exit("first", 1.0))
        follower = started(session.path)
        follower.line()
        follower._out.close()
        while follower.process.poll() is None:
            collector.emit(_exit("more", 1.0))
            try:
                follower.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        follower._guard.cancel()
        assert follower.process.stderr is not None
        assert follower.process.stderr.read() == ""
        assert follower.process.returncode == 0
        follower.process.stderr.close()

    def test_says_what_it_was_too_slow_for(self, live: tuple[Session, Collector]) -> None:
        session, collector = live
        collector.emit(_exit("first", 1.0))
        with open_recording(session) as recording:
            subscriber = recording.subscribe(oldest=True)
            following = tail.follow(recording, subscriber, 5.0)
            first = next(following)
            assert first is not None
            for _ in range(5000):
                collector.emit(_exit("flood", 1.0))
            seen = 0
            for event in following:
                seen += event is not None
                if event is None and seen:
                    break
            assert subscriber.lost > 0
            assert seen + subscriber.lost == 5000
            following.close()
            subscriber.close()


class TestEnded:
    def test_shows_the_newest_events_and_ends(self, command: Kobs, session: Session) -> None:
        said = command("tail", session.path)
        assert said.code == 0
        assert len(said.lines) == 10
        assert "AnomalyDetected" in said.lines[-1]

    def test_all_shows_all(self, command: Kobs, session: Session) -> None:
        assert len(command("tail", "-n", "all", session.path).lines) == 23

    def test_none_shows_none(self, command: Kobs, session: Session) -> None:
        assert command("tail", "-n", "0", session.path).out == ""

    def test_a_recording_that_nobody_writes_any_more_ends_it(
        self, command: Kobs, killed_session: Session
    ) -> None:
        Path(killed_session.path, "exit.json").unlink()
        said = command("tail", "--idle", "0.05", killed_session.path)
        assert said.code == 0
        assert "SyscallEnter {  name=flock" in said.out

    def test_lines_say_when_what_and_how_bad(self, command: Kobs, session: Session) -> None:
        line = next(
            line for line in command("tail", session.path).lines if "PermissionDenied" in line
        )
        time, severity, pid, *rest = line.split()
        assert len(time) == len("14:00:53.808123")
        assert (severity, pid) == ("WARN", str(os.getpid()))
        assert rest == ["PermissionDenied", "operation=open", "required=root"]


class TestConditions:
    @pytest.mark.parametrize(
        ("words", "count"),
        [
            (["category=ipc"], 6),
            (["severity>=warn"], 2),
            (["severity=debug"], 21),
            (["type=SyscallExit", "name=read"], 3),
            (["type=syscallexit,spanended"], 9),
            (["category=ipc", "category=syscall"], 12),
            (["category=ipc,syscall", "severity>=warn"], 0),
            (["pid=1"], 0),
            (["causality=0x1001"], 7),
        ],
    )
    def test_are_all_met(
        self, command: Kobs, session: Session, words: list[str], count: int
    ) -> None:
        said = command("tail", "-n", "all", session.path, "--filter", *words)
        assert len(said.lines) == count

    def test_options_say_the_same(self, command: Kobs, session: Session) -> None:
        said = command("tail", "-n", "all", session.path, "--type", "SyscallExit", "--name", "read")
        assert len(said.lines) == 3

    def test_types_that_only_the_recording_has_are_known(self, tmp_path: Path) -> None:
        program = (
            "from kobs import Category, Collector, event_type\n"
            "@event_type(category=Category.IPC)\n"
            "class OnlyThere:\n"
            "    name: str\n"
            f"with Collector(path={str(tmp_path / 'a.kobs')!r}, size=64) as collector:\n"
            "    collector.emit(OnlyThere(name='x'))\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True)
        follower = Tail(tmp_path / "a.kobs", "--type", "onlythere")
        code, out, err = follower.end()
        assert (code, err) == (0, "")
        assert "OnlyThere  name=x" in out


def test_json_is_an_object_a_line_with_the_keys_of_the_export(
    command: Kobs, session: Session
) -> None:
    from kobs.export.jsonl import to_dict

    said = command("tail", "--json", "-n", "all", session.path)
    with open_recording(session) as recording:
        events = recording.snapshot()
    made = [json.loads(line) for line in said.lines]
    assert [one["id"] for one in made] == [event.id for event in events]
    assert list(made[0]) == list(to_dict(events[0]))


def test_users_own_types_are_shown(command: Kobs, tmp_path: Path) -> None:
    @event_type(category=MessageSent.__kobs_schema__.category)
    class TailedByTest(PayloadType):
        """A user's own type."""

        key: Name

    with Collector(path=tmp_path / "a.kobs", size=64) as collector:
        collector.emit(TailedByTest(key="two words"))
        collector.emit(PermissionDenied(operation="open", required="x" * 300))
    said = command("tail", tmp_path / "a.kobs")
    assert "TailedByTest  key='two words'" in said.out
    assert said.lines[-1].endswith("(cut)")
