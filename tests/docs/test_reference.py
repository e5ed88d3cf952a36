"""The reference pages say what the declarations say."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools import reference  # noqa: E402

PAGES = reference.pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_is_what_the_declaration_makes(name: str) -> None:
    page = reference.FOLDER / name
    assert page.exists(), "run `make docs`"
    assert page.read_text() == PAGES[name], "run `make docs`"


def test_no_page_is_left_of_a_type_that_is_gone() -> None:
    assert {page.name for page in reference.FOLDER.glob("*.md")} == set(PAGES)
