"""`tools.project_suites` runs a suite without the plugin, with it unused, and with all of it on."""

import sys
from pathlib import Path

from tools import project_suites
from tools.comparing import differences

SUITE = """
def test_passes(): pass
def test_nothing_watches():
    import sys
    assert "kobs_instrumentation.watch" not in sys.modules
"""


def test_runs_differ_where_the_plugin_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "venv").symlink_to(sys.prefix)
    tests = tmp_path / "source" / "tests"
    tests.mkdir(parents=True)
    (tests / "test_ours.py").write_text(SUITE)
    bare, unused, everything = (
        project_suites.run(tmp_path, "ours", "tests", way, None)
        for way in ("bare", "unused", "all")
    )
    assert set(bare.tests.values()) == {"passed"}
    assert differences(bare, unused) == set()
    assert unused.recorded == "no session"
    assert "events of 1 processes" in everything.recorded
    assert differences(bare, everything) == {
        "tests.test_ours::test_nothing_watches: bare passed, recorded failure",
        "exit code: bare 0, recorded 1",
    }
