"""`tools.cpython_tests` tells a difference, and says so of nothing that is the same."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("test.libregrtest")

from tools import cpython_tests

SAME = """
import unittest

class Same(unittest.TestCase):
    def test_passes(self): pass
    def test_is_skipped(self): self.skipTest("for a reason")
"""
DIFFERENT = """
import sys, unittest

class Different(unittest.TestCase):
    def test_no_kobs_is_imported(self): self.assertNotIn("kobs", sys.modules)
"""


def run_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> int:
    """Compare a module of our own, as the suite takes one from `--testdir`-like paths."""
    (tmp_path / "test_ours.py").write_text(source)
    monkeypatch.setattr(cpython_tests, "EXTRA", ("--testdir", str(tmp_path)))
    return cpython_tests.main(["test_ours", "--python", sys.executable])


def test_what_is_the_same_is_the_same(tmp_path, monkeypatch, capsys) -> None:
    assert run_on(tmp_path, monkeypatch, SAME) == 0
    assert "test_ours: the same, 2 tests, 1 of them skipped; " in capsys.readouterr().out


def test_a_difference_is_told_by_test(tmp_path, monkeypatch, capsys) -> None:
    assert run_on(tmp_path, monkeypatch, DIFFERENT) == 1
    out = capsys.readouterr().out
    assert "test_ours: 2 differences" in out
    assert "test_no_kobs_is_imported: bare passed, recorded failure" in out


def test_a_module_that_is_not_there_is_no_success(capsys) -> None:
    assert cpython_tests.main(["test_that_nobody_wrote", "--python", sys.executable]) == 1
    assert "test_that_nobody_wrote: not judged, " in capsys.readouterr().out


def test_an_interpreter_without_the_suite_is_refused(tmp_path, capsys) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert cpython_tests.main(["--python", str(python)]) == 2
    assert "comes without its test suite" in capsys.readouterr().err


def test_a_python_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cpython_tests.main(["--python", "no/such/python", "test_ours"])
    assert "'no/such/python' is no program: give the path of a Python" in capsys.readouterr().err
