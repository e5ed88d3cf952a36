"""Hooks of the methods of sockets, which are methods of a C type.

With the C core the type's own methods are hooked, unseen. With the Python core `socket.socket`, a
Python class, gets stand-ins for those that it inherits: calls by way of `_socket.socket` and
methods that were bound before are missed.
"""

from kobs_instrumentation.watch._patch import After, Before, Patcher, nothing


def hook(
    patcher: Patcher,
    name: str,
    before: Before | None,
    after: After = nothing,
    failed: After = nothing,
) -> None:
    """Hook a method that `socket.socket` inherits from `_socket.socket`."""
    import _socket
    import socket

    if not patcher.c_method(_socket.socket, name, before, after, failed):
        patcher.inherited(socket.socket, name, before, after, failed)
