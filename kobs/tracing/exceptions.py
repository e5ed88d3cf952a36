"""What an exception says about a span."""

import sys
from types import TracebackType

from kobs.tracing.records import text_of

_FRAMES = 64


def is_failure(error: BaseException) -> bool:
    """An exception that leaves a span is an error; closing a generator and leaving with exit
    code 0 are not."""
    if isinstance(error, GeneratorExit):
        return False
    return not (isinstance(error, SystemExit) and error.code in (None, 0))


def describe_exception(error: BaseException) -> dict[str, str]:
    """`exception.*` attributes by OpenTelemetry's conventions.

    The stack trace has no source lines: to read files in the middle of a program's exception
    handling would change what it does.
    """
    described = {"exception.type": exception_type(error)}
    message = text_of(error)
    if message:
        described["exception.message"] = message
    if isinstance(error, Exception):
        described["exception.stacktrace"] = _stack(error, described["exception.type"], message)
    return described


def exception_type(error: BaseException) -> str:
    """The qualified name of an exception's class; built-in ones without their module."""
    cls = type(error)
    if cls.__module__ == "builtins":
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def _stack(error: BaseException, type_name: str, message: str) -> str:
    lines = [
        f'  File "{frame.tb_frame.f_code.co_filename}", line {frame.tb_lineno}, '
        f"in {frame.tb_frame.f_code.co_name}"
        for frame in _frames(error.__traceback__)
    ]
    if len(lines) > _FRAMES:
        left_out = len(lines) - _FRAMES
        half = _FRAMES // 2
        lines[half:-half] = [f"  ... {left_out} frames left out ..."]
    head = "Traceback (most recent call last):"
    return "\n".join([head, *lines, f"{type_name}: {message}" if message else type_name])


def _frames(traceback: TracebackType | None) -> list[TracebackType]:
    frames: list[TracebackType] = []
    most = sys.getrecursionlimit()
    while traceback is not None and len(frames) < most:
        frames.append(traceback)
        traceback = traceback.tb_next
    return frames
