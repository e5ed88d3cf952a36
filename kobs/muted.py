"""What kobs does itself is not recorded."""

import _thread
from collections.abc import Iterator
from contextlib import contextmanager


class _Busy(_thread._local):
    """True while a thread is inside kobs: what kobs does itself is not recorded."""

    inside = False


busy = _Busy()


@contextmanager
def muted() -> Iterator[None]:
    """Run a block of kobs's own: no watch tells what it does."""
    before = busy.inside
    busy.inside = True
    try:
        yield
    finally:
        busy.inside = before
