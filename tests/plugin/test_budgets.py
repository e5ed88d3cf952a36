"""Budgets: what a test may cause, by type, name, pattern and parameter id."""

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import pytest
import kobs as k
from kobs import FileOpened, MessageSent, ProcessCreated, SyscallExit, SyscallResult

def read(*durations_us, name="read"):
    emit = k.global_collector().emitter(SyscallExit)
    for duration in durations_us:
        emit(name, duration, SyscallResult.SUCCESS)

def send(*sizes, queue=3):
    for size in sizes:
        k.global_collector().emit(MessageSent(queue, size))
"""


def failure(inner, result, test, until="- Captured kobs call -"):
    """What a test's failure says, up to the report section."""
    lines = inner.told(result).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("_") and test in line) + 1
    end = next(n for n in range(start, len(lines)) if until in lines[n])
    assert all(len(line) <= 80 for line in lines[start:end])
    return lines[start:end]


def test_counts_durations_and_bytes_have_limits(inner):
    result = inner(
        HEAD
        + """
@pytest.mark.kobs_budget(SyscallExit=3, MessageSent={"count": 2, "bytes": "1KiB"})
def test_within():
    read(1, 2, 3)
    send(1000, 24)

@pytest.mark.kobs_budget(
    SyscallExit={"count": 100, "p50": "10us", "p95": "1ms", "max": "2ms", "total": "1s"},
    MessageSent={"count": 2, "bytes": "1KiB"},
    ProcessCreated=0,
)
def test_over():
    read(*[20] * 30, name="stat")
    read(*[30] * 10, 5_000)
    send(1000, 1000, 48)
    send(512, queue=4)

@pytest.mark.kobs_budget(SyscallExit.like(name="read"), count=1)
@pytest.mark.kobs_budget(MessageSent.like() >> SyscallExit.like(), count=0)
@pytest.mark.kobs_budget(SyscallExit=None)
def test_patterns():
    read(1, name="stat")
    read(1, 2, 3)
""",
        passed=1,
        failed=2,
    )
    assert failure(inner, result, "test_over") == [
        "kobs_budget: 4 of 8 limits exceeded",
        "",
        "    limit                        used      allowed",
        "  > SyscallExit p50             20 us        10 us",
        "  > SyscallExit max              5 ms         2 ms",
        "  > MessageSent count               4            2",
        "  > MessageSent bytes         2.5 KiB        1 KiB",
        "    SyscallExit count              41          100",
        "    SyscallExit p95             30 us         1 ms",
        "    SyscallExit total          5.9 ms          1 s",
        "    ProcessCreated count            0            0",
        "",
        "  SyscallExit p50, most of it:",
        "     5 ms name='read'",
        "    30 us name='read'",
        "    30 us name='read'",
        "    ... 38 more",
        "",
        "  SyscallExit max, most of it:",
        "     5 ms name='read'",
        "    30 us name='read'",
        "    30 us name='read'",
        "    ... 38 more",
        "",
        "  MessageSent count, most of it:",
        "    3 x queue_id=3",
        "    1 x queue_id=4",
        "",
        "  MessageSent bytes, most of it:",
        "    2 KiB queue_id=3",
        "    512 B queue_id=4",
    ]
    assert failure(inner, result, "test_patterns") == [
        "kobs_budget: 1 of 2 limits exceeded",
        "",
        "    limit                                                  used      allowed",
        "  > SyscallExit.like(name='read') count                       3            1",
        "    MessageSent.like() >> SyscallExit.like() count            0            0",
        "",
        "  SyscallExit.like(name='read') count, most of it:",
        "    3 x name='read'",
    ]


def test_names_and_ids(inner):
    inner(
        HEAD
        + """
@pytest.mark.kobs_budget(
    SyscallExit=1, ids={"large": {"SyscallExit": 9}, "no*": {"SyscallExit": None}}
)
@pytest.mark.kobs_budget(MessageSent.like(queue_id=3), count=1, ids={"large": 2})
@pytest.mark.parametrize("number", [1, 9, 99], ids=["small", "large", "none"])
def test_it(number):
    read(*[1] * number)
    send(*[1] * (2 if number == 9 else 1))

@pytest.mark.kobs_budget(ids={"a-1": {"MessageSent": 1}, "*": {"MessageSent": 0}})
@pytest.mark.parametrize("y", [1, 2])
@pytest.mark.parametrize("x", ["a", "b"])
def test_two(x, y):
    if (x, y) != ("b", 2):
        send(1)
""",
        passed=5,
        failed=2,
    )


def test_the_closest_marker_goes_before_and_both_before_an_option(inner, monkeypatch):
    source = (
        HEAD
        + """
def test_default(kobs):
    read(*[1] * 4)

@pytest.mark.kobs_budget(SyscallExit=10, MessageSent=10)
class TestIt:
    def test_of_class(self):
        read(*[1] * 4)
        send(1, 2)
    @pytest.mark.kobs_budget(SyscallExit=3)
    def test_of_its_own(self):
        read(*[1] * 4)
    @pytest.mark.kobs_budget(SyscallExit=None)
    def test_without(self):
        read(*[1] * 40)
"""
    )
    inner(source, passed=3, failed=1)
    ini = "kobs_budget=\n  SyscallExit[read]=2\n  SyscallExit[stat] count=0 p95=1ms"
    inner(source, "-o", ini, failed=4)
    monkeypatch.setenv("KOBS_PYTEST_BUDGET", "SyscallExit = 5; MessageSent bytes=2")
    inner(source, "-o", ini, passed=2, failed=2)
    inner(source, "--kobs-budget=SyscallExit=3", passed=2, failed=2)


def test_what_is_not_recorded_is_no_evidence(inner):
    result = inner(
        HEAD
        + """
@pytest.mark.kobs_budget(SyscallExit=5)
def test_unrecorded():
    pass

@pytest.mark.kobs(size=64)
@pytest.mark.kobs_budget(MessageSent={"count": 600, "bytes": 10**6})
def test_overflow():
    send(*range(500))

@pytest.mark.kobs(size=64)
@pytest.mark.kobs_budget(MessageSent={"count": 63, "bytes": 100})
def test_sure():
    send(*range(500))

@pytest.mark.kobs_budget(FileOpened=1)
def test_skipped():
    open("/dev/null").close()
    open("/dev/null").close()
    pytest.skip()
""",
        failed=3,
        skipped=1,
    )
    told = inner.told(result)
    assert told.count("\nINCONCLUSIVE ") == 2
    assert "[unrecorded_type]" in told
    shown = failure(inner, result, "test_sure")
    assert shown[0] == "kobs_budget: 2 of 2 limits exceeded"
    assert shown[3] == "  > MessageSent count           64           63"


def test_what_used_most_is_named_with_its_line(inner):
    result = inner(
        HEAD
        + """
import subprocess
def config():
    open("/dev/null").close()

@pytest.mark.kobs_budget(FileOpened=2, ProcessCreated=0)
def test_it():
    for _ in range(3):
        config()
    open("/dev/zero").close()
    subprocess.run(["true"])
""",
        failed=1,
    )
    assert failure(inner, result, "test_it") == [
        "kobs_budget: 2 of 2 limits exceeded",
        "",
        "    limit                        used      allowed",
        "  > FileOpened count                4            2",
        "  > ProcessCreated count            1            0",
        "",
        "  FileOpened count, most of it:",
        "    3 x path='/dev/null'",
        "          at test_what_used_most_is_named_with_its_line.py:N in config",
        "    1 x path='/dev/zero'",
        "          at test_what_used_most_is_named_with_its_line.py:N in test_it",
        "",
        "  ProcessCreated count, most of it:",
        "    1 x name='true'",
        "          at test_what_used_most_is_named_with_its_line.py:N in test_it",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "says nothing: expected limits of types, such as FileOpened=3"),
        ("FileOpened", "says nothing: expected limits of the pattern by keyword: count, p50"),
        ("count=3", "(count=...): of what? Give a pattern before it"),
        ("FileOpend=3", "there is no event type 'FileOpend'; did you mean 'FileOpened'?"),
        ("FileOpened=-1", "FileOpened count=-1: expected a number of events, 0 or more"),
        ("FileOpened=True", "FileOpened count=True: expected a number of events, 0 or more"),
        ("FileOpened='3ms'", "FileOpened count='3ms': expected a number of events, 0 or more"),
        ("FileOpened={'p101': '1ms'}", "expected one of count, p50, p95, p99"),
        ("FileOpened={'p95': 5}", "p95=5: expected a duration with its unit, such as '5ms'"),
        ("FileOpened={'max': '5 parsec'}", "expected a duration with its unit"),
        ("FileOpened={'bytes': 5}", "FileOpened has no bytes; its fields are path, mode"),
        ("PipeWritten={'bytes': '5ms'}", "expected a number of bytes, or one with its unit"),
        ("PipeWritten={'p95': '5ms'}", "PipeWritten has no duration; its fields are pipe_id"),
        ("FileOpened.like(), FileOpened.like(), count=1", "expected one pattern or payload type"),
        ("'FileOpened', count=1", "('FileOpened'): expected one pattern or payload type"),
        ("FileOpened.like(), size=1", "expected one of count, p50, p95, p99"),
        ("FileOpened.like() >> FileOpened.like(), max='1s'", "only its count has a limit"),
        ("FileOpened=1, ids={'a': {}}", "the test is not parametrized: give its limits beside"),
        ("FileOpened=1, ids=['a']", "(ids=['a']): expected limits by parameter id"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(inner, arguments, message):
    source = HEAD + f"@pytest.mark.kobs_budget({arguments})\ndef test_it(): pass\n"
    result = inner(source, errors=1)
    told = failure(inner, result, "test_it", until="= short test summary")
    assert message in " ".join(line.strip() for line in told)


def test_an_id_without_limits_is_refused(inner):
    result = inner(
        HEAD
        + """
@pytest.mark.kobs_budget(ids={"a": {"FileOpened": 1}})
@pytest.mark.parametrize("x", ["a", "b"])
def test_it(x): pass

@pytest.mark.kobs_budget(ids={"a": 1})
@pytest.mark.parametrize("x", ["a"])
def test_other(x): pass
""",
        passed=1,
        errors=2,
    )
    text = " ".join(inner.told(result).split())
    assert "(ids=...) has no limits for the parameter id 'b': there are 'a'" in text
    assert "(ids=...): 1 says not what of: expected such as {'FileOpened': 30}" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FileOpened", "'FileOpened' is no limit: expected one such as 'FileOpened=3' or"),
        ("FileOpened count", "'FileOpened count' is no limit"),
        ("FileOpened=x", "'FileOpened=x' is no limit"),
        ("Nothing=3", "there is no event type 'Nothing'; import the module that declares it"),
        ("ProcessTerminated[1]=3", "ProcessTerminated has no name that 'ProcessTerminated[1]'"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(inner, text, message):
    result = inner(HEAD + "def test_it(kobs): pass\n", f"--kobs-budget={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"--kobs-budget: {message}" in " ".join(result.errlines)
