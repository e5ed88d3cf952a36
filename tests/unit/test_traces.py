"""Two runs of the same code side by side: where they part, whatever threads took turns."""

from hypothesis import given, settings, strategies as st

from kobs._analysis.normal import Normalizer
from kobs._analysis.traces import MOST_COMPARED, Changed, Step, parts, tally, told, trace
from kobs.collector import Collector
from kobs.payloads import FileOpened, GcPaused, IpcTimeout, MessageSent, ProcessCreated
from kobs.schema import PayloadType
from tests.thorough import many

NORMAL = Normalizer()


def steps(*payloads: PayloadType) -> list[Step]:
    with Collector(size=16_384) as collector:
        for payload in payloads:
            collector.emit(payload)
        return trace(collector.snapshot(), NORMAL)


def lines(before: list[Step], now: list[Step]) -> list[str]:
    return told(parts(before, now), lambda event: "#", width=60)


A, B, C, D = (ProcessCreated(name) for name in "abcd")


class TestParts:
    def test_of_the_same_are_none(self) -> None:
        assert parts(steps(A, B), steps(A, B)) == []
        assert parts([], []) == []

    def test_say_what_is_missing_new_and_changed(self) -> None:
        before = steps(A, FileOpened("x", "w"), MessageSent("q"), B)
        now = steps(A, FileOpened("x", "a"), C, B, D)
        found = parts(before, now)
        assert tally(found) == (1, 2, 1)
        (changed,) = [one for part in found for one in part.differing if isinstance(one, Changed)]
        assert changed.fields == [("mode", "'w'", "'a'")]
        assert lines(before, now) == [
            "  # ProcessCreated(name='a')",
            "~ # FileOpened(path='x', mode='a')",
            "      mode: 'w' -> 'a'",
            "- MessageSent(queue_id='q')",
            "+ # ProcessCreated(name='c')",
            "  # ProcessCreated(name='b')",
            "+ # ProcessCreated(name='d')",
        ]

    def test_show_what_is_around_a_difference_only(self) -> None:
        same = [A, B] * 10
        shown = lines(steps(*same, C, *same, D), steps(*same, *same))
        assert [line for line in shown if "the same" in line] == [
            "  ... 18 the same ...",
            "  ... 16 the same ...",
        ]
        assert len(shown) == 10
        assert max(map(len, lines(steps(), steps(FileOpened("x" * 90, "w"))))) == 60

    def test_of_long_traces_begin_where_they_part(self) -> None:
        same = [A] * (3 * MOST_COMPARED)
        assert tally(parts(steps(*same, B), steps(*same, C))) == (0, 0, 1)


class TestTrace:
    def test_leaves_out_what_only_measures(self) -> None:
        shown = steps(GcPaused(0, 1.0, 1), A, IpcTimeout("q", 5.0))
        assert [step.form for step in shown] == [
            "ProcessCreated(name='a')",
            "IpcTimeout(queue_id='q')",
        ]

    @given(
        st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=1, max_size=4),
        st.randoms(use_true_random=False),
    )
    @settings(max_examples=many(40))
    def test_does_not_depend_on_how_threads_take_turns(self, threads, random) -> None:
        def recorded(tids, turns):
            left = [list(names) for names in threads]
            with Collector(size=64) as collector:
                for thread in turns:
                    collector.emit(ProcessCreated(left[thread].pop(0)), tid=tids[thread])
                return [step.form for step in trace(collector.snapshot(), NORMAL)]

        straight = [number for number, names in enumerate(threads) for _ in names]
        # The main thread is the one with the first event.
        others = straight[1:]
        random.shuffle(others)
        tids = random.sample(range(1, 1000), len(threads))
        one = recorded(range(1, len(threads) + 1), straight)
        assert recorded(tids, [straight[0], *others]) == one
