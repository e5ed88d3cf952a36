"""`kobs query`: events that meet conditions, and figures over them."""

from pathlib import Path

import pytest

from kobs.cli import query
from kobs.collector import Collector
from kobs.session import Session

from .conftest import SECOND, Kobs, _exit


class TestEvents:
    def test_are_shown_a_line_each_with_their_count(self, command: Kobs, session: Session) -> None:
        said = command("query", session.path, "--type", "SyscallExit")
        assert said.code == 0
        assert len(said.lines) == 7
        assert said.lines[-1] == "6 events match"

    def test_limit_cuts_what_is_shown_not_what_is_counted(
        self, command: Kobs, session: Session
    ) -> None:
        said = command("query", session.path, "--type", "SyscallExit", "--limit", 2)
        assert len(said.lines) == 3
        assert said.lines[-1] == "6 events match, 2 shown"

    def test_one_event_matches(self, command: Kobs, session: Session) -> None:
        said = command("query", session.path, "--category", "security")
        assert said.lines[-1] == "1 event matches"

    def test_slow_ms_is_a_threshold(self, command: Kobs, session: Session) -> None:
        found = command("query", session.path, "--slow-ms", "0.3", "--json").json
        assert {event["payload"]["name"] for event in found["events"]} == {"write", "request"}

    def test_order_by_duration(self, command: Kobs, session: Session) -> None:
        found = command(
            "query", session.path, "--type", "SyscallExit", "--order", "duration", "--descending",
            "--limit", 1, "--json",
        ).json  # fmt: skip
        assert found["events"][0]["payload"]["name"] == "write"
        assert found["count"] == 6

    def test_since_and_until_count_back_from_the_last_event(
        self, command: Kobs, session: Session
    ) -> None:
        def count(*words: str) -> int:
            found = command("query", session.path, "--json", *words).json
            return int(found["count"])

        assert count("--since", "0s") == 1
        assert count("--since", "1s") == 2
        assert count("--since", "1100ms") == 2
        assert count("--until", "1s") == 22
        assert count("--since", "1min") == 23

    def test_severity_means_at_least(self, command: Kobs, session: Session) -> None:
        found = command("query", session.path, "--severity", "warn", "--json").json
        assert [event["type"] for event in found["events"]] == [
            "PermissionDenied",
            "AnomalyDetected",
        ]

    def test_what_the_recording_lost_is_said_first(self, command: Kobs, tmp_path: Path) -> None:
        with Collector(path=tmp_path / "a.kobs", size=16) as collector:
            for _ in range(100):
                collector.emit(_exit("read", 1.0))
        said = command("query", tmp_path / "a.kobs")
        assert said.lines[0] == "!! 84 events not in this recording"
        assert command("query", tmp_path / "a.kobs", "--json").json["lost"] == 84


class TestFigures:
    def test_duration_stats_by_name(self, command: Kobs, session: Session) -> None:
        found = command(
            "query", session.path, "--type", "SyscallExit",
            "--aggregate", "duration_stats", "duration_stats_by_name", "by_name", "--json",
        ).json  # fmt: skip
        figures = found["aggregations"]
        assert found["events"] == []
        assert figures["duration_stats"]["count"] == 6
        assert figures["duration_stats_by_name"]["write"]["p99"] == 300.0
        assert figures["by_name"] == {"read": 3, "write": 3}

    def test_a_sum_of_a_field(self, command: Kobs, session: Session) -> None:
        found = command(
            "query", session.path, "--type", "MessageSent", "--aggregate", "sum:size", "--json"
        ).json
        assert found["aggregations"] == {"sum.size": 24.0}

    def test_as_text(self, command: Kobs, session: Session) -> None:
        said = command(
            "query", session.path, "--type", "SyscallExit",
            "--aggregate", "count", "by_category", "duration_stats_by_name", "health",
        )  # fmt: skip
        assert "by_category" in said.lines
        assert any(line.split() == ["SYSCALL", "6"] for line in said.lines)
        row = next(line.split() for line in said.lines if line.strip().startswith("write"))
        assert row[:4] == ["write", "3", "900", "µs"]

    def test_groups_that_are_empty_are_none(self, command: Kobs, session: Session) -> None:
        said = command("query", session.path, "--pid", 1, "--aggregate", "by_name")
        assert said.lines[-1] == "  none"

    @pytest.mark.parametrize("name", list(query.common_queries()))
    def test_ready_queries_run(self, command: Kobs, session: Session, name: str) -> None:
        extra = {"process_errors": ["--pid", "1"], "slow_operations": ["--threshold-ms", "0.2"]}
        said = command("query", session.path, "--common", name, *extra.get(name, []))
        assert said.code == 0, said.err
        as_json = command("query", session.path, "--common", name, "--json", *extra.get(name, []))
        assert as_json.json["aggregations"]

    def test_the_threshold_of_slow_operations_has_effect(
        self, command: Kobs, session: Session
    ) -> None:
        def count(threshold: float) -> int:
            found = command(
                "query", session.path, "--common", "slow-operations", "--threshold-ms", threshold,
                "--json",
            ).json  # fmt: skip
            return int(found["count"])

        assert (count(0.0), count(0.2), count(0.5), count(1)) == (12, 6, 3, 0)

    def test_ready_queries_are_listed(self, command: Kobs) -> None:
        said = command("query", "--common", "list")
        assert "syscall_performance" in said.out
        assert "process_errors" in said.out


def test_times_ago_have_units() -> None:
    ago = query._ago
    assert ago("2").total_seconds() == 2
    assert ago("500ms").total_seconds() == 0.5
    assert ago("5 min").total_seconds() == 300
    assert ago("3µs").microseconds == 3
    assert SECOND == 10**9
