"""Vocabulary of `@observe("syscall")`: classes that make system calls.

What happens inside a call has its SyscallEnter as parent.

- `execute*` `syscall*` `invoke*` `call*` `perform*`
  - SyscallEnter before
    - `name`: argument name, syscall, call or the first
    - `args_hash`: of the other arguments, the same in every process
    - pid: argument pid
  - SyscallExit after, also when it raised
    - `name`: as above
    - `duration_us`: measured
    - `result`: error if it raised
    - `errno`: of an OSError
    - pid: argument pid
  - SyscallSlow when it took as long as the threshold or longer
    - `name`: as above
    - `duration_ms`: measured
    - `threshold_ms`: attribute slow_threshold_ms of the instance, else 100
    - pid: argument pid
- `sys_*` `do_*`
  - SyscallEnter before
    - `name`: the method's name behind its first `_`
    - `args_hash`: of all arguments, the same in every process
    - pid: argument pid
  - SyscallExit after, also when it raised
    - `name`: the method's name behind its first `_`
    - `duration_us`: measured
    - `result`: error if it raised
    - `errno`: of an OSError
    - pid: argument pid
  - SyscallSlow when it took as long as the threshold or longer
    - `name`: the method's name behind its first `_`
    - `duration_ms`: measured
    - `threshold_ms`: attribute slow_threshold_ms of the instance, else 100
    - pid: argument pid
"""

from hashlib import blake2b
from typing import Any

from kobs.events import SyscallEnter, SyscallExit, SyscallSlow
from kobs.observe import Call, Emission, Rule, Vocabulary, this
from kobs_instrumentation.vocabulary.common import emission, given, text

_NAMES = ("name", "syscall", "call", "number")
_HASHED = 256
"""Bytes of each argument that count: a hash shall not cost more than the call."""


def args_hash(*args: object) -> int:
    """A 64-bit hash of a system call's arguments, the same in every process."""
    digest = blake2b(digest_size=8)
    for value in args:
        if isinstance(value, bytes | bytearray | memoryview):
            digest.update(b"b%d:" % len(value))
            digest.update(bytes(value[:_HASHED]))
        elif isinstance(value, str | int | float | bool | None):
            digest.update(f"{type(value).__name__[0]}{value!r:.{_HASHED}};".encode())
        else:  # the text of an object may hold its address
            digest.update(f"o{type(value).__qualname__};".encode())
    return int.from_bytes(digest.digest(), "little")


def _hash_of_call(call: Call) -> int:
    first = next(iter(call.arguments), "")
    skipped = next((name for name in _NAMES if name in call.arguments), first)
    return _hash_without(call, skipped)


def _hash_of_method(call: Call) -> int:
    return _hash_without(call, "")


def _hash_without(call: Call, skipped: str) -> int:
    values: list[object] = []
    for name, value in call.arguments.items():
        if name == skipped or name == "pid":
            continue
        if isinstance(value, tuple):
            values.extend(value)
        elif isinstance(value, dict):
            values.extend(item for pair in sorted(value.items(), key=repr) for item in pair)
        else:
            values.append(value)
    return args_hash(*values)


def _bare(call: Call) -> str:
    return call.method.partition("_")[2]


def _emissions(name: Any, hashed: Any) -> tuple[Emission, ...]:
    pid = given("pid")
    return (
        emission(SyscallEnter, when="call", fields={"name": name, "args_hash": hashed}, pid=pid),
        emission(SyscallExit, when="exit", fields={"name": name}, pid=pid),
        emission(
            SyscallSlow,
            when="exit",
            threshold_ms=this("slow_threshold_ms", default=100.0),
            fields={"name": name},
            pid=pid,
        ),
    )


VOCABULARY = Vocabulary(
    "syscall",
    classes=("*SyscallExecutor",),
    rules=(
        Rule(
            ("execute*", "syscall*", "invoke*", "call*", "perform*"),
            _emissions(given(*_NAMES, 0, default="syscall").map(text), _hash_of_call),
            scope=True,
        ),
        Rule(("sys_*", "do_*"), _emissions(_bare, _hash_of_method), scope=True),
    ),
)
