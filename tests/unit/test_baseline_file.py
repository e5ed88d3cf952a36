"""Baseline files: what is written comes back, what is not understood is refused by its line, and
two runs that agree make an entry."""

import os
import threading

import pytest
from hypothesis import given, settings, strategies as st

from kobs._analysis.baseline_entry import Entry, Seen, compared, first_entry
from kobs._analysis.baseline_file import Baseline, Made, dumps, is_baseline, loads, read, update
from kobs.errors import BaselineError
from tests.thorough import many

MADE = Made("c", "default")

names = st.text(st.characters(codec="ascii", categories=["Lu", "Ll"]), min_size=1, max_size=5)
shape = st.builds(
    lambda path, value: f"{' > '.join(path)}({value})",
    st.lists(names, min_size=1, max_size=3),
    st.text(max_size=8).map(repr),
)
facts = st.lists(shape, unique=True, max_size=6)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    about, timed = draw(facts), draw(facts)
    firm, slow = draw(st.integers(0, len(about))), draw(st.integers(0, len(timed)))
    return Entry(
        draw(st.sampled_from(["candidate", "confirmed"])),
        {one: draw(st.integers(0, 10**6)) for one in about[:firm]},
        frozenset(about[firm:]),
        {one: float(f"{draw(st.floats(0.001, 1e6)):.3g}") for one in timed[:slow]},
        frozenset(timed[slow:]),
        tuple(draw(st.lists(names.map("# {}".format), max_size=2))),
    )


tests = st.text(st.characters(), min_size=1, max_size=30)
baselines = st.builds(
    Baseline,
    st.builds(Made, names, names),
    st.dictionaries(tests, entries(), max_size=4),
    st.lists(names.map("# {}".format), max_size=2).map(tuple),
)


@given(baselines)
@settings(max_examples=many(60))
def test_what_is_written_comes_back(baseline):
    text = dumps(baseline)
    assert loads(text) == baseline
    assert dumps(loads(text)) == text


GOOD = """\
kobs-baseline 1
recorded core=c watches=default
# by hand

test confirmed test_shop.py::test_sold
  # the receipt
  2 MessageSent(queue_id='jobs')
  ~ MessageSent > MessageReceived(...)
  12.4u SpanEnded(name='parse')
  ~u SpanEnded(name='wait')
"""


class TestReading:
    def test_what_a_person_wrote(self):
        found = loads(GOOD.replace("\n", "\r\n").replace("  2 Mes", "\t2   Mes"))
        assert found.made == MADE
        assert found.comments == ("# by hand",)
        assert found.entries == {
            "test_shop.py::test_sold": Entry(
                "confirmed",
                {"MessageSent(queue_id='jobs')": 2},
                frozenset({"MessageSent > MessageReceived(...)"}),
                {"SpanEnded(name='parse')": 12.4},
                frozenset({"SpanEnded(name='wait')"}),
                ("# the receipt",),
            )
        }
        assert dumps(found) == GOOD

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("kobs-baseline 1", "", "line 1: no baseline: expected `kobs-baseline 1`, found ''"),
            ("kobs-baseline 1", "kobs-baseline 2", "line 1: format '2'; this kobs reads format 1"),
            ("recorded", "made", "line 2: expected `recorded core=... watches=...`, found 'made"),
            ("test confirmed", "test sure", "line 5: expected `test confirmed NAME` or"),
            ("test confirmed test_shop.py::test_sold", "test confirmed", "line 5: expected"),
            ("  2 Mess", "  two Mess", "line 7: expected a number, `~`, a duration"),
            ("  2 Mess", "  -2 Mess", "line 7: expected a number, `~`, a duration"),
            ("  12.4u", "  1.2.4u", "line 9: expected a duration like `12.4u`, found '1.2.4u'"),
            ("  ~ MessageSent > MessageReceived(...)", "  3 MessageSent(queue_id='jobs')",
             "line 8: MessageSent(queue_id='jobs') is there already, in line 7: keep one"),
            ("  # the", "<<<<<<< HEAD\n  # the", "line 6: a merge conflict"),
            ("# by hand", "  1 A()", "line 3: a fact that belongs to no test: '1 A()'"),
            ("  ~u Span", "test candidate test_shop.py::test_sold\n  ~u Span",
             "line 10: test_shop.py::test_sold is there already, in line 5: keep one"),
            ("test_shop.py::test_sold", '"test_shop', "line 5: a test's name in quotes is JSON"),
        ],
    )  # fmt: skip
    def test_refuses_what_it_does_not_understand(self, old, new, message):
        assert old in GOOD
        with pytest.raises(BaselineError) as refused:
            loads(GOOD.replace(old, new, 1), "kobs.baseline")
        assert str(refused.value).startswith("kobs.baseline, ")
        assert message in str(refused.value)

    def test_refuses_a_file_that_ends_early(self):
        with pytest.raises(BaselineError, match="expected `recorded"):
            loads("kobs-baseline 1\n")

    def test_names_a_file_that_is_not_there_or_not_text(self, tmp_path):
        with pytest.raises(BaselineError, match="no such baseline"):
            read(tmp_path / "none")
        with pytest.raises(BaselineError, match="cannot be read: Is a directory"):
            read(tmp_path)
        (tmp_path / "binary").write_bytes(b"\xff\x00\xfe")
        with pytest.raises(BaselineError, match="line 1: no baseline"):
            read(tmp_path / "binary")

    def test_knows_a_baseline_when_it_sees_one(self, tmp_path):
        file = tmp_path / "it"
        assert not is_baseline(str(file))
        file.write_text(GOOD)
        assert is_baseline(str(file))
        file.write_text("kobs-baselines")
        assert not is_baseline(str(file))


class TestTwoRuns:
    def test_that_agree_make_an_entry(self):
        entry = first_entry(Seen({"A()": 1}))
        assert not entry.confirmed
        entry = entry.updated(Seen({"A()": 1}))
        assert entry == Entry("confirmed", {"A()": 1})

    def test_leave_out_what_they_disagree_on(self):
        first = first_entry(Seen({"A()": 1, "B()": 1, "C(x='1')": 1, "D()": 1}))
        entry = first.updated(Seen({"A()": 1, "B()": 2, "C(x='2')": 1}))
        assert entry.confirmed
        assert entry.counts == {"A()": 1}
        assert entry.varies == {"B()", "C(...)", "D()"}
        assert not entry.changes({"A()": 1, "B()": 9, "C(x='3')": 7})
        assert entry.changes({"E()": 1}) == [("A()", 1, 0), ("E()", 0, 1)]

    def test_are_needed_again_after_a_change_and_what_varies_stays(self):
        entry = Entry("confirmed", {"A()": 1}, frozenset({"B()"}))
        assert entry.updated(Seen({"A()": 1, "B()": 3})) == entry
        changed = entry.updated(Seen({"A()": 2, "B()": 3}))
        assert changed == Entry("candidate", {"A()": 2}, frozenset({"B()"}))
        assert changed.updated(Seen({"A()": 2})).confirmed

    def test_agree_on_durations_within_the_tolerance(self):
        first = first_entry(Seen({}, {"A()": 10.0, "B()": 10.0}, 1.5))
        entry = first.updated(Seen({}, {"A()": 14.0, "B()": 16.0, "C()": 1.0}, 1.5))
        assert entry.durations == {"A()": 10.0, "C()": 1.0}
        assert entry.varying_durations == {"B()"}
        assert entry.slower({"A()": 15.0, "B()": 99.0, "C()": 1.6}, 1.5) == [("C()", 1.0, 1.6)]
        later = entry.updated(Seen({}, {"A()": 30.0}, 1.5))
        assert later.durations == {"A()": 30.0, "C()": 1.0}

    def test_do_not_forget_durations_that_were_not_asked_for(self):
        entry = Entry("confirmed", {"A()": 1}, durations={"A()": 3.0})
        assert entry.updated(Seen({"A()": 2})).durations == {"A()": 3.0}


class TestComparedEntries:
    def test_leave_out_what_varies_in_either(self):
        one = Entry("confirmed", {"A()": 1, "B(x='1')": 1, "C()": 1}, frozenset({"D()"}))
        other = Entry("confirmed", {"C()": 2, "D()": 1}, frozenset({"A()", "B(...)"}))
        assert compared(one, other) == [("C()", 1, 2)]
        assert compared(other, one) == [("C()", 2, 1)]


class TestUpdating:
    def test_touches_only_the_tests_that_ran(self, tmp_path):
        path = tmp_path / "kobs.baseline"
        path.write_text(GOOD)
        path.chmod(0o640)
        update(str(path), MADE, {"test_a.py::test_new": Seen({"A()": 1})})
        assert path.read_text() == GOOD.replace(
            "\ntest confirmed", "\ntest candidate test_a.py::test_new\n  1 A()\n\ntest confirmed", 1
        )
        assert path.stat().st_mode & 0o777 == 0o640
        assert os.listdir(tmp_path) == ["kobs.baseline"]

    def test_does_not_write_what_is_the_same(self, tmp_path):
        path = tmp_path / "kobs.baseline"
        untidy = GOOD.replace("\n", "\n\n")
        path.write_text(untidy)
        update(str(path), MADE, {})
        assert path.read_text() == untidy

    def test_follows_a_link_to_the_file(self, tmp_path):
        (tmp_path / "real").write_text(GOOD)
        (tmp_path / "link").symlink_to("real")
        update(str(tmp_path / "link"), MADE, {"t": Seen({})})
        assert (tmp_path / "link").is_symlink()
        assert "test candidate t" in (tmp_path / "real").read_text()

    def test_refuses_runs_that_were_recorded_otherwise(self, tmp_path):
        path = tmp_path / "kobs.baseline"
        path.write_text(GOOD)
        with pytest.raises(BaselineError, match="recorded with core=c watches=default, this run"):
            update(str(path), Made("python", "default"), {})

    def test_says_where_it_cannot_write(self, tmp_path):
        with pytest.raises(BaselineError, match=r"cannot be written: .*No such file or directory"):
            update(str(tmp_path / "none" / "kobs.baseline"), MADE, {"t": Seen({})})

    def test_of_many_at_a_time_loses_nothing(self, tmp_path):
        path = str(tmp_path / "kobs.baseline")
        barrier = threading.Barrier(8)

        def work(number: int) -> None:
            barrier.wait()
            for turn in range(4):
                update(path, MADE, {f"test_{number}_{turn}": Seen({"A()": number})})

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(read(path).entries) == 32
