"""What the standard library offers."""

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

from benchmarks.subject import Statement, main


def through() -> Any:
    """A method behind a closure that passes through."""

    def decorator(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return inner

    class Wrapped:
        @decorator
        def work(self) -> int:
            return 3

    return Wrapped()


def info(handler: Callable[[], logging.Handler]) -> Callable[[], Any]:
    """`logger.info` to a handler of its own."""

    def make() -> Any:
        logger = logging.Logger("bench", logging.INFO)
        made = handler()
        made.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(made)
        return logger.info

    return make


SUBJECTS = {
    "functools_wraps": Statement("watched.work()", "watched", through),
    "logging_null": Statement('info("%s took %d", "read", 12)', "info", info(logging.NullHandler)),
    "logging_file": Statement(
        'info("%s took %d", "read", 12)', "info", info(lambda: logging.FileHandler(os.devnull))
    ),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
