"""What a failure says, word for word."""

import pytest

from tests.plugin.failing import STORY as HEAD, Failing

pytest_plugins = ["pytester"]


@pytest.fixture
def failure(inner):
    return Failing(inner)


def test_one_event_field_by_field(failure):
    trace, section = failure(
        'assert ShmWritten.like(name="result", size=65).on(pid=102) in kobs.events'
    )
    assert trace == [
        "    AssertionError: assert ShmWritten.like(name='result',",
        "        size=65).on(pid=102) in kobs.events",
        "      no match among 6 events, ShmWritten x 2; nearest:",
        "        #4 +T pid=102 ShmWritten(name='result', size=64)",
        "          ok  name = 'result'",
        "          NO  size = 64, expected 65",
        "          ok  pid = 102",
    ]
    assert (
        section
        == """\
6 events of this test, 0 lost
  #1 +T pid=101 ProcessCreated(name='worker', priority=5)
  #2 +T pid=101 PipeWritten(pipe_id='jobs', size=10)
  #3 +T pid=102 PipeRead(pipe_id='jobs', size=10)
> #4 +T pid=102 ShmWritten(name='result', size=64)
  #5 +T pid=103 ProcessCreated(name='other', priority=1)
  #6 +T pid=103 ShmWritten(name='lonely', size=8)

nearest miss of ShmWritten.like(name='result', size=65).on(pid=102):
  #4 +T pid=102 ShmWritten(name='result', size=64)
      ok  name = 'result'
      NO  size = 64, expected 65
      ok  pid = 102
  #6 +T pid=103 ShmWritten(name='lonely', size=8)
      NO  name = 'lonely', expected 'result'
      NO  size = 8, expected 65
      NO  pid = 103, expected 102"""
    )


def test_a_type_that_never_happened(failure):
    trace, section = failure("assert FileOpened.like() in kobs.events")
    assert trace == [
        "    assert FileOpened.like() in kobs.events",
        "      no FileOpened among 6 events, there are",
        "        ProcessCreated x 2, ShmWritten x 2, PipeWritten, PipeRead",
    ]
    assert "nearest miss" not in section


def test_a_chain_that_broke_where_and_after_what(failure):
    trace, section = failure(
        'sent = PipeWritten.like(pipe_id="jobs")',
        'assert sent >> ShmWritten.like(name="lonely") in kobs.events',
    )
    assert trace == [
        "    AssertionError: assert PipeWritten.like(pipe_id='jobs') >> ShmWritten...",
        "      step 2 of 2 not found: ShmWritten.like(name='lonely')",
        "      step 1: #2 +T pid=101 PipeWritten(pipe_id='jobs', size=10)",
        "        led to PipeRead, ShmWritten",
        "        nearest: #4 +T pid=102 ShmWritten(name='result', size=64)",
        "            NO  name = 'result', expected 'lonely'",
        "        unrelated: #6 +T pid=103 ShmWritten(name='lonely', size=8)",
        "          it has no cause: nothing joins it to another event",
    ]
    assert (
        section.split("\n\n")[1]
        == """\
nearest miss of PipeWritten.like(pipe_id='jobs') >>
  ShmWritten.like(name='lonely'):
  #2 +T pid=101 PipeWritten(pipe_id='jobs', size=10)
    #3 +T pid=102 PipeRead(pipe_id='jobs', size=10)
      #4 +T pid=102 ShmWritten(name='result', size=64)
  what led to the event that matches:
    #6 +T pid=103 ShmWritten(name='lonely', size=8)"""
    )


def test_what_should_not_be_there(failure):
    trace, section = failure("assert ShmWritten.like() not in kobs.events")
    assert trace == [
        "    AssertionError: assert ShmWritten.like() not in kobs.events",
        "      found 2 among 6 events:",
        "        #4 +T pid=102 ShmWritten(name='result', size=64)",
        "        #6 +T pid=103 ShmWritten(name='lonely', size=8)",
    ]
    assert section.count("\n> #") == 2


def test_a_number_that_is_not_the_one(failure):
    trace, _ = failure("assert ShmWritten.like() * 1 in kobs.events")
    assert trace == [
        "    AssertionError: assert ShmWritten.like() * 1 in kobs.events",
        "      found 2, expected exactly 1, among 6 events",
        "        #4 +T pid=102 ShmWritten(name='result', size=64)",
        "        #6 +T pid=103 ShmWritten(name='lonely', size=8)",
    ]


def test_expect_says_the_same(failure):
    trace, section = failure(
        "def too_big(size): return size > 100",
        "kobs.expect(ProcessCreated.like(), ShmWritten.like(size=too_big))",
    )
    assert trace == [
        "    AssertionError: expected ShmWritten.like(size=too_big)",
        "      no match among 6 events, ShmWritten x 2; nearest:",
        "        #4 +T pid=102 ShmWritten(name='result', size=64)",
        "          NO  size = 64, expected too_big",
    ]
    assert "nearest miss of ShmWritten.like(" in section


def test_never_says_what_it_found(failure):
    trace, _ = failure('kobs.never(FileOpened.like(), ShmWritten.like(name="lonely"))')
    assert trace == [
        "    AssertionError: never expected ShmWritten.like(name='lonely')",
        "      found 1 among 6 events:",
        "        #6 +T pid=103 ShmWritten(name='lonely', size=8)",
    ]


def test_waiting_in_vain_says_for_how_long(failure):
    trace, _ = failure("kobs.wait_for(FileOpened.like(), timeout=0.01)")
    assert trace == [
        "    AssertionError: waited 0.01 s for FileOpened.like()",
        "      no FileOpened among 6 events, there are",
        "        ProcessCreated x 2, ShmWritten x 2, PipeWritten, PipeRead",
    ]


def test_a_part_of_the_events_is_named_as_such(failure):
    trace, _ = failure(
        "assert ShmWritten.like(size=1) in kobs.events.where(lambda e: e.pid == 103)"
    )
    assert trace[1:3] == [
        "      no match among 2 events, ShmWritten; nearest:",
        "        #6 +T pid=103 ShmWritten(name='lonely', size=8)",
    ]


def test_of_long_values_both_are_shown(failure):
    """What was expected is never cut away by what there is."""
    trace, section = failure(
        "deep = '/home/someone/' + 12 * 'deep/'",
        "kobs.collector.emit(FileOpened(deep + 'a.txt', 'w', 1.0))",
        "def ends(path): return path.endswith('b.txt')",
        "assert FileOpened.like(path=ends) in kobs.events.of(FileOpened)",
    )
    wanted = "          NO  path = '/home/someon...ep/deep/deep/deep/a.txt', expected ends"
    assert trace[-1] == wanted
    assert "\n      NO  path = '/home/so...deep/deep/deep/deep" in section
    assert "\n          expected ends\n" in section
    trace, _ = failure(
        "deep = '/home/someone/' + 12 * 'deep/'",
        "kobs.collector.emit(FileOpened(deep + 'a.txt', 'w', 1.0))",
        "assert FileOpened.like(path=deep + 'b.txt') in kobs.events.of(FileOpened)",
    )
    (line,) = (one.strip() for one in trace if "NO" in one)
    assert line == "NO  path = '/home/.../deep/a.txt', expected '/home/.../deep/b.txt'"


def test_any_failure_shows_the_events(failure):
    _, section = failure("1 / 0")
    assert section.startswith("6 events of this test, 0 lost\n  #1 ")


def test_a_failure_in_setup_and_in_teardown_shows_them_too(inner):
    result = inner(
        HEAD
        + """
import pytest

@pytest.fixture
def bad_setup(kobs):
    story(kobs)
    1 / 0

@pytest.fixture
def bad_teardown(kobs):
    yield
    story(kobs)
    1 / 0

def test_one(bad_setup): pass
def test_two(bad_teardown): pass
""",
        passed=1,
        errors=2,
    )
    result.stdout.fnmatch_lines(["*- Captured kobs setup -*", "6 events of this test, 0 lost"])
    result.stdout.fnmatch_lines(["*- Captured kobs teardown -*", "6 events of this test, 0 lost"])


def test_a_passing_or_skipped_test_shows_nothing(inner):
    result = inner(
        HEAD
        + """
import pytest
def test_one(kobs): story(kobs)
def test_two(kobs): story(kobs); pytest.skip()
""",
        "-rA",
        passed=1,
        skipped=1,
    )
    result.stdout.no_fnmatch_line("*Captured kobs*")


def test_many_events_are_cut_around_what_matters(failure):
    _, section = failure(
        "for size in range(500):",
        "    kobs.collector.emit(ShmWritten('many', size))",
        "assert ShmWritten.like(name='many', size=200.5) in kobs.events",
    )
    listing = section.split("\n\n")[0].splitlines()
    assert len(listing) < 50
    (spoken_of,) = (line for line in listing if line.startswith("> "))
    assert "size=20" in spoken_of
    assert sum("... " in line and " more ..." in line for line in listing) >= 2


def test_an_explanation_is_not_cut_by_pytest(inner):
    """pytest keeps eight lines and 640 characters of an explanation."""
    result = inner(
        HEAD
        + """
from kobs import SyscallExit, SyscallResult

def test_it(kobs):
    kobs.collector.emitter(SyscallExit)("y" * 300, 2.0, SyscallResult.SUCCESS)
    assert SyscallExit.like(
        name="x" * 300, duration_us=1.0, result=SyscallResult.ERROR, errno=4
    ).on(pid=1, tid=2, span_id=3, link=4, parent=5) in kobs.events
""",
        failed=1,
    )
    result.stdout.no_fnmatch_line("*Full output truncated*")
    result.stdout.fnmatch_lines(["E *... and 5 more"])


def test_without_assertion_rewriting_it_still_fails(inner):
    inner(
        HEAD + "def test_it(kobs):\n    assert FileOpened.like() in kobs.events",
        "--assert=plain",
        failed=1,
    )
