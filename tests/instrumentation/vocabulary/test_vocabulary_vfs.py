"""Each event of the vocabulary `vfs`, each field held against what really happened."""

import os
import threading
import time
from typing import Any

import pytest
from minikernel import (
    MountManager,
)

from kobs import (
    FileChanged,
    FileOpened,
    FileSlow,
    MountChanged,
)

SUBSYSTEM = "vfs"


def tree_over(stage: Any, **options: Any) -> Any:
    tree = stage.watch(MountManager(**options))
    tree.mount("/data", str(stage.folder))
    return tree


def test_FileOpened__the_file_its_mode_and_how_long_it_took(stage: Any) -> None:
    tree = tree_over(stage)
    began = time.perf_counter()
    tree.open("/data/file", "wb").close()
    took_us = (time.perf_counter() - began) * 1e6
    with pytest.raises(FileNotFoundError):
        tree.open("/data/missing")  # and no event
    assert (stage.folder / "file").exists()
    event = stage.one(FileOpened).payload
    assert (event.path, event.mode) == ("/data/file", "wb")
    assert 0 < event.duration_us <= took_us


def test_FileSlow__a_file_that_makes_us_wait(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tree_over(stage, slow_threshold_ms=100)
    os.mkfifo(stage.folder / "tap")
    drip = threading.Timer(0.15, (stage.folder / "tap").write_bytes, (b"drop",))

    def opens(path: Any, mode: str) -> Any:
        drip.start()  # not before opening began, or a busy machine spends the wait elsewhere
        return open(path, mode)

    monkeypatch.setattr("minikernel.vfs.open", opens, raising=False)
    began = time.perf_counter()
    assert tree.read_file("/data/tap") == b"drop"
    took_ms = (time.perf_counter() - began) * 1000
    drip.join()
    events = [event.payload for event in stage.all(FileSlow)]
    # Opening waited, and so the read that it was part of.
    assert [event.operation for event in events] == ["open", "read"]
    assert all((event.path, event.threshold_ms) == ("/data/tap", 100) for event in events)
    assert 100 <= events[0].duration_ms <= events[1].duration_ms <= took_ms


def test_FileChanged__every_kind_of_change(stage: Any) -> None:
    tree = tree_over(stage)
    tree.mkdir("/data/box")
    tree.write_file("/data/box/a", b"1")
    tree.rename("/data/box/a", "/data/box/b")
    assert (stage.folder / "box" / "b").read_bytes() == b"1"
    tree.unlink("/data/box/b")
    with pytest.raises(FileNotFoundError):
        tree.unlink("/data/box/b")  # and no event
    assert [event.payload for event in stage.all(FileChanged)] == [
        FileChanged("/data/box", "created"),
        FileChanged("/data/box/a", "written"),
        FileChanged("/data/box/b", "renamed"),
        FileChanged("/data/box/b", "removed"),
    ]


def test_MountChanged__what_came_and_went(stage: Any) -> None:
    tree = tree_over(stage)
    tree.remount("/data", read_only=True)
    with pytest.raises(OSError, match="Read-only"):
        tree.write_file("/data/x", b"")
    tree.unmount("/data")
    with pytest.raises(OSError, match="nothing is mounted"):
        tree.unmount("/data")  # and no event
    assert tree.mounts() == {}
    assert [event.payload for event in stage.all(MountChanged)] == [
        MountChanged("/data", "mounted"),
        MountChanged("/data", "remounted"),
        MountChanged("/data", "unmounted"),
    ]


def test_every_event_of_the_vocabulary_has_a_test_of_its_own(unproven: set[str]) -> None:
    assert unproven == set()
