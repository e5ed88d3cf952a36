"""The C core writes of any slot, whatever bytes it has, the line of JSON that Python writes."""

import calendar
import struct
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from kobs._core.contract import RawSlot
from kobs.export import jsonl
from tests.thorough import many

from . import twins

_native = pytest.importorskip("kobs._core._native")


class Recorded:
    """What the export asks a recording for the wall time."""

    def __init__(self, wall_ns: int, monotonic_ns: int) -> None:
        self.session_info = {"started_wall_ns": wall_ns, "started_monotonic_ns": monotonic_ns}


@settings(max_examples=many(80), deadline=None)
@given(
    st.lists(twins.slots(), max_size=8) | st.lists(twins.slots(types=[65_000, 1]), max_size=3),
    st.sampled_from([0, 1, 951_782_399_000_000_000, 1_732_518_536_123_456_789, (1 << 63) - 1]),
    st.sampled_from([0, 5_000_000_000]),
)
def test_any_slot_makes_the_same_line(slots: list[RawSlot], wall: int, monotonic: int) -> None:
    recorded: Any = Recorded(wall, monotonic)
    clock = jsonl.wall_clock(recorded)
    decoder = twins.decoder()
    assert decoder.native is not None

    def in_python(slot: RawSlot) -> bytes | None:
        event = decoder.decode(slot)
        return None if event is None else f"{jsonl.line(event, clock)}\n".encode("ascii")

    expected = [line for slot in slots if (line := in_python(slot)) is not None]
    left = []

    def otherwise(slot: RawSlot) -> bytes | None:
        left.append(slot)
        return in_python(slot)

    offset = wall - monotonic if wall else None
    lines, written, undecoded = decoder.native.lines(slots, offset, clock, otherwise)
    assert lines.splitlines(keepends=True) == expected
    assert (written, undecoded) == (len(expected), len(slots) - len(expected))
    own = twins.TwinOfOwnMaking.__kobs_schema__.type_id
    assert all(int.from_bytes(slot.data[56:58], "little") == own for slot in left)


@settings(deadline=None)
@given(st.datetimes(datetime(1970, 1, 1), datetime(2840, 12, 31)))
def test_any_date_is_the_one_that_python_says(moment: datetime) -> None:
    second = calendar.timegm(moment.timetuple())
    at = min(second, 9_000_000_000) * 1_000_000_000  # the rest is monotonic time
    types: Any = twins.decoder().native
    monotonic = second * 1_000_000_000 - at + 7
    if monotonic >= 1 << 64:
        return
    slot = RawSlot(0, 0, struct.pack("=QQ40xH134x", 2, monotonic, 1))
    line, _, _ = types.lines([slot], at, None, None)
    assert f'"time":"{moment:%Y-%m-%dT%H:%M:%S}.000000007Z"'.encode() in line


def test_what_is_no_slot_is_refused() -> None:
    types: Any = twins.decoder().native
    for wrong in [7, (0, 0, b""), (0, 0, "x"), (0, -1, bytes(192)), (9, 0, bytes(192))]:
        with pytest.raises((TypeError, ValueError)):
            types.lines([wrong], None, None, None)


def test_an_error_of_whoever_knows_the_strings_comes_through() -> None:
    def refuse(string_id: int) -> str:
        raise KeyError(string_id)

    types = _native.Types(
        recording=1, find=lambda _: ("X", 4, (("name", "name", 0, 4, None),), 0, -1, 1.0),
        string=refuse, severities=("TRACE",), categories=("PROCESS",),
    )  # fmt: skip
    with pytest.raises(KeyError):
        types.lines([RawSlot(0, 0, bytes(192))], None, None, None)
