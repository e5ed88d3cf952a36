"""How cause gets into child processes: what their environment says, and what they make of it.

In a child the start-up hook takes these variables out of `os.environ` again; the C environment
keeps them, so that whatever is started without an explicit environment still carries them.

| variable | says |
|---|---|
| `KOBS_SESSION` | the session folder to record into |
| `KOBS_OPTIONS` | the options of `kobs run`, JSON |
| `KOBS_HOME` | where `kobs` and `kobs_instrumentation` lie, for interpreters that lack them |
| `KOBS_PARENT` | id of the event that was current when the child was started, hex |
| `KOBS_LINK` | token that joins the child's first event to the `ProcessCreated` of its parent |
| `KOBS_ORIGIN` | on whose behalf it runs (a test) |
| `TRACEPARENT` | the chain, for whatever speaks W3C trace context; only where there was none |
"""

import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from kobs.context import Cause, cause, origin
from kobs.ids import mint_id
from kobs_instrumentation.inject import kobs_hide

INJECT_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inject")


class Children(NamedTuple):
    """Where child processes record, and how."""

    session: str
    """The session folder."""
    options: str
    """JSON of the options of `kobs run`."""
    trace_high: int
    """High 64 bits of the trace ids that the session mints."""


_children: list[Children] = []


def children_record(children: Children) -> None:
    """Have child processes record too, from now on; the last call counts."""
    _children.append(children)


def children_do_not_record(children: Children) -> None:
    """Take one `children_record` back."""
    for index, known in enumerate(_children):
        if known is children:
            del _children[index]
            return


def watching_children() -> Children | None:
    """Where child processes record now; None where they do not."""
    return _children[-1] if _children else None


def add_to_child(env: dict[bytes, bytes], link: int, *, parent: Cause | None = None) -> None:
    """Put into a child's environment what makes it record and continue the chain.

    What an outer watcher put there is replaced. `parent` is the cause, else the ambient one.
    """
    hide(env)
    children = watching_children()
    if children is None:
        return
    env[b"KOBS_SESSION"] = os.fsencode(children.session)
    env[b"KOBS_OPTIONS"] = children.options.encode()
    env[b"KOBS_HOME"] = os.fsencode(_home())
    env.update(cause_variables(link, parent or cause.get(), children.trace_high))
    given = env.get(b"KOBS_TRACEPARENT")
    if given is not None and b"TRACEPARENT" not in env:
        env[b"TRACEPARENT"] = env[b"KOBS_ADDED_TRACEPARENT"] = given
    before = env.get(b"PYTHONPATH")
    inject = os.fsencode(INJECT_FOLDER)
    if before is None:
        env[b"PYTHONPATH"] = inject
    else:
        env[b"KOBS_PYTHONPATH"] = before
        env[b"PYTHONPATH"] = inject + b":" + before if before else inject


def cause_variables(link: int, parent: Cause | None, trace_high: int) -> dict[bytes, bytes]:
    """The variables that differ from child to child."""
    found = {b"KOBS_LINK": b"%x" % link}
    scope = origin.get()
    if scope:
        found[b"KOBS_ORIGIN"] = os.fsencode(scope)
    if parent is not None:
        found[b"KOBS_PARENT"] = b"%x" % parent.parent
        if parent.causality_id:
            found[b"KOBS_TRACEPARENT"] = b"00-%016x%016x-%016x-%02x" % (
                parent.trace_high or trace_high or 1,
                parent.causality_id,
                parent.span_id or parent.parent or 1,
                parent.sampled is not False,
            )
    return found


def cause_from(given: dict[str, str], environ_traceparent: str, trace_high: int) -> Cause | None:
    """The cause that a child was given: by a watched parent, else by a `TRACEPARENT` from
    outside. None where there is neither."""
    parent = _hex(given.get("KOBS_PARENT", ""))
    own = given.get("KOBS_TRACEPARENT", "")
    chain = parse_traceparent(own or environ_traceparent)
    if chain is None:
        return Cause(0, parent) if parent else None
    high, low, span, sampled = chain
    sampled = sampled or not own  # a foreign tracer's decision stops export, never capture
    return Cause(low, parent, span, sampled, 0 if high == trace_high else high)


def parse_traceparent(text: str) -> tuple[int, int, int, bool] | None:
    """(high and low half of the trace id, span id, sampled) of a W3C traceparent; None if it is
    not one."""
    parts = text.strip().split("-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2] or parts[0] == "ff":
        return None
    if text != text.lower():
        return None
    trace, span, flags = _hex(parts[1]), _hex(parts[2]), _hex(parts[3])
    if not trace or not span:
        return None
    return trace >> 64, trace & (1 << 64) - 1, span, bool(flags & 1)


def new_link() -> int:
    """A token that joins a send to its receive; unique in a session."""
    return mint_id()


def c_environment() -> dict[bytes, bytes]:
    """The environment that a child inherits by itself: the C library's, which `os.environ` may
    differ from (`os.putenv`, what the start-up hook hides)."""
    try:
        from ctypes import POINTER, c_char_p, pythonapi

        entries = POINTER(c_char_p).in_dll(pythonapi, "environ")
    except (ImportError, ValueError):
        return dict(os.environb)
    env: dict[bytes, bytes] = {}
    index = 0
    while (entry := entries[index]) is not None:
        name, equals, value = entry.partition(b"=")
        if equals:
            env.setdefault(name, value)
        index += 1
    return env


def add_to_c_environment(link: int) -> None:
    """As `add_to_child`, for calls that take no environment: children inherit the C library's."""
    if watching_children() is not None:
        change_c_environment(lambda env: add_to_child(env, link))


def change_c_environment(change: Callable[[dict[bytes, bytes]], None]) -> None:
    """Change the C library's environment, which the program does not see in `os.environ`."""
    before = c_environment()
    env = dict(before)
    change(env)
    for name, value in env.items():
        if before.get(name) != value:
            os.putenv(name, value)
    for name in before.keys() - env.keys():
        os.unsetenv(name)


def encoded(env: Any) -> dict[bytes, bytes]:
    """An environment as `subprocess` and `os` take it, as bytes."""
    return {os.fsencode(name): os.fsencode(value) for name, value in env.items()}


def _home() -> str:
    import kobs
    import kobs_instrumentation

    return os.pathsep.join(
        os.path.dirname(os.path.dirname(os.path.abspath(package.__file__ or "")))
        for package in (kobs, kobs_instrumentation)
    )


def _hex(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


def hide(env: dict[bytes, bytes]) -> None:
    """Take everything of ours out of an environment."""
    kobs_hide.hide(env, os.fsencode)  # type: ignore[no-untyped-call]


# -- who put something where another thread sends it ------------------------------------------

_senders: dict[int, tuple[Cause | None, str]] = {}


def remember_sender(item: object, sender: Cause | None, scope: str) -> None:
    """Say on whose behalf `item` will be sent, until `take_sender`."""
    while len(_senders) >= 65_536:
        _senders.pop(next(iter(_senders)), None)
    _senders[id(item)] = (sender, scope)


def take_sender(item: object) -> tuple[Cause | None, str] | None:
    """What `remember_sender` said of `item`; None if nothing."""
    return _senders.pop(id(item), None)


# -- what a command line says about the program ----------------------------------------------


def program_name(argv: list[bytes]) -> str:
    """A short name for what is started: for Python its script or module, else the program."""
    if not argv:
        return "?"
    words = [os.fsdecode(word) for word in argv]
    program = os.path.basename(words[0]) or words[0]
    if not is_python(words[0]):
        return program
    _, rest = _split_python(words)
    if rest and rest[0] == "-m" and len(rest) > 1:
        return rest[1]
    if rest and rest[0] == "-c" and len(rest) > 1:
        text = rest[1]
        if text.startswith("from multiprocessing."):
            return text.split()[1]
        return f"{program} -c"
    return os.path.basename(rest[0]) or program if rest else program


def why_unobserved(executable: str, argv: list[bytes]) -> str:
    """Why a child that is started this way will not be recorded; empty if it will."""
    words = [os.fsdecode(word) for word in argv] or [executable]
    if not is_python(executable):
        shebang = _shebang(executable)
        if not shebang:
            return "not Python"
        words = shebang + words
    flags, _ = _split_python(words)
    for flag, meaning in (
        ("I", "isolated: environment and start-up hooks are off"),
        ("E", "PYTHONPATH is ignored"),
        ("S", "no site, so no start-up hook"),
    ):
        if flag in flags:
            return f"Python started with -{flag}: {meaning}"
    return ""


def is_python(program: str) -> bool:
    """Whether a program is a Python interpreter, by its name."""
    name = os.path.basename(program)
    version = name.removeprefix("python") if name.startswith("python") else name[4:]
    return program == sys.executable or (
        name.startswith(("python", "pypy")) and not version.strip("0123456789.t")
    )


def _split_python(words: list[str]) -> tuple[str, list[str]]:
    """(one-letter flags, the rest from the script, `-m` or `-c` on) of Python's command line."""
    flags = ""
    index = 1
    while index < len(words):
        word = words[index]
        if not word.startswith("-") or word == "-":
            break
        if word.startswith("--"):
            index += 2 if word == "--check-hash-based-pycs" else 1
            continue
        for place, letter in enumerate(word[1:], 1):
            if letter in "cm":
                rest = [word[place + 1 :]] if word[place + 1 :] else []
                return flags, ["-" + letter, *rest, *words[index + 1 :]]
            if letter in "WX":
                index += not word[place + 1 :]
                break
            flags += letter
        index += 1
    return flags, words[index:]


def _shebang(path: str) -> list[str]:
    """The interpreter's command line of a script that names Python in its first line."""
    try:
        with open(path, "rb", buffering=0) as file:
            line = file.read(256).split(b"\n", 1)[0]
    except OSError:
        return []
    if not line.startswith(b"#!"):
        return []
    words = os.fsdecode(line[2:]).split()
    if words and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return words if words and is_python(words[0]) else []
