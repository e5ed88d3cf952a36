"""The third verdict: what rests on what may not have been seen neither passes nor fails."""

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import pytest
import kobs as k
from kobs import MessageSent, MessageReceived, ProcessCreated, ShmWritten, FileOpened
from kobs_pytest import Inconclusive

def flood(kobs, number=500):
    for size in range(number):
        kobs.collector.emit(MessageSent(3, size))
"""
SMALL = ("--kobs-size", "64")


class TestAnOverflowedCapture:
    @pytest.mark.parametrize(
        "assertion",
        [
            "assert FileOpened.like() not in kobs.events",
            "assert FileOpened.like() in kobs.events",
            "assert MessageSent.like() >> FileOpened.like() not in kobs.events",
            "assert FileOpened.like() * 0 in kobs.events",
            "assert MessageSent.like(size=499) * 1 in kobs.events",
            "kobs.expect(FileOpened.like())",
            "kobs.never(FileOpened.like())",
            "kobs.count(MessageSent.like())",
            "kobs.wait_for(FileOpened.like(), timeout=0)",
            "kobs.wait_for(MessageSent.like(size=499) * 1)",
        ],
    )
    def test_cannot_tell_absence_or_number(self, inner, assertion):
        result = inner(HEAD + f"def test_it(kobs):\n    flood(kobs)\n    {assertion}", *SMALL)
        result.assert_outcomes(failed=1)
        assert "Inconclusive: it is not known " in inner.told(result)
        assert "the ring overflowed: " in inner.told(result)
        assert "test_it ?" in inner.told(result) or ".py ?" in inner.told(result)

    @pytest.mark.parametrize(
        "reading",
        [
            "len(kobs.events)",
            "list(kobs.events)",
            "kobs.events[0]",
            "kobs.events == []",
            "kobs.events.of(MessageSent)[-1]",
            "[e for e in kobs.events.where(lambda e: True)]",
            "not kobs.anomalies",
            "assert len(kobs.events) == 500",
        ],
    )
    def test_ends_a_test_that_read_it_inconclusive(self, inner, reading):
        result = inner(HEAD + f"def test_it(kobs):\n    flood(kobs)\n    {reading}", *SMALL)
        result.assert_outcomes(failed=1)
        assert "the test read kobs.events while they were incomplete" in inner.told(result)

    @pytest.mark.parametrize(
        "assertion",
        [
            "assert MessageSent.like(size=499) in kobs.events",
            "kobs.expect(MessageSent.like(size=499))",
            "assert MessageSent.like(size=498).then(MessageSent.like(size=499)) in kobs.events",
            "assert MessageSent.like() * 2 not in kobs.events",
            "assert kobs.lost > 0",
            "kobs.wait_for(MessageSent.like(size=499))",
            "kobs.events",
            "kobs.mark()",
        ],
    )
    def test_still_knows_what_was_seen(self, inner, assertion):
        inner(HEAD + f"def test_it(kobs):\n    flood(kobs)\n    {assertion}", *SMALL, passed=1)

    @pytest.mark.parametrize(
        "assertion",
        [
            "assert MessageSent.like(size=499) not in kobs.events",
            "kobs.never(MessageSent.like(size=499))",
            "assert MessageSent.like() * 2 in kobs.events",
        ],
    )
    def test_still_fails_for_what_was_seen(self, inner, assertion):
        result = inner(
            HEAD + f"def test_it(kobs):\n    flood(kobs)\n    {assertion}", *SMALL, failed=1
        )
        assert "Inconclusive" not in inner.told(result)

    def test_does_not_taint_the_next_test(self, inner):
        inner(
            HEAD
            + """
def test_one(kobs):
    flood(kobs)

def test_two(kobs):
    assert FileOpened.like() not in kobs.events
    assert len(kobs.events) == 0 and kobs.lost == 0
""",
            *SMALL,
            passed=2,
        )

    def test_is_avoided_by_a_larger_ring(self, inner):
        inner(
            HEAD + "def test_it(kobs):\n    flood(kobs)\n    assert len(kobs.events) == 500",
            "--kobs-size", "1024",
            passed=1,
        )  # fmt: skip


class TestACaptureThatIsOff:
    @pytest.mark.parametrize(
        ("disturbance", "reason"),
        [
            ("kobs.collector.close()", "the collector was closed: nothing is captured any more"),
            ("k.init_collector(k.Collector(size=16))", "another collector the process-wide one"),
        ],
    )
    def test_by_the_test_itself(self, inner, disturbance, reason):
        result = inner(
            HEAD
            + f"""
def test_it(kobs):
    {disturbance}
    assert FileOpened.like() not in kobs.events
""",
            failed=1,
        )
        assert reason in inner.told(result)

    def test_so_that_not_even_the_tests_begin_can_be_read_back(self, inner):
        inner.pytester.makeconftest(
            """
import pytest
from kobs_pytest.runtime import Runtime

@pytest.fixture(autouse=True, scope="session")
def nothing_is_recorded():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runtime, "_boundary", lambda *_: 0)
        yield
"""
        )
        result = inner(
            HEAD
            + """
@pytest.mark.parametrize("n", range(2))
def test_it(kobs, n):
    if n:
        kobs.never(FileOpened.like())
""",
            passed=1,
            failed=1,
        )
        assert "the test's own begin event cannot be read back" in inner.told(result)

    def test_is_not_a_collector_that_was_reset(self, inner):
        inner(
            HEAD
            + """
def test_it(kobs):
    kobs.collector.emit(MessageSent(1, 1))
    kobs.collector.reset()
    kobs.collector.emit(MessageSent(2, 1))
    assert len(kobs.events) == 2
    kobs.never(FileOpened.like())
""",
            passed=1,
        )

    def test_by_sampling(self, inner):
        result = inner(
            HEAD
            + """
def test_absent(kobs):
    assert FileOpened.like() not in kobs.events

def test_all(kobs):
    flood(kobs)
    assert len(kobs.events) == 500
""",
            "--kobs-sampling", "0",
            failed=2,
        )  # fmt: skip
        assert "sampling is at 0 %" in inner.told(result)
        assert "500 events were left out by sampling" in inner.told(result)

    def test_is_not_the_sampling_rate_of_the_program_under_test(self, inner, monkeypatch):
        monkeypatch.setenv("KERNEL_SAMPLING_RATE", "0")
        inner(
            HEAD + "def test_it(kobs):\n    flood(kobs)\n    assert len(kobs.events) == 500",
            passed=1,
        )


class TestAChildThatCannotBeObserved:
    def test_leaves_absence_open(self, inner):
        result = inner(
            HEAD
            + """
import subprocess, sys
def test_it(kobs):
    subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)
    assert MessageSent.like() not in kobs.events
""",
            failed=1,
        )
        text = inner.told(result)
        assert "was not observed: Python started with" in text.replace("\n  ", " ")
        assert "isolated" in text

    def test_that_is_no_python_leaves_nothing_open(self, inner):
        inner(
            HEAD
            + """
import subprocess
def test_it(kobs):
    subprocess.run(["true"], check=True)
    assert ProcessCreated.like(name="true") in kobs.events
    assert MessageSent.like() not in kobs.events
""",
            passed=1,
        )

    def test_that_is_recorded_leaves_nothing_open(self, inner):
        inner(
            HEAD
            + """
import subprocess, sys
def test_it(kobs):
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    assert MessageSent.like() not in kobs.events
""",
            passed=1,
        )


class TestUnattributedEvents:
    SOURCE = (
        HEAD
        + """
import threading, time

@pytest.fixture(scope="session", autouse=True)
def server():
    stop, running = threading.Event(), threading.Event()
    def work():
        while not stop.wait(0.0005):
            collector = k.global_collector()
            if collector is not None:
                collector.emit(MessageSent(99, 1))
                running.set()
    thread = threading.Thread(target=work)
    thread.start()
    yield running
    stop.set()
    thread.join()
"""
    )

    def test_of_a_session_fixtures_thread_are_not_the_tests(self, inner):
        inner(
            self.SOURCE
            + """
@pytest.mark.parametrize("n", range(3))
def test_it(kobs, server, n):
    server.clear()
    server.wait()
    kobs.collector.emit(ProcessCreated("sh", n))
    assert [e.payload for e in kobs.events] == [ProcessCreated("sh", n)]
    assert FileOpened.like() not in kobs.events
    assert kobs.count(ProcessCreated.like()) == 1
    assert kobs.count(MessageSent.like(queue_id=3)) == 0
""",
            passed=3,
        )

    def test_that_match_make_absence_and_numbers_inconclusive(self, inner):
        result = inner(
            self.SOURCE
            + """
def test_never(kobs, server):
    server.clear()
    server.wait()
    kobs.never(MessageSent.like(queue_id=99))

def test_count(kobs, server):
    server.clear()
    server.wait()
    kobs.collector.emit(MessageSent(99, 2))
    kobs.count(MessageSent.like(queue_id=99))
""",
            failed=2,
        )
        text = inner.told(result)
        assert "it is not known whether this test caused MessageSent.like(queue_id=99)" in text
        assert "a thread of a wider fixture" in text

    def test_are_not_what_pytest_itself_does_between_the_phases(self, inner):
        inner.pytester.makeconftest(
            """
import kobs, pytest

def emit(number):
    kobs.global_collector().emit(kobs.MessageSent(77, number))

def pytest_pyfunc_call(pyfuncitem):
    emit(1)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    if call.when == "setup":
        emit(2)
    return (yield)
"""
        )
        inner(
            HEAD
            + """
from contextvars import Context
def test_it(kobs):
    assert kobs.count(MessageSent.like(queue_id=77)) == 1
    kobs.never(MessageSent.like(queue_id=77, size=2))
    Context().run(kobs.collector.emit, MessageSent(77, 3))
    with pytest.raises(Inconclusive):
        kobs.never(MessageSent.like(queue_id=77, size=3))
""",
            passed=1,
        )

    def test_of_an_earlier_tests_thread_are_not_this_tests(self, inner):
        inner(
            HEAD
            + """
import threading
stop, seen, running = threading.Event(), threading.Event(), []

def test_one(kobs):
    collector = kobs.collector
    def work():
        while not stop.wait(0.0005):
            collector.emit(MessageSent(99, 1))
            seen.set()
    running.append(threading.Thread(target=work))
    running[0].start()
    kobs.wait_for(MessageSent.like())

def test_two(kobs):
    try:
        seen.clear()
        seen.wait()
        assert list(kobs.events) == []
        with pytest.raises(Inconclusive):
            kobs.never(MessageSent.like())
        kobs.never(FileOpened.like())
    finally:
        stop.set()
        running[0].join()
""",
            passed=2,
        )


class TestAnInconclusiveTest:
    SOURCE = HEAD + (
        "def test_it(kobs):\n    flood(kobs)\n    assert FileOpened.like() not in kobs.events\n"
    )

    def test_is_failed_by_a_letter_and_a_word_of_its_own(self, inner):
        short = inner(self.SOURCE, *SMALL, failed=1)
        short.stdout.fnmatch_lines(["*.py [?] *", "*= inconclusive =*"])
        assert short.ret == pytest.ExitCode.TESTS_FAILED
        long = inner(self.SOURCE, *SMALL, "-v", failed=1)
        long.stdout.fnmatch_lines(["*::test_it INCONCLUSIVE *", "INCONCLUSIVE *::test_it - *"])

    def test_stands_in_the_summary_with_its_reason(self, inner):
        text = inner.told(inner(self.SOURCE, *SMALL))
        summary = text[text.index("= inconclusive =") :]
        assert summary.splitlines()[1:5] == [
            "test_stands_in_the_summary_with_its_reason.py::test_it",
            "  the ring overflowed: 436 events were overwritten before they were read (it",
            "  holds 64) [overflow]: --kobs-size, @pytest.mark.kobs(size=...), or read",
            "  `kobs.events` earlier",
        ]

    def test_is_a_failure_with_a_property_in_junit(self, inner):
        inner(self.SOURCE, *SMALL, "--junitxml=out.xml", failed=1)
        xml = (inner.pytester.path / "out.xml").read_text()
        assert 'failures="1"' in xml
        assert '<property name="kobs.verdict" value="inconclusive"' in xml

    def test_counts_for_last_failed_and_maxfail(self, inner):
        inner(
            self.SOURCE + "def test_other(): pass\n", *SMALL, "-x", failed=1
        ).stdout.fnmatch_lines(["*stopping after 1 failures*"])

    @pytest.mark.parametrize("mark", ["xfail", "xfail(strict=True)", "xfail(raises=OSError)"])
    def test_is_not_absorbed_by_xfail(self, inner, mark):
        result = inner(
            self.SOURCE.replace("def test_it", f"@pytest.mark.{mark}\ndef test_it"), *SMALL
        )
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*.py [?] *"])

    @pytest.mark.parametrize("raises", ["Inconclusive", "(OSError, Inconclusive)"])
    def test_is_absorbed_by_xfail_that_names_it(self, inner, raises):
        inner(
            self.SOURCE.replace("def test_it", f"@pytest.mark.xfail(raises={raises})\ndef test_it"),
            *SMALL,
            xfailed=1,
        )

    def test_that_failed_for_another_reason_keeps_it(self, inner):
        result = inner(
            HEAD + "def test_it(kobs):\n    flood(kobs)\n    len(kobs.events)\n    1 / 0\n",
            *SMALL,
            failed=1,
        )
        result.stdout.fnmatch_lines(["*.py F *", "E *ZeroDivisionError*"])

    def test_that_skips_is_skipped(self, inner):
        inner(
            HEAD + "def test_it(kobs):\n    flood(kobs)\n    len(kobs.events)\n    pytest.skip()\n",
            *SMALL,
            skipped=1,
        )

    def test_that_failed_on_what_it_read_shows_the_assertion_and_the_doubt(self, inner):
        result = inner(
            HEAD + "def test_it(kobs):\n    flood(kobs)\n    assert len(kobs.events) == 500\n",
            *SMALL,
            failed=1,
        )
        text = inner.told(result)
        failure = text[text.index("kobs = <kobs>") : text.index("- Captured kobs call")]
        assert (
            failure.rstrip("- \n")
            == """\
kobs = <kobs>

    def test_it(kobs):
        flood(kobs)
>       assert len(kobs.events) == 500
E       assert 64 == 500
E        +  where 64 = len(<64 events>)
E        +    where <64 events> = <kobs>.events

test_that_failed_on_what_it_read_shows_the_assertion_and_the_doubt.py:N: AssertionError
--------------------------------- inconclusive ---------------------------------
the test read kobs.events while they were incomplete
  the ring overflowed: 436 events were overwritten before they were read
  (it holds 64) [overflow]: --kobs-size, @pytest.mark.kobs(size=...), or
  read `kobs.events` earlier"""
        )


def test_absence_of_what_nothing_records_is_inconclusive(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os
        from kobs import FileOpened, SyscallExit, SyscallResult

        def test_nothing_tells_it(kobs):
            os.stat(".")
            kobs.never(SyscallExit.like(name="stat"))

        def test_somebody_may(kobs):
            emit = kobs.collector.emitter(SyscallExit)
            kobs.never(SyscallExit.like(name="stat"))

        def test_a_watch_would(kobs):
            assert kobs.count(FileOpened.like()) == 0
        """
    )
    done = pytester.runpytest_subprocess("--kobs", "-p", "no:cacheprovider", "-rA")
    done.stdout.fnmatch_lines(["*nothing here records SyscallExit*"])
    done.assert_outcomes(passed=2, failed=1)
