"""Links lead somewhere; what can be used is written about, and what is written about is there."""

import argparse
import re
from importlib import import_module
from pathlib import Path

import pytest

import kobs
from kobs import errors
from kobs.cli.main import COMMANDS
from kobs.config import Settings
from kobs.payload_type import PayloadType

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
TEXT = "\n".join(page.read_text() for page in DOCS)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
NAMES = [
    name
    for name in kobs.__all__
    if not (isinstance(found := getattr(kobs, name), type) and issubclass(found, PayloadType))
]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(FENCE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def documented(word: str, text: str = TEXT) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def options_of(command: str) -> set[str]:
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    import_module(f"kobs.cli.{command}").add_parser(subparsers)
    actions = subparsers.choices[command]._actions
    return {o for action in actions for o in action.option_strings if o.startswith("--")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_resolves(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_page_is_linked_from_another(page: Path) -> None:
    linked = {
        (other.parent / link.partition("#")[0]).resolve()
        for other in PAGES
        if other != page
        for link in LINK.findall(other.read_text())
    }
    assert page in linked or page == ROOT / "docs" / "README.md"


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_written_about(name: str) -> None:
    assert documented(name)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_of_a_command_is_in_the_reference(command: str) -> None:
    page = (ROOT / "docs" / "reference" / "command.md").read_text()
    assert f"\n## {command}\n" in page
    missing = {o for o in options_of(command) - {"--help"} if not documented(o, page)}
    assert not missing


def test_every_error_has_a_section() -> None:
    headings = HEADING.findall((ROOT / "docs" / "reference" / "messages.md").read_text())
    sections = {name for heading in headings for name in heading.split(", ")}
    classes = {
        name
        for name, found in vars(errors).items()
        if isinstance(found, type) and issubclass(found, errors.KobsError)
    }
    assert classes - {"KobsError"} <= sections


def test_every_setting_of_the_environment_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    source = (ROOT / "kobs" / "config.py").read_text()
    variables = set(re.findall(r'"((?:KERNEL|KOBS|RUST)_[A-Z_]+)"', source))
    assert len(variables) >= len(Settings._fields)
    assert not {name for name in variables if not documented(name, page)}


def test_every_option_of_the_plugin_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    source = (ROOT / "kobs_pytest" / "plugin.py").read_text()
    declared = set(re.findall(r'"(--[a-z-]+)",', source)) | set(
        re.findall(r'addini\("(\w+)"', source)
    )
    assert declared
    assert not {name for name in declared if not documented(name, page)}


def test_every_marker_and_check_of_the_plugin_is_in_the_reference() -> None:
    from kobs_pytest import Check
    from kobs_pytest.plugin import MARKERS

    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    names = [marker.partition("(")[0] for marker in MARKERS]
    assert names
    assert not {name for name in names if not documented(name, page)}
    page = (ROOT / "docs" / "reference" / "checks.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(Check.__members__)
