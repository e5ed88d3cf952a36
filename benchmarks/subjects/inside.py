"""What happens below a call or beside it: publish, check, filter, serialise, query.

Inside the C core this is measured by functions of the extension `kobs._core._native`, which are
looked up by name. Each runs its work so many times in one loop without the GIL's or a call's cost
in it, and returns nanoseconds for one time, as a float:

    bench_publish(n)              publish one event into a ring of its own
    bench_publish_block(n)        the same with tickets in blocks and the invariant TSC
    bench_observe(n)              the anomaly check of one value, past its first samples
    bench_filter(n)               one event against a filter of severity and category
    bench_serialise(n)            one event to what an exporter sends
    bench_query(events)           one query over so many events: count, mean, p50, p95 and p99

What the extension does not have is told as "not in this core". Beside them stand the same things
from Python, on either core.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from benchmarks.subject import Absent, Loop, Statement, Subject, main


def native() -> ModuleType:
    """The extension of the core that is in use. Raises `Absent` where that has none."""
    from importlib import import_module

    from kobs._core import select

    if select().name != "c":
        raise Absent("not in this core")
    try:
        return import_module("kobs._core._native")
    except ImportError:
        raise Absent("not in this core") from None


def hook(name: str, *, of: int | None = None) -> Loop:
    """A function of the extension that measures. It takes how often to do it; with `of` it takes
    that instead: what one time is done to."""

    def find() -> Any:
        try:
            return getattr(native(), name)
        except AttributeError:
            raise Absent("not in this core") from None

    def make() -> Callable[[int], float]:
        function = find()
        return lambda loops: float(function(loops if of is None else of)) * loops * 1e-9

    return Loop(make, lambda: find() and None)


def detector() -> Any:
    """A detector that has learned, and values that vary."""
    from kobs.anomaly import Detector

    made = Detector()
    for value in range(1000):
        made.observe("read", 100.0 + value % 7)
    return made.observe


def filtered() -> Any:
    """A filter of two conditions, and an event that passes."""
    from kobs import Category, EventFilter, Severity

    wanted = EventFilter().severity(Severity.DEBUG).category(Category.SYSCALL)
    return wanted.matches, recorded(1)[1][0]


def serialised() -> Any:
    """An event as a line of JSON."""
    from kobs.export.jsonl import line

    return line, recorded(1)[1][0]


def recorded(number: int) -> Any:
    """A collector with so many events that have a duration, and the events."""
    from kobs import Collector

    collector = Collector(size=1024)
    for value in range(number):
        collector.syscall_exit(42, "read", value, True)
    return collector, collector.snapshot()


def queried() -> Any:
    """A collector, its events and a query for percentiles."""
    from kobs import Query
    from kobs.query import AggregationType

    return *recorded(1000), Query().aggregate(AggregationType.DURATION_STATS)


SUBJECTS: dict[str, Subject] = {
    "publish": hook("bench_publish"),
    "publish_block": hook("bench_publish_block"),
    "check": hook("bench_observe"),
    "filter": hook("bench_filter"),
    "serialise": hook("bench_serialise"),
    "query": hook("bench_query", of=1000),
    "check_python": Statement('observe("read", 103.0)', "observe", detector),
    "filter_python": Statement("matches(event)", "matches, event", filtered),
    "serialise_python": Statement("line(event)", "line, event", serialised),
    "query_python": Statement("collector.query(query)", "collector, _, query", queried, unrolled=1),
    "query_decoded": Statement("query.run(events)", "_, events, query", queried, unrolled=1),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
