"""A payload type is declared once; layout, checks, encoder and decoder follow from it."""

import inspect
import json
import pickle
from collections.abc import Mapping
from enum import IntEnum
from struct import calcsize
from typing import Annotated, Any

import pytest
from hypothesis import given, settings, strategies as st

import kobs
from kobs import Category, Collector, PayloadType, Severity, event_type
from kobs.errors import FieldError, FieldTypeError, SchemaError
from kobs.fields import Float, IdentifierKind, Integer, InternedName, Json, Text
from kobs.schema import U8, U64, Name, registered_types, schema_from_record
from tests.thorough import many

ALL_TYPES = sorted(
    (cls for cls in registered_types().values() if cls.__module__ == "kobs.payloads"),
    key=lambda cls: cls.__name__,
)


class Colour(IntEnum):
    RED = 1
    GREEN = 200


@event_type(category=Category.IPC, severity=Severity.WARN)
class JobQueued(PayloadType):
    """A job was put on the queue."""

    job: Name
    colour: Colour
    size: U64 = 0
    note: str = ""
    ratio: float = 0.5
    urgent: bool = False
    labels: Annotated[Mapping[str, object], Json(40)] = {}


def values_for(cls: type[PayloadType]) -> st.SearchStrategy[dict[str, Any]]:
    """Values that every field of a payload type keeps whole."""

    def value(kind: Any) -> st.SearchStrategy[Any]:
        if isinstance(kind, Integer):
            return st.integers(kind.minimum, kind.maximum)
        if isinstance(kind, Float):
            return st.floats(allow_nan=False)
        if isinstance(kind, InternedName):
            return st.text(min_size=1, max_size=20)
        if isinstance(kind, IdentifierKind):
            return st.integers(0, 2**63 - 1) | st.text(min_size=1, max_size=20)
        if isinstance(kind, Text):
            return st.text(max_size=kind.size // 4)
        if isinstance(kind, Json):
            mappings = st.dictionaries(st.text("aé\n", max_size=3), st.integers(0, 9), max_size=2)
            # Two keys of é, six bytes each in JSON, can be longer than the field.
            return mappings.filter(
                lambda made: len(json.dumps(made, separators=(",", ":"))) <= kind.size
            )
        if hasattr(kind, "members"):
            return st.sampled_from(list(kind.members))
        return st.booleans()

    return st.fixed_dictionaries(
        {field.name: value(field.kind) for field in cls.__kobs_schema__.fields}
    )


@pytest.mark.parametrize("cls", [*ALL_TYPES, JobQueued], ids=lambda cls: cls.__name__)
@settings(max_examples=many(20))
@given(data=st.data())
def test_every_type_comes_back_from_the_ring_as_it_went_in(
    cls: type[PayloadType], data: st.DataObject
) -> None:
    payload = cls(**data.draw(values_for(cls)))
    with Collector(size=16) as collector:
        assert collector.emit(payload)
        (event,) = (e for e in collector.snapshot() if e.type is cls)
    assert event.payload == payload
    assert not event.truncated
    assert event.severity is cls.__kobs_schema__.severity
    assert event.category is cls.__kobs_schema__.category


@event_type(category=Category.IPC, severity=Severity.INFO)
class NamedAsTheInside(PayloadType):
    """Its fields have names that an emitter, or an event's header, has a use for."""

    level: int
    lane: int
    flags: int
    event: int
    known: str
    scope: int
    pid: int
    severity: int
    parent: int = 7


@pytest.mark.parametrize("core", ["python", pytest.param("c", marks=pytest.mark.c_core)])
@pytest.mark.parametrize("filtered", [False, True])
def test_fields_may_have_names_that_an_emitter_has_a_use_for(
    core: str, filtered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOBS_CORE", core)
    payload = NamedAsTheInside(1, 2, 3, 4, "five", 6, 7, 8, 9)
    hide = ["NamedAsTheInside:nothing"] if filtered else []
    with Collector(size=64, hide=hide) as collector:
        collector.emit(payload, pid=4242, severity=Severity.ERROR)
        collector.emitter(NamedAsTheInside)(1, 2, 3, 4, "five", 6, 7, 8, 9, pid=4242)
        scope = collector.emit_begin(payload, pid=4242)
        collector.emit_end(scope, payload, pid=4242)
        events = collector.snapshot()
    assert [(event.payload, event.pid) for event in events] == [(payload, 4242)] * 4
    assert events[0].severity is Severity.ERROR
    assert events[1].severity is Severity.INFO
    assert events[1].parent == 0


@pytest.mark.parametrize("cls", ALL_TYPES, ids=lambda cls: cls.__name__)
def test_a_layout_fits_its_slot_and_has_no_holes(cls: type[PayloadType]) -> None:
    schema = cls.__kobs_schema__
    assert schema.size == calcsize("=" + schema.format) <= 128
    end = 0
    for field in schema.fields:
        assert field.offset == end
        end += field.size
    assert end == schema.size


def test_type_ids_are_unique() -> None:
    ids = [cls.__kobs_schema__.type_id for cls in registered_types().values()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: kobs.SyscallExit("read", "long", kobs.SyscallResult.SUCCESS),
            FieldTypeError,
            "SyscallExit.duration_us = 'long': expected a number, got str",
        ),
        (
            lambda: kobs.ProcessCreated("sh", 300),
            FieldError,
            "ProcessCreated.priority = 300: out of range, allowed is 0 to 255",
        ),
        (
            lambda: kobs.ProcessCreated("sh", -1),
            FieldError,
            "ProcessCreated.priority = -1: out of range, allowed is 0 to 255",
        ),
        (
            lambda: kobs.ProcessCreated(name="sh", prio=3),
            FieldError,
            "ProcessCreated has no field 'prio'; its fields are name, priority",
        ),
        (lambda: kobs.ProcessCreated(), FieldError, "ProcessCreated needs 'name'"),
        (
            lambda: kobs.ProcessTerminated(1, 2),
            FieldError,
            "ProcessTerminated takes 1 fields (exit_code); got 2 values",
        ),
        (
            lambda: kobs.SyscallExit("read", 1, True),
            FieldTypeError,
            "SyscallExit.result = True: expected SyscallResult.SUCCESS or SyscallResult.ERROR",
        ),
        (
            lambda: kobs.MessageSent(2**63, 1),
            FieldError,
            "MessageSent.queue_id = 9223372036854775808: out of range",
        ),
        (
            lambda: JobQueued("j", Colour.RED, urgent=1),
            FieldTypeError,
            "JobQueued.urgent = 1: expected a bool, got int",
        ),
        (
            lambda: JobQueued("j", Colour.RED, labels=[1]),
            FieldTypeError,
            "JobQueued.labels = [1]: expected a mapping with str keys, got list",
        ),
    ],
)
def test_a_bad_value_is_refused_by_type_field_value_and_range(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("read", "x", kobs.SyscallResult.SUCCESS), "SyscallExit.duration_us = 'x'"),
        ((5, 1, kobs.SyscallResult.SUCCESS), "SyscallExit.name = 5: expected a str, got int"),
        (("read", 1, True), "SyscallExit.result = True"),
        (("read", 1, kobs.SyscallResult.ERROR, 2**40), "out of range, allowed is -2147483648 to"),
    ],
)
def test_an_emitter_refuses_what_the_constructor_refuses(
    fields: tuple[Any, ...], message: str
) -> None:
    with Collector(size=16) as collector:
        emit = collector.emitter(kobs.SyscallExit)
        with pytest.raises(FieldError) as caught:
            emit(*fields)
        assert message in str(caught.value)
        assert emit("read", 1, kobs.SyscallResult.SUCCESS)
        assert len(collector.snapshot()) == 1
        assert collector.stream_stats().events_dropped == 0


@given(st.text(max_size=200))
def test_text_that_does_not_fit_is_cut_on_a_character_boundary_and_flagged(text: str) -> None:
    whole = text.encode("utf-8", "surrogateescape") if _encodes(text) else None
    with Collector(size=16) as collector:
        collector.emit(kobs.SecurityViolation(text))
        collector.emit(kobs.FileChanged(text, "created"))
        head, tail = (
            collector.snapshot()[::-1]
            if False
            else sorted(collector.snapshot(), key=lambda e: e.type_name, reverse=True)
        )
    if whole is not None:
        assert text.startswith(head.payload.description)
        assert text.endswith(tail.payload.path)
        assert head.truncated == (len(whole) > 120)
        assert tail.truncated == (len(whole) > 100)
    assert head.payload.description or not text


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def test_a_mapping_that_does_not_fit_keeps_whole_entries_and_is_flagged() -> None:
    with Collector(size=16) as collector:
        collector.emit(JobQueued("j", Colour.RED, labels={"a": "x" * 90, "b": 2}))
        (event,) = collector.snapshot()
    assert event.payload.labels == {"b": 2}
    assert event.truncated


def test_a_schema_record_makes_the_type_again_elsewhere() -> None:
    record = JobQueued.__kobs_schema__.to_record().replace(b"JobQueued", b"JobOfAnother")
    schema = schema_from_record(2000, record)
    assert schema.cls is not JobQueued
    assert schema.format == JobQueued.__kobs_schema__.format
    assert schema.severity is Severity.WARN
    assert schema.cls.__name__ == "JobOfAnother"
    assert schema.field_names == JobQueued.__kobs_schema__.field_names


def test_a_record_of_a_known_type_gives_the_known_class() -> None:
    schema = JobQueued.__kobs_schema__
    assert schema_from_record(schema.type_id, schema.to_record()).cls is JobQueued


@pytest.mark.parametrize(
    "record",
    [b"", b"{", b"[]", b'{"name": 3}', b'{"name":"X","fields":7}', b"[" * 50_000],
    ids=lambda record: record[:10],
)
def test_a_record_that_makes_no_sense_is_refused(record: bytes) -> None:
    with pytest.raises(SchemaError, match="payload type 9"):
        schema_from_record(9, record)


def described(**field: object) -> bytes:
    """A record of a type with one field."""
    made = {"name": "Other", "category": "IPC", "severity": "INFO", "fields": [field]}
    return json.dumps(made).encode()


def test_a_record_with_one_field_makes_sense() -> None:
    schema = schema_from_record(9, described(name="size", kind="u64"))
    assert schema.decode(bytes([7, *[0] * 7]), str).to_dict() == {"size": 7}


@pytest.mark.parametrize(
    "name", ["__init__", "__dict__", "__class__", "__slots__", "_x", "to_dict", "like", "class",
             "a b", "", "x=print()"]
)  # fmt: skip
def test_a_field_of_a_record_cannot_replace_what_a_payload_has(name: str) -> None:
    with pytest.raises(SchemaError, match="payload type 9"):
        schema_from_record(9, described(name=name, kind="u64"))


@pytest.mark.parametrize("size", [float("inf"), float("nan"), -1, 1 << 70, "x", None, []])
def test_a_record_with_an_impossible_size_is_refused(size: object) -> None:
    with pytest.raises(SchemaError, match="payload type 9"):
        schema_from_record(9, described(name="text", kind="text", bytes=size, keep="head"))


def test_a_payload_is_an_immutable_value() -> None:
    payload = JobQueued("j", Colour.GREEN)
    assert payload == JobQueued(job="j", colour=Colour.GREEN)
    assert payload != JobQueued("k", Colour.GREEN)
    assert hash(payload) == hash(JobQueued("j", Colour.GREEN))
    assert pickle.loads(pickle.dumps(payload)) == payload
    with pytest.raises(AttributeError, match="read-only"):
        payload.job = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="read-only"):
        del payload.job
    assert repr(payload).startswith("JobQueued(job='j', colour=Colour.GREEN, size=0")


def test_a_default_mapping_is_not_shared() -> None:
    first = JobQueued("j", Colour.RED)
    first.labels["a"] = 1  # type: ignore[index]
    assert JobQueued("j", Colour.RED).labels == {}


def test_the_signature_is_the_declaration() -> None:
    assert str(inspect.signature(kobs.SyscallExit)) == "(name, duration_us, result, errno=0)"


def test_a_declaration_that_does_not_fit_says_how_large_it_is() -> None:
    with pytest.raises(SchemaError, match=r"TooLarge takes 200 bytes \(a 100, b 100\)"):

        @event_type(category=Category.IPC)
        class TooLarge(PayloadType):
            a: Annotated[str, Text(99)]
            b: Annotated[str, Text(99)]


def test_a_field_type_that_cannot_be_laid_out_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"Bad\.x: .*list.* cannot be laid out"):

        @event_type(category=Category.IPC)
        class Bad(PayloadType):
            x: list[int]


def test_a_type_inherits_the_fields_of_its_base() -> None:
    @event_type(category=Category.IPC)
    class UrgentJobQueued(JobQueued):
        level: U8 = 1

    assert UrgentJobQueued.__kobs_schema__.field_names[-1] == "level"
    assert UrgentJobQueued("j", Colour.RED, level=3).level == 3


def test_a_name_is_taken_once() -> None:
    with pytest.raises(SchemaError, match=r"SyscallExit.*declared already, in kobs\.payloads"):

        @event_type(category=Category.IPC, name="SyscallExit")
        class Mine(PayloadType):
            x: int


def test_a_plain_class_becomes_a_payload_type() -> None:
    @event_type(category=Category.IPC)
    class Plain:
        x: int

    assert issubclass(Plain, PayloadType)
    assert Plain(x=3).x == 3  # type: ignore[call-arg]
