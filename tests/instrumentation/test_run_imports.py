"""What a recorded program's events need is imported before it begins.

An event that imports does so in a thread of the program: a child that another thread forks
meanwhile waits for the import for ever, at its own first event.
"""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import gc, queue, sys, threading

seen = sum(type(found).__module__.startswith("kobs.") for found in gc.get_objects())
print(gc.isenabled(), gc.get_freeze_count() > 1000, seen < 50)
print([name for name in ("kobs.tracing", "kobs.bridge", "kobs.query") if name in sys.modules])

def work():
    numbers = queue.Queue()
    for number in range(300):
        numbers.put(number)
        numbers.get()
    open("file", "w").close()

before = set(sys.modules)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(sorted(name for name in set(sys.modules) - before if name.startswith("kobs")))
"""


@pytest.mark.parametrize("core", ["python", pytest.param("c", marks=pytest.mark.c_core)])
def test_an_event_imports_nothing_and_the_collector_goes_through_nothing(
    core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOBS_CORE", core)
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "kobs", "run", "-o", "session", "--report", "program.py"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    collector, too_early, imported, *_ = done.stdout.splitlines()
    assert too_early == "[]"  # nobody asked for it
    assert imported == "[]"
    # What was there when the program began is none of its garbage collector's.
    assert collector == "True True True"
    assert "MessageSent" in done.stdout + done.stderr


def test_who_supervises_imports_what_that_takes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "kobs", "run", "-o", "session", "-q", "--",
         "true"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "kobs.session" in imported
    assert not imported & {"ctypes", "kobs._core.contract", "kobs.payloads", "kobs.collector"}
