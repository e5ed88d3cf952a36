"""`kobs recover`: what a killed process left behind."""

from pathlib import Path

from kobs.session import Session

from .conftest import Kobs


def test_lists_what_was_in_flight_and_the_last_events(
    command: Kobs, killed_session: Session
) -> None:
    said = command("recover", killed_session.path)
    assert said.code == 0
    child = killed_session.info["child"]
    assert any(line.startswith(f"process {child}  (killed") for line in said.lines)
    assert any(line.split()[:2] == ["flock", "SyscallEnter"] for line in said.lines)
    assert "last 2 events" in said.out
    assert said.lines[-1].endswith("SyscallEnter {  name=flock args_hash=0")
    assert len([line for line in said.lines if line.startswith("process ")]) == 1


def test_json(command: Kobs, killed_session: Session) -> None:
    [row] = command("recover", "--json", killed_session.path).json["processes"]
    assert row["pid"] == killed_session.info["child"]
    assert row["state"] == "killed"
    assert row["exit_code"] == -9
    assert [entry["name"] for entry in row["in_flight"]] == ["flock"]
    assert [event["type"] for event in row["last"]] == ["SyscallExit", "SyscallEnter"]


def test_last_limits_the_events(command: Kobs, killed_session: Session) -> None:
    [row] = command("recover", "--last", 1, "--json", killed_session.path).json["processes"]
    assert len(row["last"]) == 1


def test_all_shows_processes_that_ended_in_order(command: Kobs, killed_session: Session) -> None:
    found = command("recover", "--all", "--json", killed_session.path).json
    assert [row["state"] for row in found["processes"]] == ["exited", "killed"]


def test_nothing_to_recover_is_said(command: Kobs, quiet_session: Session) -> None:
    said = command("recover", quiet_session.path)
    assert said.code == 0
    assert said.out.startswith("every recorded process ended in order")


def test_damage_is_said_first(command: Kobs, killed_session: Session) -> None:
    path = Path(killed_session.recordings()[1])
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 200)
    said = command("recover", killed_session.path)
    assert said.code == 0
    assert said.lines[0].startswith("!! damaged")
