"""Vocabulary of `@observe("process")`: classes that start, steer and reap processes.

- `create*` `spawn*` `fork*` `launch*` `start` `start_*`
  - ProcessCreated when it returned a pid, or an object that has one
    - `name`: argument name, command, program, executable or the first
    - `priority`: argument priority, nice or niceness
    - pid: what was returned
- `wait*` `terminate*` `kill*` `reap` `reap_process*` `join*` `stop_process*`
  - ProcessTerminated when it returned an exit code, an object that has one, or (pid, status)
    - `exit_code`: what was returned
    - pid: argument pid, process or the first
- `suspend*` `resume*` `pause*` `continue*` `set_state*` `change_state*` `transition*`
  `poll_state*`
  - ProcessStateChanged when the states are known and differ
    - `from_state`, `to_state`: of what was returned (attributes, or a pair), else arguments of
      those names (old_state, new_state)
    - pid: of what was returned, else argument pid, process or the first
- `cleanup*` `clean_up*` `reclaim*` `release*` `reap_all*`
  - ResourceReclaimed when it returned how many, or a collection, and not none
    - `resource`: argument resource, else "process"
    - `count`: what was returned
    - pid: argument pid
- `*zombies*` `*orphans*` `find_leak*` `leak*`
  - ResourceLeaked when it returned how many, or a collection, and not none
    - `resource`: "zombie", "orphan", "process"
    - `count`: what was returned
"""

import os
from typing import Any

from kobs.events import (
    ProcessCreated,
    ProcessStateChanged,
    ProcessTerminated,
    ResourceLeaked,
    ResourceReclaimed,
)
from kobs.observe import Rule, Vocabulary, returned
from kobs_instrumentation.vocabulary.common import (
    at_most_255,
    combine,
    count_of,
    emission,
    given,
    is_known,
    is_number,
    is_positive,
    pid_of,
    text,
)

_PROCESS = given("pid", "process", "proc", "child", 0)


def _program(value: Any) -> str:
    """A command in one word: the program of an argument list."""
    if isinstance(value, list | tuple) and value:
        value = value[0]
    return os.path.basename(text(value)) if value is not None else "process"


def _exit_code(result: Any) -> int | None:
    """The exit code in what a method returned; None if there is none in it."""
    if is_number(result):
        return int(result)
    if isinstance(result, tuple):
        if len(result) == 2 and all(map(is_number, result)):
            return os.waitstatus_to_exitcode(result[1])
        if not hasattr(result, "_fields"):
            return None
    for name in ("exit_code", "exitcode", "returncode"):
        found = getattr(result, name, None)
        if is_number(found):
            return int(found)
    return None


def _ended(result: Any, process: Any) -> int | None:
    """Which process ended: `os.wait` and its like return it."""
    if isinstance(result, tuple) and len(result) == 2 and is_number(result[0]):
        return pid_of(result[0])
    return pid_of(process) or pid_of(result)


def _states(result: Any, old: Any, new: Any) -> tuple[str, str] | None:
    """The state before and the state now."""
    states = (getattr(result, "from_state", None), getattr(result, "to_state", None))
    if None in states and isinstance(result, tuple) and len(result) == 2:
        states = result
    if None in states or not all(isinstance(state, str) for state in states):
        states = (old, new)
    if None in states or states[0] == states[1]:
        return None
    return text(states[0]), text(states[1])


def _changed(result: Any, process: Any) -> int | None:
    return pid_of(result) if hasattr(result, "pid") else pid_of(process)


_STATES = combine(
    _states,
    returned(default=None),
    given("from_state", "old_state"),
    given("to_state", "new_state"),
)
_EXIT_CODE = returned(default=None).map(_exit_code)
_COUNT = returned(default=None).map(count_of)


def _leak(resource: str) -> Any:
    return emission(
        ResourceLeaked,
        where=_COUNT.map(is_positive),
        fields={"resource": resource, "count": _COUNT},
    )


VOCABULARY = Vocabulary(
    "process",
    classes=("*ProcessManager",),
    rules=(
        Rule(
            ("create*", "spawn*", "fork*", "launch*", "start", "start_*"),
            (
                emission(
                    ProcessCreated,
                    where=returned(default=None).map(pid_of).map(is_known),
                    fields={
                        "name": given("name", "command", "program", "executable", 0).map(_program),
                        "priority": given("priority", "nice", "niceness").map(at_most_255),
                    },
                    pid=returned(default=None),
                ),
            ),
        ),
        Rule(
            ("wait*", "terminate*", "kill*", "reap", "reap_process*", "join*", "stop_process*"),
            (
                emission(
                    ProcessTerminated,
                    where=_EXIT_CODE.map(is_known),
                    fields={"exit_code": _EXIT_CODE},
                    pid=combine(_ended, returned(default=None), _PROCESS),
                ),
            ),
        ),
        Rule(
            (
                "suspend*",
                "resume*",
                "pause*",
                "continue*",
                "set_state*",
                "change_state*",
                "transition*",
                "poll_state*",
            ),
            (
                emission(
                    ProcessStateChanged,
                    where=_STATES.map(is_known),
                    fields={
                        "from_state": _STATES.map(lambda states: states[0]),
                        "to_state": _STATES.map(lambda states: states[1]),
                    },
                    pid=combine(_changed, returned(default=None), _PROCESS),
                ),
            ),
        ),
        Rule(
            ("cleanup*", "clean_up*", "reclaim*", "release*", "reap_all*"),
            (
                emission(
                    ResourceReclaimed,
                    where=_COUNT.map(is_positive),
                    fields={
                        "resource": given("resource", default="process").map(text),
                        "count": _COUNT,
                    },
                    pid=given("pid"),
                ),
            ),
        ),
        Rule(("*zombies*",), (_leak("zombie"),)),
        Rule(("*orphans*",), (_leak("orphan"),)),
        Rule(("find_leak*", "leak*"), (_leak("process"),)),
    ),
)
