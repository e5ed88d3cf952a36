"""Subinterpreters: each has a kobs of its own, beside the main one's, in the same process."""

import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="its module for interpreters has another interface"
)

COMMON = """
import gc, sys, threading
if sys.version_info >= (3, 13):
    import _interpreters
    def make(own):
        return _interpreters.create("isolated" if own else "legacy")
    def run_in(interpreter, source):
        failed = _interpreters.exec(interpreter, source)
        assert failed is None, failed.formatted
    destroy = _interpreters.destroy
else:
    import _xxsubinterpreters
    def make(own):
        return _xxsubinterpreters.create(isolated=own)
    run_in, destroy = _xxsubinterpreters.run_string, _xxsubinterpreters.destroy

INSIDE = f'''
import sys
sys.path[:] = {sys.path!r}
try:
    import ctypes, mmap
except ImportError:
    ready = False  # Python's own: nothing that needs ctypes is to be had here
else:
    ready = True
    from kobs import Collector, ProcessCreated, Query, arg, emits, observe
    from kobs._core import select
    from kobs.tracing import span_operation
    from tests.stress.checked import Stressed, emit_checked, value_of
    assert select().name == {core!r}
    collector = Collector(size=64)
    emit = collector.emitter(Stressed)

    class Made:
        @emits(ProcessCreated, name=arg("name"), priority=5)
        def make(self, name, then=None):
            return then() if then else name

    observe(Made, in_place=True, collector=collector)
    made = Made()

def work(first, count):
    if not ready:
        return
    for value in range(first, first + count):
        assert emit_checked(emit, value)
        made.make("inside")
        with span_operation("work"):
            emit_checked(emit, value)
    events = [event for event in collector.snapshot() if event.type is Stressed]
    assert value_of(events[-1]) == first + count - 1
    assert collector.query(Query()).count
'''
exec(INSIDE)
"""

ALTERNATING = """
NESTED = "work(5, 5)\\nif ready: made.make('x', lambda: work(9, 5))"
interpreters = [make(own) for own in kinds]
for interpreter in interpreters:
    run_in(interpreter, INSIDE)
for round in range(5):
    work(round * 100, 50)
    for interpreter in interpreters:
        run_in(interpreter, f"work({round * 1000}, 50)")
    # An observed call that runs, with another interpreter's inside of it.
    made.make("outside", lambda: run_in(interpreters[0], NESTED))
before = collector.ring.produced()
for interpreter in interpreters:
    destroy(interpreter)
gc.collect()
work(1, 50)
assert collector.ring.produced() > before
"""


def test_interpreters_that_share_a_lock(run, core):
    run(COMMON + ALTERNATING, core=core.name, kinds=[False, False])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="they all share one")
def test_interpreters_with_a_lock_of_their_own(run, core):
    run(COMMON + ALTERNATING, core=core.name, kinds=[True, True, False])


THREADS = """
interpreters = [make(own) for own in kinds]
def live(interpreter, number):
    for round in range(3):
        run_in(interpreter, f"work({number << 20} + {round * 1000}, {count})")
    destroy(interpreter)

for interpreter in interpreters:
    run_in(interpreter, INSIDE)
threads = [
    threading.Thread(target=live, args=(interpreter, number))
    for number, interpreter in enumerate(interpreters)
]
for thread in threads:
    thread.start()
for round in range(3):
    work(round * 1000, count)
for thread in threads:
    thread.join()
work(5, 10)
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11's interpreters are not for threads")
def test_interpreters_in_threads(run, core, factor):
    run(COMMON + THREADS, core=core.name, kinds=[True, True, True], count=50 * factor)


RUNNING = """
# What runs in this thread for another interpreter is not this one's to see.
from kobs._core import _native
other = make(own)
run_in(other, INSIDE)
inside = []
run_in(other, "if ready:\\n    from kobs._core import _native\\n    from kobs import inside")
made.make("outside", lambda: (
    inside.append(len(_native.running())),
    run_in(other, "assert not ready or _native.running() == []"),
))
assert inside == [1], inside
"""


@pytest.mark.parametrize("own", [False, True], ids=["shared lock", "own lock"])
def test_calls_of_another_interpreter_are_not_seen(run, core, own):
    if core.name != "c":
        pytest.skip("the C core's list of running calls")
    if own and sys.version_info < (3, 12):
        pytest.skip("they all share one")
    run(COMMON + RUNNING, core=core.name, own=own)


LEAVING = """
# Frames of one interpreter are no objects in another's memory, which would free them in vain.
other = make(own)
run_in(other, INSIDE)
def leave():
    run_in(other, "if ready: collector.ring.leave()")
    destroy(other)

for round in range(10):
    leave()
    other = make(own)
    run_in(other, INSIDE)
leave()
collector.ring.leave()
assert collector.ring.closed
"""


@pytest.mark.parametrize("own", [False, True], ids=["shared lock", "own lock"])
def test_leaving_in_another_interpreter(run, core, own):
    if own and sys.version_info < (3, 12):
        pytest.skip("they all share one")
    run(COMMON + LEAVING, core=core.name, own=own)
