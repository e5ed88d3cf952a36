"""A program that leaves by `os._exit` while its threads are at work leaves as it would bare."""

import struct
import subprocess
import sys
from pathlib import Path

import kobs
from tests.thorough import many

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
    for number in range(many(4)):
        done = subprocess.run(
            [sys.executable, "-m", "kobs", "run", "-q", "-o", str(tmp_path / str(number)), script],
            capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (7, b"")


COUNTING = '''
import mmap, os, struct, sys, threading, time
import kobs
from kobs.schema import U64

@kobs.event_type(category=kobs.Category.PERFORMANCE)
class Counted:
    """A number of a thread."""
    place: U64
    value: U64

with open("said", "r+b") as file:
    SAID = mmap.mmap(file.fileno(), 4096)
emit = kobs.global_collector().emitter(Counted)

def work(place):
    value = 0
    while True:
        value += 1
        emit(place, value)
        struct.pack_into("Q", SAID, 8 * place, value)

for place in range(4):
    threading.Thread(target=work, args=(place,), daemon=True).start()
sys.setswitchinterval(1e-6)  # threads run in the midst of os._exit
time.sleep(0.01)
os._exit(7)
'''


def test_what_other_threads_do_until_the_process_is_gone_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(COUNTING)
    for number in range(many(2)):
        (tmp_path / "said").write_bytes(bytes(4096))
        done = subprocess.run(
            [sys.executable, "-m", "kobs", "run", "-q", "--no-adaptive", "-o", str(number),
             "program.py"],
            cwd=tmp_path, capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (7, b"")
        said = struct.unpack("4Q", (tmp_path / "said").read_bytes()[:32])
        with kobs.open_recording(tmp_path / str(number)) as recording:
            assert [process.state for process in recording.processes] == ["exited"]
            newest = dict.fromkeys(range(4), 0)
            for event in recording.snapshot():
                if event.type_name == "Counted":
                    newest[event.payload.place] = event.payload.value
        for place in range(4):
            assert newest[place] - said[place] in (0, 1)


LINGERING = """
import sys, threading, time
import kobs
from kobs.payloads import ShmDestroyed

collector = kobs.global_collector()

def work():
    while True:
        collector.emit(ShmDestroyed(name="a"))

for _ in range(4):
    threading.Thread(target=work, daemon=True).start()

class Last:
    # The end of the program, after every exit handler: daemon threads run on for a while.
    def __del__(self, emit=collector.emit, event=ShmDestroyed(name="last"), sleep=time.sleep):
        emit(event)
        sleep(0.001)

last = Last()
time.sleep(0.02)
sys.setswitchinterval(1e-6)
"""


def test_daemon_threads_and_finalizers_of_a_program_that_ends_raise_nothing(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(LINGERING)
    for number in range(many(5)):
        done = subprocess.run(
            [sys.executable, "-m", "kobs", "run", "-q", "--no-adaptive", "-o", str(number),
             "program.py"],
            cwd=tmp_path, capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
