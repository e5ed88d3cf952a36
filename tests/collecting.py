"""What the garbage collector of this Python does."""

import gc
import weakref


def collect_all() -> None:
    """Collect until nothing is found: free-threaded Python finds some of what is there later."""
    while gc.collect():
        pass


def classes_can_go() -> bool:
    """Whether a class that nobody uses goes; CPython 3.13 without an interpreter lock keeps every
    class from the second thread on."""

    class Bare: ...

    gone = weakref.ref(Bare)
    del Bare
    collect_all()
    return gone() is None
