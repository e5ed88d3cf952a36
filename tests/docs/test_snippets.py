"""Every snippet in README and docs is run.

A fence's first word says how: `python` runs as a script, `python file=NAME` is written to the
page's folder first (and only written with `norun`), `sh` runs in bash. The snippets of a page run
in order, in one folder. `text` is for output. Commands that make the environment the tests run in
(`make ...`, `git clone`) are checked, not run.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / "examples").glob("*.md"),
]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN = {"python": ([sys.executable], "snippet.py"), "sh": (["bash", "-eu"], "snippet.sh")}
SHOWN = {"text", "json", "toml", "yaml"}


def snippets(page: Path) -> list[tuple[str, str, str]]:
    return [match.groups() for match in FENCE.finditer(page.read_text())]  # type: ignore[misc]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


TYPES = ROOT / "docs" / "reference" / "events"
WITH_SNIPPETS = [page for page in PAGES if snippets(page) and page.parent != TYPES]


@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_snippets_of_a_page_run(page: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("KOBS_", "PYTEST_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["XDG_STATE_HOME"] = str(tmp_path / "state")
    environment["CI"] = "1"  # Hypothesis is told that a machine may be slow
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "instrumentation")])
    work = tmp_path / "work"
    work.mkdir()
    for language, options, code in snippets(page):
        if language in SHOWN:
            continue
        assert language in RUN, f"{page.name}: a fence is python, sh or text; this is {language}"
        if language == "sh" and _sets_up(code):
            continue
        name = re.search(r"file=(\S+)", options)
        script = work / (
            name.group(1) if name else "snippet.py" if language == "python" else "s.sh"
        )
        script.write_text(code)
        if "norun" in options:
            continue
        command = (
            [sys.executable, script.name] if language == "python" else ["bash", "-eu", script.name]
        )
        done = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, timeout=120
        )
        expected = int(match.group(1)) if (match := re.search(r"exit=(\d+)", options)) else 0
        assert done.returncode == expected, f"{code}\n{done.stdout}\n{done.stderr}"


def test_the_snippets_of_the_payload_types_run(tmp_path: Path) -> None:
    """One each, made by `make docs`: all in one process, each with names of its own."""
    pages = [page for page in sorted(TYPES.glob("*.md")) if snippets(page)]
    assert len(pages) > 50
    lines = []
    for page in pages:
        ((language, _, code),) = snippets(page)
        assert language == "python"
        lines.append(f"exec(compile({code!r}, {page.name!r}, 'exec'), {{}})")
    script = tmp_path / "snippets.py"
    script.write_text("\n".join(lines))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def _sets_up(code: str) -> bool:
    lines = [line.split("#")[0].strip() for line in code.splitlines()]
    lines = [line for line in lines if line]
    if not all(line.startswith(("make ", "git clone ", "cd ", "pip install ")) for line in lines):
        return False
    for line in lines:
        if line.startswith("make "):
            assert set(line.split()[1:]) <= targets(), f"the Makefile has no such target: {line}"
    return True
