"""Patterns over real threads, tasks, queues, pipes and processes, on both cores."""

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import asyncio
import multiprocessing
import os
import queue
import threading

import pytest
from dirty_equals import IsPositiveInt, IsStr

from kobs import (
    FileOpened, MessageReceived, MessageSent, PipeRead, PipeWritten, ProcessCreated,
    ProcessTerminated,
)
from kobs.pattern import between, var

SENT, RECEIVED = MessageSent.like(queue_id=var("q")), MessageReceived.like(queue_id=var("q"))


def opened(name):
    return FileOpened.like(path=IsStr(regex=f".*{name}"))


def test_threads_and_a_queue(kobs, tmp_path):
    jobs = queue.Queue()

    def work():
        for _ in range(3):
            open(tmp_path / jobs.get(), "w").close()

    thread = threading.Thread(target=work)
    thread.start()
    for name in ("a", "b", "c"):
        jobs.put(name)
    thread.join()
    written = (SENT.on(tid=threading.get_native_id()) >> RECEIVED >> opened("/[abc]")).within("30s")
    kobs.expect(written, written * 3, opened("/a").then(opened("/c")))
    kobs.every(MessageSent.like()).leads_to(MessageReceived.like(), same=("queue_id",))
    kobs.never((opened("/a") >> opened("/b")))


def test_tasks_and_a_queue(kobs, tmp_path):
    async def main():
        jobs = asyncio.Queue()

        async def work():
            open(tmp_path / await jobs.get(), "w").close()

        task = asyncio.ensure_future(work())
        await jobs.put("a")
        await task

    asyncio.run(main())
    assert SENT >> RECEIVED >> opened("/a") in kobs.events


def child(jobs, done):
    open(jobs.get(), "w").close()
    done.put("done")


def test_processes_and_queues(kobs, tmp_path):
    method = multiprocessing.get_context("spawn")
    jobs, done = method.Queue(), method.Queue()
    process = method.Process(target=child, args=(jobs, done))
    process.start()
    jobs.put(str(tmp_path / "made"))
    done.get()
    process.join()
    made = opened("/made").on(pid=process.pid)
    there = MessageSent.like().on(pid=os.getpid()) >> MessageReceived.like().on(pid=var("child"))
    kobs.expect(there >> opened("/made").on(pid=var("child")))
    back = MessageReceived.like().on(pid=process.pid) >> MessageReceived.like().on(pid=os.getpid())
    kobs.expect(back, within="1min")
    kobs.expect(made.times(1, 1))
    kobs.every(ProcessCreated.like().on(pid=process.pid)).then(ProcessTerminated.like(), same="pid")


def test_a_pipe_between_processes(kobs, tmp_path):
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            open(tmp_path / os.read(ours, 9).decode(), "w").close()
        finally:
            os._exit(0)
    os.write(theirs, b"made")
    os.waitpid(pid, 0)
    os.close(ours)
    os.close(theirs)
    wrote = PipeWritten.like(pipe_id=var("pipe"), size=between(4, 4)).on(pid=os.getpid())
    read = PipeRead.like(pipe_id=var("pipe"), size=IsPositiveInt).on(pid=pid)
    kobs.expect(wrote >> read >> opened("/made").on(pid=pid), within="1min")
    kobs.expect(ProcessCreated.like().on(pid=pid) >> ProcessTerminated.like())


def test_a_pipe_of_multiprocessing(kobs, tmp_path):
    near, far = multiprocessing.Pipe()

    def work():
        open(tmp_path / far.recv(), "w").close()

    thread = threading.Thread(target=work)
    thread.start()
    near.send("made")
    thread.join()
    kobs.expect((SENT >> RECEIVED >> opened("/made")).within("1min"))
"""


@pytest.mark.parametrize("core", ["c", "python"])
def test_real_ones(inner, monkeypatch, core):
    if core == "c":
        pytest.importorskip("kobs._core._native")
    monkeypatch.setenv("KOBS_CORE", core)
    inner(TESTS, subprocess=True, passed=5)
