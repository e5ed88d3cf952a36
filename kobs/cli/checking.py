"""What `kobs compare --fail-on` finds: where two recordings, or a baseline file and one, differ.

Where both sides consist of tests (a session that pytest recorded, a baseline file), they are
compared test by test, as `pytest --kobs-baseline` does; else as a whole.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any, NamedTuple

from kobs._analysis.baseline_entry import Entry, compared
from kobs._analysis.shapes import by_type
from kobs.cli import figures
from kobs.cli.render import Cell, Screen
from kobs.cli.sides import Side, of_baseline
from kobs.errors import ConfigError

MIN_SAMPLES = 20
KINDS = ("counts", "shapes", "errors", "new-types", "durations")
_OF_TESTS = frozenset({"counts", "shapes"})
_HEADINGS = {
    "counts": "Numbers of events of stable types",
    "shapes": "What led to what",
    "errors": "More errors",
    "new-types": "New types",
    "durations": "Slower medians",
}
_SHOWN = 40
_NAMED = 10
"""Tests that a line names."""


class FailOn(NamedTuple):
    """What was given with `--fail-on`."""

    kinds: frozenset[str]
    factor: float = 0.0
    """What medians may grow by."""
    samples: int = MIN_SAMPLES


class Finding(NamedTuple):
    """One difference."""

    kind: str
    test: str
    """Empty where the sides are compared as a whole."""
    about: str
    a: float
    b: float


class Verdict(NamedTuple):
    """What a check found."""

    findings: list[Finding]
    inconclusive: list[str]
    """Why it is not known whether there are more."""
    unmatched: list[tuple[str, str]]
    """Tests of which nothing is said: (why, test)."""

    @property
    def passed(self) -> bool:
        """There is no difference, and that is known."""
        return not self.findings and not self.inconclusive

    def to_dict(self) -> dict[str, Any]:
        """As JSON can write it."""
        return {
            "findings": [finding._asdict() for finding in self.findings],
            "inconclusive": self.inconclusive,
            "unmatched": [{"what": what, "test": test} for what, test in self.unmatched],
        }


def check_of(given: str | None, *names: str | None) -> FailOn | None:
    """What is to be checked: what `--fail-on` says; shapes where a side is a baseline."""
    if given is None:
        return FailOn(frozenset({"shapes"})) if any(map(of_baseline, names)) else None
    return parse(given)


def judge(a: Side, b: Side, check: FailOn, operations: Sequence[Mapping[str, Any]]) -> Verdict:
    """Compare two sides; `operations` are those of `compare.build`."""
    found = find(a, b, check)
    unsure = doubts(a, b)
    if "durations" in check.kinds:
        slow, enough = slower(operations, check)
        found += slow
        if not enough:
            unsure.append(
                f"no operation has {check.samples} durations on both sides: nothing is compared"
            )
    left_out = unmatched(a, b) if check.kinds & _OF_TESTS else []
    if left_out and not any(True for _ in _pairs(a, b)):
        unsure.append("no test is on both sides and confirmed: nothing is compared")
    return Verdict(found, unsure, left_out)


def parse(text: str) -> FailOn:
    """`counts,shapes,errors,new-types,durations:1.5x:50`. Raises `ConfigError`."""
    kinds = set()
    factor, samples = 0.0, MIN_SAMPLES
    for word in filter(None, (word.strip() for word in text.split(","))):
        match = re.fullmatch(r"durations(?::([0-9]+(?:\.[0-9]+)?)x?(?::([0-9]+))?)?", word)
        if match:
            factor, samples = float(match[1] or 0), int(match[2] or MIN_SAMPLES)
            if factor <= 1 or samples < 2:
                raise ConfigError(
                    f"--fail-on {word}: expected the factor that medians may grow by, like "
                    f"durations:1.5x, and perhaps the samples that it takes: durations:1.5x:50"
                )
            kinds.add("durations")
        elif word in KINDS:
            kinds.add(word)
        else:
            raise ConfigError(
                f"--fail-on {word}: expected {', '.join(KINDS[:-1])}, durations:1.5x, or several "
                "with commas between"
            )
    if not kinds:
        raise ConfigError(f"--fail-on {text!r}: expected one of {', '.join(KINDS)}")
    return FailOn(frozenset(kinds), factor, samples)


def find(a: Side, b: Side, fail_on: FailOn) -> list[Finding]:
    """The differences, in the order of `KINDS`.

    Raises `ConfigError` for what a baseline file does not hold.
    """
    kinds = fail_on.kinds
    if a.report is None or b.report is None:
        asked = kinds - _OF_TESTS
        if asked:
            file = a.name if a.report is None else b.name
            raise ConfigError(
                f"--fail-on {sorted(asked)[0]}: {file} is a baseline, which can be compared by "
                f"{' and '.join(sorted(_OF_TESTS))} only; name two sessions"
            )
    found: list[Finding] = []
    for test, one, other in _pairs(a, b) if kinds & _OF_TESTS else ():
        different = compared(one, other)
        if "counts" in kinds:
            before = by_type({change.shape: change.before for change in different})
            now = by_type({change.shape: change.now for change in different})
            found += [
                Finding("counts", test, kind, before[kind], now[kind])
                for kind in sorted({*before, *now})
                if before[kind] != now[kind]
            ]
        if "shapes" in kinds:
            found += [
                Finding("shapes", test, change.shape, change.before, change.now)
                for change in different
            ]
    if "errors" in kinds:
        found += [
            Finding("errors", "", form, a.errors.get(form, 0), number)
            for form, number in sorted(b.errors.items())
            if number > a.errors.get(form, 0)
        ]
    if a.report is not None and b.report is not None and "new-types" in kinds:
        known, now_there = a.report["events"]["by_type"], b.report["events"]["by_type"]
        found += [
            Finding("new-types", "", kind, 0, now_there[kind])
            for kind in sorted(now_there.keys() - known.keys())
        ]
    found.sort(key=lambda one: (KINDS.index(one.kind), one.test))
    return found


def slower(operations: Sequence[Mapping[str, Any]], fail_on: FailOn) -> tuple[list[Finding], bool]:
    """The operations of `compare.build` whose medians grew by more than the factor; and whether
    any had samples enough."""
    found, enough = [], False
    for row in operations:
        if row["ratio"] is None or min(row["a"]["count"], row["b"]["count"]) < fail_on.samples:
            continue
        enough = True
        if row["ratio"] > fail_on.factor:
            about = f"{row['type']} {row['name']}".rstrip()
            found.append(Finding("durations", "", about, row["a"]["p50_us"], row["b"]["p50_us"]))
    return found, enough


def doubts(a: Side, b: Side) -> list[str]:
    """Why a difference may have gone unseen, or be none."""
    found = [f"{name}: {doubt}" for name, one in (("A", a), ("B", b)) for doubt in one.doubts]
    if a.cores and b.cores and a.cores != b.cores:
        found.append(
            f"A was recorded by the core {', '.join(a.cores)}, B by {', '.join(b.cores)}: they "
            "see other events"
        )
    return found


def unmatched(a: Side, b: Side) -> list[tuple[str, str]]:
    """Tests that are on one side only, or not confirmed: (what, test); nothing is said of them."""
    if not (a.tests and b.tests):
        return []
    found = [("only in A", test) for test in sorted(a.tests.keys() - b.tests.keys())]
    found += [("only in B", test) for test in sorted(b.tests.keys() - a.tests.keys())]
    found += [
        ("seen in one run only", test)
        for test in sorted(a.tests.keys() & b.tests.keys())
        if not (a.tests[test].confirmed and b.tests[test].confirmed)
    ]
    return found


def _pairs(a: Side, b: Side) -> Iterator[tuple[str, Entry, Entry]]:
    if a.tests and b.tests:
        for test in sorted(a.tests.keys() & b.tests.keys()):
            if a.tests[test].confirmed and b.tests[test].confirmed:
                yield test, a.tests[test], b.tests[test]
        return
    for one, other in ((a, b), (b, a)):
        if one.report is None:
            raise ConfigError(
                f"{other.name}: holds no tests, which the baseline {one.name} is about; name a "
                "session of `pytest --kobs`"
            )
    yield "", Entry("", a.all), Entry("", b.all)


def show(out: Screen, verdict: Verdict) -> None:
    """Print it as text: a diff of each kind of difference."""
    for kind in KINDS:
        found = [finding for finding in verdict.findings if finding.kind == kind]
        if not found:
            continue
        out.heading(_HEADINGS[kind], "- A, + B")
        test = ""
        for finding in found[:_SHOWN]:
            if finding.test != test:
                test = finding.test
                out.line(Cell(f"  {test}", "bold"))
            for sign, number, style in (("-", finding.a, "cyan"), ("+", finding.b, "yellow")):
                if number:
                    shown = figures.duration(number) if kind == "durations" else f"{number:g}"
                    for line in _folded(f"{sign} {shown} {finding.about}", out.width):
                        out.line(Cell(line, style))
        if len(found) > _SHOWN:
            out.line(f"  ... and {len(found) - _SHOWN} more")
    if verdict.unmatched:
        out.heading("Not compared")
        for what in dict.fromkeys(what for what, _ in verdict.unmatched):
            tests = [test for other, test in verdict.unmatched if other == what]
            more = f" and {len(tests) - _NAMED} more" if len(tests) > _NAMED else ""
            text = f"{figures.count(len(tests), 'test')} {what}: {', '.join(tests[:_NAMED])}{more}"
            for line in _folded(text, out.width):
                out.line(line)
    if verdict.inconclusive:
        out.line("")
        out.alarm("inconclusive: there may be more, or less", verdict.inconclusive)
    elif not verdict.findings:
        out.line("")
        out.line("no difference")


def _folded(text: str, width: int) -> list[str]:
    return wrap(text, width, initial_indent="  ", subsequent_indent="        ",
                break_on_hyphens=False)  # fmt: skip
