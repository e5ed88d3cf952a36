"""From series to figures: values, ratios and verdicts. What comes out is JSON's own types."""

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import median, quantiles
from typing import Any

from benchmarks.measure import Series
from benchmarks.rows import FLOORS, OTHERS, PEER_ROWS, ROWS, WATCHED_ROWS, Row, Terms, Watched

SCALE = {"ns": 1e9, "µs": 1e6, "ms": 1e3, "MB": 1e-6, "%": 100.0}
"""How many of a unit are in a second, a byte or a whole."""

NOTCH = 1.57
"""Half the 95 % interval of a median, in distances of the quartiles over the root of the number of
values (McGill, Tukey and Larsen, "Variations of Box Plots", 1978)."""

Figure = dict[str, float]
"""`median`, the quartiles `low` and `high`, and the `error` of the median, over the rounds."""


def figure(values: list[float]) -> Figure:
    """Median and spread of a value a round."""
    if len(values) < 2:
        return {"median": values[0], "low": values[0], "high": values[0], "error": 0.0}
    low, middle, high = quantiles(values, n=4, method="inclusive")
    error = NOTCH * (high - low) / sqrt(len(values))
    return {"median": middle, "low": low, "high": high, "error": error}


class Summed:
    """Sums of subjects, round by round, for one core."""

    def __init__(self, series: Series, core: str) -> None:
        self._series = series
        self._core = core

    def rounds(self, terms: Terms) -> list[float]:
        """The sum in each round. Raises `KeyError` with the subject that is not there."""
        columns = [
            [often * value for value in self._values(subject)] for subject, often in terms.items()
        ]
        return [sum(row) for row in zip(*columns, strict=False)]

    def overall(self, terms: Terms) -> float:
        """The sum of the medians: for what was not measured side by side."""
        return sum(often * median(self._values(subject)) for subject, often in terms.items())

    def why_not(self, subject: str) -> str:
        """Why a subject is not there."""
        absent = self._series.absent
        return absent.get(f"{self._core}:{subject}") or absent.get(subject) or "left out"

    def _values(self, subject: str) -> list[float]:
        values = self._series.values
        found = values.get(f"{self._core}:{subject}") or values.get(subject)
        if not found:
            raise KeyError(subject)
        return found


def evaluate(row: Row, series: Series, core: str, features: tuple[str, ...] = ()) -> dict[str, Any]:
    """A row of the table."""
    summed = Summed(series, core)
    made: dict[str, Any] = {
        "key": row.key,
        "figure": row.figure,
        "what": row.what,
        "unit": row.unit,
        "against": row.against,
        "target": row.targets.get(core),
        "targets": dict(row.targets),
    }
    if row.needs and row.needs not in features:
        return made | {"verdict": "not in this core"}
    try:
        measured = summed.rounds(row.measured)
    except KeyError as error:
        return made | {"verdict": _missing(summed.why_not(str(error.args[0])))}
    made["measured"] = figure([value * SCALE[row.unit] for value in measured])
    held = made["measured"]
    if row.reference:
        try:
            reference = summed.rounds(row.reference)
        except KeyError as error:
            subject = str(error.args[0])
            reason = f"reference {subject} {summed.why_not(subject)}"
            return made | {"verdict": _missing(reason)}
        made["reference"] = figure([value * SCALE[row.unit] for value in reference])
        pairs = zip(measured, reference, strict=False)
        ratios = [ours / other for ours, other in pairs if other > 0]
        if not ratios:  # noise ate what the reference adds
            return made | {"verdict": _missing("reference within the noise")}
        held = made["ratio"] = figure(ratios)
    made |= _floor(row, summed, core)
    return made | {"verdict": verdict(held, made["target"], row.slack)}


def verdict(held: Figure, target: float | None, slack: float = 0.0) -> str:
    """Whether the median is at most the target, as far as can be told from so many rounds. `slack`
    is what cannot be told from a target of nothing."""
    if target is None:
        return "no target for this core"
    if held["median"] + held["error"] <= target + slack:
        return "reached"
    if held["median"] - held["error"] > target + slack:
        return "not reached"
    return "too close to tell"


def _missing(reason: str) -> str:
    return reason if reason == "not in this core" else f"not measured: {reason}"


def _floor(row: Row, summed: Summed, core: str) -> dict[str, Any]:
    """What the row stands on: how much that is, in what the target is in, and how near it is."""
    terms = row.floors.get(core)
    if not terms:
        return {}
    try:
        floor = summed.overall(terms)
        ours = summed.overall(row.measured)
        reference = summed.overall(row.reference) if row.reference else None
    except KeyError:
        return {}
    if floor <= 0 or (reference is not None and reference <= 0):  # noise ate it
        return {}
    unit = floor * SCALE[row.unit]
    return {
        "floor": {
            "value": unit,
            "held": unit if reference is None else floor / reference,
            "times": ours / floor,
            "terms": dict(terms),
        }
    }


def collect(
    series: Series,
    cores: Mapping[str, tuple[str, ...]],
    *,
    machine: Mapping[str, str],
    versions: Mapping[str, str],
    scaling: Mapping[str, Any],
    rivals: Sequence[Mapping[str, Any]],
    rounds: int,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """The whole result. `cores`: the features of each core that was measured."""
    return {
        "schema": 1,
        "machine": dict(machine),
        "rounds": rounds,
        "only": list(only),
        "cores": {core: list(features) for core, features in cores.items()},
        "peers": dict(versions),
        "rows": {
            core: [evaluate(row, series, core, features) for row in ROWS]
            for core, features in cores.items()
        },
        "beside": {core: _beside(series, core) for core in cores},
        "watches": {
            core: [_watched(row, Summed(series, core)) for row in WATCHED_ROWS] for core in cores
        },
        "floors": _simple(series, "", FLOORS),
        "others": {core: _simple(series, core, OTHERS) for core in cores},
        "growth": {core: _growth(series, core) for core in cores},
        "scaling": dict(scaling),
        "rivals": list(rivals),
        "series": series.values,
        "absent": series.absent,
    }


def _beside(series: Series, core: str) -> list[dict[str, Any]]:
    summed = Summed(series, core)
    made = []
    for row in PEER_ROWS:
        line: dict[str, Any] = {"what": row.what, "ours": row.ours}
        made.append(line)
        subject = next(iter(row.measured))
        try:
            line["ns"] = figure([value * 1e9 for value in summed.rounds(row.measured)])
        except KeyError:
            line["absent"] = summed.why_not(subject)
            continue
        try:
            ours = summed.overall(row.kobs)
        except KeyError:
            continue
        line["ours_ns"] = ours * 1e9
        if ours > 0:  # noise may eat a difference
            line["times"] = summed.overall(row.measured) / ours
    return made


def _watched(row: Watched, summed: Summed) -> dict[str, Any]:
    """Microseconds: the bare operation, and what is added to it, round by round."""
    line: dict[str, Any] = {"watch": row.watch, "what": row.what, "package": row.package}
    added = {
        "bare": {row.bare: 1},
        "kobs": {row.kobs: 1, row.bare: -1},
        **({"contrib": {row.contrib: 1, row.bare: -1}} if row.contrib else {}),
    }
    for name, terms in added.items():
        try:
            line[name] = figure([value * 1e6 for value in summed.rounds(terms)])
        except KeyError as error:
            line["absent"] = summed.why_not(str(error.args[0]))
    return line


def _simple(series: Series, core: str, names: Mapping[str, str]) -> list[dict[str, Any]]:
    summed = Summed(series, core)
    made = []
    for subject, what in names.items():
        line: dict[str, Any] = {"key": subject, "what": what}
        try:
            line["ns"] = figure([value * 1e9 for value in summed.rounds({subject: 1})])
        except KeyError:
            line["absent"] = summed.why_not(subject)
        made.append(line)
    return made


def _growth(series: Series, core: str) -> dict[str, dict[str, Figure]]:
    """By what grows and how much of it there is."""
    made: dict[str, dict[str, Figure]] = {}
    for key, values in series.values.items():
        owner, _, name = key.partition(":")
        what, dot, amount = name.partition(".")
        if owner == core and dot:
            made.setdefault(what, {})[amount] = figure([value * 1e9 for value in values])
    return made
