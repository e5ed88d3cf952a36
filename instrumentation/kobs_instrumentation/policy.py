"""What a program may do: `SandboxPolicy`, rules on audit events, for the sandbox watch.

A rule is `event` or `event:argument`, both globs (`*`, `?`, `[seq]`; `*` matches `/` too). `event`
is the name of an audit event (https://docs.python.org/3/library/audit_events.html); an `open` is
also called `open.read` and `open.write`, by what the file is opened for. `argument` is compared
with what the event is about:

- `open`, `os.*`, `shutil.*`, ... on files: the absolute path; for two paths, each of them
- `socket.connect`, `socket.bind`, `socket.sendto`: `host:port` (`[host]:port` for IPv6), or the
  path of a unix socket
- `socket.getaddrinfo`: `host:port`; other look-ups: the host
- `subprocess.Popen`, `os.exec`, `os.posix_spawn`: the executable, as given and as found on `PATH`
- `os.system`: the command
- others: the first argument that is text

What a `deny` rule matches is forbidden, unless an `allow` rule matches too. A path is matched as
given and with its symbolic links resolved: one forbidden is enough, and all have to be allowed.
A descriptor is no path: opening one again is never forbidden.
"""

import errno
import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from typing import Any

from kobs.errors import ConfigError
from kobs_instrumentation.watch._denials import BY_POLICY

MODES = ("warn", "deny")

_REMEMBERED = 4096

_TWO_PATHS = frozenset(
    ("os.rename", "os.link", "os.symlink", "shutil.copyfile", "shutil.copymode", "shutil.copystat",
     "shutil.copytree", "shutil.move")
)  # fmt: skip
_PATHS = frozenset(
    ("open", "glob.glob", "pathlib.Path.glob", "sqlite3.connect", "tempfile.mkdtemp",
     "tempfile.mkstemp")
)  # fmt: skip
_NO_PATHS = frozenset(
    ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.kill",
     "os.killpg", "os.putenv", "os.unsetenv", "os.fwalk")
)  # fmt: skip
_WITH_FOLDER = frozenset(("os.chmod", "os.chown", "os.mkdir", "os.remove", "os.rmdir", "os.utime"))
"""Those whose last argument is the folder that the path is relative to, -1 for none."""
_ADDRESSES = frozenset(("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"))
_EXECUTABLES = frozenset(("subprocess.Popen", "os.exec", "os.posix_spawn"))


class Rule:
    """One rule, as text and compiled."""

    __slots__ = ("_argument", "_event", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        event, colon, argument = text.partition(":")
        if not event.strip() or (colon and not argument.strip()):
            raise ConfigError(
                f"sandbox rule {text!r}: expected an audit event, or event:argument, for instance "
                "'open.write:/etc/*'"
            )
        self._event = re.compile(translate(event.strip())).match
        self._argument = re.compile(translate(argument.strip())).match if colon else None

    @property
    def is_capability(self) -> bool:
        """The rule is about an event whatever its argument."""
        return self._argument is None

    def names(self, events: Iterable[str]) -> bool:
        """One of the names of an event is meant."""
        return any(self._event(name) for name in events)

    def matches(self, events: Iterable[str], argument: str) -> bool:
        """An event with this argument is meant."""
        return self.names(events) and (self._argument is None or bool(self._argument(argument)))


class Violation:
    """Something that a policy forbids."""

    __slots__ = ("argument", "event", "rule")

    def __init__(self, event: str, argument: str, rule: Rule) -> None:
        self.event = event
        self.argument = argument
        self.rule = rule

    @property
    def operation(self) -> str:
        """What was tried."""
        return f"{self.event} {self.argument}".strip()

    def error(self) -> PermissionError:
        """What the program gets where the policy is enforced."""
        text = f"{self.event} {BY_POLICY} ({self.rule.text})"
        return PermissionError(errno.EPERM, text, *([self.argument] if self.argument else []))


class SandboxPolicy:
    """Which audit events are forbidden, and what happens then.

    `deny` and `allow` are rules (see the module). `mode` is "warn": a violation is recorded and
    goes on; or "deny": it also raises `PermissionError` in the program. Raises `ConfigError`.

    A guard rail, not a security boundary: what runs in the process can reach the system in ways
    that are not audited, and between the check and the call a path may change.
    """

    def __init__(
        self, *, deny: Iterable[str] = (), allow: Iterable[str] = (), mode: str = "warn"
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"sandbox mode={mode!r}: expected one of {', '.join(MODES)}")
        self.mode = mode
        self.deny = _rules("deny", deny)
        self.allow = _rules("allow", allow)
        self._about: dict[tuple[str, ...], list[Rule]] = {}

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any], where: str = "policy") -> "SandboxPolicy":
        """A policy from what a file says: keys `mode`, `deny`, `allow`. Raises `ConfigError`."""
        unknown = sorted(set(given) - {"mode", "deny", "allow"})
        if unknown:
            raise ConfigError(
                f"{where}: there is no key {unknown[0]!r}; there are mode, deny and allow"
            )
        try:
            return cls(**given)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    @classmethod
    def from_file(cls, path: "str | os.PathLike[str]") -> "SandboxPolicy":
        """A policy from a TOML file. Raises `ConfigError`."""
        import tomllib

        where = os.fspath(path)
        try:
            with open(path, "rb") as file:
                given = tomllib.load(file)
        except OSError as error:
            raise ConfigError(f"{where}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}: is no TOML: {error}") from None
        return cls.from_mapping(given, where)

    def to_mapping(self) -> dict[str, Any]:
        """What `from_mapping` takes."""
        return {
            "mode": self.mode,
            "deny": [rule.text for rule in self.deny],
            "allow": [rule.text for rule in self.allow],
        }

    def concerns(self, event: str) -> bool:
        """Whether some rule forbids this event with some argument."""
        names = _names(event)
        return any(rule.names(names) for rule in self.deny)

    def judge(self, event: str, args: tuple[Any, ...]) -> Violation | None:
        """The violation that an audit event is; None if it is none."""
        names = _names(event, args)
        rules = self._about.get(names)
        if rules is None:
            rules = [rule for rule in self.deny if rule.names(names)]
            if len(self._about) < _REMEMBERED:
                self._about[names] = rules
        if not rules:
            return None
        for spellings in _subjects(event, args):
            for rule in rules:
                if any(rule.matches(names, spelling) for spelling in spellings) and not all(
                    any(allowed.matches(names, spelling) for allowed in self.allow)
                    for spelling in spellings
                ):
                    return Violation(event, spellings[0], rule)
        return None


def _rules(key: str, texts: Any) -> tuple[Rule, ...]:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"sandbox {key}={texts!r}: expected a list of rules")
    return tuple(map(Rule, texts))


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _names(event: str, args: tuple[Any, ...] | None = None) -> tuple[str, ...]:
    if event != "open":
        return (event,)
    if args is None:
        return ("open", "open.read", "open.write")
    mode, flags = (*args, None, None)[1:3]
    if isinstance(mode, str):
        reads = "r" in mode or "+" in mode
        writes = any(letter in mode for letter in "wax+")
    else:
        flags = flags if isinstance(flags, int) else 0
        writes = bool(flags & _WRITES)
        reads = not flags & os.O_WRONLY
    return ("open", *(["open.read"] if reads else []), *(["open.write"] if writes else []))


# -- what an event is about: for each subject, the ways to write it -----------------------------


def _subjects(event: str, args: tuple[Any, ...]) -> list[tuple[str, ...]]:
    if event in _EXECUTABLES:
        return [_executable(args[0])]
    if event in _ADDRESSES:
        return [(_address(args[1] if len(args) > 1 else None),)]
    if event.startswith("socket."):
        return [(_host(args),)]
    if event in _TWO_PATHS:
        folders = (*args[2:4], -1, -1)
        return [_path(path, folder) for path, folder in zip(args[:2], folders, strict=False)]
    if event in _PATHS or (event.startswith(("os.", "shutil.")) and event not in _NO_PATHS):
        path = args[0] if args else ""
        if isinstance(path, int) and event == "open":
            return []
        return [_path(path, args[-1] if event in _WITH_FOLDER else -1)]
    return [(_first_text(args),)]


def _path(path: Any, folder: Any = -1) -> tuple[str, ...]:
    """A path, whole; `folder` is the descriptor that it is relative to, if any."""
    if isinstance(path, int):  # a file or folder that is open already
        path, folder = "", path
    try:
        text = os.fsdecode("." if path is None else path)
        if isinstance(folder, int) and folder >= 0 and not os.path.isabs(text):
            text = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), text)
        whole = os.path.abspath(text)
    except (TypeError, OSError):
        return (str(path),)
    resolved = os.path.realpath(whole)
    return (whole,) if resolved == whole else (whole, resolved)


def _executable(given: Any) -> tuple[str, ...]:
    try:
        name = os.fsdecode(given)
    except TypeError:
        return (str(given),)
    if "/" in name:
        return (name, *(each for each in _path(name) if each != name))
    for folder in os.get_exec_path():
        found = os.path.join(folder, name)
        if os.access(found, os.X_OK):
            return (name, *_path(found))
    return (name,)


def _address(address: Any) -> str:
    if isinstance(address, str | bytes):
        return os.fsdecode(address)
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = _first_text(address[:1]), address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return ""


def _host(args: tuple[Any, ...]) -> str:
    host = _first_text(args)
    port = args[1] if len(args) > 1 and isinstance(args[1], int | str) else None
    return host if port is None else f"{host}:{port}"


def _first_text(args: tuple[Any, ...]) -> str:
    for value in args:
        if isinstance(value, str):
            return value
        if isinstance(value, bytes | bytearray):
            return bytes(value).decode(errors="replace")
    return ""
