"""Patterns: what an event, or a causal chain of events, looks like.

    SyscallExit.like(name="read", duration_us=between(0, 500))      one event
    SyscallExit.like(name="read").on(pid=42) & ~SyscallExit.like(errno=0)
    MessageSent.like(queue_id=3) >> FileOpened.like(mode="w")       it causes, over any steps
    FileOpened.like(mode="w").then(FileOpened.like(mode="r"))       later in time only
    (MessageSent.like() >> FileOpened.like()).within("5ms")         from first to last
    PipeWritten.like(pipe_id=var("p")) >> PipeRead.like(pipe_id=var("p"))   the same value
    MessageSent.like(queue_id=3) * 2                                exactly two
    MessageSent.like(queue_id=3).times(2, 5)                        two to five

A pattern says nothing by itself: it has no truth value and is not callable. `find`, `count` and
`explain` ask it about a list of events; the pytest fixture `kobs` does so for a test's events.
"""

from kobs.pattern.base import Pattern
from kobs.pattern.chains import Chain, Count
from kobs.pattern.explain import Explanation, explain, explain_present
from kobs.pattern.predicates import AllOf, AnyOf, EventPattern, Like, Not, like
from kobs.pattern.search import count, find, matches
from kobs.pattern.values import Between, Variable, between, var
from kobs.pattern.verdict import Inconclusive

__all__ = [
    "AllOf",
    "AnyOf",
    "Between",
    "Chain",
    "Count",
    "EventPattern",
    "Explanation",
    "Inconclusive",
    "Like",
    "Not",
    "Pattern",
    "Variable",
    "between",
    "count",
    "explain",
    "explain_present",
    "find",
    "like",
    "matches",
    "var",
]
