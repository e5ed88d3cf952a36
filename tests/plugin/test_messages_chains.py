"""What a failure says of chains, variables, limits of time, `every` and waiting, word for word."""

import re

import pytest

from tests.plugin.failing import STORY, Failing

pytest_plugins = ["pytester"]


@pytest.fixture
def failure(inner):
    failing = Failing(inner)

    def run(*lines, **options):
        """As `Failing`, with measured lengths of time made equal."""
        trace, section = failing(*lines, **options)
        same = re.compile(r"since step 1 = [\d.]+(us|ms)")
        return [same.sub("since step 1 = T", line) for line in trace], section

    return run


def test_a_variable_that_was_bound_to_another_value(failure):
    trace, section = failure(
        'made = PipeWritten.like().on(pid=var("p"))',
        'assert made >> ShmWritten.like().on(pid=var("p")) in kobs.events',
    )
    assert trace == [
        "    AssertionError: assert PipeWritten.like().on(pid=var('p')) >>",
        "        ShmWritten.like().on(pid=var('p')) in kobs.events",
        "      step 2 of 2 not found: ShmWritten.like().on(pid=var('p'))",
        "      step 1: #2 +T pid=101 PipeWritten(pipe_id='jobs', size=10)",
        "        led to PipeRead, ShmWritten",
        "        nearest: #4 +T pid=102 ShmWritten(name='result', size=64)",
        "            NO  pid = 102, expected 101 (var('p'))",
    ]
    assert (
        section.split("\n\n")[1]
        == """\
nearest miss of PipeWritten.like().on(pid=var('p')) >>
  ShmWritten.like().on(pid=var('p')):
  #2 +T pid=101 PipeWritten(pipe_id='jobs', size=10)
    #3 +T pid=102 PipeRead(pipe_id='jobs', size=10)
      #4 +T pid=102 ShmWritten(name='result', size=64)"""
    )


def test_a_chain_that_took_too_long(failure):
    trace, _ = failure(
        'made = ProcessCreated.like(name="worker")',
        'kobs.expect(made >> ShmWritten.like(), within="1ns")',
    )
    assert trace == [
        "    AssertionError: expected (ProcessCreated.like(name='worker') >>",
        "        ShmWritten.like()).within('1ns')",
        "      step 2 of 2 not found: ShmWritten.like()",
        "      step 1: #1 +T pid=101 ProcessCreated(name='worker', priority=5)",
        "        led to PipeWritten, PipeRead, ShmWritten",
        "        nearest: #4 +T pid=102 ShmWritten(name='result', size=64)",
        "            NO  time since step 1 = T, expected at most 1ns",
    ]


def test_a_number_outside_of_a_range(failure):
    trace, _ = failure("assert ShmWritten.like().times(3, 5) in kobs.events")
    assert trace == [
        "    AssertionError: assert ShmWritten.like().times(3, 5) in kobs.events",
        "      found 2, expected 3 to 5, among 6 events",
        "        #4 +T pid=102 ShmWritten(name='result', size=64)",
        "        #6 +T pid=103 ShmWritten(name='lonely', size=8)",
    ]
    trace, _ = failure("kobs.expect(ShmWritten.like(size=between(1, 9)).times(2, None))")
    assert trace == [
        "    AssertionError: expected ShmWritten.like(size=between(1,",
        "        9)).times(2, None)",
        "      found 1, expected 2 or more, among 6 events",
        "      nearest of the others:",
        "        #4 +T pid=102 ShmWritten(name='result', size=64)",
        "          NO  size = 64, expected between(1, 9)",
    ]


def test_one_of_every_that_leads_to_nothing(failure):
    trace, section = failure("kobs.every(ProcessCreated.like()).leads_to(ShmWritten.like())")
    assert trace == [
        "    AssertionError: expected that every ProcessCreated.like() leads",
        "        to ShmWritten.like()",
        "      1 of 2 does not:",
        "      step 2 of 2 not found: ShmWritten.like()",
        "      step 1: #5 +T pid=103 ProcessCreated(name='other', priority=1)",
        "        led to nothing",
        "        unrelated: #4 +T pid=102 ShmWritten(name='result', size=64)",
        "          its cause: #3 +T pid=102 PipeRead(pipe_id='jobs', size=10)",
    ]
    assert (
        section.split("\n\n")[1]
        == """\
nearest miss of every ProcessCreated.like() leads to ShmWritten.like():
  #5 +T pid=103 ProcessCreated(name='other', priority=1)
  what led to the event that matches:
    #4 +T pid=102 ShmWritten(name='result', size=64)
    <- #3 +T pid=102 PipeRead(pipe_id='jobs', size=10)
    <- #2 +T pid=101 PipeWritten(pipe_id='jobs', size=10)
    <- #1 +T pid=101 ProcessCreated(name='worker', priority=5)"""
    )


def test_one_of_every_that_is_followed_by_another_one(failure):
    trace, _ = failure(
        'kobs.every(ProcessCreated.like()).then(ShmWritten.like(), same="pid", within="5s")'
    )
    assert trace == [
        "    AssertionError: expected that every ProcessCreated.like() is",
        "        followed by ShmWritten.like() (same pid, within 5s)",
        "      1 of 2 does not:",
        "      step 2 of 2 not found: ShmWritten.like()",
        "      step 1: #1 +T pid=101 ProcessCreated(name='worker', priority=5)",
        "        then came ShmWritten x 2, PipeWritten, PipeRead, ProcessCreated",
        "        nearest: #4 +T pid=102 ShmWritten(name='result', size=64)",
        "            NO  pid = 102, expected 101, the same",
    ]


def test_every_of_none(failure):
    trace, _ = failure("kobs.every(PipeRead.like(size=1)).leads_to(ShmWritten.like())")
    assert trace == [
        "    AssertionError: expected that every PipeRead.like(size=1) leads",
        "        to ShmWritten.like()",
        "      there is no PipeRead.like(size=1), so nothing is shown",
        "      no match among 6 events, PipeRead; nearest:",
        "        #3 +T pid=102 PipeRead(pipe_id='jobs', size=10)",
        "          NO  size = 10, expected 1",
    ]


CHAIN_IN_VAIN = [
    "      step 2 of 2 not found: ShmWritten.like(name='lonely')",
    "      step 1: #2 +T pid=101 PipeWritten(pipe_id='jobs', size=10)",
    "        led to PipeRead, ShmWritten",
    "        nearest: #4 +T pid=102 ShmWritten(name='result', size=64)",
    "            NO  name = 'result', expected 'lonely'",
    "        unrelated: #6 +T pid=103 ShmWritten(name='lonely', size=8)",
    "          it has no cause: nothing joins it to another event",
]


def test_a_chain_waited_for_in_vain(failure):
    wanted = "PipeWritten.like() >> ShmWritten.like(name='lonely')"
    head = [
        "    AssertionError: waited 0.01 s for PipeWritten.like() >>",
        "        ShmWritten.like(name='lonely')",
    ]
    trace, _ = failure(f"kobs.wait_for({wanted}, timeout=0.01)")
    assert trace == head + CHAIN_IN_VAIN
    trace, _ = failure(f"await kobs.await_for({wanted}, timeout=0.01)", how="async def")
    # The loop told of the task before: the numbers are others.
    unnumbered = [re.sub(r"#\d+", "#N", line) for line in trace]
    assert unnumbered == [re.sub(r"#\d+", "#N", line) for line in head + CHAIN_IN_VAIN]


def test_waiting_in_a_coroutine_that_holds_up_its_loop(failure):
    trace, _ = failure("kobs.wait_for(FileOpened.like(), timeout=0.01)", how="async def")
    assert trace[0] == "    AssertionError: waited 0.01 s for FileOpened.like()"
    assert trace[-1] == (
        "      the event loop stood still meanwhile: use await kobs.await_for(...)"
    )


def test_a_chain_that_should_not_be_there(failure):
    trace, section = failure("kobs.never(ProcessCreated.like() >> ShmWritten.like())")
    assert trace == [
        "    AssertionError: never expected ProcessCreated.like() >>",
        "        ShmWritten.like()",
        "      found 1 among 6 events:",
        "        #4 +T pid=102 ShmWritten(name='result', size=64)",
    ]
    assert (
        section.split("\n\n")[1]
        == """\
found ProcessCreated.like() >> ShmWritten.like():
  #1 +T pid=101 ProcessCreated(name='worker', priority=5)
    #4 +T pid=102 ShmWritten(name='result', size=64)"""
    )


def test_anomalies(failure):
    trace, _ = failure(
        "tell = kobs.collector.syscall_exit",
        "for n in range(60): tell(1, 'read', 10.0 + n % 3, True)",
        "tell(1, 'read', 9000.0, True)",
        "kobs.no_anomalies()",
    )
    assert trace[:2] == [
        "    AssertionError: expected no anomalies",
        "      found 1 among 68 events:",
    ]
    assert trace[2].startswith("        #68 +T pid=P AnomalyDetected(metric='SyscallEx....d")


def test_a_block_names_events_as_the_test_does(failure):
    trace, section = failure(
        "with kobs.capture() as inner:",
        "    kobs.collector.emit(ShmWritten('inside', 1), pid=104)",
        "inner.expect(ShmWritten.like(name='inside', size=2))",
    )
    assert trace == [
        "    AssertionError: expected ShmWritten.like(name='inside', size=2)",
        "      no match among 1 event, ShmWritten; nearest:",
        "        #7 +T pid=104 ShmWritten(name='inside', size=1)",
        "          ok  name = 'inside'",
        "          NO  size = 1, expected 2",
    ]
    assert "\n> #7 +T pid=104 ShmWritten(name='inside', size=1)" in section


RAISED_DEEP_INSIDE = """
import pytest
import kobs as k
from kobs.pattern import Inconclusive

def test_failed(kobs): story(kobs); kobs.every(ProcessCreated.like()).leads_to(FileOpened.like())
def test_waited(kobs): kobs.wait_for(ProcessCreated.like(), timeout=0)
def test_unknown(kobs): assert k.MemoryFreed.like() in kobs.events
def test_refused(kobs): kobs.expect(ProcessCreated.like() >> FileOpened.like() & FileOpened.like())
def test_no_field(kobs): FileOpened.like(pth="x")
def test_users_condition(kobs): story(kobs); kobs.events.where(lambda event: 1 / 0)
def test_users(kobs):
    def bad(name): return 1 / 0
    story(kobs); kobs.expect(ProcessCreated.like(name=bad))
@pytest.mark.asyncio
async def test_async(kobs): await kobs.await_for(ProcessCreated.like(), timeout=0)
"""


@pytest.mark.parametrize("style", ["auto", "long", "short", "native", "line"])
def test_no_style_of_traceback_shows_frames_of_kobs(inner, style):
    result = inner(STORY + RAISED_DEEP_INSIDE, f"--tb={style}", failed=8)
    text = "\n".join(result.outlines)
    assert "kobs_pytest" not in text.replace(str(inner.pytester.path), "")
    assert "kobs/p" not in text
    assert "ZeroDivisionError" in text


def test_the_full_trace_shows_them(inner):
    result = inner(STORY + RAISED_DEEP_INSIDE, "--full-trace", failed=8)
    assert "kobs_pytest" in "\n".join(result.outlines)
