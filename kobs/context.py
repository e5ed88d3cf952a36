"""The ambient cause and origin: context variables, so that they follow `await` by themselves.

`cause` says which chain the running code belongs to and which event caused it. `origin` says on
whose behalf it runs (a test); a receive replaces the cause, never the origin.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import NamedTuple


class Cause(NamedTuple):
    """The chain that running code belongs to."""

    causality_id: int
    """Low 64 bits of the trace id."""
    parent: int
    """Id of the event that causes what happens now; 0 at the root."""
    span_id: int = 0
    """The span that is current; 0 for none."""
    sampled: bool | None = True
    """The decision taken where the chain began; None where it is not known here, and the
    collector is to say."""
    trace_high: int = 0
    """High 64 bits of the trace id; 0 means the recording's own."""
    in_scope: bool = False
    """Inside a span or begin event: a receive adds a link here and does not move the parent."""


class OtherCause(Cause):
    """Inside a span that another tracer made: what is recorded here is part of it."""

    __slots__ = ()


cause: ContextVar[Cause | None] = ContextVar("kobs.cause", default=None)


class Origin:
    """The key of those on whose behalf the running code works; "" for none. Used as the context
    variable that it holds."""

    __slots__ = ("get", "used", "variable")

    def __init__(self) -> None:
        self.variable: ContextVar[str] = ContextVar("kobs.origin", default="")
        self.get = self.variable.get
        self.used = [False]
        """Whether it was ever set: where nobody works on another's behalf, no event asks."""

    def set(self, key: str) -> Token[str]:
        """As `ContextVar.set`."""
        self.used[0] = True
        return self.variable.set(key)

    def reset(self, token: Token[str]) -> None:
        """As `ContextVar.reset`."""
        self.variable.reset(token)


origin = Origin()

EXPORT_ORIGIN = "kobs.export"
"""Origin of what an exporter itself sets off; it is neither exported nor, where it logs,
recorded."""


@contextmanager
def causal_context(
    causality_id: int, *, parent: int = 0, span_id: int = 0, trace_high: int = 0
) -> Iterator[Cause]:
    """Run a block as part of a causal chain: what it emits carries `causality_id` and `parent`."""
    outer = cause.get()
    same_chain = outer is not None and outer.causality_id == causality_id
    sampled = outer.sampled if outer is not None and same_chain else None
    entered = Cause(causality_id, parent, span_id, sampled, trace_high)
    token = cause.set(entered)
    try:
        yield entered
    finally:
        cause.reset(token)
