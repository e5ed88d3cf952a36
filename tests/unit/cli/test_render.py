"""How results look, in a terminal and elsewhere."""

import io
import os
import sys

import pytest

from kobs.cli import figures, render
from kobs.cli.figures import Durations
from kobs.cli.render import Cell, Column, PlainScreen, Tree


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class TestWhichScreen:
    def test_rich_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")
        assert type(render.screen(Terminal())).__name__ == "RichScreen"

    def test_plain_elsewhere(self) -> None:
        assert isinstance(render.screen(io.StringIO()), PlainScreen)

    def test_plain_where_rich_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")
        for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, "kobs.cli.rich_screen", raising=False)
        assert isinstance(render.screen(Terminal()), PlainScreen)

    def test_plain_when_asked_for_or_dumb(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "dumb")
        assert isinstance(render.screen(Terminal()), PlainScreen)
        monkeypatch.setenv("TERM", "xterm")
        assert isinstance(render.screen(Terminal(), plain=True), PlainScreen)


def both() -> list[tuple[io.StringIO, render.Screen]]:
    """The two kinds of screen, 60 columns wide."""
    from kobs.cli.rich_screen import RichScreen

    plain, rich = io.StringIO(), Terminal()
    return [(plain, PlainScreen(plain)), (rich, RichScreen(rich))]


@pytest.fixture(autouse=True)
def _sixty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")


def written(file: io.StringIO) -> list[str]:
    """What was written, without the terminal's codes for bold and dim."""
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).rstrip("\n").split("\n")


class TestBothScreens:
    def test_tables_are_as_wide_as_the_screen_at_most(self) -> None:
        for file, screen in both():
            columns = [Column("name", stretch=True), Column("n", right=True)]
            screen.table(columns, [["x" * 100, "1"], ["short", "1,000"]])
            lines = written(file)
            assert max(map(len, lines)) <= 60
            assert "…" in lines[1]
            assert lines[2].split() == ["short", "1,000"]

    def test_numbers_are_never_cut(self) -> None:
        for file, screen in both():
            columns = [Column("name", stretch=True), *(Column("n", right=True),) * 3]
            screen.table(columns, [["x" * 100, *(["1234567890"] * 3)]])
            assert written(file)[1].count("1234567890") == 3

    def test_trees(self) -> None:
        for file, screen in both():
            leaf = Tree((Cell("leaf", "bold"),), [])
            screen.tree([Tree((Cell("root"),), [Tree((Cell("a"),), [leaf]), leaf])])
            words = [line.strip("├─└│ ") for line in written(file)]
            assert words == ["root", "a", "leaf", "leaf"]
            assert written(file)[0].rstrip() == "  root"

    def test_control_characters_are_shown(self) -> None:
        for file, screen in both():
            screen.line("a\x1b[31mb\rc\nd", Cell("\x07", "red"))
            screen.alarm("t\x1b", ["e\x1bf"])
            screen.table([Column("x")], [["g\x1bh"]])
            screen.tree([Tree((Cell("i\x1bj"),), [])])
            screen.heading("k", "l")
            text = "\n".join(written(file))
            assert "\x1b" not in text
            assert "\r" not in text
            assert "a\\x1b[31mb\\rc\\nd" in text
            assert "e\\x1bf" in text

    def test_markup_of_rich_is_text(self) -> None:
        for file, screen in both():
            screen.line("[red]not red[/red] :smile:")
            assert written(file) == ["[red]not red[/red] :smile:"]

    def test_alarms_stand_out(self) -> None:
        for file, screen in both():
            screen.alarm("lost", ["3 events", "why"])
            assert written(file)[0].startswith(("!! lost", "┏"))
            assert any("3 events" in line for line in written(file))


def test_a_table_without_names_has_no_heading_line() -> None:
    for file, screen in both():
        screen.table([Column(""), Column("")], [["a", "b"]])
        assert [line.split() for line in written(file)] == [["a", "b"]]


def test_lone_surrogates_are_escaped() -> None:
    file = io.StringIO()
    PlainScreen(file).line("caf\u00e9 \udcff")
    assert file.getvalue() == "café \\udcff\n"


def test_width_is_80_where_nothing_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    assert PlainScreen(io.StringIO()).width == 80
    monkeypatch.setenv("COLUMNS", "wide")
    assert PlainScreen(io.StringIO()).width == 80


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("abcdef", 6, "abcdef"),
        ("/a/long/path/to/file", 13, "/a/long/…file"),
        ("abcdefghij", 5, "abcd…"),
    ],
)
def test_text_is_cut_in_the_middle(text: str, width: int, short: str) -> None:
    assert render.shorten(text, width) == short


def test_sentences_are_cut_at_their_end() -> None:
    assert render.shorten("one two three four", 10, end=True) == "one two t…"


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0 ns"),
        (0.25, "250 ns"),
        (0.9996, "1.00 µs"),
        (1.5, "1.50 µs"),
        (999.4, "999 µs"),
        (999.6, "1.00 ms"),
        (12_345, "12.3 ms"),
        (2_345_678, "2.35 s"),
        (123e6, "2 min 3 s"),
        (3.7e9, "1 h 1 min"),
        (float("nan"), "nan"),
    ],
)
def test_durations_have_three_digits_and_a_unit(us: float, text: str) -> None:
    assert figures.duration(us) == text


def test_sizes_and_counts() -> None:
    assert [figures.size(n) for n in (12, 2048, 5 << 20, 3 << 40)] == [
        "12 B", "2.00 KiB", "5.00 MiB", "3.00 TiB",
    ]  # fmt: skip
    assert figures.count(1, "event") == "1 event"
    assert figures.count(1200, "process", "processes") == "1,200 processes"


def test_many_durations_cost_bounded_memory_and_keep_their_shape() -> None:
    durations = Durations()
    for number in range(200_000):
        durations.add(float(number))
    assert durations.count == 200_000
    assert durations.most == 199_999
    assert len(durations._values) <= 65_536
    p50, p99 = durations.percentiles(50, 99)
    assert abs(p50 - 100_000) < 1000
    assert abs(p99 - 198_000) < 1000
    assert os.environ["COLUMNS"] == "60"
