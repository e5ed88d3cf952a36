"""pytest-xdist: one session, whose events are whose, and what a worker that died left behind."""

import json
import re
from pathlib import Path

import pytest

import kobs
from kobs.cli import origins
from kobs.cli.main import main
from tests.otlp_receivers import HttpReceiver
from tests.thorough import thorough

pytest_plugins = ["pytester"]


def sessions(folder):
    return sorted(path for path in folder.iterdir() if (path / "session.json").exists())


@pytest.fixture
def memory_group():
    """A control group below our own for who is to run out of memory."""
    lines = [line.split(":") for line in Path("/proc/self/cgroup").read_text().splitlines()]
    own = {names: path.lstrip("/") for _, names, path in lines}
    root = Path("/sys/fs/cgroup")
    if "memory" in own:  # version 1
        made, limit = root / "memory" / own["memory"] / "kobs-test", "memory.limit_in_bytes"
    else:
        made, limit = root / own.get("", "") / "kobs-test", "memory.max"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"a control group cannot be made: {error}")
    try:
        (made / limit).write_text(str(200_000_000))
        yield made
    except OSError as error:
        pytest.skip(f"the memory of a control group cannot be limited: {error}")
    finally:
        made.rmdir()


class TestAWorkerThatDies:
    """Of four tests three kill their worker; only those with the fixture are captured."""

    SOURCE = """
import ctypes, os, pathlib, signal
import pytest
import kobs as k

FOLDER = pathlib.Path(__file__).parent
span_operation = k.span_operation

def test_segfault(kobs):
    (FOLDER / "segfault.session").write_text(kobs.collector.session.path)
    for n in range(30):
        kobs.collector.emit(k.MessageSent(n, 1))
    with span_operation("doomed"):
        ctypes.string_at(0)

def test_exit(kobs):
    (FOLDER / "exit.session").write_text(kobs.collector.session.path)
    os._exit(3)

@pytest.fixture
def killer(kobs):
    os.kill(os.getpid(), signal.SIGKILL)

def test_killed(killer): pass

def test_survivor(kobs):
    (FOLDER / "survivor.session").write_text(kobs.collector.session.path)
"""

    def test_has_its_last_events_in_the_report(self, inner, monkeypatch, tmp_path):
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        result = inner(
            self.SOURCE, "-n2", "--dist=worksteal", "-pno:faulthandler", "-pno:asyncio",
            subprocess=True, passed=1, failed=3,
        )  # fmt: skip
        told = re.sub(r"gw\d", "gwN", inner.told(result))
        told = re.sub(r"process \d+", "process P", told)
        assert told.count("kobs: the last events of gwN -") == 3
        # test_segfault: the last of many events, and what was open.
        assert (
            """\
worker gwN (process P), killed by SIGSEGV, in call
33 events of this test, the last 20:
  +T MessageSent(queue_id=11, size=1)
"""
            in told
        )
        assert (
            """\
  +T MessageSent(queue_id=29, size=1)
  +T SpanBegan(name='doomed')
in flight when it ended:
  +T SpanBegan doomed pid=P
"""
            in told
        )
        # test_exit, and test_killed, in which nothing happened.
        told = re.sub(r"'/tmp\S*session'", "PATH", told)
        told = re.sub(r"mode='w', .*\.\.\.$", "mode='w', ...", told, flags=re.M)  # cut by the width
        assert (
            """\
worker gwN (process P), exit code 3, in call
2 events of this test:
  +T FileOpened(path=PATH, mode='w', ...
  +T FileChanged(path=PATH, change='written')
nothing was in flight
"""
            in told
        )
        assert (
            "worker gwN (process P), killed by SIGKILL\n0 events of this test\n"
            "nothing was in flight\n"
        ) in told
        # One session for all, which is gone.
        paths = {path.read_text() for path in inner.pytester.path.glob("*.session")}
        assert len(list(inner.pytester.path.glob("*.session"))) == 3
        assert len(paths) == 1
        assert list(tmp_path.glob("kobs-pytest-*")) == []

    @thorough
    def test_for_lack_of_memory_is_told_so(self, inner, memory_group):
        result = inner(
            "import os\n"
            "def test_it(kobs):\n"
            f"    with open({str(memory_group / 'cgroup.procs')!r}, 'w') as group:\n"
            "        group.write(str(os.getpid()))\n"
            "    kept = [b'x' * 1_000_000 for _ in range(2_000)]\n",
            "-n1", "-pno:asyncio",
            subprocess=True, failed=1,
        )  # fmt: skip
        told = " ".join(inner.told(result).split())
        assert (
            "killed by SIGKILL (out of memory? the kernel ended a process for that since the run "
            "began), in call"
        ) in told

    def test_has_its_open_spans_sent(self, inner):
        receiver = HttpReceiver()
        try:
            inner(
                "import os, kobs\n"
                "def test_dies():\n"
                "    with kobs.span_operation('doomed'): os._exit(1)\n"
                "def test_lives(): pass\n",
                "-n1", f"--kobs-otlp={receiver.url}", "-pno:asyncio",
                subprocess=True, passed=1, failed=1,
            )  # fmt: skip
        finally:
            receiver.close()
        got = receiver.spans
        spans = {span.name.rpartition("::")[2]: span for span in got}
        session = spans["pytest"]
        (above,) = (span for span in got if span.span_id == spans["doomed"].parent_span_id)
        assert (above.name, above.parent_span_id) == ("call", spans["test_dies"].span_id)
        assert (session.status.code, spans["test_lives"].status.code) == (2, 1)
        for name in ("doomed", "test_dies"):
            told = {a.key: a.value.bool_value for a in spans[name].attributes}
            assert told["kobs.unfinished"] is True
            assert spans[name].status.code == 2
        for name in ("test_dies", "test_lives"):
            assert [link.span_id for link in spans[name].links] == [session.span_id]


class TestEveryEvent:
    SOURCE = """
import subprocess, sys
import pytest
import kobs as k

def told(number):
    k.global_collector().emit(k.MessageSent(number, 1))

@pytest.fixture(scope="module")
def wide():
    told(1000)

@pytest.fixture
def own(n):
    told(n)
    yield
    told(n + 200)

@pytest.mark.parametrize("n", range(4))
def test_it(own, n, kobs):
    with kobs.capture():
        told(n + 100)

def test_wide(wide): pass
def test_child():
    code = "import kobs; kobs.global_collector().emit(kobs.MessageSent(2000, 1))"
    subprocess.run([sys.executable, "-c", code], check=True)
def test_fails(): assert 0
def test_after(): pass
"""

    @pytest.mark.parametrize(
        "options",
        [("-n2", "--dist=worksteal", "--maxfail=2"), ("-n1", "--dist=loadfile", "-x")],
        ids=["worksteal", "loadfile"],
    )
    def test_is_one_workers_one_tests_and_one_phases(self, inner, tmp_path, options, capsys):
        inner.pytester.makeconftest(
            """
            import pytest
            @pytest.hookimpl(tryfirst=True)
            def pytest_unconfigure(config):
                if hasattr(config, "workerinput"):  # as pytest-xdist interrupts one that is slow
                    raise KeyboardInterrupt
            """
        )
        inner(
            self.SOURCE, *options, "--kobs", f"--kobs-session={tmp_path}", subprocess=True,
        )  # fmt: skip
        (session,) = sessions(tmp_path)
        with kobs.open_recording(session) as recording:
            events = list(recording.events())
            names = origins.names_by_origin(recording)
            workers = {
                number
                for number in {event.recording for event in events}
                if any(e.recording == number and e.type_name == "TestBegan" for e in events)
            }
            assert [process.state for process in recording.processes if not process.closed] == []
        assert len(workers) == int(options[0][2:])
        sent = [event for event in events if event.type_name == "MessageSent"]
        found = {}
        for event in sent:
            origin = origins.read(event.origin)
            assert origin is not None, event
            assert origin.worker in ("gw0", "gw1")
            name = names[origin.base].partition("::")[2] if origin.base else ""
            found[event.payload.queue_id] = (name, origin.phase)
        expected = {1000: ("", "fixture"), 2000: ("test_child", "call")}
        for n in range(4):
            expected[n] = (f"test_it[{n}]", "setup")
            expected[n + 100] = (f"test_it[{n}]", "call")
            expected[n + 200] = (f"test_it[{n}]", "teardown")
        assert found == expected

        # The command says the same.
        capsys.readouterr()
        assert main(["query", str(session), "--test", "test_it[2]", "--phase", "call", "--type",
                     "MessageSent", "--json"]) == 0  # fmt: skip
        (event,) = json.loads(capsys.readouterr().out)["events"]
        assert event["payload"]["queue_id"] == 102
        assert main(["report", str(session), "--json"]) == 0
        tests = {
            row["nodeid"].partition("::")[2]: row
            for row in json.loads(capsys.readouterr().out)["tests"]
        }
        assert tests["test_it[3]"]["by_phase"] == {"setup": 1, "call": 1, "teardown": 1}
        assert tests["test_fails"]["outcome"] == "failed"
        assert tests["test_child"]["outcome"] == "passed"
        assert {row["worker"] for row in tests.values()} <= {"gw0", "gw1"}


def test_nothing_is_made_or_imported_in_the_controller_where_nobody_asks(
    inner, monkeypatch, tmp_path, clean_environment
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    inner.pytester.makeconftest(
        """
import sys
def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        loaded = [name for name in sys.modules if name.partition(".")[0] == "kobs"]
        print("LOADED", loaded)
"""
    )
    result = inner("def test_it(): pass\n", "-n1", "-s", subprocess=True, passed=1)
    result.stdout.fnmatch_lines(["LOADED [[]]"])
    assert list(tmp_path.glob("kobs*")) == []
    assert not (clean_environment / "kobs").exists()
