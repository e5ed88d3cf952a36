"""Bad input and bad places, through the real command: one clear line or an honest part of the
result, exit code 2 for wrong use and 1 for failure, and never a traceback."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import kobs
import kobs.cli.report  # loaded before rights are given away
import kobs.cli.run
from kobs._core.layout import Header, plan
from kobs.cli.main import main
from kobs.session import Session

from .conftest import _exit

WAIT_S = 120
NOBODY = 65534
READERS = {
    "report": ["report"],
    "report --json": ["report", "--json"],
    "tail": ["tail", "--idle", "0"],
    "query": ["query"],
    "recover": ["recover"],
    "top": ["top", "--once"],
    "export jsonl": ["export", "--to", "jsonl"],
    "export perfetto": ["export", "--to", "perfetto", "-o", "-"],
}
readers = pytest.mark.parametrize("words", READERS.values(), ids=READERS.keys())


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: bytes
    err: str

    def failed(self, *words: str, code: int = 1) -> None:
        """It failed with one clear line that has these words."""
        assert (self.code, self.out) == (code, b""), self
        assert len(self.err.splitlines()) == 1, self.err
        assert self.err.startswith(("kobs: ", "kobs run: "))
        assert all(word in self.err for word in words), self.err
        self.nothing_of_ours()

    def went_well(self) -> None:
        assert self.code == 0, self.err
        self.nothing_of_ours()

    def nothing_of_ours(self) -> None:
        """No traceback, and nothing that has not been thought of."""
        for text in (self.err, self.out.decode("utf-8", "replace")):
            assert "Traceback" not in text
            assert "unexpected" not in text


class Place:
    """A folder to run the command in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("KOBS", "PYTEST"))}
        self.write("program.py", "open('file', 'w').close(); print('ran')")

    def write(self, name: str, source: str) -> None:
        (self.folder / name).write_text(source)

    def kobs(self, *words: object, **options: object) -> Done:
        given = {
            "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
            "env": self.env, "cwd": self.folder, "timeout": WAIT_S,
        } | options  # fmt: skip
        done = subprocess.run([sys.executable, "-m", "kobs", *map(str, words)], **given)
        return Done(done.returncode, done.stdout or b"", (done.stderr or b"").decode())

    def shell(self, line: str) -> Done:
        """A line of shell in which `kobs` is the command."""
        define = f'kobs() {{ "{sys.executable}" -m kobs "$@"; }}; '
        done = subprocess.run(
            ["bash", "-c", define + line], stdin=subprocess.DEVNULL, capture_output=True,
            env=self.env, cwd=self.folder, timeout=WAIT_S,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr.decode())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder with a program in it."""
    return Place(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 5 MB: a session fits, a recording in it does not."""
    yield from _mounted(tmp_path / "disk", "size=5m")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nobody can write, root neither."""
    yield from _mounted(tmp_path / "disk", "ro")


def _mounted(path: Path, options: str) -> Iterator[Path]:
    path.mkdir()
    if subprocess.call(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)],
                       stderr=subprocess.DEVNULL):  # fmt: skip
        pytest.skip("mounting needs root; the tests with RLIMIT_FSIZE and of lost rights run")
    yield path
    subprocess.check_call(["umount", "-l", str(path)])


class TestDamagedFiles:
    @pytest.fixture
    def recording(self, quiet_session: Session, tmp_path: Path) -> Path:
        return Path(shutil.copy(quiet_session.recordings()[0], tmp_path / "a.kobs"))

    def test_cut_at_every_field_of_the_header_and_in_the_lanes(
        self, place: Place, recording: Path
    ) -> None:
        whole = recording.read_bytes()
        header = Header()
        total = plan(header, 64)
        fields = {
            offset for name, *_ in Header._fields_ for offset in (getattr(Header, name).offset,)
        }
        cuts = {*fields, 4095, 4096, header.schema.offset, header.strings.offset}
        lanes = [lane.offset + more for lane in header.lanes for more in (0, 1, 96, 192, 1000)]
        for cut in sorted({*cuts, *lanes, total - 1}, reverse=True):
            recording.write_bytes(whole[:cut])
            done = _in_process(place, "report", recording)
            if cut < header.lanes[0].offset:
                done.failed("a.kobs: ", "not a kobs recording" if cut < 8 else "truncated: ")
            else:
                done.went_well()
                assert b"truncated: " in done.out, cut

    def test_each_word_of_the_header_flipped(self, place: Place, recording: Path) -> None:
        whole = recording.read_bytes()
        told = set()
        texts = range(Header.command.offset + 64, Header.first_tickets.offset, 8)
        for at in sorted({*range(0, 1344, 8)} - {*texts} | {*range(1344, 4096, 256)}):
            raw = bytearray(whole)
            raw[at : at + 8] = bytes(byte ^ 0xFF for byte in raw[at : at + 8])
            recording.write_bytes(raw)
            done = _in_process(place, "report", recording)
            if done.code:
                done.failed("a.kobs: ")
                told.add(at)
            else:
                done.went_well()
        assert {0, 8, Header.total_size.offset, Header.lanes.offset} <= told

    @readers
    def test_garbage_in_the_events_is_told_of(
        self, place: Place, recording: Path, words: list[str]
    ) -> None:
        header = Header()
        plan(header, 64)
        raw = bytearray(recording.read_bytes())
        at = header.lanes[0].offset
        raw[at + 8 : at + 192] = b"\xff" * 184
        recording.write_bytes(raw)
        _in_process(place, *words, recording).went_well()


def _in_process(place: Place, *words: object, before: Callable[[], object] = lambda: None) -> Done:
    """The real command, in a process of its own that has kobs imported already."""
    out, err = place.folder / "out", place.folder / "err"
    pid = os.fork()
    if pid == 0:
        try:
            for number, path in ((1, out), (2, err)):
                descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
                os.dup2(descriptor, number)
            sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
            before()
            code = main(list(map(str, words)))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        finally:
            os._exit(99)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Done(code, out.read_bytes(), err.read_text())


class TestUnknownSubsystems:
    def test_of_run(self, place: Place) -> None:
        for option in "--only", "--except":
            done = place.kobs("run", option, "nonsense", "program.py")
            done.failed("'nonsense'", "process, vfs, queue, scheduler", code=2)

    def test_of_observe_is_the_programs_own_error(self, place: Place) -> None:
        place.write(
            "observes.py", "from kobs import observe\n@observe('nonsense')\nclass A: pass\n"
        )
        done = place.kobs("run", "-q", "observes.py")
        assert done.code == 1
        assert done.err.splitlines()[-1].startswith(
            "kobs.errors.UnknownSubsystemError: unknown subsystem 'nonsense'; known are: memory,"
        )


class TestFullDisks:
    def test_where_no_session_fits(self, place: Place) -> None:
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
        done = place.kobs("run", "-o", "session", "program.py", preexec_fn=limit)
        done.failed("session: no session can be made there: File too large")
        assert not list(place.folder.glob("*session*"))

    def test_where_no_recording_fits_the_program_runs_and_the_report_says_so(
        self, place: Place, small_disk: Path
    ) -> None:
        place.write("much.py", "for i in range(20_000): open('/dev/null').close()\nprint('ran')")
        done = place.kobs("run", "-q", "-o", small_disk / "s", "much.py")
        assert done == (0, b"ran\n", "")
        report = place.kobs("report", small_disk / "s")
        report.went_well()
        assert b"No space left on device" in report.out
        assert b"0 events" in report.out

    def test_an_export_is_whole_or_not_there(
        self, place: Place, small_disk: Path, quiet_session: Session
    ) -> None:
        with (
            open(small_disk / "fill", "wb", buffering=0) as file,
            pytest.raises(OSError, match="pace"),
        ):
            file.writelines(bytes(4096) for _ in iter(int, 1))
        for to in "jsonl", "perfetto":
            done = place.kobs("export", "--to", to, "-o", small_disk / "x", quiet_session.path)
            done.failed("disk/x: no space left on the disk")
        assert os.listdir(small_disk) == ["fill"]

    def test_a_full_stderr_changes_no_exit_code(self, place: Place) -> None:
        place.write("ends.py", "raise SystemExit(7)")
        with open("/dev/full", "w") as full:
            assert place.kobs("run", "-o", "a", "ends.py", stderr=full).code == 7
            assert place.kobs("run", "--only", "nonsense", "ends.py", stderr=full).code == 2
            assert place.kobs("report", "nonsense", stderr=full).code == 1
            assert place.kobs("report", "--nonsense", stderr=full).code == 2
            done = place.kobs("run", "-q", "-o", "b", "--report", "ends.py", stdout=full)
        done.failed("the output cannot be written: no space left on the disk", code=7)


class TestFoldersThatCannotBeWritten:
    def test_read_only(self, place: Place, read_only: Path, quiet_session: Session) -> None:
        place.kobs("run", "-o", read_only / "s", "program.py").failed(
            "disk/s: no session can be made there: Read-only file system"
        )
        place.env["XDG_STATE_HOME"] = str(read_only)
        place.kobs("run", "program.py").failed("Read-only file system", "set XDG_STATE_HOME")
        for to in "jsonl", "perfetto":
            place.kobs("export", "--to", to, "-o", read_only / "x", quiet_session.path).failed(
                "disk/x: read-only file system"
            )
        place.kobs("export", "--to", "perfetto", quiet_session.path, cwd=read_only).failed(
            "read-only file system"
        )

    def test_below_a_file_or_instead_of_one(self, place: Place) -> None:
        os.mkfifo(place.folder / "pipe")
        for name in "program.py", "pipe", "program.py/below":
            place.kobs("run", "-o", name, "program.py").failed(name, "no session can be made")
        assert (place.folder / "program.py").is_file()
        place.kobs("run", "-o", "", "program.py").failed("--session is empty", code=2)

    def test_without_a_home(self, place: Place) -> None:
        del place.env["XDG_STATE_HOME"]
        place.env["HOME"] = "/proc/nobody"
        place.kobs("run", "program.py").failed("/proc/nobody/", "set XDG_STATE_HOME to a folder")
        place.kobs("report").failed("there is no session in /proc/nobody/.local/state/kobs")
        del place.env["HOME"]
        place.env["HOME"] = str(place.folder)
        place.kobs("run", "program.py").went_well()
        assert len(list((place.folder / ".local/state/kobs").iterdir())) == 1

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_of_another_user(self, place: Place) -> None:
        def nobody() -> None:
            os.setgroups([])
            os.setuid(NOBODY)

        made = _in_process(place, "run", "-o", "/kobs-nobody/s", "--", "true", before=nobody)
        made.failed("/kobs-nobody/s: no session can be made there: Permission denied")


class TestSessionsThatAreNotWhole:
    @readers
    def test_an_empty_one(self, place: Place, words: list[str]) -> None:
        made = Session.create("empty", ["empty"])
        place.kobs(*words, made.path).went_well()

    @readers
    def test_one_of_a_killed_process(
        self, place: Place, killed_session: Session, words: list[str]
    ) -> None:
        place.kobs(*words, killed_session.path).went_well()

    @pytest.mark.parametrize("words", [w for w in READERS.values() if w[0] != "tail"])
    def test_one_that_is_being_written(self, place: Place, words: list[str]) -> None:
        made = Session.create("busy", ["busy"])
        stop = threading.Event()
        with kobs.Collector(session=made, size=64) as collector:

            def flood() -> None:
                while not stop.is_set():
                    collector.emit(_exit("read", 1.0))

            thread = threading.Thread(target=flood)
            thread.start()
            try:
                place.kobs(*words, made.path).went_well()
            finally:
                stop.set()
                thread.join()

    @readers
    def test_pipes_devices_and_folders(self, place: Place, words: list[str]) -> None:
        os.mkfifo(place.folder / "pipe")
        for name in "pipe", "/dev/null":
            place.kobs(*words, name).failed(f"{name}: neither a file nor a folder")
        place.kobs(*words, place.folder).failed("not a session: it has no session.json")

    def test_two_in_the_same_folder_are_one(self, place: Place) -> None:
        place.write("waits.py", "import sys; print('up', flush=True); sys.stdin.read()")
        command = [sys.executable, "-m", "kobs", "run", "-q", "-o", "s", "waits.py"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=place.folder, env=place.env
        ) as first:
            assert first.stdout.readline() == b"up\n"
            place.kobs("run", "-o", "s", "program.py").failed("s: is there already and not empty")
            first.stdin.close()
            assert first.wait(WAIT_S) == 0
        with kobs.open_recording(place.folder / "s") as recording:
            assert [process.state for process in recording.processes] == ["exited"]

    def test_many_that_begin_in_the_same_folder_at_once(self, place: Place) -> None:
        command = [sys.executable, "-m", "kobs", "run", "-q", "-o", "s", "program.py"]
        started = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             cwd=place.folder, env=place.env)
            for _ in range(4)
        ]  # fmt: skip
        done = [process.communicate(timeout=WAIT_S) for process in started]
        assert sorted(process.returncode for process in started) == [0, 1, 1, 1]
        assert sorted(out for out, _ in done) == [b"", b"", b"", b"ran\n"]
        with kobs.open_recording(place.folder / "s") as recording:
            assert len(recording.processes) == 1
        assert sorted(os.listdir(place.folder)) == ["file", "program.py", "s"]


class TestTerminalsAndStreams:
    @readers
    def test_a_broken_pipe(self, place: Place, session: Session, words: list[str]) -> None:
        read, write = os.pipe()
        os.close(read)
        done = place.kobs(*words, session.path, stdout=write)
        os.close(write)
        assert (done.code, done.err) == (0, "") or "lost" in done.err

    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
    def test_closed_streams(self, place: Place, quiet_session: Session, closed: str) -> None:
        for words in ("report", "tail --idle 0", "query", "export --to jsonl", "recover"):
            place.shell(f"kobs {words} {quiet_session.path} {closed}").went_well()
        place.write("ends.py", "import sys; sys.exit(3)")
        assert place.shell(f"kobs run -q ends.py {closed}").code == 3

    @pytest.mark.parametrize(
        "env",
        [
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            {"LC_ALL": "POSIX"},
            {"PYTHONIOENCODING": "latin-1"},
            {"COLUMNS": "20", "TERM": "dumb", "NO_COLOR": "1"},
            {"COLUMNS": "1"},
            {"COLUMNS": "many"},
        ],
        ids=lambda env: " ".join(f"{k}={v}" for k, v in env.items()),
    )
    def test_locales_and_narrow_terminals(self, place: Place, env: dict[str, str]) -> None:
        place.env |= env
        place.write("caf\u00e9.py", "open(b'\\xe2\\x98\\x83 \\xff', 'w').close()")
        place.kobs("run", "-q", "-o", "s", "caf\u00e9.py").went_well()
        for words in READERS.values():
            done = place.kobs(*words, "s")
            done.went_well()
            if "C" in env.values() and words[0] in ("report", "query", "tail"):
                assert done.out.isascii()
        assert json.loads(place.kobs("query", "--json", "s").out)


def test_a_program_that_is_killed_leaves_what_every_command_reads(place: Place) -> None:
    place.write("dies.py", "import os; open('file', 'w').close(); os.kill(os.getpid(), 9)")
    assert place.kobs("run", "-q", "-o", "s", "dies.py") == (-signal.SIGKILL, b"", "")
    for words in READERS.values():
        place.kobs(*words, "s").went_well()
    assert b"SIGKILL" in place.kobs("report", "s").out
