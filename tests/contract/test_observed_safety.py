"""Observed callables of the C core where memory is at stake: deep recursion, steps within steps, in
several threads, chains and cycles. Each program runs in a process of its own, which must live."""

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.c_core

FREE_THREADED = "t" in sys.abiflags
deep_c_stack = pytest.mark.skipif(
    FREE_THREADED,
    reason="each level of the interpreter takes up to 9 KB of the C stack, too much for 900",
)

BEFORE = """
import faulthandler, gc, sys, threading, weakref
from kobs import Collector, MessageSent, QueueDepth, SyscallEnter, SyscallExit, observe
from kobs.observe import Emission, Rule, Vocabulary, register_vocabulary, this

faulthandler.enable()
collector = Collector(size=1024)
TIMED = (Emission(SyscallExit),)

def observed(cls, *emissions, scope=False):
    register_vocabulary(Vocabulary("mine", (Rule(("*",), emissions or TIMED, scope=scope),)))
    return observe(cls, "mine", in_place=True, collector=collector)

class Deep:
    def down(self, n):
        return 0 if n == 0 else 1 + self.down(n - 1)

class Rows:
    def rows(self, of=()):
        yield 1
        yield from of

    async def later(self, what=None):
        return await what if what is not None else 5
"""


def run(program: str) -> str:
    """What a program prints that ends in order."""
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + textwrap.dedent(program)],
        env={"KOBS_CORE": "c"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


class TestTheStack:
    """What calls through C takes of the C stack, which calls between Python functions do not."""

    @deep_c_stack
    def test_recursion_ends_where_the_interpreter_ends_it(self) -> None:
        program = """
            def limit(down):
                low, high = 1, 2000
                while low < high:
                    middle = (low + high + 1) // 2
                    try:
                        down(middle)
                        low = middle
                    except RecursionError:
                        high = middle - 1
                return low

            bare = limit(Deep().down)
            assert limit(observed(Deep)().down) == bare
            print(bare > 900)
        """
        assert run(program) == "True"

    @deep_c_stack
    @pytest.mark.parametrize("collector", ["collector", "None"])
    def test_with_a_higher_limit_it_ends_before_the_stack_does(self, collector: str) -> None:
        program = f"""
            collector = {collector}
            sys.setrecursionlimit(1_000_000)
            try:
                observed(Deep)().down(900_000)
            except RecursionError as error:
                print(str(error)[:32])
            print(Deep().down(900))
        """
        assert run(program) == "maximum recursion depth exceeded\n900"

    def test_in_a_thread_with_a_small_stack(self) -> None:
        program = """
            def work():
                try:
                    print(observed(Deep)().down(900))
                except RecursionError as error:
                    print(str(error)[:32])

            threading.stack_size(128 * 1024)
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        """
        assert run(program) == "maximum recursion depth exceeded"

    @deep_c_stack
    def test_coroutines_that_await_each_other(self) -> None:
        program = """
            observed(Rows)
            made = Rows().later()
            for _ in range(900):
                made = Rows().later(made)
            try:
                made.send(None)
            except StopIteration as stop:
                print(stop.value)
        """
        assert run(program) == "5"

    def test_chains_are_taken_apart_link_by_link(self) -> None:
        program = """
            observed(Rows)
            made = ()
            for _ in range(100_000):
                made = Rows().rows(made)
            del made
            print("gone")
        """
        assert run(program) == "gone"

    def test_where_the_program_itself_comes_to_its_end_kobs_says_nothing(self) -> None:
        program = """
            class Endless:
                def endless(self):
                    self.endless()

            told = []
            sys.unraisablehook = told.append
            fields = {"queue_id": "q", "depth": lambda call: 1}
            observed(Endless, Emission(QueueDepth, fields=fields, when="call"),
                     Emission(QueueDepth, fields=fields, when="exit"))
            try:
                Endless().endless()
            except RecursionError:
                print(len(told))
        """
        assert run(program) == "0"


class TestStepsWithinSteps:
    def test_an_extractor_that_closes_the_generator(self) -> None:
        program = """
            class Closing(Rows):
                @property
                def name(self):
                    made[0].close()
                    return "closing"

                def rows(self):
                    yield 1

            fields = {"queue_id": this("name"), "depth": 1}
            observed(Closing, Emission(QueueDepth, fields=fields, when="call"),
                     Emission(QueueDepth, fields=fields))
            made = []
            made.append(Closing().rows())
            print(next(made[0], "closed"))
        """
        assert run(program) == "closed"

    @pytest.mark.skipif(
        FREE_THREADED, reason="Python's own generators crash in it too (3.13t), observed or not"
    )
    def test_a_generator_that_several_threads_step(self) -> None:
        program = """
            class Endless:
                def rows(self):
                    while True:
                        yield 1

            observed(Endless, Emission(SyscallEnter, when="call"), *TIMED, scope=True)
            sys.setswitchinterval(1e-6)

            def work(rows):
                for number in range(300):
                    try:
                        next(rows)
                        if number == 250:
                            rows.close()
                    except (ValueError, StopIteration):
                        pass

            for _ in range(100):
                rows = Endless().rows()
                threads = [threading.Thread(target=work, args=(rows,)) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            print("done")
        """
        assert run(program) == "done"


class TestCycles:
    @pytest.mark.parametrize(
        "emission",
        [
            'Emission(MessageSent, fields={"queue_id": "q", "size": 1})',  # a watch may see it too
            "Emission(SyscallExit)",
            'Emission(QueueDepth, fields={"queue_id": "q", "depth": lambda call: 1})',
        ],
    )
    def test_a_generator_among_its_own_arguments(self, emission: str) -> None:
        program = f"""
            observed(Rows, {emission})
            arguments = []
            arguments.append(Rows().rows(arguments))
            next(arguments[0])
            reference = weakref.ref(arguments[0])
            del arguments
            gc.collect()
            print(reference())
        """
        assert run(program) == "None"
