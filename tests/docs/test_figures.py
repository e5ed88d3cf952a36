"""The page of figures says what the result that lies in the repository says."""

import json

from benchmarks.rows import ROWS, WATCHED_ROWS
from kobs_instrumentation.subsystems import WATCHED
from tools import figures

RESULT = json.loads(figures.RESULT.read_text())


def test_the_page_is_what_the_result_makes() -> None:
    assert figures.PAGE.read_text() == figures.page(RESULT), "run `make docs`"


def test_each_subsystem_s_page_says_what_it_costs_in_that_run() -> None:
    pages = figures.subsystem_pages(RESULT)
    assert {path.stem for path in pages} == set(WATCHED)
    for path, text in pages.items():
        assert path.read_text() == text, "run `make docs`"
        assert text.count("| ") > 4, "nothing was measured of it"


def test_the_result_has_every_operation_that_is_watched() -> None:
    for core in RESULT["cores"]:
        assert [row["what"] for row in RESULT["watches"][core]] == [r.what for r in WATCHED_ROWS]
        silent = [row for row in RESULT["watches"][core] if "kobs" not in row]
        # As the figures: what is new since this run.
        assert {row["absent"] for row in silent} <= {"not measured"}


def test_the_result_has_every_row() -> None:
    assert RESULT["cores"]
    for core in RESULT["cores"]:
        assert [row["key"] for row in RESULT["rows"][core]] == [row.key for row in ROWS]


def test_the_machine_has_no_name_and_no_path() -> None:
    assert not {"host", "node", "user"} & set(RESULT["machine"])
    assert not [value for value in RESULT["machine"].values() if value.startswith("/")]
