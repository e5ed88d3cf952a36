"""Watches pipes: `os.pipe` and what is read and written through `os`, `subprocess`'s pipes too.

A read is joined to the write that its bytes are from, in whichever process of the session that
was. The connections of `multiprocessing` are told by the `queue` subsystem, as messages; by this
one where that is off. Pipes that Python's own machinery makes for itself are left out.

What goes through a file object (`Popen.stdin`, `sys.stdin`, `os.fdopen`) is the C types' doing,
and not seen by the Python core.
"""

import os
import sys
from _io import FileIO
from stat import S_ISFIFO
from time import monotonic_ns
from typing import Any

from kobs import handover, inside
from kobs.handover import Sent
from kobs.payloads import MetricUpdate, PipeRead, PipeWritten
from kobs.schema import PayloadType
from kobs_instrumentation.watch import _pipes, _sends, queue
from kobs_instrumentation.watch._patch import Patcher
from kobs_instrumentation.watch._pipes import Pipe, Rate
from kobs_instrumentation.watch._watch import GetCollector, Undo, Watch, words_of

UNREACHABLE = (
    "_io.FileIO methods on pipes (Popen.stdin, Popen.stdout, sys.stdin)",
    "os functions imported before the watch",
)
"""What this watch cannot see with the Python core."""

_PREFIX = 8

process_begins: list[bool] = []
"""Not empty while a process begins: nothing has read from its standard input yet."""


# -- making, copying, closing ------------------------------------------------------------------


def _before_pipe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return None if _by_machinery() else True


def _after_pipe(_: Any, ends: tuple[int, int]) -> None:
    _pipes.made(*ends)


def _by_machinery() -> bool:
    """`multiprocessing` makes connections of its pipes, and others for itself; `subprocess` one
    for errors of the child's start."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        package = module.partition(".")[0]
        if package not in ("kobs", "kobs_instrumentation"):
            if package == "multiprocessing":
                return True
            in_child_start = frame.f_code.co_name == "_execute_child"
            return bool(module == "subprocess" and in_child_start)
        frame = frame.f_back
    return False


def _before_dup(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args and args[0] in _pipes.pipes else None


def _after_dup(descriptor: int, copy: int) -> None:
    _pipes.duplicated(descriptor, copy)


def _before_dup2(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    known = _pipes.pipes
    return args[:2] if len(args) > 1 and (args[0] in known or args[1] in known) else None


def _after_dup2(state: tuple[int, int], _: Any) -> None:
    _pipes.duplicated(*state)


def _before_close(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args and args[0] in _pipes.pipes:  # before: the number may be another's right after
        pipe = _pipes.closed(args[0])
        if pipe is not None:
            _tell_rates(pipe)


def _before_open(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A file object over a pipe reads and writes unseen with the Python core."""
    file = args[0] if args else kwargs.get("file")
    if type(file) is int and file in _pipes.pipes:
        _pipes.pipes[file].no_longer_linked()


def _before_transfer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The kernel moves bytes between descriptors."""
    for value in (*args[:2], *kwargs.values()):
        if type(value) is int and value in _pipes.pipes:
            _pipes.pipes[value].no_longer_linked()


# -- writing -----------------------------------------------------------------------------------


def _before_write(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) < 2 or args[0] not in _pipes.pipes:
        return None
    return _begin_write(args[0], args[1])


def _before_writev(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) < 2 or args[0] not in _pipes.pipes:
        return None
    return _begin_write(args[0], *args[1]) if type(args[1]) in (list, tuple) else None


def _begin_write(descriptor: int, *parts: Any) -> Any:
    collector = _watch.any_collector()
    pipe = _pipes.of(descriptor)
    if pipe is None or collector is None or collector.closed:
        return None
    if len(parts) == 1 and type(parts[0]) is bytes:
        size, prefix = len(parts[0]), parts[0][:_PREFIX]
    else:
        size, prefix = 0, b""
        try:
            for part in parts:
                with memoryview(part) as view:
                    size += view.nbytes
                    if len(prefix) < _PREFIX:
                        prefix += bytes(view.cast("B")[: _PREFIX - len(prefix)])
        except TypeError:  # no bytes: the program will be told so
            return None
    sent = _sends.send_now(collector)
    offset = pipe.begin_write(collector, sent, prefix, size)
    return pipe, sent, offset, size


def _after_write(state: tuple[Pipe, Sent, int, int], written: int | None) -> None:
    pipe, sent, offset, size = state
    if written is None:  # a file object's way to say that it would block
        _end_write(pipe, offset, size, 0)
        return
    if written == size:
        pipe.in_write = max(0, pipe.in_write - 1)
    else:
        _end_write(pipe, offset, size, written)
    _tell(PipeWritten, pipe, written, _sends.header(sent))
    _tell_rate(pipe.write_rate, pipe, "written", written, sent.timestamp_ns)


def _write_failed(state: tuple[Pipe, Sent, int, int], _: Any) -> None:
    pipe, _sent, offset, size = state
    _end_write(pipe, offset, size, 0)


def _end_write(pipe: Pipe, offset: int, size: int, written: int) -> None:
    collector = _watch.any_collector()
    if collector is not None and not collector.closed:
        pipe.end_write(collector, offset, size, written)


# -- reading -----------------------------------------------------------------------------------


def _before_read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not args or args[0] not in _pipes.pipes:
        return None
    return _begin_read(args[0])


def _before_readv(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) < 2 or args[0] not in _pipes.pipes:
        return None
    state = _begin_read(args[0])
    return None if state is None else (*state, args[1])


def _begin_read(descriptor: int) -> Any:
    pipe = _pipes.of(descriptor)
    if pipe is None:
        return None
    pipe.in_read += 1
    if pipe.in_read > 1:  # which gets the first bytes?
        pipe.no_longer_linked()
    return pipe, monotonic_ns()


def _after_read(state: tuple[Pipe, int], data: bytes | None) -> None:
    if data is None:  # a file object's way to say that it would block
        _read_failed(state, None)
    else:
        _end_read(*state, data, len(data))


def _after_readv(state: tuple[Pipe, int, Any], size: int) -> None:
    pipe, began_ns, buffers = state
    _end_read(pipe, began_ns, b"".join(bytes(buffer) for buffer in buffers)[:size], size)


def _end_read(pipe: Pipe, began_ns: int, data: bytes, size: int) -> None:
    pipe.in_read = max(0, pipe.in_read - 1)
    collector = _watch.any_collector()
    if collector is None or collector.closed:
        return
    sent = pipe.end_read(collector, data, size)
    event = _tell(PipeRead, pipe, size, handover.header(sent))
    handover.adopt(sent, event)
    _tell_rate(pipe.read_rate, pipe, "read", size, began_ns)


def _read_failed(state: tuple[Any, ...], _: Any) -> None:
    pipe = state[0]
    pipe.in_read = max(0, pipe.in_read - 1)


# -- file objects ------------------------------------------------------------------------------


_closes = vars(FileIO)["closefd"].__get__
"""As the C type has it, whatever a subclass makes of it."""


def _pipe_of(file: Any) -> int:
    """The descriptor of a file object over a pipe; -1 for others."""
    if _pipes.pipes:
        try:
            descriptor = FileIO.fileno(file)
        except ValueError:
            return -1
        if descriptor in _pipes.pipes:
            return descriptor
    return -1


def _before_file_read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    descriptor = _pipe_of(args[0])
    return None if descriptor < 0 else _begin_read(descriptor)


def _before_file_readinto(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    state = _before_file_read(args, kwargs)
    return None if state is None else (*state, args[1])


def _after_file_readinto(state: tuple[Pipe, int, Any], size: int | None) -> None:
    pipe, began_ns, buffer = state
    if size is None:
        _read_failed(state, None)
    else:
        with memoryview(buffer) as view:
            _end_read(pipe, began_ns, bytes(view.cast("B")[:size]), size)


def _before_file_write(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    descriptor = _pipe_of(args[0])
    return None if descriptor < 0 or len(args) < 2 else _begin_write(descriptor, args[1])


def _before_file_close(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    descriptor = _pipe_of(args[0])
    if descriptor >= 0 and _closes(args[0]):
        _before_close((descriptor,), {})


def _patch_files(patcher: Patcher) -> bool:
    """Have what file objects do seen, where the core can."""
    read = _before_file_read, _after_read, _read_failed
    hooks: dict[str, Any] = {
        "read": read,
        "readall": read,
        "readinto": (_before_file_readinto, _after_file_readinto, _read_failed),
        "write": (_before_file_write, _after_write, _write_failed),
        "close": (_before_file_close,),
    }
    known = _pipes.pipes
    return all(patcher.c_method(FileIO, name, *hooks[name], among=known) for name in hooks)


# -- telling -----------------------------------------------------------------------------------


def _tell(cls: type[PayloadType], pipe: Pipe, size: int, header: dict[str, Any]) -> int:
    """Tell it; by the name that the observed call has for the pipe, if one says it too."""
    call = _watch.call_saying(cls) if cls in inside.said else None
    if call is None:
        return _watch.emit(cls, pipe.label, size, **header)
    label = words_of(call).get("pipe_id", pipe.label)
    event = _watch.emit_in({"pipe_id": label}, cls, {"pipe_id": pipe.label, "size": size}, **header)
    call.tell()
    return event


def _tell_rate(rate: Rate, pipe: Pipe, direction: str, size: int, began_ns: int) -> None:
    a_second = rate.add(size, began_ns, monotonic_ns())
    if a_second is not None:
        _tell_throughput(pipe, direction, a_second)


def _tell_rates(pipe: Pipe) -> None:
    for rate, direction in ((pipe.read_rate, "read"), (pipe.write_rate, "written")):
        a_second = rate.take()
        if a_second is not None:
            _tell_throughput(pipe, direction, a_second)


def _tell_throughput(pipe: Pipe, direction: str, a_second: float) -> None:
    labels = {"pipe_id": pipe.label, "direction": direction}
    no_chain = {"causality_id": 0, "parent": 0, "span_id": 0}
    _watch.emit(MetricUpdate, "pipe.throughput", a_second, labels, **no_chain)


# -- connections, where nobody tells of messages -------------------------------------------------


def _before_send(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if queue._watch.collector() is not None:
        return None  # it is told there
    return args[0], len(args[1])


def _after_send(state: tuple[Any, int], _: Any) -> None:
    connection, size = state
    _watch.emit(PipeWritten, _label(connection), size)


def _before_receive(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return None if queue._watch.collector() is not None else args[0]


def _after_receive(connection: Any, buffer: Any) -> None:
    _watch.emit(PipeRead, _label(connection), len(buffer.getbuffer()))


def _label(connection: Any) -> str:
    try:
        found = os.fstat(connection.fileno())
    except (OSError, ValueError):
        return "connection"
    return f"{'pipe' if S_ISFIFO(found.st_mode) else 'socket'}-{found.st_ino}"


# -- where -----------------------------------------------------------------------------------


def _os(name: str) -> tuple[tuple[str, str], ...]:
    return (("posix", name), ("os", name))


def _patch(patcher: Patcher) -> None:
    for name in ("pipe", "pipe2"):
        patcher.builtin(_os(name), _before_pipe, _after_pipe)
    known = _pipes.pipes
    patcher.builtin(_os("dup"), _before_dup, _after_dup, among=known)
    patcher.builtin(_os("dup2"), _before_dup2, _after_dup2)
    patcher.builtin(_os("close"), _before_close, among=known)
    files_are_seen = _patch_files(patcher)
    if not files_are_seen:
        patcher.builtin((("_io", "open"), ("io", "open"), ("builtins", "open")), _before_open)
    for name in ("sendfile", "splice"):
        patcher.builtin(_os(name), _before_transfer)
    patcher.builtin(_os("write"), _before_write, _after_write, _write_failed, among=known)
    patcher.builtin(_os("writev"), _before_writev, _after_write, _write_failed, among=known)
    patcher.builtin(_os("read"), _before_read, _after_read, _read_failed, among=known)
    patcher.builtin(_os("readv"), _before_readv, _after_readv, _read_failed, among=known)

    def connections(module: Any) -> None:
        connection = module.Connection
        patcher.method(connection, "_send_bytes", _before_send, _after_send)
        patcher.method(connection, "_recv_bytes", _before_receive, _after_receive)

    patcher.when_imported("multiprocessing.connection", connections)
    _pipes.find_those_there_are()
    if process_begins:
        _pipes.take_standard_input(linked=files_are_seen)
    patcher.on_undo(_pipes.forget)


_watch = Watch("pipe", _patch)


def install(get_collector: GetCollector, *, events: bool = True) -> Undo:
    """Watch pipes; returns what takes it back. Without `events` only cause is carried on."""
    return _watch.install(get_collector, events=events)
