"""What kobs does itself is not recorded."""

import _thread
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kobs._core import hooking


class _Busy(_thread._local):
    inside = False


busy: Any = _Busy() if hooking.native is None else hooking.native.Busy()
"""`busy.inside`: true while a thread is inside kobs: what kobs does itself is not recorded."""


@contextmanager
def muted() -> Iterator[None]:
    """Run a block of kobs's own: no watch tells what it does."""
    before = busy.inside
    busy.inside = True
    try:
        yield
    finally:
        busy.inside = before
