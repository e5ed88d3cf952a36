"""What a span says of itself: attributes that keep their types, however long."""

import pytest

from kobs import Collector
from kobs.tracing import (
    span_operation,
)
from kobs.tracing.records import INCOMPLETE, MAX_VALUE, OVERFLOW, join_attributes

from .conftest import attributes_of, ended, named


class TestAttributes:
    VALUES = {
        "text": "é\n\"", "int": 7, "float": 1.0, "bool": True, "none": None,
        "list": [1, 2.5, "x"], "bytes": b"\x00\xff", "nested": {"a": [True]},
        "negative": -(1 << 62), "big": 1 << 70,
    }  # fmt: skip

    @pytest.mark.parametrize("key", VALUES)
    def test_types_are_kept(self, collector: Collector, key: str) -> None:
        with span_operation("load") as span:
            span.record(key, self.VALUES[key])
        value = attributes_of(collector, ended(collector))[key]
        assert value == self.VALUES[key]
        assert type(value) is type(self.VALUES[key])

    def test_all_of_them_are_kept_though_they_do_not_fit(self, collector: Collector) -> None:
        with span_operation("load") as span:
            for key, value in self.VALUES.items():
                span.record(key, value)
            span.record("long", "x" * 5000)
        end = ended(collector)
        assert end.payload.attributes[OVERFLOW] == len(named(collector, "SpanAttributes"))
        assert attributes_of(collector, end) == {**self.VALUES, "long": "x" * 5000}

    @pytest.mark.parametrize("size", [*range(60, 125), 1000])
    def test_no_length_is_cut(self, collector: Collector, size: int) -> None:
        with span_operation("load") as span:
            span.record("a", "y" * size).record("b.c", 1)
        assert attributes_of(collector, ended(collector)) == {"a": "y" * size, "b.c": 1}
        assert not ended(collector).truncated

    @pytest.mark.parametrize(
        "text", ['"' * 40, "\x00" * 16, "é" * 17, "\U0001f600" * 8, "a b" * 30]
    )
    def test_text_that_grows_when_it_is_written_is_kept(
        self, collector: Collector, text: str
    ) -> None:
        with span_operation("load") as span:
            span.record("k", text).record(text, 1)
        assert attributes_of(collector, ended(collector)) == {"k": text, text: 1}

    def test_a_lost_record_is_noticed(self, collector: Collector) -> None:
        with span_operation("load") as span:
            span.record("short", 1).record("long", "x" * 500)
        end = ended(collector)
        some = [(e.payload.index, e.payload.data) for e in named(collector, "SpanAttributes")][1:]
        assert join_attributes(end.payload.attributes, some) == {"short": 1, INCOMPLETE: True}

    def test_a_value_of_more_than_64_kilobytes_is_cut_and_counted(
        self, collector: Collector
    ) -> None:
        with span_operation("load") as span:
            span.record("long", "x" * (MAX_VALUE + 1))
        kept = attributes_of(collector, ended(collector))
        assert kept == {"long": "x" * MAX_VALUE, "kobs.attributes.cut": 1}

    @pytest.mark.parametrize(
        ("value", "kept"),
        [
            (b"x" * MAX_VALUE, b"x" * (MAX_VALUE // 4 * 3)),
            (["y" * 60_000, "z" * 60_000], ["y" * 60_000]),
            ({"a": "y" * 60_000, "b": "z" * 60_000}, {"a": "y" * 60_000}),
        ],
    )
    def test_so_is_one_that_is_no_text(
        self, collector: Collector, value: object, kept: object
    ) -> None:
        with span_operation("load") as span:
            span.record("long", value)
        known = attributes_of(collector, ended(collector))
        assert known == {"long": kept, "kobs.attributes.cut": 1}

    def test_the_last_value_of_a_key_stays(self, collector: Collector) -> None:
        with span_operation("load") as span:
            span.record("k", 1).record("k", 2)
        assert ended(collector).payload.attributes == {"k": 2}

    def test_a_recorded_list_is_a_copy(self, collector: Collector) -> None:
        rows = [1]
        with span_operation("load") as span:
            span.record("rows", rows)
            rows.append(2)
        assert ended(collector).payload.attributes == {"rows": [1]}

    def test_a_value_without_text_breaks_nothing(self, collector: Collector) -> None:
        class Broken:
            def __str__(self) -> str:
                raise ValueError

        with span_operation("load") as span:
            span.record("k", Broken())
        assert "Broken" in str(ended(collector).payload.attributes["k"])

    def test_a_list_that_holds_itself_breaks_nothing(self, collector: Collector) -> None:
        rows: list[object] = []
        rows.append(rows)
        with span_operation("load") as span:
            span.record("rows", rows)
        assert "rows" in attributes_of(collector, ended(collector))

    def test_what_is_recorded_after_the_end_is_ignored(self, collector: Collector) -> None:
        with span_operation("load") as span:
            pass
        span.record("late", 1).record_error("late")
        assert ended(collector).payload.attributes == {}
        assert span.status == "unset"

    def test_the_named_ones(self, collector: Collector) -> None:
        with span_operation("load") as span:
            span.record_return(3).record_args_count(2).record_items_processed(9)
        assert attributes_of(collector, ended(collector)) == {
            "kobs.return": 3, "kobs.args_count": 2, "kobs.items_processed": 9,
        }  # fmt: skip
