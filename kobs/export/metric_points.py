"""Data points of kobs's metrics, by OpenTelemetry's data model and independent of any format."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from kobs._analysis.exemplars import Exemplar
from kobs._analysis.histogram import HistogramSnapshot
from kobs._analysis.series import OVERFLOW, Attributes, Counts, ExemplarFilter, Key, Series
from kobs._core.contract import LeftOut
from kobs.errors import ConfigError
from kobs.export import metric_names as names
from kobs.export.metric_calls import Calls
from kobs.export.metric_names import Instrument
from kobs.levels import Category, Severity
from kobs.metrics import MOST_SERIES, RULES, happened, own_rules

BOUNDS_S = (
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4,
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds of explicit buckets, in seconds: those that OpenTelemetry's conventions advise for
durations, and below them the same steps down to a microsecond."""


class PointExemplar(NamedTuple):
    """A value with when it was and where it belongs."""

    value: float
    time_ns: int
    """Nanoseconds since 1970 UTC."""
    trace_id: int
    span_id: int


class Point(NamedTuple):
    """A series at a moment."""

    attributes: Attributes
    value: float | HistogramSnapshot
    exemplars: tuple[PointExemplar, ...] = ()


class Metric(NamedTuple):
    """A metric with the points of its series."""

    name: str
    unit: str
    description: str
    kind: str
    """`"sum"` (monotonic), `"gauge"` or `"histogram"`; for what is known as it is now, never what
    came since: `"total"` (a monotonic sum) or `"updown"` (one that is not)."""
    points: list[Point]


class Metrics(NamedTuple):
    """All metrics of a process at a moment."""

    since_ns: int
    """When counting began, nanoseconds since 1970 UTC."""
    start_ns: int
    """Sums and histograms are from here on; with `delta`, from the time of those before."""
    time_ns: int
    delta: bool
    metrics: list[Metric]


class Apart(NamedTuple):
    """What is known of events that nobody counted one by one."""

    left_out: LeftOut
    lost: Mapping[str, int]
    """By cause."""


def make_series() -> Series:
    """Series as they are exported: in seconds, each once, with exemplars by
    `OTEL_METRICS_EXEMPLAR_FILTER`. Raises `ConfigError` where that is another."""
    given = os.environ.get("OTEL_METRICS_EXEMPLAR_FILTER", "").strip().lower()
    try:
        exemplars = ExemplarFilter(given or ExemplarFilter.TRACE_BASED)
    except ValueError:
        allowed = ", ".join(ExemplarFilter)
        raise ConfigError(
            f"OTEL_METRICS_EXEMPLAR_FILTER={given}: expected one of {allowed}"
        ) from None
    return Series(
        RULES, own_rules, most=MOST_SERIES, sums=False, microseconds=1e6, bounds=BOUNDS_S,
        exemplars=exemplars, derived=Calls().by_type(),
    )  # fmt: skip


def points_of(
    series: Series,
    counts: Counts,
    apart: Apart,
    *,
    trace_high: Callable[[int], int],
    offset_ns: Callable[[int], int],
) -> list[Metric]:
    """The metrics of what was counted. `trace_high`: the high half of the trace ids that a
    recording (by number) mints. `offset_ns`: wall time minus monotonic time at a moment."""
    made: dict[tuple[str, str], Metric] = {}

    def add(instrument: Instrument, kind: str, point: Point) -> None:
        kind = instrument.kind or kind
        metric = made.get((instrument.name, kind))
        if metric is None:
            metric = made[instrument.name, kind] = Metric(
                instrument.name, instrument.unit, instrument.description, kind, []
            )
        metric.points.append(point)

    for instrument, point in _events(counts, apart):
        add(instrument, "sum", point)
    for key, number in _counters(series, counts):
        instrument = names.INSTRUMENTS[key[0]]
        add(instrument, "sum", _number(instrument, key, number))
    for key, value in series.gauges.items():
        gauge = names.GAUGES.get(key[0]) or names.INSTRUMENTS.get(key[0])
        gauge = gauge or Instrument(key[0], "", "")
        add(gauge, "gauge", _number(gauge, key, value))
    own = _own_durations(counts)
    for key, histogram in counts.histograms.items():
        type_name = own.get(key[0])
        instrument = names.OWN_DURATION if type_name else names.INSTRUMENTS[key[0]]
        attributes: Attributes = (
            (("kobs.type", type_name),) if type_name else _attributes(instrument, key[1])
        )
        reservoir = counts.exemplars.get(key)
        exemplars = tuple(
            _whole(exemplar, series, trace_high, offset_ns)
            for exemplar in (reservoir.kept() if reservoir is not None else ())
            if series.wants(exemplar.causality_id, exemplar.span_id)
        )
        add(instrument, "histogram", Point(attributes, histogram.snapshot(), exemplars))
    return list(made.values())


def _events(counts: Counts, apart: Apart) -> Iterator[tuple[Instrument, Point]]:
    """How many events there were, and what became of them."""
    for category, number in happened(counts.seen, apart.left_out):
        if number:
            yield names.HAPPENED, Point((("kobs.category", category.name.lower()),), number)
    recorded: dict[Attributes, int] = {}
    for (cls, of, severity), number in counts.seen.items():
        attributes: Attributes = (
            ("kobs.type", cls.__kobs_schema__.name),
            ("kobs.category", Category(of).name.lower()),
            ("kobs.severity", Severity(severity).name.lower()),
        )
        recorded[attributes] = recorded.get(attributes, 0) + number
    for attributes, number in recorded.items():
        yield names.RECORDED, Point(attributes, number)
    for cause, by_category in apart.left_out._asdict().items():
        for category in Category:
            if number := by_category[category]:
                about = (("kobs.category", category.name.lower()), ("kobs.cause", cause))
                yield names.LEFT_OUT, Point(about, number)
    for cause, number in apart.lost.items():
        yield names.LOST, Point((("kobs.cause", cause),), number)
    yield names.DROPPED, Point((), counts.dropped)


def _counters(series: Series, counts: Counts) -> Iterator[tuple[Key, float]]:
    """Counters of the types that there were events of: what can be rare (errors) is there from 0.
    Types of the program's own are told by `RECORDED`."""
    known: dict[Key, float] = {}
    for cls in {cls for cls, _, _ in counts.seen}:
        for rule in series.rules_of(cls):
            if rule.kind == "counter" and rule.each is None:
                known[rule.metric, ()] = 0
    known.update(counts.counters)
    return ((key, value) for key, value in known.items() if key[0] in names.INSTRUMENTS)


def _own_durations(counts: Counts) -> dict[str, str]:
    """Name of the payload type by that of its durations' histogram, for types that the table
    does not have."""
    found: dict[str, str] = {}
    for cls in {cls for cls, _, _ in counts.seen}:
        if (name := cls.__kobs_schema__.name) not in RULES:
            rules = (rule for rule in own_rules(cls) if rule.kind == "histogram")
            found.update((rule.metric, name) for rule in rules)
    return found


def _number(instrument: Instrument, key: Key, value: float) -> Point:
    if instrument.factor != 1.0:
        value = value * instrument.factor
    return Point(_attributes(instrument, key[1]), value)


def _attributes(instrument: Instrument, attributes: Attributes) -> Attributes:
    if attributes != OVERFLOW and instrument.attributes:
        renamed = instrument.attributes
        attributes = tuple((renamed.get(key, key), value) for key, value in attributes)
    return attributes + tuple(instrument.fixed.items()) if instrument.fixed else attributes


def _whole(
    exemplar: Exemplar,
    series: Series,
    trace_high: Callable[[int], int],
    offset_ns: Callable[[int], int],
) -> PointExemplar:
    """An exemplar with its whole trace id; 0 where there is no trace."""
    causality_id = exemplar.causality_id
    traced = series.traces.get(causality_id)
    trace_id = trace_high(exemplar.recording) << 64 | causality_id if causality_id else 0
    time_ns = exemplar.timestamp_ns + offset_ns(exemplar.timestamp_ns)
    return PointExemplar(
        exemplar.value, time_ns, traced.trace_id if traced else trace_id, exemplar.span_id
    )
