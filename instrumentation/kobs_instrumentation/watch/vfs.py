"""Watches files: what is opened, changed and slow, through `open` and the functions of `os`.

`builtins.open`, `io.open` and `_io.open` stay one object. Left out are the interpreter's own files
(its library and byte code) and kobs's recordings. Mounts are looked at when the watch begins, when
an operation was slow, and when the watch ends.
"""

import os
from time import monotonic_ns
from typing import Any

from kobs import inside
from kobs.payloads import FileChanged, FileOpened, FileSlow, MountChanged
from kobs_instrumentation.watch import _arguments, _own
from kobs_instrumentation.watch._mounts import Mounts
from kobs_instrumentation.watch._patch import Patcher, caller_of_hook
from kobs_instrumentation.watch._watch import GetCollector, Undo, Watch

SLOW_MS = 50.0
"""From how long on a file operation counts as slow."""

UNREACHABLE = ("functions of os imported by name before the watch",)
"""What this watch cannot see with the Python core."""

UNSEEN = ("reads and writes of file objects", "files opened by io.FileIO itself")
"""What it cannot see with either core."""


def _text(path: Any) -> str:
    """The path as text; empty for what is no path of the program's (descriptors, our own)."""
    text = path if type(path) is str else _arguments.text(path)
    collector = _watch.collector()
    if collector is None or _own.is_own_path(text, collector):
        return ""
    return text


def _slow(operation: str, path: str, nanoseconds: int) -> None:
    milliseconds = nanoseconds / 1e6
    if milliseconds >= SLOW_MS:
        _tell_mounts()
        fields = {
            "operation": operation,
            "path": path,
            "duration_ms": milliseconds,
            "threshold_ms": SLOW_MS,
            "mount": _mounts.of(path) if _mounts is not None else "",
        }
        _watch.hold(FileSlow, fields, words=("path",))


_mounts: Mounts | None = None


def _look_at_mounts() -> None:
    global _mounts
    _mounts = Mounts()


def _tell_mounts() -> None:
    """Tell which mounts have changed since they were looked at."""
    for change in _mounts.look() if _mounts is not None else ():
        header = {"causality_id": 0, "parent": 0, "span_id": 0}  # whoever looks did not cause it
        _watch.emit(MountChanged, *change, **header)


def _changed(path: str, change: str) -> None:
    if FileChanged not in inside.said:
        _watch.emit(FileChanged, path, change)
        return
    also = _ALSO.get(change, ())

    def fits(words: dict[str, Any]) -> bool:
        said = words.get("change", change)
        return said == change or said in also

    _watch.tell(FileChanged, {"path": path, "change": change}, fits=fits)


_ALSO = {
    "written": ("created", "copied", "changed"),
    "mode": ("changed",),
    "owner": ("changed",),
    "truncated": ("changed", "written"),
    "touched": ("changed", "created"),
}
"""What a vocabulary may call a change that we see."""


# -- opening ---------------------------------------------------------------------------------


def _before_open(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _by_interpreter():
        return None
    path = _text(args[0] if args else kwargs.get("file"))
    if not path:
        return None
    mode = args[1] if len(args) > 1 else kwargs.get("mode", "r")
    return path, mode if type(mode) is str else str(mode or "r"), monotonic_ns()


def _by_interpreter() -> bool:
    """Importing code comes through `_io.open` too: straight from C, or from frozen modules."""
    caller = caller_of_hook()
    return caller is None or _own.is_interpreter(caller)


def _before_os_open(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    path = _arguments.in_folder(
        _text(_arguments.argument(args, kwargs, 0, "path")), kwargs.get("dir_fd")
    )
    if not path:
        return None
    flags = _arguments.argument(args, kwargs, 1, "flags")
    return path, _mode_of_flags(flags), monotonic_ns()


def _mode_of_flags(flags: int) -> str:
    """The mode of `open` that the flags of `os.open` come closest to."""
    plus = flags & os.O_RDWR
    if flags & os.O_EXCL and flags & os.O_CREAT:
        mode = "x"
    elif flags & os.O_APPEND:
        mode = "a"
    elif flags & os.O_TRUNC:
        mode = "w"
    elif flags & os.O_WRONLY:
        mode = "r+"
        plus = 0
    else:
        mode = "r"
    return mode + ("+" if plus else "") + "b"


def _after_open(state: tuple[str, str, int], _: Any) -> None:
    path, mode, started = state
    took = monotonic_ns() - started
    if FileOpened in inside.said:
        _watch.tell(FileOpened, {"path": path, "mode": mode, "duration_us": took / 1e3})
    else:  # what `tell` does where nothing observed says it: most programs, at every file
        emit = _watch.emitter(FileOpened)
        if emit is not None:
            emit(path, mode, took / 1e3)
    if took >= SLOW_MS * 1e6:
        _slow("open", path, took)
    if "w" in mode or "x" in mode:
        _changed(path, "created" if "x" in mode else "written")


# -- changing --------------------------------------------------------------------------------


class _Change:
    """Hooks of an `os` function that changes what is at a path; which argument it is."""

    def __init__(self, operation: str, change: str, index: int = 0, name: str = "path") -> None:
        self.operation = operation
        self.change = change
        self.index = index
        self.name = name

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        path = _text(_arguments.argument(args, kwargs, self.index, self.name))
        path = _arguments.in_folder(path, kwargs.get("dir_fd", kwargs.get("dst_dir_fd")))
        return (path, monotonic_ns()) if path else None

    def after(self, state: tuple[str, int], _: Any) -> None:
        path, started = state
        took = monotonic_ns() - started
        _changed(path, self.change)
        _slow(self.operation, path, took)


_CHANGES = (
    _Change("rename", "renamed", 1, "dst"),
    _Change("replace", "renamed", 1, "dst"),
    _Change("unlink", "removed"),
    _Change("remove", "removed"),
    _Change("rmdir", "removed"),
    _Change("mkdir", "created"),
    _Change("truncate", "truncated"),
    _Change("link", "linked", 1, "dst"),
    _Change("symlink", "linked", 1, "dst"),
    _Change("chmod", "mode"),
    _Change("chown", "owner"),
    _Change("utime", "touched"),
    _Change("mkfifo", "created"),
)


def _patch(patcher: Patcher) -> None:
    _look_at_mounts()
    patcher.on_undo(_tell_mounts)
    patcher.builtin(
        (("_io", "open"), ("io", "open"), ("builtins", "open")), _before_open, _after_open
    )
    patcher.builtin((("posix", "open"), ("os", "open")), _before_os_open, _after_open)
    for change in _CHANGES:
        names = (("posix", change.operation), ("os", change.operation))
        patcher.builtin(names, change.before, change.after)


_watch = Watch("vfs", _patch)


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch files; returns what takes it back."""
    return _watch.install(get_collector, events=events)
