"""The figures that the design promises (its section 10), each declared once.

A row is a sum of subjects over a sum of subjects, of the same round of the same run:

    an observed method, added to the bare call      {"observed": 1, "bare": -1}
    over what an empty wrapt.decorator adds         {"wrapt": 1, "bare": -1}

Without a reference it is held against an absolute figure. A floor is what the row stands on and
cannot go below; it is shown where the target is not reached.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.subjects.operations import OPERATIONS

Terms = Mapping[str, float]
"""Subjects, and how often each counts."""

BLOCKS = "blocks"
"""What `kobs._core._native.bench_features()` calls thread-owned blocks and the invariant TSC."""


@dataclass(frozen=True)
class Row:
    """One figure."""

    key: str
    figure: int
    """Which line of the design's table it belongs to, from 1; 16: whole programs, 17: a call
    in a flood, 18: a flood, 19: export, 20: a suite of
    tests."""
    what: str
    measured: Terms
    targets: Mapping[str, float]
    """By core, "c" or "python": at most this ratio, or this much of the `unit`."""
    reference: Terms = field(default_factory=dict)
    against: str = ""
    """The reference, in words."""
    unit: str = "ns"
    """Of what is measured, and of a target without a reference."""
    floors: Mapping[str, Terms] = field(default_factory=dict)
    """By core."""
    slack: float = 0.0
    """What a target of nothing allows: as near to nothing as can be measured."""
    needs: str = ""
    """A feature that the core must have for this row's target to hold."""


SLOT = {"fetch_add": 1.0, "compare_exchange": 1.0, "store_slot": 1.0}
EVENT = {"clock_gettime": 1.0, **SLOT}
TSC_EVENT = {"rdtsc": 1.0, "compare_exchange": 1.0, "store_slot": 1.0}
PACKED = {"pack_and_clock": 1.0, "call_python": 2.0}
"""An event of the Python core: its bytes, and the calls of an emitter and a publisher."""


def times(number: float, terms: Terms) -> dict[str, float]:
    """The terms, so often."""
    return {subject: number * often for subject, often in terms.items()}


ROWS = (
    Row(
        "publish", 1, "publish one event inside the core",
        {"publish": 1}, {"c": 2.2}, {"clock_gettime": 1}, "one `clock_gettime` call",
        floors={"c": EVENT},
    ),
    Row(
        "publish_block", 1, "the same, thread-owned blocks and invariant TSC",
        {"publish_block": 1}, {"c": 1.0}, {"clock_gettime": 1}, "one `clock_gettime` call",
        floors={"c": TSC_EVENT},
    ),
    Row(
        "emit", 2, '`emit_exit("read", 12, ...)` from Python',
        {"emit_exit": 1}, {"c": 3.8}, {"call_c_4": 1}, "an empty C function, 4 arguments",
        floors={"c": {"call_c_4": 1, **EVENT}, "python": PACKED},
    ),
    Row(
        "emit_block", 2, "the same, thread-owned blocks and invariant TSC",
        {"emit_exit": 1}, {"c": 2.5}, {"call_c_4": 1}, "an empty C function, 4 arguments",
        floors={"c": {"call_c_4": 1, **TSC_EVENT}}, needs=BLOCKS,
    ),
    Row(
        "observed", 3, "observed method, one event with duration, added to the bare call",
        {"observed": 1, "bare": -1}, {"c": 0.16}, {"wrapt": 1, "bare": -1},
        "what an empty `wrapt.decorator` adds",
        floors={"c": {**EVENT, "clock_gettime": 2}, "python": {**PACKED, "clock_python": 1}},
    ),
    Row(
        "idle", 4, "observed method, not enabled, added to the bare call",
        {"idle": 1, "bare": -1}, {"c": 1.5}, {"call_c_0": 1}, "an empty C function",
        floors={"c": {"forward": 1, "bare": -1}, "python": {"call_python": 1}},
    ),
    Row(
        "span", 5, '`with span_operation("x")`, one attribute, built-in samplers',
        {"span": 1}, {"c": 0.03, "python": 0.1}, {"otel_span": 1},
        "the OpenTelemetry SDK's span, batch processor",
        floors={
            "c": {"call_c_0": 4, "change_context": 1, **times(2, EVENT)},
            "python": {"pack_and_clock": 2, "call_python": 2 * 2 + 5},
        },
    ),
    Row(
        "traced", 5, '`tracer.start_as_current_span("x")` of the provider, one attribute',
        {"traced": 1}, {"c": 0.1}, {"otel_span": 1},
        "the OpenTelemetry SDK's span, batch processor",
        floors={
            "c": {"call_c_0": 4, "change_context": 1, **times(3, EVENT)},
            "python": {"pack_and_clock": 3, "call_python": 2 * 2 + 5},
        },
    ),
    Row(
        "check", 6, "anomaly check of one value, inside the core",
        {"check": 1}, {"c": 15}, floors={"c": {"compare_exchange": 1}},
    ),
    Row("filter", 7, "filter one event, inside the core", {"filter": 1}, {"c": 10}),
    Row(
        "serialise", 8, "serialise one event, inside the core",
        {"serialise": 1}, {"c": 100}, floors={"c": {"copy_line": 1}},
    ),
    Row(
        "query", 9, "query of 1,000 events with percentiles, inside the core",
        {"query": 1}, {"c": 5}, unit="µs", floors={"c": {"add_slot": 1000}},
    ),
    Row(
        "query_python", 9, "the same from Python, `collector.query`",
        {"query_python": 1}, {"c": 10}, unit="µs",
        floors={
            "c": {"call_c_0": 1, "add_slot": 1000, "copy_slot": 1000},
            "python": {"call_python": 1000},
        },
    ),
    Row(
        "emit_python", 10, "Python core, `emit`: an emitter of three fields",
        {"emit_switch": 1}, {"python": 4}, {"pack_and_clock": 1},
        "`struct.pack_into` of as many bytes and a clock read",
        floors={"python": PACKED},
    ),
    Row(
        "memory", 11, "memory of a default collector, all of it used",
        {"memory": 1}, {"c": 14, "python": 14}, unit="MB",
    ),
    Row(
        "import", 12, "`import kobs`, over bare Python",
        {"import_kobs": 1, "start": -1}, {"c": 40, "python": 40}, unit="ms",
    ),
    Row(
        "import_collector", 12, "the same and a default `Collector()`, over bare Python",
        {"import_collector": 1, "start": -1}, {}, unit="ms",
    ),
    Row(
        "plugin_run", 13, "plugin installed and not used, a run of one test",
        {"pytest_unused_run": 1, "pytest_off_run": -1}, {"c": 15, "python": 15}, unit="ms",
    ),
    Row(
        "plugin_test", 13, "plugin installed and not used, a test: the median of 1,500 empty ones, "
        "on the wall, hooks and reports and all",
        {"pytest_unused_test": 1, "pytest_off_test": -1},
        {"c": 0, "python": 0}, unit="µs", slack=5,
    ),
    Row(
        "plugin_on", 14, "plugin on, an empty test, likewise: what `--kobs` does once a run "
        "(before the first test, in it, after the last) is not in it",
        {"pytest_on_test": 1, "pytest_off_test": -1},
        {"c": 50, "python": 50}, unit="µs",
        floors={"python": times(2, PACKED), "c": times(2, {"call_c_4": 1, **EVENT})},
    ),
    Row(
        "plugin_suite", 20, "a suite of 1,000 tests of 2 ms each, everything on (`--kobs "
        "--kobs-all`), CPU time of the whole run",
        {"pytest_on_suite": 1}, {"c": 1.05, "python": 1.05}, {"pytest_off_suite": 1},
        "the suite without", unit="ms",
    ),
    Row(
        "busy", 15, "program with 10,000 events a second, of one CPU",
        {"busy_emitting": 10, "busy_idling": -10}, {"c": 0.3, "python": 2}, unit="%",
        floors={
            "c": times(10_000, {"call_c_4": 1, **EVENT}),
            "python": times(10_000, PACKED),
        },
    ),
    Row(
        "web", 16, "a program like a web shop (Flask, SQLite, files, a queue to a thread), whole, "
        "recorded by `kobs run` with everything on",
        {"web_recorded": 1}, {"c": 1.03}, {"web": 1}, "the bare program", unit="ms",
    ),
    Row(
        "streams", 16, "a service on asyncio (streams, tasks, queues), likewise",
        {"streams_recorded": 1}, {"c": 1.03}, {"streams": 1}, "the bare program", unit="ms",
    ),
    Row(
        "flood_reads", 16, "a flood: a million small `os.read`, whole, recorded by `kobs run` with "
        "everything on and adaptive sampling",
        {"reads_recorded": 1}, {}, {"reads": 1}, "the bare program", unit="ms",
    ),
    Row(
        "flood_letters", 16, "a flood: a queue between two threads at full speed, likewise",
        {"letters_recorded": 1}, {}, {"letters": 1}, "the bare program", unit="ms",
    ),
    *(
        Row(
            f"flood_{program}_going", 18, f"{what}, without the start and the end of each",
            {f"{program}_recorded": 1, f"{program}_idle_recorded": -1}, {"c": 1.01},
            {program: 1, f"{program}_idle": -1}, "the bare program, likewise", unit="ms",
            floors={"c": {f"{program}_passed": 1, f"{program}_idle_passed": -1}},
        )
        for program, what in (("reads", "the flood of `os.read`"), ("letters", "that of a queue"))
    ),
    Row(
        "read_left_out", 17, "what watching adds to an `os.read` of one byte that is left out",
        {"read_left_out": 1, "read_bare": -1}, {"c": 0.01}, {"read_bare": 1}, "the bare call",
        floors={"c": {"read_passed": 1, "read_bare": -1, "rdtsc": 2}},
    ),
    Row(
        "letter_left_out", 17, "what watching adds to a `put` and a `get` of a `queue.Queue` that "
        "are left out",
        {"letter_left_out": 1, "letter_bare": -1}, {"c": 0.01}, {"letter_bare": 1},
        "the bare calls",
        floors={"c": {"change_context": 0.5, "forward": 2, "bare": -2}},
    ),
    Row(
        "letter_recorded", 17, "the same, recorded",
        {"letter_recorded": 1, "letter_bare": -1}, {"c": 1000.0},
    ),
    Row(
        "export", 19, "export: a span of one attribute, from the ring to encoded OTLP",
        {"export": 1}, {"c": 0.333}, {"otel_export": 1},
        "the OpenTelemetry SDK's batch processor and encoder",
    ),
    Row(
        "span_exporting", 19, "a span without pause while an exporter sends, its CPU time in it",
        {"span_exporting": 1}, {"c": 1.2}, {"span_quiet": 1}, "the same without an exporter",
    ),
    Row(
        "span_away", 19, "the same while the receiver is down",
        {"span_away": 1}, {"c": 1.2}, {"span_quiet": 1}, "the same without an exporter",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Beside:
    """Another way to do what kobs does, and kobs's own figure of that kind."""

    what: str
    measured: Terms
    kobs: Terms
    ours: str
    """What of kobs stands beside it."""


OBSERVED = {"observed": 1, "bare": -1}
PEER_ROWS = (
    Beside("`functools.wraps` closure, empty, added to a call",
           {"functools_wraps": 1, "bare": -1}, OBSERVED, "observed method, added"),
    Beside("`wrapt.decorator`, empty, added to a call",
           {"wrapt": 1, "bare": -1}, OBSERVED, "observed method, added"),
    Beside("the same of a method that was bound before",
           {"wrapt_bound": 1, "bare": -1}, OBSERVED, "observed method, added"),
    Beside("VizTracer, tracing, added to a call",
           {"viz_traced": 1, "call_python": -1}, OBSERVED, "observed method, added"),
    Beside("VizTracer `add_instant`", {"viz_instant": 1}, {"emit_switch": 1}, "emitter"),
    Beside("VizTracer `log_event`", {"viz_event": 1}, {"span": 1}, "span"),
    Beside("OpenTelemetry SDK span, batch processor", {"otel_span": 1}, {"span": 1}, "span"),
    Beside("ddtrace span", {"ddtrace_span": 1}, {"span": 1}, "span"),
    Beside("logfire span", {"logfire_span": 1}, {"span": 1}, "span"),
    Beside("stdlib `logging`, null handler",
           {"logging_null": 1}, {"emit_exit": 1}, "emitter, with duration"),
    Beside("stdlib `logging`, to a file nobody reads",
           {"logging_file": 1}, {"emit_exit": 1}, "emitter, with duration"),
    Beside("structlog, JSON, to a file nobody reads",
           {"structlog_info": 1}, {"emit_exit": 1}, "emitter, with duration"),
    *(
        Beside(f"{plugin}, {how}", {f"{key}_{on}": 1, f"{key}_off_{what}": -1},
               {f"pytest_{on}": 1, f"pytest_off_{what}": -1}, "pytest plugin")
        for key, plugin in (
            ("pyotel", "pytest-opentelemetry"), ("logfire", "logfire's pytest plugin"),
            ("ddtrace", "ddtrace's pytest plugin"),
        )
        for what, on, how in (
            ("run", "unused_run", "installed and not asked for, added to a run"),
            ("test", "on_test", "on, added to an empty test"),
            ("suite", "on_suite", "on, added to a suite of 1,000 tests of 2 ms"),
        )
    ),
    *(
        Beside(f"{watcher}, added to a program like {what}", {f"{key}_{program}": 1, program: -1},
               {f"{program}_recorded": 1, program: -1}, "`kobs run`, added")
        for program, what in (("web", "a web shop"), ("streams", "a service on asyncio"))
        for key, watcher in (
            ("viz", "VizTracer"), ("otel", "`opentelemetry-instrument`"),
            ("ddtrace", "`ddtrace-run`"),
        )
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Watched:
    """What a watch adds to an operation, and what the contrib instrumentation adds to it."""

    watch: str
    what: str
    bare: str
    kobs: str
    contrib: str = ""
    """Its subject; empty where there is none of its kind."""
    package: str = ""


CONTRIB = {
    "thread": "threading",
    "submit": "threading",
    "task": "asyncio, told to trace it",
    "look": "system-metrics, a reading of all it has",
    "grpc_beside_api": "grpc, client and server",
}
"""Operations that a contrib instrumentation watches too."""

WATCHED_ROWS = tuple(
    Watched(
        operation.watch, operation.what, f"bare_{name}", f"watched_{name}",
        f"contrib_{name}" if name in CONTRIB else "", CONTRIB.get(name, ""),
    )
    for name, operation in OPERATIONS.items()
)  # fmt: skip

FLOORS = {
    "call_c_0": "call of an empty C function",
    "call_c_4": "call of an empty C function, 4 arguments",
    "call_python": "call of an empty Python function",
    "bare": "call of a method",
    "forward": "call of a method through a descriptor in C that only passes it on",
    "change_context": "a context variable set and put back, in C",
    "clock_gettime": "`clock_gettime` in C",
    "rdtsc": "`rdtsc` in C",
    "read_passed": "an `os.read` that is hooked for nobody",
    "read_bare": "an `os.read`",
    "reads_passed": "the flood of `os.read` behind a hook in C that only forwards",
    "reads_idle_passed": "the same with nothing to read",
    "letters_passed": "the flood of a queue behind stand-ins in C that only forward",
    "letters_idle_passed": "the same with nothing to send",
    "clock_python": "`time.monotonic_ns()`",
    "fetch_add": "atomic fetch-add in C",
    "compare_exchange": "atomic compare-and-swap in C",
    "store_slot": "store of 80 bytes a slot, around a ring of 65,536",
    "add_slot": "sum of a duration a slot, over 1,000 slots",
    "copy_slot": "copy of 96 bytes a slot, out of 1,000 slots",
    "copy_line": "copy of 330 bytes, the size of a line of JSON",
    "pack_and_clock": "`struct.pack_into` of an event's bytes and a clock read",
}
"""The floors, in words."""

OTHERS = {
    "emit_switch": "emitter, three fields",
    "emit_exit": "emitter, with a duration that is looked at for anomalies",
    "emit_payload": "`collector.emit(payload)`",
    "emit_method": "`collector.syscall_exit(...)`, the event of the emitter with a duration",
    "busy_emitting": "1,000 events in a tenth of a second into a new ring, CPU time",
    "busy_going_on": "the same into a ring that was written once",
    "busy_idling": "the same with an empty function",
    "check_python": "anomaly check of one value, `Detector.observe`",
    "filter_python": "filter one event, `EventFilter.matches`",
    "serialise_python": "serialise one event, a line of JSON",
    "query_decoded": "query of 1,000 events that are decoded already",
}
"""What the table of the design does not list and is measured all the same."""
