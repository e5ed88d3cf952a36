"""`kobs.every(A).leads_to(B)`: no A without its B.

PYTEST_DONT_REWRITE
"""

from collections.abc import Callable, Sequence
from datetime import timedelta

from kobs.errors import PatternError
from kobs.events import Event
from kobs.pattern import Chain, EventPattern, Explanation, Pattern
from kobs.pattern.base import check_variables, require
from kobs.pattern.explain import explain_broken
from kobs.pattern.search import ChainSearch
from kobs.pattern.sharing import Sharing, shared_fields
from kobs_pytest.asserting.failing import fail
from kobs_pytest.asserting.sequence import Events
from kobs_pytest.capture.checks import Check, Doubt

Same = str | tuple[str, ...] | list[str]


class Every:
    """Every event of a pattern; says nothing until it is asked what follows."""

    def __init__(self, read: Callable[[], Events], pattern: Pattern) -> None:
        __tracebackhide__ = True
        found = require(pattern, f"kobs.every({pattern!r})")
        if not isinstance(found, EventPattern):
            raise PatternError(
                f"kobs.every({found!r}): expected a pattern of one event, and this is "
                f"{found.kind}: put its first step here and the others into leads_to(...)"
            )
        self._read = read
        self._pattern = found

    def leads_to(
        self, effect: Pattern, *, within: str | timedelta | None = None, same: Same = ()
    ) -> None:
        """Every one causes `effect` (an event, or a chain of them), over one or more steps.

        `within`: in at most so much time (`"5ms"`, a `timedelta`). `same`: these fields, of the
        payload or else of the header, are equal (`"pid"`, `("pid", "name")`).
        Raises `AssertionError` naming the first that does not, and where there is none at all;
        `Inconclusive` where what is missing may have been there unseen.
        """
        __tracebackhide__ = True
        self._check(effect, True, within, same)

    def then(
        self, later: Pattern, *, within: str | timedelta | None = None, same: Same = ()
    ) -> None:
        """As `leads_to`, in time only: after every one comes `later`, whatever caused it."""
        __tracebackhide__ = True
        self._check(later, False, within, same)

    def _check(
        self, effect: Pattern, by_cause: bool, within: str | timedelta | None, same: Same
    ) -> None:
        __tracebackhide__ = True
        verb = "leads_to" if by_cause else "then"
        chain = _chain(self._pattern, effect, by_cause, verb, shared_fields(same))
        words = [f"same {', '.join(shared_fields(same))}"] if same else []
        if within is not None:
            chain = chain.within(within)
            words.append(f"within {chain.limits[-1]}")
        check_variables(chain)
        claim = f"every {self._pattern!r} {'leads to' if by_cause else 'is followed by'} {effect!r}"
        if words:
            claim += f" ({', '.join(words)})"
        events = self._read()
        starts = [event for event in events.known if self._pattern.matches(event)]
        search = ChainSearch(chain, events.known, events.graph)
        without = [event for event in starts if search.path_from(event) is None]
        if without:
            self._refuse_unseen(claim, chain, events, without)
            search.path_from(without[0])
            told = explain_broken(
                chain, search.furthest, events.known, events.graph, events.teller()
            )
            number = f"{len(without)} of {len(starts)} {'does' if len(without) == 1 else 'do'} not:"
            lines = (number, *told.lines)[:7]
            events.note(f"nearest miss of {claim}:", told)
            fail(f"expected that {claim}", Explanation(lines))
        events.sure_of(self._pattern, f"whether {claim}")
        self._refuse_others(claim, chain, events)
        if not starts:
            told = events.explained(self._pattern, present=False)
            fail(
                f"expected that {claim}",
                Explanation((f"there is no {self._pattern!r}, so nothing is shown", *told.lines)),
            )

    def _refuse_unseen(
        self, claim: str, chain: Chain, events: Events, without: Sequence[Event]
    ) -> None:
        """What is missing may have been there unseen, or unattributed."""
        __tracebackhide__ = True
        for step in chain.steps[1:]:
            events.sure_of(step, f"whether {claim}")
        others = [event for step in chain.steps[1:] for event in events.unattributed(step)]
        if others:
            search = ChainSearch(chain, events.with_others(others), events.graph)
            found = [path for event in without if (path := search.path_from(event)) is not None]
            if found:
                events.refuse(f"whether {claim}", _whose(found[0], others))

    def _refuse_others(self, claim: str, chain: Chain, events: Events) -> None:
        """One more that leads to nothing may be the test's, or not."""
        __tracebackhide__ = True
        others = events.unattributed(self._pattern)
        if others:
            search = ChainSearch(chain, events.with_others(others), events.graph)
            for event in others:
                if self._pattern.matches(event) and search.path_from(event) is None:
                    events.refuse(f"whether {claim}", _whose((event,), others))

    def __repr__(self) -> str:
        return f"<every {self._pattern!r}: ask .leads_to(...) or .then(...)>"

    def __bool__(self) -> bool:
        raise PatternError(
            f"kobs.every({self._pattern!r}) says nothing by itself: add .leads_to(...) "
            "or .then(...)"
        )


def _chain(
    pattern: EventPattern, effect: Pattern, by_cause: bool, verb: str, same: tuple[str, ...]
) -> Chain:
    __tracebackhide__ = True
    found = require(effect, f"kobs.every({pattern!r}).{verb}({effect!r})")
    if not isinstance(found, EventPattern | Chain):
        raise PatternError(
            f"kobs.every({pattern!r}).{verb}({found!r}): expected a pattern of one event or a "
            f"chain, and this is {found.kind}"
        )
    chain = pattern >> found if by_cause else pattern.then(found)
    if not same:
        return chain
    return Chain(tuple(Sharing(step, same) for step in chain.steps), chain.by_cause, chain.limits)


def _whose(path: Sequence[Event], others: Sequence[Event]) -> Doubt:
    event = next(event for event in reversed(path) if any(event is one for one in others))
    return Doubt(
        Check.unattributed_match,
        f"{event.payload!r} (pid {event.pid}, thread {event.tid}) counts for it or not, and "
        "nothing says who caused it: a thread of a wider fixture, of an earlier test, or older "
        "than the test",
    )
