"""The checks that an answer has to pass, by name: what may keep a test from knowing.

PYTEST_DONT_REWRITE
"""

from collections.abc import Iterable
from difflib import get_close_matches
from enum import Enum
from typing import NamedTuple

from kobs.errors import ConfigError


class Check(Enum):
    """Why an answer may rest on what was not seen. The value says what to do about it.

    Each can be suppressed by name: then the answer counts all the same, and the summary says so.
    """

    closed = "leave `kobs.collector` open"
    other_collector = "use `kobs.collector`, or give the other one to what is observed"
    sampling = "--kobs-sampling=100, or @pytest.mark.kobs(sampling=100)"
    overflow = "--kobs-size, @pytest.mark.kobs(size=...), or read `kobs.events` earlier"
    contended = "fewer threads that write at once, or a larger --kobs-size"
    discarded = "--kobs-size, or overflow='overwrite'"
    too_big = "shorter attributes"
    errors = "`kobs doctor` and the session's list of what was not observed name the error"
    strings_overflow = "fewer different names, or a larger --kobs-size"
    segments_dropped = "a larger --keep"
    filtered = "a lower level in KERNEL_LOG"
    begin_not_read = "let nothing reset or replace the collector while a test begins"
    unattributed_overflow = "end threads of wider fixtures, or give them less to do"
    undecoded = "declare payload types before the first of their events"
    unwatched = "install kobs together with its package kobs_instrumentation"
    child_lost = "--kobs-size"
    child_damaged = "let child processes end by themselves"
    child_unreadable = "leave the session's folder readable"
    child_not_observed = "start Python without -I, -E, -S, and add to its environment only"
    unrecorded_type = "@pytest.mark.kobs(subsystems=...), --kobs-all, or `observe` the class"
    unattributed_match = "start the thread inside the test or in a function-scoped fixture"
    anomaly_kept_back = "tests whose anomalies matter in a run of their own, or names of their own"
    leaks_not_tracked = "@pytest.mark.kobs_no_leaks, so that it is known from the beginning"
    unattributed_leak = "open it in Python, or close it"


class Doubt(NamedTuple):
    """A check that was not passed."""

    check: Check
    what: str

    def __str__(self) -> str:
        return f"{self.what} [{self.check.name}]"

    def told(self) -> str:
        """The same, with what to do about it."""
        return f"{self}: {self.check.value}"


def checks_named(given: object, where: str) -> frozenset[Check]:
    """The checks that an option or a marker names: a `Check`, a name, `A,B`, or several of them.

    Raises `ConfigError` for what names none.
    """
    found = set()
    for one in _each(given):
        if isinstance(one, Check):
            found.add(one)
            continue
        name = one.strip() if isinstance(one, str) else one
        if not isinstance(name, str) or name not in Check.__members__:
            close = get_close_matches(str(name), Check.__members__, n=1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            raise ConfigError(
                f"{where}: there is no check {name!r}{meant}; there are "
                f"{', '.join(Check.__members__)}"
            )
        found.add(Check[name])
    return frozenset(found)


def _each(given: object) -> Iterable[object]:
    if isinstance(given, str):
        return [name for name in given.replace("\n", ",").split(",") if name.strip()]
    if given is None:
        return ()
    return given if isinstance(given, list | tuple | set | frozenset) else (given,)
