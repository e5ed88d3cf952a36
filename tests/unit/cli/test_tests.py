"""Events by the test, the worker and the phase that caused them, in `kobs report` and `query`."""

import pytest

from kobs.collector import Collector
from kobs.context import origin
from kobs.payloads import MessageSent
from kobs.session import Session
from kobs_pytest.capture.boundaries import TestBegan, TestEnded

from .conftest import Kobs


@pytest.fixture
def run() -> str:
    """What two workers recorded: a test that was tried twice, one in two phases, one that did not
    end, a fixture of wider scope, and what was nobody's."""
    made = Session.create("pytest", ["pytest", "-n2"])

    def emit(collector: Collector, key: str, *payloads: object) -> None:
        token = origin.set(key)
        try:
            for payload in payloads:
                collector.emit(payload)  # type: ignore[arg-type]
        finally:
            origin.reset(token)

    with Collector(session=made, size=256) as one, Collector(session=made, size=256) as other:
        for tried, outcome in ((1, "failed"), (2, "passed")):
            base = f"abc123gw0.1.{tried}"
            emit(one, base, TestBegan("tests/test_shop.py::test_buy", tried))
            emit(one, f"{base}c", MessageSent(tried, 1))
            emit(one, base, TestEnded("tests/test_shop.py::test_buy", outcome, tried))
        emit(other, "def456gw1.f1", MessageSent(10, 1))
        emit(other, "def456gw1.1.1", TestBegan("tests/test_shop.py::test_sell[a b]"))
        emit(other, "def456gw1.1.1s", MessageSent(11, 1))
        emit(other, "def456gw1.1.1c", MessageSent(12, 1), MessageSent(13, 1))
        emit(other, "def456gw1.1.1", TestEnded("tests/test_shop.py::test_sell[a b]", "passed"))
        emit(other, "def456gw1.2.1", TestBegan("tests/test_shop.py::test_crash"))
        emit(other, "", MessageSent(14, 1))
        emit(other, "shop.7", MessageSent(15, 1))
    return made.path


def numbers(command: Kobs, session: str, *words: str) -> list[int]:
    found = command("query", session, "--type", "MessageSent", "--json", *words).json
    return [event["payload"]["queue_id"] for event in found["events"]]


def test_query_takes_a_test_by_a_part_of_its_name(command: Kobs, run: str) -> None:
    assert numbers(command, run, "--test", "test_buy") == [1, 2]
    assert numbers(command, run, "--test", "shop.py::test_sell[a b]") == [11, 12, 13]
    assert numbers(command, run, "--test", "buy", "--test", "sell") == [1, 2, 11, 12, 13]
    assert numbers(command, run, "--test", "nobody") == []


def test_query_takes_workers_and_phases(command: Kobs, run: str) -> None:
    assert numbers(command, run, "--worker", "gw0") == [1, 2]
    assert numbers(command, run, "--phase", "setup") == [11]
    assert numbers(command, run, "--phase", "fixture") == [10]
    assert numbers(command, run, "--filter", "test=test_", "phase=call", "worker=gw1") == [12, 13]


def test_an_unknown_phase_is_refused_with_those_there_are(command: Kobs, run: str) -> None:
    said = command("query", run, "--phase", "before")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "kobs: phase 'before' is not known; it is one of setup, call, teardown, fixture\n"
    )


def test_report_lists_the_tests(command: Kobs, run: str) -> None:
    rows = command("report", "--json", run).json["tests"]
    assert [
        (row["nodeid"], row["attempt"], row["worker"], row["outcome"], row["events"])
        for row in rows
    ] == [
        ("tests/test_shop.py::test_buy", 1, "gw0", "failed", 1),
        ("tests/test_shop.py::test_buy", 2, "gw0", "passed", 1),
        ("tests/test_shop.py::test_sell[a b]", 1, "gw1", "passed", 3),
        ("tests/test_shop.py::test_crash", 1, "gw1", None, 0),
    ]
    assert rows[2]["by_phase"] == {"setup": 1, "call": 2}
    assert rows[3]["duration_s"] is None
    said = command("report", run, "--top", 3)
    at = next(n for n, line in enumerate(said.lines) if line.startswith("Tests"))
    text = [" ".join(line.split()[:4]) for line in said.lines[at : at + 5]]
    assert text[0] == "Tests (the 3 busiest"
    assert text[1:3] == [
        "test ended worker events",
        "tests/test_shop.py::test_sell[a b] passed gw1",
    ]
    assert text[3].startswith("tests/test_shop.py::test_buy failed gw0")
    assert text[4].startswith("tests/test_shop.py::test_buy (attempt 2)")


def test_report_says_nothing_of_tests_where_there_are_none(command: Kobs, session: Session) -> None:
    said = command("report", session.path)
    assert not any(line.startswith("Tests") for line in said.lines)
