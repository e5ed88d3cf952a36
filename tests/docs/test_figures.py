"""The page of figures says what the result that lies in the repository says."""

import json

from benchmarks.rows import ROWS
from tools import figures

RESULT = json.loads(figures.RESULT.read_text())


def test_the_page_is_what_the_result_makes() -> None:
    assert figures.PAGE.read_text() == figures.page(RESULT), "run `make docs`"


def test_the_result_has_every_row() -> None:
    assert RESULT["cores"]
    for core in RESULT["cores"]:
        assert [row["key"] for row in RESULT["rows"][core]] == [row.key for row in ROWS]


def test_the_machine_has_no_name_and_no_path() -> None:
    assert not {"host", "node", "user"} & set(RESULT["machine"])
    assert not [value for value in RESULT["machine"].values() if value.startswith("/")]
