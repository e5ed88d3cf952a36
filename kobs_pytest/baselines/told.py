"""What is said of a difference: at most 80 columns, without colour.

PYTEST_DONT_REWRITE
"""

import shlex
from collections.abc import Iterable, Sequence
from textwrap import wrap

from kobs._analysis.baseline_entry import Slower
from kobs._analysis.shapes import Change
from kobs_pytest.baselines.settings import Settings

WIDTH = 80
MOST_LINES = 40


def failure(
    changes: Sequence[Change], slower: Sequence[Slower], settings: Settings, nodeid: str
) -> str:
    """The text of a failure: the difference as a diff, and what to do."""
    lines = ["Not what its baseline says (- before, + now):", ""]
    lines += capped(difference(changes, slower))
    lines += ["", "If it is meant to, take it into the baseline; run this twice:"]
    words = ["pytest", *settings.shown, "--kobs-update-baseline"]
    lines += [f"  {shlex.join(words)} \\", f"    {shlex.quote(nodeid)}"]
    return "\n".join(lines)


def difference(changes: Iterable[Change], slower: Iterable[Slower] = ()) -> list[str]:
    """Lines of a diff: numbers of events by shape, then medians."""
    lines = []
    for change in changes:
        for sign, number in (("-", change.before), ("+", change.now)):
            if number:
                lines += _folded(f"{sign} {number} {change.shape}")
    for one in slower:
        for sign, value in (("-", one.before), ("+", one.now)):
            lines += _folded(f"{sign} {value:.3g}u {one.operation}")
    return lines


def capped(lines: Sequence[str], most: int = MOST_LINES) -> list[str]:
    """The first lines, and how many more there are."""
    if len(lines) <= most:
        return list(lines)
    return [*lines[: most - 1], f"... and {len(lines) - most + 1} more lines"]


def _folded(text: str) -> list[str]:
    return wrap(text, WIDTH, subsequent_indent="      ", break_on_hyphens=False)
