"""Watches what runs when: threads, executors, asyncio's tasks and its loop.

A new thread and a work item of an executor run with the cause and origin of who started or
submitted them. asyncio carries both by itself (they are context variables); its tasks are told at
their beginning and end, with each step how long it waited to run and that it awaits again, and a
step of the loop that takes long as `LoopStalled`. How often the system took a processor away is
told when a recorded process ends.

In `ContextSwitch` the numbers of asyncio tasks stand for pids: they count from 1 in a process, 0
is no task.
"""

import os
import resource
import sys
import threading
from collections.abc import Callable
from contextvars import Context
from functools import partial
from time import monotonic_ns
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from kobs._core import hooking
from kobs.context import Cause, cause, origin
from kobs.levels import Category
from kobs.payloads import ContextSwitch, LoopStalled, MetricUpdate, SchedulerLatency
from kobs_instrumentation import propagate
from kobs_instrumentation.watch import _arguments
from kobs_instrumentation.watch._patch import STAND_IN, Call, Patcher
from kobs_instrumentation.watch._watch import (
    AimedWatch,
    GetCollector,
    Undo,
    first_in_second,
)

if TYPE_CHECKING:
    from kobs.schema import PayloadType

STALL_MS = 100.0
"""How long one step of an event loop may take."""

LATE_MS = 1.0
"""From here on a step that waited to run is told however many there are."""

STEPS_A_SECOND = 100
"""Where sampling is adaptive, so many steps a second are told of those that were not late."""

UNREACHABLE = ("_thread.start_new_thread, imported by name before the watch",)
"""What this watch cannot see with the Python core."""

REPLACED_BY = {
    "uvloop": "task switches and stalls of uvloop's loops",
    "gevent": "greenlets, the hub and queues of gevent, and ends of children it waits for",
}
"""What this watch does not see where these packages are used."""

_REMEMBERED = 65_536
LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep

_Handed = tuple[Cause | None, str, int]
"""(cause, origin, when) of who started a thread or submitted work."""


def _now() -> _Handed:
    return cause.get(), origin.get(), monotonic_ns()


def _remember(table: dict[int, Any], key: int, value: Any) -> None:
    while len(table) >= _REMEMBERED:
        table.pop(next(iter(table)), None)
    table[key] = value


# -- threads ---------------------------------------------------------------------------------

_starting: dict[int, _Handed] = {}


def _before_start(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _remember(_starting, id(args[0]), _now())
    return id(args[0])


def _start_failed(key: int, _: Any) -> None:
    _starting.pop(key, None)


def _before_bootstrap(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The first thing that runs in the new thread, with an empty context."""
    carried = _starting.pop(id(args[0]), None)
    if carried is not None:
        _enter(carried)


def _enter(carried: _Handed) -> None:
    ambient, scope, since = carried
    cause.set(ambient)
    origin.set(scope)
    _watch.emit(SchedulerLatency, (monotonic_ns() - since) / 1e3)


class _Carried:
    """What a new thread runs in place of its function, in a context that was made for it. The
    Python core's twin of `carried.c`."""

    def __init__(self, function: Callable[..., Any], context: Context) -> None:
        self._function = function
        self._context = context

    def __repr__(self) -> str:  # of a thread that an exception ended
        return repr(self._function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._context.run(self._function, *args, **kwargs)
        except BaseException as error:
            error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
            raise


def _before_new_thread(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`_thread.start_new_thread(function, args)`."""
    ambient, scope = cause.get(), origin.get()
    if (ambient is None and not scope) or not args or not callable(args[0]):
        return None
    function = args[0]
    if type(function) is MethodType and function.__func__ is vars(threading.Thread)["_bootstrap"]:
        return None  # begun by `Thread.start`
    context = Context()
    context.run(cause.set, ambient)
    context.run(origin.set, scope)
    carried = _Carried if hooking.native is None else hooking.native.Carried
    return Call(None, (carried(function, context), *args[1:]), kwargs)


# -- executors -------------------------------------------------------------------------------

_submitted: dict[int, _Handed] = {}


def _before_work_item(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0]


def _after_work_item(item: Any, _: Any) -> None:
    _remember(_submitted, id(item), _now())


def _before_run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    carried = _submitted.pop(id(args[0]), None)
    if carried is None:
        return None
    before = cause.get(), origin.get()
    _enter(carried)
    return before


def _after_run(before: tuple[Cause | None, str], _: Any) -> None:
    cause.set(before[0])
    origin.set(before[1])


_process_work: dict[int, tuple[Cause | None, str]] = {}


def _after_process_work_item(item: Any, _: Any) -> None:
    # `kwargs` is a new dict a submission, and the same object in the call item made of it.
    _remember(_process_work, id(item.kwargs), (cause.get(), origin.get()))


def _after_call_item(item: Any, _: Any) -> None:
    sender = _process_work.pop(id(item.kwargs), None)
    if sender is not None:
        propagate.remember_sender(item, *sender)


# -- asyncio ---------------------------------------------------------------------------------

_tasks: dict[int, int] = {}
"""The number of each task that has not ended, by identity."""
_task_count = 0
_asyncio: dict[str, Any] = {}
"""Its modules, as they were imported: inside a hook `import asyncio` may fail, since the program
may have something else in `sys.modules` by then."""


def _before_create_task(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0]


def _after_create_task(loop: Any, task: Any) -> None:
    global _task_count
    _task_count += 1
    _remember(_tasks, id(task), _task_count)
    _without_stand_ins(getattr(task, "_source_traceback", None))
    _watch.emit(ContextSwitch, _current(loop), _task_count, "task created")
    if task.done():
        _tell_end(task)


def _without_stand_ins(trace: Any) -> None:
    """Take the frames of ours out of what asyncio in debug mode shows: where a thing was made."""
    if trace:
        trace[:] = [frame for frame in trace if frame.filename != STAND_IN]


def _before_extract_stack(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`format_helpers.extract_stack(f=None, limit=None)`."""
    if len(args) > 1 or kwargs:
        return None
    depth = _asyncio["format_helpers"].constants.DEBUG_STACK_DEPTH
    return Call(depth, args, {"limit": 2 * depth})


def _after_extract_stack(depth: int, trace: Any) -> None:
    _without_stand_ins(trace)
    del trace[:-depth]


def _current(loop: Any) -> int:
    if not loop.is_running():
        return 0
    return _tasks.get(id(_asyncio["base_events"].tasks.current_task(loop)), 0)


_ready: dict[int, tuple[int, int]] = {}
"""By identity of the handle: (that of its callback, since when it could run). Neither is held: what
has the address of another has not its callback. The C core's twin is `hook_wake.c`."""
_told = [0, 0]


def _before_wake(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`_call_soon(loop, callback, args, context)`."""
    return id(args[1]) if len(args) > 1 else None


def _after_wake(callback: int, handle: Any) -> None:
    _remember(_ready, id(handle), (callback, monotonic_ns()))


def _before_step(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    handle = args[0]
    callback, began = handle._callback, monotonic_ns()
    ready = _ready.pop(id(handle), None)
    since = ready[1] if ready is not None and ready[0] == id(callback) else 0
    return handle, callback, began, _begin_step(handle, callback, began, since)


def _begin_step(handle: Any, callback: Any, began: int, since: int) -> int:
    """The step of a task begins: its number, if the step is to be told, else 0. The C core's twin
    is `hook_step.c`."""
    task = _arguments.bound_to(callback) if _goes_on(callback) else None
    number = _tasks.get(id(task), 0)
    collector = _watch.collector()
    if not number or collector is None or collector.closed:
        return 0
    late = since and began - since >= LATE_MS * 1e6
    if collector.gate.adaptive and not late and not first_in_second(_told, began, STEPS_A_SECOND):
        for _ in range(2 if since else 1):
            collector.ring.leave_out("sampled_out", Category.SCHEDULER)
        return 0
    if since:
        _emit_in(handle, SchedulerLatency, (began - since) / 1e3)
    return number


def _goes_on(callback: Any) -> bool:
    """A callback that goes on with a task, as a task of either make schedules it; others may be
    bound to one too."""
    kind = type(callback)
    if kind is BuiltinFunctionType:
        return bool(callback.__name__ == "task_wakeup")
    if kind is MethodType:
        function = callback.__func__
        return type(function) is FunctionType and function.__name__ in ("__step", "__wakeup")
    return kind.__name__ == "TaskStepMethWrapper"


def _emit_in(handle: Any, cls: "type[PayloadType]", *fields: Any) -> None:
    """Record an event in the context of a step."""
    handle._context.run(_watch.emit, cls, *fields)


def _after_step(state: tuple[Any, ...], _: Any) -> None:
    """`state` has no number with the C core, which has told of the switch itself."""
    handle, callback, began, number = (*state, 0)[:4]
    milliseconds = (monotonic_ns() - began) / 1e6
    task = _arguments.bound_to(callback)
    if milliseconds >= STALL_MS:
        _emit_in(handle, LoopStalled, milliseconds, _where(callback, task))
    if task is not None and id(task) in _tasks and task.done():
        handle._context.run(_tell_end, task)
    elif number:
        _emit_in(handle, ContextSwitch, number, 0, "task awaits")


def _tell_end(task: Any) -> None:
    number = _tasks.pop(id(task), 0)
    if task.cancelled():
        reason = "task cancelled"
    else:
        # `exception()` would mark it as retrieved, and asyncio would not log it any more.
        reason = "task failed" if task._exception is not None else "task done"
    _watch.emit(ContextSwitch, number, 0, reason)


def _where(callback: Any, task: Any) -> str:
    """Who held the loop: the coroutines and where the innermost of the program's waits now, or
    the function."""
    outermost = task.get_coro() if _is_task(task) else None
    if outermost is None:
        function = callback
        while type(function) is partial:
            function = function.func
        if type(function) is MethodType:
            function = function.__func__
        if type(function) in (FunctionType, BuiltinFunctionType):
            return _place(function, getattr(function, "__code__", None))
        return f"<{type(function).__qualname__}>"
    found = []
    coroutine = outermost
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None and not frame.f_code.co_filename.startswith(LIBRARY):
            found.append((coroutine.__name__, frame.f_code.co_filename, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    if not found:
        return _place(outermost, getattr(outermost, "cr_code", None))
    _, file, line = found[-1]
    names = " > ".join(name for name, _, _ in found)
    return f"{names}, now at {os.path.basename(file)}:{line}"


def _is_task(found: Any) -> bool:
    tasks = sys.modules.get("asyncio.tasks")
    return tasks is not None and issubclass(type(found), tasks.Task | tasks._PyTask)


def _place(thing: Any, code: Any) -> str:
    name = getattr(thing, "__qualname__", None) or repr(thing)
    if code is None:
        return name
    return f"{name} at {os.path.basename(code.co_filename)}:{code.co_firstlineno}"


_unseen_loops: set[type] = set()


def _before_running(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`_set_running_loop(loop)`: a loop begins or ends to run."""
    kind, base = type(args[0]), _asyncio.get("base_events")
    if args[0] is None or kind in _unseen_loops:
        return
    if base is not None and isinstance(args[0], base.BaseEventLoop):
        return
    _unseen_loops.add(kind)
    _watch.note(
        f"scheduler: task switches and stalls of {kind.__module__}.{kind.__qualname__} are not "
        "seen: it is not one of asyncio's own loops (cause is carried)"
    )


def _gevent(module: Any) -> None:
    _watch.note(
        f"scheduler: gevent.monkey was imported: {REPLACED_BY['gevent']} are not seen, and cause "
        "is carried to its threads, not to its greenlets"
    )


# -- where -----------------------------------------------------------------------------------


_ended: list[int] = []
"""The process that has told what it tells at its end."""


def at_end() -> None:
    """The process ends: tell how often the system took a processor from it before it gave it up."""
    if os.getpid() in _ended:
        return
    _ended[:] = [os.getpid()]
    count = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    if count:
        header = {"causality_id": 0, "parent": 0, "span_id": 0}
        _watch.emit(MetricUpdate, "scheduler.preemptions", float(count), **header)


def _patch(patcher: Patcher) -> None:
    _unseen_loops.clear()
    patcher.method(threading.Thread, "start", _before_start, failed=_start_failed)
    patcher.method(threading.Thread, "_bootstrap_inner", _before_bootstrap)

    new_thread = (("_thread", "start_new_thread"), ("threading", "_start_new_thread"))
    for names in (new_thread, (("_thread", "start_new"),)):
        patcher.builtin(names, _before_new_thread)

    def thread_executor(module: Any) -> None:
        item = module._WorkItem
        patcher.method(item, "__init__", _before_work_item, _after_work_item)
        patcher.method(item, "run", _before_run, _after_run, _after_run)

    def process_executor(module: Any) -> None:
        work, call = module._WorkItem, module._CallItem
        patcher.method(work, "__init__", _before_work_item, _after_process_work_item)
        patcher.method(call, "__init__", _before_work_item, _after_call_item)

    def loop(module: Any) -> None:
        _asyncio["base_events"] = module
        patcher.method(module.BaseEventLoop, "create_task", _before_create_task, _after_create_task)
        patcher.wake(module.BaseEventLoop, "_call_soon", _before_wake, _after_wake)

    def helpers(module: Any) -> None:
        _asyncio["format_helpers"] = module
        patcher.method(module, "extract_stack", _before_extract_stack, _after_extract_stack)

    def handle(module: Any) -> None:
        _watch.step = patcher.step(
            module.Handle, "_run", _before_step, _after_step, tasks=_tasks,
            c_tasks=getattr(sys.modules.get("_asyncio"), "Task", None), stall_ms=STALL_MS,
            tell=_watch.aim_failed,
        )  # fmt: skip
        _watch.aim()
        patcher.on_undo(_watch.leave_steps)
        names = ("_asyncio", "asyncio.events", "asyncio")
        patcher.builtin(tuple((name, "_set_running_loop") for name in names), _before_running)

    patcher.when_imported("concurrent.futures.thread", thread_executor)
    patcher.when_imported("concurrent.futures.process", process_executor)
    patcher.when_imported("asyncio.base_events", loop)
    patcher.when_imported("asyncio.events", handle)
    patcher.when_imported("asyncio.format_helpers", helpers)
    patcher.when_imported("gevent.monkey", _gevent)


class _SchedulerWatch(AimedWatch):
    step: Any = None
    """The `StepHook` of asyncio's handles, where there is one."""

    def leave_steps(self) -> None:
        """Asyncio's handles are as they were."""
        self.step = None

    def aim(self) -> None:
        if self.step is None:
            return
        collector = self.collector()
        aim = hooking.native.StepHook.aim
        if collector is None or collector.closed:
            aim(self.step, None, None, False)
        else:
            emitters = collector.emitter(SchedulerLatency), collector.emitter(ContextSwitch)
            aim(self.step, *emitters, collector.gate.adaptive)


_watch = _SchedulerWatch("scheduler", _patch)


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch threads, executors and asyncio; returns what takes it back. Without `events` only
    cause is carried on.

    For steps of tasks `get_collector` is asked when the watch is put in place and when the
    process-wide collector is another, not at each event.
    """
    return _watch.install(get_collector, events=events)
