"""Markers: a test is captured and judged by them alone, without fixture and option."""

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import pytest
import kobs as k
from kobs import AnomalyDetected, FileOpened, MessageSent, ProcessCreated, SyscallExit

def touch():
    open("/dev/null").close()
"""


def failure(inner, result, test, until="- Captured kobs call -"):
    """What a test's failure says, up to the report section."""
    lines = inner.told(result).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("_") and test in line) + 1
    end = next(n for n in range(start, len(lines)) if until in lines[n])
    assert all(len(line) <= 80 for line in lines[start:end])
    return lines[start:end]


class TestMarkersOfEvents:
    def test_judge_at_the_end_of_the_call(self, inner):
        result = inner(
            HEAD
            + """
@pytest.mark.kobs_expect(FileOpened.like(mode="r"))
@pytest.mark.kobs_never(ProcessCreated.like())
def test_met():
    touch()

@pytest.mark.kobs_expect(FileOpened.like(mode="a"))
def test_expected():
    touch()

@pytest.mark.kobs_never(MessageSent.like(size=1), MessageSent.like(size=2))
def test_never():
    k.global_collector().emit(MessageSent(7, 2))

@pytest.mark.kobs_expect(MessageSent.like())
@pytest.mark.kobs_never(FileOpened.like())
def test_both():
    touch()

@pytest.mark.kobs_expect(MessageSent.like())
def test_that_fails_is_not_judged():
    assert not "this"

@pytest.mark.kobs_expect(MessageSent.like())
def test_that_skips_is_not_judged():
    pytest.skip()

@pytest.mark.xfail(raises=AssertionError)
@pytest.mark.kobs_expect(MessageSent.like())
def test_that_is_expected_to_fail():
    pass

def test_without_is_not_captured():
    assert k.global_collector() is None
""",
            "--strict-markers",
            passed=2,
            failed=4,
            skipped=1,
            xfailed=1,
        )
        shown = failure(inner, result, "test_expected")
        assert shown[0] == "kobs_expect: expected FileOpened.like(mode='a')"
        assert shown[1] == "  no match among 1 event, FileOpened; nearest:"
        assert shown[3] == "      NO  mode = 'r', expected 'a'"
        assert failure(inner, result, "test_never") == [
            "kobs_never: never expected MessageSent.like(size=2)",
            "  found 1 among 1 event:",
            "    #1 +T MessageSent(queue_id=7, size=2)",
        ]
        both = failure(inner, result, "test_both")
        assert both[0] == "kobs_expect: expected MessageSent.like()"
        assert "kobs_never: never expected FileOpened.like()" in both
        assert "assert not 'this'" in "\n".join(failure(inner, result, "is_not_judged"))

    def test_are_inherited_from_class_and_module(self, inner):
        inner(
            HEAD
            + """
pytestmark = [pytest.mark.kobs_never(ProcessCreated)]

@pytest.mark.kobs_expect(FileOpened)
class TestIt:
    def test_met(self):
        touch()
    def test_not_met(self):
        pass
    @pytest.mark.kobs_expect(MessageSent)
    def test_not_met_either(self):
        touch()

def test_of_the_module():
    k.global_collector().emit(ProcessCreated("x", 1))
""",
            passed=1,
            failed=3,
        )

    def test_hold_in_async_tests_and_unittest_classes(self, inner):
        inner(
            HEAD
            + """
import asyncio, unittest

@pytest.mark.asyncio
@pytest.mark.kobs_expect(FileOpened)
async def test_async():
    await asyncio.to_thread(touch)

@pytest.mark.kobs_never(FileOpened)
class TestCase(unittest.TestCase):
    def test_one(self):
        touch()
    def test_two(self):
        pass
""",
            passed=2,
            failed=1,
        )

    def test_do_nothing_where_kobs_is_off(self, inner):
        source = HEAD + "@pytest.mark.kobs_expect(FileOpened)\ndef test_it(): pass\n"
        inner(source, "--no-kobs", "--strict-markers", passed=1)
        inner(source, "--kobs", failed=1)

    def test_are_listed_with_help(self, inner):
        told = inner.told(inner("", "--markers"))
        for name in ("kobs", "kobs_expect", "kobs_never", "kobs_budget", "kobs_no_leaks"):
            assert f"@pytest.mark.{name}(" in told


class TestABareType:
    def test_as_the_argument_stands_for_any_of_its_events(self, inner):
        result = inner(
            HEAD
            + """
@pytest.mark.kobs_never(FileOpened)
def test_fails():
    touch()

@pytest.mark.kobs_never(FileOpened)
class TestIt:
    def test_passes(self):
        FileOpened("x", "r")

@pytest.mark.kobs_expect(MessageSent, FileOpened)
def test_several():
    touch()

def test_other():
    assert not hasattr(FileOpened, "pytestmark")
    assert FileOpened("x", "r").path == "x"
""",
            passed=2,
            failed=2,
        )
        told = failure(inner, result, "test_fails")
        assert told[0] == "kobs_never: never expected FileOpened.like()"

    def test_leaves_nothing_behind(self, inner):
        before = vars(pytest.mark).copy()
        inner(HEAD + "@pytest.mark.kobs_never(FileOpened)\ndef test_it(): pass\n", passed=1)
        assert vars(pytest.mark) == before


class TestAMarkerThatMakesNoSense:
    SOURCE = (
        HEAD
        + """
@pytest.mark.{marker}
def test_it(): pass

def test_other(): pass
"""
    )

    @pytest.mark.parametrize(
        ("marker", "message"),
        [
            ("kobs_expect", "@pytest.mark.kobs_expect(): expected patterns, such as"),
            ("kobs_never(FileOpened('x', 'r'))", "is no pattern: write FileOpened.like(...)"),
            ("kobs_never('x')", "expected a pattern such as ProcessCreated.like(name='sh')"),
            ("kobs_never(FileOpened | MessageSent)", "is a union of classes, not a pattern"),
            ("kobs_expect(of=FileOpened.like())", "(of=FileOpened.like()): expected patterns"),
            ("kobs_no_leaks('threads')", "there is no kind 'threads' of leak; there are process"),
            ("kobs_anomalies('fails')", "'fails' is none of fail, warn, allow"),
            ("kobs_anomalies", "expected one of fail, warn, allow"),
            ("kobs('vfs')", "expected subsystems, sampling, size, suppress by keyword"),
            ("kobs(subsystem='vfs')", "takes no 'subsystem' (did you mean 'subsystems'?)"),
            (
                "kobs(subsystems='fs')",
                "@pytest.mark.kobs(subsystems=...): there is no subsystem 'fs' to watch; there",
            ),
            ("kobs(subsystems='vfs,-shm')", "mixes names with + or - and without"),
            ("kobs(subsystems=3)", "expected names of subsystems, such as 'vfs,process'"),
            ("kobs(sampling=101)", "expected a number from 0 to 100"),
            ("kobs(size=100)", "expected a power of two"),
        ],
    )
    def test_is_an_error_of_that_test_alone(self, inner, marker, message):
        result = inner(self.SOURCE.format(marker=marker), errors=1, passed=1)
        told = failure(inner, result, "test_it", until="= short test summary")
        assert message in " ".join(line.strip() for line in told)


class TestTheMarkerKobs:
    def test_chooses_what_is_watched_in_a_test(self, inner):
        inner(
            HEAD
            + """
import os
def seen(kobs):
    os.stat(".")
    touch()
    return {e.type_name for e in kobs.events} & {"SyscallExit", "FileOpened"}

def test_anyhow(kobs):
    assert seen(kobs) == {"FileOpened"}

@pytest.mark.kobs(subsystems=["+syscall"])
def test_more(kobs):
    assert seen(kobs) == {"FileOpened", "SyscallExit"}

@pytest.mark.kobs(subsystems="-vfs")
def test_less(kobs):
    assert seen(kobs) == set()
    with pytest.raises(kobs.Inconclusive, match="unrecorded_type"):
        kobs.never(FileOpened.like())

@pytest.mark.kobs(subsystems="syscall,process")
class TestAlone:
    def test_these(self, kobs):
        assert seen(kobs) == {"SyscallExit"}
    @pytest.mark.kobs(subsystems="all")
    def test_all(self, kobs):
        assert seen(kobs) == {"FileOpened", "SyscallExit"}

def test_again(kobs):
    assert seen(kobs) == {"FileOpened"}
""",
            passed=6,
        )

    @pytest.mark.parametrize("how", ["option", "environment", "ini"])
    def test_goes_before_the_option(self, inner, how, monkeypatch):
        options = []
        if how == "option":
            options = ["--kobs-subsystems=-vfs"]
            monkeypatch.setenv("KOBS_PYTEST_SUBSYSTEMS", "all")
        elif how == "environment":
            monkeypatch.setenv("KOBS_PYTEST_SUBSYSTEMS", "-vfs")
            options = ["-o", "kobs_subsystems=all"]
        else:
            options = ["-o", "kobs_subsystems=-vfs"]
        inner(
            HEAD
            + """
def test_as_told(kobs):
    touch()
    assert len(kobs.events) == 0

@pytest.mark.kobs(subsystems=["+vfs"])
def test_marked(kobs):
    touch()
    assert len(kobs.events) == 1
""",
            *options,
            passed=2,
        )

    def test_chooses_size_and_sampling_of_a_test(self, inner):
        inner(
            HEAD
            + """
def flood(kobs):
    for size in range(500):
        kobs.collector.emit(MessageSent(3, size))
    return kobs

@pytest.mark.kobs(size=64)
def test_small(kobs):
    assert flood(kobs).lost == 436 and kobs.collector.ring.slots == 64

def test_anyhow(kobs):
    assert flood(kobs).lost == 0
    assert kobs.count(MessageSent.like()) == 500

@pytest.mark.kobs(sampling=0)
def test_sampled(kobs):
    with pytest.raises(kobs.Inconclusive, match="sampling is at 0 %"):
        flood(kobs).count(MessageSent.like())

@pytest.mark.kobs(size=64)
def test_small_again(kobs):
    kobs.collector.emit(MessageSent(3, 1))
    assert len(kobs.events) == 1

def test_anyhow_again(kobs):
    assert flood(kobs).count(MessageSent.like()) == 500
""",
            passed=5,
        )

    def test_captures_a_test_without_more(self, inner):
        result = inner(
            HEAD
            + """
@pytest.mark.kobs
def test_it():
    touch()
    assert not "this"
""",
            failed=1,
        )
        result.stdout.fnmatch_lines(["1 event of this test, 0 lost", "  #1 *FileOpened(*"])


class TestAVerdictOfAMarker:
    SOURCE = (
        HEAD
        + """
import subprocess, sys
@pytest.mark.kobs_never(MessageSent)
def test_unsure():
    subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)

def test_other(): pass
"""
    )

    def test_is_inconclusive_where_the_capture_cannot_tell(self, inner):
        result = inner(self.SOURCE, "--junitxml=out.xml", passed=1, failed=1)
        result.stdout.fnmatch_lines(["*.py ?.*", "*= inconclusive =*"])
        told = failure(inner, result, "test_unsure")
        assert told[0] == "Inconclusive: it is not known whether MessageSent.like() happened"
        assert "[child_not_observed]" in " ".join(told)
        xml = (inner.pytester.path / "out.xml").read_text()
        assert xml.count('<property name="kobs.verdict" value="inconclusive"') == 1

    def test_is_absorbed_by_an_xfail_that_names_it_only(self, inner):
        for raises, outcome in (("Inconclusive", "xfailed"), ("AssertionError", "failed")):
            mark = f"@pytest.mark.xfail(raises={raises})\n@pytest.mark.kobs_never"
            source = "from kobs_pytest import Inconclusive\n" + self.SOURCE
            inner(source.replace("@pytest.mark.kobs_never", mark), passed=1, **{outcome: 1})

    def test_counts_for_maxfail_and_last_failed(self, inner):
        inner(self.SOURCE, "-x", failed=1)
        tester = inner.pytester
        off = ["-p", "no:hypothesispytest", "-p", "no:anyio"]
        tester.runpytest_inprocess(*off).assert_outcomes(passed=1, failed=1)
        tester.runpytest_inprocess(*off, "--lf").assert_outcomes(failed=1)

    def test_is_inconclusive_for_a_match_that_may_be_anothers(self, inner):
        result = inner(
            HEAD
            + """
import threading
@pytest.fixture(scope="session", autouse=True)
def other():
    go, done, end = threading.Event(), threading.Event(), threading.Event()
    def work():
        while go.wait() and not end.is_set():
            go.clear()
            k.global_collector().emit(MessageSent(9, 1))
            done.set()
    thread = threading.Thread(target=work)
    thread.start()
    yield go, done
    end.set(); go.set(); thread.join()

@pytest.mark.kobs_never(MessageSent)
def test_never(other):
    other[0].set(); other[1].wait(); other[1].clear()

@pytest.mark.kobs_budget(MessageSent=5)
def test_budget(other):
    other[0].set(); other[1].wait(); other[1].clear()

@pytest.mark.kobs_expect(MessageSent.like(size=1) * 1)
def test_count(other):
    other[0].set(); other[1].wait(); other[1].clear()
""",
            failed=3,
        )
        assert inner.told(result).count("INCONCLUSIVE") == 3
        assert " ".join(inner.told(result).split()).count("[unattributed_match]:") == 6


SHOWN = ("-W", "always::kobs_pytest.AnomalyWarning")
"""The run around makes errors of warnings."""


class TestAnomalies:
    SOURCE = (
        HEAD
        + """
def strange(name):
    emit = k.global_collector().emitter(SyscallExit)
    for _ in range(100):
        emit(name, 10.0 + _ % 3, k.SyscallResult.SUCCESS)
    emit(name, 90_000.0, k.SyscallResult.SUCCESS)

def test_default(kobs):
    strange("one")
    assert len(kobs.anomalies) == 1

@pytest.mark.kobs_anomalies("fail")
def test_fail():
    strange("two")

@pytest.mark.kobs_anomalies("warn")
def test_warn():
    strange("three")

@pytest.mark.kobs_anomalies("allow")
def test_allow():
    strange("four")

@pytest.mark.kobs_anomalies("fail")
def test_none():
    k.global_collector().emit(MessageSent(1, 1))
"""
    )

    def test_fail_warn_or_are_allowed(self, inner):
        result = inner(self.SOURCE, *SHOWN, passed=4, failed=1, warnings=1)
        first, second, *_ = failure(inner, result, "test_fail")
        assert first == "kobs_anomalies: 1 anomaly"
        assert second.startswith("  SyscallExit.two.duration_us = 9e+04, expected ")
        result.stdout.fnmatch_lines(
            ["*= anomalies =*", "*::test_warn", "  SyscallExit.three.duration_us = 9e+04, *"]
        )

    def test_that_are_warned_of_fail_where_warnings_are_errors(self, inner):
        result = inner(
            self.SOURCE, "-W", "error::kobs_pytest.AnomalyWarning", "-k", "test_warn", failed=1
        )
        first, second, *_ = failure(inner, result, "test_warn")
        assert first == "kobs_anomalies: warnings are errors"
        assert second.startswith("  kobs: SyscallExit.three.duration_us = 9e+04")

    @pytest.mark.parametrize("how", ["option", "environment", "ini"])
    def test_are_told_of_as_an_option_says(self, inner, how, monkeypatch):
        options = {"option": ["--kobs-anomalies=fail"], "ini": ["-o", "kobs_anomalies=fail"]}
        if how == "environment":
            monkeypatch.setenv("KOBS_PYTEST_ANOMALIES", "fail")
        inner(self.SOURCE, *SHOWN, *options.get(how, []), passed=3, failed=2, warnings=1)

    def test_are_not_known_where_an_earlier_tests_stands_for_them(self, inner):
        marked = self.SOURCE.replace('strange("two")', 'strange("one")')
        result = inner(marked, *SHOWN, passed=4, failed=1, warnings=1)
        text = " ".join(inner.told(result).split())
        assert "Inconclusive: it is not known whether the test caused an anomaly" in text
        assert "[anomaly_kept_back]" in text

    @pytest.mark.parametrize(
        "claim",
        ["kobs.no_anomalies()", "kobs.never(k.AnomalyDetected.like())", "assert not kobs.anomalies",
         "assert kobs.count(k.AnomalyDetected.like()) == 0",
         "kobs.never(~k.SyscallExit.like())"],
    )  # fmt: skip
    def test_are_not_known_to_the_fixture_either(self, inner, claim):
        head, _, _ = self.SOURCE.partition("@pytest.mark.kobs_anomalies")
        result = inner(
            f"""{head}
def test_after(kobs):
    strange("one")
    {claim}
""",
            passed=1,
            failed=1,
        )
        assert "[anomaly_kept_back]" in " ".join(inner.told(result).split())

    def test_refuse_another_word(self, inner):
        result = inner(self.SOURCE, "--kobs-anomalies=no")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*--kobs-anomalies: 'no' is none of fail, warn, allow"])
