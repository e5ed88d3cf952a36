"""Beside other plugins, and what pytest itself has: whose events are whose, verdicts, spans."""

import json
import re

import pytest

from kobs.cli.main import main
from tests.otlp_receivers import HttpReceiver

pytest_plugins = ["pytester"]

HEAD = """
import pytest
import kobs as k
from kobs import FileOpened, MessageSent
"""


@pytest.fixture
def report(tmp_path, capsys):
    """What `kobs report --json` or `kobs recover --json` says of the only session below a
    folder."""

    def ask(command, *options):
        (session,) = (path for path in tmp_path.iterdir() if (path / "session.json").exists())
        capsys.readouterr()
        assert main([command, str(session), "--json", *options]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


class TestRerunFailures:
    SOURCE = (
        HEAD
        + """
TRIES = []
def test_flaky(kobs):
    TRIES.append(1)
    kobs.collector.emit(MessageSent(len(TRIES), 1))
    assert kobs.count(MessageSent.like()) == 1
    assert MessageSent.like(queue_id=3) in kobs.events

def test_unsure(kobs):
    for n in range(200):
        kobs.collector.emit(MessageSent(n, 1))
    assert FileOpened.like() not in kobs.events
"""
    )

    def test_each_attempt_is_a_test_of_its_own(self, inner, tmp_path, report):
        receiver = HttpReceiver()
        try:
            result = inner(
                self.SOURCE, "--reruns=2", "--kobs", "--kobs-size=128",
                f"--kobs-session={tmp_path}", f"--kobs-otlp={receiver.url}", "-pno:asyncio",
            )  # fmt: skip
        finally:
            receiver.close()
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*1 failed, 1 passed, *4 rerun*"])
        tests = report("report")["tests"]
        assert [
            (row["nodeid"].partition("::")[2], row["attempt"], row["outcome"]) for row in tests
        ] == [
            ("test_flaky", 1, "failed"), ("test_flaky", 2, "failed"), ("test_flaky", 3, "passed"),
            ("test_unsure", 1, "inconclusive"), ("test_unsure", 2, "inconclusive"),
            ("test_unsure", 3, "inconclusive"),
        ]  # fmt: skip
        spans = [span for span in receiver.spans if "test_flaky" in span.name]
        assert [span.status.code for span in spans] == [2, 2, 1]
        assert len({span.trace_id for span in spans}) == 3
        attempts = [
            {a.key: a.value.int_value for a in span.attributes}.get("kobs.test.attempt")
            for span in spans
        ]
        assert attempts == [None, 2, 3]


class TestTimeout:
    SOURCE = (
        HEAD
        + """
import threading
@pytest.mark.timeout(1, func_only=True)
def test_waits(kobs):
    kobs.collector.emit(MessageSent(7, 1))
    with k.span_operation("waiting"):
        threading.Event().wait(60)
def test_after(kobs):
    assert not kobs.events
"""
    )

    def test_by_signal_fails_the_test_alone(self, inner):
        result = inner(
            self.SOURCE, "--timeout-method=signal", passed=1, failed=1
        )  # fmt: skip
        result.stdout.fnmatch_lines(
            ["*Failed: Timeout*", "* Captured kobs call *", "*MessageSent(queue_id=7, size=1)*",
             "*SpanBegan(name='waiting')*", "*SpanEnded(name='waiting'*"]
        )  # fmt: skip

    def test_by_thread_ends_the_process_and_leaves_the_recording(self, inner, tmp_path, report):
        result = inner(
            self.SOURCE, "--timeout-method=thread", "--kobs",
            f"--kobs-session={tmp_path}", subprocess=True,
        )  # fmt: skip
        assert result.ret == 1
        (process,) = report("recover", "--last=1000")["processes"]
        assert process["state"] == "killed"
        assert [one["name"] for one in process["in_flight"]] == ["waiting"]
        assert re.fullmatch(r"[0-9a-f]{6}\.1\.1c", process["in_flight"][0]["origin"])
        types = [
            event["type"]
            for event in process["last"]
            if event["origin"] and event["type"] != "FileOpened"
        ]  # pytest-timeout reads source
        assert types == ["TestBegan", "MessageSent", "SpanBegan"]
        (test,) = report("report")["tests"]
        assert (test["nodeid"].partition("::")[2], test["outcome"]) == ("test_waits", None)


class TestPytestItself:
    def test_subtests_are_part_of_their_test(self, inner):
        result = inner(
            HEAD
            + """
import unittest
def test_it(kobs, subtests):
    for n in range(3):
        with subtests.test(n=n):
            kobs.collector.emit(MessageSent(n, 1))
            assert n != 1
    assert kobs.count(MessageSent.like()) == 3

class TestUnit(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _kobs(self, kobs):
        self.kobs = kobs
    def test_unit(self):
        for n in range(3):
            with self.subTest(n=n):
                self.kobs.collector.emit(MessageSent(n, 1))
                assert n != 1
        assert self.kobs.count(MessageSent.like()) == 3
def test_next(kobs):
    assert not kobs.events
"""
        )
        result.assert_outcomes(passed=2, failed=3)
        result.stdout.fnmatch_lines(["*MessageSent(queue_id=1, size=1)*"])
        result.stdout.no_fnmatch_line("*INCONCLUSIVE*")

    def test_doctests_and_files_of_them_are_captured_by_option(self, inner, tmp_path, report):
        inner.pytester.maketxtfile(
            test_text=">>> import kobs\n"
            ">>> _ = kobs.global_collector().emit(kobs.MessageSent(1, 1))\n"
        )
        inner(
            'def double(x):\n    """\n    >>> import kobs\n'
            "    >>> _ = kobs.global_collector().emit(kobs.MessageSent(2, 1))\n"
            '    """\n',
            "--doctest-modules", "--kobs", f"--kobs-session={tmp_path}", passed=2,
        )  # fmt: skip
        tests = report("report")["tests"]
        assert [row["by_phase"]["call"] for row in tests] == [1, 1]

    def test_x_stops_and_lf_goes_on(self, inner, tmp_path, report):
        source = HEAD + "def test_a(kobs): pass\ndef test_b(kobs): assert 0\ndef test_c(kobs): pass"
        inner.pytester.makepyfile(source)
        options = ["-pcacheprovider", "-pno:asyncio", "-pno:anyio"]
        first = inner.pytester.runpytest_inprocess("-x", "--kobs", *options)
        first.assert_outcomes(passed=1, failed=1)
        again = inner.pytester.runpytest_inprocess(
            "--lf", "--kobs", f"--kobs-session={tmp_path}", *options
        )
        again.assert_outcomes(failed=1)
        tests = report("report")["tests"]
        assert [row["nodeid"].partition("::")[2] for row in tests] == ["test_b"]

    def test_xfail_is_absorbed_and_strict_is_not(self, inner):
        inner(
            HEAD
            + """
@pytest.mark.xfail
def test_expected(kobs): assert MessageSent.like() in kobs.events
@pytest.mark.xfail(strict=True)
def test_unexpected(kobs): kobs.never(MessageSent.like())
@pytest.mark.xfail(run=False)
def test_not_run(kobs): pass
""",
            xfailed=2,
            failed=1,
        )

    def test_does_without_a_terminal(self, inner):
        source = HEAD + "def test_a(kobs): pass\ndef test_b(kobs): assert 0\n"
        result = inner(source, "-pno:terminal", "--kobs")
        assert result.ret == 1
        assert result.errlines == []


def test_runs_within_a_run_do_not_disturb_it(inner):
    """Options, sessions, spans and verdicts of both: pytest's stash is all there is."""
    receiver = HttpReceiver()
    inner.pytester.makeconftest('pytest_plugins = ["pytester"]')
    try:
        inner(
            HEAD
            + f'''
def test_outer(kobs, pytester):
    outer = kobs.collector
    kobs.collector.emit(MessageSent(1, 1))
    with k.span_operation("outer span"):
        pytester.makepyfile("""
            import kobs as k
            from kobs import MessageSent
            def test_unsure(kobs):
                for n in range(2000):
                    kobs.collector.emit(MessageSent(n, 1))
                kobs.never(k.FileOpened.like())
            def test_inner(kobs):
                kobs.collector.emit(MessageSent(2, 1))
                with k.span_operation("inner span"): pass
                assert kobs.count(MessageSent.like(queue_id=2)) == 1
                assert kobs.collector.ring.slots == 256
        """)
        off = ["-pno:anyio", "-pno:asyncio", "-pno:hypothesispytest"]
        result = pytester.runpytest_inprocess(
            "--kobs-otlp={receiver.url}", "--kobs-size=256", *off)
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*= inconclusive =*"])
    assert k.global_collector() is outer
    kobs.collector.emit(MessageSent(3, 1))
    assert [event.payload.queue_id for event in kobs.events.of(MessageSent)] == [1, 3]
    names = [event.payload.name for event in kobs.events.of(k.SpanBegan)]
    assert names == ["outer span"]
def test_next(kobs):
    assert not kobs.events
''',
            "--kobs", f"--kobs-otlp={receiver.url}", "-pno:asyncio",
            passed=2,
        )  # fmt: skip
    finally:
        receiver.close()
    spans = receiver.spans
    by_id = {span.span_id: span for span in spans}
    tests = {span.name.rpartition("::")[2]: span for span in spans if "::" in span.name}
    assert set(tests) == {"test_outer", "test_next", "test_inner", "test_unsure"}
    for name, test in (("outer span", "test_outer"), ("inner span", "test_inner")):
        (span,) = (one for one in spans if one.name == name)
        call = by_id[span.parent_span_id]
        assert (call.name, call.parent_span_id) == ("call", tests[test].span_id)
    sessions = [span for span in spans if span.name == "pytest"]
    assert [span.status.code for span in sessions] == [2, 1]
    linked = {name: span.links[0].span_id for name, span in tests.items()}
    assert linked["test_inner"] == linked["test_unsure"] == sessions[0].span_id
    assert linked["test_outer"] == linked["test_next"] == sessions[1].span_id
