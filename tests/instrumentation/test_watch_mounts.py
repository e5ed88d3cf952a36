"""On which mount a file lies, and mounts that come and go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kobs
from kobs import FileSlow, MountChanged
from kobs_instrumentation.watch import vfs
from kobs_instrumentation.watch._mounts import Change, Mounts, resolved

pytestmark = pytest.mark.shows("vfs")

ALONE = ("unshare", "--map-root-user", "--mount", "--propagation", "private")
"""A namespace of its own, in which anybody may mount."""

PROGRAM = """
import subprocess, sys
import kobs
from kobs import FileSlow, MountChanged
from kobs_instrumentation.watch import vfs

folder, link = sys.argv[1:]
vfs.SLOW_MS = 0.0
with kobs.Collector(size=1024) as collector:
    undo = vfs.install(lambda: collector)
    subprocess.run(["mount", "-t", "tmpfs", "kobs-test", folder], check=True)
    open(f"{link}/file", "w").close()
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    open(f"{folder}/file").close()
    subprocess.run(["umount", folder], check=True)
    undo()
    for event in collector.snapshot():
        if isinstance(event.payload, FileSlow):
            print(event.payload.operation, event.payload.mount)
        elif isinstance(event.payload, MountChanged):
            assert event.parent == 0
            print(event.payload.change, event.payload.path)
"""


def may_mount() -> bool:
    try:
        return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.says("by mount", "mounts that come and go")
@pytest.mark.skipif(not may_mount(), reason="nothing may be mounted here, in no namespace")
def test_a_slow_operation_is_told_with_its_mount_and_what_was_mounted_meanwhile(
    tmp_path: Path,
) -> None:
    folder, link = tmp_path / "a folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    done = subprocess.run(
        [*ALONE, sys.executable, "-c", PROGRAM, folder, link],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"mounted {folder}",
        f"open {folder}",
        f"remounted {folder}",
        f"open {folder}",
        f"unmounted {folder}",
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    write(tmp_path, LINES)
    return tmp_path


LINES = [
    "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
    "30 27 0:30 / /data rw shared:7 - nfs4 server:/export rw,vers=4.2",
    r"31 30 0:31 / /data/with\040space rw master:1 - tmpfs tmpfs rw",
    "",
    "damaged",
]


def write(root: Path, lines: list[str]) -> None:
    (root / "proc" / "self" / "mountinfo").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/", "/"),
        ("/database", "/"),
        ("/data", "/data"),
        ("/data/", "/data"),
        ("/data/../data/./deep/er", "/data"),
        ("/data/with space/file", "/data/with space"),
    ],
)
def test_a_path_lies_on_the_innermost_mount(root: Path, path: str, point: str) -> None:
    assert Mounts(str(root)).of(path) == point


def test_what_came_went_and_changed(root: Path) -> None:
    mounts = Mounts(str(root))
    assert mounts.look() == []
    write(
        root,
        [
            LINES[0],
            LINES[1].replace(" rw shared", " ro shared"),
            LINES[0].replace("/ / ", "/ /new "),
        ],
    )
    assert sorted(mounts.look()) == [
        Change("/data", "remounted"),
        Change("/data/with space", "unmounted"),
        Change("/new", "mounted"),
    ]
    assert mounts.look() == []


def test_changes_are_told_with_the_next_slow_operation_and_at_the_end(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vfs, "Mounts", lambda: Mounts(str(root)))
    monkeypatch.setattr(vfs, "SLOW_MS", 0.0)
    with kobs.Collector(size=64) as collector:
        undo = vfs.install(lambda: collector)
        write(root, LINES[:1])
        os.mkdir(tmp_path / "made")
        write(root, LINES[:2])
        undo()
        told = [event.payload for event in collector.snapshot()]
    assert [(each.path, each.change) for each in told if isinstance(each, MountChanged)] == [
        ("/data", "unmounted"),
        ("/data/with space", "unmounted"),
        ("/data", "mounted"),
    ]
    slow = [each for each in told if isinstance(each, FileSlow) and each.operation == "mkdir"]
    assert [each.mount for each in slow] == ["/"]


def test_of_several_at_one_point_the_last_counts(root: Path) -> None:
    mounts = Mounts(str(root))
    write(root, [*LINES, LINES[1].replace("0:30", "0:99")])
    assert mounts.look() == [Change("/data", "remounted")]


def test_where_the_list_cannot_be_read_nothing_is_said(root: Path) -> None:
    mounts = Mounts(str(root))
    (root / "proc" / "self" / "mountinfo").unlink()
    assert mounts.look() == []
    assert mounts.of("/data/file") == "/data"
    assert Mounts(str(root)).of("/data/file") == ""


def test_a_list_of_any_length_is_read(root: Path) -> None:
    write(root, [*LINES, *(LINES[0].replace("/ / ", f"/ /many/{n} ") for n in range(1000))])
    assert Mounts(str(root)).of("/many/999/file") == "/many/999"


def test_paths_are_resolved_as_python_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real" / "deep").mkdir(parents=True)
    Path("absolute").symlink_to(tmp_path / "real")
    Path("relative").symlink_to("absolute/deep")
    Path("real/deep/up").symlink_to("../..")
    for path in ("relative/x", "relative/../y", "real/deep/up/relative/up", "./gone/../z", "/"):
        assert resolved(path) == os.path.realpath(path)
    Path("loop").symlink_to("loop")
    with pytest.raises(OSError, match="too many symbolic links"):
        resolved("loop/file")
