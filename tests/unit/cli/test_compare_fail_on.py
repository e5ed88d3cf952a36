"""`kobs compare --fail-on`: a check, that fails on a difference and on what is not known."""

import json
from pathlib import Path

import pytest

from kobs._core import select
from kobs.collector import Collector
from kobs.context import origin
from kobs.payloads import (
    FileOpened,
    MessageReceived,
    MessageSent,
    NetworkError,
    ProcessTerminated,
    SpanEnded,
)
from kobs.session import Session
from kobs_pytest.capture.boundaries import TestBegan, TestEnded

from .conftest import Kobs


def recording(path: Path, *, file: str = "a", times: int = 30, us: float = 100.0) -> Path:
    """A message, what it led to, and spans."""
    with Collector(path=path, size=256) as collector:
        collector.emit(MessageSent("jobs-1"), link=5)
        received = collector.emit(MessageReceived("jobs-1"), link=5)
        collector.emit(FileOpened(file, "w"), parent=received)
        for _ in range(times):
            collector.emit(SpanEnded("parse", us))
    return path


def session(root: Path, **tests: str) -> Path:
    """A session as pytest records it: of each test, the file that its call opens."""
    made = Session.create("pytest", ["pytest"], root=root, cwd=str(root))
    with Collector(session=made, size=256) as collector:
        for number, (test, file) in enumerate(tests.items(), 1):
            name = f"test_it.py::{test}"
            base = f"abc123.{number}.1"
            with_origin(base, lambda name=name: collector.emit(TestBegan(name)))
            with_origin(base + "s", lambda: collector.emit(FileOpened("setup", "w")))
            with_origin(base + "c", lambda file=file: collector.emit(FileOpened(file, "w")))
            with_origin(base, lambda name=name: collector.emit(TestEnded(name, "passed")))
    return Path(made.path)


def with_origin(key, emit):
    origin.used[0] = True
    before = origin.get()
    origin.set(key)
    try:
        emit()
    finally:
        origin.set(before)


def baseline(path: Path, text: str, *, core: str = "") -> Path:
    path.write_text(
        f"kobs-baseline 1\nrecorded core={core or select().name} watches=default\n\n{text}"
    )
    return path


def told(said) -> str:
    """What is printed below the tables of every comparison."""
    return said.out[said.out.rindex("\nDurations") :].split("\n\n", 1)[-1]


class TestTwoRecordings:
    def test_that_are_the_same_pass(self, command: Kobs, tmp_path: Path) -> None:
        a, b = recording(tmp_path / "a.kobs"), recording(tmp_path / "b.kobs", us=110.0)
        said = command("compare", a, b, "--fail-on", "counts,shapes,errors,new-types,durations:2x")
        assert said.code == 0
        assert said.lines[-1] == "no difference"

    def test_are_compared_by_what_led_to_what(self, command: Kobs, tmp_path: Path) -> None:
        a, b = recording(tmp_path / "a.kobs"), recording(tmp_path / "b.kobs", file="z", times=31)
        said = command("compare", a, b, "--fail-on", "shapes,counts")
        assert said.code == 1
        assert told(said) == (
            "Numbers of events of stable types  (- A, + B)\n"
            "  - 30 SpanEnded\n"
            "  + 31 SpanEnded\n"
            "\n"
            "What led to what  (- A, + B)\n"
            "  - 1 MessageSent > MessageReceived > FileOpened(path='a', mode='w')\n"
            "  + 1 MessageSent > MessageReceived > FileOpened(path='z', mode='w')\n"
            "  - 30 SpanEnded(name='parse')\n"
            "  + 31 SpanEnded(name='parse')\n"
        )
        assert command("compare", a, b).code == 0
        assert command("compare", a, b, "--fail-on", "new-types").code == 0

    def test_by_errors_and_types(self, command: Kobs, tmp_path: Path) -> None:
        a, b = tmp_path / "a.kobs", tmp_path / "b.kobs"
        for path, fails in ((a, 1), (b, 2)):
            with Collector(path=path, size=64) as collector:
                for _ in range(fails):
                    collector.emit(ProcessTerminated(3))
                collector.emit(ProcessTerminated(0))
                if fails == 2:
                    collector.emit(NetworkError("gone"))
        said = command("compare", a, b, "--fail-on", "errors,new-types", "--json")
        assert said.code == 1
        assert [(f["kind"], f["about"], f["a"], f["b"]) for f in said.json["findings"]] == [
            ("errors", "NetworkError(error='gone')", 0, 1),
            ("errors", "ProcessTerminated(exit_code=3)", 1, 2),
            ("new-types", "NetworkError", 0, 1),
        ]
        assert command("compare", b, a, "--fail-on", "errors,new-types").code == 0

    def test_by_durations_with_samples_enough(self, command: Kobs, tmp_path: Path) -> None:
        a, b = recording(tmp_path / "a.kobs"), recording(tmp_path / "b.kobs", us=180.0)
        said = command("compare", a, b, "--fail-on", "durations:1.5x")
        assert said.code == 1
        assert told(said) == (
            "Slower medians  (- A, + B)\n  - 100 µs SpanEnded parse\n  + 180 µs SpanEnded parse\n"
        )
        assert command("compare", a, b, "--fail-on", "durations:2x").code == 0
        assert command("compare", b, a, "--fail-on", "durations:1.5").code == 0
        said = command("compare", a, b, "--fail-on", "durations:1.5x:31")
        assert said.code == 1
        assert told(said) == (
            "!! inconclusive: there may be more, or less\n"
            "!!   no operation has 31 durations on both sides: nothing is compared\n"
        )

    def test_that_lack_events_are_inconclusive(self, command: Kobs, tmp_path: Path) -> None:
        a = recording(tmp_path / "a.kobs")
        with Collector(path=tmp_path / "b.kobs", size=16) as collector:
            for _ in range(100):
                collector.emit(SpanEnded("parse", 1.0))
        said = command("compare", a, a, "--fail-on", "shapes")
        assert said.code == 0
        said = command("compare", tmp_path / "b.kobs", tmp_path / "b.kobs", "--fail-on", "shapes",
                       "--json")  # fmt: skip
        assert said.code == 1
        assert said.json["findings"] == []
        assert [reason.split(": ")[0] for reason in said.json["inconclusive"]] == ["A", "B"]
        assert "overwritten" in said.json["inconclusive"][0]


class TestSessionsOfTests:
    def test_are_compared_test_by_test(self, command: Kobs, tmp_path: Path) -> None:
        a = session(tmp_path, test_a="a", test_b="b", test_old="x")
        b = session(tmp_path, test_b="z", test_a="a", test_new="y")
        said = command("compare", a, b, "--fail-on", "shapes")
        assert said.code == 1
        assert told(said) == (
            "What led to what  (- A, + B)\n"
            "  test_it.py::test_b\n"
            "  - 1 FileOpened(path='b', mode='w')\n"
            "  + 1 FileOpened(path='z', mode='w')\n"
            "\n"
            "Not compared\n"
            "  1 test only in A: test_it.py::test_old\n"
            "  1 test only in B: test_it.py::test_new\n"
        )

    def test_that_have_none_in_common_are_inconclusive(self, command: Kobs, tmp_path: Path) -> None:
        a, b = session(tmp_path, test_a="a"), session(tmp_path, test_b="b")
        said = command("compare", a, b, "--fail-on", "shapes")
        assert said.code == 1
        assert "no test is on both sides and confirmed: nothing is compared" in said.out


class TestABaseline:
    TEXT = (
        "test confirmed test_it.py::test_a\n  1 FileOpened(path='a', mode='w')\n\n"
        "test confirmed test_it.py::test_b\n  ~ FileOpened(...)\n\n"
        "test candidate test_it.py::test_c\n  1 FileOpened(path='x', mode='w')\n"
    )

    def test_is_compared_with_a_session(self, command: Kobs, tmp_path: Path) -> None:
        file = baseline(tmp_path / "it.baseline", self.TEXT)
        same = session(tmp_path, test_a="a", test_b="any", test_c="c")
        said = command("compare", file, same, "--fail-on", "counts,shapes")
        assert said.code == 0
        assert said.out == (
            "\nNot compared\n  1 test seen in one run only: test_it.py::test_c\n\nno difference\n"
        )
        other = session(tmp_path, test_a="b", test_b="any")
        for sides, was, now in (((file, other), "a", "b"), ((other, file), "b", "a")):
            said = command("compare", *sides, "--fail-on", "shapes", "--json")
            assert said.code == 1
            assert said.json["findings"] == [
                {"kind": "shapes", "test": "test_it.py::test_a",
                 "about": f"FileOpened(path='{name}', mode='w')", "a": a, "b": 1 - a}
                for name, a in sorted(((was, 1), (now, 0)))
            ]  # fmt: skip
        said = command("compare", file, other)
        assert said.code == 0
        assert "- 1 FileOpened(path='a', mode='w')" in said.out

    def test_is_compared_with_another(self, command: Kobs, tmp_path: Path) -> None:
        one = baseline(tmp_path / "one", self.TEXT)
        other = baseline(tmp_path / "other", self.TEXT.replace("1 FileOpened(path='a'", "2 X("))
        assert command("compare", one, one, "--fail-on", "shapes").code == 0
        assert command("compare", one, other, "--fail-on", "shapes").code == 1

    def test_of_another_core_is_inconclusive(self, command: Kobs, tmp_path: Path) -> None:
        file = baseline(tmp_path / "it.baseline", self.TEXT, core="other")
        said = command("compare", file, session(tmp_path, test_a="a"), "--fail-on", "shapes")
        assert said.code == 1
        assert "they see other events" in said.out.replace("\n!!    ", "")

    def test_holds_shapes_only(self, command: Kobs, tmp_path: Path) -> None:
        file = baseline(tmp_path / "it.baseline", self.TEXT)
        said = command("compare", file, file, "--fail-on", "errors")
        assert said.code == 2
        assert f"--fail-on errors: {file} is a baseline, which can be compared by" in said.err

    def test_needs_tests_on_the_other_side(self, command: Kobs, tmp_path: Path) -> None:
        file = baseline(tmp_path / "it.baseline", self.TEXT)
        said = command("compare", file, recording(tmp_path / "a.kobs"), "--fail-on", "shapes")
        assert said.code == 2
        assert "holds no tests, which the baseline" in said.err

    def test_that_is_not_understood_is_refused(self, command: Kobs, tmp_path: Path) -> None:
        file = baseline(tmp_path / "it.baseline", "test sure x\n")
        said = command("compare", file, file)
        assert (said.code, said.out) == (1, "")
        assert f"{file}, line 4: expected `test confirmed NAME`" in said.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("speed", "--fail-on speed: expected counts, shapes, errors, new-types, durations:1.5x"),
        ("shapes,durations", "--fail-on durations: expected the factor that medians may grow by"),
        ("durations:1x", "--fail-on durations:1x: expected the factor"),
        ("durations:2x:1", "--fail-on durations:2x:1: expected the factor"),
        (",", "--fail-on ',': expected one of counts, shapes"),
    ],
)
def test_what_is_not_understood_is_refused(
    command: Kobs, tmp_path: Path, given: str, message: str
) -> None:
    said = command("compare", tmp_path / "a", tmp_path / "b", "--fail-on", given)
    assert (said.code, said.out) == (2, "")
    assert message in said.err


def test_json_of_a_comparison_has_what_it_had(command: Kobs, tmp_path: Path) -> None:
    a = recording(tmp_path / "a.kobs")
    plain = command("compare", a, a, "--json").json
    checked = command("compare", a, a, "--json", "--fail-on", "shapes").json
    assert checked.keys() - plain.keys() == {"findings", "inconclusive", "unmatched"}
    assert json.dumps(plain["types"]) == json.dumps(checked["types"])
