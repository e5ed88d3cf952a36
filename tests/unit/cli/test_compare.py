"""`kobs compare`: two sessions side by side."""

from pathlib import Path

import pytest

from kobs.cli import compare
from kobs.collector import Collector
from kobs.payloads import ProcessCreated

from .conftest import Kobs, _exit


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two recordings: the second has more reads, and they take twice as long."""
    for name, count, duration in (("a", 10, 100.0), ("b", 12, 200.0)):
        with Collector(path=tmp_path / f"{name}.kobs", size=64) as collector:
            for _ in range(count):
                collector.emit(_exit("read", duration))
            collector.emit(ProcessCreated(name=name))
            collector.emit(_exit(f"only in {name}", 1.0))
    return tmp_path / "a.kobs", tmp_path / "b.kobs"


def test_shows_what_changed(command: Kobs, pair: tuple[Path, Path]) -> None:
    said = command("compare", *pair)
    assert said.code == 0
    rows = [line.split() for line in said.lines]
    assert ["SyscallExit", "11", "13", "+2"] in rows
    assert ["read", "100", "µs", "200", "µs", "2.00", "100", "µs", "200", "µs"] in rows
    assert "1 type with equal counts not shown" in said.out


def test_json(command: Kobs, pair: tuple[Path, Path]) -> None:
    found = command("compare", "--json", *pair).json
    assert found["types"]["SyscallExit"] == {"a": 11, "b": 13}
    by_name = {row["name"]: row for row in found["operations"]}
    assert by_name["read"]["ratio"] == 2.0
    assert by_name["only in a"]["b"] is None
    assert by_name["only in a"]["ratio"] is None
    assert found["a"]["complete"] is True


def test_few_events_say_little(command: Kobs, pair: tuple[Path, Path]) -> None:
    assert "\n  read " in command("compare", *pair).out
    assert "\n  read " not in command("compare", "--min-count", 11, *pair).out


def test_the_same_twice_has_no_difference(command: Kobs, pair: tuple[Path, Path]) -> None:
    assert "no difference" in command("compare", pair[0], pair[0]).out


def test_missing_events_are_said_first(
    command: Kobs, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    with Collector(path=tmp_path / "c.kobs", size=16) as collector:
        for _ in range(100):
            collector.emit(_exit("read", 1.0))
    said = command("compare", pair[0], tmp_path / "c.kobs")
    assert said.lines[0] == "!! not everything was seen"
    assert said.lines[1].startswith("!!   B: events are missing")


def test_a_median_of_zero_has_no_ratio() -> None:
    report = {
        "session": {"path": "", "argv": [], "command": "", "duration_s": 0.0},
        "events": {"count": 0, "by_type": {}},
        "losses": {"total": 0},
        "complete": True,
        "operations": [
            {"type": "t", "name": "n", "count": 9, "p50_us": 0.0, "p95_us": 0.0, "p99_us": 0.0}
        ],
    }
    assert compare.build(report, report)["operations"][0]["ratio"] is None
