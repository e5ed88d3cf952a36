"""wrapt: a decorator that passes through.

A method that is looked up and called, as observed methods are: most of what wrapt adds to it is a
bound wrapper, made for every call. To one that was bound before it adds a quarter of that.
"""

from typing import Any

from benchmarks.subject import Absent, Statement, main


def check() -> None:
    """Raise `Absent` where wrapt runs without its C extension."""
    import wrapt

    if wrapt.FunctionWrapper.__module__ == "wrapt.wrappers":
        raise Absent("without its C extension")


def through() -> Any:
    """An instance with a method behind an empty decorator."""
    import wrapt

    @wrapt.decorator
    def decorator(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    class Wrapped:
        @decorator
        def work(self) -> int:
            return 3

    return Wrapped()


SUBJECTS = {
    "wrapt": Statement("watched.work()", "watched", through, check=check),
    "wrapt_bound": Statement("work()", "work", lambda: through().work, check=check),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
