"""`--kobs-report`: one page about the whole run."""

import os
import re

from tests.plugin.pages import FAILING, SHOP, check_properties, folders, page, rows

pytest_plugins = ["pytester"]

RUN = """
import pytest
from kobs import AnomalyDetected, span_operation

@pytest.mark.parametrize("n", range(5))
def test_many(n):
    for _ in range(n):
        with span_operation("price"):
            pass
    assert n != 3, "order <3> was not paid"

def test_odd(kobs):
    kobs.collector.emit(
        AnomalyDetected(metric="queue wait", value=81.0, expected=3.0, deviation=26.0))

@pytest.fixture
def broken():
    yield
    raise OSError("the shop did not close")

def test_teardown(broken): pass
@pytest.mark.xfail
def test_x(): assert False
"""
FACTS = """
import pytest
@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "teardown" and item.name == "test_odd":
        report.kobs_facts = {
            "leaks": [["thread", "Thread-7", "shop.py:12"]],
            "budgets": [["FileOpened", 10, 4, "events"]],
        }
    return report
"""


class TestReport:
    def test_the_run_on_one_page(self, inner):
        result = inner(RUN, "--kobs-report=out/run.html", passed=6, failed=1, errors=1, xfailed=1)
        assert "kobs: report of the run in out/run.html" in inner.told(result)
        shown = page(inner.pytester.path / "out" / "run.html")
        assert "2 of 8 tests did not pass" in shown.text
        assert "1 error1 failed5 passed1 xfailed" in shown.text
        failing = rows(shown, "Not passed", "Slowest operations")
        assert "AssertionError: order <3> was not paid" in failing
        assert "OSError: the shop did not close" in failing
        assert "test_odd" not in failing
        # price: 0 + 1 + 2 + 3 + 4 spans, in the four tests that had any
        slowest = rows(shown, "Slowest operations", "Busiest tests")
        assert re.search(r"price SpanEnded10·.*4", slowest.replace("\n", ""))
        assert "test_many[4]" in rows(shown, "Busiest tests", "Anomalies")
        assert "queue wait813+26.0 sd1" in rows(shown, "Anomalies", "Leaks")
        assert "not asked for" in rows(shown, "Leaks", "Budgets")
        assert "not asked for" in rows(shown, "Budgets", "Lost events")
        assert "none" in rows(shown, "Lost events", "All tests")
        assert rows(shown, "All tests", "this page").count("test_the_run_on_one_page.py::") == 8

    def test_what_others_know_of_a_test(self, inner):
        inner.pytester.makeconftest(FACTS)
        inner(RUN, "--kobs-report=run.html", "--kobs-artifacts=left")
        shown = page(inner.pytester.path / "run.html")
        assert "threadThread-7shop.py:12" in rows(shown, "Leaks", "Budgets")
        assert "FileOpened4 events10 events40%" in rows(shown, "Budgets", "Lost events")
        links = [link for link in shown.links if link]
        assert links
        assert all((inner.pytester.path / link).is_file() for link in links)

    def test_leaks_and_budgets_are_those_that_markers_judge(self, inner):
        inner(
            """
            import os, pytest
            @pytest.mark.kobs_no_leaks("fd")
            def test_leaves_a_descriptor():
                os.open("/dev/null", os.O_RDONLY)
            @pytest.mark.kobs_budget(FileOpened=4)
            def test_opens():
                open("a", "w").close()
            """,
            "--kobs-report=run.html", passed=2, errors=1,
        )  # fmt: skip
        shown = page(inner.pytester.path / "run.html")
        assert re.search(r"fd.*/dev/null.*\.py:4", rows(shown, "Leaks", "Budgets"))
        assert "FileOpened count1 events4 events25%" in rows(shown, "Budgets", "Lost events")

    def test_lost_events_and_inconclusive_tests_come_first(self, inner):
        inner(
            """
            from kobs import FileOpened
            def test_it(kobs, tmp_path):
                for number in range(60):
                    (tmp_path / str(number)).write_text("x")
                kobs.never(FileOpened.like(mode="a"))
            """,
            "--kobs-report=run.html", "--kobs-size=16", failed=1,
        )  # fmt: skip
        shown = page(inner.pytester.path / "run.html")
        head = shown.text.partition("Not passed")[0]
        assert "1 test is inconclusive" in head
        assert "Of 1 test not everything may have been seen." in head
        assert "the ring overflowed" in rows(shown, "Lost events", "All tests")

    def test_workers_are_merged(self, inner):
        """One run with two workers: artifacts by the workers, all else by the controller."""
        result = inner(
            SHOP, "-n2", "--kobs-artifacts=left", "--kobs-report=run.html", "--junitxml=junit.xml",
            passed=2, failed=4, errors=2, skipped=1, xfailed=1,
        )  # fmt: skip
        assert len(list((inner.pytester.path / "left").iterdir())) == FAILING
        told = inner.told(result)
        assert told.count("kobs: artifacts of 6 failing tests in left") == 1
        assert told.count("kobs: report of the run in run.html") == 1
        check_properties(inner, folders(inner.pytester.path / "left"))
        shown = page(inner.pytester.path / "run.html")
        assert "6 of 9 tests did not pass" in shown.text
        assert "workers2" in shown.text.replace("\n", "")
        assert "FileOpened" in rows(shown, "Slowest operations", "Busiest tests")
        assert re.search(r"gw[01]", rows(shown, "All tests", "this page"))


def test_a_module_that_cannot_be_collected_is_an_error(inner):
    inner("import no_such_module", "--kobs-report=run.html", errors=1)
    shown = page(inner.pytester.path / "run.html")
    assert "1 of 1 test did not pass" in shown.text
    assert "ImportError while importing test module" in rows(shown, "Not passed", "Slowest")
    assert "exit code2" in shown.text.replace("\n", "")


def test_a_run_that_only_collects_leaves_no_page(inner):
    result = inner("def test_it(): pass", "--kobs-report=run.html", "--collect-only")
    assert not (inner.pytester.path / "run.html").exists()
    assert "report of the run" not in inner.told(result)


def test_an_interrupted_run_leaves_its_page(inner):
    inner(
        "import pytest\ndef test_ok(): pass\ndef test_stop(): pytest.exit('enough')\n",
        "--kobs-report=run.html",
    )
    shown = page(inner.pytester.path / "run.html")
    assert "exit code2" in shown.text.replace("\n", "")
    assert os.path.getsize(inner.pytester.path / "run.html") < 100_000
