"""Leaks: what a test made and left, named with the line that made it."""

import os
import re
import threading

pytest_plugins = ["pytester"]

HEAD = """
import asyncio, multiprocessing, os, queue, select, socket, subprocess, sys, time
import _thread, threading
from multiprocessing.shared_memory import SharedMemory
import pytest

kept = []

@pytest.fixture(autouse=True, scope="session")
def clean():
    yield
    for end in kept:
        end()
"""


def failure(inner, result, test, until="- Captured kobs"):
    """What a test's failure says, up to the report section."""
    lines = inner.told(result).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("_") and test in line) + 1
    end = next(n for n in range(start, len(lines)) if until in lines[n])
    assert all(len(line) <= 80 for line in lines[start:end])
    text = "\n".join(lines[start:end])
    for name, number in (("pid", r"pid \d+"), ("psm", r"psm_\w+"), ("fd", r"fd: \d+")):
        text = re.sub(number, f"<{name}>", text)
    text = text.replace(f"priority={20 + os.nice(0)}", "priority=20")
    text = re.sub(r"'(Queue|pipe)-\d+'", r"'\1-N'", text)
    text = re.sub(r"(duration|wake_to_run)_us=.*", r"\1_us=...", text)
    return re.sub(r"\[\d+\]", "[N]", text).splitlines()


def test_each_kind_is_named(inner):
    result = inner(
        HEAD
        + """
@pytest.mark.kobs_no_leaks("process")
def test_process():
    child = subprocess.Popen(["sleep", "60"])
    kept.append(lambda: (child.kill(), child.wait()))

@pytest.mark.kobs_no_leaks("thread")
def test_thread():
    done = threading.Event()
    def work():
        done.wait()
    thread = threading.Thread(target=work, name="worker")
    thread.start()
    kept.append(lambda: (done.set(), thread.join()))

@pytest.mark.kobs_no_leaks("thread")
def test_raw_thread():
    done, ended = _thread.allocate_lock(), _thread.allocate_lock()
    done.acquire(), ended.acquire()
    def work():
        done.acquire()
        ended.release()
    _thread.start_new_thread(work, ())
    kept.append(lambda: (done.release(), ended.acquire()))

@pytest.mark.kobs_no_leaks("fd")
def test_descriptor():
    number = os.open("/dev/null", os.O_RDONLY)
    kept.append(lambda: os.close(number))

@pytest.mark.kobs_no_leaks("fd")
def test_pipe():
    def make():
        return os.pipe()
    ends = make()
    os.close(ends[0])
    kept.append(lambda: os.close(ends[1]))

@pytest.mark.kobs_no_leaks("shm")
def test_segment():
    segment = SharedMemory(create=True, size=16)
    segment.close()
    kept.append(segment.unlink)

@pytest.mark.kobs_no_leaks("task")
def test_task():
    loop = asyncio.new_event_loop()
    async def forever():
        await asyncio.Event().wait()
    task = loop.create_task(forever(), name="poller")
    loop.run_until_complete(asyncio.sleep(0))
    def end():
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
    kept.append(end)

@pytest.mark.kobs_no_leaks("queue")
def test_queue():
    jobs = queue.Queue()
    jobs.put(1)
    jobs.put(2)
    jobs.get()
""",
        passed=8,
        errors=8,
    )
    file = "test_each_kind_is_named.py:N"
    one = "kobs_no_leaks: 1 leak"
    priority = 20 + os.getpriority(os.PRIO_PROCESS, 0)
    assert failure(inner, result, "test_process") == [
        one,
        "  process: <pid> (sleep) still runs",
        f"    made at {file} in test_process",
        f"    event #1 ProcessCreated(name='sleep', priority={priority})",
    ]
    assert failure(inner, result, "test_thread") == [
        one,
        "  thread: 'worker' still runs",
        f"    made at {file} in test_thread",
        "    event #1 SchedulerLatency(wake_to_run_us=...",
    ]
    assert failure(inner, result, "test_raw_thread") == [
        one,
        "  thread: one without a threading.Thread still runs",
        f"    made at {file} in test_raw_thread",
    ]
    assert failure(inner, result, "test_descriptor") == [
        one,
        "  <fd> (/dev/null) is still open",
        f"    made at {file} in test_descriptor",
        "    event #1 FileOpened(path='/dev/null', mode='rb', duration_us=...",
    ]
    assert failure(inner, result, "test_pipe") == [
        one,
        "  <fd> (pipe:[N]) is still open",
        f"    made at {file} in make",
    ]
    segment = failure(inner, result, "test_segment")
    assert segment[:2] == [one, "  shm: '<psm>' was not unlinked"]
    assert segment[2] == f"    made at {file} in test_segment"
    assert re.fullmatch(r"    event #\d ShmCreated\(name='<psm>', size=16\)", segment[3])
    task = failure(inner, result, "test_task")
    assert task[1:3] == [
        "  task: 'poller' (test_task.<locals>.forever) is still pending",
        f"    made at {file} in test_task",
    ]
    assert task[3].startswith("    event #1 ContextSwitch(from_pid=0, to_pid=")
    assert failure(inner, result, "test_queue") == [
        one,
        "  queue: 'Queue-N' was left with 1 item",
        f"    made at {file} in test_queue",
        "    event #2 MessageSent(queue_id='Queue-N', size=0)",
    ]


def test_what_is_put_away_is_no_leak(inner):
    inner(
        HEAD
        + """
@pytest.fixture
def own():
    with open("/dev/null") as file:
        yield file

@pytest.fixture(scope="session")
def wider():
    file = open("/dev/null")
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    yield file
    done.set()
    thread.join()
    file.close()

@pytest.mark.kobs_no_leaks
def test_all(own, wider, tmp_path):
    (tmp_path / "a").write_text("x")
    subprocess.run(["true"])
    segment = SharedMemory(create=True, size=16)
    segment.close()
    segment.unlink()
    jobs = queue.Queue()
    thread = threading.Thread(target=jobs.get)
    thread.start()
    jobs.put(1)
    thread.join()
    async def main():
        await asyncio.create_task(asyncio.sleep(0))
        with socket.socketpair()[0] as one:
            await asyncio.to_thread(one.fileno)
    asyncio.run(main())

@pytest.mark.kobs_no_leaks
def test_processes_of_multiprocessing():
    jobs = multiprocessing.Queue()
    process = multiprocessing.Process(target=jobs.put, args=(1,))
    process.start()
    assert jobs.get() == 1
    process.join()
    jobs.close()
    jobs.join_thread()

@pytest.mark.kobs_no_leaks("thread")
def test_raw_threads_that_end_and_those_that_wait_for_events(kobs):
    sent = kobs.collector.emit
    async def main():
        message = sys.modules["kobs"].MessageSent
        asyncio.get_running_loop().call_soon(sent, message("jobs", 1))
        await kobs.await_for(message.like())
    asyncio.run(main())
    ended = _thread.allocate_lock()
    ended.acquire()
    _thread.start_new_thread(ended.release, ())
    ended.acquire()

class Cycle:
    pass

@pytest.mark.kobs_no_leaks("fd")
def test_what_the_collector_still_ends():
    one = Cycle()
    one.me, one.file = one, open("/dev/null")
""",
        "-W", "ignore",
        passed=4,
    )  # fmt: skip


def test_a_process_that_ended_unawaited_and_a_feeder_thread(inner):
    result = inner(
        HEAD
        + """
@pytest.mark.kobs_no_leaks("process")
def test_zombie():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    kept.append(child.wait)

@pytest.mark.kobs_no_leaks("queue", "thread")
def test_feeder():
    jobs = multiprocessing.Queue()
    jobs.put(1)
    jobs.get()
    kept.append(lambda: (jobs.close(), jobs.join_thread()))

def test_last(): "what ends with the session is put away after the test before this one"
""",
        passed=3,
        errors=2,
    )
    assert failure(inner, result, "test_zombie")[1] == (
        "  process: <pid> (true) ended, and nobody waited for it"
    )
    feeder = failure(inner, result, "test_feeder")
    assert feeder[1] == "  queue: 'pipe-N': its feeder thread runs: close(), join_thread() end it"
    assert feeder[3] == "    event #1 MessageSent(queue_id='pipe-N', size=5)"


def test_the_fixture_asserts(inner):
    result = inner(
        HEAD
        + """
def test_passes(kobs):
    file = open("/dev/null")
    assert [(leak.kind, leak.event.payload.path) for leak in kobs.leaks] == [("fd", "/dev/null")]
    assert "test_the_fixture_asserts.py:" in kobs.leaks[0].where
    kobs.no_leaks("process", "thread", "task", "shm", "queue")
    file.close()
    kobs.no_leaks()
    assert kobs.leaks == []

def test_fails(kobs):
    file = open("/dev/null")
    kept.append(file.close)
    kobs.no_leaks("fd")

def test_refuses(kobs):
    with pytest.raises(ValueError, match="there is no kind 'files' of leak; there are process, th"):
        kobs.no_leaks("files")

def helper(kobs):
    kobs.no_leaks("thread")

def test_from_elsewhere(kobs):
    helper(kobs)

@pytest.mark.kobs_no_leaks("thread")
def test_from_elsewhere_with_marker(kobs):
    helper(kobs)
""",
        passed=3,
        failed=2,
    )
    told = failure(inner, result, "test_fails")
    assert "E       AssertionError: kobs.no_leaks: 1 leak" in told
    told = failure(inner, result, "test_from_elsewhere")
    text = " ".join(line.removeprefix("E").strip() for line in told)
    assert "it is not known what the test left behind" in text
    assert "[leaks_not_tracked]: @pytest.mark.kobs_no_leaks, so that it is known from" in text


def test_what_no_watch_tells_is_inconclusive(inner):
    result = inner(
        HEAD
        + """
def lost(loop):
    async def forever():
        await asyncio.Event().wait()
    loop.create_task(forever())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

@pytest.mark.kobs_no_leaks("task")
@pytest.mark.filterwarnings("ignore")
def test_told():
    lost(asyncio.new_event_loop())

@pytest.mark.kobs(subsystems="vfs")
@pytest.mark.kobs_no_leaks("task")
@pytest.mark.filterwarnings("ignore")
def test_untold():
    lost(asyncio.new_event_loop())

@pytest.mark.kobs(subsystems="vfs")
@pytest.mark.kobs_no_leaks("process", "shm")
def test_child():
    subprocess.run(["true"])

@pytest.mark.kobs(subsystems="vfs")
@pytest.mark.kobs_no_leaks("process", "shm", "fd", "thread")
def test_no_child():
    open("/dev/null").close()
""",
        passed=4,
        errors=1,
        failed=2,
    )
    assert "task: it was destroyed while pending" in inner.told(result)
    text = " ".join(inner.told(result).split())
    assert "whether it had ended: no watch that is on tells ContextSwitch [unrecorded_t" in text
    assert "left its own: no watch that is on tells ProcessCreated [unrecorded_type]" in text
    assert "left shared memory: no watch that is on tells ShmCreated [unrecorded_type]" in text


def test_an_async_test_and_what_fixtures_still_need(inner):
    inner(
        HEAD
        + """
@pytest.fixture
def own():
    file = open("/dev/null")
    yield file
    file.close()

@pytest.mark.asyncio
async def test_async(kobs, own):
    kobs.no_leaks()
    waiting = asyncio.create_task(asyncio.sleep(60), name="waiting")
    assert ["'waiting' (sleep) is still pending"] == [leak.what for leak in kobs.leaks]
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    kobs.no_leaks()

@pytest.mark.asyncio
@pytest.mark.kobs_no_leaks
async def test_marked(own):
    await asyncio.to_thread(own.fileno)
""",
        passed=2,
    )


def test_a_run_that_is_broken_off_leaves_nothing_patched(inner):
    before = vars(threading.Thread)["start"]
    source = "@pytest.mark.kobs_no_leaks\ndef test_it():\n    pytest.exit('enough')\n"
    inner(HEAD + source)
    assert vars(threading.Thread)["start"] is before


def test_what_nobody_is_known_to_have_opened_is_inconclusive(inner):
    result = inner(
        HEAD
        + """
@pytest.mark.kobs_no_leaks("fd")
def test_of_code_in_c():
    made = select.epoll()
    kept.append(made.close)

@pytest.mark.kobs_no_leaks("fd", "thread", "task", "queue")
def test_of_an_unobserved_child():
    subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)

@pytest.mark.kobs_no_leaks("shm")
def test_of_an_unobserved_child_that_may_leave_it():
    subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)
""",
        passed=3,
        failed=2,
    )
    text = inner.told(result)
    assert text.count("\nINCONCLUSIVE ") == 2
    assert "[unattributed_leak]: open it in Python, or close it" in " ".join(text.split())
    assert "[child_not_observed]" in text


def test_a_test_that_fails_or_skips_is_not_judged_and_nothing_stays_patched(inner):
    result = inner(
        HEAD
        + """
before = vars(threading.Thread)["start"], vars(socket.socket)["__init__"]

@pytest.mark.kobs_no_leaks
def test_fails():
    kept.append(open("/dev/null").close)
    assert not "this"

@pytest.mark.kobs_no_leaks
def test_skips():
    kept.append(open("/dev/null").close)
    pytest.skip()

@pytest.fixture
def broken():
    yield
    1 / 0

@pytest.mark.kobs_no_leaks
def test_breaks(broken):
    kept.append(open("/dev/null").close)

@pytest.mark.xfail
@pytest.mark.kobs_no_leaks
def test_expected():
    kept.append(open("/dev/null").close)
    assert not "this"

def test_nothing_is_patched():
    assert before == (vars(threading.Thread)["start"], vars(socket.socket)["__init__"])
""",
        failed=1,
        skipped=1,
        errors=1,
        passed=2,
        xfailed=1,
    )
    assert "kobs_no_leaks: " not in inner.told(result)
