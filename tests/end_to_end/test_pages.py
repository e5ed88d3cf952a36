"""The pages that a test run leaves, in a real browser, from `file:` and without a network."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .browser import NAMES, Browser, find_browser

pytestmark = pytest.mark.e2e

TESTS = """
import queue, subprocess, sys, threading
import pytest
from kobs import FileOpened, ProcessCreated, span_operation

LEAF = "import sys; open(sys.argv[1], 'w')"
CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True)"

def test_chain(kobs, tmp_path):
    waiting = queue.Queue()
    def work():
        waiting.get()
        with span_operation("settle"):
            made = [sys.executable, "-c", CHILD, LEAF, str(tmp_path / "b")]
            subprocess.run(made, check=True)
    with span_operation("pay"):
        thread = threading.Thread(target=work)
        thread.start()
        waiting.put("order 1")
        thread.join()
    appended = FileOpened.like(path=str(tmp_path / "b"), mode="a")
    assert ProcessCreated.like() >> appended in kobs.events

@pytest.mark.parametrize("name", ["</script><script>window.hacked = 1</script>"])
def test_hostile(kobs, name):
    print(name, "<img src=x onerror='window.hacked = 1'>")
    with span_operation(name + "\\u2028'\\"<!--"):
        assert False, name

def test_many(kobs):
    for number in range(25_000):
        kobs.collector.emit(ProcessCreated(name=f"p{number}", priority=1), pid=1)
    assert False

@pytest.mark.parametrize("n", range(60))
def test_small(n):
    with span_operation("price"):
        assert n % 20, f"order {n} was not paid"
"""


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has left its pages."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "test_shop.py").write_text(TESTS)
    hidden = ("PYTEST_", "KOBS_", "GITHUB_", "GITLAB_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "--kobs-artifacts=left", "--kobs-report=run.html"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert "6 failed, 57 passed" in done.stdout, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip(f"no browser: install one of {', '.join(NAMES)}, or set KOBS_E2E_BROWSER")
    made = Browser(program, tmp_path_factory.mktemp("browser"))
    try:
        yield made
    finally:
        made.close()


def page(left: Path, name: str) -> Path:
    (found,) = left.glob(f"left/*{name}*/index.html")
    return found


CONTRAST = """
(() => {
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    probe.fillStyle = style.getPropertyValue(name).trim();
    probe.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3)
      .map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return PAIRS.map(([over, under]) => {
    const [a, b] = [light(over), light(under)].sort((x, y) => y - x);
    return [over, under, (a + 0.05) / (b + 0.05)];
  });
})()
"""
PAIRS = [
    *([over, under] for over in ("--ink", "--quiet", "--link", "--failed", "--inconclusive",
                                 "--passed", "--skipped") for under in ("--ground", "--raised")),
    ["--ink", "--mark"], ["--ink", "--failed-ground"], ["--ink", "--inconclusive-ground"],
    ["--failed", "--mark"], ["--inconclusive", "--mark"],
]  # fmt: skip


class TestTrace:
    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    @pytest.mark.parametrize("width", [1280, 480])
    def test_it_shows_without_complaint_or_network(
        self, browser: Browser, left: Path, tmp_path: Path, width: int, dark: bool
    ) -> None:
        browser.open(page(left, "chain"), width=width, dark=dark)
        assert browser.complaints() == []
        assert browser.requests() == [page(left, "chain").as_uri()]
        assert browser.run("document.documentElement.scrollWidth") <= width
        colours = browser.run(
            "new Set(new Uint32Array(document.getElementById('timeline').getContext('2d')"
            ".getImageData(0, 0, 400, 120).data.buffer)).size"
        )
        assert colours > 5
        assert len(browser.screenshot(tmp_path / "page.png")) > 20_000
        for over, under, ratio in browser.run(CONTRAST.replace("PAIRS", str(PAIRS))):
            assert ratio >= 4.5, f"{over} on {under}"

    def test_it_begins_with_what_the_failure_speaks_of(self, browser: Browser, left: Path) -> None:
        browser.open(page(left, "chain"))
        assert browser.run("document.querySelector('#detail h3').textContent").endswith(
            "FileOpened"
        )
        summary = browser.run("document.getElementById('chain-summary').textContent")
        assert "of 3 processes" in summary
        nodes = browser.run(
            "[...document.querySelectorAll('#graph .node')]"
            ".map((node) => node.getAttribute('aria-label'))"
        )
        assert any("SpanBegan settle" in label for label in nodes)
        assert "FileOpened" in nodes[-1]
        assert browser.run("document.querySelectorAll('#graph .edge.link').length") >= 1

    def test_keys_select_in_the_table_and_the_timeline(self, browser: Browser, left: Path) -> None:
        browser.open(page(left, "chain"))
        browser.run("document.getElementById('rows').focus()")
        browser.press("Home")
        assert browser.run("selected") == 0
        browser.press("ArrowDown")
        assert browser.run("selected") == 1
        browser.press("End")
        assert browser.run("selected") == browser.run("total") - 1
        browser.run("document.getElementById('timeline').focus()")
        browser.press("ArrowLeft")
        assert browser.run("selected") == browser.run("total") - 2
        assert browser.run("document.getElementById('live').textContent").startswith("selected #")
        browser.press("+")
        assert browser.complaints() == []

    def test_the_failures_numbers_and_the_chain_select(self, browser: Browser, left: Path) -> None:
        browser.open(page(left, "chain"))
        number = browser.run(
            "(() => { const a = document.querySelector('a[data-number]'); a.click();"
            " return Number(a.dataset.number); })()"
        )
        assert browser.run("columns.number[selected]") == number
        browser.run("document.querySelector('#graph .node').focus()")
        browser.press("Enter")
        assert browser.run("nameOf(selected)") == "pay"
        assert browser.run("document.activeElement.getAttribute('aria-current')") == "true"

    def test_the_table_is_filtered(self, browser: Browser, left: Path) -> None:
        browser.open(page(left, "chain"))
        types = (
            "[...document.querySelectorAll('#rows tr.event')].map((r) => r.cells[2].textContent)"
        )

        def set_(control: str, value: str) -> None:
            browser.run(
                f"(() => {{ const c = document.getElementById('{control}'); c.value = '{value}';"
                " c.dispatchEvent(new Event('input')); })()"
            )

        set_("search", "span settle")
        assert set(browser.run(types)) >= {"SpanBegan", "SpanEnded"}
        assert "FileOpened" not in browser.run(types)
        assert " of " in browser.run("document.getElementById('shown').textContent")
        set_("search", "no such thing")
        assert (
            browser.run("document.querySelector('#rows tbody').textContent") == "no event matches"
        )
        set_("search", "")
        set_("phase", "setup")
        assert browser.run("document.querySelectorAll('#rows tr.event').length") < browser.run(
            "total"
        )

    def test_what_a_test_printed_does_nothing(self, browser: Browser, left: Path) -> None:
        browser.open(page(left, "hostile"))
        assert browser.complaints() == []
        assert browser.run("window.hacked") is None
        assert browser.run("document.scripts.length") == 1
        assert browser.run("document.images.length") == 0
        assert "window.hacked = 1</script>" in browser.run("document.body.textContent")
        # And if something had got through, the page's policy would stop it.
        browser.run(
            "(() => { const s = document.createElement('script'); s.textContent = "
            "'window.hacked = 2'; document.body.append(s); })()"
        )
        browser.run("fetch('https://example.org/').catch(() => 0)")
        assert browser.run("window.hacked") is None
        assert any("Content Security Policy" in text for text in browser.complaints())

    def test_many_events_stay_usable(self, browser: Browser, left: Path) -> None:
        browser.open(page(left, "many"))
        assert browser.run("total") == 20_000
        assert browser.run("document.querySelectorAll('#rows tr.event').length") < 100
        browser.run("document.getElementById('rows').focus()")
        browser.press("End")
        assert (
            browser.run("document.querySelector('#rows [aria-selected=true]').textContent").find(
                "p24999"
            )
            > 0
        )
        assert browser.complaints() == []


class TestReport:
    @pytest.mark.parametrize("width", [1280, 480])
    def test_it_shows_without_complaint_or_network(
        self, browser: Browser, left: Path, tmp_path: Path, width: int
    ) -> None:
        browser.open(left / "run.html", width=width)
        assert browser.complaints() == []
        assert browser.requests() == [(left / "run.html").as_uri()]
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert len(browser.screenshot(tmp_path / "page.png")) > 20_000

    def test_it_is_sorted_and_filtered(self, browser: Browser, left: Path) -> None:
        browser.open(left / "run.html")
        first = "document.querySelector('#busiest tbody tr').cells[0].textContent"
        assert "test_many" in browser.run(first)
        events = "document.querySelectorAll('#busiest th button')[1]"
        browser.run(f"{events}.click()")
        browser.run(f"{events}.click()")
        assert "test_many" not in browser.run(first)
        assert browser.run(f"{events}.closest('th').getAttribute('aria-sort')") == "ascending"
        browser.run(
            "(() => { const f = document.getElementById('filter'); f.value = 'failed small';"
            " f.dispatchEvent(new Event('input')); })()"
        )
        assert browser.run("document.getElementById('shown').textContent") == "3 of 63 tests"

    def test_its_links_lead_to_the_pages_of_tests(self, browser: Browser, left: Path) -> None:
        browser.open(left / "run.html")
        links = browser.run("[...document.querySelectorAll('#failing a')].map((a) => a.href)")
        assert len(links) == 6
        for link in links:
            browser.open(Path(link.removeprefix("file://").replace("%2F", "/")))
            assert browser.run("document.title").startswith("failed test_shop.py::")
