"""The command line itself: help, exit codes, and bad input as one line."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kobs.cli import main as cli
from kobs.collector import Collector
from kobs.session import Session

from .conftest import Kobs, _exit

Process = Callable[..., subprocess.CompletedProcess[str]]

NOBODY = 65534

READERS = [
    ["report"],
    ["tail"],
    ["top", "--once"],
    ["query"],
    ["export", "--to", "jsonl"],
    ["export", "--to", "perfetto", "-o", "-"],
    ["recover"],
    ["compare", "quiet-session"],
]


def one_line(text: str) -> str:
    """The only line of stderr."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


class TestHelp:
    def test_names_every_command(self, command: Kobs) -> None:
        said = command("--help")
        assert said.code == 0
        for name in cli.COMMANDS:
            assert f"    {name} " in said.out

    @pytest.mark.parametrize("name", cli.COMMANDS)
    def test_of_a_command(self, command: Kobs, name: str) -> None:
        said = command(name, "--help")
        assert said.code == 0
        assert said.out.startswith("usage: kobs")

    def test_version(self, command: Kobs) -> None:
        from kobs import __version__

        assert command("--version").out == f"kobs {__version__}\n"

    def test_without_arguments_is_wrong_use(self, command: Kobs) -> None:
        said = command()
        assert said.code == 2
        assert said.out == ""
        assert "usage: kobs" in said.err

    @pytest.mark.parametrize("arguments", [["--help"], ["report", "--help"], ["tail", "--help"]])
    def test_imports_nothing_heavy(self, arguments: list[str]) -> None:
        program = (
            "import sys\n"
            "from kobs.cli.main import main\n"
            f"main({arguments!r})\n"
            "heavy = {'rich', 'opentelemetry', 'wrapt', 'pluggy', 'asyncio'} & set(sys.modules)\n"
            "sys.exit(f'imported {heavy}' if heavy else 0)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


class TestWrongUse:
    def test_an_unknown_command(self, command: Kobs) -> None:
        said = command("repot")
        assert said.code == 2
        assert "invalid choice: 'repot'" in said.err

    @pytest.mark.parametrize(
        "arguments",
        [
            ["report", "--top", "0"],
            ["report", "--nonsense"],
            ["tail", "--lines", "many"],
            ["tail", "--idle", "-1"],
            ["top", "--every", "0"],
            ["query", "--since", "soon"],
            ["query", "--slow-ms", "slow"],
            ["export"],
            ["compare"],
        ],
    )
    def test_bad_options_are_refused(self, command: Kobs, arguments: list[str]) -> None:
        said = command(*arguments)
        assert said.code == 2
        assert "Traceback" not in said.err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["query", "--category", "ipcc"], "category 'ipcc' is not known; it is one of process"),
            (["query", "--severity", "loud"], "severity 'loud' is not known; it is one of trace"),
            (["query", "--type", "SyscalExit"], "did you mean SyscallExit"),
            (["query", "--filter", "pid"], "condition 'pid' is not understood"),
            (["query", "--filter", "pid=x"], "'x' is no number"),
            (["query", "--filter", "category>=ipc"], "is not understood"),
            (["query", "--common", "everything"], "is not known; it is one of slow_operations"),
            (["query", "--common", "process_errors"], "needs exactly one --pid"),
            (["query", "--common", "slow_operations"], "needs --threshold-ms"),
            (["query", "--aggregate", "median"], "is not known; it is one of count"),
            (["query", "--aggregate", "sum"], "sum needs a field"),
            (["export", "--to", "csv"], "--to 'csv' is not known; it is one of perfetto"),
            (["export", "--to", "otlp", "-o", "x"], "-o has no meaning there"),
            (["export", "--to", "jsonl", "--json"], "give a file with -o"),
        ],
    )
    def test_bad_values_are_named(
        self, command: Kobs, quiet_session: Session, arguments: list[str], message: str
    ) -> None:
        said = command(*arguments)
        assert said.code == 2
        assert message in one_line(said.err)


class TestBadFiles:
    @pytest.fixture
    def bad(self, tmp_path: Path, quiet_session: Session) -> dict[str, Path]:
        """Files and folders that are no recordings."""
        whole = Path(quiet_session.recordings()[0]).read_bytes()
        shutil.copytree(quiet_session.path, tmp_path / "quiet-session")
        bad = {
            "nothing": b"",
            "text": b"this is no recording\n" * 500,
            "half a header": whole[:100],
            "header alone": whole[:4096],
            "other version": whole[:8] + (99).to_bytes(4, sys.byteorder) + whole[12:],
            "other byte order": whole[:12] + bytes(reversed(whole[12:16])) + whole[16:],
            "corrupted header": whole[:16] + os.urandom(200) + whole[216:],
        }
        paths = {}
        for name, data in bad.items():
            paths[name] = tmp_path / f"{name}.kobs"
            paths[name].write_bytes(data)
        paths["missing"] = tmp_path / "missing.kobs"
        paths["empty folder"] = tmp_path / "empty"
        paths["empty folder"].mkdir()
        paths["damaged session"] = tmp_path / "damaged"
        paths["damaged session"].mkdir()
        (paths["damaged session"] / "session.json").write_text("{oops")
        return paths

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("nothing", "not a kobs recording"),
            ("text", "not a kobs recording"),
            ("half a header", "truncated"),
            ("header alone", "truncated"),
            ("other version", "format version 99"),
            ("other byte order", "other byte order"),
            ("corrupted header", "corrupted header"),
            ("missing", "no such"),
            ("empty folder", "not a session"),
            ("damaged session", "damaged"),
        ],
    )
    @pytest.mark.parametrize("arguments", READERS, ids=lambda words: "-".join(words[:3:2]))
    def test_are_one_line_and_exit_code_1(
        self,
        command: Kobs,
        bad: dict[str, Path],
        tmp_path: Path,
        arguments: list[str],
        name: str,
        message: str,
    ) -> None:
        words = [str(tmp_path / word) if word == "quiet-session" else word for word in arguments]
        said = command(*words, bad[name])
        assert said.code == 1
        line = one_line(said.err)
        assert message in line
        assert str(bad[name]) in line
        assert said.out == ""

    def test_no_session_at_all(self, command: Kobs) -> None:
        said = command("report")
        assert said.code == 1
        assert "there is no session" in one_line(said.err)
        assert "kobs run" in said.err

    def test_a_beginning_that_fits_several(
        self, command: Kobs, session: Session, quiet_session: Session
    ) -> None:
        said = command("report", "2")
        assert said.code == 1
        assert "fits 2 sessions" in one_line(said.err)

    def test_a_file_that_may_not_be_read(self, command: Kobs, quiet_session: Session) -> None:
        command("report", quiet_session.path)  # loads what the command needs, as it may still
        with tempfile.TemporaryDirectory() as folder:  # tmp_path lies in a folder of root's
            os.chmod(folder, 0o755)
            path = shutil.copy(quiet_session.recordings()[0], folder)
            os.chmod(path, 0)
            user = os.geteuid()
            if user == 0:
                os.seteuid(NOBODY)
            try:
                said = command("report", path)
            finally:
                os.seteuid(user)
        assert said.code == 1
        assert "permission denied" in one_line(said.err).lower()

    def test_a_pipe_is_not_waited_for(self, command: Kobs, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        said = command("report", tmp_path / "pipe")
        assert said.code == 1
        assert "neither a file nor a folder" in one_line(said.err)


class TestOutput:
    def test_a_reader_that_leaves_early_is_no_error(
        self, tmp_path: Path, command_process: Process
    ) -> None:
        with Collector(path=tmp_path / "a.kobs", size=4096) as collector:
            for _ in range(4000):
                collector.emit(_exit("read", 1.0))
        read, write = os.pipe()
        os.close(read)
        try:
            done = command_process("export", tmp_path / "a.kobs", "--to", "jsonl", stdout=write)
        finally:
            os.close(write)
        assert done.stderr == ""
        assert done.returncode == 0

    @pytest.mark.parametrize("arguments", READERS[:6], ids=lambda words: "-".join(words[:3:2]))
    def test_a_full_disk_is_one_line_and_exit_code_1(
        self, command_process: Process, quiet_session: Session, arguments: list[str]
    ) -> None:
        with open("/dev/full", "w") as full:
            done = command_process(*arguments, quiet_session.path, stdout=full)
        assert done.returncode == 1
        assert one_line(done.stderr) == (
            "kobs: the output cannot be written: no space left on the disk"
        )

    def test_closed_stdout_is_no_traceback(
        self, command_process: Process, quiet_session: Session
    ) -> None:
        done = command_process("report", quiet_session.path, preexec_fn=lambda: os.close(1))
        assert "Traceback" not in done.stderr

    def test_a_locale_without_unicode_gets_ascii(
        self, command_process: Process, session: Session
    ) -> None:
        env = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
        done = command_process("report", session.path, env=env)
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
        assert "` " in done.stdout


class TestUnexpected:
    def test_an_error_of_ours_is_one_line_with_a_hint(
        self, command: Kobs, quiet_session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kobs.cli.report.build", _broken)
        said = command("report", quiet_session.path)
        assert said.code == 1
        assert "unexpected ZeroDivisionError" in one_line(said.err)
        assert "KOBS_DEBUG=1" in said.err

    def test_the_hint_shows_where(
        self, command: Kobs, quiet_session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kobs.cli.report.build", _broken)
        monkeypatch.setenv("KOBS_DEBUG", "1")
        said = command("report", quiet_session.path)
        assert "Traceback" in said.err

    def test_an_interrupt_is_exit_code_130_and_silent(
        self, command: Kobs, quiet_session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kobs.cli.report.build", _interrupted)
        said = command("report", quiet_session.path)
        assert (said.code, said.err) == (130, "")


def _broken(_: object) -> None:
    raise ZeroDivisionError("division by zero")


def _interrupted(_: object) -> None:
    raise KeyboardInterrupt


def test_python_dash_m_is_the_command(command_process: Process) -> None:
    assert command_process("--version").stdout.startswith("kobs ")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y"),
            "/x/y: no space left on the disk",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: permission denied"),
        (OSError("odd"), "odd"),
    ],
)
def test_errors_of_the_system_in_words(error: OSError, text: str) -> None:
    assert cli.describe(error) == text


def test_commands_of_plugins_are_found(command: Kobs) -> None:
    from kobs import hooks

    class Plugin:
        @staticmethod
        @hooks.hook
        def kobs_commands(subparsers: object) -> None:
            parser = subparsers.add_parser("greet", help="says hello")  # type: ignore[attr-defined]
            parser.set_defaults(run=lambda arguments: print("hello"))

    hooks.register(Plugin)
    try:
        assert command("greet").out == "hello\n"
        assert "says hello" in command("--help").out
    finally:
        hooks.unregister(Plugin)
