"""Events that tell whether they are whole: a number, and checksums of it all over the slot."""

from collections.abc import Callable, Iterable

from kobs import Category, Event, event_type
from kobs._core.contract import RawSlot
from kobs.schema import U64

MASK = (1 << 64) - 1
FORMAT = "16Q"


def emit_number(publish: Callable[..., int], value: int, lane: int = 0) -> int:
    """Publish a number into a bare ring; 0 where it was lost."""
    product = value * 31 & MASK
    return publish(
        lane, value, value, value, value, value, value & 0xFFFF, 0, 0, 0, 0, 0,
        value, value ^ MASK, *(product,) * 14,
    )  # fmt: skip


def numbers(slots: Iterable[RawSlot]) -> list[int]:
    """The numbers in slots of a bare ring, each of which is whole."""
    found = []
    for slot in slots:
        words = memoryview(slot.data).cast("Q").tolist()
        value = words[8]
        assert words[0] == (slot.ticket + 1) << 1, "another ticket's"
        assert words[1:6] == [value] * 5, "a torn header"
        assert words[6] == value & 0xFFFF, "a torn header"
        assert words[9] == value ^ MASK, "a torn payload"
        assert set(words[10:24]) == {value * 31 & MASK}, "a torn payload"
        found.append(value)
    return found


@event_type(category=Category.PERFORMANCE)
class Stressed:
    """A number with checksums of itself."""

    value: U64
    inverse: U64
    product: U64
    last: U64


def emit_checked(emit: Callable[..., int], value: int) -> int:
    """Emit a number through a collector; 0 where it was lost."""
    product = value * 31 & MASK
    return emit(value, value ^ MASK, product, product, causality_id=value)


def value_of(event: Event) -> int:
    """The number of an event that is whole."""
    payload = event.payload
    product = payload.value * 31 & MASK
    assert (payload.inverse, payload.product, payload.last) == (
        payload.value ^ MASK, product, product,
    ), f"torn: {event}"  # fmt: skip
    assert event.causality_id == payload.value, f"torn: {event}"
    return int(payload.value)
