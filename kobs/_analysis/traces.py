"""Two runs of the same code side by side: where they part, event by event, in normal form.

Threads are told apart, or two runs would differ by how they happened to take turns: first the
events of the thread that has the first event, then those of the others, in an order that does not
depend on time either.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from kobs._analysis.normal import Normalizer, type_name
from kobs.events import Event
from kobs.levels import Severity

MOST_COMPARED = 2000
"""Events of a trace between the common beginning and end; more are left out."""


class Step(NamedTuple):
    """An event of a trace."""

    form: str
    type: str
    fields: dict[str, str]
    event: Event


class Changed(NamedTuple):
    """An event whose fields are others."""

    before: Step
    now: Step

    @property
    def fields(self) -> list[tuple[str, str, str]]:
        """(name, before, now) of those that differ; `-`: not there, or at its default."""
        before, now = self.before.fields, self.now.fields
        return [
            (name, before.get(name, "-"), now.get(name, "-"))
            for name in dict.fromkeys([*before, *now])
            if before.get(name) != now.get(name)
        ]


class Part(NamedTuple):
    """A run of events that are the same, or where two traces differ."""

    same: list[Step]
    """As they are now."""
    differing: list[Step | Changed]
    missing: frozenset[int]
    """Places in `differing` of those that there are no more."""


def trace(events: Iterable[Event], normalizer: Normalizer) -> list[Step]:
    """The steps of a trace: events of stable types, and of others from INFO on."""
    lanes: defaultdict[tuple[int, int], list[Step]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event.timestamp_ns):
        if event.type_name == "LogAttributes":
            continue
        if event.type.__kobs_schema__.stable or event.severity >= Severity.INFO:
            fields = normalizer.fields(event)
            step = Step(normalizer.event(event), type_name(event), fields, event)
            lanes[event.recording, event.tid].append(step)
    first, *others = list(lanes.values()) or [[]]
    others.sort(key=lambda lane: [step.form for step in lane])
    return [step for lane in (first, *others) for step in lane]


def parts(before: Sequence[Step], now: Sequence[Step]) -> list[Part]:
    """The traces in turns of what is the same and what differs; empty where nothing does."""
    left, right = _limited(before, now)
    blocks = SequenceMatcher(
        None, [step.form for step in left], [step.form for step in right], autojunk=False
    ).get_opcodes()
    found = []
    same: list[Step] = []
    for tag, a, b, c, d in blocks:
        if tag == "equal":
            same = list(right[c:d])
        else:
            found.append(_part(same, left[a:b], right[c:d]))
            same = []
    if found and same:
        found.append(Part(same, [], frozenset()))
    return found


def _limited(before: Sequence[Step], now: Sequence[Step]) -> tuple[Sequence[Step], Sequence[Step]]:
    """Both without most of what they begin with in common, and of what follows the first
    thousands: comparing takes quadratic time."""
    start = 0
    while start < min(len(before), len(now)) and before[start].form == now[start].form:
        start += 1
    start = max(0, start - MOST_COMPARED // 10)
    return before[start : start + MOST_COMPARED], now[start : start + MOST_COMPARED]


def _part(same: list[Step], left: Sequence[Step], right: Sequence[Step]) -> Part:
    """Where two traces differ: events of the same type are the same event, changed."""
    differing: list[Step | Changed] = []
    missing: set[int] = set()
    matcher = SequenceMatcher(
        None, [step.type for step in left], [step.type for step in right], autojunk=False
    )
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            differing += map(Changed, left[a:b], right[c:d])
            continue
        missing.update(range(len(differing), len(differing) + b - a))
        differing += [*left[a:b], *right[c:d]]
    return Part(same, differing, frozenset(missing))


class Tally(NamedTuple):
    """How many events differ."""

    missing: int
    new: int
    changed: int


def tally(found: Iterable[Part]) -> Tally:
    """How many events are there no more, are new, and are changed."""
    missing = new = changed = 0
    for part in found:
        altered = sum(isinstance(one, Changed) for one in part.differing)
        missing += len(part.missing)
        changed += altered
        new += len(part.differing) - altered - len(part.missing)
    return Tally(missing, new, changed)


Head = Callable[[Event], str]
"""Names an event of this run: `#12 +1.204ms`."""


def told(found: Sequence[Part], head: Head, *, width: int, context: int = 2) -> list[str]:
    """The differences as lines of at most `width` characters: `-` what is missing, `+` what is
    new, `~` what is changed, between them what is the same."""
    lines: list[str] = []
    for number, part in enumerate(found):
        same = [f"  {head(step.event)} {step.form}" for step in part.same]
        after = same[:context] if number else []
        before = same[max(len(after), len(same) - context) :] if part.differing else []
        hidden = len(same) - len(after) - len(before)
        lines += after
        if hidden:
            lines.append(f"  ... {hidden} the same ...")
        lines += before
        for place, one in enumerate(part.differing):
            if isinstance(one, Changed):
                lines.append(f"~ {head(one.now.event)} {one.now.form}")
                lines += [f"      {name}: {was} -> {now}" for name, was, now in one.fields]
            elif place in part.missing:
                lines.append(f"- {one.form}")
            else:
                lines.append(f"+ {head(one.event)} {one.form}")
    return [line if len(line) <= width else f"{line[: width - 3]}..." for line in lines]
