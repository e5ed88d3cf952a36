"""A call of an emitter with fields alone writes what one with header fields writes."""

import struct
from contextlib import contextmanager
from enum import IntEnum

import pytest

from kobs import ContextSwitch, ProcessCreated, QueueDepth, SyscallExit, SyscallResult
from kobs.context import Cause, cause, origin
from kobs.emitters import ThreadIds, make_emitter
from kobs.errors import FieldError

PID = 4242


@pytest.fixture
def emitter(make):
    ring = make()

    def of(cls, gate=False, decide=lambda *_: 0):
        return ring, make_emitter(
            cls.__kobs_schema__, ring, PID, gate=[gate], threads=[ThreadIds()], decide=decide,
            analyse=None,
        )[0]  # fmt: skip

    return of


@contextmanager
def ambient(of_cause, of_origin):
    token = cause.set(of_cause)
    before = origin.set(of_origin)
    try:
        yield
    finally:
        origin.reset(before)
        cause.reset(token)


def bodies(ring, calls):
    reader = ring.reader()
    for call in calls:
        assert call()
    slots = reader.read()
    assert len(slots) == len(calls)
    # All but the stamp and the time.
    return [(slot.lane, slot.data[16:]) for slot in slots]


@pytest.mark.parametrize("of_cause", [None, Cause(7, 8, 9), Cause(0, 5)])
@pytest.mark.parametrize("of_origin", ["", "a test"])
@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (ContextSwitch, (1, 2, "await")),
        (ProcessCreated, ("sh" * 90, 5)),
        (SyscallExit, ("read", 1.5, SyscallResult.SUCCESS)),
    ],
)
def test_the_same_event_with_and_without_header_fields(emitter, cls, fields, of_cause, of_origin):
    ring, emit = emitter(cls)
    with ambient(of_cause, of_origin):
        plain, general, of_pid, of_both = bodies(
            ring,
            [
                lambda: emit(*fields),
                lambda: emit(*fields, link=0),
                lambda: emit(*fields, pid=3),
                lambda: emit(*fields, pid=3, flags=0),
            ],
        )
    assert plain == general
    assert of_pid == of_both != plain
    assert struct.unpack_from("I", plain[1], 32)[0] == PID
    assert struct.unpack_from("I", of_pid[1], 32)[0] == 3


def test_a_plain_call_asks_the_gate(emitter):
    ring, emit = emitter(ContextSwitch, gate=True, decide=lambda *_: -1)
    assert emit(1, 2, "await") == emit(1, 2, "await", pid=3) == 0
    assert ring.produced() == 0


@pytest.mark.parametrize("header", [{}, {"pid": 3}, {"link": 1}])
def test_a_call_that_does_not_fit_leaves_no_gap(emitter, header):
    ring, emit = emitter(ContextSwitch)
    with pytest.raises(FieldError, match="to_pid"):
        emit(1, -2, "await", **header)
    with pytest.raises(FieldError, match="reason"):
        emit(1, 2, [], **header)
    with pytest.raises(TypeError, match="unexpected keyword argument 'nothing'"):
        emit(1, 2, "await", nothing=1, **header)
    with pytest.raises(TypeError, match="multiple values for argument 'to_pid'"):
        emit(1, 2, "await", to_pid=3, **header)
    with pytest.raises(TypeError, match="takes 3 positional arguments but 4 were given"):
        emit(1, 2, "await", 4)
    with pytest.raises(FieldError, match="pid"):
        emit(1, 2, "await", **{**header, "pid": -1})
    assert ring.produced() == 0


class Number(IntEnum):
    THREE = 3


class Word(str):
    pass


@pytest.mark.parametrize(("given", "same"), [(Number.THREE, 3), (Word("jobs"), "jobs")])
def test_an_identifier_may_be_a_program_s_own_kind_of_int_or_str(emitter, given, same):
    ring, emit = emitter(QueueDepth)
    own, plain = bodies(ring, [lambda: emit(given, 1, 2), lambda: emit(same, 1, 2)])
    assert own == plain


@pytest.mark.parametrize("given", [True, 1.5, None, -1, 1 << 63])
def test_an_identifier_that_is_none_is_refused_by_name(emitter, given):
    _, emit = emitter(QueueDepth)
    with pytest.raises(FieldError, match=r"QueueDepth\.queue_id = "):
        emit(given, 1, 2)
