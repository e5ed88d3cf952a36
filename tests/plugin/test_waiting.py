"""Waiting for an event: woken by it, from wherever it comes."""

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import asyncio
import os
import subprocess
import sys
import threading
import pytest
import kobs as k
from kobs import FileOpened, MessageReceived, MessageSent
from kobs.errors import PatternError
from kobs.pattern import Inconclusive

SENT = MessageSent.like(queue_id="jobs")

@pytest.fixture(autouse=True)
def _no_look_meanwhile(monkeypatch):
    '''Without being woken, a wait looks but once: long after the test failed.'''
    from kobs._core import doorbell
    monkeypatch.setattr(doorbell, "MOST_S", 60.0)

def in_a_moment(kobs, action):
    '''Have a thread act once the doorbell is armed: somebody waits, or is about to.'''
    words = kobs.collector.ring.doorbell.words
    words[0] = 0
    def act():
        while not words[0]:
            pass
        action()
    thread = threading.Thread(target=act)
    thread.start()
    return thread

"""


@pytest.fixture(params=["c", "python"])
def run(request, inner, monkeypatch):
    """Runs tests with a core; with the Python core in a process of its own, which has not loaded
    the other one."""
    name = request.param
    if name == "c":
        pytest.importorskip("kobs._core._native")
    monkeypatch.setenv("KOBS_CORE", name)

    def run_tests(source, **outcomes):
        check = f"""
def test_core():
    from kobs._core import select
    assert select().name == {name!r}
"""
        outcomes["passed"] += 1
        return inner(HEAD + source + check, subprocess=name == "python", **outcomes)

    return run_tests


def test_of_a_thread_and_of_a_process(run):
    run(
        """
def test_thread(kobs):
    thread = in_a_moment(kobs, lambda: kobs.collector.emit(MessageSent("jobs", 1)))
    (event,) = kobs.wait_for(SENT, timeout=20)
    assert event.payload.size == 1
    thread.join()

def test_the_second_of_two(kobs):
    thread = in_a_moment(kobs, lambda: [
        kobs.collector.emit(MessageSent("jobs", n), link=n) for n in (1, 2)])
    assert len(kobs.wait_for(SENT * 2, timeout=20)) == 2
    thread.join()

def test_of_a_block(kobs):
    kobs.collector.emit(MessageSent("jobs", 0))
    with kobs.capture() as inner:
        thread = in_a_moment(kobs, lambda: kobs.collector.emit(MessageSent("jobs", 1)))
        (event,) = inner.wait_for(SENT, timeout=20)
    assert event.payload.size == 1
    thread.join()

def test_process(kobs, tmp_path):
    program = "import sys; sys.stdin.read(); open(sys.argv[1], 'w').close()"
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "made")],
                             stdin=subprocess.PIPE)
    opened = FileOpened.like(path=lambda path: path.endswith("made"))
    thread = in_a_moment(kobs, child.stdin.close)
    (event,) = kobs.wait_for(opened, timeout=20)
    assert event.pid == child.pid
    child.wait()
    thread.join()
""",
        passed=4,
    )


def test_without_holding_up_the_loop(run):
    run(
        """
@pytest.mark.asyncio
async def test_task(kobs):
    async def work():
        for _ in range(3):
            await asyncio.sleep(0)
        kobs.collector.emit(MessageSent("jobs", 1), link=1)
        kobs.collector.emit(MessageReceived("jobs", 1, 0.0), link=1)

    task = asyncio.ensure_future(work())
    path = await kobs.await_for(SENT >> MessageReceived.like(), timeout=20, within="10s")
    assert [event.type_name for event in path] == ["MessageSent", "MessageReceived"]
    await task

@pytest.mark.asyncio
async def test_thread(kobs):
    thread = in_a_moment(kobs, lambda: kobs.collector.emit(MessageSent("jobs", 1)))
    await kobs.await_for(SENT, timeout=20)
    thread.join()

@pytest.mark.asyncio
async def test_what_is_there_is_found_at_once(kobs):
    kobs.collector.emit(MessageSent("jobs", 1))
    assert len(await kobs.await_for(SENT, timeout=0)) == 1
    with pytest.raises(AssertionError, match="waited 0.01 s"):
        await kobs.await_for(SENT * 9, timeout="10ms")

@pytest.mark.asyncio
async def test_several_at_once(kobs):
    both = asyncio.gather(*(kobs.await_for(MessageSent.like(queue_id=n), timeout=20)
                            for n in ("a", "b")))
    await asyncio.sleep(0)
    for name in ("b", "a"):
        kobs.collector.emit(MessageSent(name, 1))
    assert [path[0].name for path in await both] == ["a", "b"]

@pytest.mark.asyncio
async def test_cancelled(kobs):
    task = asyncio.ensure_future(kobs.await_for(SENT, timeout=20))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

@pytest.mark.asyncio
async def test_a_function_that_fails(kobs):
    def bad(size):
        raise ZeroDivisionError
    kobs.collector.emit(MessageSent("jobs", 1))
    with pytest.raises(ZeroDivisionError):
        await kobs.await_for(MessageSent.like(size=bad), timeout=20)
    with pytest.raises(PatternError):
        await kobs.await_for(MessageSent, timeout=20)

@pytest.mark.asyncio
async def test_waiting_is_not_what_the_test_does(kobs):
    before = len(kobs.events)
    with pytest.raises(AssertionError):
        await kobs.await_for(SENT, timeout=0.01)
    types = {event.type_name for event in kobs.events[before:]}
    assert types <= {"ContextSwitch", "SchedulerLatency"}
    assert len(kobs.events) - before <= 4  # it awaited once
""",
        passed=7,
    )


def test_a_loop_that_is_closed_meanwhile_leaves_no_thread(inner):
    inner(
        """
import asyncio
import os
import time
import pytest
from kobs import MessageSent

def threads():
    return len(os.listdir("/proc/self/task"))

@pytest.mark.filterwarnings("ignore")  # the task is destroyed while pending
def test_it(kobs):
    before = threads()
    loop = asyncio.new_event_loop()
    loop.create_task(kobs.await_for(MessageSent.like(queue_id="jobs"), timeout=60))
    loop.run_until_complete(asyncio.sleep(0))
    while not loop._ready:  # the look that is asked of it now never comes
        time.sleep(0.001)
    loop.close()
    end = time.monotonic() + 10
    while threads() > before:
        assert time.monotonic() < end, "it still waits for the loop"
        time.sleep(0.01)
""",
        passed=1,
    )


def test_in_vain(inner):
    inner(
        HEAD
        + """
def test_it(kobs):
    with pytest.raises(AssertionError, match=r"waited 0 s for MessageSent"):
        kobs.wait_for(SENT, timeout=0)

def test_while_others_go_on(kobs):
    go_on = [True]
    def work():
        while go_on[0]:
            kobs.collector.emit(MessageSent("other", 1))
    thread = threading.Thread(target=work)
    thread.start()
    with pytest.raises((AssertionError, Inconclusive)):
        kobs.wait_for(SENT, timeout=0.1)
    go_on[0] = False
    thread.join()

def test_no_loop(kobs):
    with pytest.raises(PatternError, match="none is running here"):
        kobs.await_for(SENT).send(None)

@pytest.mark.asyncio
async def test_async(kobs):
    with pytest.raises(AssertionError, match=r"waited 0.01 s for"):
        await kobs.await_for(SENT, timeout=0.01)

def test_incomplete(kobs):
    for n in range(200):
        kobs.collector.emit(MessageSent("other", 1))
    with pytest.raises(Inconclusive):
        kobs.wait_for(SENT, timeout=0)
    with pytest.raises(Inconclusive):
        kobs.wait_for(MessageSent.like(queue_id="other").times(1, 1000), timeout=0)
    assert len(kobs.wait_for(MessageSent.like(queue_id="other").times(1, None), timeout=0)) > 1
""",
        "--kobs-size=128",
        passed=5,
    )
