"""One tree of names over several real folders."""

import errno
import os
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from kobs import observe


class _Mount(NamedTuple):
    source: Path
    read_only: bool


@observe("vfs")
class MountManager:
    """Mounts folders under names, and works on the files below them.

    No path gets out of its folder, not by `..` and not by a link. An operation that takes longer
    than `slow_threshold_ms` counts as slow.
    """

    def __init__(self, *, slow_threshold_ms: float = 50.0) -> None:
        self.slow_threshold_ms = slow_threshold_ms
        self._mounts: dict[PurePosixPath, _Mount] = {}

    def mount(self, path: str, source: str, *, read_only: bool = False) -> None:
        """Show the folder `source` at `path`; EBUSY if something is mounted there."""
        point = PurePosixPath(path)
        if point in self._mounts:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        folder = Path(source).resolve(strict=True)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), source)
        self._mounts[point] = _Mount(folder, read_only)

    def remount(self, path: str, *, read_only: bool) -> None:
        """Make a mount writable or not."""
        self._mounts[PurePosixPath(path)] = self._at(path)._replace(read_only=read_only)

    def unmount(self, path: str) -> None:
        """Take the mount at `path` away; EINVAL if there is none."""
        self._at(path)
        del self._mounts[PurePosixPath(path)]

    def mounts(self) -> dict[str, str]:
        """What is mounted where."""
        return {str(point): str(mount.source) for point, mount in self._mounts.items()}

    def open(self, path: str, mode: str = "rb") -> IO[bytes]:
        """Open a file, in a binary mode."""
        if "b" not in mode:
            raise ValueError(f"mode = {mode!r}: expected a binary mode such as 'rb' or 'wb'")
        return open(self._real(path, write=set(mode) & set("wax+") != set()), mode)

    def read_file(self, path: str) -> bytes:
        """All bytes of a file."""
        with self.open(path) as file:
            return file.read()

    def write_file(self, path: str, data: bytes) -> int:
        """Replace what a file holds, and see it to the disk; how many bytes."""
        with self.open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return len(data)

    def mkdir(self, path: str) -> None:
        """Make a folder."""
        self._real(path, write=True).mkdir()

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in the same mount or in one on the same disk."""
        source = self._real(old, write=True, follow=False)
        source.rename(self._real(new, write=True, follow=False))

    def unlink(self, path: str) -> None:
        """Remove a file, or a link (not what it leads to)."""
        self._real(path, write=True, follow=False).unlink()

    def list_folder(self, path: str) -> list[str]:
        """The names in a folder."""
        return sorted(entry.name for entry in self._real(path).iterdir())

    def _at(self, path: str) -> _Mount:
        try:
            return self._mounts[PurePosixPath(path)]
        except KeyError:
            raise OSError(errno.EINVAL, "nothing is mounted there", path) from None

    def _real(self, path: str, *, write: bool = False, follow: bool = True) -> Path:
        """The file behind a path: below the source of the innermost mount, or refused."""
        wanted = PurePosixPath(path)
        for point in (wanted, *wanted.parents):
            mount = self._mounts.get(point)
            if mount is not None:
                break
        else:
            raise FileNotFoundError(errno.ENOENT, "no mount holds it", path)
        if write and mount.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        below = mount.source / wanted.relative_to(point)
        real = below.resolve() if follow else below.parent.resolve() / below.name
        if not real.is_relative_to(mount.source):
            raise PermissionError(errno.EACCES, "leads out of its mount", path)
        return real
