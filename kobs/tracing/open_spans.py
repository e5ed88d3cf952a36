"""The spans of this process that are open, by span id: those that began in Python, and in C."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kobs._core import select

if TYPE_CHECKING:
    from kobs.tracing.span import Span

open_spans: "dict[int, Span]" = {}
"""Those that began in Python."""


def _of_core() -> tuple[
    "Callable[[int], Span | None]", "Callable[[], list[Span]]", "Callable[[Span], object]"
]:
    """How those that began in C are found, listed and taken out."""
    if select().name != "c":
        return lambda _: None, list, bool
    from kobs._core import _native

    return _native.open_span, _native.open_spans, _native.close_span


_find_native, _list_native, close_native = _of_core()


def open_span(span_id: int) -> "Span | None":
    """The span of this process that is open and has this id; None where there is none."""
    return open_spans.get(span_id) or _find_native(span_id)


def all_open_spans() -> "list[Span]":
    """All of them."""
    return [*list(open_spans.values()), *_list_native()]


def open_views() -> list[Any]:
    """What OpenTelemetry sees of them."""
    return [span._view for span in all_open_spans() if span._view is not None]


def is_any_open() -> bool:
    """A span of this process is open."""
    return bool(open_spans) or bool(_list_native())
