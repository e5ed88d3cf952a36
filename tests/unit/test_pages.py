"""Pages that stand alone: what is shown is text, and events are laid out as they happened."""

import json

import pytest

from kobs import Category, Event, ProcessCreated, Severity, SyscallExit, SyscallResult
from kobs._pages import document as pages, trace
from kobs.export.excerpt import Excerpt
from kobs.session import Session


class TestText:
    @pytest.mark.parametrize(
        ("given", "shown"),
        [
            ("<b> & \"'", "&lt;b&gt; &amp; &quot;&#x27;"),
            ("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07", "red link"),
            ("a\x00b\x7f\r\n", "a␀b␡\n"),
            ("\u202egnp.exe\u2069\x9b", "\ufffdgnp.exe\ufffd\ufffd"),
            (12, "12"),
        ],
    )
    def test_any_text_is_only_text(self, given, shown):
        assert pages.text(given) == shown

    def test_markup_stays_what_it_is(self):
        made = pages.element("p", "a < b", pages.element("b", "c"), class_='x"y', id=None)
        assert made == '<p class="x&quot;y">a &lt; b<b>c</b></p>'
        assert pages.text(made) is made

    def test_data_cannot_end_its_script(self):
        given = {"</script>": ["<!--", "\u2028", "\ud800", float("inf"), 1 << 60]}
        made = pages.script_json(given)
        assert "<" not in made
        assert made.isascii()
        assert json.loads(made) == {"</script>": ["<!--", "\u2028", "\ud800", "Infinity", 1 << 60]}

    def test_a_page_names_its_own_script_and_style(self):
        made = pages.document("\ud800", "x", styles=("trace.css",), scripts=("report.js",))
        assert made.startswith(b"<!DOCTYPE html>")
        assert b"<title>\\ud800</title>" in made
        assert made.count(b"sha256-") == 2
        without = pages.document("x", styles=())
        assert b"script-src 'none'" in without
        assert b"<script" not in without


def slices(tmp_path, *spans):
    """Rows of (start, end) microseconds, as one thread's calls, in the order of their ends."""
    events = []
    for number, (start, end) in enumerate(sorted(spans, key=lambda span: span[1])):
        payload = SyscallExit(f"{start}", end - start, SyscallResult.SUCCESS)
        event = Event(Severity.INFO, Category.SYSCALL, payload, pid=1, tid=1,
                      timestamp_ns=1_000_000 + end * 1000)  # fmt: skip
        object.__setattr__(event, "id", number + 1)
        events.append(event)
    session = Session.create("x", [], root=tmp_path)
    made = trace.layout(Excerpt(session, events), events, start_ns=1_000_000, numbers={}, about=())
    names = [made["texts"][number] for number in made["columns"]["name"]]
    return dict(zip(names, made["columns"]["row"], strict=True)), made


class TestLayout:
    def test_what_encloses_others_comes_above_them(self, tmp_path):
        rows, _ = slices(tmp_path, (0, 100), (10, 40), (20, 30), (50, 60), (200, 300))
        assert rows == {"0": 1, "10": 2, "20": 3, "50": 2, "200": 1}

    def test_what_crosses_gets_a_row_of_its_own(self, tmp_path):
        rows, _ = slices(tmp_path, (0, 50), (40, 90))
        assert rows == {"0": 1, "40": 2}

    def test_times_and_durations_are_microseconds(self, tmp_path):
        _, made = slices(tmp_path, (3, 5))
        assert made["columns"]["time"] == [5.0]
        assert made["columns"]["duration"] == [2.0]

    def test_integers_that_a_browser_would_round_are_text(self):
        fields = {"big": 1 << 60, "small": 7, "negative": -(1 << 60)}
        assert trace._exact(fields) == {
            "big": str(1 << 60), "small": 7, "negative": str(-(1 << 60)),
        }  # fmt: skip


def test_of_too_many_events_the_telling_ones_are_chosen(monkeypatch):
    monkeypatch.setattr(trace, "MOST_EVENTS", 40)
    events = []
    for number in range(1, 1001):
        severity = Severity.ERROR if number == 500 else Severity.INFO
        event = Event(severity, Category.PROCESS, ProcessCreated("x", 1), timestamp_ns=number,
                      parent=290 if number == 300 else 0)  # fmt: skip
        object.__setattr__(event, "id", number)
        events.append(event)
    kept = [event.id for event in trace.chosen(events, {300})]
    assert len(kept) == 40
    assert kept[:10] == list(range(1, 11))
    assert {290, 300, 500} <= set(kept)
    assert kept[-27:] == list(range(974, 1001))
    assert trace.chosen(events[:40], ()) == events[:40]
