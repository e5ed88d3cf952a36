"""Watches processes: how they are started, how they end, and what of cause they are given.

Everything that starts a process goes through a few functions: `_posixsubprocess.fork_exec`
(`subprocess`, `asyncio`, `multiprocessing` with spawn and forkserver), `os.fork` and `os.forkpty`
(`multiprocessing` with fork, `os.spawn*`, `pty`), `os.posix_spawn*`, `os.system`. Their ends are
learned from `os.wait*` and `subprocess.Popen`.

`ProcessCreated` has the child's pid and cannot be written before the child is there; so the child
is given a link token beforehand, and its first event carries it.
"""

import atexit
import os
import sys
from _thread import get_ident
from time import monotonic_ns
from typing import Any

from kobs import inside
from kobs.context import Cause, cause, origin
from kobs.payloads import ProcessCreated, ProcessStateChanged, ProcessTerminated, ResourceLeaked
from kobs_instrumentation import propagate
from kobs_instrumentation.watch import _arguments, _patch as patching
from kobs_instrumentation.watch._patch import Call, Patcher
from kobs_instrumentation.watch._watch import GetCollector, Undo, Watch, words_of

_KNOWN_CHILDREN = 4096
"""Children that are remembered until their end; beyond that the oldest are forgotten."""


class Start:
    """A process that is being started."""

    __slots__ = ("argv", "cause", "executable", "link", "name", "started_ns")

    def __init__(self, name: str, executable: str = "", argv: list[bytes] | None = None) -> None:
        self.name = name
        self.executable = executable
        self.argv = argv
        self.link = propagate.new_link()
        self.cause = cause.get()
        self.started_ns = monotonic_ns()


_children: dict[int, tuple[int, int, list[bytes] | None]] = {}
"""(id of its ProcessCreated, its chain, command line if it should record itself) of each child
that has not ended, by pid."""

_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Processes that are started on the way to the one that was asked for."""
_helpers: set[int] = set()
"""Their pids. They end by themselves after the process that they help."""

_names: dict[int, str] = {}
"""What multiprocessing calls the process that a thread is starting, by thread."""


def _created(start: Start, pid: int) -> None:
    if len(_children) >= _KNOWN_CHILDREN:
        _children.pop(next(iter(_children)), None)
    try:
        priority = 20 + os.getpriority(os.PRIO_PROCESS, pid)
    except OSError:
        priority = 20
    event = _tell_created(start, priority, pid)
    reason = ""
    if start.argv is not None:
        reason = propagate.why_unobserved(start.executable, start.argv)
        if reason:
            _note(pid, start.argv, reason)
    if start.name in _HELPERS:
        _helpers.add(pid)
    _children[pid] = (
        event,
        start.cause.causality_id if start.cause is not None else 0,
        None if reason else start.argv,
    )


def _tell_created(start: Start, priority: int, pid: int) -> int:
    """Tell of a new process, in the words of the observed calls that started it."""
    fields = {"name": start.name, "priority": priority}
    header = {"pid": pid, "link": start.link, "timestamp_ns": start.started_ns}
    collector = _watch.collector()
    if collector is None or start.name in _HELPERS:
        return _watch.emit(ProcessCreated, *fields.values(), **header)
    calls = list(inside.calls_saying((ProcessCreated,), collector))
    words = words_of(calls[0]) if calls and not calls[0].claimed else {}
    event = _watch.emit_in(words, ProcessCreated, fields, **header)
    for call in calls:
        call.tell(pid)
    inside.process_created(pid, collector, in_call=bool(calls))
    return event


def _note(pid: int, argv: list[bytes], reason: str) -> None:
    collector = _watch.any_collector()
    if collector is not None and collector.session is not None:
        collector.session.add_unobserved(pid, [os.fsdecode(word) for word in argv], reason)


def _ended(pid: int, exit_code: int) -> None:
    known = _children.pop(pid, None)
    if known is None:
        return
    event, chain, argv = known
    if argv is not None and propagate.watching_children() is not None:
        collector = _watch.any_collector()
        session = collector.session if collector is not None else None
        if session is not None and not any(f"-{pid}." in path for path in session.recordings()):
            _note(pid, argv, "the start-up hook of kobs did not run in it")
    header: dict[str, Any] = {"parent": event} if event else {}
    if chain:
        header["causality_id"] = chain
    _watch.emit(ProcessTerminated, exit_code, pid=pid, **header)
    to = _watch.collector()
    if to is not None:
        for call in inside.calls_saying((ProcessTerminated,), to):
            call.tell(pid)
        inside.process_ended(pid, exit_code, to)


def begin_process(link: int) -> None:
    """Record that this process begins, caused by its parent's `ProcessCreated` alone; what follows
    is caused by this event."""
    ambient = cause.get()
    event = _watch.emit(ProcessStateChanged, "created", "running", link=link, parent=0)
    if ambient is not None:
        cause.set(ambient._replace(parent=event or ambient.parent))
    elif event:
        cause.set(Cause(0, event))


# -- fork_exec, posix_spawn: a new program ---------------------------------------------------


def _before_fork_exec(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    words, executables, environment = args[0], args[1], args[_ENVIRONMENT]
    if not all(type(given) in _LISTS for given in (words, executables, environment)):
        return None  # the call will fail
    argv = [os.fsencode(_arguments.text(word)) for word in words]
    name = _name(argv)
    start = Start(name, _existing(executables), argv)
    if name == "multiprocessing.resource_tracker":  # it outlives us and does nothing to see
        start.argv = None
        prepare = propagate.hide
    else:

        def prepare(env: dict[bytes, bytes]) -> None:
            propagate.add_to_child(env, start.link)

    given, run_before = args[_ENVIRONMENT], args[_RUN_BEFORE]
    if given is None and run_before is not None:
        # It may change the environment that the program inherits: ours comes after it.
        def run_then_prepare() -> None:
            run_before()
            propagate.change_c_environment(prepare)

        return Call(start, _replaced(args, _RUN_BEFORE, run_then_prepare), kwargs)
    if given is None:
        env = propagate.c_environment()
    else:
        env = dict(entry.partition(b"=")[::2] for entry in given)
    prepare(env)
    pairs = [name + b"=" + value for name, value in env.items()]
    return Call(start, _replaced(args, _ENVIRONMENT, pairs), kwargs)


_ENVIRONMENT, _RUN_BEFORE = 5, 21
"""Which arguments of `fork_exec` are the environment and `preexec_fn`."""

_LISTS = (list, tuple, type(None))
"""What `subprocess` gives as words, candidates and environment."""


def _replaced(args: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*args[:index], value, *args[index + 1 :])


def _name(argv: list[bytes]) -> str:
    name = propagate.program_name(argv)
    if name in _HELPERS:
        return name  # started on the way to the process that has the name
    return _names.pop(get_ident(), "") or name


def _existing(candidates: Any) -> str:
    paths = [_arguments.text(candidate) for candidate in candidates or ()]
    for path in paths:
        if "\0" not in path and os.access(path, os.X_OK):
            return path
    return paths[-1] if paths else ""


def _before_posix_spawn(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) < 3:
        return None
    path, words, given = args[:3]
    if type(words) not in _LISTS:
        return None  # the call will fail
    argv = [os.fsencode(_arguments.text(word)) for word in words or ()]
    start = Start(_name(argv), _arguments.text(path), argv)
    env = propagate.c_environment() if given is None else propagate.encoded(given)
    propagate.add_to_child(env, start.link)
    return Call(start, (path, words, env, *args[3:]), kwargs)


def _after_spawn(start: Start, pid: int) -> None:
    _created(start, pid)


# -- fork: the same program twice ------------------------------------------------------------


def _before_fork(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    program = propagate.program_name([os.fsencode(word) for word in sys.orig_argv])
    if program == "multiprocessing.forkserver":
        return None  # it forks for others: they say what for, see `_after_launch`
    return Start(_names.pop(get_ident(), "") or f"fork of {program}")


def _after_fork(start: Start, result: Any) -> None:
    pid = result[0] if isinstance(result, tuple) else result
    if pid:
        _created(start, pid)
        return
    _children.clear()
    _helpers.clear()
    begin_process(start.link)


# -- exec: this process becomes another program ----------------------------------------------


def _before_exec(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    link = propagate.new_link()
    path = args[0] if args else kwargs.get("path", "")
    if not isinstance(path, int) and not _arguments.is_of_own_kind(path):
        where = _arguments.text(path)
        if "\0" in where or not os.access(where, os.X_OK):
            return None  # it will fail: `os.execvp` tries one folder after the other
    collector = _watch.any_collector()
    _watch.emit(ProcessStateChanged, "running", "exec", link=link)
    if collector is None or collector.closed or collector.path is None:
        collector = None
    else:
        collector.ring.close()  # what the new program records goes into a recording of its own
    if len(args) > 2:
        env = propagate.encoded(args[2])
        propagate.add_to_child(env, link)
        return Call((collector,), (args[0], args[1], env), kwargs)
    propagate.add_to_c_environment(link)
    return (collector,)


def _exec_failed(state: tuple[Any], error: Any) -> None:
    (collector,) = state
    if collector is not None and not collector.closed:
        collector._after_fork()  # records on, as a forked child does
    _watch.emit(ProcessStateChanged, "exec", "running")


def _before_system(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    link = propagate.new_link()
    start = Start("sh")
    start.link = link
    propagate.add_to_c_environment(link)
    return start


def _after_system(start: Start, status: int) -> None:
    event = _watch.emit(
        ProcessCreated, start.name, 20, pid=0, link=start.link, timestamp_ns=start.started_ns
    )
    _watch.emit(ProcessTerminated, os.waitstatus_to_exitcode(status), pid=0, parent=event or None)


# -- ends ------------------------------------------------------------------------------------


def _before_wait(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return True


def _after_wait(_: Any, result: Any) -> None:
    pid, status = result[0], result[1]
    if not pid:
        return
    if os.WIFSTOPPED(status):
        _changed(pid, "running", "stopped")
    elif os.WIFCONTINUED(status):
        _changed(pid, "stopped", "running")
    else:
        _ended(pid, os.waitstatus_to_exitcode(status))


def _changed(pid: int, before: str, after: str) -> None:
    fields = {"from_state": before, "to_state": after}
    _watch.hold(ProcessStateChanged, fields, subject=pid, pid=pid)


def _before_waitid(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    options = args[2] if len(args) > 2 else 0
    return None if options & os.WNOWAIT else True


def _after_waitid(_: Any, result: Any) -> None:
    if result is None:
        return
    if result.si_code == os.CLD_EXITED:
        _ended(result.si_pid, result.si_status)
    elif result.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
        _ended(result.si_pid, -result.si_status)


def _before_status(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0]


def _after_status(popen: Any, _: Any) -> None:
    """`subprocess.Popen` and `multiprocessing`'s have learned an exit code."""
    if popen.returncode is not None:
        _ended(popen.pid, popen.returncode)


def _before_launch(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`multiprocessing`'s `_launch(popen, process)`: the process has a name. One that the fork
    server starts is not a child of ours: it finds what we leave for it in the session."""
    popen, process = args
    _names[get_ident()] = name = str(process.name)
    start = Start(name) if popen.method == "forkserver" else None
    collector = _watch.any_collector()
    if start is not None and collector is not None and collector.session is not None:
        collector.session.put_link(
            _process_key(process), start.cause or Cause(0, 0), start.link, origin.get()
        )
    return popen, start


def _after_launch(state: tuple[Any, Start | None], _: Any) -> None:
    popen, start = state
    _names.pop(get_ident(), None)
    if start is not None:
        _created(start, popen.pid)


def _launch_failed(state: tuple[Any, Start | None], _: Any) -> None:
    _names.pop(get_ident(), None)


def _before_bootstrap(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`multiprocessing`'s `_bootstrap(process)`, the first that runs in the new process."""
    collector = _watch.any_collector()
    if collector is None or collector.session is None:
        return
    record = collector.session.take_link(_process_key(args[0]))
    if record is not None:
        cause.set(record.cause)
        origin.set(record.origin)
        begin_process(record.link)


def _process_key(process: Any) -> bytes:
    return f"process {process._parent_pid} {process._identity}".encode()


def _before_exit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`os._exit` runs no exit handlers: this is the last moment to finish the recording."""
    for finish in tuple(_at_exit):
        finish()


_at_exit: list[Any] = []


def call_at_exit(finish: Any) -> Undo:
    """Call `finish()` where the process ends by `os._exit`, as forked children do."""
    _at_exit.append(finish)
    return lambda: _at_exit.remove(finish) if finish in _at_exit else None


# -- what is left when this process ends ---------------------------------------------------------


def at_end(*, at_once: bool = False) -> None:
    """The process ends: tell of its children that ended and nobody waited for (zombies), and of
    those that go on without it (orphans). `at_once`: no exit handlers run, `multiprocessing`'s
    neither, which joins or ends its own."""
    try:
        looked_after = _helpers if at_once else _helpers | _of_multiprocessing()
        for pid, (event, chain, _) in list(_children.items()):
            what = "" if pid in looked_after else _left(pid)
            if what:
                header: dict[str, Any] = {"parent": event} if event else {}
                if chain:
                    header["causality_id"] = chain
                _watch.emit(ResourceLeaked, what, 1, pid=pid, **header)
    except Exception as error:  # an exit function's would be printed
        patching.on_error("process.at_end", error)


def _of_multiprocessing() -> set[int]:
    """Processes that `multiprocessing` joins or ends when this one ends."""
    module = sys.modules.get("multiprocessing.process")
    processes = getattr(module, "_children", ())
    return {getattr(process._popen, "pid", 0) for process in tuple(processes)}


def _left(pid: int) -> str:
    """What a child would be without this process; empty where it is none, or waited for."""
    from kobs_instrumentation.watch._limits import read

    words = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if len(words) < 2 or int(words[1]) != os.getpid():
        return ""
    return "zombie" if words[0] == b"Z" else "orphan"


# -- where -----------------------------------------------------------------------------------


def _os(name: str) -> tuple[tuple[str, str], ...]:
    return (("posix", name), ("os", name))


def _patch(patcher: Patcher) -> None:
    for name in ("fork", "forkpty"):
        patcher.builtin(_os(name), _before_fork, _after_fork, shield=True)
    for name in ("posix_spawn", "posix_spawnp"):
        patcher.builtin(_os(name), _before_posix_spawn, _after_spawn)
    for name in ("execv", "execve"):
        patcher.builtin(_os(name), _before_exec, failed=_exec_failed)
    patcher.builtin(_os("system"), _before_system, _after_system)
    patcher.builtin(_os("_exit"), _before_exit)
    patcher.builtin(_os("wait"), _before_wait, _after_wait)
    patcher.builtin((*_os("waitpid"), ("subprocess", "_waitpid")), _before_wait, _after_wait)
    for name in ("wait3", "wait4"):
        patcher.builtin(_os(name), _before_wait, _after_wait)
    patcher.builtin(_os("waitid"), _before_waitid, _after_waitid)

    def fork_exec(module: Any) -> None:
        patcher.builtin(
            (("_posixsubprocess", "fork_exec"), ("subprocess", "_fork_exec")),
            _before_fork_exec, _after_spawn, shield=True,
        )  # fmt: skip

    def popen(module: Any) -> None:
        patcher.method(module.Popen, "_handle_exitstatus", _before_status, _after_status)

    def multiprocessing_popen(module: Any) -> None:
        patcher.method(module.Popen, "_launch", _before_launch, _after_launch, _launch_failed)
        patcher.method(module.Popen, "poll", _before_status, _after_status)

    def multiprocessing_process(module: Any) -> None:
        patcher.method(module.BaseProcess, "_bootstrap", _before_bootstrap)

    atexit.register(at_end)
    patcher.on_undo(lambda: atexit.unregister(at_end))
    patcher.when_imported("multiprocessing.process", multiprocessing_process)
    patcher.when_imported("_posixsubprocess", fork_exec)
    patcher.when_imported("subprocess", popen)
    for start_method in ("fork", "spawn_posix", "forkserver"):
        patcher.when_imported(f"multiprocessing.popen_{start_method}", multiprocessing_popen)


_watch = Watch("process", _patch)


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch processes; returns what takes it back. Without `events` only cause is carried on."""
    return _watch.install(get_collector, events=events)
