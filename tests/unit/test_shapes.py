"""Shapes of chains: what led to what, as texts that any run of the same code gives."""

from hypothesis import given, settings, strategies as st

from kobs._analysis.graph import CausalGraph
from kobs._analysis.normal import Normalizer
from kobs._analysis.shapes import Change, by_type, changes, medians, shapes
from kobs.collector import Collector
from kobs.payloads import (
    FileOpened,
    MessageReceived,
    MessageSent,
    PipeRead,
    ProcessCreated,
    SpanEnded,
)
from tests.thorough import many

NORMAL = Normalizer()


def of(collector: Collector) -> dict[str, int]:
    events = collector.snapshot()
    return dict(shapes(events, CausalGraph(events), NORMAL))


class TestShapes:
    def test_name_what_led_to_an_event(self):
        with Collector(size=64) as collector:
            collector.emit(MessageSent("jobs"), link=7)
            received = collector.emit(MessageReceived("jobs"), link=7)
            collector.emit(FileOpened("a", "w"), parent=received)
            collector.emit(FileOpened("a", "w"), parent=received)
            collector.emit(FileOpened("a", "w"))
            assert of(collector) == {
                "MessageSent(queue_id='jobs')": 1,
                "MessageSent > MessageReceived(queue_id='jobs')": 1,
                "MessageSent > MessageReceived > FileOpened(path='a', mode='w')": 2,
                "FileOpened(path='a', mode='w')": 1,
            }

    def test_join_stable_types_over_others(self):
        with Collector(size=64) as collector:
            made = collector.emit(ProcessCreated("sh"))
            read = collector.emit(PipeRead("p", 1), parent=made)
            collector.emit(FileOpened("a", "w"), parent=read)
            assert set(of(collector)) == {
                "ProcessCreated(name='sh')",
                "ProcessCreated > FileOpened(path='a', mode='w')",
            }

    def test_of_a_long_chain_name_its_end(self):
        with Collector(size=64) as collector:
            parent = 0
            for _ in range(20):
                parent = collector.emit(ProcessCreated("sh"), parent=parent)
            longest = max(of(collector), key=len)
            assert longest == "... > " + "ProcessCreated > " * 5 + "ProcessCreated(name='sh')"

    def test_counts_by_type(self):
        assert by_type({"A > B(x='(')": 2, "B()": 1, "A()": 5}) == {"A": 5, "B": 3}

    @given(
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20)), min_size=1, max_size=15),
        st.randoms(use_true_random=False),
    )
    @settings(max_examples=many(60))
    def test_do_not_depend_on_pids_times_and_turns(self, spec, random):
        """The same tree, its events recorded by other processes, at other times, and where
        nothing orders them in another order."""

        def recorded(pid, order):
            with Collector(size=64) as collector:
                ids = {}
                waiting = list(order)
                while waiting:
                    for number in list(waiting):
                        name, above = spec[number]
                        parent = above if above < number else None
                        if parent is None or parent in ids:
                            waiting.remove(number)
                            ids[number] = collector.emit(
                                MessageSent(f"{name}-{pid(number)}"),
                                pid=pid(number), parent=ids.get(parent, 0),
                            )  # fmt: skip
                return of(collector)

        order = list(range(len(spec)))
        straight = recorded(lambda number: number + 1, order)
        random.shuffle(order)
        pids = random.sample(range(1, 30_000), len(spec))
        assert recorded(pids.__getitem__, order) == straight


class TestMedians:
    def test_of_operations_with_enough_samples(self):
        with Collector(size=256) as collector:
            for number in range(1, 22):
                collector.emit(SpanEnded("parse", float(number)))
            for number in range(3):
                collector.emit(SpanEnded("rare", 1.0))
                collector.emit(FileOpened(f"file-{number}", "w", 2.0))
            found = medians(collector.snapshot(), NORMAL, 20)
            assert found == {"SpanEnded(name='parse')": (11.0, 21)}
            assert medians(collector.snapshot(), NORMAL, 3)["FileOpened()"] == (2.0, 3)

    def test_leave_out_types_that_are_not_stable(self):
        from kobs.payloads import GcPaused

        with Collector(size=256) as collector:
            for _ in range(30):
                collector.emit(GcPaused(0, 10.0, 1))
            assert medians(collector.snapshot(), NORMAL, 20) == {}


class TestChanges:
    def test_are_where_numbers_differ_causes_first(self):
        assert changes({"B()": 1, "A > B()": 1, "A()": 1}, {"A()": 1, "A > B()": 2}) == [
            Change("A > B()", 1, 2),
            Change("B()", 1, 0),
        ]

    def test_leave_out_what_varies(self):
        assert changes({"A()": 1}, {"A()": 2, "B(x='1')": 1}, {"A()", "B(...)"}) == []

    def test_any_fields_do_not_cover_a_fact_that_is_known(self):
        before = {"A(x='1')": 1}
        assert changes(before, {"A(x='2')": 1}, {"A(...)"}) == [Change("A(x='1')", 1, 0)]
