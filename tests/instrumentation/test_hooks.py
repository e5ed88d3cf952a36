"""Hooks in the C entry of built-in functions: the function stays, and every call is seen."""

import copy
import functools
import gc
import inspect
import io
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType
from typing import Any

import pytest

from kobs._core import hooking
from kobs_instrumentation.watch import _patch
from kobs_instrumentation.watch._patch import Call, Patcher

early_read = os.read
"""As `from os import read`, before any hook."""

pytestmark = [
    pytest.mark.c_core,
    pytest.mark.skipif(hooking.native is None, reason="the Python core has no such hooks"),
]

_Args = tuple[Any, ...]


class Seen:
    """Hooks that note what they are told."""

    def __init__(self, state: Any = "state") -> None:
        self.log: list[tuple[Any, ...]] = []
        self.state = state

    def before(self, args: _Args, kwargs: dict[str, Any]) -> Any:
        self.log.append(("before", args, kwargs))
        return self.state

    def after(self, state: Any, result: Any) -> None:
        self.log.append(("after", state, result))

    def failed(self, state: Any, error: Any) -> None:
        self.log.append(("failed", state, error))

    @property
    def hooks(self) -> tuple[Any, ...]:
        """As `Patcher.builtin` takes them."""
        return self.before, self.after, self.failed

    def take(self) -> list[tuple[Any, ...]]:
        """What was noted, once."""
        log, self.log = self.log, []
        return log


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def patcher() -> Iterator[Patcher]:
    made = Patcher("test")
    yield made
    made.undo()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def os_names(name: str) -> tuple[tuple[str, str], ...]:
    return (("posix", name), ("os", name))


# -- what does not change --------------------------------------------------------------------


def looks(function: Any) -> dict[str, Any]:
    """Everything that a program can see of a function."""
    found = {name: repr(getattr(function, name, None)) for name in dir(function)}
    return {name: value for name, value in found.items() if " at 0x" not in value} | {
        "hash": hash(function),
        "repr": repr(function),
        "type": type(function),
        "signature": str(inspect.signature(function)),
        "pickle": pickle.dumps(function),
        "builtin": inspect.isbuiltin(function),
        "self": getattr(function, "__self__", None),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["read", "stat", "getpid", "unlink", "putenv", "fork"])
def test_a_function_looks_the_same_and_is_the_same(patcher: Patcher, seen: Seen, name: str) -> None:
    function = getattr(os, name)
    held, before = {function: name}, looks(function)
    patcher.builtin(os_names(name), *seen.hooks)
    assert getattr(os, name) is function
    assert looks(function) == before
    assert held[function] == name
    assert isinstance(function, BuiltinFunctionType)
    assert copy.deepcopy(function) is function
    assert pickle.loads(pickle.dumps(function)) is function
    patcher.undo()
    assert looks(function) == before


def test_a_method_of_a_c_type_looks_the_same(patcher: Patcher, seen: Seen) -> None:
    method = vars(io.FileIO)["write"]
    before = repr(method), method.__text_signature__, method.__doc__, hash(method), id(method)
    assert patcher.c_method(io.FileIO, "write", *seen.hooks)
    now = vars(io.FileIO)["write"]
    assert (repr(now), now.__text_signature__, now.__doc__, hash(now), id(now)) == before
    with open(os.devnull, "wb", buffering=0) as file:
        assert file.write == file.write
        assert file.write.__self__ is file
        assert file.write(b"four") == 4
        assert seen.take() == [("before", (file, b"four"), {}), ("after", "state", 4)]


def test_a_function_has_its_entry_back_after_undo(patcher: Patcher, seen: Seen) -> None:
    count = sys.getrefcount(os.getpid)
    for _ in range(3):
        patcher.builtin(os_names("getpid"), *seen.hooks)
        patcher.undo()
    os.getpid()
    assert seen.take() == []
    after = sys.getrefcount(os.getpid)
    assert after == count


# -- ways of calling -------------------------------------------------------------------------


def module_call(module: str, name: str, *args: Any, **kwargs: Any) -> Any:
    return (module, name, args, kwargs)


CALLS = {
    "METH_NOARGS": module_call("posix", "getpid"),
    "METH_O": module_call("posix", "WCOREDUMP", 0),
    "METH_VARARGS": module_call("_thread", "stack_size", 0),
    "METH_FASTCALL": module_call("posix", "getpriority", 0, 0),
    "METH_FASTCALL | METH_KEYWORDS": module_call("posix", "stat", "/", follow_symlinks=False),
    "METH_VARARGS | METH_KEYWORDS": module_call("itertools", "tee", (1, 2), 0),
    "builtins": module_call("builtins", "sorted", [2, 1], reverse=True),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_every_convention_of_functions(
    patcher: Patcher, seen: Seen, call: tuple[str, str, _Args, dict[str, Any]]
) -> None:
    module, name, args, kwargs = call
    function = getattr(sys.modules[module], name)
    bare = function(*args, **kwargs)
    patcher.builtin(((module, name),), *seen.hooks)
    for result in (
        function(*args, **kwargs),
        functools.partial(function, *args, **kwargs)(),
        *[function(*args, **kwargs) for _ in range(100)][-1:],
    ):
        assert result == bare
    log = seen.take()
    assert log[:2] == [("before", args, kwargs), ("after", "state", bare)]
    assert len(log) == 2 * 102


METHODS: dict[str, tuple[type, str, Callable[[], Any], _Args, dict[str, Any]]] = {
    "METH_NOARGS": (str, "upper", lambda: "a", (), {}),
    "METH_O": (str, "join", lambda: ",", ("ab",), {}),
    "METH_VARARGS": (str, "find", lambda: "ab", ("b",), {}),
    "METH_VARARGS | METH_KEYWORDS": (str, "format", lambda: "{}{a}", (1,), {"a": 2}),
    "METH_FASTCALL": (str, "center", lambda: "a", (3,), {}),
    "METH_FASTCALL | METH_KEYWORDS": (str, "split", lambda: "a b", (), {"maxsplit": 1}),
    "METH_METHOD": (io.FileIO, "readable", lambda: io.FileIO(0, closefd=False), (), {}),
    "METH_CLASS": (dict, "fromkeys", lambda: dict, ("ab",), {}),
}


@pytest.mark.parametrize("call", METHODS.values(), ids=METHODS.keys())
def test_every_convention_of_methods(
    patcher: Patcher,
    seen: Seen,
    call: tuple[type, str, Callable[[], Any], _Args, dict[str, Any]],
) -> None:
    owner, name, make, args, kwargs = call
    thing = make()
    bare = getattr(thing, name)(*args, **kwargs)
    bound = getattr(thing, name)
    assert patcher.c_method(owner, name, *seen.hooks)
    try:
        results = [getattr(thing, name)(*args, **kwargs) for _ in range(100)]
        results.append(bound(*args, **kwargs))
    finally:
        patcher.undo()
    assert results == [bare] * 101
    log = [entry for entry in seen.take() if entry[1] == (thing, *args) or entry[0] == "after"]
    assert log.count(("before", (thing, *args), kwargs)) >= 101
    assert log.count(("after", "state", bare)) >= 101


def test_what_was_bound_early_is_seen(patcher: Patcher, seen: Seen, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    partial = functools.partial(os.read, reader)
    patcher.builtin(os_names("read"), *seen.hooks)
    os.write(writer, b"abc")
    assert early_read(reader, 1) == b"a"
    assert partial(1) == b"b"
    assert list(map(os.read, [reader], [1])) == [b"c"]
    assert [entry[1] for entry in seen.take() if entry[0] == "before"] == [(reader, 1)] * 3


def test_what_c_code_calls_is_seen(patcher: Patcher, seen: Seen, tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10)
    with open(tmp_path / "file", "rb") as file:
        assert patcher.c_method(io.FileIO, "readinto", *seen.hooks)
        assert file.read(3) == b"xxx"
    assert [entry[2] for entry in seen.take() if entry[0] == "after"] == [10]


@pytest.mark.parametrize("function", [len, isinstance, [].append, print.__call__, io.FileIO, "x"])
def test_what_cannot_be_hooked_is_refused(function: Any, seen: Seen) -> None:
    hooks = _patch.Hooks(*seen.hooks, "test")
    assert _patch.Hooked.of(function, hooks) is None
    assert len([1]) == 1


def test_a_method_that_is_not_there_or_not_in_c_is_refused(patcher: Patcher, seen: Seen) -> None:
    assert not patcher.c_method(io.FileIO, "no_such_method", *seen.hooks)
    assert not patcher.c_method(threading.Thread, "start", *seen.hooks)
    assert not patcher.c_method(list, "append", *seen.hooks)


# -- exceptions ------------------------------------------------------------------------------


def failing() -> tuple[Any, ...]:
    """What can be seen of a system call that fails, inside another exception's handler."""
    try:
        raise KeyError("handled")
    except KeyError:
        with pytest.raises(FileNotFoundError) as caught:
            os.stat("/no/such/file")
    error = caught.value
    frames = [(frame.name, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    return frames, repr(error.__context__), error.__cause__, error.__suppress_context__


def test_an_exception_and_its_traceback_are_as_without_hooks(patcher: Patcher, seen: Seen) -> None:
    bare = failing()
    patcher.builtin(os_names("stat"), *seen.hooks)
    assert failing() == bare
    with pytest.raises(FileNotFoundError) as caught:
        os.stat("/no/such/file")
    assert seen.log[-1][2] is caught.value
    assert sys.getrefcount(caught.value) == 3 + 1  # `caught`'s traceback, ours, the log's


def test_arguments_that_do_not_fit_are_refused_in_the_same_words(
    patcher: Patcher, seen: Seen
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: os.read(1),  # type: ignore[call-arg]
        lambda: os.getpid(1),  # type: ignore[call-arg]
        lambda: os.getpid(x=1),  # type: ignore[call-arg]
        lambda: os.WCOREDUMP(),  # type: ignore[call-arg]
        lambda: os.stat(),  # type: ignore[call-arg]
    ]

    def messages() -> list[str]:
        found = []
        for call in calls:
            with pytest.raises(TypeError) as caught:
                call()
            found.append(str(caught.value))
        return found

    bare = messages()
    for name in ("read", "getpid", "WCOREDUMP", "stat"):
        patcher.builtin(os_names(name), *seen.hooks)
    assert messages() == bare
    assert [entry[0] for entry in seen.take()] == ["before", "failed"] * len(calls)


def test_an_error_in_a_hook_is_told_and_never_raised(
    patcher: Patcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(_patch, "on_error", lambda where, error: told.append(f"{where}: {error}"))

    def broken(*_: object) -> None:
        raise RuntimeError("kobs is broken")

    patcher.builtin(os_names("getpid"), broken)
    patcher.builtin(os_names("stat"), lambda args, kwargs: True, broken, broken)
    assert os.getpid() > 0
    assert os.stat("/")
    with pytest.raises(FileNotFoundError) as caught:
        os.stat("/no/such/file")
    assert caught.value.__context__ is None
    assert told == [f"test.{name}: kobs is broken" for name in ("getpid", "stat", "stat")]


def test_an_interrupt_in_a_hook_reaches_the_program(patcher: Patcher, seen: Seen) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    patcher.builtin(os_names("getpid"), interrupted)
    with pytest.raises(KeyboardInterrupt):
        os.getpid()
    patcher.undo()
    patcher.builtin(os_names("getpid"), lambda args, kwargs: True, interrupted)
    with pytest.raises(KeyboardInterrupt):
        os.getpid()
    patcher.undo()
    patcher.builtin(os_names("getpid"), *seen.hooks)
    os.getpid()
    assert len(seen.take()) == 2  # nothing is left muted


# -- other arguments, order, recursion -------------------------------------------------------


def test_a_hook_can_change_the_arguments(patcher: Patcher, seen: Seen) -> None:
    def instead(*args: Any, **kwargs: Any) -> Callable[..., Call]:
        return lambda *_: Call("changed", args, kwargs)

    patcher.builtin(os_names("stat"), instead("/", follow_symlinks=False), seen.after)
    patcher.builtin((("builtins", "abs"),), instead(-7), seen.after)
    patcher.builtin((("_thread", "stack_size"),), instead(0), seen.after)
    assert os.stat("/no/such/file") == os.lstat("/")
    assert abs(3) == 7
    seen.take()
    for name, args, kwargs, expected in (
        ("center", ("a", 3, "-"), {}, "-a-"),
        ("split", ("a,b",), {"sep": ","}, ["a", "b"]),
        ("upper", ("b",), {}, "B"),
        ("find", ("abc", "c"), {}, 2),
        ("format", ("{a}",), {"a": 1}, "1"),
    ):
        assert patcher.c_method(str, name, instead(*args, **kwargs), seen.after)
        assert getattr(args[0], name)("x") == expected if name != "upper" else args[0].upper()
        patcher.undo()


def test_arguments_that_the_function_does_not_take_are_an_error_of_the_hook(
    patcher: Patcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(_patch, "on_error", lambda where, error: told.append(str(error)))
    assert patcher.c_method(str, "upper", lambda *_: Call(None, ("a", "b"), {}))
    result = "x".upper()
    patcher.undo()
    assert result == "X"
    assert set(told) == {"other arguments than the function takes"}


def test_the_later_hook_is_the_outer_one_and_any_goes_first(pipe: tuple[int, int]) -> None:
    for gone in (0, 1, 2):
        log: list[str] = []

        def noting(number: int, log: list[str] = log) -> tuple[Any, Any]:
            return (
                lambda args, kwargs: log.append(f"before {number}") or number,
                lambda state, result: log.append(f"after {state}"),
            )

        patchers = [Patcher(str(number)) for number in range(3)]
        for number, patcher in enumerate(patchers):
            patcher.builtin(os_names("getpid"), *noting(number))
        os.getpid()
        assert log == [f"before {n}" for n in (2, 1, 0)] + [f"after {n}" for n in (0, 1, 2)]
        log.clear()
        patchers[gone].undo()
        os.getpid()
        left = [number for number in range(3) if number != gone]
        expected = [f"before {n}" for n in reversed(left)] + [f"after {n}" for n in left]
        assert log == expected
        for patcher in patchers:
            patcher.undo()
        log.clear()
        os.getpid()
        assert log == []


def test_more_hooks_than_a_function_has_room_for_are_put_in_its_place(seen: Seen) -> None:
    original = os.getpid
    patchers = [Patcher(str(number)) for number in range(10)]
    for patcher in patchers:
        patcher.builtin(os_names("getpid"), *seen.hooks)
    assert original() == os.getpid()
    assert len(seen.take()) == 2 * (8 + 10)
    for patcher in patchers:
        patcher.undo()
    assert os.getpid is original
    os.getpid()
    assert seen.take() == []


def test_hooks_come_and_go_in_turns_without_end(seen: Seen) -> None:
    patchers = [Patcher("one"), Patcher("two")]
    original = os.getpid
    for turn in range(50):
        patchers[turn % 2].builtin(os_names("getpid"), *seen.hooks)
        patchers[(turn + 1) % 2].undo()
        assert os.getpid is original
    os.getpid()
    assert len(seen.take()) == 2
    for patcher in patchers:
        patcher.undo()


def test_what_a_hook_calls_is_not_seen(patcher: Patcher) -> None:
    calls: list[int] = []

    def before(args: _Args, kwargs: dict[str, Any]) -> None:
        calls.append(os.getpid())

    patcher.builtin(os_names("getpid"), before)
    os.getpid()
    assert len(calls) == 1


def test_a_call_inside_the_call_is_seen(patcher: Patcher, seen: Seen) -> None:
    patcher.builtin((("builtins", "sorted"),), *seen.hooks)
    inner = lambda item: sorted([item, 0])  # noqa: E731
    assert sorted([2, 1], key=inner) == [1, 2]
    assert [entry[0] for entry in seen.take()] == ["before", *["before", "after"] * 2, "after"]


def test_a_profiler_sees_the_program_only(patcher: Patcher, seen: Seen) -> None:
    def calls() -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        sys.setprofile(
            lambda frame, event, arg: (
                found.append((event, arg or frame.f_code.co_name))
                if frame.f_code is calls.__code__ or event == "call"
                else None
            )
        )
        os.getpid()
        sys.setprofile(None)
        return found

    bare = calls()
    patcher.builtin(os_names("getpid"), *seen.hooks)
    assert calls() == bare
    assert len(seen.take()) == 2


# -- threads ---------------------------------------------------------------------------------


def test_hooks_come_and_go_while_others_call(pipe: tuple[int, int]) -> None:
    stop = threading.Event()
    wrong: list[BaseException] = []
    pid = os.getpid()
    a_socket = socket.socket()

    def calls() -> None:
        try:
            while not stop.is_set():
                assert os.getpid() == pid
                assert os.stat("/", follow_symlinks=False).st_mode
                assert a_socket.fileno() >= 0
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.read(-1, 1)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=calls) for _ in range(3)]
    for thread in threads:
        thread.start()
    counts: list[int] = []
    until = time.monotonic() + 1
    while time.monotonic() < until:
        seen = Seen()
        patcher = Patcher("test")
        for name in ("getpid", "stat", "read"):
            patcher.builtin(os_names(name), *seen.hooks)
        fileno = vars(socket.socket.__base__)["fileno"]
        assert fileno is vars(socket.socket.__base__)["fileno"]
        assert patcher.c_method(socket.socket.__base__, "fileno", *seen.hooks)  # type: ignore[arg-type]
        time.sleep(0.001)
        patcher.undo()
        counts.append(len(seen.log))
    stop.set()
    for thread in threads:
        thread.join()
    a_socket.close()
    assert wrong == []
    assert sum(counts) > 0


def test_a_call_under_way_ends_with_the_hook_it_began_with(
    seen: Seen, pipe: tuple[int, int]
) -> None:
    patcher = Patcher("test")
    patcher.builtin(os_names("read"), *seen.hooks)
    reader, writer = pipe
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(os.read(reader, 1)))
    thread.start()
    while not seen.log:
        time.sleep(0.001)
    patcher.undo()
    del patcher
    gc.collect()
    os.write(writer, b"x")
    thread.join()
    assert got == [b"x"]
    assert [entry[0] for entry in seen.take()] == ["before", "after"]


# -- what it holds ---------------------------------------------------------------------------


def test_nothing_is_kept_of_many_calls(patcher: Patcher, pipe: tuple[int, int]) -> None:
    state = object()
    patcher.builtin(os_names("stat"), lambda args, kwargs: state)
    patcher.builtin((("_thread", "stack_size"),), lambda args, kwargs: state)
    path = "".join(["/no/such", "/file"])

    def calls() -> None:
        for _ in range(10_000):
            try:
                os.stat(path, follow_symlinks=False)
            except FileNotFoundError:
                pass

    calls()
    gc.collect()
    before = sys.getrefcount(path), sys.getrefcount(state), len(gc.get_objects())
    calls()
    gc.collect()
    assert (sys.getrefcount(path), sys.getrefcount(state)) == before[:2]
    assert len(gc.get_objects()) <= before[2] + 5


def test_nothing_is_kept_of_a_hook_that_is_gone() -> None:
    gone: list[int] = []

    class Hooks:
        def before(self, args: _Args, kwargs: dict[str, Any]) -> None: ...

        def __del__(self) -> None:
            gone.append(1)

    patcher = Patcher("test")
    patcher.builtin(os_names("stat"), Hooks().before)
    patcher.c_method(io.FileIO, "write", Hooks().before)
    os.stat("/")
    gc.collect()
    assert gone == []
    patcher.undo()
    gc.collect()
    assert gone == [1, 1]


# -- other processes and interpreters --------------------------------------------------------


def python(source: str) -> str:
    """What a program in a process of its own prints."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


HEAD = """
import os, sys, threading, _socket
from kobs_instrumentation.watch._patch import Patcher
log = []
patcher = Patcher("test")
patcher.builtin((("posix", "getpid"),), lambda args, kwargs: log.append("getpid"))
assert patcher.c_method(_socket.socket, "fileno", lambda args, kwargs: log.append("fileno"))
"""


def test_a_forked_child_has_hooks_of_its_own() -> None:
    assert python(
        HEAD
        + """
pid = os.fork()
if pid == 0:
    os.getpid()
    patcher.undo()
    os.getpid()
    print(log, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
os.getpid()
print(log)
"""
    ) == ("['getpid']\n" * 2)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the module has another name")
def test_another_interpreter_is_passed_by() -> None:
    module = "_xxsubinterpreters" if sys.version_info < (3, 13) else "_interpreters"
    assert (
        python(
            HEAD
            + f"""
import {module} as interpreters
other = interpreters.create()
interpreters.run_string(other, '''
import _socket, os
assert os.getpid() > 0
with_socket = _socket.socket()
assert with_socket.fileno() >= 0
with_socket.close()
''')
interpreters.destroy(other)
assert log == [], log
os.getpid()
_socket.socket().fileno()
print(log)
"""
        )
        == "['getpid', 'fileno']\n"
    )


LATE = """
class Late:
    def __del__(self, getpid=os.getpid, print=print):
        print(getpid() > 0)

late = Late()
cycle = Late()
cycle.itself = cycle
"""

DAEMONS = """
def call():
    while True:
        os.getpid()

for _ in range(3):
    threading.Thread(target=call, daemon=True).start()
"""


def test_hooks_may_be_there_at_the_end() -> None:
    bare = python("import os" + LATE)
    assert bare.startswith("True\n")
    assert python(HEAD + LATE) == bare


def test_hooks_may_be_there_at_the_end_in_daemon_threads() -> None:
    assert python(HEAD + DAEMONS) == ""


HANDLERS: dict[str, Callable[..., None]] = {}


def handler(function: Callable[..., None]) -> Callable[..., None]:
    HANDLERS[function.__name__] = function
    return function


class Alarmed(Exception):
    """What handlers of signals raise."""


@handler
def of_two_arguments(number: int, frame: Any) -> None:
    raise Alarmed


@handler
def of_any(*_: Any) -> None:
    raise Alarmed


@handler
def that_calls(number: int, frame: Any) -> None:
    of_any()


@pytest.fixture(params=list(HANDLERS))
def alarm(request: pytest.FixtureRequest) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, HANDLERS[request.param])
    yield
    signal.signal(signal.SIGALRM, before)


def raises_alarm(*_: Any) -> None:
    signal.raise_signal(signal.SIGALRM)


@pytest.mark.parametrize("hook", ["before", "after", "failed"])
@pytest.mark.parametrize("kind", ["builtin", "python"])
def test_what_a_signal_handler_raises_inside_a_hook_is_the_program_s(
    patcher: Patcher, monkeypatch: pytest.MonkeyPatch, alarm: None, hook: str, kind: str
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(_patch, "on_error", lambda *of: told.append(of))
    hooks = {"before": lambda *_: True, "after": lambda *_: None, "failed": lambda *_: None}
    hooks[hook] = raises_alarm
    if kind == "builtin":
        patcher.builtin((("os", "stat"),), *hooks.values())
        stat = os.stat
    else:
        owner = types.SimpleNamespace(stat=lambda path: os.stat(path))
        patcher.method(owner, "stat", *hooks.values())
        stat = owner.stat
    with pytest.raises(Alarmed) as raised:
        stat("/" if hook != "failed" else "/none")
    assert told == []
    names = [entry.name for entry in raised.traceback]
    assert "raises_alarm" not in names  # nothing of kobs, as if it had come between two lines


def test_an_error_of_a_hook_s_own_is_swallowed_all_the_same(
    patcher: Patcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(_patch, "on_error", lambda *of: told.append(of))
    patcher.builtin((("os", "stat"),), lambda *_: True, lambda *_: of_any(1, None))
    os.stat("/")
    assert [type(error) for _, error in told] == [Alarmed]


LOOKS = {
    "repr": lambda: repr(5),
    "str": lambda: str(5),
    "a number in a text": lambda: f"{5}",
    "os.fstat": lambda: os.fstat(0),
    "a product of long numbers": lambda: (1 << 40) * len(HANDLERS) ** 40,
}
"""What looks for signals by itself, in Python's C code."""


@pytest.mark.parametrize("looks", LOOKS.values(), ids=LOOKS.keys())
def test_c_code_that_a_hook_calls_may_handle_a_signal_that_came_before_it(
    patcher: Patcher, pipe: tuple[int, int], looks: Callable[[], object]
) -> None:
    handled: list[str] = []

    def after(*_: Any) -> None:
        looks()
        handled.append("after")

    patcher.c_method(io.FileIO, "write", lambda *_: True, after)
    writer = io.FileIO(pipe[1], "w", closefd=False)
    before = signal.signal(signal.SIGALRM, lambda *_: handled.append("handler"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        writer.write(bytes(1 << 20))  # more than a pipe holds
    finally:
        signal.signal(signal.SIGALRM, before)
    assert handled == ["handler", "after"]


def test_a_write_that_a_signal_cut_short_is_counted_before_its_handler_raises(
    patcher: Patcher, pipe: tuple[int, int]
) -> None:
    handled: list[str] = []

    def after(*_: Any) -> None:
        for _ in range(10):  # the interpreter looks for signals in each round
            pass
        handled.append("after")

    def on_alarm(*_: Any) -> None:
        handled.append("handler")
        raise Alarmed

    end, start = pipe
    data = bytes(range(256)) * 1024  # more than a pipe holds
    writer = io.BufferedWriter(io.FileIO(start, "w", closefd=False), len(data) + 1)
    writer.write(data)
    patcher.c_method(io.FileIO, "write", lambda *_: True, after)
    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Alarmed):
            writer.flush()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert handled == ["after", "handler"]
    got = bytearray()

    def read() -> None:
        while len(got) < len(data):
            got.extend(os.read(end, len(data)))

    reader = threading.Thread(target=read)
    reader.start()
    writer.close()
    reader.join()
    os.set_blocking(end, False)
    with pytest.raises(BlockingIOError):  # no more than that
        os.read(end, 1)
    assert bytes(got) == data
