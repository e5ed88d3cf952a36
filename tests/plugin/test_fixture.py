"""The fixture `kobs`: what it gives, and what it leaves behind."""

pytest_plugins = ["pytester"]

HEAD = """
import pytest
import kobs as k
from kobs import MessageSent, MessageReceived, ProcessCreated, ShmWritten, FileOpened
"""


def test_events_are_those_of_the_test_in_order(inner):
    inner(
        HEAD
        + """
def test_it(kobs):
    kobs.collector.emit(MessageSent(1, 10))
    kobs.collector.emit(ProcessCreated("sh", 1), pid=42)
    assert len(kobs.events) == 2
    assert [event.payload for event in kobs.events] == [MessageSent(1, 10), ProcessCreated("sh", 1)]
    assert kobs.events[1].pid == 42
    assert kobs.events[-1] == kobs.events[1]
    assert [e.type for e in kobs.events[:1]] == [MessageSent]
    assert kobs.events[0] in kobs.events
    assert kobs.lost == 0

def test_the_next_begins_with_none(kobs):
    assert not kobs.events
    assert kobs.events == []
""",
        passed=2,
    )


def test_events_can_be_narrowed_down(inner):
    inner(
        HEAD
        + """
def test_it(kobs):
    emit = kobs.collector.emit
    emit(MessageSent(1, 10))
    emit(ProcessCreated("sh", 1))
    mark = kobs.mark()
    emit(MessageSent(2, 10))
    assert len(kobs.events.of(MessageSent)) == 2
    assert len(kobs.events.of(MessageSent, ProcessCreated)) == 3
    assert len(kobs.events.where(lambda e: e.severity >= k.Severity.INFO)) == 1
    assert len(kobs.events.where(MessageSent.like() & ~MessageSent.like(queue_id=2))) == 1
    for other in (MessageSent, "MessageSent", MessageSent.like() >> ProcessCreated.like()):
        with pytest.raises(k.KobsError, match="expected a function of an event"):
            kobs.events.where(other)
    assert [e.payload.queue_id for e in kobs.events.since(mark)] == [2]
    assert MessageSent.like(queue_id=1) not in kobs.events.since(mark)
    assert MessageSent.like(queue_id=2) in kobs.events.of(MessageSent).since(mark)
""",
        passed=1,
    )


def test_assertions_that_hold(inner):
    inner(
        HEAD
        + """
def test_it(kobs):
    made = kobs.collector.emit(ProcessCreated("sh", 1))
    kobs.collector.emit(MessageSent(1, 10), parent=made, link=5)
    kobs.collector.emit(MessageReceived(1, 10, 2.0), link=5)
    kobs.collector.emit(MessageReceived(2, 10, 2.0))
    sent, got = MessageSent.like(queue_id=1), MessageReceived.like(queue_id=1)
    assert sent in kobs.events
    assert ProcessCreated.like() >> sent >> got in kobs.events
    assert got >> sent not in kobs.events
    assert sent.then(MessageReceived.like(queue_id=2)) in kobs.events
    assert MessageReceived.like() * 2 in kobs.events
    assert MessageReceived.like() * 3 not in kobs.events
    assert FileOpened.like() * 0 in kobs.events
    kobs.expect(sent, got)
    kobs.expect(ProcessCreated.like() >> got)
    kobs.never(FileOpened.like(), got >> sent)
    assert kobs.count(MessageReceived.like()) == 2
    assert kobs.count(ProcessCreated.like() >> got) == 1
    assert kobs.wait_for(sent >> got)[1].payload.wait_time_us == 2.0
""",
        passed=1,
    )


def test_anomalies_are_found_in_what_the_test_did(inner):
    inner(
        HEAD
        + """
def test_it(kobs):
    for _ in range(60):
        kobs.collector.syscall_exit(1, "read", 10.0 + _ % 3, True)
    assert len(kobs.anomalies) == 0
    kobs.collector.syscall_exit(1, "read", 9000.0, True)
    (anomaly,) = kobs.anomalies
    assert anomaly.payload.value == 9000.0
    assert k.SyscallExit.like(duration_us=9000.0) >> k.AnomalyDetected.like() in kobs.events
""",
        passed=1,
    )


def test_what_is_no_pattern_is_refused(inner):
    inner(
        HEAD
        + """
from kobs.errors import PatternError

@pytest.mark.parametrize("use", [
    lambda kobs: MessageSent in kobs.events,
    lambda kobs: (MessageSent | FileOpened) in kobs.events,
    lambda kobs: "MessageSent" in kobs.events,
    lambda kobs: kobs.expect(MessageSent),
    lambda kobs: kobs.never(MessageSent | FileOpened),
    lambda kobs: kobs.count(MessageSent(1, 2)),
    lambda kobs: kobs.count(MessageSent.like() * 2),
    lambda kobs: kobs.wait_for(None),
    lambda kobs: kobs.expect(),
    lambda kobs: kobs.never(),
    lambda kobs: kobs.events.of("MessageSent"),
    lambda kobs: bool(MessageSent.like()),
])
def test_it(kobs, use):
    with pytest.raises(PatternError):
        use(kobs)
""",
        passed=12,
    )


def test_waits_for_an_event_of_another_thread(inner):
    inner(
        HEAD
        + """
import threading

def test_it(kobs):
    go = threading.Event()
    def work():
        go.wait()
        kobs.collector.emit(MessageSent(7, 1))
    thread = threading.Thread(target=work)
    thread.start()
    assert MessageSent.like() not in kobs.events
    go.set()
    (event,) = kobs.wait_for(MessageSent.like(queue_id=7), timeout=30)
    assert event.payload.size == 1
    thread.join()
""",
        passed=1,
    )


def test_observed_code_records_into_it_without_being_told(inner):
    inner(
        HEAD
        + """
@k.observe("process")
class Shell:
    @k.emits(ProcessCreated, name=k.arg("name"), pid=k.returned())
    def start(self, name):
        return 99

def test_it(kobs):
    Shell().start("sh")
    assert ProcessCreated.like(name="sh").on(pid=99) in kobs.events
""",
        passed=1,
    )


def test_the_process_wide_collector_is_the_tests_and_is_put_back(inner):
    import kobs

    before = kobs.Collector(size=16)
    kobs.init_collector(before)
    try:
        inner(
            HEAD
            + """
def test_with(kobs):
    assert k.global_collector() is kobs.collector
    k.global_collector().emit(MessageSent(1, 1))
    assert len(kobs.events) == 1

def test_without():
    assert k.global_collector().ring.slots == 16
""",
            passed=2,
        )
        assert kobs.global_collector() is before
    finally:
        from kobs.collector import clear_collector

        clear_collector()


def test_a_collector_that_a_test_made_process_wide_does_not_stay(inner):
    inner(
        HEAD
        + """
def test_one(kobs):
    k.init_collector(k.Collector(size=16))

def test_two(kobs):
    assert k.global_collector() is kobs.collector
    k.global_collector().emit(MessageSent(1, 1))
    assert MessageSent.like() in kobs.events
""",
        passed=2,
    )


def test_the_standard_library_is_watched_only_where_the_fixture_is(inner):
    inner(
        HEAD
        + """
def test_with(kobs, tmp_path):
    (tmp_path / "x").write_text("hello")
    assert FileOpened.like(path=str(tmp_path / "x")) in kobs.events

def test_without():
    from kobs_instrumentation import registry
    assert not registry.enabled()
""",
        passed=2,
    )


def test_it_can_be_asked_for_in_the_middle_of_a_test(inner):
    inner(
        HEAD
        + """
def test_it(request):
    kobs = request.getfixturevalue("kobs")
    k.global_collector().emit(MessageSent(1, 1))
    assert MessageSent.like() in kobs.events
    assert FileOpened.like() not in kobs.events

def test_without():
    assert k.global_collector() is None
""",
        passed=2,
    )


def test_unittest_classes_reach_it_through_an_autouse_fixture(inner):
    inner(
        HEAD
        + """
import unittest

class TestIt(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _kobs(self, kobs):
        self.kobs = kobs

    def setUp(self):
        self.kobs.collector.emit(ProcessCreated("setup", 1))

    def test_one(self):
        self.kobs.collector.emit(MessageSent(1, 1))
        assert MessageSent.like() in self.kobs.events
        assert ProcessCreated.like(name="setup") in self.kobs.events

class TestAsync(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def _kobs(self, kobs):
        self.kobs = kobs

    async def test_two(self):
        self.kobs.collector.emit(MessageSent(2, 1))
        assert MessageSent.like(queue_id=2) in self.kobs.events
        assert MessageSent.like(queue_id=1) not in self.kobs.events
""",
        passed=2,
    )


def test_doctests_run_with_it(inner):
    inner(
        '''
def double(x):
    """
    >>> kobs = getfixture("kobs")
    >>> from kobs import MessageSent
    >>> _ = kobs.collector.emit(MessageSent(1, 1))
    >>> MessageSent.like() in kobs.events
    True
    """
''',
        "--doctest-modules",
        passed=1,
    )


def test_parametrised_tests_each_have_their_own(inner):
    inner(
        HEAD
        + """
@pytest.mark.parametrize("path", ["a/b", "x|y", "\\u00e4 b", "1" * 300])
def test_it(kobs, path):
    kobs.collector.emit(MessageSent(1, 1))
    assert kobs.count(MessageSent.like()) == 1
""",
        passed=4,
    )


def test_each_attempt_at_a_test_has_its_own(inner):
    inner.pytester.makeconftest(
        """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    for _ in range(3):
        for report in runtestprotocol(item, nextitem=nextitem, log=False):
            item.ihook.pytest_runtest_logreport(report=report)
    return True
"""
    )
    inner(
        HEAD
        + """
def test_it(kobs):
    assert not kobs.events
    kobs.collector.emit(MessageSent(1, 1))
    assert kobs.count(MessageSent.like()) == 1
""",
        passed=3,
    )


def test_tests_of_a_plugin_that_run_pytest_themselves(inner):
    inner.pytester.makeconftest('pytest_plugins = ["pytester"]')
    inner(
        HEAD
        + '''
def test_outer(kobs, pytester):
    kobs.collector.emit(MessageSent(1, 1))
    pytester.makeini("[pytest]\\nasyncio_default_fixture_loop_scope=function")
    pytester.makepyfile("""
        from kobs import MessageSent
        def test_inner(kobs):
            kobs.collector.emit(MessageSent(2, 1))
            assert MessageSent.like(queue_id=1) not in kobs.events
            assert kobs.count(MessageSent.like(queue_id=2)) == 1
    """)
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    assert k.global_collector() is kobs.collector
    assert MessageSent.like(queue_id=2) not in kobs.events
    assert MessageSent.like(queue_id=1) in kobs.events
''',
        passed=1,
    )
