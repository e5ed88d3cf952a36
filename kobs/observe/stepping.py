"""What generated wrappers use while they run what they wrap step by step."""

from collections.abc import Generator
from types import coroutine
from typing import TYPE_CHECKING, Any

from kobs.context import Cause, cause
from kobs.schema import PayloadType

if TYPE_CHECKING:
    from kobs.collector import Collector


@coroutine
def suspend(value: object) -> Generator[object, Any, object]:
    """Hand `value` to whoever drives the coroutine, and give what it sends."""
    return (yield value)


def without_own_frames(error: BaseException) -> BaseException:
    """An exception that was thrown into a wrapper, as it was before: without the wrapper's entry
    in its traceback (and that of `suspend`), to be thrown on into what is wrapped."""
    entry = error.__traceback__
    entry = entry.tb_next if entry is not None else None
    if entry is not None and entry.tb_frame.f_code is _SUSPEND:
        entry = entry.tb_next
    error.__traceback__ = entry
    return error


_SUSPEND = suspend.__code__


def first_step(inner: Any) -> Any:
    """The first step of an async generator that another stands for: the loop's hooks see the
    outer one only, which closes the inner one."""
    import sys

    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return inner.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def thrown(inner: Any, error: BaseException) -> Any:
    """The step that throws what was thrown into an async generator into the one it stands for. That
    one may be at its end before: the garbage collector ends in any order what is in a cycle."""
    error = without_own_frames(error)
    return _raising(error) if inner.ag_frame is None else inner.athrow(error)


def _raising(error: BaseException) -> Generator[None, None, None]:
    raise error
    yield


class Scope:
    """A call that has a begin and an end event: between them the begin is the ambient parent.

    `enter` and `leave` go around each step, so that what runs while the call is suspended is
    not inside it, and what the call itself set is there again when it goes on.
    """

    __slots__ = ("_collector", "_inside", "_opened", "_outside")

    def __init__(self, collector: "Collector", payload: PayloadType, **header: Any) -> None:
        self._collector = collector
        self._opened = collector.emit_begin(payload, **header)
        self._outside = ambient = cause.get()
        if not self._opened.event:  # sampled out or lost: what happens inside has no begin
            self._inside = ambient
        elif ambient is None:
            self._inside = Cause(0, self._opened.event, in_scope=True)
        else:
            self._inside = ambient._replace(parent=self._opened.event, in_scope=True)

    def enter(self) -> None:
        """From here the begin event is the cause of what happens."""
        self._outside = cause.get()
        cause.set(self._inside)

    def leave(self) -> None:
        """From here the cause is what it was outside."""
        self._inside = cause.get()
        cause.set(self._outside)

    def end(self, payload: PayloadType, **header: Any) -> None:
        """Record the end event."""
        self._collector.emit_end(self._opened, payload, **header)

    def abandon(self) -> None:
        """Close the scope without an end event."""
        self._collector.ring.close_entry(self._opened.entry)


class _NoScope:
    """Stands in where the begin event could not be made: an end is not told either."""

    __slots__ = ()

    def enter(self) -> None: ...

    def leave(self) -> None: ...

    def end(self, payload: PayloadType, **header: Any) -> None: ...

    def abandon(self) -> None: ...


NO_SCOPE = _NoScope()
