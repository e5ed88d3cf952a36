"""Forks while many threads emit: no child hangs, none writes into its parent's recording, and
everybody's recording is whole."""

import sysconfig

import pytest

free_threaded = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="a lock of Python's own, such as a dict's, may be held for ever in the child",
)

PROGRAM = """
import os, sys, threading, time
from kobs import Collector, ProcessCreated, causal_context, emits, arg, observe, open_recording
from kobs.session import Session
from tests.stress.checked import Stressed, emit_checked, value_of

sys.setswitchinterval(1e-5)
session = Session.create("fork", ["fork"], root=folder)
options = {"keep": 8 << 20} if keeps else {}
collector = Collector(session=session, size=256, sampling=90 if samples else 100, **options)
emit = collector.emitter(Stressed)
end = threading.Event()

class Made:
    @emits(ProcessCreated, name=arg("name"), priority=arg("priority"))
    def make(self, name, priority):
        return name

observe(Made, in_place=True, collector=collector)
made = Made()

def work(number):
    value = number << 32
    subscriber = collector.subscribe()
    while not end.is_set():
        value += 1
        emit_checked(emit, value)
        made.make(f"name {number} {value % 50}", 3)
        scope = collector.emit_begin(Stressed(1, 2, 3, 4))
        collector.emit_end(scope, Stressed(1, 2, 3, 4))
        if value % 50 == 0:
            for event in subscriber:
                pass
            asked = queries()
            collector.query(asked[value // 50 % len(asked)])

def in_child(number):
    # A copy of a thread that was anywhere.
    assert collector.ring.produced() == 0
    for value in range(1000, 1400):
        emit_checked(emit, value)
        made.make(f"child {number} {value}", 3)
    seen = [event for event in collector.snapshot() if event.type is Stressed]
    assert samples or [value_of(event) for event in seen][-50:] == list(range(1350, 1400))
    assert len(collector.open_events()) == 0
    collector.query(queries()[0])
    collector.close()

def queries():
    from kobs import CommonQueries, Query  # in a thread, the first time
    return [Query(), CommonQueries.health_check(), CommonQueries.syscall_performance()]

threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
for thread in threads:
    thread.start()

def fork(number):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            in_child(number)
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = time.monotonic() + 60
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            codes.append(os.waitstatus_to_exitcode(status))
            return
        if time.monotonic() > deadline:
            os.kill(pid, 6)  # faulthandler tells where it hangs
            os.waitpid(pid, 0)
            codes.append("hangs")
            return
        time.sleep(0.001)

codes = []
for number in range(forks // 2):
    fork(number)
    forker = threading.Thread(target=fork, args=(number,))
    forker.start()
    forker.join()
end.set()
for thread in threads:
    thread.join()
collector.close()
assert codes == [0] * len(codes), codes

with open_recording(session.path) as recording:
    assert recording.damage == []
    processes = {process.recording: process.pid for process in recording.processes}
    assert len(processes) == len(codes) + 1
    for event in recording.snapshot():
        if event.type_name == "Stressed" and event.payload.value != 1:
            value = value_of(event)
            assert (value < 1 << 32) == (processes[event.recording] != os.getpid()), event
        elif event.type_name == "ProcessCreated":
            child = event.payload.name.startswith("child")
            assert child == (processes[event.recording] != os.getpid()), event
    assert not any(e.recording != collector.recording for e in recording.open_events())
print(len(codes), "children")
"""


@free_threaded
def test_many_threads_emit_while_others_fork(run, tmp_path, factor):
    forks = 4 * factor
    said = run(PROGRAM, folder=str(tmp_path), forks=forks, keeps=False, samples=False)
    assert said == f"{forks} children\n"


@free_threaded
def test_many_threads_emit_into_segments_and_are_sampled(run, tmp_path, factor):
    forks = 4 * factor
    said = run(PROGRAM, folder=str(tmp_path), forks=forks, keeps=True, samples=True)
    assert said == f"{forks} children\n"


INSIDE = """
import os, sys
from kobs import Collector, SyscallExit, SyscallResult
from kobs._core import hooking

if hooking.native is not None:
    hooking.native.show_own(True)  # else no line of kobs is seen

os.chdir(folder)
collector = Collector(size=64, path="a.kobs", **options)
emit = collector.emitter(SyscallExit)
begin = collector.begin_emitter(SyscallExit)
parent = os.getpid()
forks = []

def fork_now():
    if os.getpid() == parent and len(forks) < most:
        pid = os.fork()
        if pid:
            forks.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

class Forking:
    def trace(self, frame, event, argument):
        if "kobs" not in frame.f_code.co_filename or frame.f_code.co_name.startswith("_after"):
            return None
        if event == "line" and os.getpid() == parent:
            self.lines += 1
            if self.lines % every == 0:
                sys.settrace(None)
                fork_now()
                sys.settrace(self.trace)
        return self.trace

forking = Forking()
forking.lines = 0
sys.settrace(forking.trace)
for number in range(60):
    emit(f"name {number}", 1.0, SyscallResult.SUCCESS, 0)
    _, entry = begin(f"begin {number}", 1.0, SyscallResult.SUCCESS, 0)
    collector.ring.close_entry(entry)
    if os.getpid() != parent:
        sys.settrace(None)
        for more in range(100):
            emit(f"child {more}", 1.0, SyscallResult.SUCCESS, 0)
        events = collector.snapshot()
        assert [event.payload.name for event in events][-30:] == [
            f"child {more}" for more in range(70, 100)
        ], events
        collector.close()
        os._exit(0)
sys.settrace(None)
assert forks and not any(forks), forks
print(len(forks), "forks in the middle")
"""


def test_a_fork_in_the_middle_of_an_emit(run, tmp_path, factor):
    """As a signal handler makes it: the child comes back into an emit of its parent's."""
    for name, options in {"one ring": {}, "segments": {"keep": 1 << 20}}.items():
        folder = tmp_path / name
        folder.mkdir()
        every = 11 if factor == 1 else 3
        said = run(INSIDE, folder=str(folder), every=every, most=8 * factor, options=options)
        assert int(said.split()[0]) > 5


IMPORTING = """
import os, signal, sys, threading
import kobs
from kobs import Collector, EventFilter, Severity, SyscallExit, SyscallResult

collector = Collector(size=64, sampling=99 if module == "kobs.sampling" else 100)
begun, forking = threading.Event(), threading.Event()

def use():
    if module == "kobs.query":
        assert collector.query(kobs.Query()).count >= 0
    elif module == "kobs.metrics":
        collector.metrics()
    elif module in ("kobs.slots", "kobs._analysis.scanned"):
        list(collector.subscribe(EventFilter().severity(Severity.WARN)))
    else:
        collector.emitter(SyscallExit)("name", 1.0, SyscallResult.SUCCESS, 0)

class Slow:
    def find_spec(name, path=None, target=None):
        if name == module and not begun.is_set():
            begun.set()
            assert forking.wait(60)

sys.meta_path.insert(0, Slow)
os.register_at_fork(before=forking.set)
thread = threading.Thread(target=use)
assert module not in sys.modules
thread.start()
assert begun.wait(60)
pid = os.fork()
if pid == 0:
    signal.alarm(20)  # ends it where it waits for ever
    use()
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
thread.join()
print(code)
"""


@free_threaded
@pytest.mark.parametrize(
    "module",
    [
        "kobs.anomaly", "kobs.sampling", "kobs.slots", "kobs._analysis.scanned", "kobs.query",
        "kobs.metrics",
    ],
)  # fmt: skip
def test_a_fork_while_another_thread_imports_a_part_of_kobs(run, module):
    assert run(IMPORTING, module=module) == "0\n"
