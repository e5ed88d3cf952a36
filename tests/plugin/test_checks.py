"""Checks have names: each reason for doubt bears one, and can be suppressed by it."""

import pytest

from kobs_pytest import Check

pytest_plugins = ["pytester"]

HEAD = """
import subprocess, sys
import pytest
import kobs as k
from kobs import FileOpened, MessageSent, SyscallExit
from kobs_pytest import Check

def flood(number=500):
    for size in range(number):
        k.global_collector().emit(MessageSent(3, size))

def unobserved():
    subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)
"""


def summary(inner, result, heading):
    """The lines below a heading of the summary."""
    lines = inner.told(result).splitlines()
    start = next(n for n, line in enumerate(lines) if line.strip("= ") == heading) + 1
    end = next(n for n in range(start, len(lines)) if lines[n].startswith("="))
    return lines[start:end]


def test_each_reason_bears_the_name_of_its_check_and_says_what_to_do(inner):
    result = inner(
        HEAD
        + """
def test_overflow(kobs):
    flood()
    kobs.never(FileOpened.like())

def test_child(kobs):
    unobserved()
    kobs.never(MessageSent.like())

def test_closed(kobs):
    kobs.collector.close()
    kobs.never(MessageSent.like())
""",
        "--kobs-size", "64",
        failed=3,
    )  # fmt: skip
    told = " ".join(" ".join(summary(inner, result, "inconclusive")).split())
    assert "[overflow]: --kobs-size, @pytest.mark.kobs(size=...), or read" in told
    assert "[child_not_observed]: start Python without -I, -E, -S, and add to its" in told
    assert "[closed]: leave `kobs.collector` open" in told


def test_a_check_is_suppressed_by_marker_and_the_summary_says_so(inner):
    result = inner(
        HEAD
        + """
@pytest.mark.kobs(suppress=[Check.child_not_observed])
def test_by_member(kobs):
    unobserved()
    kobs.never(MessageSent.like())

@pytest.mark.kobs(suppress="overflow")
def test_by_name(kobs):
    unobserved()
    kobs.never(MessageSent.like())

@pytest.mark.kobs(suppress=[Check.unrecorded_type])
def test_type(kobs):
    kobs.never(SyscallExit.like())
    assert len(kobs.events) == 0

@pytest.mark.kobs(suppress=[Check.sampling, "overflow"], sampling=0, size=64)
def test_several(kobs):
    flood(250)
    assert len(kobs.events) == 0
    flood(250)
    assert len(kobs.events) == 0
""",
        passed=3,
        failed=1,
    )
    told = summary(inner, result, "suppressed")
    assert [line.partition("::")[2] for line in told if "::" in line] == [
        "test_by_member",
        "test_type",
        "test_several",
    ]
    text = " ".join(" ".join(told).split())
    assert "was not observed: Python started with" in text
    assert "[child_not_observed] " in text
    assert "no class that is decorated emits it, and nobody asked" in text
    assert text.count("500 events were left out by sampling [sampling]") == 1
    assert "250 events" not in text


def test_a_suppressed_check_is_told_of_a_failure_too(inner):
    result = inner(
        HEAD
        + """
@pytest.mark.kobs(suppress="child_not_observed")
def test_it(kobs):
    unobserved()
    kobs.expect(FileOpened.like())
""",
        failed=1,
    )
    section = inner.told(result).partition("- Captured kobs call -")[2].replace("\n  ", " ")
    assert "suppressed: child process" in section
    assert summary(inner, result, "suppressed")


@pytest.mark.parametrize("how", ["option", "environment", "ini"])
def test_a_check_is_suppressed_for_a_run(inner, how, monkeypatch):
    names = "child_not_observed,overflow"
    options = []
    if how == "option":
        options = [f"--kobs-suppress={names}"]
        monkeypatch.setenv("KOBS_PYTEST_SUPPRESS", "sampling")
    elif how == "environment":
        options = ["-o", "kobs_suppress=sampling"]
        monkeypatch.setenv("KOBS_PYTEST_SUPPRESS", names)
    else:
        options = ["-o", f"kobs_suppress={names}"]
    inner(
        HEAD
        + """
def test_suppressed(kobs):
    unobserved()
    kobs.never(MessageSent.like())

@pytest.mark.kobs(suppress=[])
def test_a_marker_goes_before(kobs):
    unobserved()
    kobs.never(MessageSent.like())
""",
        *options,
        passed=1,
        failed=1,
    )


def test_a_name_that_is_none_is_refused(inner):
    result = inner(HEAD + "def test_it(kobs): pass\n", "--kobs-suppress=overflown")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--kobs-suppress: there is no check 'overflown' (did you mean 'overflow'?); there are *"]
    )
    result = inner(
        HEAD
        + """
@pytest.mark.kobs(suppress=[Check.overflow, 3])
def test_it(): pass

def test_other(): pass
""",
        errors=1,
        passed=1,
    )
    lines = inner.told(result).splitlines()
    (line,) = [line for line in lines if "there is no check" in line]
    assert line.startswith("@pytest.mark.kobs(suppress=...): there is no check 3; there are closed")


def test_suppressed_and_inconclusive_are_told_under_xdist(inner):
    result = inner(
        HEAD
        + """
@pytest.mark.kobs(suppress=[Check.child_not_observed])
@pytest.mark.kobs_never(MessageSent)
def test_suppressed():
    unobserved()

@pytest.mark.kobs_never(MessageSent)
def test_unsure():
    unobserved()
""",
        "-n", "1", "--junitxml=out.xml",
        subprocess=True, passed=1, failed=1,
    )  # fmt: skip
    assert summary(inner, result, "suppressed")[0].endswith("::test_suppressed")
    assert summary(inner, result, "inconclusive")[0].endswith("::test_unsure")
    xml = (inner.pytester.path / "out.xml").read_text()
    assert xml.count('<property name="kobs.verdict" value="inconclusive"') == 1


def test_every_check_says_what_to_do():
    assert all(check.value and check.name.islower() for check in Check)
    assert len({check.value for check in Check}) == len(Check.__members__)
