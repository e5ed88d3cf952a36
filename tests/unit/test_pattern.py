"""Patterns of one event: what matches, and what is refused with a message that helps."""

import math
from unittest import mock

import pytest

from kobs import (
    Category,
    Collector,
    Event,
    FileOpened,
    MessageSent,
    ProcessCreated,
    Severity,
    SyscallExit,
    SyscallResult,
)
from kobs.errors import FieldError, FieldTypeError, PatternError
from kobs.pattern import between, find, like


def event(payload, **header):
    schema = type(payload).__kobs_schema__
    return Event(schema.severity, schema.category, payload, **header)


READ = event(SyscallExit("read", 12.5, SyscallResult.SUCCESS), pid=42)


class TestFields:
    def test_match_by_equality(self):
        assert SyscallExit.like(name="read").matches(READ)
        assert not SyscallExit.like(name="write").matches(READ)

    def test_all_of_them_must_match(self):
        assert not SyscallExit.like(name="read", errno=5).matches(READ)

    def test_of_another_type_never_match(self):
        assert not ProcessCreated.like(name="read").matches(READ)

    def test_none_given_means_any_event_of_the_type(self):
        assert SyscallExit.like().matches(READ)

    def test_plain_functions_are_asked(self):
        assert SyscallExit.like(duration_us=lambda us: us > 10).matches(READ)
        assert not SyscallExit.like(duration_us=lambda us: us > 13).matches(READ)

    def test_an_error_in_a_predicate_is_not_hidden(self):
        with pytest.raises(ZeroDivisionError):
            SyscallExit.like(duration_us=lambda us: us / 0).matches(READ)

    def test_anything_with_an_equality_of_its_own_is_compared(self):
        assert SyscallExit.like(name=mock.ANY, duration_us=pytest.approx(12.5000001)).matches(READ)
        assert not SyscallExit.like(duration_us=pytest.approx(13)).matches(READ)

    def test_a_class_is_compared_and_never_called(self):
        class EqualToText(type):
            def __eq__(cls, other):
                return isinstance(other, str)

            __hash__ = type.__hash__

        class AnyText(metaclass=EqualToText):
            def __init__(self, value):
                raise AssertionError("called")

        assert SyscallExit.like(name=AnyText).matches(READ)
        assert not SyscallExit.like(errno=AnyText).matches(READ)

    def test_an_enumeration_matches_its_member_and_its_number(self):
        assert SyscallExit.like(result=SyscallResult.SUCCESS).matches(READ)
        assert SyscallExit.like(result=0).matches(READ)

    def test_a_string_longer_than_its_field_matches_what_the_field_keeps(self):
        path = "/deep" * 40 + "/file.txt"
        with Collector(size=16) as collector:
            collector.emit(FileOpened(path, "r", 0.0))
            collector.emit(FileOpened(path[-100:], "r", 0.0))
            cut, whole = collector.snapshot()
        assert cut.truncated
        assert FileOpened.like(path=path).matches(cut)
        assert not FileOpened.like(path=path).matches(whole)
        assert not FileOpened.like(path="x" + path[:-1]).matches(cut)


class TestHeader:
    def test_is_given_by_on(self):
        assert SyscallExit.like().on(pid=42, severity=Severity.DEBUG).matches(READ)
        assert not SyscallExit.like().on(pid=43).matches(READ)
        assert SyscallExit.like().on(category=Category.SYSCALL).matches(READ)

    def test_conditions_add_up(self):
        assert not SyscallExit.like().on(pid=42).on(tid=1).matches(READ)

    def test_takes_ranges_and_predicates(self):
        assert SyscallExit.like().on(pid=between(40, 50)).matches(READ)
        assert SyscallExit.like().on(severity=lambda level: level < Severity.WARN).matches(READ)

    def test_refuses_what_the_header_does_not_have(self):
        with pytest.raises(FieldError, match=r"no field 'name'; on\(\) takes pid, tid, severity"):
            SyscallExit.like().on(name="read")


class TestBetween:
    @pytest.mark.parametrize("value", [1, 3, 5, 1.0, True])
    def test_includes_both_ends(self, value):
        assert between(1, 5) == value

    @pytest.mark.parametrize("value", [0, 6, 5.01, "3", None, math.nan])
    def test_leaves_out_what_is_not_in_it(self, value):
        assert between(1, 5) != value

    def test_the_wrong_way_round_is_refused(self):
        with pytest.raises(PatternError, match=r"between\(5, 1\).*nothing lies between"):
            between(5, 1)


class TestCombining:
    def test_and(self):
        both = SyscallExit.like(name="read") & SyscallExit.like(errno=0)
        assert both.matches(READ)
        assert not (both & SyscallExit.like(errno=1)).matches(READ)

    def test_or(self):
        assert (SyscallExit.like(name="open") | SyscallExit.like(name="read")).matches(READ)
        assert (ProcessCreated.like() | SyscallExit.like()).matches(READ)
        assert not (ProcessCreated.like() | FileOpened.like()).matches(READ)

    def test_not(self):
        assert (~SyscallExit.like(name="write")).matches(READ)
        assert not (~SyscallExit.like(name="read")).matches(READ)


class TestWhatIsRefused:
    def test_an_unknown_field_names_type_field_and_those_there_are(self):
        with pytest.raises(FieldError) as caught:
            SyscallExit.like(nam="read")
        assert str(caught.value) == (
            "SyscallExit has no field 'nam'; its fields are name, duration_us, result, errno. "
            "Did you mean 'name'?"
        )

    def test_a_header_field_among_the_fields_says_where_it_belongs(self):
        with pytest.raises(FieldError, match=r"write SyscallExit|\.on\(pid=\.\.\.\)"):
            SyscallExit.like(pid=42)

    @pytest.mark.parametrize(
        "fields", [{"name": 3}, {"errno": "x"}, {"result": "ERROR"}, {"name": None}]
    )
    def test_a_value_that_the_field_can_never_have(self, fields):
        (name,) = fields
        with pytest.raises(FieldTypeError, match=rf"SyscallExit\.{name} = "):
            SyscallExit.like(**fields)

    def test_a_number_out_of_the_fields_range(self):
        with pytest.raises(FieldError, match=r"MessageSent\.size = -1: out of range"):
            MessageSent.like(size=-1)

    def test_a_class_that_nothing_equals(self):
        with pytest.raises(PatternError, match="isinstance\\(value, str\\)"):
            SyscallExit.like(name=str)

    @pytest.mark.parametrize("function", ["x".startswith, math.isnan, str.isdigit, [].append])
    def test_callables_that_would_not_be_called(self, function):
        with pytest.raises(PatternError, match="only plain functions are predicates"):
            SyscallExit.like(name=function)

    def test_a_pattern_as_a_truth_value(self):
        pattern = SyscallExit.like(name="read")
        for use in (bool, lambda p: not p, lambda p: p and p, lambda p: p or p):
            with pytest.raises(PatternError, match=r"`assert pattern in kobs\.events`"):
                use(pattern)

    def test_a_union_of_classes(self):
        union = SyscallExit | FileOpened
        with pytest.raises(
            PatternError, match=r"write SyscallExit.like\(\) \| FileOpened.like\(\)"
        ):
            SyscallExit.like() >> union

    @pytest.mark.parametrize(
        "combine",
        [
            lambda p: p >> FileOpened,
            lambda p: FileOpened >> p,
            lambda p: p | FileOpened,
            lambda p: FileOpened | p,
            lambda p: p & FileOpened,
            lambda p: p.then(FileOpened),
        ],
    )
    def test_a_class_where_a_pattern_belongs(self, combine):
        with pytest.raises(PatternError, match=r"write FileOpened.like\(\)"):
            combine(SyscallExit.like())

    def test_a_payload_where_a_pattern_belongs(self):
        with pytest.raises(PatternError, match=r"write ProcessCreated.like\(\.\.\.\)"):
            SyscallExit.like() >> ProcessCreated("sh", 1)


class TestLooks:
    def test_reads_as_it_was_written(self):
        read = SyscallExit.like(name="read")
        assert repr(read) == "SyscallExit.like(name='read')"
        assert repr(read.on(pid=42)) == "SyscallExit.like(name='read').on(pid=42)"
        assert (
            repr(read & ~read) == "SyscallExit.like(name='read') & ~SyscallExit.like(name='read')"
        )
        assert repr(read & (read | read)) == (
            "SyscallExit.like(name='read') & "
            "(SyscallExit.like(name='read') | SyscallExit.like(name='read'))"
        )
        assert repr(SyscallExit.like(result=SyscallResult.ERROR, duration_us=between(1, 5))) == (
            "SyscallExit.like(result=SyscallResult.ERROR, duration_us=between(1, 5))"
        )

    def test_a_function_is_named_and_a_lambda_located(self):
        def long(us):
            return us > 10

        assert repr(SyscallExit.like(duration_us=long)) == "SyscallExit.like(duration_us=long)"
        assert "<lambda at test_pattern.py:" in repr(SyscallExit.like(duration_us=lambda us: us))

    def test_pytest_does_not_take_it_for_a_decorated_function(self):
        pattern = SyscallExit.like()
        assert not callable(pattern)
        assert not hasattr(pattern, "__name__")
        mark = pytest.mark.slow(pattern)
        assert mark.mark.args == (pattern,)


def test_like_of_the_module_is_like_of_the_type():
    assert repr(like(SyscallExit, name="read")) == repr(SyscallExit.like(name="read"))


def test_find_gives_the_first_match_and_none_without():
    other = event(SyscallExit("read", 1.0, SyscallResult.SUCCESS))
    assert find(SyscallExit.like(name="read"), [READ, other]) == (READ,)
    assert find(SyscallExit.like(name="open"), [READ, other]) is None
