"""Whatever is published and read in whatever order, a reader gives what a plain list would."""

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kobs._core import select
from kobs._core.layout import priority_slots

SLOTS = {0: 32, 1: priority_slots(32)}


class Model:
    """A reader over plain lists: per lane what was published, and how far it was read."""

    def __init__(self, published: dict[int, list[int]], at: dict[int, int]) -> None:
        self.published = published
        self.at = at
        self.lost = 0

    def read(self) -> list[int]:
        found = []
        for lane, events in self.published.items():
            oldest = max(self.at[lane], len(events) - SLOTS[lane])
            self.lost += oldest - self.at[lane]
            found += events[oldest:]
            self.at[lane] = len(events)
        return sorted(found)


class RingMachine(RuleBasedStateMachine):
    core_name = "python"
    overflow = "overwrite"

    @initialize(first=st.sampled_from([0, 31, (1 << 42) - 20, 1 << 50]))
    def create(self, first: int) -> None:
        self.ring = select(self.core_name).create(
            slots=32, path=None, overflow=self.overflow, recording=1, session="", trace_high=0,
            parent_event=0, sampling_rate=100.0, first_ticket=first,
        )  # fmt: skip
        self.first = first
        self.publish = self.ring.publisher("Q")
        self.published: dict[int, list[int]] = {0: [], 1: []}
        self.clock = 0
        self.readers: list[tuple[object, Model]] = []

    @rule(lane=st.sampled_from([0, 0, 0, 1]), times=st.integers(1, 50))
    def emit(self, lane: int, times: int) -> None:
        for _ in range(times):
            self.clock += 1
            event = self.publish(lane, self.clock, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.clock)
            assert event & ((1 << 42) - 1) == (self.first + len(self.published[lane])) % (1 << 42)
            self.published[lane].append(self.clock)

    @rule(oldest=st.booleans())
    def subscribe(self, oldest: bool) -> None:
        at = {
            lane: max(0, len(events) - SLOTS[lane]) if oldest else len(events)
            for lane, events in self.published.items()
        }
        self.readers.append((self.ring.reader(oldest=oldest), Model(self.published, at)))

    @rule(which=st.integers(0, 100))
    def read(self, which: int) -> None:
        if self.readers:
            reader, model = self.readers[which % len(self.readers)]
            slots = reader.read(10_000)
            assert [int.from_bytes(slot.data[64:72], "little") for slot in slots] == model.read()
            assert reader.lost == model.lost

    @rule(which=st.integers(0, 100), limit=st.integers(1, 7))
    def read_bit_by_bit(self, which: int, limit: int) -> None:
        if self.readers:
            reader, model = self.readers[which % len(self.readers)]
            got = []
            while slots := reader.read(limit):
                assert len(slots) <= limit
                got += [int.from_bytes(slot.data[64:72], "little") for slot in slots]
            assert got == model.read()
            assert reader.lost == model.lost

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "ring"):
            assert self.ring.produced() == self.clock
            losses = self.ring.losses()
            assert losses.overwritten == sum(
                max(0, len(events) - SLOTS[lane]) for lane, events in self.published.items()
            )
            assert sum(losses) == losses.overwritten

    def teardown(self) -> None:
        if hasattr(self, "ring"):
            self.ring.close()


class DiscardingRingMachine(RingMachine):
    """Without lossless readers a discarding ring is an overwriting one."""

    overflow = "discard"


class PacedRingMachine(RuleBasedStateMachine):
    """With lossless readers nothing is overwritten that one of them has not read."""

    @initialize()
    def create(self) -> None:
        self.ring = select("python").create(
            slots=32, path=None, overflow="discard", recording=1, session="", trace_high=0,
            parent_event=0, sampling_rate=100.0,
        )  # fmt: skip
        self.publish = self.ring.publisher("Q")
        self.published: list[int] = []
        self.discarded = 0
        self.clock = 0
        self.readers = [[self.ring.reader(lossless=True), 0]]

    @rule(times=st.integers(1, 50))
    def emit(self, times: int) -> None:
        for _ in range(times):
            self.clock += 1
            event = self.publish(0, self.clock, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.clock)
            slowest = min((at for _, at in self.readers), default=len(self.published))
            assert bool(event) == (len(self.published) < slowest + 32)
            if event:
                self.published.append(self.clock)
            else:
                self.discarded += 1

    @rule(which=st.integers(0, 9))
    def read(self, which: int) -> None:
        if self.readers:
            entry = self.readers[which % len(self.readers)]
            slots = entry[0].read(10_000)
            got = [int.from_bytes(slot.data[64:72], "little") for slot in slots]
            assert got == self.published[entry[1] :]
            assert entry[0].lost == 0
            entry[1] = len(self.published)

    @rule()
    def subscribe(self) -> None:
        if len(self.readers) < 5:
            self.readers.append([self.ring.reader(lossless=True), len(self.published)])

    @rule(which=st.integers(0, 9))
    def unsubscribe(self, which: int) -> None:
        if self.readers:
            self.readers.pop(which % len(self.readers))[0].close()

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "ring"):
            assert self.ring.losses().discarded == self.discarded
            assert self.ring.produced() == len(self.published)


FEW = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestRing = RingMachine.TestCase
TestRing.settings = FEW
TestDiscardingRing = DiscardingRingMachine.TestCase
TestDiscardingRing.settings = FEW
TestPacedRing = PacedRingMachine.TestCase
TestPacedRing.settings = FEW
