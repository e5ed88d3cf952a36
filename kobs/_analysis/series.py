"""Time series from events: values by metric and attributes, in bounded memory."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from kobs._analysis.exemplars import Reservoir
from kobs._analysis.histogram import Histogram
from kobs.decoder import field_reader
from kobs.errors import ConfigError
from kobs.events import Event
from kobs.schema import PayloadType

Attributes = tuple[tuple[str, str | bool | int | float], ...]
Key = tuple[str, Attributes]
"""A series: the metric's name and what tells the series from the metric's others."""

OVERFLOW: Attributes = (("otel.metric.overflow", True),)
"""The attributes of the series that takes what there was no room for, by OpenTelemetry's metrics
SDK specification, "Cardinality limits"."""

_PLAIN = (str, bool, int, float)
_TRACES = 65_536


class Rule(NamedTuple):
    """What an event of a type does to a metric."""

    kind: str
    """`"counter"`, `"gauge"` or `"histogram"`."""
    metric: str
    field: str | None = None
    """The payload field whose value is taken; None counts 1. `duration_ms` and its like are
    taken in microseconds, as the metric's name says."""
    each: str | None = None
    """A payload field: a series for each of its values besides the one of all."""
    when: tuple[str, Callable[[Any], bool]] | None = None
    """A payload field, and which of its values are the ones to count."""

    @property
    def fields(self) -> set[str]:
        """The payload fields that it looks at."""
        when = None if self.when is None else self.when[0]
        return {name for name in (self.field, self.each, when) if name is not None}


class Traced(NamedTuple):
    """What another tracer said of a chain: its whole trace id, and whether it is exported."""

    trace_id: int
    sampled: bool


class ExemplarFilter(StrEnum):
    """Which events exemplars are taken of, as `OTEL_METRICS_EXEMPLAR_FILTER` names them."""

    TRACE_BASED = "trace_based"
    """Those in a span that is exported."""
    ALWAYS_ON = "always_on"
    ALWAYS_OFF = "always_off"


Record = Callable[[Key, float, Event], None]
Apply = Callable[[Event], None]
Derive = Callable[[Event], tuple[Key, float] | None]


class Counts:
    """What adds up: counters, histograms with their exemplars, and which events there were."""

    def __init__(self) -> None:
        self.counters: dict[Key, float] = {}
        self.histograms: dict[Key, Histogram] = {}
        self.exemplars: dict[Key, Reservoir] = {}
        self.seen: dict[tuple[type[PayloadType], int, int], int] = {}
        """Events by type, category and severity."""
        self.dropped = 0
        """Values that there was no series for."""

    def add(self, newer: "Counts") -> None:
        """Count all that a later one counted."""
        for key, value in newer.counters.items():
            self.counters[key] = self.counters.get(key, 0) + value
        for kind, number in newer.seen.items():
            self.seen[kind] = self.seen.get(kind, 0) + number
        for key, histogram in newer.histograms.items():
            if key in self.histograms:
                self.histograms[key].merge(histogram)
            else:
                self.histograms[key] = histogram
        for key, reservoir in newer.exemplars.items():
            if key in self.exemplars:
                self.exemplars[key].merge(reservoir)
            else:
                self.exemplars[key] = reservoir
        self.dropped += newer.dropped


class Series:
    """Takes events one by one and keeps the series that `rules` make of them.

    `own_rules`: the rules of a payload type that `rules` does not have, by the type. `most`: how
    many series there are at most. `sums`: keep one of all beside those of `Rule.each`.
    `microseconds`: how many of them are the histograms' unit. `bounds`: as `Histogram`'s.
    `exemplars`: of which events some are kept. `derived`: by the name of a payload type, what gives
    a value that an event adds to a series besides, in microseconds.
    """

    def __init__(
        self,
        rules: Mapping[str, tuple[Rule, ...]],
        own_rules: Callable[[type[PayloadType]], tuple[Rule, ...]],
        *,
        most: int,
        sums: bool = True,
        microseconds: float = 1.0,
        bounds: tuple[float, ...] = (),
        exemplars: ExemplarFilter = ExemplarFilter.ALWAYS_OFF,
        derived: Mapping[str, Derive] | None = None,
    ) -> None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ConfigError(f"max_series={most!r}: expected an int, 1 or more")
        self._rules = rules
        self._own_rules = own_rules
        self._named = {rule.metric for each in rules.values() for rule in each}
        self._most = most
        self._sums = sums
        self._microseconds = microseconds
        self._bounds = bounds
        self._exemplars = exemplars
        self._derived = derived or {}
        self._applies: dict[type, tuple[Apply, ...]] = {}
        self.counts = Counts()
        self.gauges: dict[Key, float] = {}
        """Last values."""
        self.traces: dict[int, Traced] = {}
        """What other tracers said of chains, by `causality_id`; the oldest are forgotten."""

    def reset(self) -> None:
        """Begin again from 0."""
        self.counts = Counts()
        self.gauges = {}

    def take(self) -> Counts:
        """What was counted so far; counting goes on from 0. Gauges stay."""
        taken, self.counts = self.counts, Counts()
        return taken

    def give_back(self, taken: Counts) -> None:
        """Count what was taken, and what came since."""
        taken.add(self.counts)
        self.counts = taken

    def rules_of(self, cls: type[PayloadType]) -> tuple[Rule, ...]:
        """What events of a type do, as far as the type has the fields: a recording may have been
        made by another version."""
        schema = cls.__kobs_schema__
        rules = self._rules.get(schema.name)
        if rules is None:
            rules = self._own_rules(cls)
        return tuple(rule for rule in rules if rule.fields <= set(schema.field_names))

    @property
    def events(self) -> int:
        """Events taken in so far."""
        return sum(self.counts.seen.values())

    def observe(self, event: Event) -> None:
        """Take in an event."""
        cls = event.type
        kind = (cls, event.category, event.severity)
        seen = self.counts.seen
        seen[kind] = seen.get(kind, 0) + 1
        applies = self._applies.get(cls)
        if applies is None:
            applies = self._applies[cls] = self._applies_of(cls)
        for apply in applies:
            apply(event)

    def wants(self, causality_id: int, span_id: int) -> bool:
        """Exemplars may be of this span."""
        if self._exemplars is not ExemplarFilter.TRACE_BASED:
            return self._exemplars is ExemplarFilter.ALWAYS_ON
        traced = self.traces.get(causality_id)
        return bool(causality_id and span_id) and (traced is None or traced.sampled)

    # -- below: how -------------------------------------------------------------------------

    def _applies_of(self, cls: type[PayloadType]) -> tuple[Apply, ...]:
        """What the rules of a type do, as functions of the event."""
        name = cls.__kobs_schema__.name
        if name == "MetricUpdate":
            return (self._update,)
        applies = tuple(self._apply(cls, rule) for rule in self.rules_of(cls))
        if name in self._derived:
            applies += (self._derive(self._derived[name]),)
        return (self._adopt, *applies) if name == "TraceAdopted" else applies

    def _derive(self, derive: Derive) -> Apply:
        def apply(event: Event) -> None:
            found = derive(event)
            if found is not None:
                self._count(found[0], found[1] / self._microseconds, event)

        return apply

    def _apply(self, cls: type[PayloadType], rule: Rule) -> Apply:
        """What a rule does with events of a type. Of their payloads it decodes what it needs."""
        records = {"counter": self._add, "gauge": self._set, "histogram": self._count}
        record: Record = records[rule.kind]
        field, each = rule.field, rule.each
        value_of = _one if field is None else field_reader(cls, field)
        each_of = None if each is None else field_reader(cls, each)
        factor = 1000.0 if field is not None and field.endswith("_ms") else 1
        # Divided, since 1e-6 is no binary fraction: 10 us are 1e-5 s to the last bit.
        unit = self._microseconds if rule.kind == "histogram" else None
        of_all: Key = (rule.metric, ())
        summed = each is None or self._sums

        def count(event: Event) -> None:
            record(of_all, 1, event)

        def apply(event: Event) -> None:
            value = value_of(event) * factor
            if unit is not None:
                value /= unit
            if summed:
                record(of_all, value, event)
            if each_of is not None:
                record((rule.metric, ((each, _plain(each_of(event))),)), value, event)  # type: ignore[arg-type]

        act = count if field is None and each is None else apply
        if rule.when is None:
            return act
        decides, passes = field_reader(cls, rule.when[0]), rule.when[1]

        def apply_when(event: Event) -> None:
            if passes(decides(event)):
                act(event)

        return apply_when

    def _update(self, event: Event) -> None:
        """A metric that the program keeps itself."""
        payload = event.payload
        labels = payload.labels
        if payload.name == "gc.short_pauses_us" and isinstance(labels.get("collections"), int):
            # What went by since the last one; its label is no label but a number of its own.
            self._add(("gc.short_collections", ()), labels["collections"], event)
            self._add(("gc.short_pauses_us", ()), payload.value, event)
            return
        attributes = tuple((key, _plain(labels[key])) for key in sorted(labels))
        self._set((payload.name, attributes), payload.value, event)

    def _adopt(self, event: Event) -> None:
        """A chain is part of another tracer's trace."""
        payload, traces = event.payload, self.traces
        while len(traces) >= _TRACES:
            del traces[next(iter(traces))]
        traces[event.causality_id] = Traced(
            payload.trace_high << 64 | payload.trace_low, bool(payload.sampled)
        )

    def _add(self, key: Key, value: float, _: Event) -> None:
        counters = self.counts.counters
        if key in counters or self._has_room(key):
            counters[key] = counters.get(key, 0) + value

    def _set(self, key: Key, value: float, _: Event) -> None:
        if key in self.gauges or self._has_room(key):
            self.gauges[key] = value

    def _count(self, key: Key, value: float, event: Event) -> None:
        counts = self.counts
        histogram = counts.histograms.get(key)
        if histogram is None:
            if not self._has_room(key):
                if not key[1]:
                    return
                key = key[0], OVERFLOW
            histogram = counts.histograms.setdefault(key, Histogram(self._bounds))
        histogram.observe(value)
        if self.wants(event.causality_id, event.span_id):
            reservoir = counts.exemplars.get(key)
            if reservoir is None:
                reservoir = counts.exemplars[key] = Reservoir()
            reservoir.offer(value, event)

    def _has_room(self, key: Key) -> bool:
        """There may be a series more; those of the table that have no attributes are few."""
        if not key[1] and key[0] in self._named:
            return True
        counts = self.counts
        if len(counts.counters) + len(counts.histograms) + len(self.gauges) < self._most:
            return True
        counts.dropped += 1
        return False


def _one(_: Event) -> int:
    return 1


def _plain(value: Any) -> str | bool | int | float:
    """A value that can be an attribute's and told from others by `==`."""
    return value if isinstance(value, _PLAIN) else str(value)
