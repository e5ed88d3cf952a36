"""Patterns of several events: by cause, in time, counted; and the nearest miss."""

import pytest

from kobs import (
    Collector,
    FileOpened,
    MessageReceived,
    MessageSent,
    ProcessCreated,
    ProcessTerminated,
    ShmWritten,
)
from kobs.errors import PatternError
from kobs.pattern import count, explain, explain_present, find, matches

MADE = ProcessCreated.like(name="sh")
SENT = MessageSent.like(queue_id=3)
GOT = MessageReceived.like(queue_id=3)
WROTE = ShmWritten.like()


@pytest.fixture
def collector():
    with Collector(size=256) as made:
        yield made


@pytest.fixture
def story(collector):
    """A process sends over a queue; who receives writes shared memory. And an unrelated one."""
    made = collector.emit(ProcessCreated("sh", 5), pid=10)
    collector.emit(MessageSent(3, 10), pid=10, parent=made, link=77)
    got = collector.emit(MessageReceived(3, 10, 1.5), pid=11, link=77)
    collector.emit(ShmWritten("seg", 64), pid=11, parent=got)
    collector.emit(ProcessCreated("other", 1), pid=12)
    collector.emit(ShmWritten("lonely", 8), pid=12)
    return collector.snapshot()


class TestCause:
    def test_follows_a_parent(self, story):
        assert find(MADE >> SENT, story) is not None

    def test_follows_a_link_from_send_to_receive(self, story):
        assert [e.type_name for e in find(SENT >> GOT, story)] == ["MessageSent", "MessageReceived"]

    def test_does_not_go_back_from_receive_to_send(self, story):
        assert find(GOT >> SENT, story) is None

    def test_takes_any_number_of_steps(self, story):
        path = find(MADE >> WROTE, story)
        assert [e.payload for e in path] == [ProcessCreated("sh", 5), ShmWritten("seg", 64)]

    def test_of_three(self, story):
        assert len(find(MADE >> GOT >> WROTE, story)) == 3
        assert find(MADE >> WROTE >> GOT, story) is None

    def test_is_not_what_merely_came_before(self, story):
        assert find(ProcessCreated.like(name="other") >> WROTE, story) is None
        assert find(MADE >> ShmWritten.like(name="lonely"), story) is None

    def test_siblings_do_not_cause_each_other(self, collector):
        root = collector.emit(ProcessCreated("sh", 5))
        collector.emit(MessageSent(3, 1), parent=root)
        collector.emit(MessageSent(4, 1), parent=root)
        events = collector.snapshot()
        assert find(SENT >> MessageSent.like(queue_id=4), events) is None

    def test_an_event_does_not_cause_itself(self, story):
        assert find(MADE >> MADE, story) is None

    def test_goes_through_events_that_are_not_asked_about(self, story):
        from kobs.causality import CausalGraph

        ends = [e for e in story if e.type_name in ("ProcessCreated", "ShmWritten")]
        assert find(MADE >> WROTE, ends) is None
        assert find(MADE >> WROTE, ends, lambda: CausalGraph(story)) is not None

    def test_finds_the_one_path_among_many_starts(self, collector):
        for _ in range(5):
            last = collector.emit(ProcessCreated("sh", 5))
        collector.emit(MessageSent(3, 1), parent=last)
        found = find(MADE >> SENT, collector.snapshot())
        assert [event.id for event in found[:1]] == [last]

    def test_ends_where_causes_go_round_in_a_circle(self, collector):
        one = collector.emit(MessageSent(3, 1), link=9)
        collector.emit(MessageReceived(3, 1, 0.0), link=9, parent=one)
        collector.emit(MessageSent(3, 1), link=9, parent=one)
        assert find(SENT >> WROTE, collector.snapshot()) is None


class TestTime:
    def test_then_needs_no_cause(self, story):
        assert find(MADE.then(ShmWritten.like(name="lonely")), story) is not None

    def test_then_needs_the_order(self, story):
        assert find(ShmWritten.like(name="lonely").then(MADE), story) is None

    def test_one_event_is_not_after_itself(self, story):
        assert find(MADE.then(MADE), story) is None

    def test_both_kinds_of_step_in_one_chain(self, story):
        chain = (MADE >> SENT).then(ProcessCreated.like(name="other"))
        assert len(find(chain, story)) == 3


class TestCount:
    def test_is_exact(self, story):
        assert find(WROTE * 2, story) is not None
        assert find(WROTE * 1, story) is None
        assert find(WROTE * 3, story) is None

    def test_none_of_them(self, story):
        assert find(FileOpened.like() * 0, story) == ()
        assert find(WROTE * 0, story) is None

    def test_of_a_chain_counts_the_events_that_complete_it(self, story):
        assert count(ProcessCreated.like() >> WROTE, story) == 1
        assert find((MADE >> WROTE) * 1, story) is not None

    @pytest.mark.parametrize("times", [-1, 1.5, "2", True, None])
    def test_needs_a_whole_number(self, times):
        with pytest.raises(PatternError, match="a whole number from 0"):
            WROTE * times

    def test_cannot_be_counted_or_chained(self):
        with pytest.raises(PatternError, match="cannot be counted again"):
            WROTE * 2 * 2
        with pytest.raises(PatternError, match="is a count and no step of a chain"):
            WROTE * 2 >> WROTE


class TestRefusals:
    @pytest.mark.parametrize(
        "combine",
        [
            lambda: MADE >> SENT & GOT,
            lambda: MADE & SENT >> GOT,
            lambda: MADE >> SENT | GOT,
            lambda: ~(MADE >> SENT),
            lambda: (MADE * 2) & SENT,
            lambda: ~(MADE * 2),
        ],
    )
    def test_predicates_do_not_combine_chains_and_the_message_says_why(self, combine):
        with pytest.raises(PatternError) as caught:
            combine()
        assert "Python reads `A >> B & C` as `(A >> B) & C`" in str(caught.value)
        assert "kobs.never(P)" in str(caught.value)

    def test_in_brackets_it_means_one_event(self, story):
        assert find(MADE >> (SENT & MessageSent.like(size=10)), story) is not None


class TestLooks:
    @pytest.mark.parametrize(
        ("pattern", "text"),
        [
            (MADE >> SENT, "ProcessCreated.like(name='sh') >> MessageSent.like(queue_id=3)"),
            (SENT.then(GOT), "MessageSent.like(queue_id=3).then(MessageReceived.like(queue_id=3))"),
            (
                (WROTE >> WROTE).then(WROTE),
                "(ShmWritten.like() >> ShmWritten.like()).then(ShmWritten.like())",
            ),
            (
                WROTE.then(WROTE).then(WROTE) >> WROTE,
                "ShmWritten.like().then(ShmWritten.like()).then(ShmWritten.like())"
                " >> ShmWritten.like()",
            ),
            (
                WROTE >> (WROTE & WROTE),
                "ShmWritten.like() >> (ShmWritten.like() & ShmWritten.like())",
            ),
            ((~WROTE).then(WROTE), "(~ShmWritten.like()).then(ShmWritten.like())"),
            (
                (WROTE | WROTE).then(WROTE),
                "(ShmWritten.like() | ShmWritten.like()).then(ShmWritten.like())",
            ),
            (WROTE * 2, "ShmWritten.like() * 2"),
            ((WROTE >> WROTE) * 2, "(ShmWritten.like() >> ShmWritten.like()) * 2"),
        ],
    )
    def test_reads_as_it_was_written(self, pattern, text):
        assert repr(pattern) == text


class TestNearestMiss:
    def shown(self, pattern, events):
        explanation = explain(pattern, events, start_ns=events[0].timestamp_ns if events else 0)
        assert len(explanation.lines) <= 7
        assert all(len(line) <= 70 for line in explanation.lines)
        assert all(len(line) <= 76 for line in explanation.details)
        import re

        return [re.sub(r"[+-]\d+\.\d+ms", "+T", line) for line in explanation.lines]

    def test_of_one_event_is_told_field_by_field(self, story):
        assert self.shown(ShmWritten.like(name="seg", size=65).on(pid=11), story) == [
            "no match among 6 events, ShmWritten x 2; nearest:",
            "  #4 +T pid=11 ShmWritten(name='seg', size=64)",
            "    ok  name = 'seg'",
            "    NO  size = 64, expected 65",
            "    ok  pid = 11",
        ]

    def test_of_a_type_that_never_happened_says_what_did(self, story):
        assert self.shown(FileOpened.like(path="x"), story) == [
            "no FileOpened among 6 events, there are",
            "  ProcessCreated x 2, ShmWritten x 2, MessageSent, MessageReceived",
        ]

    def test_without_any_event(self):
        assert self.shown(WROTE, []) == ["no event was captured"]

    def test_of_a_chain_says_which_step_broke_and_what_it_led_to(self, story):
        assert self.shown(MADE >> SENT >> ShmWritten.like(name="lonely"), story) == [
            "step 3 of 3 not found: ShmWritten.like(name='lonely')",
            "step 2: #2 +T pid=10 MessageSent(queue_id=3, size=10)",
            "  led to MessageReceived, ShmWritten",
            "  nearest: #4 +T pid=11 ShmWritten(name='seg', size=64)",
            "      NO  name = 'seg', expected 'lonely'",
            "  unrelated: #6 +T pid=12 ShmWritten(name='lonely', size=8)",
            "    it has no cause: nothing joins it to another event",
        ]

    def test_of_a_chain_whose_first_step_is_missing(self, story):
        assert self.shown(ProcessCreated.like(name="zsh") >> SENT, story)[:3] == [
            "step 1 of 2 not found: ProcessCreated.like(name='zsh')",
            "no match among 6 events, ProcessCreated x 2; nearest:",
            "  #1 +T pid=10 ProcessCreated(name='sh', priority=5)",
        ]

    def test_of_an_end_without_effects(self, story):
        assert self.shown(ShmWritten.like(name="lonely") >> ProcessTerminated.like(), story) == [
            "step 2 of 2 not found: ProcessTerminated.like()",
            "step 1: #6 +T pid=12 ShmWritten(name='lonely', size=8)",
            "  led to nothing",
            "  no ProcessTerminated anywhere in this test",
        ]

    def test_of_an_order_names_what_came_too_early(self, story):
        assert self.shown(ShmWritten.like(name="lonely").then(SENT), story) == [
            "step 2 of 2 not found: MessageSent.like(queue_id=3)",
            "step 1: #6 +T pid=12 ShmWritten(name='lonely', size=8)",
            "  then came nothing",
            "  too early: #2 +T pid=10 MessageSent(queue_id=3, size=10)",
        ]

    def test_of_a_count_lists_what_was_found(self, story):
        assert self.shown(WROTE * 1, story) == [
            "found 2, expected exactly 1, among 6 events",
            "  #4 +T pid=11 ShmWritten(name='seg', size=64)",
            "  #6 +T pid=12 ShmWritten(name='lonely', size=8)",
        ]

    def test_of_too_few_shows_the_nearest_of_the_others(self, story):
        assert self.shown(ShmWritten.like(size=64) * 2, story) == [
            "found 1, expected exactly 2, among 6 events",
            "nearest of the others:",
            "  #6 +T pid=12 ShmWritten(name='lonely', size=8)",
            "    NO  size = 8, expected 64",
        ]

    def test_what_should_not_be_there_is_listed(self, story):
        lines = explain_present(WROTE, story).lines
        assert lines[0] == "found 2 among 6 events:"
        assert len(lines) == 3

    def test_holds_the_tree_of_what_was_led_to_among_its_details(self, story):
        details = "\n".join(explain(MADE >> FileOpened.like(), story).details)
        assert "MessageReceived(queue_id=3" in details
        assert details.index("MessageSent(") < details.index("ShmWritten(name='seg'")

    def test_fits_eight_lines_however_many_conditions(self, story):
        from kobs import SyscallExit, SyscallResult

        wanted = SyscallExit.like(
            name="x", duration_us=1.0, result=SyscallResult.ERROR, errno=4
        ).on(pid=1, tid=2, span_id=3, link=4, parent=5)
        with Collector(size=16) as collector:
            collector.emitter(SyscallExit)("y", 2.0, SyscallResult.SUCCESS)
            lines = explain(wanted, collector.snapshot()).lines
        assert len(lines) == 7
        assert lines[-1].endswith("more")


def test_an_event_fits_its_line_by_losing_defaults_and_the_middle_of_strings(collector):
    from kobs.pattern.explain import Narrator

    collector.emit(ShmWritten("segment-with-a-very-long-name-4711", 8), pid=7)
    (event,) = collector.snapshot()
    assert Narrator([event]).line(event) == (
        "#1 +0.000ms ShmWritten(name='segment-w...ng-name-4711', size=8)"
    )


def test_matches_gives_the_events_that_complete_a_chain(story):
    assert [event.payload for event in matches(MADE >> WROTE, story)] == [ShmWritten("seg", 64)]
