"""Hooks of the methods of sockets, which are methods of a C type.

With the C core the type's own methods are hooked, unseen. With the Python core `socket.socket`, a
Python class, gets stand-ins for those that it inherits: calls by way of `_socket.socket` and
methods that were bound before are missed.
"""

from typing import Any

from kobs._core import hooking
from kobs_instrumentation.watch._patch import After, Before, Patcher, nothing


def hook(
    patcher: Patcher,
    name: str,
    before: Before | None,
    after: After = nothing,
    failed: After = nothing,
    *,
    python_name: str = "",
) -> None:
    """Hook a method of `_socket.socket`; where that cannot be done, `socket.socket`'s: the one that
    it inherits, or its own called `python_name`."""
    import _socket
    import socket

    if patcher.c_method(_socket.socket, name, before, after, failed):
        return
    if python_name:
        patcher.method(socket.socket, python_name, before, after, failed)
    else:
        patcher.inherited(socket.socket, name, before, after, failed)


def count(patcher: Patcher, name: str, after: After, failed: After, *, sends: bool) -> bool:
    """Hook a method of `_socket.socket` that moves bytes. True where the C core counts them, see
    `traffic`; else `after((args, kwargs), result)` has to."""
    import _socket
    import socket

    way = 0 if sends else 1
    if _finds_descriptors(_socket) and patcher.c_method(
        _socket.socket, name, None, failed=failed, traffic=way
    ):
        return True
    patcher.inherited(socket.socket, name, _keep, after, failed)
    return False


def traffic(descriptor: int) -> tuple[int, int]:
    """Bytes (sent, received) that the C core counted since this was asked last."""
    moved: tuple[int, int] = hooking.native.traffic(descriptor)
    return moved


def _finds_descriptors(module: Any) -> bool:
    return hooking.native is not None and bool(
        hooking.native.traffic_counts(module.socket.__new__(module.socket))
    )


def _keep(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args, kwargs
