"""The C core picks the very slots for log records that Python does."""

import pytest
from hypothesis import given, strategies as st

from kobs._core.contract import RawSlot
from kobs.export.otlp_streams import picked

from .twins import TYPES, slots

native = pytest.importorskip("kobs._core._native")
tickets = st.integers(0, 1 << 50) | st.sampled_from([0, 1, (1 << 64) - 1])


@given(
    st.lists(slots(), max_size=12),
    st.integers(0, 15),
    st.tuples(tickets, tickets),
    st.lists(st.sampled_from(sorted(TYPES)), max_size=8).map(tuple),
)
def test_both_pick_the_same(
    given_slots: list[RawSlot], severity: int, before: tuple[int, int], always: tuple[int, ...]
) -> None:
    found = native.pick_slots(given_slots, severity, before, always)
    assert found == picked(given_slots, severity, before, always)


def test_what_is_no_slot_or_no_type_is_refused() -> None:
    with pytest.raises(TypeError, match="RawSlot"):
        native.pick_slots([("a",)], 0, (0, 0), ())
    with pytest.raises(ValueError, match="at most 8"):
        native.pick_slots([], 0, (0, 0), tuple(range(9)))
    with pytest.raises((ValueError, OverflowError)):
        native.pick_slots([], 0, (0, 0), (1 << 20,))
