"""wrapt: a decorator that passes through."""

from typing import Any

from benchmarks.subject import Statement, main


def through() -> Any:
    """A bound method behind an empty decorator."""
    import wrapt

    @wrapt.decorator
    def decorator(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    class Wrapped:
        @decorator
        def work(self) -> int:
            return 3

    return Wrapped()


SUBJECTS = {"wrapt": Statement("watched.work()", "watched", through)}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
