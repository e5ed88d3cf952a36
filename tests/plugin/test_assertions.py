"""What can be asked of a test's events: numbers, shapes, every, parts of a test, a whole run."""

pytest_plugins = ["pytester"]

HEAD = """
import threading
import pytest
import kobs as k
from kobs import (
    FileOpened, MessageReceived, MessageSent, PipeRead, PipeWritten, ProcessCreated,
    ProcessTerminated, SyscallExit, SyscallResult,
)
from kobs.errors import FieldError, MissingExtraError, PatternError
from kobs.pattern import Inconclusive, var

def story(kobs):
    emit = kobs.collector.emit
    for pid in (10, 11):
        made = emit(ProcessCreated("sh", 1), pid=pid)
        sent = emit(MessageSent("jobs", pid), pid=pid, parent=made, link=pid)
        got = emit(MessageReceived("jobs", pid, 1.0), pid=1, link=pid)
        emit(FileOpened(f"out-{pid}", "w", 1.0), pid=1, parent=got)
    emit(ProcessTerminated(0), pid=11)

"""


def test_numbers_and_groups(inner):
    inner(
        HEAD
        + """
def test_it(kobs):
    for n in range(1, 101):
        kobs.collector.emit(SyscallExit("read", float(n), SyscallResult.SUCCESS), pid=n % 2 + 1)
    kobs.collector.emit(FileOpened("a", "w", 5.0), pid=1)
    reads = kobs.events.of(SyscallExit)
    assert reads.percentile("duration_us", 50) == 50.5
    assert reads.percentiles("duration_us") == {50: 50.5, 95: 95.05, 99: 99.01}
    assert reads.percentiles("duration_us", 0, 100) == {0: 1.0, 100: 100.0}
    assert reads.stats("duration_us").count == 100
    by_pid = kobs.events.by_pid()
    assert {pid: len(events) for pid, events in by_pid.items()} == {1: 51, 2: 50}
    assert FileOpened.like() in by_pid[1]
    assert FileOpened.like() not in by_pid[2]
    with pytest.raises(FieldError, match="did you mean 'duration_us'"):
        reads.percentile("duration", 50)
    with pytest.raises(FieldError, match="is no number: 'read'"):
        reads.percentile("name", 50)
    assert not kobs.events.of(MessageSent).percentile("size", 99) < 1  # nan
""",
        passed=1,
    )


def test_tables_of_other_libraries_need_them(inner, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    inner(
        HEAD
        + """
def test_it(kobs):
    with pytest.raises(MissingExtraError, match="kobs.arrow"):
        kobs.events.to_arrow()
    with pytest.raises(MissingExtraError, match="kobs.pandas"):
        kobs.events.to_pandas()
    assert not kobs.events  # looking for them was not the test's doing
""",
        passed=1,
    )


def test_tables(inner):
    import pandas
    import pyarrow

    assert pyarrow.table, pandas.DataFrame  # here, so that the inner run does not import them anew
    inner(
        HEAD
        + """
def test_it(kobs):
    story(kobs)
    kobs.collector.emit(k.ContextSwitch(3, 4, "x"))
    table, frame = kobs.events.to_arrow(), kobs.events.to_pandas()
    assert table.num_rows == len(frame) == 10
    assert table.column_names == list(frame.columns)
    types = ["ProcessCreated", "MessageSent"]
    assert table["type"].to_pylist()[:2] == list(frame["type"][:2]) == types
    assert table["size"].to_pylist()[:3] == [None, 10, 10]
    assert str(table.schema.field("size").type) == "uint64"
    assert frame["size"].dropna().tolist() == [10, 10, 11, 11]
    assert str(frame["size"].dtype) == "UInt64"
    assert frame["pid"].dtype == "uint32"
    assert frame[frame["type"] == "FileOpened"]["path"].tolist() == ["out-10", "out-11"]
    assert frame["severity"][0] == "INFO"
    assert kobs.events.of(ProcessCreated).to_arrow()["name"].to_pylist() == ["sh", "sh"]
    none = kobs.events.of(k.ShmRead)
    assert none.to_arrow().num_rows == len(none.to_pandas()) == 0
""",
        passed=1,
    )


def test_chains_spans_and_the_timeline(inner):
    result = inner(
        HEAD
        + """
def test_it(kobs):
    assert kobs.chains == kobs.spans == list(kobs.timeline()) == []
    story(kobs)
    first, second, last = kobs.chains
    assert [chain.root.pid for chain in (first, second, last)] == [10, 11, 11]
    assert len(first) == 4 and len(last) == 1
    assert first.shape == (
        "ProcessCreated", "  MessageSent", "    MessageReceived", "      FileOpened"
    )
    assert first.duration_us > 0 and first.events[0] in first and last.root not in first
    assert str(first).splitlines()[3].startswith("      #4 +")
    assert "pid=1 FileOpened(path='out-10', mode='w'" in str(first)
    timeline = kobs.timeline()
    assert [entry.depth for entry in timeline] == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert timeline[0].offset_us > 0
    assert str(timeline).splitlines()[1].startswith("  #2 +")

def test_spans(kobs):
    with k.span_operation("load") as outer:
        outer.record("rows", 42)
        with k.span_syscall("read"):
            pass
        thread = threading.Thread(target=lambda: k.span_operation("part").__enter__().__exit__(
            None, None, None))
        thread.start()
        thread.join()
    with pytest.raises(ZeroDivisionError), k.span_operation("bad"):
        1 / 0
    load, bad = kobs.spans
    assert (load.name, load.attributes["rows"], load.status) == ("load", 42, "unset")
    assert [(node.name, node.depth) for node in load.walk()] == [
        ("load", 0), ("read", 1), ("part", 1)
    ]
    assert load.children[0].parent is load and load.children[0].trace_id == load.trace_id
    assert load.duration_us >= load.children[0].duration_us
    assert bad.status == "error" and " error" in str(bad)
    assert str(load).splitlines()[1].startswith("  read 0.")
""",
        passed=2,
    )
    assert result.ret == 0


def test_an_event_with_two_causes_is_in_one_chain(inner):
    inner(
        HEAD
        + """
def test_it(kobs):
    emit = kobs.collector.emit
    emit(MessageSent("jobs", 1), link=7)
    made = emit(ProcessCreated("sh", 1))
    emit(MessageReceived("jobs", 1, 1.0), parent=made, link=7)
    (chain,) = kobs.chains
    assert len(chain) == 3 and len(chain.roots) == 2
    first, second = (line for line in str(chain).splitlines() if "MessageReceived" in line)
    assert first.startswith("  #3 +") and first.endswith(" (see above)")
    assert second.startswith("  #3 +") and not second.endswith(" (see above)")
    assert chain.shape.count("  MessageReceived") == 2
""",
        passed=1,
    )


def test_every_has_its_own(inner):
    inner(
        HEAD
        + """
SENT, OPENED = MessageSent.like(), FileOpened.like()

def test_it(kobs):
    story(kobs)
    kobs.every(SENT).leads_to(OPENED)
    kobs.every(SENT).leads_to(MessageReceived.like() >> OPENED, within="10s")
    kobs.every(SENT).leads_to(MessageReceived.like(), same="size")
    kobs.every(SENT).leads_to(MessageReceived.like(), same=("queue_id", "size"), within="1min")
    kobs.every(MessageSent.like(size=var("n"))).leads_to(MessageReceived.like(size=var("n")))
    kobs.every(ProcessCreated.like().on(pid=11)).then(ProcessTerminated.like(), same="pid")
    kobs.every(ProcessCreated.like()).then(ProcessTerminated.like())
    with pytest.raises(AssertionError):
        kobs.every(ProcessCreated.like()).then(ProcessTerminated.like(), same="pid")
    with pytest.raises(AssertionError):  # it does not cause it
        kobs.every(ProcessCreated.like()).leads_to(ProcessTerminated.like())
    with pytest.raises(AssertionError):
        kobs.every(SENT).leads_to(OPENED, within="1ns")
    with pytest.raises(AssertionError):  # there is none
        kobs.every(MessageSent.like(size=99)).leads_to(OPENED)

@pytest.mark.parametrize("use", [
    lambda kobs: kobs.every(SENT >> OPENED),
    lambda kobs: kobs.every(SENT * 2),
    lambda kobs: kobs.every(MessageSent),
    lambda kobs: kobs.every(SENT).leads_to(OPENED * 2),
    lambda kobs: kobs.every(SENT).leads_to(FileOpened),
    lambda kobs: kobs.every(SENT).leads_to(OPENED, within=5),
    lambda kobs: kobs.every(SENT).leads_to(OPENED, same=5),
    lambda kobs: kobs.every(SENT).leads_to(OPENED, same="queue_id"),
    lambda kobs: kobs.every(SENT).leads_to(FileOpened.like(path=var("p"))),
    lambda kobs: bool(kobs.every(SENT)),
    lambda kobs: kobs.expect(SENT, within="5ms"),
    lambda kobs: kobs.expect((SENT >> OPENED) * 2, within="5ms"),
    lambda kobs: kobs.wait_for(SENT, timeout="5"),
    lambda kobs: kobs.wait_for(SENT, timeout=-1),
    lambda kobs: kobs.expect(SENT >> FileOpened.like(path=var("p"))),
])
def test_refused(kobs, use):
    with pytest.raises((PatternError, FieldError)):
        use(kobs)
""",
        passed=16,
    )


def test_every_is_inconclusive_where_something_may_be_missing(inner):
    inner(
        HEAD
        + """
def lose(kobs):
    for _ in range(200):
        kobs.collector.emit(MessageSent("flood", 0), link=999)
        kobs.collector.emit(MessageReceived("flood", 0, 0.0), link=999)

def test_passes_on_what_is_there_only(kobs):
    lose(kobs)
    with pytest.raises(Inconclusive, match="overwritten"):
        kobs.every(MessageSent.like()).leads_to(MessageReceived.like())

def test_fails_on_what_is_there_only(kobs):
    kobs.collector.emit(MessageSent("jobs", 1), link=1)
    lose(kobs)
    kobs.collector.emit(MessageSent("jobs", 1), link=1)
    with pytest.raises(Inconclusive, match="overwritten"):
        kobs.every(MessageSent.like(queue_id="jobs")).leads_to(FileOpened.like())

def test_what_nothing_records(kobs):
    kobs.collector.emit(MessageSent("jobs", 1), link=1)
    with pytest.raises(Inconclusive, match="nothing here records MemoryFreed"):
        kobs.every(MessageSent.like()).leads_to(k.MemoryFreed.like())

def test_unattributed(kobs):
    sent = kobs.collector.emit(MessageSent("jobs", 1), link=1)
    before = k.context.origin.get()
    k.context.origin.set("")
    kobs.collector.emit(MessageReceived("jobs", 1, 0.0), link=1)
    k.context.origin.set(before)
    with pytest.raises(Inconclusive, match="nothing says who caused it"):
        kobs.every(MessageSent.like()).leads_to(MessageReceived.like())
    k.context.origin.set("")
    kobs.collector.emit(MessageSent("jobs", 2), link=2)
    k.context.origin.set(before)
    kobs.collector.emit(FileOpened("x", "w", 1.0), parent=sent)
    with pytest.raises(Inconclusive, match="nothing says who caused it"):
        kobs.every(MessageSent.like()).leads_to(FileOpened.like())
""",
        "--kobs-size=128",
        passed=4,
    )


def test_no_anomalies(inner):
    inner(
        HEAD
        + """
def test_it(kobs):
    for n in range(60):
        kobs.collector.syscall_exit(1, "read", 10.0 + n % 3, True)
    kobs.no_anomalies()
    kobs.collector.syscall_exit(1, "read", 9000.0, True)
    with pytest.raises(AssertionError, match="expected no anomalies"):
        kobs.no_anomalies()
""",
        passed=1,
    )


def test_a_block_has_what_it_causes_and_no_more(inner):
    inner(
        HEAD
        + """
import asyncio
import queue
import subprocess
import sys

def test_here(kobs):
    kobs.collector.emit(MessageSent("before", 1))
    with kobs.capture() as inner:
        kobs.collector.emit(MessageSent("inside", 1))
        with inner.capture() as innermost:
            kobs.collector.emit(MessageSent("deep", 1))
        kobs.collector.emit(MessageSent("inside", 2))
    kobs.collector.emit(MessageSent("after", 1))
    assert [event.name for event in innermost.events] == ["deep"]
    assert [event.name for event in inner.events] == ["inside", "deep", "inside"]
    assert [event.name for event in kobs.events] == ["before", "inside", "deep", "inside", "after"]
    inner.expect(MessageSent.like(queue_id="deep"))
    inner.never(MessageSent.like(queue_id="after"))
    inner.every(MessageSent.like(size=1)).then(MessageSent.like(size=2))
    assert inner.count(MessageSent.like()) == 3 and len(inner.chains) == 3
    assert MessageSent.like(queue_id="before") not in inner.events
    assert inner.lost == 0

def test_threads_tasks_and_processes(kobs):
    jobs = queue.Queue()
    go = threading.Event()

    def work():  # begun before the block: what it does for the block is the block's
        while (path := jobs.get()) is not None:
            kobs.collector.emit(FileOpened(path, "w", 1.0))

    worker = threading.Thread(target=work)
    worker.start()
    with kobs.capture() as inner:
        jobs.put("by-worker")
        thread = threading.Thread(target=lambda: (
            go.wait(), kobs.collector.emit(FileOpened("late", "w", 1.0))))
        thread.start()
        subprocess.run([sys.executable, "-c", "open('by-child', 'w').close()"], check=True)
    jobs.put("outside")
    go.set()
    thread.join()
    jobs.put(None)
    worker.join()
    inner.expect(*(FileOpened.like(path=path) for path in ("by-worker", "late")))
    inner.expect(FileOpened.like(path=lambda path: path.endswith("by-child")))
    inner.never(FileOpened.like(path="outside"))
    kobs.expect(FileOpened.like(path="outside"))

def test_tasks(kobs):
    async def part(name, gate):
        with kobs.capture() as inner:
            kobs.collector.emit(MessageSent(name, 1))
            await gate.wait()
            kobs.collector.emit(MessageSent(name, 2))
        return [event.name for event in inner.events.of(MessageSent)]

    async def main():
        gate = asyncio.Event()
        parts = [asyncio.ensure_future(part(name, gate)) for name in ("a", "b")]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*parts)

    assert asyncio.run(main()) == [["a", "a"], ["b", "b"]]

def test_an_exception_leaves_it_too(kobs):
    with pytest.raises(ZeroDivisionError):
        with kobs.capture() as inner:
            1 / 0
    kobs.collector.emit(MessageSent("after", 1))
    assert not inner.events

def test_many_blocks(kobs):
    for n in range(2500):  # more than one recording's strings last for
        with kobs.capture() as inner:
            kobs.collector.emit(MessageSent("q", n))
    assert [event.payload.size for event in inner.events] == [2499]
    assert kobs.count(MessageSent.like()) == 2500
""",
        "--kobs-size=4096",
        passed=5,
    )


def test_the_fixture_of_the_session(inner):
    result = inner(
        HEAD
        + """
@pytest.fixture(scope="module")
def wide(kobs_session):
    with kobs_session.capture() as inner:
        kobs_session.collector.emit(ProcessCreated("wide", 1))
    assert len(inner.events) == 1
    kobs_session.collector.emit(ProcessCreated("wide", 2))

def test_one(kobs_session, wide):
    mark = kobs_session.mark()
    with kobs_session.capture() as inner:
        kobs_session.collector.emit(MessageSent("one", 1))
    kobs_session.collector.emit(MessageSent("one", 2))
    assert inner.count(MessageSent.like()) == 1
    inner.never(ProcessCreated.like())
    assert len(kobs_session.events.since(mark)) == 2
    kobs_session.expect(ProcessCreated.like().times(2, 2))

def test_between(kobs):
    kobs.collector.emit(MessageSent("between", 1))
    assert len(kobs.events) == 1

def test_unseen():
    assert k.global_collector() is None

def test_two(kobs_session, kobs):
    names = [event.name for event in kobs_session.events.of(MessageSent)]
    assert names == ["one", "one", "between"]
    assert not kobs.events
    kobs_session.every(ProcessCreated.like()).then(MessageSent.like())
    assert kobs_session.lost == 0

def test_asked_for_late(request):
    session = request.getfixturevalue("kobs_session")
    with session.capture() as inner:
        k.global_collector().emit(MessageSent("late", 1))
    inner.expect(MessageSent.like(queue_id="late"))
""",
        "-v",
        passed=5,
    )
    assert result.ret == 0
    inner(HEAD + "\ndef test_it(kobs_session): pass\n", "--no-kobs", skipped=1)


def test_each_example_of_hypothesis_has_its_own(inner):
    result = inner(
        HEAD
        + """
from hypothesis import given, settings, strategies as st, HealthCheck
from hypothesis.errors import FailedHealthCheck

@given(numbers=st.lists(st.integers(0, 9), max_size=5))
@settings(max_examples=25, database=None)
def test_it(kobs_session, numbers):
    with kobs_session.capture() as inner:
        for n in numbers:
            kobs_session.collector.emit(MessageSent("q", n))
    assert inner.count(MessageSent.like()) == len(numbers)
    if not numbers:
        inner.never(MessageSent.like())

@given(n=st.integers())
@settings(max_examples=2, database=None)
def test_refused(kobs, n):
    pass
""",
        "-phypothesispytest",
        passed=1,
        failed=1,
    )
    result.stdout.fnmatch_lines(["*function-scoped fixture*"])
