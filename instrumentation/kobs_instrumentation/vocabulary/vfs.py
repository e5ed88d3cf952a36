"""Vocabulary of `@observe("vfs")`: classes that work on files and mounts.

The path is argument path, file, filename, name, mount_point or the first. Every operation on a
file that takes as long as the threshold or longer (attribute slow_threshold_ms of the instance,
else 100) is slow, also when it raised.

- `open*`
  - FileOpened when it returned
    - `path`: the path
    - `mode`: argument mode or flags, else "r"
    - `duration_us`: measured
- `write*` `append*`
  - FileChanged when it returned
    - `path`: the path
    - `change`: "written"
- `create*` `mkdir*` `touch*` `make_dir*`
  - FileChanged when it returned
    - `path`: the path
    - `change`: "created"
- `rename*` `move*` `replace*`
  - FileChanged when it returned
    - `path`: argument new, destination, dest, dst, target or the second
    - `change`: "renamed"
- `copy*`
  - FileChanged when it returned
    - `path`: argument new, destination, dest, dst, target or the second
    - `change`: "copied"
- `unlink*` `remove*` `delete*` `rmdir*`
  - FileChanged when it returned
    - `path`: the path
    - `change`: "removed"
- `chmod*` `chown*` `truncate*`
  - FileChanged when it returned
    - `path`: the path
    - `change`: "changed"
- `open*` `read*` `write*` `append*` `create*` `mkdir*` `touch*` `make_dir*` `rename*` `move*`
  `replace*` `copy*` `unlink*` `remove*` `delete*` `rmdir*` `chmod*` `chown*` `truncate*` `list*`
  `stat*` `sync*` `flush*`
  - FileSlow when it took as long as the threshold or longer
    - `operation`: open, read, write, create, rename, copy, unlink, change, list, stat or sync
    - `path`: the path
    - `duration_ms`: measured
    - `threshold_ms`: the threshold
- `mount` `mount_*`
  - MountChanged when it returned
    - `path`: the path
    - `change`: "mounted"
- `unmount*` `umount*`
  - MountChanged when it returned
    - `path`: the path
    - `change`: "unmounted"
- `remount*`
  - MountChanged when it returned
    - `path`: the path
    - `change`: "remounted"
"""

import os
from typing import Any

from kobs.events import FileChanged, FileOpened, FileSlow, MountChanged
from kobs.observe import Emission, Rule, Vocabulary, this
from kobs_instrumentation.vocabulary.common import emission, given, known, text


def _path_text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, str | bytes | os.PathLike) else text(value)


_GIVEN = given("path", "file", "filename", "name", "mount_point", 0)
_TARGET = given("new", "destination", "dest", "dst", "target", 1)


def _changed(change: str, path: Any = _GIVEN) -> Emission:
    return emission(
        FileChanged,
        where=known(path),
        fields={"path": path.map(_path_text), "change": change},
    )


def _slow(operation: str) -> Emission:
    return emission(
        FileSlow,
        when="exit",
        where=known(_GIVEN),
        threshold_ms=this("slow_threshold_ms", default=100.0),
        fields={
            "operation": operation,
            "path": given("path", "file", "filename", "name", 0).map(_path_text),
        },
    )


def _mount(change: str) -> Emission:
    return emission(
        MountChanged,
        where=known(_GIVEN),
        fields={"path": _GIVEN.map(_path_text), "change": change},
    )


_OPENED = emission(
    FileOpened,
    where=known(_GIVEN),
    fields={
        "path": _GIVEN.map(_path_text),
        "mode": given("mode", "flags", default="r").map(text),
    },
)

VOCABULARY = Vocabulary(
    "vfs",
    classes=("*MountManager", "*FileSystem", "*VirtualFileSystem"),
    rules=(
        Rule(("open*",), (_OPENED, _slow("open"))),
        Rule(("read*",), (_slow("read"),)),
        Rule(("write*", "append*"), (_changed("written"), _slow("write"))),
        Rule(("create*", "mkdir*", "touch*", "make_dir*"), (_changed("created"), _slow("create"))),
        Rule(("rename*", "move*", "replace*"), (_changed("renamed", _TARGET), _slow("rename"))),
        Rule(("copy*",), (_changed("copied", _TARGET), _slow("copy"))),
        Rule(("unlink*", "remove*", "delete*", "rmdir*"), (_changed("removed"), _slow("unlink"))),
        Rule(("chmod*", "chown*", "truncate*"), (_changed("changed"), _slow("change"))),
        Rule(("list*",), (_slow("list"),)),
        Rule(("stat*",), (_slow("stat"),)),
        Rule(("sync*", "flush*"), (_slow("sync"),)),
        Rule(("mount", "mount_*"), (_mount("mounted"),)),
        Rule(("unmount*", "umount*"), (_mount("unmounted"),)),
        Rule(("remount*",), (_mount("remounted"),)),
    ),
)
