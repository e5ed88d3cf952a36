"""Audit events (`sys.audit`): one hook for all watches, idle while none listens.

CPython cannot remove an audit hook, so it is added when the first watch listens and stays. With
the C core it is a C function: tracers do not see it, and events that nobody wants cost no Python.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from kobs._core import select
from kobs_instrumentation.watch import _patch
from kobs_instrumentation.watch._patch import busy

_KNOWN = 4096
"""Names that are remembered as wanted or not; a program may audit under any name."""


class Listener(NamedTuple):
    """Who wants to know."""

    wants: Callable[[str], bool]
    """Asked once a name of an event."""
    handle: Callable[[str, tuple[Any, ...]], BaseException | None]
    """Told of each such event; what it returns is raised from the audited call."""


_listeners: list[Listener] = []
_wanted: dict[str, bool] = {}
_wanting: dict[str, list[Listener]] = {}
"""Who wants which event, as far as it was asked."""
_added: list[Callable[[bool], None]] = []
"""Switches the hook on and off, once there is one."""


def listen(listener: Listener) -> Callable[[], None]:
    """Tell a listener of audit events until the returned function is called (twice is once)."""
    if not _added:
        _added.append(_add())
    _listeners.append(listener)
    _forget()
    _added[0](True)

    def undo() -> None:
        for index, other in enumerate(_listeners):
            if other is listener:
                del _listeners[index]
                _forget()
                break
        _added[0](bool(_listeners))

    return undo


def _forget() -> None:
    _wanting.clear()
    _wanted.clear()


def _add() -> Callable[[bool], None]:
    if select().name == "c":
        from kobs._core import _native

        _native.audit(_handle, _wanted)
        return _native.audit_listens
    on = [False]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if on[0] and _wanted.get(event, True):
            error = _handle(event, args)
            if error is not None:
                raise error

    def switch(to: bool) -> None:
        on[0] = to

    sys.addaudithook(hook)
    return switch


def _handle(event: str, args: tuple[Any, ...]) -> BaseException | None:
    if busy.inside:
        return None
    busy.inside = True
    try:
        wanting = _wanting.get(event)
        if wanting is None:
            wanting = [listener for listener in _listeners if listener.wants(event)]
            if len(_wanting) < _KNOWN:
                _wanting[event] = wanting
                _wanted[event] = bool(wanting)
        for listener in wanting:
            error = listener.handle(event, args)
            if error is not None:
                return error
    except Exception as error:
        _patch.on_error(f"audit event {event}", error)
    finally:
        busy.inside = False
    return None
