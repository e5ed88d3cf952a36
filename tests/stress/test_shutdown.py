"""The interpreter ends while everything emits: it ends in order, and the recording is whole.

What emits when the modules are torn down already may find kobs's own Python code without its
globals, and then Python says so. It does no worse.
"""

import pytest

from kobs import open_recording
from tests.stress.checked import value_of

COMMON = """
import atexit, gc, sys, threading, time, weakref
import kobs
from kobs import Collector, ProcessCreated, SyscallEnter, arg, emits, init_collector, observe
from tests.stress.checked import Stressed, emit_checked
from kobs.tracing import span_operation

collector = init_collector(Collector(size=256, path=path))
emit = collector.emitter(Stressed)
subscriber = collector.subscribe()

class Made:
    @emits(ProcessCreated, name=arg("name"), priority=arg("priority"))
    def make(self, name, priority=5):
        return name

    @emits(SyscallEnter, name="step", args_hash=0)
    def steps(self):
        while True:
            yield

observe(Made, in_place=True, collector=collector)
"""

DAEMONS = """
sys.setswitchinterval(1e-5)
started = threading.Barrier(7)

def work(number):
    made = Made()
    value = number << 32
    mine = collector.subscribe()
    while True:
        value += 1
        if value == (number << 32) + 20:
            started.wait()  # what is imported when needed has been
        emit_checked(emit, value)
        made.make(f"{number} {value % 100}", priority=4)
        with span_operation("work") as span:
            span.record("value", value)
        if value % 10 == number:
            list(mine)

for number in range(6):
    threading.Thread(target=work, args=(number,), daemon=True).start()
started.wait()
time.sleep(delay)
"""

FINALIZERS = """
class Last:
    "Emits when it is finalized, with all that it can reach."
    def __init__(self, what):
        self.what = what
        self.me = self

    def __del__(self, emit_checked=emit_checked, emit=emit, made=Made(), collector=collector,
                SyscallEnter=SyscallEnter, span_operation=span_operation):
        try:
            emit_checked(emit, 7)
            made.make("last", priority=1)
            emit(1, 2, 3, 4, pid=5, tid=6, link=7)
            scope = collector.emit_begin(SyscallEnter("last", 0))
            collector.emit_end(scope, SyscallEnter("last", 0))
        except Exception as error:
            if type(error).__name__ != "ClosedError":
                raise

class Untracked(int):
    "The garbage collector does not know of it, so it is finalized in the midst of collecting."
    __slots__ = ()
    __del__ = Last.__del__

def generator():
    try:
        with span_operation("open"):
            yield
    finally:
        emit_checked(emit, 9)
        Made().make("finally", priority=2)

kept = [Last(1), Untracked(5), generator(), Made().steps()]
next(kept[2]); next(kept[3])
kobs.kept = kobs._core.kept = sys.modules["kobs._core"].__dict__["more"] = kept
threading.kept = [Last(2), Untracked(6)]
sys.kept = [Last(3), Untracked(7)]
try:
    from kobs._core import _native
    _native.kept = [Last(4), Untracked(8)]
except ImportError:
    pass
emit.kept = [Last(5), Untracked(9), emit] if hasattr(emit, "__dict__") else None
weakref.finalize(collector, Last.__del__, None)
atexit.register(Last.__del__, None)
if closes:
    atexit.register(collector.close)
atexit.register(Last.__del__, None)
"""


def check(path: str, state: str = "killed") -> None:
    """`state`: a program that does not close its recording has not ended it in order."""
    with open_recording(path) as recording:
        assert recording.damage == []
        events = recording.snapshot()
        assert events
        for event in events:
            if event.type_name == "Stressed" and event.causality_id == event.payload.value:
                value_of(event)
        assert {process.state for process in recording.processes} == {state}


@pytest.mark.parametrize("how", ["", "sys.exit(0)", "gc.disable()"], ids=["end", "exit", "no gc"])
def test_daemon_threads_emit_to_the_end(run, tmp_path, factor, how):
    for number in range(2 * factor):
        path = str(tmp_path / f"{number}.kobs")
        run(COMMON + DAEMONS + how, path=path, delay=0.02 * (number % 4))
        check(path)


@pytest.mark.parametrize("closes", [False, True], ids=["left open", "closed"])
@pytest.mark.parametrize(
    "how", ["", "del kobs, emit, collector, subscriber", "sys.modules.clear()"],
    ids=["end", "nothing held", "modules dropped"],
)  # fmt: skip
def test_finalizers_emit_at_the_very_end(run, tmp_path, how, closes):
    path = str(tmp_path / "a.kobs")
    run(COMMON + FINALIZERS + how, quiet=False, path=path, closes=closes)
    check(path, "exited" if closes else "killed")


def test_both_at_once(run, tmp_path, factor):
    for number in range(2 * factor):
        path = str(tmp_path / f"{number}.kobs")
        run(COMMON + DAEMONS + FINALIZERS, quiet=False, path=path, delay=0.01, closes=False)
        check(path)
