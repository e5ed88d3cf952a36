"""A program that leaves by `os._exit` while its threads are at work leaves as it would bare."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, threading, time

def work():
    while True:
        open(os.devnull).close()

for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
os._exit(7)
"""


def test_the_exit_code_is_the_programs_and_nothing_is_said(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    for number in range(8):
        done = subprocess.run(
            [sys.executable, "-m", "kobs", "run", "-q", "-o", str(tmp_path / str(number)), script],
            capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (7, b"")
