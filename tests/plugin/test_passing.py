"""A test that fails beside the run in which it passed: where the two part, event by event."""

import os
import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SHOP = """
import os, queue, threading
import pytest
import kobs as k
from kobs import FileOpened, MessageSent, ProcessCreated

NOW = os.environ.get("NOW", "")

def emit(*payloads):
    for payload in payloads:
        k.global_collector().emit(payload)
"""
TITLE = "Captured kobs call, beside the run in which it passed"


@pytest.fixture
def runs(pytester, monkeypatch, clean_environment):
    return Runs(pytester, monkeypatch, clean_environment / "kobs")


class Runs:
    """Runs the same tests, now passing, now failing."""

    def __init__(self, pytester, monkeypatch, sessions: Path):
        self.pytester = pytester
        self.environment = monkeypatch
        self.sessions = sessions
        monkeypatch.setattr("sys.dont_write_bytecode", True)  # one file, many contents
        pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")

    def __call__(self, source, *arguments, now="", **outcomes):
        self.environment.setenv("NOW", now)
        self.pytester.makepyfile(test_it=source)
        off = [f"-pno:{name}" for name in ("cacheprovider", "hypothesispytest", "anyio")]
        result = self.pytester.runpytest_inprocess(*off, "-q", *arguments)
        if outcomes:
            result.assert_outcomes(**outcomes)
        return result

    @staticmethod
    def told(result):
        """The section's lines, times made equal, without the one that names the session."""
        lines = "\n".join(result.outlines).split("\n")
        start = next((n for n, line in enumerate(lines) if TITLE in line), None)
        if start is None:
            return []
        end = next(n for n in range(start + 1, len(lines)) if re.match("[-=_]{3}|kobs: ", lines[n]))
        assert all(len(line) <= 80 or line.startswith("  /") for line in lines[start:end])
        text = re.sub(r"[+-]\d+\.\d{3}ms", "+T", "\n".join(lines[start + 1 : end]))
        text = re.sub(r"passed in\s+\S+\n", "", text)
        return text.split("\n")


SOURCE = (
    SHOP
    + """
def test_it(tmp_path):
    letters = queue.Queue()
    def work():
        name = letters.get()
        with open(tmp_path / name, "a" if NOW else "w"):
            pass
    emit(*(MessageSent(f"order {n}") for n in "abcdef"))
    thread = threading.Thread(target=work)
    thread.start()
    letters.put("letter")
    thread.join()
    if NOW:
        emit(ProcessCreated("rm"))
    assert not NOW
    emit(FileOpened("receipt", "r"))
"""
)
PARTS = """\
2 missing (-), 1 new (+), 1 changed (~), 8 the same
they part after #12 +T
  ... 5 the same ...
  #9 +T MessageSent(queue_id='order f')
  #12 +T MessageSent(queue_id='Queue-<n>')
- FileOpened(path='receipt', mode='r')
+ #15 +T ProcessCreated(name='rm')
  #13 +T MessageReceived(queue_id='Queue-<n>')
~ #14 +T FileOpened(path='<tmp>/letter', mode='a')
      mode: 'w' -> 'a'
- FileChanged(path='<tmp>/letter', change='written')"""


class TestAFailingTest:
    def test_is_shown_beside_its_last_passing_run(self, runs):
        runs(SOURCE, "--kobs", passed=1)
        for _ in range(2):
            told = runs.told(runs(SOURCE, "--kobs", now="x", failed=1))
            numbered = [re.sub(r"#\d+", "#N", line) for line in told if "Latency" not in line]
            assert numbered == re.sub(r"#\d+", "#N", PARTS).split("\n")

    def test_that_did_the_same_is_told_so(self, runs):
        source = SHOP + (
            "def test_it(kobs):\n    emit(ProcessCreated('sh'))\n"
            "    with kobs.capture(): emit(ProcessCreated('in a part'))\n    assert not NOW"
        )
        runs(source, "--kobs", passed=1)
        assert runs.told(runs(source, "--kobs", now="x", failed=1)) == ["it did the same: 2 events"]

    def test_in_its_setup_is_compared_by_its_setup(self, runs):
        source = SHOP + (
            "@pytest.fixture\ndef shop():\n    emit(ProcessCreated(NOW))\n    assert not NOW\n"
            "def test_it(shop): emit(FileOpened('a', 'w'))"
        )
        runs(source, "--kobs", passed=1)
        result = runs(source, "--kobs", now="x", errors=1)
        text = "\n".join(result.outlines)
        assert "Captured kobs setup, beside the run in which it passed" in text
        assert "0 missing (-), 0 new (+), 1 changed (~), 0 the same" in text
        assert "they part with the first event" in text
        assert "      name: '' -> 'x'" in text
        assert "FileOpened" not in text

    def test_says_so_where_something_was_not_seen(self, runs):
        source = SHOP + (
            "def test_it():\n"
            "    emit(*[MessageSent('q')] * (200 if NOW else 5))\n"
            "    assert not NOW"
        )
        runs(source, "--kobs", passed=1)
        told = runs.told(runs(source, "--kobs", "--kobs-size=64", now="x", failed=1))
        assert told[0] == "this capture is incomplete: what is missing here may be there"
        runs(source.replace("200 if NOW else 5", "200"), "--kobs", "--kobs-size=64", passed=1)
        told = runs.told(runs(source, "--kobs", now="x", failed=1))
        assert re.fullmatch(r"it lacks \d+ events: what is new here may have been there", told[0])

    def test_of_much_shows_a_part(self, runs):
        source = SHOP + (
            "def test_it():\n"
            "    emit(*(FileOpened(f'{NOW}{chr(n)}', 'w') for n in range(97, 1097)))\n"
            "    assert not NOW"
        )
        runs(source, "--kobs", passed=1)
        told = runs.told(runs(source, "--kobs", now="x", failed=1))
        assert len(told) == 42
        assert re.fullmatch(r"\.\.\. and \d+ more lines", told[-1])

    def test_that_never_passed_has_nothing_beside_it(self, runs):
        source = SHOP + "def test_it():\n    assert 0"
        for _ in range(2):
            result = runs(source, "--kobs", failed=1)
            assert TITLE not in "\n".join(result.outlines)
        told = runs.told(runs(source, "--kobs", "--kobs-passing=latest", failed=1))
        assert told == ["this test did not pass in any session that is kept"]


class TestTheOption:
    TWO = SHOP + "def test_it():\n    emit(ProcessCreated(NOW or 'sh'))\n    assert 'x' not in NOW"

    def test_names_a_session(self, runs):
        runs(self.TWO, "--kobs", passed=1)
        (first,) = os.listdir(runs.sessions)
        runs(self.TWO, "--kobs", now="y", passed=1)
        for given, before in ((first, "sh"), (str(runs.sessions / first), "sh"), ("latest", "y")):
            told = runs.told(runs(self.TWO, "--kobs", f"--kobs-passing={given}", now="x"))
            assert told[-1] == f"      name: '{before}' -> 'x'"
        assert TITLE not in "\n".join(
            runs(self.TWO, "--kobs", "--kobs-passing=no", now="x", failed=1).outlines
        )

    def test_looks_where_the_session_is_made(self, runs):
        for now in ("", "x"):
            result = runs(self.TWO, "--kobs", "--kobs-session=kept", now=now)
        assert runs.told(result)[-1] == "      name: 'sh' -> 'x'"

    def test_works_for_the_fixture_alone(self, runs):
        source = self.TWO.replace("test_it()", "test_it(kobs)")
        runs(source, "--kobs", passed=1)
        told = runs.told(runs(source, "--kobs-passing=latest", now="x", failed=1))
        assert told[-1] == "      name: 'sh' -> 'x'"
        assert TITLE not in "\n".join(runs(source, now="x", failed=1).outlines)

    def test_refuses_what_is_no_session(self, runs):
        result = runs(self.TWO, "--kobs", "--kobs-passing=none")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        text = " ".join(result.errlines)
        assert "--kobs-passing=none: none: no such file or session" in text
        assert "expected a session, 'latest' or 'no'" in text

    def test_skips_a_session_that_is_damaged(self, runs):
        runs(self.TWO, "--kobs", passed=1)
        runs(self.TWO, "--kobs", now="y", passed=1)
        newest = runs.sessions / max(os.listdir(runs.sessions))
        for file in newest.glob("*.kobs"):
            file.write_bytes(b"\0" * 100)
        assert runs.told(runs(self.TWO, "--kobs", now="x"))[-1] == "      name: 'sh' -> 'x'"


def test_a_worker_of_xdist_shows_it_as_well(runs):
    runs(SOURCE, "--kobs", passed=1)
    told = runs.told(runs(SOURCE, "--kobs", "-n1", now="x", failed=1))
    assert told[0] == "2 missing (-), 1 new (+), 1 changed (~), 8 the same"
    assert told[-2] == "      mode: 'w' -> 'a'"
