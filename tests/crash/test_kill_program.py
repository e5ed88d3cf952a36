"""kill -9 on a recorded program, at many random moments of its life: what `kobs run` wrote opens,
holds no torn event, and lists what was in flight."""

import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import kobs
from kobs.payloads import FileOpened, MessageReceived, MessageSent, SpanBegan, SpanEnded

KILLS = int(os.environ.get("KOBS_PROGRAM_KILLS", "32"))
NAMES = 512
"""So many spans of a thread have different names: a recording has no room for all of them."""
AT_ONCE = 2
REPORT_EVERY = 20
WAIT_S = 60
MASK = (1 << 64) - 1
TARGETS = ("program", "child", "group")
CHILDREN = ("fork", "subprocess", "from a thread")

PROGRAM = '''
import mmap, os, queue, struct, subprocess, sys, threading, time
import kobs
from kobs.schema import U64

MASK = (1 << 64) - 1
NAMES = int(sys.argv[4])
FORGOTTEN = time.monotonic() + 300  # who was to kill it is gone
state_file, kind, place = sys.argv[1], sys.argv[2], int(sys.argv[3])

@kobs.event_type(category=kobs.Category.PERFORMANCE)
class Checked:
    """A number, and others that follow from it."""
    value: U64
    inverse: U64
    first: U64
    last: U64

def say(place, step):
    struct.pack_into("q", STATE, 8 * place, step)

def steps(place, name):
    """Work until killed. The state is odd while a span is open for certain."""
    numbers = queue.Queue()
    emit = kobs.global_collector().emit
    step = 0
    while time.monotonic() < FORGOTTEN:
        with kobs.span_operation(f"{name} {step % NAMES}"):
            say(place, 2 * step + 1)
            mode = "wxra"[step % 4]
            path = f"{place}-{step // 4 * 4}.{mode}"
            if mode == "r":
                path = f"{place}-{step // 4 * 4}.w"
            with open(path, mode):
                pass
            numbers.put(step)
            numbers.get()
            product = step * 31 & MASK
            emit(Checked(value=step, inverse=step ^ MASK, first=product, last=product))
            say(place, 2 * step + 2)
        step += 1

with open(state_file, "r+b") as file:
    STATE = mmap.mmap(file.fileno(), 4096)
if place == 1:
    steps(1, "child")
if kind == "fork":
    child = os.fork()
    if child == 0:
        steps(1, "child")
    wait = lambda: os.waitpid(child, 0)
elif kind == "subprocess":
    wait = subprocess.Popen([sys.executable, __file__, state_file, kind, "1", sys.argv[4]]).wait
else:
    started = queue.Queue()
    threading.Thread(
        target=lambda: started.put(subprocess.Popen(["sleep", "60"])), daemon=True
    ).start()
    wait = started.get().wait
threading.Thread(target=steps, args=(2, "thread"), daemon=True).start()
threading.Thread(target=lambda: (wait(), os._exit(7)), daemon=True).start()
steps(0, "main")
'''


class Killed(NamedTuple):
    """One program that was killed."""

    number: int
    target: str
    kind: str
    pid: int
    child: int | None
    """Its child, where there was one to be killed."""
    status: int
    """What `kobs run` ended with."""
    said: str
    session: Path
    states: tuple[int, ...]


def whole(event: kobs.Event) -> bool:
    """Fields that follow from each other do."""
    payload = event.payload
    if event.type_name == "Checked":
        value = payload.value
        product = value * 31 & MASK
        return (payload.inverse, payload.first, payload.last) == (value ^ MASK, product, product)
    if isinstance(payload, FileOpened) and payload.path.endswith((".w", ".x", ".a")):
        return payload.mode in (payload.path[-1], "r")
    if isinstance(payload, MessageSent | MessageReceived):
        return bool(event.link) and payload.queue_id.startswith("Queue")
    if isinstance(payload, SpanBegan | SpanEnded):
        return payload.name.split()[0] in ("main", "child", "thread") and event.span_id != 0
    return True


def children_of(pid: int) -> list[int]:
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += Path(f"/proc/{pid}/task/{task}/children").read_text().split()
    except OSError:
        pass
    return [int(child) for child in found]


def gone(pid: int) -> bool:
    """It runs no more; perhaps nobody has taken note of it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def wait_for(condition: Callable[[], object]) -> object:
    end = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.001)
    return found


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def kill_one(folder: Path, number: int, wait: Callable[[memoryview], object]) -> Killed:
    """Record the program and kill it, its child or all of the group once `wait` returns."""
    target, kind = TARGETS[number % 3], CHILDREN[number // 3 % 3]
    folder.mkdir()
    (folder / "state").write_bytes(bytes(4096))
    with open(folder / "state", "r+b") as file:
        state = memoryview(mmap.mmap(file.fileno(), 4096)).cast("q")
    (folder / "program.py").write_text(PROGRAM)
    kobs_run = subprocess.Popen(
        # Whatever it does is recorded, also where the machine is fast.
        [sys.executable, "-m", "kobs", "run", "-q", "--no-adaptive", "-o", "session",
         "program.py", "state", kind, "0", str(NAMES)],
        cwd=folder, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    pid, child = 0, None
    try:
        (pid,) = wait_for(lambda: children_of(kobs_run.pid))
        if target == "child":
            (child,) = wait_for(lambda: children_of(pid))
        wait(state)
        if target == "group":
            os.killpg(kobs_run.pid, signal.SIGKILL)
        else:
            os.kill(child or pid, signal.SIGKILL)
        status = kobs_run.wait(WAIT_S)
    finally:
        everyone = {pid, *children_of(pid)} if pid else set()
        try:
            os.killpg(kobs_run.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        said, _ = kobs_run.communicate(timeout=WAIT_S)
    for process in everyone:
        wait_for(lambda process=process: gone(process))
    return Killed(
        number, target, kind, pid, child, status, said, folder / "session", tuple(state[:3])
    )


def check(killed: Killed) -> Counter[str]:
    """One killed program's session; what was seen, so that the test can tell whether it saw
    anything."""
    seen: Counter[str] = Counter()
    expected = {"program": -signal.SIGKILL, "child": 7, "group": -signal.SIGKILL}[killed.target]
    assert (killed.status, killed.said) == (expected, "")
    with kobs.open_recording(killed.session) as recording:
        events = recording.snapshot()
        assert [event for event in events if not whole(event)] == []
        assert len({event.id for event in events}) == len(events)
        assert recording.damage == []
        processes = recording.processes
        wait_for(lambda: not recording.running)
        states = {process.pid: process.state for process in recording.processes}
        if killed.target != "child":
            assert set(states.values()) <= {"killed"}
        else:
            assert states.get(killed.child, "killed") == "killed"
        exit_ = recording.session_info["exit"]
        if killed.target == "group":
            assert exit_ is None
        elif killed.target == "program":
            assert exit_["signal"] == signal.SIGKILL
            assert all(p.exit_code == -9 for p in processes if p.pid == killed.pid)
        numbers = {process.recording: process.pid for process in processes}
        listed: dict[str, list[str]] = {}
        for entry in recording.open_events():
            assert numbers[entry.recording] == entry.pid
            listed.setdefault(entry.name.split()[0], []).append(entry.name)
        for place, name in enumerate(("main", "child", "thread")):
            step, certain = divmod(killed.states[place], 2)
            of_name = listed.get(name, [])
            assert len(of_name) <= 1
            if certain:
                assert of_name == [f"{name} {step % NAMES}"]
                seen[f"{name} in flight"] += 1
        seen["recorded"] += bool(processes)
        seen["events"] += len(events)
        seen["child recorded"] += len(processes) > 1
    if killed.number % REPORT_EVERY == 0:
        report = subprocess.run(
            [sys.executable, "-m", "kobs", "report", str(killed.session)],
            capture_output=True, text=True, timeout=WAIT_S,
        )  # fmt: skip
        assert (report.returncode, report.stderr) == (0, "")
        assert "\nkobs report  " in "\n" + report.stdout
        assert "Traceback" not in report.stdout
        assert "\x1b" not in report.stdout
        if events and killed.target != "child":
            assert "killed" in report.stdout
        seen["reports"] += 1
    shutil.rmtree(killed.session.parent)
    return seen


def test_kills_of_a_recorded_program(tmp_path: Path) -> None:
    seed = int(os.environ.get("KOBS_CRASH_SEED") or time.time_ns() % 1_000_000)
    random_ = random.Random(seed)
    began = time.monotonic()
    kill_one(tmp_path / "up", 0, lambda state: wait_for(lambda: state[0]))
    # As long to start as to work, also where the machine is busy.
    life_s = min(0.6, 2 * (time.monotonic() - began))
    moments = [random_.uniform(0, life_s) for _ in range(KILLS)]

    def one(number: int) -> Counter[str]:
        killed = kill_one(tmp_path / str(number), number, lambda _: time.sleep(moments[number]))
        try:
            return check(killed)
        except BaseException as error:
            error.add_note(f"KOBS_CRASH_SEED={seed}, moment {moments[number]:.4f} s, {killed}")
            raise

    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen = sum(pool.map(one, range(KILLS)), Counter())
    assert seen["reports"] == len(range(0, KILLS, REPORT_EVERY))
    # Kills came at the start, where nothing is recorded yet, and in the middle of the work.
    assert KILLS * 0.3 < seen["recorded"] <= KILLS, seen
    assert seen["main in flight"] > KILLS * 0.05, seen
    assert seen["child in flight"] > KILLS * 0.01, seen
    assert seen["thread in flight"] > KILLS * 0.05, seen
