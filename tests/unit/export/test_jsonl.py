"""One JSON object a line, and back again."""

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from kobs.collector import Collector
from kobs.errors import SchemaError
from kobs.events import Event
from kobs.export import jsonl
from kobs.fields import Bool, Enumeration, Float, IdentifierKind, Integer, Json, Name, Text
from kobs.levels import Category, Severity, SyscallResult
from kobs.payloads import MetricUpdate, ProcessCreated, SpanBegan, SpanEnded, SyscallExit
from kobs.recording import open_recording
from kobs.schema import FIRST_USER_TYPE, Field, PayloadType, event_type, registered_types

KEYS = [
    "id", "type", "timestamp_ns", "severity", "category", "pid", "tid", "causality_id", "parent",
    "span_id", "link", "origin", "truncated", "partial", "payload", "scope", "recording", "time",
]  # fmt: skip

BUILT_IN = sorted(
    name
    for name, cls in registered_types().items()
    if cls.__kobs_schema__.type_id < FIRST_USER_TYPE
)


def values(field: Field) -> st.SearchStrategy[Any]:
    """Values that a field takes and keeps whole."""
    kind = field.kind
    if isinstance(kind, Integer):
        return st.integers(kind.minimum, kind.maximum)
    if isinstance(kind, Float):
        return st.floats(allow_nan=False)
    if isinstance(kind, Enumeration):
        return st.sampled_from(list(kind.members))
    if isinstance(kind, IdentifierKind):
        return st.integers(0, (1 << 63) - 1) | st.text(max_size=10)
    if isinstance(kind, Json):
        return st.dictionaries(st.text("abc", max_size=3), st.integers(-9, 9), max_size=2)
    if kind.name == "bool":
        return st.booleans()
    return st.text(max_size=10)


def exported(path: object) -> tuple[list[str], list[Event]]:
    """The lines of a recording's export, and its events."""
    with open_recording(path) as recording:  # type: ignore[arg-type]
        file = io.BytesIO()
        count = jsonl.export_jsonl(recording, file)
        events = recording.snapshot()
    lines = file.getvalue().decode("ascii").splitlines()
    assert count == len(lines) == len(events)
    return lines, events


class TestLines:
    def test_have_the_documented_keys_in_order(self, tmp_path: Path) -> None:
        with Collector(path=tmp_path / "a.kobs", size=64) as collector:
            collector.emit(ProcessCreated(name="sh"), pid=42, causality_id=7, link=9, tid=3)
        [line], [event] = exported(tmp_path / "a.kobs")
        made = json.loads(line)
        assert list(made) == KEYS
        documented = re.findall(
            r"^    (\w+)  +(?:number|string|boolean|object)", jsonl.__doc__, re.M
        )
        assert documented == KEYS
        assert made["payload"] == {"name": "sh", "priority": 0}
        assert (made["pid"], made["tid"], made["causality_id"], made["link"]) == (42, 3, 7, 9)
        assert made["id"] == event.id

    def test_say_the_wall_time_with_nanoseconds(self, tmp_path: Path) -> None:
        from datetime import UTC, datetime

        with Collector(path=tmp_path / "a.kobs", size=64) as collector:
            collector.emit(ProcessCreated(name="sh"))
        [line], _ = exported(tmp_path / "a.kobs")
        text = json.loads(line)["time"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", text)
        age = datetime.now(UTC) - datetime.fromisoformat(text)
        assert 0 <= age.total_seconds() < 60

    def test_say_which_events_open_and_close_a_scope(self, tmp_path: Path) -> None:
        with Collector(path=tmp_path / "a.kobs", size=64) as collector:
            scope = collector.emit_begin(SpanBegan(name="a"))
            collector.emit(ProcessCreated(name="x"))
            collector.emit_end(scope, SpanEnded(name="a", duration_us=1.0))
        lines, _ = exported(tmp_path / "a.kobs")
        made = [json.loads(line) for line in lines]
        assert [one["scope"] for one in made] == ["begin", None, "end"]
        assert made[2]["parent"] == made[0]["id"]

    def test_are_json_for_every_reader_whatever_the_values(self, tmp_path: Path) -> None:
        with Collector(path=tmp_path / "a.kobs", size=64) as collector:
            for value in (math.nan, math.inf, -math.inf):
                collector.emit(MetricUpdate(name="m", value=value, labels={"x": value}))
            collector.emit(ProcessCreated(name="\udcff\n\u2028"))
        lines, _ = exported(tmp_path / "a.kobs")
        made = [json.loads(line, parse_constant=_refuse) for line in lines]
        assert [one["payload"]["value"] for one in made[:3]] == ["NaN", "Infinity", "-Infinity"]
        assert made[3]["payload"]["name"] == "\udcff\n\u2028"

    def test_large_numbers_stay_exact(self, tmp_path: Path) -> None:
        with Collector(path=tmp_path / "a.kobs", size=64) as collector:
            collector.emit(ProcessCreated(name="x"), causality_id=(1 << 64) - 1)
        [line], _ = exported(tmp_path / "a.kobs")
        assert f'"causality_id":{(1 << 64) - 1}' in line


class TestBack:
    @pytest.mark.parametrize("name", BUILT_IN)
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_every_type_comes_back_as_it_was(self, name: str, data: st.DataObject) -> None:
        cls = registered_types()[name]
        schema = cls.__kobs_schema__
        payload = cls(**{field.name: data.draw(values(field)) for field in schema.fields})
        event = Event(
            data.draw(st.sampled_from(Severity)), data.draw(st.sampled_from(Category)), payload,
            pid=5, tid=6, timestamp_ns=7, causality_id=8, parent=9, span_id=10, link=11,
        )  # fmt: skip
        assert list(jsonl.read_jsonl([jsonl.line(event)])) == [event]

    def test_recorded_events_come_back_with_ids_flags_and_origin(self, tmp_path: Path) -> None:
        from kobs.context import origin

        with Collector(path=tmp_path / "a.kobs", size=64) as collector:
            token = origin.set("a test")
            scope = collector.emit_begin(SpanBegan(name="a"), pid=3)
            collector.emit_end(scope, SpanEnded(name="a", duration_us=math.inf), pid=3)
            collector.emit(ProcessCreated(name="long" * 100))
            origin.reset(token)
        lines, events = exported(tmp_path / "a.kobs")
        back = list(jsonl.read_jsonl(lines))
        assert back == events
        assert [event.flags for event in back] == [event.flags for event in events]
        assert back[0].origin == "a test"
        assert back[2].truncated

    def test_a_users_own_type_comes_back(self, tmp_path: Path) -> None:
        @event_type(category=Category.IPC)
        class CacheMissed(PayloadType):
            """A key was not there."""

            key: Name
            hit: Bool = False
            note: str = ""

        with Collector(path=tmp_path / "a.kobs", size=64) as collector:
            collector.emit(CacheMissed(key="k", hit=True))
        lines, events = exported(tmp_path / "a.kobs")
        assert list(jsonl.read_jsonl(lines)) == events

    def test_nan_comes_back(self) -> None:
        event = Event(Severity.INFO, Category.IPC, MetricUpdate(name="m", value=math.nan))
        [back] = jsonl.read_jsonl([jsonl.line(event)])
        assert math.isnan(back.payload.value)

    def test_empty_lines_are_passed_over(self) -> None:
        assert list(jsonl.read_jsonl(["", "\n", b"  \n"])) == []

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "line 1 is no JSON"),
            ("[1]", "line 1 is no exported event"),
            ('{"type": "Nonsense"}', "'Nonsense' is not declared here"),
            ('{"type": "ProcessCreated"}', "line 1 is no exported event"),
            (
                '{"type": "ProcessCreated", "payload": {"name": 1, "priority": 2}}',
                "ProcessCreated.name",
            ),
        ],
    )
    def test_what_is_no_event_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(SchemaError, match=re.escape(message)):
            list(jsonl.read_jsonl([text]))


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_enumerations_are_names() -> None:
    payload = SyscallExit(name="r", duration_us=1, result=SyscallResult.ERROR, errno=5)
    made = json.loads(jsonl.line(Event(Severity.INFO, Category.SYSCALL, payload)))
    assert made["payload"]["result"] == "ERROR"


def test_text_kinds_are_covered_by_the_values_above() -> None:
    kinds = {
        type(field.kind)
        for name in BUILT_IN
        for field in registered_types()[name].__kobs_schema__.fields
    }
    assert {Integer, Float, Enumeration, IdentifierKind, Json, Text} <= kinds
