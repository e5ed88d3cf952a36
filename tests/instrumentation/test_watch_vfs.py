"""The file watch, in this process."""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import kobs
from kobs import FileChanged, FileOpened, FileSlow
from kobs.session import Session
from kobs_instrumentation.watch import _patch, vfs


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[kobs.Collector]:  # pytest makes the folder before
    with kobs.Collector(size=256) as made:
        undo = vfs.install(lambda: made)
        yield made
        undo()


def changes(collector: kobs.Collector) -> list[tuple[str, str]]:
    return [
        (Path(e.payload.path).name, e.payload.change)
        for e in collector.snapshot()
        if isinstance(e.payload, FileChanged)
    ]


@pytest.mark.parametrize(
    ("mode", "change"),
    [
        ("r", None),
        ("r+b", None),
        ("w", "written"),
        ("wb", "written"),
        ("x", "created"),
        ("a", None),
    ],
)
def test_open_tells_path_mode_and_time(
    collector: kobs.Collector, tmp_path: Path, mode: str, change: str | None
) -> None:
    path = tmp_path / "file"
    if "x" not in mode:
        path.touch()
        collector.reset()
    with open(path, mode):
        pass
    opened = next(e for e in collector.snapshot() if isinstance(e.payload, FileOpened))
    assert (opened.payload.path, opened.payload.mode) == (str(path), mode)
    assert 0 < opened.payload.duration_us < 10e6
    assert changes(collector) == ([("file", change)] if change else [])


@pytest.mark.parametrize("kind", [str, Path, os.fsencode], ids=["str", "Path", "bytes"])
def test_paths_of_every_kind(collector: kobs.Collector, tmp_path: Path, kind: type) -> None:
    (tmp_path / "file").write_text("x")
    collector.reset()
    open(file=kind(str(tmp_path / "file")), mode="rb").close()
    (event,) = collector.snapshot()
    assert event.payload.path == str(tmp_path / "file")


def test_no_code_of_the_program_s_own_paths_is_run(
    collector: kobs.Collector, tmp_path: Path
) -> None:
    asked = []

    class Counting:
        def __fspath__(self) -> str:
            asked.append(self)
            return str(tmp_path / "file")

    class Text(str):
        def __str__(self) -> str:
            asked.append(self)
            return "else"

        __getitem__ = startswith = encode = __str__  # type: ignore[assignment]

    open(Counting(), "w").close()
    os.chmod(Text(tmp_path / "file"), 0o600)
    assert len(asked) == 1, "the program's open asks once"
    told = [(type(e.payload).__name__, e.payload.path) for e in collector.snapshot()]
    assert ("FileOpened", f"<{Counting.__qualname__}>") in told
    assert ("FileChanged", str(tmp_path / "file")) in told


@pytest.mark.parametrize("path", [["file"], None, 1.5], ids=repr)
def test_what_is_no_path_is_the_program_s_error_alone(
    collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch, path: object
) -> None:
    errors: list[object] = []
    monkeypatch.setattr(_patch, "on_error", lambda *error: errors.append(error))
    with pytest.raises(TypeError, match=r"path|integer|expected"):
        open(path)  # type: ignore[call-overload]  # noqa: SIM115
    assert errors == []
    assert collector.snapshot() == []


def test_an_entry_of_a_folder_is_a_path(collector: kobs.Collector, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    collector.reset()
    (entry,) = os.scandir(tmp_path)
    os.chmod(entry, 0o600)
    assert changes(collector) == [("file", "mode")]


def test_an_open_that_fails_tells_nothing(collector: kobs.Collector, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open(tmp_path / "missing").close()
    assert collector.snapshot() == []


@pytest.mark.says("changes")
def test_functions_of_os(collector: kobs.Collector, tmp_path: Path) -> None:
    os.mkdir(tmp_path / "folder")
    folder = os.open(tmp_path / "folder", os.O_RDONLY)
    os.close(os.open("a", os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=folder))
    os.rename(tmp_path / "folder" / "a", tmp_path / "folder" / "b")
    os.truncate(tmp_path / "folder" / "b", 0)
    os.symlink("b", tmp_path / "folder" / "c")
    os.unlink("c", dir_fd=folder)
    os.replace(src=tmp_path / "folder" / "b", dst=tmp_path / "d")
    os.close(folder)
    os.remove(tmp_path / "d")
    os.rmdir(tmp_path / "folder")
    assert changes(collector) == [
        ("folder", "created"), ("a", "created"), ("b", "renamed"), ("b", "truncated"),
        ("c", "linked"), ("c", "removed"), ("d", "renamed"), ("d", "removed"),
        ("folder", "removed"),
    ]  # fmt: skip
    created = next(e for e in collector.snapshot() if e.payload.path.endswith("/a"))
    assert created.payload.path == str(tmp_path / "folder" / "a")


def test_pathlib_and_tempfile_are_seen(collector: kobs.Collector, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").unlink()
    with tempfile.TemporaryDirectory(dir=tmp_path):
        pass
    assert [change for _, change in changes(collector)] == [
        "written", "removed", "created", "removed",
    ]  # fmt: skip


def test_what_the_interpreter_opens_is_left_out(
    collector: kobs.Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_to_import.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    collector.reset()
    import colorsys
    import linecache

    import module_to_import  # type: ignore[import-not-found]

    linecache.getlines(colorsys.__file__)
    assert module_to_import.x == 1
    assert Path(module_to_import.__cached__).exists(), "byte code was written"
    # It is written under another name first.
    assert [e for e in collector.snapshot() if ".py" in Path(e.payload.path).name] == []


def test_descriptors_are_no_files_of_their_own(collector: kobs.Collector, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    collector.reset()
    os.close(descriptor)
    read, write = os.pipe()
    open(read, "rb").close()
    os.fdopen(write, "wb").close()
    assert collector.snapshot() == []


def test_slow_ones_are_told_with_their_threshold(
    collector: kobs.Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vfs, "SLOW_MS", 0.0)
    (tmp_path / "file").write_text("x")
    slow = [e.payload for e in collector.snapshot() if isinstance(e.payload, FileSlow)]
    assert [(p.operation, p.threshold_ms) for p in slow] == [("open", 0.0)]


@pytest.mark.says("slow file operations")
def test_an_open_that_waits_is_slow(
    collector: kobs.Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def writes() -> None:
        time.sleep(0.02)
        with open(fifo, "w"):
            pass

    monkeypatch.setattr(vfs, "SLOW_MS", 5.0)
    thread = threading.Thread(target=writes)
    thread.start()
    with open(fifo):
        pass
    thread.join()
    slow = next(e.payload for e in collector.snapshot() if isinstance(e.payload, FileSlow))
    assert (slow.operation, slow.path, slow.threshold_ms) == ("open", str(fifo), 5.0)
    assert slow.duration_ms >= 5


def test_kobs_does_not_tell_of_its_own_recording(tmp_path: Path) -> None:
    session = Session.create("test", ["test"], root=tmp_path)
    with kobs.Collector(size=16, session=session, keep=1 << 20) as collector:
        undo = vfs.install(lambda: collector)
        for _ in range(100):  # laps the ring: further segments are made and dropped
            open(os.devnull).close()
        undo()
    with kobs.open_recording(session) as recording:
        opened = [e.payload for e in recording.events() if isinstance(e.payload, FileOpened)]
        assert {payload.path for payload in opened} == {os.devnull}
