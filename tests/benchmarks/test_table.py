"""`make bench`: its table has every figure of the design, and says no more than was measured.

Nothing here is timed: what is measured is canned.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import groups, measure, report, results
from benchmarks.each_test import TIMES
from benchmarks.environments import ROOT
from benchmarks.measure import Effort, Series, Task
from benchmarks.rows import FLOORS, OTHERS, PEER_ROWS, ROWS, WATCHED_ROWS
from benchmarks.subject import Absent, Command
from benchmarks.subjects import inside
from kobs_instrumentation.subsystems import WATCHED

DESIGN = {  # section 10, line by line: targets by core
    1: [{"c": 2.2}, {"c": 1.0}],
    2: [{"c": 3.8}, {"c": 2.5}],
    3: [{"c": 0.16}],
    4: [{"c": 1.5}],
    5: [{"c": 0.03, "python": 0.1}, {"c": 0.1}],
    6: [{"c": 15}],
    7: [{"c": 10}],
    8: [{"c": 100}],
    9: [{"c": 5}, {"c": 10}],
    10: [{"python": 4}],
    11: [{"c": 14, "python": 14}],
    12: [{"c": 40, "python": 40}],
    13: [{"c": 15, "python": 15}, {"c": 0, "python": 0}],
    14: [{"c": 50, "python": 50}],
    15: [{"c": 0.3, "python": 2}],
    16: [{"c": 1.03}, {"c": 1.03}],  # whole programs: not in the design's table
    17: [{"c": 0.01}, {"c": 0.01}, {"c": 1000}],  # calls in a flood: nor these
    18: [{"c": 1.01}, {"c": 1.01}],  # floods: the overhead target of adaptive sampling
    19: [{"c": 0.333}, {"c": 1.2}, {"c": 1.2}],  # export
    20: [{"c": 1.05, "python": 1.05}],  # a suite of tests
}
CORES = {"python": (), "c": ("blocks",)}


def canned(**values: float) -> Series:
    """A series in which everything takes a microsecond, but for `values`."""
    series = Series()
    names = {name for group in groups.GROUPS for name in (*group.ours, *group.others)}
    for name in (*names, "memory"):
        for round_number in range(3):
            series.add(name, values.get(name, 1e-6) * (1 + round_number / 1000))
    return series


def result(series: Series) -> dict[str, Any]:
    cell = {"producers": 1, "readers": 1, "produced_per_s": 1e6, "read_per_s": 5e5, "contended": 0,
            "lost": 0.5, "unaccounted": 0}  # fmt: skip
    many = cell | {"processes": 2, "produced": 8_000_000, "not_kept": 0}
    made = results.collect(
        series, CORES, machine={"cpu": "canned"}, versions={"wrapt": "2.0"}, rounds=3,
        scaling={"python": {"threads": [cell], "processes": [many]}},
        rivals=[{"threads": 2, "ns": {"as it is": 70.0, "thread-owned blocks": 60.0}}],
    )  # fmt: skip
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def row(key: str, series: Series, core: str = "c", features: tuple[str, ...] = ()) -> Any:
    (found,) = (row for row in ROWS if row.key == key)
    return results.evaluate(found, series, core, features)


def test_every_figure_of_the_design_is_there() -> None:
    declared = {
        line: [dict(row.targets) for row in ROWS if row.figure == line and row.targets]
        for line in DESIGN
    }
    assert declared == DESIGN


def test_every_row_is_in_the_table_of_each_core() -> None:
    tables = report.tables(result(canned()))
    for core in report.CORES.values():
        (table,) = (table for table in tables if table.title == f"The figures, {core}")
        assert [line[0] for line in table.rows] == [row.what for row in ROWS]


def test_the_table_renders_as_text_and_as_markdown() -> None:
    made = result(canned())
    text, markdown = report.as_text(made), report.as_markdown(made)
    for row in ROWS:
        assert row.what.replace("`", "") in text
        assert row.what in markdown
    assert "`" not in text
    assert "A million events a second" in text


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_what_a_row_compares_is_measured_side_by_side(row: Any) -> None:
    wanted = {*row.measured, *row.reference} - {"memory"}
    assert not wanted or any(
        wanted <= {*group.ours, *group.others} for group in groups.GROUPS if group.ours
    )


def test_floors_peers_and_others_name_subjects_that_there_are() -> None:
    names = {name for group in groups.GROUPS for name in (*group.ours, *group.others)}
    used = {name for row in ROWS for floor in row.floors.values() for name in floor}
    used |= {name for row in PEER_ROWS for name in (*row.measured, *row.kobs)}
    assert used | set(FLOORS) | set(OTHERS) <= names


def test_what_a_watch_adds_stands_beside_bare_and_the_contrib_instrumentation() -> None:
    series = canned(bare_thread=50e-6, contrib_thread=70e-6)
    series.add("c:watched_thread", 60e-6)
    for _ in range(2):
        series.add("c:watched_thread", 60e-6)
    (table,) = (t for t in report.tables(result(series)) if t.title == "What a watch adds, C core")
    assert len(table.rows) == len(WATCHED_ROWS)
    (line,) = (row for row in table.rows if row[1] == "a thread, started and joined")
    watch, _, bare, kobs, contrib = line
    assert (watch, bare.split()[0], kobs.split()[0]) == ("scheduler", "50", "9.95")
    assert contrib.startswith("20 ")
    assert contrib.endswith(": threading")


def test_every_watched_operation_names_a_watch_and_subjects_that_there_are() -> None:
    names = {name for group in groups.GROUPS for name in (*group.ours, *group.others)}
    assert {row.watch for row in WATCHED_ROWS} == set(WATCHED)
    assert {n for r in WATCHED_ROWS for n in (r.bare, r.kobs, r.contrib) if n} <= names


def test_a_ratio_is_taken_round_by_round() -> None:
    series = Series()
    for clock in (10e-9, 20e-9, 30e-9):  # the machine slows down, and both with it
        series.add("clock_gettime", clock)
        series.add("c:publish", clock * 2)
    made = row("publish", series)
    assert made["ratio"] == pytest.approx({"median": 2, "low": 2, "high": 2, "error": 0})
    assert made["verdict"] == "reached"


def test_what_a_core_has_not_gets_no_number() -> None:
    series = canned()
    series.leave_out("publish", "not in this core")
    made = row("publish", series)
    assert made["verdict"] == "not in this core"
    assert not {"measured", "ratio"} & set(made)


def test_a_feature_that_the_core_does_not_claim_gets_no_number() -> None:
    assert row("emit_block", canned())["verdict"] == "not in this core"
    assert "ratio" in row("emit_block", canned(), features=("blocks",))


def test_a_peer_that_cannot_be_installed_is_said() -> None:
    series = canned()
    series.leave_out("otel_span", "could not be installed")
    assert row("span", series)["verdict"] == (
        "not measured: reference otel_span could not be installed"
    )
    assert "could not be installed" in report.as_text(result(series))


def test_a_target_that_is_not_reached_shows_its_floor_and_how_near_it_is() -> None:
    series = canned(emit_switch=9e-6, pack_and_clock=1e-6, call_python=0.5e-6)
    made = row("emit_python", series, "python")
    assert made["verdict"] == "not reached"
    assert made["floor"]["held"] == pytest.approx(2)
    assert made["floor"]["times"] == pytest.approx(4.5)
    assert "floor 2 " in report.as_text(result(series))


def test_a_hook_of_the_c_core_says_nanoseconds_for_one_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = SimpleNamespace(bench_observe=lambda loops: 7.5)
    monkeypatch.setattr(inside, "native", lambda: there)
    check = inside.hook("bench_observe")
    check.check()
    assert check.make()(1000) == pytest.approx(7.5e-6)
    with pytest.raises(Absent, match="not in this core"):
        inside.hook("bench_filter").check()


@pytest.mark.parametrize(
    ("median", "said"), [(1, "reached"), (2.5, "too close to tell"), (5, "not reached")]
)
def test_a_verdict_heeds_the_error_of_the_median(median: float, said: str) -> None:
    assert results.verdict({"median": median, "error": 1.0}, 3) == said


def test_more_rounds_make_the_median_surer_and_the_spread_no_smaller() -> None:
    few, many = results.figure([1.0, 2.0, 3.0] * 3), results.figure([1.0, 2.0, 3.0] * 30)
    assert few["high"] - few["low"] == many["high"] - many["low"]
    assert many["error"] < few["error"] / 3


def test_there_is_no_verdict_without_a_target() -> None:
    held = {"median": 1.0, "error": 0.0}
    assert results.verdict(held, None) == "no target for this core"


INSIDE = """
import json, pathlib, time
import pytest

took_ns = []

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol():
    began = time.perf_counter_ns()
    yield
    took_ns.append(time.perf_counter_ns() - began)
    return True

def pytest_unconfigure():
    pathlib.Path(__file__).with_name("inside").write_text(json.dumps(took_ns))
"""


def test_the_time_of_a_test_has_in_it_what_every_other_plugin_does(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(INSIDE)
    (tmp_path / "test_it.py").write_text("def test_1(): pass\ndef test_2(): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.each_test", "--rootdir",
               str(tmp_path), "-c", os.devnull, str(tmp_path)]  # fmt: skip
    environment = {**os.environ, TIMES: str(tmp_path / "times")}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    times = json.loads((tmp_path / "times").read_text())
    inside_ns = json.loads((tmp_path / "inside").read_text())
    assert len(times) == len(inside_ns) == 2
    assert all(outer > inner for outer, inner in zip(times, inside_ns, strict=True))


@pytest.mark.parametrize(("least", "said"), [(True, 1.0), (False, 2.0)])
def test_a_round_is_the_median_of_its_values_or_the_least(
    least: bool, said: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: object) -> Any:
        Path(command[-1]).touch()
        return SimpleNamespace(returncode=0)

    bench = SimpleNamespace(
        get_values=lambda: (2.0, 1.0, 9.0), median=lambda: 2.0, get_loops=lambda: 1
    )
    monkeypatch.setattr(measure.subprocess, "run", run)
    monkeypatch.setattr(measure.pyperf.Benchmark, "load", lambda _: bench)
    effort = Effort(1, 3, 0.0, least=least)
    assert measure.take(Task("start", "processes", "start", Command), effort) == said
