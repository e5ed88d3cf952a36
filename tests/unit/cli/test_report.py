"""`kobs report`: what happened, and first what was not seen."""

from pathlib import Path

import pytest

from kobs._core import select
from kobs.cli import chain, report_page
from kobs.cli.chains import Chains
from kobs.cli.report import build
from kobs.collector import Collector
from kobs.events import Category, Event, Severity
from kobs.payloads import MessageReceived, MessageSent, ProcessCreated, SyscallExit
from kobs.recording import open_recording
from kobs.session import Session

from .conftest import SECOND, Kobs, _exit


class TestHeader:
    def test_says_what_ran_and_how_it_ended(self, command: Kobs, session: Session) -> None:
        said = command("report", session.path)
        assert said.code == 0
        assert "python shop.py --fast" in said.out
        assert "exit code 3" in said.out
        assert session.path in said.out
        assert f"23 events of 1 process, {select().name} core" in said.out

    def test_is_about_the_latest_session_where_none_is_named(
        self, command: Kobs, session: Session, quiet_session: Session
    ) -> None:
        assert "quiet.py" in command("report").out

    def test_finds_a_session_by_the_beginning_of_its_name(
        self, command: Kobs, session: Session
    ) -> None:
        assert "shop.py" in command("report", Path(session.path).name[:20]).out

    def test_finds_a_session_by_the_id_that_ends_its_name(
        self, command: Kobs, session: Session, quiet_session: Session
    ) -> None:
        assert "shop.py" in command("report", session.path[-6:]).out

    def test_is_about_one_recording_where_its_file_is_named(
        self, command: Kobs, session: Session
    ) -> None:
        said = command("report", session.recordings()[0])
        assert said.code == 0
        assert "23 events of 1 process" in said.out


class TestNotSeen:
    def test_is_said_before_anything_else(self, command: Kobs, session: Session) -> None:
        first = command("report", session.path).lines[0]
        assert first == "!! not everything was seen"

    def test_counts_what_was_overwritten_by_recording(self, command: Kobs, tmp_path: Path) -> None:
        made = Session.create("flood", ["flood"])
        for _ in range(2):
            with Collector(session=made, size=16) as collector:
                for _ in range(100):
                    collector.emit(_exit("read", 1.0))
        said = command("report", made.path)
        assert said.lines[0] == "!! 168 events lost"
        assert said.lines[1].startswith("!!   168 overwritten")
        assert "in recording 1" in said.lines[2]
        assert "84 overwritten" in said.lines[3]
        found = command("report", "--json", made.path).json
        assert found["complete"] is False
        assert found["losses"]["total"] == 168
        assert [row["overwritten"] for row in found["losses"]["by_recording"]] == [84, 84]

    def test_says_that_nothing_was_lost_where_nothing_was(
        self, command: Kobs, quiet_session: Session
    ) -> None:
        said = command("report", quiet_session.path)
        assert said.lines[0].startswith("kobs report")
        assert "lost      nothing" in said.out
        assert command("report", "--json", quiet_session.path).json["complete"] is True

    def test_what_was_left_out_on_purpose_is_told_without_alarm(
        self, command: Kobs, tmp_path: Path
    ) -> None:
        with Collector(path=tmp_path / "a.kobs", size=64, sampling=0) as collector:
            collector.emit(_exit("read", 1.0))
        said = command("report", tmp_path / "a.kobs")
        assert said.lines[0].startswith("kobs report")
        assert "left out  1 sampled out" in said.out

    def test_a_truncated_file_gives_what_is_left_and_says_so(
        self, command: Kobs, quiet_session: Session
    ) -> None:
        path = Path(quiet_session.recordings()[0])
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size - 4096)
        said = command("report", path)
        assert said.code == 0
        assert said.lines[0].startswith("!! damaged")
        assert "truncated" in said.lines[1]

    def test_a_bad_file_in_a_session_is_named_and_the_rest_reported(
        self, command: Kobs, quiet_session: Session
    ) -> None:
        Path(quiet_session.path, "00002-99.kobs").write_bytes(b"garbage" * 1000)
        said = command("report", quiet_session.path)
        assert said.code == 0
        assert "00002-99.kobs: not a kobs recording" in said.out
        assert "3 events of 1 process" in said.out


class TestTables:
    def test_events_by_category_and_severity(self, command: Kobs, session: Session) -> None:
        said = command("report", session.path)
        rows = {line.split()[0]: line.split() for line in said.lines if line.startswith("  ")}
        assert rows["category"] == ["category", "DEBUG", "WARN", "all"]
        assert rows["ipc"] == ["ipc", "6", "·", "6"]
        assert rows["security"] == ["security", "·", "1", "1"]
        assert rows["all"] == ["all", "21", "2", "23"]

    def test_operations_by_name_with_percentiles_and_failures(
        self, command: Kobs, session: Session
    ) -> None:
        found = command("report", "--json", session.path).json["operations"]
        by_name = {row["name"] or row["type"]: row for row in found}
        assert [row["name"] for row in found][:3] == ["request", "write", "read"]
        assert by_name["write"]["count"] == 3
        assert by_name["write"]["errors"] == 3
        assert by_name["write"]["p50_us"] == by_name["write"]["p99_us"] == 300.0
        assert by_name["FileOpened"]["count"] == 3  # not an operation a path
        assert "300 µs" in command("report", session.path).out

    def test_percentiles_are_of_all_values(self, command: Kobs, tmp_path: Path) -> None:
        with Collector(path=tmp_path / "a.kobs", size=1024) as collector:
            for number in range(101):
                collector.emit(_exit("read", float(number)))
        row = command("report", "--json", tmp_path / "a.kobs").json["operations"][0]
        assert (row["p50_us"], row["p95_us"], row["p99_us"]) == (50.0, 95.0, 99.0)
        assert (row["max_us"], row["total_us"]) == (100.0, 5050.0)

    def test_warnings_with_an_example(self, command: Kobs, session: Session) -> None:
        said = command("report", session.path)
        assert "PermissionDenied  operation=open required=root" in said.out

    def test_anomalies_with_what_was_expected(self, command: Kobs, session: Session) -> None:
        line = next(line for line in command("report", session.path).lines if "+8.5 sd" in line)
        assert line.split()[:5] == ["read.duration_us", "900", "µs", "100", "µs"]

    def test_top_limits_the_rows(self, command: Kobs, session: Session) -> None:
        said = command("report", "--top", 1, session.path)
        assert "(1 of 4, by p99)" in said.out
        assert "\n  write" not in said.out


class TestProcesses:
    def test_are_a_tree_with_unobserved_children(self, command: Kobs, session: Session) -> None:
        lines = command("report", session.path).lines
        at = lines.index("Processes")
        assert "exit code 3" in lines[at + 1]
        assert lines[at + 2] == "  └ 4711  true -x  not observed: not a Python program"

    def test_a_killed_child_hangs_below_its_parent(
        self, command: Kobs, killed_session: Session
    ) -> None:
        said = command("report", killed_session.path)
        line = next(line for line in said.lines if line.startswith("  └ "))
        assert str(killed_session.info["child"]) in line
        assert "ended by signal 9 (SIGKILL)" in line

    def test_what_a_killed_process_had_begun_is_listed(
        self, command: Kobs, killed_session: Session
    ) -> None:
        said = command("report", killed_session.path)
        assert "In flight when it ended" in said.out
        entry = command("report", "--json", killed_session.path).json["in_flight"][0]
        assert (entry["type"], entry["name"]) == ("SyscallEnter", "flock")
        assert entry["pid"] == killed_session.info["child"]
        assert entry["age_us"] > 0, "it was open until the process was gone"


class TestChain:
    def test_the_longest_is_drawn_from_cause_to_effect(
        self, command: Kobs, session: Session
    ) -> None:
        lines = command("report", session.path).lines
        at = next(i for i, line in enumerate(lines) if line.startswith("Longest causal chain"))
        assert "3 steps, 7 events, 1 process" in lines[at]
        drawn = [line.split("  +")[0] for line in lines[at + 1 :]]
        assert drawn == [
            "  request",
            "  ├ read",
            "  ├ write",
            "  └ MessageSent jobs",
            "    └ → MessageReceived jobs",
            "      └ FileOpened 0.txt",
        ]
        assert "took 800 µs" in lines[at + 1]
        assert "thread 2" in lines[at + 5]

    def test_without_causes_that_is_said(self, command: Kobs, quiet_session: Session) -> None:
        said = command("report", quiet_session.path)
        assert "no event caused another" in said.out
        assert command("report", "--json", quiet_session.path).json["chain"] is None

    def test_crosses_processes_even_where_the_send_was_recorded_late(self, tmp_path: Path) -> None:
        made = Session.create("two", ["two"])
        sender = Collector(session=made, size=64)
        receiver = Collector(session=made, size=64)
        root = sender.emit(ProcessCreated(name="x"), timestamp_ns=10)
        got = receiver.emit(MessageReceived(queue_id="q"), link=5, timestamp_ns=20)
        receiver.emit(_exit("read", 1.0), parent=got, timestamp_ns=30)
        sender.emit(MessageSent(queue_id="q"), link=5, parent=root, timestamp_ns=25)
        sender.close()
        receiver.close()
        with open_recording(made) as recording:
            found = build(recording)["chain"]
        assert found["steps"] == 3
        assert found["recordings"] == [1, 2]

    def test_a_long_one_fits_the_page(self, command: Kobs, tmp_path: Path) -> None:
        with Collector(path=tmp_path / "a.kobs", size=1024) as collector:
            parent = 0
            for number in range(500):
                parent = collector.emit(_exit("step", number), parent=parent)
                for _ in range(3 if number % 100 == 0 else 0):
                    collector.emit(_exit("aside", 1.0), parent=parent)
        said = command("report", tmp_path / "a.kobs")
        drawn = said.out.split("Longest causal chain")[1].splitlines()
        assert "499 steps" in drawn[0]
        assert any("482 steps more" in line for line in drawn)
        assert any("x3" in line for line in drawn)
        assert len(drawn) < 30
        assert max(map(len, drawn)) <= 100

    def test_circles_of_a_damaged_recording_are_cut(self) -> None:
        chains = Chains()
        for number, parent in ((1, 3), (2, 1), (3, 2), (4, 3)):
            event = Event(Severity.INFO, Category.IPC, MessageSent(queue_id="q"), parent=parent)
            object.__setattr__(event, "id", (1 << 44) | number)
            object.__setattr__(event, "parent", (1 << 44) | parent)
            chains.see(event)
        found = chains.longest()
        assert found is not None
        assert [event & 0xFF for event in found.path] == [2, 3, 1]

    def test_a_scope_is_one_step(self, tmp_path: Path) -> None:
        from kobs.payloads import SpanBegan, SpanEnded

        with Collector(path=tmp_path / "a.kobs", size=64) as collector:
            scope = collector.emit_begin(SpanBegan(name="outer"))
            collector.emit_end(scope, SpanEnded(name="outer", duration_us=5.0))
            open_scope = collector.emit_begin(SpanBegan(name="open"), parent=scope.event)
            assert open_scope.event
        with open_recording(tmp_path / "a.kobs") as recording:
            found = build(recording)["chain"]
        assert [node["name"] for node in found["nodes"]] == ["outer", "open"]
        assert found["nodes"][0]["duration_us"] == 5.0
        assert found["nodes"][1]["open"] is True


class TestShape:
    def test_json_has_every_promised_key(self, command: Kobs, session: Session) -> None:
        from kobs.cli import report

        found = command("report", "--json", session.path).json
        for key in found:
            assert f"    {key} " in (report.__doc__ or ""), f"{key} is not described"
        assert list(found) == [
            "version", "session", "complete", "losses", "killed", "unobserved", "events",
            "operations", "problems", "processes", "anomalies", "in_flight", "tests", "chain",
        ]  # fmt: skip
        assert found["version"] == 1
        assert found["session"]["exit_code"] == 3
        assert found["session"]["core"] == [select().name]
        assert found["unobserved"] == [
            {"pid": 4711, "argv": ["/bin/true", "-x"], "reason": "not a Python program"}
        ]

    def test_text_fits_80_columns(self, command: Kobs, session: Session) -> None:
        for line in command("report", session.path).lines:
            assert len(line) <= 80 or session.path in line, line

    def test_control_characters_never_reach_the_terminal(
        self, command: Kobs, tmp_path: Path
    ) -> None:
        with Collector(path=tmp_path / "a.kobs", size=64) as collector:
            collector.emit(
                SyscallExit(name="\x1b[31mred\nline", duration_us=1.0, result=_exit("a", 1).result)
            )
        said = command("report", tmp_path / "a.kobs")
        assert "\x1b" not in said.out
        assert "\\x1b[31mred\\nline" in said.out

    def test_a_payload_that_is_not_a_number_is_still_json(
        self, command: Kobs, tmp_path: Path
    ) -> None:
        with Collector(path=tmp_path / "a.kobs", size=64) as collector:
            collector.emit(_exit("odd", float("inf")))
            collector.emit(_exit("odd", float("nan")))
        said = command("report", "--json", tmp_path / "a.kobs")
        assert said.code == 0
        assert said.json["events"]["count"] == 2

    def test_an_empty_session_is_reported_as_empty(self, command: Kobs) -> None:
        made = Session.create("empty", ["empty"])
        said = command("report", made.path)
        assert said.code == 0
        assert "0 events of 0 processes" in said.out
        assert "none was recorded" in said.out
        assert command("report", "--json", made.path).json["events"]["count"] == 0


def test_every_cause_of_loss_is_explained() -> None:
    from kobs._core.contract import LossCounts

    assert set(report_page.CAUSES) == set(LossCounts._fields)


def test_times_of_a_chain_are_relative_to_its_root(command: Kobs, session: Session) -> None:
    nodes = command("report", "--json", session.path).json["chain"]["nodes"]
    received = next(node for node in nodes if node["type"] == "MessageReceived")
    assert received["offset_us"] == 1000.0
    assert SECOND == 1_000_000_000


@pytest.mark.parametrize(
    ("kind", "name", "label"),
    [
        ("SyscallExit", "read", "read"),
        ("MessageSent", "jobs", "MessageSent jobs"),
        ("GcPaused", None, "GcPaused"),
    ],
)
def test_labels(kind: str, name: str | None, label: str) -> None:
    assert chain.label(kind, name) == label
