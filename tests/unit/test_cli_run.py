"""`kobs run`: its options, its errors, and that it stands between nobody and their signals."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kobs
from kobs.cli.run import run
from kobs.session import Session

WAIT_S = 120


def kobs_run(*args: str, folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    return subprocess.run(
        [sys.executable, "-m", "kobs", "run", *args],
        capture_output=True, text=True, timeout=WAIT_S, cwd=folder, env=env, **options,
    )  # fmt: skip


@pytest.fixture
def script(tmp_path: Path):
    def write(source: str) -> str:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(source))
        return str(path)

    return write


class TestWhatIsRun:
    def test_a_script_with_its_arguments(self, tmp_path: Path, script) -> None:
        path = script("import sys; print(sys.argv[1:])")
        done = kobs_run(path, "--only", "-m", "--", "x", folder=tmp_path)
        assert (done.returncode, done.stdout) == (0, "['--only', '-m', '--', 'x']\n")

    def test_a_module(self, tmp_path: Path) -> None:
        (tmp_path / "mod.py").write_text("import sys; print(__name__, sys.argv[1:])")
        done = kobs_run("-q", "-m", "mod", "--keep", "1", folder=tmp_path)
        assert (done.stdout, done.stderr) == ("__main__ ['--keep', '1']\n", "")

    def test_a_command(self, tmp_path: Path) -> None:
        done = kobs_run("-q", "--", "sh", "-c", 'echo "$0" "$1"; exit 9', "a", "b", folder=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (9, "a b\n", "")

    def test_a_folder_with_a_main_module(self, tmp_path: Path) -> None:
        (tmp_path / "app").mkdir()
        (tmp_path / "app" / "__main__.py").write_text("print('main')")
        assert kobs_run("-q", "app", folder=tmp_path).stdout == "main\n"


class TestTheSession:
    def test_lies_below_the_state_folder_and_is_named_on_stderr(
        self, tmp_path: Path, script
    ) -> None:
        done = kobs_run(script("pass"), folder=tmp_path)
        (session,) = (tmp_path / "state" / "kobs").iterdir()
        assert done.stderr == f"kobs: recorded {session}\n"
        assert session.stat().st_mode & 0o777 == 0o700
        assert {p.stat().st_mode & 0o777 for p in session.iterdir()} == {0o600}

    def test_says_what_was_run_and_how_it_ended(self, tmp_path: Path, script) -> None:
        path = script("import sys; sys.exit(3)")
        kobs_run("-q", "-o", "out", path, "x", folder=tmp_path)
        session = Session.open(tmp_path / "out")
        assert session.info["command"] == "program"
        assert session.info["argv"] == [sys.executable, path, "x"]
        assert session.info["cwd"] == str(tmp_path)
        assert session.exit is not None
        assert (session.exit["exit_code"], session.exit["signal"]) == (3, None)
        assert session.exit["ended_monotonic_ns"] > session.info["started_monotonic_ns"]

    def test_takes_an_empty_folder_that_is_there(self, tmp_path: Path, script) -> None:
        (tmp_path / "out").mkdir()
        assert kobs_run("-q", "-o", "out", script("pass"), folder=tmp_path).returncode == 0
        Session.open(tmp_path / "out")

    def test_of_a_program_killed_by_a_signal(self, tmp_path: Path, script) -> None:
        path = script("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        done = kobs_run("-q", "-o", "out", path, folder=tmp_path)
        assert done.returncode == -signal.SIGKILL
        info = json.loads((tmp_path / "out" / "exit.json").read_text())
        assert (info["exit_code"], info["signal"]) == (None, 9)

    def test_lists_a_command_that_is_not_python(self, tmp_path: Path) -> None:
        kobs_run("-q", "-o", "out", "--", "true", folder=tmp_path)
        (entry,) = Session.open(tmp_path / "out").unobserved()
        assert (entry["argv"], entry["reason"]) == (["true"], "not Python")

    def test_lists_a_python_that_cannot_be_watched(self, tmp_path: Path) -> None:
        kobs_run("-q", "-o", "out", "--", sys.executable, "-I", "-c", "pass", folder=tmp_path)
        (entry,) = Session.open(tmp_path / "out").unobserved()
        assert "-I" in entry["reason"]


class TestWrongUse:
    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["--only", "proces", "program.py"], ["'proces'", "process", "vfs", "queue"]),
            (["--except", "gui", "program.py"], ["'gui'", "process"]),
            (["--keep", "much", "program.py"], ["'much'", "1GB"]),
            (["--keep", "12", "program.py"], ["'12'", "1MB"]),
            (["--sampling", "101", "program.py"], ["'101'", "0 to 100"]),
            (["--rate", "ips=5", "program.py"], ["--rate", "'ips'", "ipc", "filesystem"]),
            (["--rate", "ipc=often", "program.py"], ["--rate", "often", "0 to 100"]),
            (["--hide", "fil:/tmp/*", "program.py"], ["--hide", "'fil'", "file", "FileOpened"]),
            (["--hide", "file:", "program.py"], ["--hide", "empty", "file:/tmp/*"]),
            (["--nonsense", "program.py"], ["--nonsense"]),
            ([], ["nothing to run"]),
            (["-m"], ["nothing to run"]),
            (["--"], ["nothing to run"]),
        ],
    )
    def test_is_told_with_what_is_allowed_and_exit_code_2(
        self, tmp_path: Path, script, args: list[str], words: list[str]
    ) -> None:
        script("print('ran')")
        done = kobs_run(*args, folder=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert all(word in done.stderr.splitlines()[-1] for word in words), done.stderr

    @pytest.mark.parametrize(
        ("args", "code", "words"),
        [
            (["missing.py"], 127, "missing.py: no such file"),
            (["sh"], 127, "kobs run -- sh"),
            (["--", "no-such-command"], 127, "no-such-command"),
            (["--", "./data"], 126, "./data: Permission denied"),
            (["-o", "full", "program.py"], 1, "not empty"),
            (["-o", "/proc/x/y", "program.py"], 1, "/proc/x"),
        ],
    )
    def test_what_cannot_be_run_or_written_is_one_line(
        self, tmp_path: Path, script, args: list[str], code: int, words: str
    ) -> None:
        script("print('ran')")
        (tmp_path / "data").write_text("data")
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").write_text("mine")
        done = kobs_run(*args, folder=tmp_path)
        assert (done.returncode, done.stdout) == (code, "")
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert (tmp_path / "full" / "file").read_text() == "mine"

    def test_run_returns_the_code_to_a_caller(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert run(["--sampling", "-3", "x.py"]) == 2
        assert run(["missing.py"]) == 127
        assert "Traceback" not in capfd.readouterr().err


class Recorded:
    """A program under `kobs run` that is talked to line by line."""

    def __init__(self, folder: Path, path: str, **options: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kobs", "run", "-q", "-o", "session", path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, **options,
        )  # fmt: skip

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        self.process.stdin.close()
        code = self.process.wait(WAIT_S)
        self.process.stdout.close()
        return code


COUNTS = """
    import os, select, signal, sys
    seen = []
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH"):
        signal.signal(getattr(signal, name), lambda number, frame: os.write(1, b"%d\\n" % number))
    os.write(1, b"%d\\n" % os.getpid())  # print is not reentrant, a handler may come at any time
    while not select.select([0], [], [], 0.05)[0]: pass  # a read might begin after the signal came
    os.write(1, b"end\\n")
    sys.exit(7)
    """


class TestSignals:
    @pytest.fixture
    def recorded(self, tmp_path: Path, script) -> Iterator[Recorded]:
        made = Recorded(tmp_path, script(COUNTS), start_new_session=True)
        made.pid = int(made.line())
        yield made
        if made.process.poll() is None:
            made.process.kill()
            os.kill(made.pid, signal.SIGKILL)
        if not made.process.stdout.closed:
            made.end()

    @pytest.mark.parametrize(
        "number",
        [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
         signal.SIGUSR2, signal.SIGWINCH],
    )  # fmt: skip
    def test_sent_to_kobs_run_reaches_the_program_once(
        self, recorded: Recorded, number: signal.Signals
    ) -> None:
        recorded.process.send_signal(number)
        assert recorded.line() == str(int(number))
        recorded.process.stdin.close()
        assert recorded.line() == "end"
        assert recorded.end() == 7

    def test_sent_by_the_program_to_its_own_group_is_not_doubled(
        self, tmp_path: Path, script
    ) -> None:
        path = script("""
            import os, signal, time
            seen = []
            signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
            os.killpg(0, signal.SIGTERM)
            time.sleep(0.3)  # a second one would come from another process: nothing to wait for
            print(len(seen))
            """)
        done = kobs_run("-q", path, folder=tmp_path, start_new_session=True)
        assert (done.returncode, done.stdout) == (0, "1\n")

    def test_that_the_program_does_not_handle_ends_both_alike(self, tmp_path: Path, script) -> None:
        path = script("import sys; print('up', flush=True); sys.stdin.read()")
        made = Recorded(tmp_path, path)
        assert made.line() == "up"
        made.process.send_signal(signal.SIGTERM)
        assert made.end() == -signal.SIGTERM

    def test_ignored_by_who_starts_it_stays_ignored(self, tmp_path: Path, script) -> None:
        path = script("import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)")
        done = kobs_run(
            "-q", path, folder=tmp_path,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        )  # fmt: skip
        assert done.stdout == "True\n"

    def test_stop_and_continue_act_on_both(self, tmp_path: Path, script) -> None:
        path = script("""
            import os, signal, sys
            print("up", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
            print("on", flush=True)
            """)
        made = Recorded(tmp_path, path)
        assert made.line() == "up"
        _, status = os.waitpid(made.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        made.process.send_signal(signal.SIGCONT)
        assert made.line() == "on"
        assert made.end() == 0

    def test_from_the_terminal_comes_once(self, tmp_path: Path, script) -> None:
        path = script("""
            import signal, sys
            seen = []
            signal.signal(signal.SIGINT, lambda *_: seen.append(1))
            print("up", flush=True)
            while not seen: signal.sigtimedwait([signal.SIGUSR2], 0.05)  # no pause: it is a race
            signal.sigtimedwait([signal.SIGUSR2], 0.3)
            print("seen", len(seen), flush=True)
            """)
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(tmp_path)
            os.execv(
                sys.executable, [sys.executable, "-m", "kobs", "run", "-q", "-o", "session", path]
            )
        try:
            assert "up" in _read_until(terminal, "up")
            os.write(terminal, b"\x03")
            assert "seen 1" in _read_until(terminal, "seen 1")
            assert os.waitpid(pid, 0)[1] == 0
        finally:
            os.close(terminal)


STOPS = """
    import os, signal, sys
    number = int(sys.stdin.readline())
    send = os.kill if number == signal.SIGSTOP else os.killpg
    for count in range({times}):
        os.write(1, b"%d %d\\n" % (count, os.getpid()))
        send(os.getpid() if send is os.kill else 0, number)
    os.write(1, b"end\\n")
    """


class TestStops:
    """What a shell sees where its job stops: `kobs run` stops with the program, and for nothing
    else. The session is the one of this process, and the group one of its own, as of a shell's
    job."""

    @pytest.fixture
    def start(self, tmp_path: Path, script) -> Iterator[Callable[[str], Recorded]]:
        started = []

        def start(source: str) -> Recorded:
            started.append(Recorded(tmp_path, script(source), process_group=0))
            return started[0]

        yield start
        (made,) = started
        if made.process.poll() is None:
            os.killpg(made.process.pid, signal.SIGKILL)
            made.end()

    @pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN])
    def test_each_stop_is_one_however_soon_after_the_continue(self, start, number: int) -> None:
        """Of the program alone (SIGSTOP), or of the group, as by a terminal. The program stops
        again long before `kobs run` has noticed that both were continued."""
        times = 50
        made = start(STOPS.format(times=times))
        made.say(str(int(number)))
        for count in range(times):
            _, status = os.waitpid(made.process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status), f"of {times} stops, {times - count} were lost"
            said, pid = made.line().split()
            assert (int(said), _state(int(pid))) == (count, "T")
            os.killpg(made.process.pid, signal.SIGCONT)
        assert made.line() == "end"
        assert made.end() == 0

    def test_one_for_a_program_that_ends_of_it_stops_nothing(self, start) -> None:
        made = start("""
            import os, signal
            from kobs.cli import run
            def both_at_once(program, pid, session):
                os.kill(os.getpid(), signal.SIGTSTP)
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            run._note_unobserved = both_at_once
            os._exit(run.run(["-q", "-o", "inner", "--", "sh", "-c", "exit 3"]))
            """)
        assert made.end() == 3


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _read_until(terminal: int, word: str) -> str:
    found = ""
    end = time.monotonic() + WAIT_S
    while word not in found and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                found += os.read(terminal, 4096).decode()
            except OSError:  # the other end is gone
                break
    return found


_COLLECTED = {"GcPaused", "MetricUpdate"}
"""What a collection is told by: on a machine that stalls one at the start takes long, and
free-threaded Python has one in any case."""


class TestOptions:
    def test_only_some_subsystems(self, tmp_path: Path, script) -> None:
        path = script("import os, subprocess; open('x', 'w').close(); subprocess.run(['true'])")
        kobs_run("-q", "-o", "a", "--only", "vfs", path, folder=tmp_path)
        kobs_run("-q", "-o", "b", "--except", "vfs,queue,syscall,scheduler", path, folder=tmp_path)
        assert _types(tmp_path / "a") == {"FileOpened", "FileChanged"}
        assert _types(tmp_path / "b") - _COLLECTED == {"ProcessCreated", "ProcessTerminated"}

    def test_last_keeps_one_file_a_process(self, tmp_path: Path, script) -> None:
        path = script("for i in range(70_000): open('/dev/null').close()")
        kobs_run("-q", "-o", "last", "--last", "--no-adaptive", path, folder=tmp_path)
        kobs_run("-q", "-o", "all", "--no-adaptive", path, folder=tmp_path)
        assert len(list((tmp_path / "last").glob("*.kobs"))) == 1
        assert len(list((tmp_path / "all").glob("*.kobs"))) > 1

    def test_sampling_zero_keeps_what_warns(self, tmp_path: Path, script) -> None:
        path = script("""
            import queue
            open("x", "w").close()
            try: queue.Queue().get(timeout=0.001)
            except queue.Empty: pass
            """)
        kobs_run("-q", "-o", "none", "--sampling", "0", path, folder=tmp_path)
        assert _types(tmp_path / "none") == {"IpcTimeout"}

    def test_a_sampler_that_is_not_known_is_told_by_the_session_not_on_stderr(
        self, tmp_path: Path, script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "one_of_its_own")
        path = script("import kobs\nwith kobs.span_operation('load'): pass")
        done = kobs_run("-q", "-o", "a", path, folder=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        with kobs.open_recording(tmp_path / "a") as recording:
            told = [str(each) for each in recording.unobserved]
        assert any("OTEL_TRACES_SAMPLER=one_of_its_own" in text for text in told), told

    def test_what_is_hidden_and_not_sampled_is_counted_in_children_too(
        self, tmp_path: Path, script
    ) -> None:
        path = script("""
            import gc, queue, subprocess, sys
            gc.disable()  # a collection that takes long is told
            open("shown", "w").close()
            open("hidden", "w").close()
            queue.Queue().put(1)
            if len(sys.argv) < 2:
                subprocess.run([sys.executable, "program.py", "child"], check=True)
            """)
        options = ("--hide", "file:hid*", "--rate", "ipc=0", "--rate", "process=0,memory=50")
        without = ("--except", "syscall,scheduler")
        done = kobs_run("-q", "-o", "a", *without, *options, path, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert _types(tmp_path / "a") - _COLLECTED == {"FileOpened", "FileChanged"}
        with kobs.open_recording(tmp_path / "a") as recording:
            paths = [e.payload.path for e in recording.events() if e.type_name == "FileOpened"]
            assert paths.count("shown") == 2
            assert "hidden" not in paths
            left_out = recording.left_out()
            assert left_out.filtered[kobs.Category.FILESYSTEM] == sum(left_out.filtered) == 4
            assert left_out.sampled_out[kobs.Category.IPC] == 2
            assert left_out.sampled_out[kobs.Category.PROCESS] > 0
            assert recording.losses().sampled_out == sum(left_out.sampled_out)
        told = _kobs("report", str(tmp_path / "a"))
        assert ", 2 ipc" in told
        assert "4 filtered out: 4 filesystem" in told

    def test_system_calls_that_are_hidden_are_counted(self, tmp_path: Path, script) -> None:
        path = script("""
            import os
            descriptor = os.open("/dev/zero", os.O_RDONLY)
            for _ in range(50): os.read(descriptor, 1)
            os.lseek(descriptor, 0, 0)
            """)
        kobs_run("-q", "-o", "a", "--no-adaptive", "--hide", "syscall:read", path, folder=tmp_path)
        with kobs.open_recording(tmp_path / "a") as recording:
            calls = [e.payload.name for e in recording.events() if e.type_name == "SyscallExit"]
            assert "lseek" in calls
            assert "read" not in calls
            assert recording.left_out().filtered[kobs.Category.SYSCALL] >= 50

    def test_the_report_is_printed_at_the_end(self, tmp_path: Path, script) -> None:
        done = kobs_run("--report", script("open('x', 'w')"), folder=tmp_path)
        assert done.returncode == 0
        assert "FILESYSTEM" in done.stdout.upper()


def _kobs(*args: str) -> str:
    command = [sys.executable, "-m", "kobs", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S).stdout


def _types(session: Path) -> set[str]:
    import kobs

    with kobs.open_recording(session) as recording:
        return {event.type_name for event in recording.events()}
