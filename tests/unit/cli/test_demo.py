"""`kobs demo`: a program that knows nothing of kobs, recorded and reported."""

import json
from pathlib import Path

from .conftest import Kobs


def test_shows_what_the_example_did(command: Kobs) -> None:
    said = command("demo")
    assert said.code == 0, said.err
    assert "12 jobs done" in said.out
    assert "kobs report" in said.out
    assert "FileOpened" in said.out
    assert any(line.split()[:1] == ["ipc"] for line in said.out.splitlines()), "its queue"
    assert "Next: kobs run" in said.out


def test_keeps_the_session_where_asked(command: Kobs, tmp_path: Path) -> None:
    said = command("demo", "--json", "-o", tmp_path / "session")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["session"]["exit_code"] == 0
    assert len({row["pid"] for row in found["processes"]}) == 2
    assert command("report", tmp_path / "session").code == 0
