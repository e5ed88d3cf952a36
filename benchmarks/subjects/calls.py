"""What a call costs: emitters, and observed methods."""

from typing import Any

from benchmarks.subject import Statement, main


def written() -> Any:
    """A collector of the default size, every slot of it written once: the kernel has given all of
    its memory by then."""
    from kobs import Collector, ContextSwitch

    collector = Collector()
    emit = collector.emitter(ContextSwitch)
    for number in range(collector.ring.slots):
        emit(number, number, "await")
    return collector


def emit_exit() -> Any:
    """The emitter of an event with a duration, which is looked at for anomalies."""
    from kobs import SyscallExit, SyscallResult

    return written().emitter(SyscallExit), SyscallResult.SUCCESS


def emit_switch() -> Any:
    """The emitter of an event without a duration."""
    from kobs import ContextSwitch

    return written().emitter(ContextSwitch)


def emit_payload() -> Any:
    """`collector.emit` and a payload object."""
    from kobs import ContextSwitch

    return written().emit, ContextSwitch(1, 2, "await")


def method() -> Any:
    """A method of the collector that makes the event of `emit_exit`."""
    collector = written()
    collector.syscall_exit(42, "read", 12, True)
    return collector


def watched(*, enabled: bool) -> Any:
    """An instance with one observed method, that makes an event with a duration of each call."""
    from kobs import SyscallExit, emits, observe

    @observe(collector=written() if enabled else None)
    class Watched:
        @emits(SyscallExit, name="read")
        def work(self) -> int:
            return 3

    return Watched()


SUBJECTS = {
    "emit_exit": Statement('emit("read", 12, ok, 0)', "emit, ok", emit_exit),
    "emit_switch": Statement('emit(1, 2, "await")', "emit", emit_switch),
    "emit_payload": Statement("emit(payload)", "emit, payload", emit_payload),
    "emit_method": Statement('collector.syscall_exit(42, "read", 12, True)', "collector", method),
    "observed": Statement("watched.work()", "watched", lambda: watched(enabled=True)),
    "idle": Statement("watched.work()", "watched", lambda: watched(enabled=False)),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
