"""Patterns whose steps depend on one another: variables, limits of time; and ranges of counts."""

from datetime import timedelta

import pytest
from dirty_equals import Contains, IsPositiveInt, IsStr

from kobs import (
    Collector,
    ContextSwitch,
    FileOpened,
    MessageReceived,
    MessageSent,
    PipeRead,
    PipeWritten,
    ProcessCreated,
    ProcessTerminated,
    Severity,
)
from kobs.causality import CausalGraph
from kobs.errors import PatternError
from kobs.pattern import between, count, explain, find, matches, var

MS = 1_000_000
WROTE = PipeWritten.like(pipe_id=var("pipe"))
READ = PipeRead.like(pipe_id=var("pipe"))


@pytest.fixture
def collector():
    with Collector(size=1024) as made:
        yield made


@pytest.fixture
def story(collector):
    """Two processes come and go, a pipe each; the times are whole milliseconds."""
    at = 1_000 * MS

    def emit(payload, after_ms, **header):
        return collector.emit(payload, timestamp_ns=at + after_ms * MS, **header)

    for pid, start in ((10, 0), (11, 100)):
        made = emit(ProcessCreated("sh", 1), start, pid=pid)
        wrote = emit(PipeWritten(f"p{pid}", 8), start + 1, pid=pid, parent=made)
        emit(PipeRead(f"p{pid}", 8), start + 5, pid=1, parent=wrote)
    emit(ProcessTerminated(0), 200, pid=11)
    emit(ProcessTerminated(1), 201, pid=12)
    return collector.snapshot()


class TestVariable:
    def test_is_the_same_in_every_step(self, story):
        path = find(WROTE >> READ, story)
        assert [event.name for event in path] == ["p10", "p10"]
        assert count(WROTE >> READ, story) == 2
        assert count(WROTE.then(READ), story) == 2

    def test_is_not_what_the_first_match_happened_to_have(self, story):
        made = ProcessCreated.like().on(pid=var("p"))
        gone = ProcessTerminated.like().on(pid=var("p"))
        assert [event.pid for event in find(made.then(gone), story)] == [11, 11]
        assert [event.pid for event in matches(made.then(gone), story)] == [11]

    def test_joins_a_field_with_a_header(self, collector):
        collector.emit(ContextSwitch(3, 4, "yield"))
        collector.emit(ProcessTerminated(0), pid=4)
        events = collector.snapshot()
        gone = ProcessTerminated.like().on(pid=var("p"))
        assert find(ContextSwitch.like(to_pid=var("p")).then(gone), events)
        assert find(ContextSwitch.like(from_pid=var("p")).then(gone), events) is None

    def test_may_stand_twice_in_one_event(self, collector):
        collector.emit(ContextSwitch(3, 4, "yield"))
        same = ContextSwitch.like(from_pid=var("p"), to_pid=var("p"))
        assert find(same, collector.snapshot()) is None
        collector.emit(ContextSwitch(4, 4, "yield"))
        assert find(same, collector.snapshot())[0].payload.to_pid == 4
        assert count(same * 1, collector.snapshot()) == 1

    def test_goes_through_both_sides_of_and_or_or(self, story):
        either = PipeRead.like(pipe_id=var("pipe")) | PipeWritten.like(pipe_id=var("pipe"))
        both = either & PipeRead.like(size=8)
        assert [e.name for e in matches(WROTE >> both, story)] == ["p10", "p11"]

    def test_several_are_bound_together(self, story):
        wrote = PipeWritten.like(pipe_id=var("pipe"), size=var("size"))
        read = PipeRead.like(pipe_id=var("pipe"), size=var("size"))
        assert count(wrote >> read, story) == 2

    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (lambda: var(""), "expected a name"),
            (lambda: var(3), "expected a name"),
            (lambda: ~WROTE, "gives var('pipe') no value"),
            (lambda: WROTE | READ.type.like(), "on one side of `|` only"),
            (lambda: find(WROTE >> PipeRead.like(), []), "stands in one place only"),
            (lambda: find(WROTE * 2, []), "stands in one place only"),
            (lambda: find(WROTE >> PipeRead.like(pipe_id=var("pip")), []), "var('pip')"),
        ],
    )
    def test_is_refused_where_it_says_nothing(self, make, says):
        with pytest.raises(PatternError, match=r".") as error:
            make()
        assert says in str(error.value)

    def test_a_long_search_is_no_endless_one(self, collector):
        """Every event leads to the next: paths without number, each state looked at once."""
        last = 0
        for _ in range(300):
            last = collector.emit(MessageSent("q", 1), parent=last)
        events = collector.snapshot()
        sent = MessageSent.like(queue_id=var("q"))
        wanted = sent >> sent >> sent >> MessageReceived.like(queue_id=var("q"))
        assert find(wanted, events) is None


def test_the_graph_of_the_events_is_made_once(story, monkeypatch):
    made = []

    class Counted(CausalGraph):
        def __init__(self, events):
            made.append(1)
            super().__init__(events)

    monkeypatch.setattr("kobs.pattern.causes.CausalGraph", Counted)
    assert count(WROTE >> READ, story) == 2
    assert len(made) == 1
    assert explain(READ >> WROTE, story).lines
    assert len(made) == 2


def test_many_events_are_looked_at_by_the_value_that_is_bound(collector):
    looked = []
    for number in range(200):
        collector.emit(MessageSent("q", number))
        collector.emit(MessageReceived("q", number, 0.0))

    def noted(wait):
        looked.append(1)
        return wait == 0

    sent = MessageSent.like(size=var("n"))
    received = MessageReceived.like(size=var("n"), wait_time_us=noted)
    assert count(sent.then(received), collector.snapshot()) == 200
    assert len(looked) <= 3 * 200  # not each of 200 for each of 200


class TestWithin:
    def test_is_counted_from_the_first_to_the_last_event(self, story):
        chain = ProcessCreated.like() >> PipeRead.like()
        assert count(chain.within("5ms"), story) == 2
        assert count(chain.within(timedelta(milliseconds=4)), story) == 0
        assert count(chain.within("4999.9 us"), story) == 0

    def test_another_start_may_be_near_enough(self, story):
        gone = ProcessTerminated.like(exit_code=0)
        path = find(ProcessCreated.like().then(gone).within("150ms"), story)
        assert [event.pid for event in path] == [11, 11]

    def test_of_a_part_of_a_chain(self, story):
        made, wrote, read = ProcessCreated.like(), PipeWritten.like(), PipeRead.like()
        assert find((made >> wrote).within("1ms") >> read, story)
        assert find(made >> (wrote >> read).within("3ms"), story) is None
        assert find((made >> (wrote >> read).within("4ms")).within("5ms"), story)
        assert find((made >> (wrote >> read).within("4ms")).within("4ms"), story) is None

    def test_is_written_as_it_was_given(self):
        a, b, c = FileOpened.like(), PipeRead.like(), PipeWritten.like()
        assert (
            repr((a >> b).within("5ms")) == "(FileOpened.like() >> PipeRead.like()).within('5ms')"
        )
        assert repr(a.then(b).within("0.5 s") >> c) == (
            "FileOpened.like().then(PipeRead.like()).within('500ms') >> PipeWritten.like()"
        )
        assert repr(a >> (b >> c).within("90s")) == (
            "FileOpened.like() >> (PipeRead.like() >> PipeWritten.like()).within('1.5min')"
        )
        assert repr(a.then(b >> c)) == (
            "FileOpened.like().then(PipeRead.like()) >> PipeWritten.like()"
        )

    @pytest.mark.parametrize(
        ("duration", "says"),
        [
            (5, "of which unit? Write '5ms', '5s', or a timedelta"),
            ("5", "expected a number and a unit, one of ns, us, µs, ms, s, min"),
            ("5 parsecs", "expected a number and a unit"),
            ("-5ms", "expected a number and a unit"),
            ("0ms", "nothing happens within no time"),
            (timedelta(0), "nothing happens within no time"),
            (None, "expected a length of time, such as '5ms' or a timedelta"),
            (True, "expected a length of time"),
        ],
    )
    def test_refuses_what_is_no_length_of_time(self, duration, says):
        with pytest.raises(PatternError) as error:
            (FileOpened.like() >> PipeRead.like()).within(duration)
        assert says in str(error.value)

    @pytest.mark.parametrize("pattern", [FileOpened.like(), FileOpened.like() * 2])
    def test_refuses_what_is_no_chain(self, pattern):
        with pytest.raises(PatternError, match="from its first to its last event"):
            pattern.within("5ms")


class TestTimes:
    def test_from_so_many_to_so_many(self, story):
        made = ProcessCreated.like()
        assert find(made.times(1, 2), story)
        assert find(made.times(3, 5), story) is None
        assert find(made.times(0, 1), story) is None
        assert find(made.times(2, None), story)
        assert find(made.times(3, None), story) is None
        assert find(made.times(2), story)
        assert find((ProcessCreated.like() >> PipeRead.like()).times(1, 2), story)

    def test_is_written_as_it_was_given(self):
        made = ProcessCreated.like()
        assert repr(made.times(2, 5)) == "ProcessCreated.like().times(2, 5)"
        assert repr(made.times(2)) == repr(made * 2) == "ProcessCreated.like() * 2"
        assert repr((made >> made).times(1, None)) == (
            "(ProcessCreated.like() >> ProcessCreated.like()).times(1, None)"
        )

    @pytest.mark.parametrize(
        ("numbers", "says"),
        [
            ((5, 2), "the first must be the smaller"),
            ((-1, 2), "a whole number from 0"),
            ((1, 2.5), "a whole number from 0"),
            ((True,), "a whole number from 0"),
            ((0, None), "would say nothing"),
        ],
    )
    def test_refuses_what_is_no_range(self, numbers, says):
        with pytest.raises(PatternError, match=r".") as error:
            ProcessCreated.like().times(*numbers)
        assert says in str(error.value)


def test_values_of_another_library_that_define_equality_work_as_they_are(story):
    assert find(PipeWritten.like(pipe_id=IsStr(regex="p1.")), story)
    assert find(PipeWritten.like(pipe_id=Contains("x")), story) is None
    assert find(PipeWritten.like(size=IsPositiveInt), story)  # not even called
    assert find(PipeWritten.like().on(pid=IsPositiveInt(), severity=Severity.DEBUG), story)
    assert find(PipeWritten.like(size=between(1, 8)) >> PipeRead.like(size=IsPositiveInt()), story)
    (line,) = (x for x in explain(PipeWritten.like(size=IsStr()), story).lines if "NO" in x)
    assert line.strip() == "NO  size = 8, expected IsStr()"


def test_what_was_missed_names_the_variable_and_its_value(story):
    made = ProcessCreated.like().on(pid=10) & ProcessCreated.like().on(pid=var("p"))
    gone = ProcessTerminated.like(exit_code=1).on(pid=var("p"))
    assert list(explain(made.then(gone), story).lines) == [
        "step 2 of 2 not found: ProcessTerminated.like(exit_code=1).on(pid=v...",
        "step 1: #1 +0.000ms pid=10 ProcessCreated(name='sh', priority=1)",
        "  then came PipeWritten x 2, PipeRead x 2, ProcessTerminated x 2, P...",
        "  nearest: #8 +201.000ms pid=12 ProcessTerminated(exit_code=1)",
        "      NO  pid = 12, expected 10 (var('p'))",
    ]


def test_what_was_missed_says_how_late_it_was(story):
    late = (ProcessCreated.like(name="sh") >> PipeRead.like(pipe_id="p11")).within("4ms")
    assert list(explain(late, story).lines) == [
        "step 2 of 2 not found: PipeRead.like(pipe_id='p11')",
        "step 1 (and 1 more): #4 +100.000ms pid=11 ProcessCreated(name='sh',...",
        "  led to PipeWritten, PipeRead",
        "  nearest: #6 +105.000ms pid=1 PipeRead(pipe_id='p11', size=8)",
        "      NO  time since step 1 = 5ms, expected at most 4ms",
    ]


def test_a_number_out_of_range_says_which_was_expected(story):
    assert explain(ProcessCreated.like().times(3, 5), story).lines[0] == (
        "found 2, expected 3 to 5, among 8 events"
    )
    assert explain(ProcessCreated.like().times(3, None), story).lines[0] == (
        "found 2, expected 3 or more, among 8 events"
    )
