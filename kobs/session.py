"""A session: the folder that holds the recordings of a process tree.

session.json       what was run, when, where
numbers            one byte for each recording number that was given out
NNNNN-PID.kobs     a recording; NNNNN-PID.K.kobs its further segments
NNNNN-PID.exported how far it was exported over OTLP
doorbell           wakes who waits for events of any of the processes
links              causes on their way between processes
unobserved.jsonl   children that could not be recorded, and why
exit.json          how the program ended
exporter.json      which process exports all of it over OTLP, as long as it does
"""

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kobs import links
from kobs.context import Cause
from kobs.errors import SessionError
from kobs.ids import MAX_RECORDING

VERSION = 1

_RECORDING_NAME = re.compile(r"(\d{5,7})-(\d+)\.kobs")


def sessions_root() -> str:
    """The folder that sessions lie in: `$XDG_STATE_HOME/kobs`, else `~/.local/state/kobs`."""
    state = os.environ.get("XDG_STATE_HOME") or ""
    if not os.path.isabs(state):  # The specification says to ignore relative ones.
        state = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "kobs")


def latest_session(root: str | None = None) -> "Session | None":
    """The session that was begun last; None if there is none."""
    root = root or sessions_root()
    try:
        names = sorted(os.listdir(root), reverse=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SessionError(f"{root}: cannot be read: {error.strerror}") from None
    for name in names:
        path = os.path.join(root, name)
        if os.path.isfile(os.path.join(path, "session.json")):
            return Session.open(path)
    return None


class Session:
    """A session folder. Make one with `Session.create`, find one with `Session.open`."""

    def __init__(self, path: str, info: Mapping[str, Any]) -> None:
        self.path = path
        self.info: dict[str, Any] = dict(info)
        """What `session.json` says: version, session, command, argv, cwd, started_wall_ns,
        started_monotonic_ns, python, kobs, trace_high (hex)."""
        self.id: str = self.info["session"]
        """32 hex digits."""
        self.trace_high = int(self.info["trace_high"], 16)
        """The high 64 bits of every trace id that the session's recordings mint."""
        self._links: links.LinksTable | None = None

    @classmethod
    def create(
        cls,
        command: str,
        argv: Sequence[str],
        *,
        root: str | os.PathLike[str] | None = None,
        cwd: str | None = None,
    ) -> "Session":
        """Make a new session folder (mode 0700) for `command`.

        Raises `SessionError` where it cannot be made.
        """
        from kobs import __version__

        root = os.fspath(root) if root is not None else sessions_root()
        session = os.urandom(16).hex()
        wall_ns = time.time_ns()
        began = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall_ns // 1_000_000_000))
        name = re.sub(r"[^\w.+-]+", "_", os.path.basename(command)).strip("._-")[:40] or "python"
        # The milliseconds keep names in order where several begin in one second.
        millis = wall_ns // 1_000_000 % 1000
        path = os.path.join(root, f"{began[:-1]}.{millis:03}Z-{name}-{session[:6]}")
        try:
            working = cwd if cwd is not None else os.getcwd()
        except OSError:
            working = ""
        info = {
            "version": VERSION,
            "session": session,
            "command": command,
            "argv": list(argv),
            "cwd": working,
            "started_wall_ns": wall_ns,
            "started_monotonic_ns": time.monotonic_ns(),
            "python": ".".join(map(str, _python_version())),
            "kobs": __version__,
            "trace_high": f"{int.from_bytes(os.urandom(8), 'big') | 1:016x}",
        }
        from kobs._core import doorbell_file

        try:
            os.makedirs(root, mode=0o700, exist_ok=True)
            os.mkdir(path, 0o700)
            os.chmod(path, 0o700)
            _write(os.path.join(path, "numbers"), b"")
            _write(os.path.join(path, "unobserved.jsonl"), b"")
            links.make_file(os.path.join(path, "links"))
            doorbell_file.make(os.path.join(path, doorbell_file.FILE))
            # Last, so that what has a session.json is whole.
            _write_json(os.path.join(path, "session.json"), info)
        except OSError as error:
            import shutil

            shutil.rmtree(path, ignore_errors=True)  # half a session is none
            raise SessionError(
                f"{path}: no session can be made there: {error.strerror}; "
                "set XDG_STATE_HOME to a folder that can be written"
            ) from None
        return cls(path, info)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Session":
        """Open a session folder. Raises `SessionError` with one line where it is none."""
        path = os.path.abspath(os.fspath(path))
        file = os.path.join(path, "session.json")
        try:
            with open(file, "rb") as stream:
                info = json.loads(stream.read(1 << 22))
        except FileNotFoundError:
            if os.path.isdir(path):
                raise SessionError(f"{path}: not a session: it has no session.json") from None
            raise SessionError(
                f"{path}: no such session; sessions lie in {sessions_root()}"
            ) from None
        except NotADirectoryError:
            raise SessionError(f"{path}: not a session: it is a file, not a folder") from None
        except OSError as error:
            raise SessionError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise SessionError(f"{file}: damaged: not JSON ({error})") from None
        return cls(path, _checked(file, info))

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"<Session {self.path}>"

    # Recordings

    def next_recording(self) -> int:
        """A recording number that nobody else in the session has, from 1.

        Raises `SessionError` where the folder cannot be written or all numbers are used up.
        """
        path = os.path.join(self.path, "numbers")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                # Appending is atomic between processes, and moves this descriptor to the end of
                # what it wrote: the position is the number.
                os.write(descriptor, b".")
                number = os.lseek(descriptor, 0, os.SEEK_CUR)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SessionError(f"{self.path}: cannot add a recording: {error.strerror}") from None
        if number > MAX_RECORDING:
            raise SessionError(f"{self.path}: all {MAX_RECORDING:,} recording numbers are used up")
        return number

    def recordings_begun(self) -> int:
        """How many recording numbers were given out; also where a recording found no room.

        Raises `SessionError` where the folder cannot be read.
        """
        try:
            return os.stat(os.path.join(self.path, "numbers")).st_size
        except OSError as error:
            raise SessionError(f"{self.path}: cannot be read: {error.strerror}") from None

    def recording_path(self, number: int, pid: int) -> str:
        """The file of a recording."""
        return os.path.join(self.path, f"{number:05}-{pid}.kobs")

    def recordings(self) -> list[str]:
        """The files of the recordings there are (without further segments), by number."""
        try:
            names = os.listdir(self.path)
        except OSError as error:
            raise SessionError(f"{self.path}: cannot be read: {error.strerror}") from None
        found = [
            (int(match[1]), name) for name in names if (match := _RECORDING_NAME.fullmatch(name))
        ]
        return [os.path.join(self.path, name) for _, name in sorted(found)]

    # Links between processes

    def put_link(self, key: bytes, cause: Cause, link: int, origin: str = "") -> None:
        """Leave a cause for another process under a key; see `links.LinksTable.put`."""
        self._table().put(key, cause, link, origin)

    def take_link(self, key: bytes) -> links.LinkRecord | None:
        """The oldest cause under a key, once; None if there is none."""
        return self._table().take(key)

    def peek_link(self, key: bytes) -> links.LinkRecord | None:
        """The newest cause under a key, which stays; None if there is none."""
        return self._table().peek(key)

    def _table(self) -> links.LinksTable:
        if self._links is None:
            self._links = links.LinksTable.open(os.path.join(self.path, "links"))
        return self._links

    # What could not be recorded, and the end

    def add_unobserved(self, pid: int, argv: Sequence[str], reason: str) -> None:
        """Note a child process that is not recorded, and why."""
        line = json.dumps({"pid": pid, "argv": list(argv), "reason": reason}) + "\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            descriptor = os.open(os.path.join(self.path, "unobserved.jsonl"), flags, 0o600)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SessionError(f"{self.path}: cannot be written: {error.strerror}") from None

    def unobserved(self) -> list[dict[str, Any]]:
        """The children that were not recorded: pid, argv, reason."""
        found = []
        try:
            with open(os.path.join(self.path, "unobserved.jsonl"), "rb") as file:
                for line in file:
                    try:
                        entry = json.loads(line)
                    except (ValueError, RecursionError):
                        continue  # A writer was killed in the middle of it.
                    if isinstance(entry, dict):
                        found.append(entry)
        except OSError:
            pass
        return found

    def write_exit(self, exit_code: int | None, signal: int | None = None) -> None:
        """Note how the program ended. Raises `SessionError` where that cannot be written."""
        info = {
            "exit_code": exit_code,
            "signal": signal,
            "ended_wall_ns": time.time_ns(),
            "ended_monotonic_ns": time.monotonic_ns(),
        }
        try:
            _write_json(os.path.join(self.path, "exit.json"), info)
        except OSError as error:
            raise SessionError(f"{self.path}: cannot be written: {error.strerror}") from None

    @property
    def exit(self) -> dict[str, Any] | None:
        """What `write_exit` noted; None while the program runs, or if `kobs run` was killed."""
        try:
            with open(os.path.join(self.path, "exit.json"), "rb") as file:
                found = json.loads(file.read(1 << 16))
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    # Who exports it

    def begin_export(self) -> None:
        """Note that this process exports all of it, until `end_export` or its own end: exporters
        in the recorded processes leave it to this one. Raises `SessionError` where that cannot be
        written."""
        about = {"pid": os.getpid(), "since_monotonic_ns": time.monotonic_ns()}
        try:
            _write_json(os.path.join(self.path, "exporter.json"), about)
        except OSError as error:
            raise SessionError(f"{self.path}: cannot be written: {error.strerror}") from None

    def end_export(self) -> None:
        """It does so no longer."""
        try:
            os.unlink(os.path.join(self.path, "exporter.json"))
        except OSError:  # whoever asks sees that the process is gone
            pass

    @property
    def is_exported(self) -> bool:
        """A process that runs exports all of it."""
        try:
            with open(os.path.join(self.path, "exporter.json"), "rb") as file:
                about = json.loads(file.read(1 << 12))
            pid, since_ns = int(about["pid"]), int(about["since_monotonic_ns"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return False
        from kobs._core.attached import process_alive

        return process_alive(pid, since_ns)


def _checked(file: str, info: object) -> dict[str, Any]:
    """What `session.json` must have, before anyone relies on it."""
    if not isinstance(info, dict):
        raise SessionError(f"{file}: damaged: an object was expected, found {type(info).__name__}")
    if info.get("version") != VERSION:
        raise SessionError(
            f"{file}: session version {info.get('version')!r}; this kobs reads version {VERSION}"
        )
    for key, kind in (
        ("session", str),
        ("command", str),
        ("argv", list),
        ("started_wall_ns", int),
        ("started_monotonic_ns", int),
        ("trace_high", str),
    ):
        if not isinstance(info.get(key), kind):
            raise SessionError(
                f"{file}: damaged: {key} is {info.get(key)!r}, a {kind.__name__} was expected"
            )
    if not re.fullmatch(r"[0-9a-f]{1,16}", info["trace_high"]):
        raise SessionError(
            f"{file}: damaged: trace_high is {info['trace_high']!r}, hex digits were expected"
        )
    return info


def _write(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _write_json(path: str, info: Mapping[str, Any]) -> None:
    """Write a file whole or not at all."""
    _write(path + ".new", json.dumps(info, indent=1).encode() + b"\n")
    os.replace(path + ".new", path)


def _python_version() -> tuple[int, int, int]:
    import sys

    return sys.version_info[:3]
