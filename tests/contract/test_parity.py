"""The same operations have the same results, the same errors and the same bytes on both cores, and
what one core recorded the other one reads."""

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from kobs._core import layout, select
from kobs._core.contract import LossCounts, RawSlot, Ring
from kobs.context import Cause, cause, origin
from kobs.emitters import ThreadIds, make_emitter
from kobs.payloads import SyscallExit
from tests.thorough import many

from .twins import Colour, TwinOfAllKinds, Word

pytestmark = pytest.mark.c_core

CORES = ("python", "c")
PAYLOADS = ("Q", "BxHd", "16Q", "I5s", "?q", "128s")
FIRST_TICKETS = (0, 31, (1 << 42) - 20, (1 << 62) - 20, 1 << 62)
COUNTED = LossCounts._fields[1:]
PID = 4711

names = st.sampled_from(["read", "", "größe", "\ud800", "a\0b", "\U0001f41f", "x" * 300]) | st.text(
    max_size=8
)
numbers = st.sampled_from(
    [0, 1, -1, 255, 256, 65_536, (1 << 31) - 1, -(1 << 31), (1 << 32) - 1, 1 << 32, 1 << 62,
     (1 << 63) - 1, -(1 << 63), 1 << 63, (1 << 64) - 1, 1 << 64, 1 << 200, -(1 << 200)]
)  # fmt: skip
odd = st.sampled_from(
    [None, True, 1.5, "text", b"bytes", (), {}, float("nan"), Colour.GREEN, Word("word")]
)
anything = st.one_of(numbers, names, odd)
texts = names | st.binary(max_size=24).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
mappings = st.dictionaries(
    st.text(max_size=4),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.lists(st.integers(0, 9), max_size=2),
    max_size=4,
)  # fmt: skip
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "name": names,
    "u8": st.integers(0, 255),
    "u16": st.integers(0, 65_535),
    "u32": st.integers(0, (1 << 32) - 1),
    "u64": st.integers(0, (1 << 64) - 1),
    "i32": st.integers(-(1 << 31), (1 << 31) - 1),
    "i64": st.integers(-(1 << 63), (1 << 63) - 1),
    "yes": st.booleans(),
    "who": st.integers(0, (1 << 63) - 1) | names,
    "colour": st.sampled_from(Colour),
    "duration_us": st.floats() | st.integers(-9, 1 << 40),
    "text": texts,
    "tail": texts,
    "json": mappings,
}
HEADER: dict[str, st.SearchStrategy[Any]] = {
    "pid": st.integers(0, (1 << 32) - 1),
    "tid": st.integers(0, (1 << 32) - 1),
    "severity": st.integers(0, 5),
    "category": st.integers(0, 15),
    "causality_id": st.integers(0, (1 << 64) - 1),
    "parent": st.integers(0, (1 << 64) - 1),
    "span_id": st.integers(0, (1 << 64) - 1),
    "link": st.integers(0, (1 << 64) - 1),
    "flags": st.integers(0, 255),
}
assert list(FIELDS) == list(TwinOfAllKinds.__kobs_schema__.field_names)


@st.composite
def fields(draw: Callable[..., Any]) -> dict[str, Any]:
    """A payload; every other time with one value that may not fit."""
    made = {name: draw(strategy) for name, strategy in FIELDS.items()}
    if draw(st.booleans()):
        made[draw(st.sampled_from(list(FIELDS)))] = draw(anything)
    return made


@st.composite
def headers(draw: Callable[..., Any]) -> dict[str, Any]:
    """What a caller says of the header."""
    given_ = draw(st.lists(st.sampled_from(list(HEADER)), unique=True, max_size=3))
    made = {name: draw(HEADER[name] | st.none()) for name in given_}
    if draw(st.integers(0, 4)) == 0:
        made[draw(st.sampled_from(["pid", "link", "parent"]))] = draw(numbers)
    return made


bodies = st.sampled_from(PAYLOADS).flatmap(
    lambda code: st.tuples(
        st.just(code),
        {
            "Q": st.tuples(numbers),
            "BxHd": st.tuples(numbers, numbers, st.floats() | odd),
            "16Q": st.tuples(*[st.integers(0, (1 << 64) - 1)] * 16),
            "I5s": st.tuples(numbers, st.binary(max_size=7)),
            "?q": st.tuples(anything, numbers),
            "128s": st.tuples(st.binary(max_size=130)),
        }[code],
    )
)
lanes = st.sampled_from([0, 0, 0, 1])
which = st.integers(0, 3)
operations = st.one_of(
    st.tuples(st.just("publish"), lanes, bodies),
    st.tuples(st.just("flood"), lanes, st.integers(1, 80)),
    st.tuples(st.just("emit"), fields(), headers()),
    st.tuples(st.just("begin"), fields(), headers()),
    st.tuples(st.just("end"), which),
    st.tuples(st.just("ambient"), st.none() | st.tuples(*[st.integers(0, 1 << 63)] * 3), names),
    st.tuples(st.just("intern"), names),
    st.tuples(st.just("count"), st.sampled_from(COUNTED), st.integers(-1, 5)),
    st.tuples(st.just("subscribe"), st.booleans(), st.booleans()),
    st.tuples(st.just("read"), which, st.sampled_from([-1, 0, 1, 3, 16, 1024, 1 << 70])),
    st.tuples(st.just("seek"), which, st.sampled_from(["oldest", "end", "back", "far", "wrong"])),
    st.tuples(st.just("unsubscribe"), which),
)


class Played:
    """One core's ring, and what was done with it."""

    def __init__(self, core: str, folder: Path, overflow: str, slots: int, first: int) -> None:
        self.core = select(core)
        assert self.core.name == core
        self.path = folder / f"{core}.kobs"
        self.ring: Ring = self.core.create(
            slots=slots, path=str(self.path), overflow=overflow, recording=7, session="5e" * 16,
            trace_high=5, parent_event=6, sampling_rate=100.0, first_ticket=first,
        )  # fmt: skip
        self.publishers = {code: self.ring.publisher(code) for code in PAYLOADS}
        options: dict[str, Any] = {
            "gate": [False], "threads": [ThreadIds()], "decide": None, "analyse": None
        }  # fmt: skip
        schema = TwinOfAllKinds.__kobs_schema__
        self.emit, _ = make_emitter(schema, self.ring, PID, **options)
        self.begin, _ = make_emitter(schema, self.ring, PID, begins=True, **options)
        self.readers: list[Any] = []
        self.scopes: list[int] = []
        self.clock = itertools.count(1)

    def do(self, name: str, *arguments: Any) -> Any:
        """What came of it, or which error."""
        try:
            return getattr(self, f"do_{name}")(*arguments)
        except Exception as error:
            return type(error), str(error)

    def header(self) -> tuple[int, ...]:
        return (next(self.clock), 2, 3, 4, 5, 6, 7, 8, 0x12, 10, 11)

    def do_publish(self, lane: int, body: tuple[str, tuple[Any, ...]]) -> int:
        return self.publishers[body[0]](lane, *self.header(), *body[1])

    def do_flood(self, lane: int, times: int) -> list[int]:
        return [self.publishers["Q"](lane, *self.header(), number) for number in range(times)]

    def do_emit(self, values: dict[str, Any], header: dict[str, Any]) -> int:
        event: int = self.emit(**values, timestamp_ns=next(self.clock), **({"tid": 9} | header))
        return event

    def do_begin(self, values: dict[str, Any], header: dict[str, Any]) -> int:
        event, entry = self.begin(**values, timestamp_ns=next(self.clock), **({"tid": 9} | header))
        self.scopes.append(entry)
        return int(event)

    def do_end(self, number: int) -> None:
        if self.scopes:
            self.ring.close_entry(self.scopes.pop(number % len(self.scopes)))

    def do_ambient(self, ids: tuple[int, int, int] | None, scope: str) -> None:
        cause.set(None if ids is None else Cause(*ids))
        origin.set(scope)

    def do_intern(self, text: str) -> tuple[int, str]:
        string_id = self.ring.intern(text)
        return string_id, self.ring.string(string_id)

    def do_count(self, what: str, by: int) -> None:
        self.ring.count(what, by)

    def do_subscribe(self, lossless: bool, oldest: bool) -> None:
        if len(self.readers) < 4:
            self.readers.append(self.ring.reader(lossless=lossless, oldest=oldest))

    def do_read(self, number: int, limit: int) -> Any:
        if not self.readers:
            return None
        reader = self.readers[number % len(self.readers)]
        slots = reader.read(limit)
        assert all(type(slot) is RawSlot for slot in slots)
        found = [(slot.lane, slot.ticket, significant(slot.data)) for slot in slots]
        return found, reader.lost, reader.position(), reader.pending()

    def do_seek(self, number: int, where: str) -> Any:
        if not self.readers:
            return None
        reader = self.readers[number % len(self.readers)]
        at = reader.position()
        if where in ("oldest", "end"):
            getattr(reader, f"seek_{where}")()
        else:
            reader.seek(
                {"back": tuple(t - 20 for t in at), "far": tuple(t + 5 for t in at),
                 "wrong": (*at, 1)}[where]
            )  # fmt: skip
        return reader.lost, reader.position(), reader.pending()

    def do_unsubscribe(self, number: int) -> None:
        if self.readers:
            self.readers.pop(number % len(self.readers)).close()

    def told(self) -> Any:
        """What the ring says of itself."""
        entries = sorted(entry._replace(event=0) for entry in self.ring.open_events())
        return self.ring.produced(), self.ring.losses(), entries


def significant(data: bytes) -> bytes:
    """A slot up to its payload's size. Here that is told by the type: of an emitter, or not."""
    type_id = int.from_bytes(data[56:58], "little")
    schema = TwinOfAllKinds.__kobs_schema__
    size = schema.size if type_id == schema.type_id else 8
    return data[: layout.SLOT_HEADER_SIZE + size]


def parts(path: Path) -> dict[str, bytes]:
    """A recording's bytes by what they are; of slots what is significant."""
    raw = path.read_bytes()
    header = layout.Header.from_buffer_copy(raw[: layout.PAGE])

    def region(name: str) -> bytes:
        info = getattr(header, name)
        return raw[info.offset : info.offset + info.size]

    found = {name: region(name) for name in ("counters", "schema", "strings", "readers")}
    # Which entry of the in-flight table is used is a core's own affair.
    table = region("in_flight")
    entries = [table[at : at + 64] for at in range(0, len(table), 64)]
    found["in_flight"] = b"".join(sorted(entry[8:] for entry in entries if any(entry[:8])))
    for number, lane in enumerate(header.lanes):
        at = [lane.offset + index * layout.SLOT_SIZE for index in range(lane.slots)]
        found[f"lane {number}"] = b"".join(significant(raw[a : a + layout.SLOT_SIZE]) for a in at)
    return found


def read_back(core: str, path: Path) -> Any:
    """A recording as a core reads it."""
    attached = select(core).attach(str(path))
    reader = attached.reader()
    slots: list[Any] = []
    while some := reader.read(50):
        slots += [(slot.lane, slot.ticket, slot.data) for slot in some]
    return (
        slots, reader.lost, reader.position(), attached.losses(), attached.produced(),
        attached.damage, attached.open_events(), list(attached.schemas()),
        [attached.string(number) for number in range(1, 400)],
    )  # fmt: skip


@settings(max_examples=many(30), deadline=None)
@given(
    steps=st.lists(operations, max_size=40),
    overflow=st.sampled_from(["overwrite", "discard"]),
    slots=st.sampled_from([16, 64]),
    first=st.sampled_from(FIRST_TICKETS),
)
def test_the_same_operations_have_the_same_results(steps, overflow, slots, first):
    with tempfile.TemporaryDirectory() as folder:
        played = [Played(core, Path(folder), overflow, slots, first) for core in CORES]
        try:
            for step in steps:
                mine, other = (each.do(*step) for each in played)
                assert mine == other, step
                told, other_told = (each.told() for each in played)
                assert told == other_told, step
            for each in played:
                each.ring.close()
                assert each.do("flood", 0, 2) == [0, 0]
            told, other_told = (each.told() for each in played)
            assert told == other_told
        finally:
            cause.set(None)
            origin.set("")
            for each in played:
                each.ring.close()
        mine, other = (parts(each.path) for each in played)
        for name, found in mine.items():
            assert found == other[name], f"the {name} differ"
        for each in played:
            assert read_back("python", each.path) == read_back("c", each.path)


def test_a_type_of_ones_own_is_refused_with_the_same_words(tmp_path):
    found = []
    for core in CORES:
        played = Played(core, tmp_path, "overwrite", 16, 0)
        emit, _ = make_emitter(
            SyscallExit.__kobs_schema__, played.ring, PID, gate=[False], threads=[ThreadIds()],
            decide=lambda *_: 0, analyse=None,
        )  # fmt: skip
        said = []
        for arguments, named in (
            ((), {}),
            (("a",), {}),
            (("a", 1.0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9), {}),
            (("a", 1.0), {"nonsense": 1}),
            (("a", 1.0), {"name": "b"}),
            (("a", "b", "c"), {}),
            ((1, 1.0), {}),
        ):
            try:
                said.append(emit(*arguments, **named))
            except Exception as error:
                said.append(type(error))
        found.append(said)
        played.ring.close()
    assert found[0] == found[1]
