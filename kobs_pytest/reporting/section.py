"""The report section of a failing test: what it caused, and the nearest miss in full.

PYTEST_DONT_REWRITE
"""

from textwrap import wrap

from kobs.pattern.explain import Narrator
from kobs_pytest.capture.attempt import Attempt

MOST_LINES = 40
_FIRST = 10
_AROUND = 3
WIDTH = 78


def section(attempt: Attempt) -> str:
    """Plain text, at most 80 columns wide."""
    attempt.drain()
    events = attempt.events
    lines = [_summary(attempt)]
    for reason in attempt.incomplete():
        lines += wrap(f"incomplete: {reason}", WIDTH, subsequent_indent="  ")
    for reason in attempt.suppressed.values():
        lines += wrap(f"suppressed: {reason}", WIDTH, subsequent_indent="  ")
    about = {id(event) for note in attempt.notes for event in note.about}
    teller = Narrator(events, attempt.start_ns)
    hidden = 0
    shown = _chosen([id(event) in about for event in events])
    for index, event in enumerate(events):
        if index not in shown:
            hidden += 1
            continue
        if hidden:
            lines.append(f"    ... {hidden} more ...")
            hidden = 0
        mark = "> " if id(event) in about else "  "
        lines.append(mark + teller.line(event, WIDTH - 2))
    for note in attempt.notes:
        if note.details:
            title = wrap(note.title, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
            lines += ["", *title, *(f"  {line}" for line in note.details)]
    return "\n".join(lines)


def _summary(attempt: Attempt) -> str:
    number = len(attempt.events)
    parts = ["1 event" if number == 1 else f"{number} events"]
    parts[0] += " of this test"
    if attempt.unattributed_count:
        parts.append(f"{attempt.unattributed_count} unattributed")
    if attempt.elsewhere:
        parts.append(f"{attempt.elsewhere} elsewhere")
    parts.append(f"{attempt.lost()} lost")
    return ", ".join(parts)


def _chosen(about: list[bool]) -> set[int]:
    """Which events to list: all, or the first, the last, and what surrounds those spoken of."""
    total = len(about)
    if total <= MOST_LINES:
        return set(range(total))
    near = {
        other
        for index, spoken_of in enumerate(about)
        if spoken_of
        for other in range(max(0, index - _AROUND), min(total, index + _AROUND + 1))
    }
    chosen = set(range(_FIRST)) | set(sorted(near)[: MOST_LINES // 2])
    for index in range(total - 1, -1, -1):
        if len(chosen) >= MOST_LINES:
            break
        chosen.add(index)
    return chosen
