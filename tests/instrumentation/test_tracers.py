"""Debuggers, profilers and coverage (`sys.settrace`, `sys.setprofile`) see of a recorded program
what they see of it bare."""

from collections import Counter
from collections.abc import Callable

import pytest

from kobs._core import hooking
from tests.instrumentation.conftest import Ran

PROGRAM = """
import asyncio, gc, multiprocessing.connection, os, queue, shutil, socket, subprocess, sys, tempfile
import threading
sys.dont_write_bytecode = True
from multiprocessing.shared_memory import ShareableList

def queues():
    items = queue.Queue(2)
    items.put(1)
    items.get()
    try: items.get(timeout=0.001)
    except queue.Empty: pass
    items = queue.SimpleQueue()
    items.put(1)
    items.get()
def deep():
    items = queue.Queue()
    for number in range(20): items.put(number)
    for number in range(20): items.get()
def child():
    subprocess.run(["/bin/true"], check=True, stdout=subprocess.PIPE)
def imports():
    import colorsys
    try: import there_is_no_such_module
    except ImportError: pass
def loop():
    async def main():
        items = asyncio.Queue()
        task = asyncio.create_task(items.get())
        await asyncio.sleep(0)
        await items.put(1)
        await task
    asyncio.run(main())
def sockets():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            server, _ = listener.accept()
            client.sendall(b"x")
            server.recv(1)
            server.close()
def files():
    folder = tempfile.mkdtemp()
    with open(folder + "/f", "w") as file: file.write("x")
    os.rename(folder + "/f", folder + "/g")
    shutil.rmtree(folder)
    try: open("/nowhere/x")
    except OSError: pass
def pipes():
    read, write = os.pipe()
    os.write(write, b"x")
    os.read(read, 1)
    os.close(read)
    os.close(write)
    one, other = multiprocessing.connection.Pipe()
    one.send(1)
    other.recv()
def memory():
    items = ShareableList([1, 2])
    items[0] = 3
    items.shm.close()
    items.shm.unlink()
    gc.collect()
def thread():
    threading.Thread(target=int).start()  # what the starter waits for depends on who runs first

seen = []
def see(frame, event, arg):
    if event != "call": return
    called = frame.f_globals.get("__name__"), frame.f_code.co_name, frame.f_code.co_firstlineno
    if called[1] != "__del__" and "__editable__" not in called[0]: seen.append(called)
gc.collect()
gc.disable()
for work in queues, deep, child, imports, loop, sockets, files, pipes, memory, thread:
    for watch in sys.settrace, sys.setprofile:
        watch(see)
        work()
        watch(None)
        for called in seen:
            if work is not thread or not called[0].startswith("threading"):
                print(watch.__name__, work.__name__, *called)
        seen.clear()
"""


RECORDED = (
    "ConnectionEstablished", "ContextSwitch", "FileOpened", "GcPaused", "MessageReceived",
    "MessageSent", "PipeRead", "PipeWritten", "ProcessTerminated", "SchedulerLatency",
    "ShmDestroyed", "ShmWritten", "SyscallExit",
)  # fmt: skip


@pytest.mark.skipif(hooking.native is None, reason="the Python core has stand-ins in Python")
def test_they_see_no_frame_of_kobs_s(both: Callable[..., tuple[Ran, Ran]]) -> None:
    bare, recorded = both(PROGRAM)
    assert (bare.code, bare.err) == (recorded.code, recorded.err) == (0, "")
    lines, ours = bare.out.splitlines(), recorded.out.splitlines()
    assert [line for line in ours if " kobs" in line] == []
    assert ours == lines
    assert len({line.split()[1] for line in lines}) == 10
    told = Counter(event.type_name for event in recorded.events())
    missing = [name for name in RECORDED if told[name] < 2]
    assert missing == [], "each was done under both, and is to be seen by kobs all the while"
