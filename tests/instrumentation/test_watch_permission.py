"""The permission watch, in this process; as root the tests give up root for a moment."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kobs
from kobs import PermissionDenied, PermissionGranted, observe
from kobs.muted import muted
from kobs_instrumentation.policy import SandboxPolicy
from kobs_instrumentation.watch import _patch, permission, sandbox

NOBODY = 65534


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[kobs.Collector]:
    wrong: list[BaseException] = []
    monkeypatch.setattr(_patch, "on_error", lambda where, error: wrong.append(error))
    with kobs.Collector(size=256) as made:
        undo = permission.install(lambda: made)
        yield made
        undo()
    assert wrong == []


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    if os.geteuid():
        yield
        return
    with muted():
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        with muted():
            os.seteuid(0)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder in which an ordinary user may do nothing."""
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "file").touch()
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def denied(collector: kobs.Collector) -> list[tuple[str, str]]:
    return [
        (e.payload.operation, e.payload.required)
        for e in collector.snapshot()
        if isinstance(e.payload, PermissionDenied)
    ]


def granted(collector: kobs.Collector) -> list[tuple[str, str]]:
    return [
        (e.payload.operation, e.payload.required)
        for e in collector.snapshot()
        if isinstance(e.payload, PermissionGranted)
    ]


ITERDIR = "scandir" if "scandir" in Path.iterdir.__code__.co_names else "listdir"

DENIALS: list[tuple[Callable[[Path], Any], str, str]] = [
    (lambda p: open(p / "file").close(), "open", "read {}/file"),
    (lambda p: open(p / "file", "wb").close(), "open", "write {}/file"),
    (lambda p: open(file=p / "file", mode="r+").close(), "open", "read and write {}/file"),
    (lambda p: (p / "file").read_text(), "open", "read {}/file"),
    (lambda p: os.open(p / "file", os.O_RDWR), "open", "read and write {}/file"),
    (lambda p: os.chdir(p), "chdir", "search {}"),
    (lambda p: os.listdir(p), "listdir", "read {}"),
    (lambda p: list(p.iterdir()), ITERDIR, "read {}"),
    (lambda p: os.scandir(p), "scandir", "read {}"),
    (lambda p: (p / "new").mkdir(), "mkdir", "write to the folder of {}/new"),
    (lambda p: os.remove(p / "file"), "remove", "write to the folder of {}/file"),
    (lambda p: os.rename(p / "file", p / "x"), "rename",
     "write to the folders of {}/file and {}/x"),
    (lambda p: os.chmod(p / "file", 0o777), "chmod", "ownership of {}/file"),
    (lambda p: os.chown(path=p, uid=0, gid=0), "chown", "CAP_CHOWN, ownership of {}"),
    (lambda p: os.setgroups([0]), "setgroups", "CAP_SETGID"),
    (lambda p: os.nice(-5), "nice", "CAP_SYS_NICE"),
    (lambda p: os.chroot("/"), "chroot", "CAP_SYS_CHROOT, search /"),
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(DENIALS)))
@pytest.mark.says("denials with the operation and what was required")
def test_denials(collector: kobs.Collector, locked: Path, index: int) -> None:
    call, operation, required = DENIALS[index]
    locked.parent.chmod(0o711)
    with unprivileged(), pytest.raises(PermissionError):
        call(locked)
    # An ordinary user who may not even come near is denied the same, in the same words.
    assert denied(collector) == [(operation, required.replace("{}", str(locked))[:112])]


def test_relative_to_an_open_folder(collector: kobs.Collector, locked: Path) -> None:
    folder = os.open(locked, os.O_PATH)
    with unprivileged(), pytest.raises(PermissionError):
        os.unlink("file", dir_fd=folder)
    os.close(folder)
    assert denied(collector) == [("unlink", f"write to the folder of {locked}/file")]


@pytest.mark.parametrize(
    ("how", "operation"),
    [({"pass_fds": (0,)}, "exec"), ({"close_fds": False}, "posix_spawn")],
    ids=["fork_exec", "posix_spawn"],
)
def test_programs_that_may_not_be_executed(
    collector: kobs.Collector, tmp_path: Path, how: dict[str, Any], operation: str
) -> None:
    (tmp_path / "program").write_text("no program")
    with pytest.raises(PermissionError):
        subprocess.run([tmp_path / "program", "x"], check=False, **how)
    assert denied(collector) == [(operation, f"execute {tmp_path}/program")]


def test_addresses_that_may_not_be_bound(collector: kobs.Collector, locked: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock, unprivileged(), pytest.raises(PermissionError):
        sock.bind(os.path.relpath(locked / "s"))
    assert denied(collector) == [("bind", f"bind {os.path.relpath(locked / 's')}")]


def test_other_errors_and_questions_are_none(collector: kobs.Collector, locked: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open(locked / "missing").close()
    with unprivileged():
        assert not os.access(locked / "file", os.R_OK, effective_ids=True)
        assert not os.path.exists(locked / "file")
    assert denied(collector) == []


@pytest.mark.says("grants")
def test_grants(collector: kobs.Collector, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(0o640)
    os.chown(file, os.getuid(), -1)
    with open(file) as opened:
        os.fchmod(opened.fileno(), 0o600)
    os.seteuid(os.geteuid())
    assert granted(collector) == [
        ("chmod", f"0o640 {file}"),
        ("chown", f"{os.getuid()}:-1 {file}"),
        ("fchmod", f"0o600 {file}"),
        ("seteuid", f"user {os.geteuid()}"),
    ]


def test_a_umask_that_lets_more_through_is_one(collector: kobs.Collector) -> None:
    before = os.umask(0o077)
    os.umask(0o027)
    os.umask(0o077)
    os.umask(0o077)
    collected = granted(collector)
    os.umask(before)
    assert collected == [("umask", "0o27, was 0o77")]


def test_the_observed_call_that_says_it_too_tells_it_once(
    collector: kobs.Collector, locked: Path
) -> None:
    @observe("permission", collector=collector)
    class PermissionManager:
        def check(self, operation: str, path: Path) -> None:
            open(path).close()

    with unprivileged(), pytest.raises(PermissionError):
        PermissionManager().check("look", locked / "file")
    assert [operation for operation, _ in denied(collector)] == ["look"]


def test_what_a_policy_refuses_is_the_policy_s(collector: kobs.Collector, tmp_path: Path) -> None:
    policy = SandboxPolicy(deny=["open:*/forbidden"], mode="deny")
    undo = sandbox.install(lambda: collector, policy=policy)
    with pytest.raises(PermissionError):
        open(tmp_path / "forbidden").close()
    undo()
    assert denied(collector) == []
    assert [e.type_name for e in collector.snapshot()] == ["SecurityViolation"]


def test_a_traceback_shows_the_program_alone(collector: kobs.Collector, locked: Path) -> None:
    with unprivileged(), pytest.raises(PermissionError) as caught:
        os.listdir(locked)
    assert [entry.frame.code.name for entry in caught.traceback] == [
        "test_a_traceback_shows_the_program_alone"
    ]


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives up anything")
def test_giving_up_root_is_told() -> None:
    code = (
        "import os, kobs; from kobs_instrumentation.watch import permission;"
        "c = kobs.Collector(size=64); permission.install(lambda: c);"
        "os.setgroups([7]); os.setgid(7); os.setuid(8)\n"
        "try: os.kill(1, 0)\n"
        "except PermissionError: pass\n"
        "print([(e.payload.operation, e.payload.required) for e in c.snapshot()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = [
        ("setgroups", "groups [7]"),
        ("setgid", "group 7"),
        ("setuid", "user 8"),
        ("kill", "CAP_KILL, or to be the same user: signal 0 to 1"),
    ]
    assert done.stdout == f"{told}\n"
