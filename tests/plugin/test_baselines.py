"""`--kobs-baseline`: what a test did before is what it does now, or it fails with the
difference."""

import re

import pytest

from kobs._core import select

pytest_plugins = ["pytester"]

SHOP = """
import os, queue, threading
import pytest
from kobs import FileOpened, MessageSent, ProcessCreated, SpanEnded, SpanBegan
import kobs as k

NOW = os.environ.get("NOW", "")

def emit(*payloads):
    for payload in payloads:
        k.global_collector().emit(payload)
"""
MAILER = (
    SHOP
    + """
def test_sent(tmp_path):
    letters = queue.Queue()
    def work():
        name = letters.get()
        (tmp_path / name).write_text("dear kobs")
        if NOW == "more":
            (tmp_path / name).write_text("dear kobs")
        if NOW == "other":
            (tmp_path / name).unlink()
    thread = threading.Thread(target=work)
    thread.start()
    letters.put("letter")
    thread.join()

def test_quiet():
    pass
"""
)
BASELINE = """\
kobs-baseline 1
recorded core=CORE watches=default

test STATE test_it.py::test_quiet

test STATE test_it.py::test_sent
  1 MessageSent(queue_id='Queue-<n>')
  1 MessageSent > MessageReceived(queue_id='Queue-<n>')
  1 MessageSent > MessageReceived > FileChanged(path='<tmp>/letter', change='written')
  1 MessageSent > MessageReceived > FileOpened(path='<tmp>/letter', mode='w')
"""
FILE = "--kobs-baseline=it.baseline"
UPDATE = "--kobs-update-baseline"
SENT = {
    "test_quiet": [],
    "test_sent": [
        "1 MessageSent(queue_id='Queue-<n>')",
        "1 MessageSent > MessageReceived(queue_id='Queue-<n>')",
        "1 MessageSent > MessageReceived > FileChanged(path='<tmp>/letter', change='written')",
        "1 MessageSent > MessageReceived > FileOpened(path='<tmp>/letter', mode='w')",
    ],
}
"""What the tests of MAILER do."""


@pytest.fixture
def baseline(inner, monkeypatch):
    return Baselines(inner, monkeypatch)


class Baselines:
    """Runs tests with a baseline."""

    def __init__(self, inner, monkeypatch):
        self.inner = inner
        self.path = inner.pytester.path / "it.baseline"
        self.environment = monkeypatch
        monkeypatch.setattr("sys.dont_write_bytecode", True)  # one file, many contents

    def run(self, source, *arguments, now="", **outcomes):
        self.environment.setenv("NOW", now)
        tester = self.inner.pytester
        tester.makepyfile(test_it=source)
        off = [f"-pno:{name}" for name in ("cacheprovider", "hypothesispytest", "anyio")]
        result = tester.runpytest_inprocess(*off, *arguments)
        if outcomes:
            result.assert_outcomes(**outcomes)
        return result

    def know(self, **tests):
        """Write the file: confirmed tests, each with its facts."""
        lines = ["kobs-baseline 1", f"recorded core={select().name} watches=default"]
        for test, facts in tests.items():
            lines += ["", f"test confirmed test_it.py::{test}", *(f"  {fact}" for fact in facts)]
        self.path.write_text("\n".join(lines) + "\n")

    @property
    def text(self):
        text = self.path.read_text()
        return re.sub("core=(c|python)", "core=CORE", text)

    def summary(self, result):
        """The section on the baseline."""
        text = "\n".join(result.outlines)
        match = re.search(r"=+ baseline it.baseline =+\n(.*?)(?=\nkobs: |\n=)", text, re.DOTALL)
        return match[1] if match else ""


class TestMaking:
    def test_takes_two_runs_that_agree(self, baseline):
        result = baseline.run(MAILER, FILE, UPDATE, passed=2)
        assert baseline.text == BASELINE.replace("STATE", "candidate")
        assert baseline.summary(result) == (
            "2 tests new: update once more, so that two runs agree: test_it.py::test_quiet,\n"
            "  test_it.py::test_sent"
        )
        result = baseline.run(MAILER, FILE, passed=2)
        assert baseline.summary(result) == (
            "2 tests not judged: seen in one run only (--kobs-update-baseline confirms):\n"
            "  test_it.py::test_quiet, test_it.py::test_sent"
        )
        result = baseline.run(MAILER, FILE, UPDATE, passed=2)
        assert baseline.text == BASELINE.replace("STATE", "confirmed")
        assert baseline.summary(result) == (
            "2 tests confirmed by a second run: test_it.py::test_quiet, test_it.py::test_sent"
        )

    def test_leaves_out_what_varies(self, baseline):
        source = SHOP + (
            "def test_it():\n"
            "    word = os.environ['WORD']\n"
            "    emit(ProcessCreated(word), FileOpened('a', 'w'), *[MessageSent('q')] * len(word))"
        )
        for word in ("to", "sea", "where"):
            baseline.environment.setenv("WORD", word)
            if word != "where":
                result = baseline.run(source, FILE, UPDATE, passed=1)
        assert "\n  1 FileOpened(path='a', mode='w')\n" in baseline.text
        assert "\n  ~ MessageSent(queue_id='q')\n" in baseline.text
        assert "\n  ~ ProcessCreated(...)\n" in baseline.text
        assert "1 test with facts that differ between two runs: marked ~, left out" in (
            baseline.summary(result)
        )
        baseline.run(source, FILE, passed=1)

    def test_touches_only_the_tests_that_ran_and_passed(self, baseline):
        source = (
            SHOP
            + """
def test_a(): emit(FileOpened(NOW, "w"))
def test_b(): emit(FileOpened(NOW, "w"))
def test_c():
    emit(FileOpened(NOW, "w"))
    assert not NOW
@pytest.mark.xfail
def test_d(): assert 0
@pytest.mark.skipif("NOW")
def test_e(): pass
"""
        )
        before = ["1 FileOpened(path='', mode='w')"]
        baseline.know(test_a=before, test_b=before, test_c=before, test_e=[], test_gone=before)
        text = baseline.text
        result = baseline.run(source, FILE, UPDATE, "--deselect=test_it.py::test_b", now="x")
        assert baseline.text == text.replace(
            "test confirmed test_it.py::test_a\n  1 FileOpened(path='', mode='w')",
            "test candidate test_it.py::test_a\n  1 FileOpened(path='x', mode='w')",
        )
        assert baseline.summary(result) == (
            "1 test changed: update once more, so that two runs agree: test_it.py::test_a"
        )

    def test_names_tests_that_there_are_no_more(self, baseline):
        one = SHOP + "def test_a(): pass"
        baseline.know(test_a=[], test_b=[])
        gone = (
            "1 test that there is no more (delete the block or blocks in the file):\n"
            "  test_it.py::test_b"
        )
        for arguments in ((FILE,), (FILE, UPDATE)):
            result = baseline.run(one, *arguments)
            assert baseline.summary(result).endswith(gone)
            assert "test confirmed test_it.py::test_b" in baseline.text
        for narrowed in (("-k", "a"), ("test_it.py::test_a",)):
            result = baseline.run(one, FILE, *narrowed)
            assert "no more" not in baseline.summary(result)
        assert "no more" not in baseline.summary(baseline.run("1/0", FILE))


class TestJudging:
    def test_passes_a_test_that_does_the_same(self, baseline):
        baseline.know(**SENT)
        result = baseline.run(MAILER, FILE, passed=2)
        assert baseline.summary(result) == "tests: 2 as before"

    def test_fails_a_test_that_does_something_else(self, baseline):
        baseline.know(**SENT)
        result = baseline.run(MAILER, FILE, now="other", passed=1, failed=1)
        text = "\n".join(result.outlines)
        assert "test_it.py F" in text
        assert (
            """
__________________________________ test_sent ___________________________________
Not what its baseline says (- before, + now):

+ 1 MessageSent > MessageReceived > FileChanged(path='<tmp>/letter',
      change='removed')

If it is meant to, take it into the baseline; run this twice:
  pytest --kobs-baseline=it.baseline --kobs-update-baseline \\
    test_it.py::test_sent
------------------------------ Captured kobs call ------------------------------
"""
            in text
        )
        assert baseline.summary(result) == "tests: 1 as before, 1 different"
        assert "kobs_pytest" not in text

    def test_fails_a_test_that_does_it_more_often(self, baseline):
        baseline.know(**SENT)
        result = baseline.run(MAILER, FILE, now="more", passed=1, failed=1)
        assert """
- 1 MessageSent > MessageReceived > FileChanged(path='<tmp>/letter',
      change='written')
+ 2 MessageSent > MessageReceived > FileChanged(path='<tmp>/letter',
      change='written')
- 1 MessageSent > MessageReceived > FileOpened(path='<tmp>/letter', mode='w')
+ 2 MessageSent > MessageReceived > FileOpened(path='<tmp>/letter', mode='w')
""" in "\n".join(result.outlines)

    def test_knows_what_parts_that_were_captured_by_themselves_did(self, baseline):
        source = SHOP + (
            "def test_it(kobs):\n"
            "    with kobs.capture():\n"
            "        with kobs.capture(): emit(FileOpened('x', NOW or 'r'))\n"
        )
        baseline.know(test_it=["1 FileOpened(path='x', mode='r')"])
        baseline.run(source, FILE, passed=1)
        result = baseline.run(source, FILE, now="w", failed=1)
        assert "- 1 FileOpened(path='x', mode='r')" in result.outlines

    def test_says_nothing_of_what_fixtures_set_up(self, baseline):
        source = (
            SHOP
            + """
@pytest.fixture
def shop():
    emit(FileOpened(NOW, "w"))
    yield
    emit(FileOpened(NOW, "r"))

def test_it(shop):
    emit(ProcessCreated("sh"))
"""
        )
        baseline.know(test_it=["1 ProcessCreated(name='sh')"])
        baseline.run(source, FILE, now="x", passed=1)

    def test_takes_in_what_a_fixtures_thread_does_for_the_test(self, baseline):
        source = (
            SHOP
            + """
@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    orders, done = queue.Queue(), queue.Queue()
    folder = tmp_path_factory.mktemp("shop")
    def work():
        while (name := orders.get()) is not None:
            (folder / name).write_text(name)
            done.put(name)
    thread = threading.Thread(target=work)
    thread.start()
    yield orders, done
    orders.put(None)
    thread.join()

def test_it(shop):
    orders, done = shop
    orders.put(NOW or "bread")
    assert done.get()
"""
        )
        baseline.run(source, FILE, UPDATE, passed=1)
        shape = "MessageSent > MessageReceived > FileOpened(path='<tmp>/bread', mode='w')\n"
        assert f"  1 {shape}" in baseline.text
        baseline.path.write_text(baseline.path.read_text().replace("candidate", "confirmed"))
        result = baseline.run(source, FILE, now="milk", failed=1)
        assert f"\n- 1 {shape}+ 1 {shape.replace('bread', 'milk')}" in "\n".join(result.outlines)

    def test_is_left_to_a_test_that_fails_itself(self, baseline):
        source = SHOP + "def test_it():\n    emit(FileOpened(NOW, 'w'))\n    assert not NOW"
        baseline.know(test_it=["1 FileOpened(path='', mode='w')"])
        result = baseline.run(source, FILE, now="x", failed=1)
        assert "AssertionError" in "\n".join(result.outlines)
        assert "Not what its baseline says" not in "\n".join(result.outlines)

    def test_does_not_count_types_that_are_not_stable(self, baseline):
        source = SHOP + (
            "from kobs import GcPaused\n"
            "def test_it():\n    emit(*[GcPaused(0, 1.0, 1)] * len(NOW), ProcessCreated('sh'))"
        )
        baseline.know(test_it=["1 ProcessCreated(name='sh')"])
        baseline.run(source, FILE, now="xyz", passed=1)

    def test_names_tests_that_the_file_does_not_know(self, baseline):
        baseline.know(test_a=[])
        source = SHOP + "def test_a(): pass\ndef test_b(): emit(FileOpened('x', 'w'))"
        result = baseline.run(source, FILE, passed=2)
        assert baseline.summary(result) == (
            "tests: 1 as before\n"
            "1 test not judged: not in the file (--kobs-update-baseline, twice):\n"
            "  test_it.py::test_b"
        )


class TestAnIncompleteCapture:
    SOURCE = SHOP + "def test_it():\n    emit(*[MessageSent('q')] * (500 if NOW else 5))"

    def test_is_inconclusive_and_never_written(self, baseline):
        result = baseline.run(self.SOURCE, FILE, UPDATE, "--kobs-size=64", now="x", failed=1)
        assert not baseline.path.exists()
        assert baseline.summary(result) == "1 test not written: inconclusive: test_it.py::test_it"
        baseline.know(test_it=["5 MessageSent(queue_id='q')"])
        before = baseline.text
        for arguments in ((FILE, UPDATE), (FILE,)):
            result = baseline.run(self.SOURCE, *arguments, "--kobs-size=64", now="x", failed=1)
            text = "\n".join(result.outlines)
            assert "test_it.py ?" in text
            assert "Inconclusive: it is not known whether the test did what it did before" in text
            assert "the ring overflowed: " in text
            assert baseline.text == before
        assert baseline.summary(result) == "tests: 1 inconclusive"

    def test_of_a_test_without_an_entry_is_nobodys_business(self, baseline):
        baseline.know(test_other=[])
        baseline.run(self.SOURCE, FILE, "--kobs-size=64", now="x", passed=1)

    def test_is_one_in_which_the_missing_may_be_somebody_elses(self, baseline):
        source = (
            SHOP
            + """
@pytest.fixture(scope="session")
def server():
    wanted, made = threading.Event(), threading.Event()
    def work():
        wanted.wait()
        emit(FileOpened("a", "w"))
        made.set()
    thread = threading.Thread(target=work)
    thread.start()
    yield wanted, made
    wanted.set()
    thread.join()

def test_it(server):
    wanted, made = server
    if NOW:
        wanted.set()
        made.wait()
    else:
        emit(FileOpened("a", "w"))
"""
        )
        baseline.know(test_it=["1 FileOpened(path='a', mode='w')"])
        result = baseline.run(source, FILE, now="x", failed=1)
        text = "\n".join(result.outlines)
        assert "test_it.py ?" in text
        assert (
            "1 FileOpened(path='a', mode='w') happened meanwhile of which nothing says who"
            " caused it" in text.replace("\n  ", " ")
        )


class TestDurations:
    SOURCE = SHOP + (
        "SLOW = 100 if NOW else 1\n"
        "def test_it():\n"
        "    emit(*[SpanEnded('parse', 1000.0 * SLOW)] * 30, *[SpanEnded('wait', 5.0 * SLOW)] * 5)"
    )

    def test_are_left_alone_unless_asked_for(self, baseline):
        baseline.run(self.SOURCE, FILE, UPDATE, passed=1)
        assert not re.search("[0-9]u ", baseline.text)

    def test_may_grow_by_a_factor_where_there_are_samples_enough(self, baseline):
        asked = "--kobs-baseline-durations=9x"
        for _ in range(2):
            baseline.run(self.SOURCE, FILE, UPDATE, asked, passed=1)
        (line,) = re.findall(r"\n  ([0-9.e+]+)u SpanEnded\(name='parse'\)\n", baseline.text)
        assert float(line) > 0
        assert "u SpanEnded(name='wait')" not in baseline.text
        baseline.run(self.SOURCE, FILE, asked, passed=1)
        result = baseline.run(self.SOURCE, FILE, asked, now="slow", failed=1)
        text = "\n".join(result.outlines)
        assert f"\n- {line}u SpanEnded(name='parse')\n+ " in text
        baseline.run(self.SOURCE, FILE, asked + ":31", now="slow", passed=1)
        baseline.run(self.SOURCE, FILE, now="slow", passed=1)

    @pytest.mark.parametrize("given", ["1x", "fast", "2x:1", "-3"])
    def test_need_a_factor(self, baseline, given):
        result = baseline.run(self.SOURCE, FILE, UPDATE, f"--kobs-baseline-durations={given}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert f"--kobs-baseline-durations={given}: expected a factor over 1" in (
            "\n".join(result.errlines)
        )


class TestOptions:
    def refused(self, result):
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        return " ".join(result.errlines)

    def test_a_file_that_is_not_there_is_named(self, baseline):
        text = self.refused(baseline.run(MAILER, FILE))
        assert "it.baseline: no such baseline; --kobs-update-baseline makes one" in text

    def test_a_file_that_is_not_understood_is_named_with_the_line(self, baseline):
        baseline.path.write_text(BASELINE.replace("CORE", "c"))
        for arguments in ((FILE,), (FILE, UPDATE)):
            text = self.refused(baseline.run(MAILER, *arguments))
            assert "it.baseline, line 4: expected `test confirmed NAME` or" in text

    def test_a_file_that_was_recorded_otherwise_is_refused(self, baseline):
        baseline.know(**SENT)
        text = self.refused(baseline.run(MAILER, FILE, "--kobs-all"))
        assert "watches=default, this run has core=" in text

    def test_a_folder_is_refused(self, baseline):
        text = self.refused(baseline.run(MAILER, "--kobs-baseline=."))
        assert "--kobs-baseline=.: is a folder; expected a file" in text

    @pytest.mark.parametrize("option", [UPDATE, "--kobs-baseline-durations=2x"])
    def test_others_need_the_file(self, baseline, option):
        text = self.refused(baseline.run(MAILER, option))
        name = option.partition("=")[0]
        assert f"{name} needs the file: --kobs-baseline=FILE (ini: kobs_baseline)" in text

    def test_the_file_can_be_named_in_the_ini_file_and_in_the_environment(self, baseline):
        tester = baseline.inner.pytester
        ini = tester.path / "tox.ini"
        ini.write_text(ini.read_text() + "\nkobs_baseline = it.baseline\n")
        baseline.know(**SENT)
        result = baseline.run(MAILER, now="other", passed=1, failed=1)
        assert "  pytest --kobs-update-baseline \\\n" in "\n".join(result.outlines)
        baseline.environment.setenv("KOBS_PYTEST_BASELINE", "other.baseline")
        baseline.run(MAILER, UPDATE, passed=2)
        assert (tester.path / "other.baseline").exists()

    def test_a_file_that_cannot_be_written_fails_the_run(self, baseline):
        result = baseline.run(MAILER, "--kobs-baseline=none/it.baseline", UPDATE)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        text = "\n".join(result.outlines)
        assert "= baseline none/it.baseline =" in text
        assert "not written: " in text
        assert "No such file or directory" in text

    def test_nothing_is_compared_with_what_is_not_captured(self, baseline):
        text = self.refused(baseline.run(MAILER, FILE, UPDATE, "--no-kobs"))
        assert "--kobs-update-baseline and --no-kobs were both given: leave one out" in text

    def test_without_any_nothing_of_it_is_imported(self, baseline):
        result = baseline.inner.pytester.runpython_c(
            "import sys, pytest\n"
            "pytest.main(['--co', '-q', '--kobs', '-pno:cacheprovider'])\n"
            "assert 'kobs_pytest.runtime' in sys.modules\n"
            "loaded = {n for n in sys.modules if n.startswith('kobs_pytest.baselines')}\n"
            "assert loaded == {'kobs_pytest.baselines', 'kobs_pytest.baselines.passing'}, loaded\n"
            "assert not {n for n in sys.modules if 'recorded_tests' in n or 'traces' in n}\n"
        )
        assert result.ret == 0, result.errlines


def test_workers_of_xdist_write_and_judge_as_one(baseline):
    source = (
        SHOP
        + """
@pytest.mark.xdist_group("shop")
@pytest.mark.parametrize("n", range(1, 7))
def test_it(n, tmp_path):
    (tmp_path / f"{'x' * n}{NOW}").write_text("x")
"""
    )
    baseline.run(source, FILE, UPDATE, "-n2", passed=6)
    assert baseline.text.count("test candidate") == 6
    baseline.path.write_text(baseline.path.read_text().replace("candidate", "confirmed"))
    five = source.replace("range(1, 7)", "range(1, 6)")
    result = baseline.run(five, FILE, "-n2", "--dist=loadgroup", now="y", failed=5)
    assert baseline.summary(result) == (
        "tests: 5 different\n"
        "1 test that there is no more (delete the block or blocks in the file):\n"
        "  test_it.py::test_it[6]"
    )
