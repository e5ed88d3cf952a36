"""Which core is taken, and what is said where it is not the one that was hoped for."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kobs._core import select
from kobs.errors import ConfigError, CoreUnavailableError
from tests.thorough import thorough

ROOT = Path(__file__).resolve().parents[2]
NOT_BUILT = "import sys; sys.modules['kobs._core._native'] = None\n"


def run(source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python of its own."""
    given = {k: v for k, v in os.environ.items() if k != "KOBS_CORE"} | environment
    return subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, env=given, check=False
    )


C = pytest.param("c", marks=pytest.mark.c_core)


@pytest.mark.parametrize("core", [C, "python"])
def test_the_core_that_is_asked_for_is_the_one(core, monkeypatch):
    monkeypatch.setenv("KOBS_CORE", core)
    assert select().name == core


@pytest.mark.c_core
def test_the_c_core_is_the_best(monkeypatch):
    monkeypatch.delenv("KOBS_CORE", raising=False)
    assert select().name == "c"


def test_another_name_is_refused(monkeypatch):
    monkeypatch.setenv("KOBS_CORE", "rust")
    with pytest.raises(ConfigError, match="KOBS_CORE='rust'; it must be 'c' or 'python'"):
        select()


class TestNotBuilt:
    def test_the_python_core_is_taken_and_the_reason_kept(self):
        done = run(
            NOT_BUILT + "from kobs import Collector\nfrom kobs._core import fallen_back\n"
            "with Collector(size=16) as c: c.process_created(1, 'sh', 5); print(c._core.name)\n"
            "print(fallen_back)"
        )
        assert done.stderr == ""
        assert done.stdout.splitlines()[0] == "python"
        assert "there was no compiler when kobs was installed" in done.stdout

    def test_a_core_that_was_asked_for_is_not_replaced(self):
        done = run(NOT_BUILT + "from kobs import Collector\nCollector()", KOBS_CORE="c")
        assert "CoreUnavailableError: KOBS_CORE=c was asked for, but" in done.stderr
        assert "unset KOBS_CORE or set KOBS_CORE=python" in done.stderr

    def test_it_is_said_once_to_who_listens(self):
        done = run(
            NOT_BUILT + "import logging\nlogging.basicConfig(level='DEBUG')\n"
            "from kobs import Collector\nCollector(size=16); Collector(size=16)"
        )
        assert done.stderr.count("DEBUG:kobs:Python core: ") == 1


@pytest.mark.c_core
@pytest.mark.parametrize("field", ["Header.recording", "SlotHeader.origin", "Counters", "LANES"])
def test_another_layout_is_refused_by_the_name_of_the_field(field, monkeypatch):
    from kobs._core import _native, native

    table = _native.layout()
    offset, size = table[field]
    monkeypatch.setattr(_native, "layout", lambda: {**table, field: (offset, size + 1)})
    with pytest.raises(CoreUnavailableError, match=f"another format: {field} is "):
        native.check_layout()


@pytest.mark.c_core
def test_the_whole_layout_is_compared():
    from kobs._core import _native, layout

    compiled = set(_native.layout())
    for name in ("LaneInfo", "RegionInfo", "Header", "Counters", "SlotHeader", "InFlightEntry",
                 "ReaderEntry"):  # fmt: skip
        fields = [field[0] for field in getattr(layout, name)._fields_]
        assert {f"{name}.{field}" for field in fields} <= compiled


@pytest.mark.parametrize(
    ("compiler", "built"),
    [("/nonexistent/cc", False), pytest.param("", True, marks=[pytest.mark.c_core, thorough])],
)
def test_an_install_succeeds_with_and_without_a_compiler(compiler, built, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "kobs", "kobs_pytest", "instrumentation",
         "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    for name in names:
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    environment = {**os.environ, "CFLAGS": "-O0"}  # whether it builds, not how fast it is
    if compiler:
        environment["CC"] = compiler
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "-w", str(tmp_path), str(source)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("the C core was not built" in done.stdout + done.stderr) is not built
    [wheel] = tmp_path.glob("kobs-*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("kobs/_core/_native.") and name.endswith(".so") for name in inside) \
        is built  # fmt: skip
    assert "kobs/_core/python.py" in inside
