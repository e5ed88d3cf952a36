"""OpenTelemetry's context, that knows of kobs's spans: inside of one it is the current span, and
inside another tracer's span that one is the ambient cause.

The C core and kobs's spans know one context variable only, the ambient cause. A context that is
attached here sets that too, and where the ambient cause is a span of kobs that is newer than what
was attached, the context with that span in it is made when someone asks.
"""

from contextvars import Context as ThreadContext, ContextVar, Token
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import opentelemetry.context as api
from opentelemetry.context.context import Context, _RuntimeContext
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

from kobs import bridge, collector as collectors
from kobs.context import Cause, OtherCause, cause
from kobs.tracing.adopting import adopt
from kobs.tracing.open_spans import open_span
from kobs.tracing.wiring import look_elsewhere

if TYPE_CHECKING:
    from kobs.tracing.view import SpanView

_cause_get, _cause_set = cause.get, cause.set


class _Attached(NamedTuple):
    """A context, and the ambient cause that it came with."""

    context: Context
    cause: Cause | None


class _Undo(NamedTuple):
    """What `attach` gives: all that `detach` needs."""

    token: "Token[_Attached | None]"
    inside: Cause | None
    outside: Cause | None


@cache
def _spans() -> tuple[str, type["SpanView"], Any]:
    """The key of the current span in a context, the class of spans of kobs there, and what makes
    one that has ended. OpenTelemetry's tracing is imported after its context."""
    from opentelemetry.trace.propagation import _SPAN_KEY

    from kobs.tracing.view import SpanView, ended_span

    return _SPAN_KEY, SpanView, ended_span


class KobsRuntimeContext(_RuntimeContext):
    """In place of OpenTelemetry's own runtime context; `before` is what was there, and what was
    attached to that one stays attached.

    OpenTelemetry uses it from the start with `OTEL_PYTHON_CONTEXT=kobs`, else from when kobs's
    spans meet an imported OpenTelemetry.
    """

    def __init__(self, before: _RuntimeContext | None = None) -> None:
        self.before = before if before is not None else ContextVarsRuntimeContext()
        self._attached: ContextVar[_Attached | None] = ContextVar(
            "kobs.opentelemetry", default=None
        )

    def get_current(self) -> Context:
        """The context; with kobs's current span in it where that is newer."""
        attached = self._attached.get()
        now = _cause_get()
        if attached is None:
            base, seen = self.before.get_current(), None
        else:
            base, seen = attached
        if now is None or now is seen or not now[5] or not now[2] or now.__class__ is OtherCause:
            return base
        if seen is not None and now[2] == seen[2] and now[0] == seen[0]:
            return base
        try:
            return _with_span(base, now)
        except Exception:
            return base

    def attach(self, context: Context) -> Any:
        """Make it the current context, and its span the ambient cause; gives what `detach`
        takes."""
        outside = inside = _cause_get()
        try:
            inside = self._cause_of(context, outside)
        except Exception:  # a foreign span's mistake is not the program's
            pass
        token = self._attached.set(_Attached(context, inside))
        if inside is not outside:
            _cause_set(inside)
        return _Undo(token, inside, outside)

    def detach(self, token: Any) -> None:
        """As before the `attach` that gave the token. Raises `ValueError` in another context."""
        if token.__class__ is not _Undo:
            self.before.detach(token)
            return
        self._attached.reset(token.token)
        if token.inside is not token.outside and _cause_get() is token.inside:
            _cause_set(token.outside)

    def _cause_of(self, context: Context, outside: Cause | None) -> Cause | None:
        key, view_type, _ = _spans()
        span: Any = context.get(key)
        if isinstance(span, view_type):
            own = span._span._cause
            return outside if own is None or _is_same(own, outside) else own
        there = span.get_span_context() if span is not None else None
        if there is None or not there.is_valid:
            # Whoever leaves a span by an empty context leaves its cause too.
            return outside if self.get_current().get(key) is None else None
        made = bridge.cause_of(there, outside)
        if _is_same(made, outside):
            return outside
        collector = collectors._global
        if collector is None or collector.closed:
            return made
        if bridge.is_foreign(made, collector.ring.trace_high):
            adopt(collector, made, context=there)
        return made


def _is_same(one: Cause, other: Cause | None) -> bool:
    return other is not None and one[2] == other[2] and one[0] == other[0]


def _with_span(base: Context, now: Cause) -> Context:
    key, view_type, ended_span = _spans()
    span = open_span(now[2])
    if span is None:
        return Context({**base, key: ended_span(now)})
    view: SpanView = span._view
    if view is None:
        view = span._view = view_type(span)
    return view._inside(base)


def place() -> None:
    """Have OpenTelemetry use kobs's runtime context. Twice is once."""
    now = api._RUNTIME_CONTEXT
    if not isinstance(now, KobsRuntimeContext):
        now = api._RUNTIME_CONTEXT = KobsRuntimeContext(now)
    variable = getattr(now.before, "_current_context", None)
    if type(now.before) is ContextVarsRuntimeContext and isinstance(variable, ContextVar):
        look_elsewhere(variable, ThreadContext().run(variable.get))


def remove() -> bool:
    """Have OpenTelemetry use again what it used before; False where someone else replaced
    kobs's meanwhile. Contexts that were attached in between are gone."""
    now = api._RUNTIME_CONTEXT
    if not isinstance(now, KobsRuntimeContext):
        return False
    api._RUNTIME_CONTEXT = now.before
    bridge._placed = False
    return True
