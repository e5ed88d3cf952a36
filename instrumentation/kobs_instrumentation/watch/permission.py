"""Watches permissions: what was refused for want of one, and what was given.

Denials are calls of the operating system that ended with `PermissionError`; questions (`os.access`,
`os.stat`) are none. Grants are changes of who may do what: mode, owner, identity, root, a umask
that lets more through. A call that succeeds and grants nothing costs no Python code.
"""

import os
from collections.abc import Callable
from typing import Any

from kobs.payloads import PermissionDenied, PermissionGranted
from kobs_instrumentation.watch import _arguments, _denials
from kobs_instrumentation.watch._patch import Patcher, nothing
from kobs_instrumentation.watch._sockets import hook
from kobs_instrumentation.watch._watch import GetCollector, Undo, Watch

UNREACHABLE = (
    "os functions imported before the watch",
    "_io.FileIO (opened directly, and its methods)",
    "raw sockets (socket.socket(..., SOCK_RAW))",
)
"""What this watch cannot see with the Python core."""

_Args = tuple[Any, ...]
_Words = Callable[[_Args, dict[str, Any]], str]


_given = _arguments.argument


def _text(path: Any) -> str:
    if isinstance(path, int):
        try:
            return os.readlink(f"/proc/self/fd/{path}")
        except OSError:
            return f"descriptor {path}"
    return "." if path is None else _arguments.text(path) or f"<{type(path).__qualname__}>"


def _path(needs: str, index: int = 0, name: str = "path") -> _Words:
    """What a path has to allow."""

    def words(args: _Args, kwargs: dict[str, Any]) -> str:
        path, folder = _text(_given(args, kwargs, index, name)), kwargs.get("dir_fd")
        if isinstance(folder, int) and not os.path.isabs(path):
            path = os.path.join(_text(folder), path)
        return f"{needs} {path}"

    return words


def _two_paths(needs: str) -> _Words:
    def words(args: _Args, kwargs: dict[str, Any]) -> str:
        source, target = _given(args, kwargs, 0, "src"), _given(args, kwargs, 1, "dst")
        return f"{needs} {_text(source)} and {_text(target)}"

    return words


def _opened(args: _Args, kwargs: dict[str, Any]) -> str:
    mode = str(_given(args, kwargs, 1, "mode", "r"))
    writes = any(letter in mode for letter in "wax")
    access = "read and write" if "+" in mode else "write" if writes else "read"
    return f"{access} {_text(_given(args, kwargs, 0, 'file'))}"


def _os_opened(args: _Args, kwargs: dict[str, Any]) -> str:
    flags = _given(args, kwargs, 1, "flags", 0)
    access = ("read", "write", "read and write")[min(flags & os.O_ACCMODE, 2)]
    return _path(access)(args, kwargs)


def _always(needs: str) -> _Words:
    return lambda args, kwargs: needs


def _signal(args: _Args, kwargs: dict[str, Any]) -> str:
    return (
        f"CAP_KILL, or to be the same user: signal {_given(args, kwargs, 1, 'signal')} to {args[0]}"
    )


def _address(needs: str) -> _Words:
    def words(args: _Args, kwargs: dict[str, Any]) -> str:
        address = args[-1]
        if isinstance(address, tuple) and len(address) > 1:
            return f"{needs} {address[0]}:{address[1]}"
        return f"{needs} {_text(address)}"

    return words


_FOLDER_OF = "write to the folder of"
_OWNER = "ownership of"
_NICE = _always("CAP_SYS_NICE")
_UID, _GID = _always("CAP_SETUID"), _always("CAP_SETGID")

_NEEDS: dict[str, _Words] = {
    "open": _os_opened,
    "chdir": _path("search"),
    "fchdir": _path("search", name="fd"),
    "listdir": _path("read"),
    "scandir": _path("read"),
    "mkdir": _path(_FOLDER_OF),
    "rmdir": _path(_FOLDER_OF),
    "unlink": _path(_FOLDER_OF),
    "remove": _path(_FOLDER_OF),
    "mkfifo": _path(_FOLDER_OF),
    "mknod": _path("CAP_MKNOD, write to the folder of"),
    "rename": _two_paths("write to the folders of"),
    "replace": _two_paths("write to the folders of"),
    "link": _two_paths("write to the folder of"),
    "symlink": _path(_FOLDER_OF, 1, "dst"),
    "truncate": _path("write"),
    "utime": _path(_OWNER),
    "chmod": _path(_OWNER),
    "fchmod": _path(_OWNER, name="fd"),
    "chown": _path("CAP_CHOWN, ownership of"),
    "lchown": _path("CAP_CHOWN, ownership of"),
    "fchown": _path("CAP_CHOWN, ownership of", name="fd"),
    "chroot": _path("CAP_SYS_CHROOT, search"),
    "execv": _path("execute"),
    "execve": _path("execute"),
    "posix_spawn": _path("execute"),
    "posix_spawnp": _path("execute"),
    "kill": _signal,
    "killpg": _signal,
    "nice": _NICE,
    "setpriority": _NICE,
    "sched_setaffinity": _NICE,
    "sched_setparam": _NICE,
    "sched_setscheduler": _NICE,
    "setpgid": _always("a process of this session that has not called exec"),
    "setsid": _always("not to lead a process group"),
    "setuid": _UID, "seteuid": _UID, "setreuid": _UID, "setresuid": _UID,
    "setgid": _GID, "setegid": _GID, "setregid": _GID, "setresgid": _GID,
    "setgroups": _GID, "initgroups": _GID,
}  # fmt: skip
"""What functions of `os` need, in words, where they are refused."""


# -- grants ----------------------------------------------------------------------------------


def _mode(args: _Args, kwargs: dict[str, Any]) -> str:
    return f"{_given(args, kwargs, 1, 'mode'):#o} {_text(_given(args, kwargs, 0, 'path'))}"


def _owner(args: _Args, kwargs: dict[str, Any]) -> str:
    user, group = _given(args, kwargs, 1, "uid"), _given(args, kwargs, 2, "gid")
    return f"{user}:{group} {_text(_given(args, kwargs, 0, 'path'))}"


def _identity(what: str) -> _Words:
    def words(args: _Args, kwargs: dict[str, Any]) -> str:
        values = (*args, *kwargs.values())
        return " ".join([what, *(str(value) for value in values)])

    return words


_GRANTS: dict[str, _Words] = {
    "chmod": _mode,
    "fchmod": _mode,
    "chown": _owner,
    "lchown": _owner,
    "fchown": _owner,
    "chroot": _path("root"),
    **{name: _identity("user") for name in ("setuid", "seteuid", "setreuid", "setresuid")},
    **{name: _identity("group") for name in ("setgid", "setegid", "setregid", "setresgid")},
    "setgroups": _identity("groups"),
    "initgroups": _identity("groups"),
}
"""What functions of `os` have given, in words, where they succeeded."""


class _Call:
    """The hooks of one function."""

    def __init__(self, operation: str, needs: _Words, grants: _Words | None = None) -> None:
        self.operation = operation
        self._needs = needs
        self._grants = grants

    @property
    def before(self) -> Callable[[_Args, dict[str, Any]], Any] | None:
        """The arguments are kept for `after`; without it, for failures only."""
        return None if self._grants is None else lambda args, kwargs: (args, kwargs)

    def after(self, state: tuple[_Args, dict[str, Any]], _: Any) -> None:
        if self._grants is not None:
            _watch.emit(PermissionGranted, self.operation, self._grants(*state))

    def failed(self, state: tuple[_Args, dict[str, Any]], error: BaseException) -> None:
        if isinstance(error, PermissionError) and not _denials.is_by_policy(error):
            required = self._needs(*state)
            _watch.hold(PermissionDenied, {"operation": self.operation, "required": required})


class _Popen(_Call):
    """The hooks of `subprocess.Popen._execute_child`. A denial of the `os.posix_spawn` that it may
    call is told already."""

    def failed(self, state: tuple[_Args, dict[str, Any]], error: BaseException) -> None:
        place = error.__traceback__
        while place is not None:
            if place.tb_frame.f_code.co_name == "_posix_spawn":
                return
            place = place.tb_next
        super().failed(state, error)


def _executed(args: _Args, kwargs: dict[str, Any]) -> str:
    """`subprocess.Popen._execute_child(self, args, executable, ...)`."""
    executable = _given(args, kwargs, 2, "executable")
    words = _given(args, kwargs, 1, "args")
    if type(words) in (list, tuple):
        words = words[0] if words else ""
    return f"execute {_text(words if executable is None else executable)}"


def _before_umask(args: _Args, kwargs: dict[str, Any]) -> Any:
    return args[0]


def _after_umask(new: int, old: int) -> None:
    if old & ~new:
        _watch.emit(PermissionGranted, "umask", f"{new:#o}, was {old:#o}")


def _limit(args: _Args, kwargs: dict[str, Any]) -> str:
    return f"CAP_SYS_RESOURCE: limit {args[-2]} to {args[-1]}"


def _patch(patcher: Patcher) -> None:
    opened = _Call("open", _opened)
    names = (("_io", "open"), ("io", "open"), ("builtins", "open"))
    patcher.builtin(names, opened.before, failed=opened.failed)
    for name, needs in _NEEDS.items():
        call = _Call(name, needs, _GRANTS.get(name))
        after = call.after if name in _GRANTS else nothing
        patcher.builtin((("posix", name), ("os", name)), call.before, after, call.failed)
    patcher.builtin((("posix", "umask"), ("os", "umask")), _before_umask, _after_umask)

    def subprocess(module: Any) -> None:
        call = _Popen("exec", _executed)
        patcher.method(module.Popen, "_execute_child", None, failed=call.failed)

    def resource(module: Any) -> None:
        for name in ("setrlimit", "prlimit"):
            patcher.builtin((("resource", name),), None, failed=_Call(name, _limit).failed)

    def shared_memory(_: Any) -> None:
        call = _Call("shm_open", _path("shared memory"))
        names = (("_posixshmem", "shm_open"),)
        patcher.builtin(names, None, failed=call.failed)

    def sockets(_: Any) -> None:
        for name in ("bind", "connect", "sendto"):
            hook(patcher, name, None, failed=_Call(name, _address(name)).failed)

    patcher.when_imported("subprocess", subprocess)
    patcher.when_imported("resource", resource)
    patcher.when_imported("_posixshmem", shared_memory)
    patcher.when_imported("socket", sockets)


_watch = Watch("permission", _patch)


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch permissions; returns what takes it back."""
    return _watch.install(get_collector, events=events)
