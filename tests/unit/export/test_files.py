"""Exported files are there whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from kobs.export.files import whole_file


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with whole_file(str(path)) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["out"]


def test_a_failure_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), whole_file(str(path)) as file:
        file.write(b"half" * (1 // 0))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_a_full_disk_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(OSError, match="out") as caught, whole_file(str(path)):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, whole_file(str(tmp_path / "no" / "out")):
        pass
    assert caught.value.filename == str(tmp_path / "no" / "out")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with whole_file(str(tmp_path / "link")) as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_device_is_written_as_it_is() -> None:
    with whole_file("/dev/null") as file:
        file.write(b"gone")
    assert not os.path.isfile("/dev/null")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), whole_file(str(tmp_path)):
        pass


def test_it_has_the_mode_of_an_ordinary_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_file(str(tmp_path / "out")) as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640
