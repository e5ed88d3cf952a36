"""Mounts: on which one a file lies, and which have come and gone.

Links are followed by the functions of `os` as they were when kobs was imported, and the kernel's
list is read as in `_limits`: nothing of the program's runs.
"""

import os
from typing import NamedTuple

from kobs_instrumentation.watch import _limits

_LINKS = 40
"""As many symbolic links as the kernel follows in one path."""

_readlink, _getcwd = os.readlink, os.getcwd


class Mount(NamedTuple):
    """What is mounted somewhere. Two are equal if nothing has changed."""

    device: str
    """Its number, `major:minor`."""
    root: str
    """What of the file system is mounted."""
    options: str
    kind: str
    """The file system's type, its source and options."""


class Change(NamedTuple):
    """A mount that came, went or is another."""

    point: str
    """Where it is mounted."""
    what: str
    """`mounted`, `unmounted` or `remounted`."""


class Mounts:
    """The mounts of this process, as they were when they were looked at last. `root` is where
    `/proc` lies."""

    def __init__(self, root: str = "") -> None:
        self._file = f"{root}/proc/self/mountinfo"
        self.points = self._read()

    def look(self) -> list[Change]:
        """Look again: what has changed."""
        before, self.points = self.points, self._read()
        if not self.points:  # it cannot be read any more
            self.points = before
        changes = [Change(point, "unmounted") for point in before if point not in self.points]
        for point, mount in self.points.items():
            if point not in before:
                changes.append(Change(point, "mounted"))
            elif mount != before[point]:
                changes.append(Change(point, "remounted"))
        return changes

    def of(self, path: str) -> str:
        """The point of the mount that a path lies on; empty if that is not known."""
        try:
            found = resolved(path)
        except OSError:
            return ""
        while found not in self.points:
            if found in ("", "/"):
                return ""
            found = found.rpartition("/")[0] or "/"
        return found

    def _read(self) -> dict[str, Mount]:
        points: dict[str, Mount] = {}
        for line in _limits.read_whole(self._file).decode("utf-8", "surrogateescape").splitlines():
            words, _, kind = line.partition(" - ")
            fields = words.split(" ")
            if len(fields) >= 6:
                # Of several at one point the last covers the others.
                points[_unescaped(fields[4])] = Mount(fields[2], fields[3], fields[5], kind)
        return points


def _unescaped(text: str) -> str:
    """Space, tab, newline and backslash are written as three octal digits."""
    head, *rest = text.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def resolved(path: str) -> str:
    """A path without symbolic links, `.` and `..`. Raises `OSError` where links go around."""
    todo = [*reversed(os.path.join(_getcwd(), path).split("/"))]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        here = "/".join(("", *done, part))
        try:
            target = _readlink(here)
        except OSError:  # it is no link, or not there any more
            done.append(part)
            continue
        links += 1
        if links > _LINKS:
            raise OSError(f"{path}: too many symbolic links")
        if target.startswith("/"):
            done.clear()
        todo.extend(reversed(target.split("/")))
    return "/" + "/".join(done)
