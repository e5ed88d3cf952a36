"""What a child's environment says, and what a command line says of the program."""

import os
import sys
from pathlib import Path

import pytest

from kobs.context import Cause
from kobs_instrumentation import propagate
from kobs_instrumentation.propagate import cause_from, parse_traceparent, program_name

OURS = "/somewhere/kobs_instrumentation/inject"


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"PYTHONPATH": OURS}, {}),
        ({"PYTHONPATH": OURS, "KOBS_PYTHONPATH": ""}, {"PYTHONPATH": ""}),
        ({"PYTHONPATH": f"{OURS}:/a:/b", "KOBS_PYTHONPATH": "/a:/b"}, {"PYTHONPATH": "/a:/b"}),
        # changed by a shell on the way
        ({"PYTHONPATH": f"/x:{OURS}:/a", "KOBS_PYTHONPATH": "/a"}, {"PYTHONPATH": "/x:/a"}),
        ({"PYTHONPATH": f"/x:{OURS}"}, {"PYTHONPATH": "/x"}),
        ({"PYTHONPATH": "/x", "KOBS_PYTHONPATH": "/a"}, {"PYTHONPATH": "/x"}),
        ({"KOBS_SESSION": "s", "KOBS_LINK": "1", "KOBS_PARENT": "2", "HOME": "/"}, {"HOME": "/"}),
        ({"TRACEPARENT": "t", "KOBS_ADDED_TRACEPARENT": "t"}, {}),
        ({"TRACEPARENT": "mine", "KOBS_ADDED_TRACEPARENT": "t"}, {"TRACEPARENT": "mine"}),
        ({"TRACEPARENT": "mine", "KOBS_TRACEPARENT": "mine"}, {"TRACEPARENT": "mine"}),
        ({"KOBS_CORE": "python", "KERNEL_LOG": "debug"}, None),
        ({}, {}),
    ],
)
def test_hide_leaves_what_the_program_would_have(
    given: dict[str, str], left: dict[str, str] | None
) -> None:
    env = {os.fsencode(k): os.fsencode(v) for k, v in given.items()}
    propagate.hide(env)
    expected = given if left is None else left
    assert env == {os.fsencode(k): os.fsencode(v) for k, v in expected.items()}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-abc-def-01",
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        f"ff-{'1' * 32}-{'1' * 16}-01",
        f"00-{'A' * 32}-{'1' * 16}-01",
        f"00-{'g' * 32}-{'1' * 16}-01",
    ],
)
def test_what_is_no_traceparent_is_none(text: str) -> None:
    assert parse_traceparent(text) is None
    assert cause_from({}, text, 1) is None


def test_the_cause_of_a_child() -> None:
    own = cause_from(
        {"KOBS_PARENT": "2a", "KOBS_TRACEPARENT": f"00-{9:016x}{7:016x}-{5:016x}-00"}, "", 9
    )
    assert own == Cause(7, 42, 5, False, 0)
    foreign = cause_from({}, f"00-{8:016x}{7:016x}-{5:016x}-00", 9)
    assert foreign == Cause(7, 0, 5, True, 8)
    assert cause_from({"KOBS_PARENT": "2a"}, "", 9) == Cause(0, 42)
    assert cause_from({"KOBS_PARENT": "nonsense"}, "", 9) is None


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/bin/ls", "-l"], "ls"),
        (["python3", "-u", "-X", "dev", "dir/app.py", "-m"], "app.py"),
        (["/usr/bin/python3.12", "-Wd", "-m", "http.server", "80"], "http.server"),
        (["python", "-c", "pass"], "python -c"),
        (["python"], "python"),
        (
            ["python", "-Bc", "from multiprocessing.spawn import spawn_main; spawn_main()"],
            "multiprocessing.spawn",
        ),
        (["python-config"], "python-config"),
        ([], "?"),
    ],
)
def test_the_name_of_a_program(argv: list[str], name: str) -> None:
    assert program_name([os.fsencode(word) for word in argv]) == name


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["-I"], "-I"), (["-BIc", "pass"], "-I"), (["-E", "-m", "x"], "-E"), (["-sS"], "-S"),
        (["-X", "importtime", "-S"], "-S"), (["-W", "S", "x.py", "-S"], ""), (["-cS"], ""),
        (["-m", "x", "-I"], ""), ([], ""),
    ],
)  # fmt: skip
def test_why_a_python_is_not_observed(flags: list[str], word: str) -> None:
    argv = [os.fsencode(part) for part in [sys.executable, *flags]]
    reason = propagate.why_unobserved(sys.executable, argv)
    assert (word in reason) if word else reason == ""


def test_a_script_is_what_its_first_line_says(tmp_path: Path) -> None:
    for name, line, expected in [
        ("a", f"#!{sys.executable}", ""),
        ("b", "#!/usr/bin/env python3", ""),
        ("c", f"#! {sys.executable} -I", "-I"),
        ("d", "#!/bin/sh", "not Python"),
        ("e", "\x7fELF", "not Python"),
    ]:
        (tmp_path / name).write_text(line + "\n")
        reason = propagate.why_unobserved(str(tmp_path / name), [os.fsencode(name)])
        assert (expected in reason) if expected else reason == "", line


def test_the_c_environment_has_what_os_environ_hides() -> None:
    os.putenv("KOBS_TEST_HIDDEN", "1")
    try:
        assert "KOBS_TEST_HIDDEN" not in os.environ
        found = propagate.c_environment()
        assert found[b"KOBS_TEST_HIDDEN"] == b"1"
        assert all(found[name] == value for name, value in os.environb.items())
    finally:
        os.unsetenv("KOBS_TEST_HIDDEN")


def test_a_sender_is_known_once() -> None:
    item = object()
    propagate.remember_sender(item, Cause(1, 2), "test")
    assert propagate.take_sender(item) == (Cause(1, 2), "test")
    assert propagate.take_sender(item) is None
