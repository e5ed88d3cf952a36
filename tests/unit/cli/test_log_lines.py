"""Log records in `kobs query`, `tail`, `report`, `recover` and `export`."""

import json
import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kobs.collector import Collector
from kobs.session import Session
from kobs.tracing.logs import KobsLogHandler

from .conftest import Kobs

LONG = "no such thing: " + "é" * 100


@pytest.fixture
def logged() -> Session:
    """A session whose program logged."""
    made = Session.create("logged", ["logged"])
    with Collector(session=made, size=256) as collector:
        handler = KobsLogHandler(collector=collector)
        log = logging.Logger("shop")
        log.addHandler(handler)
        log.info("packed %s", "apples", extra={"customer": 42, "who": "a b"})
        log.warning("only %d left", 3)
        try:
            raise KeyError("gone")
        except KeyError:
            log.exception(LONG)
        handler.close()
    made.write_exit(0)
    return made


def told(lines: list[str]) -> list[str]:
    """Lines from the type on, without times and line numbers."""
    return [line[line.index("LogRecorded") :] if "LogRecorded" in line else line for line in lines]


def test_a_query_shows_fields_and_stack(command: Kobs, logged: Session) -> None:
    lines = told(command("query", logged.path).lines)
    assert lines[0].startswith(
        "LogRecorded  shop: packed apples customer=42 who='a b'  (test_log_lines.py:"
    )
    assert lines[1].startswith("LogRecorded  shop: only 3 left  (test_log_lines.py:")
    assert lines[2].startswith(f"LogRecorded  shop: {LONG} exception.type=KeyError")
    assert "(cut)" not in lines[2]
    assert lines[3] == "    Traceback (most recent call last):"
    assert lines[-2] == "    KeyError: 'gone'"
    assert not any("LogAttributes" in line for line in lines)


def test_conditions_leave_the_fields_with_their_record(command: Kobs, logged: Session) -> None:
    for arguments in (["query"], ["tail", "--idle", "0"]):
        lines = told(command(*arguments, logged.path, "--severity", "error").lines)
        assert lines[0].startswith(f"LogRecorded  shop: {LONG} exception.type=KeyError")
        assert "    KeyError: 'gone'" in lines


def test_parts_that_are_asked_for_are_shown(command: Kobs, logged: Session) -> None:
    (line,) = [
        line
        for line in command("query", logged.path, "--type", "LogAttributes").lines
        if "customer" in line
    ]
    assert """data='{"customer":42,"who":"a b"}'""" in line


def test_tail_counts_records(command: Kobs, logged: Session) -> None:
    lines = told(command("tail", logged.path, "--idle", "0", "-n", "3").lines)
    assert [line for line in lines if line.startswith("LogRecorded")] == [
        line for line in lines if line[:1] != " "
    ]
    assert len([line for line in lines if line[:1] != " "]) == 3
    raw = command("tail", logged.path, "--idle", "0", "-n", "all", "--json").lines
    kinds = [json.loads(line)["type"] for line in raw]
    assert kinds.count("LogRecorded") == 3
    assert "LogAttributes" in kinds


def test_a_report_shows_the_worst(command: Kobs, logged: Session) -> None:
    report = command("report", logged.path).out
    assert "LogRecorded  shop: no such thing:" in report
    (problem,) = command("report", logged.path, "--json").json["problems"]
    assert (problem["severity"], problem["name"], problem["count"]) == ("ERROR", "shop", 2)


def test_json_lines_have_them(command: Kobs, logged: Session, tmp_path: Path) -> None:
    command("export", logged.path, "--to", "jsonl", "-o", tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    packed = next(line["payload"] for line in lines if line["type"] == "LogRecorded")
    assert packed["message"] == "packed apples"
    (part,) = [
        line["payload"] for line in lines if line["payload"].get("record") == packed["overflow"]
    ]
    assert json.loads(part["data"]) == {"customer": 42, "who": "a b"}


def test_what_a_killed_program_logged_last_is_recovered(command: Kobs, tmp_path: Path) -> None:
    program = """
        import logging, os, signal, sys
        from kobs import Collector, init_collector, init_tracing

        init_collector(Collector(size=64, path=sys.argv[1]))
        init_tracing()
        logging.getLogger("shop").error("going down", extra={"rows": 3})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    path = tmp_path / "a.kobs"
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path)],
        check=False, capture_output=True, timeout=60,
    )  # fmt: skip
    out = command("recover", path, "--last", "1").out
    assert "LogRecorded  shop: going down rows=3" in out
