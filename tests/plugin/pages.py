"""What is looked at in the pages that an inner run leaves."""

import json
import re
import xml.etree.ElementTree as xml
from html.parser import HTMLParser

SHOP = """
import pytest
from kobs import FileOpened, span_operation

@pytest.mark.parametrize("how", ["card", "a/b", "a:b", "</script><script>alert(1)</script>"])
def test_pay(kobs, tmp_path, how):
    print("paying by", how, chr(0x1b) + "[31m", chr(0x202e), chr(0))
    with span_operation(how + "\\u2028'\\""):
        (tmp_path / "receipt").write_text("1")
    assert FileOpened.like(mode="a") in kobs.events

@pytest.fixture
def broken_before(): raise OSError("no such shop")

@pytest.fixture
def broken_after():
    yield
    raise OSError("the shop did not close")

def test_setup(broken_before): pass
def test_teardown(broken_after): pass
def test_passed(kobs): pass
def test_skipped(kobs): pytest.skip("closed")
@pytest.mark.xfail
def test_xfailed(kobs): assert False
"""
FAILING = 6


class Page(HTMLParser):
    """What a browser would make of a page, without running it."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.shown, self.scripts, self.links = [], [], [], []
        self.policy = ""
        self._inside = []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self._inside.append(tag)
        if tag == "a":
            self.links.append(attributes.get("href"))
        if tag == "meta" and "http-equiv" in attributes:
            self.policy = attributes["content"]

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        inside = self._inside[-1] if self._inside else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside != "style":
            self.shown.append(data)

    @property
    def text(self):
        return "".join(self.shown)

    @property
    def data(self):
        line = next(line for line in self.scripts[0].splitlines() if line.startswith("const DATA"))
        return json.loads(line.removeprefix("const DATA = ").removesuffix(";"))


def page(path):
    return Page(path.read_text("utf-8"))


def folders(path):
    return {re.sub(r"-[0-9a-f]{6}(?=-|$)", "", one.name): one for one in path.iterdir()}


def rows(shown, heading, until):
    """The words of a section."""
    return shown.text.partition(heading)[2].partition(until)[0]


def check_properties(inner, left):
    """The JUnit properties of the failing tests of `SHOP`, whose folders are `left`."""
    root = xml.parse(inner.pytester.path / "junit.xml").getroot()
    found = {}
    for case in root.iter("testcase"):
        values = {one.get("name"): one.get("value") for one in case.iter("property")}
        if values:
            found[case.get("name")] = values
    assert len(found) == FAILING
    card = found["test_pay[card]"]
    folder = next(one for name, one in left.items() if name.endswith("card")).name
    assert card["kobs.artifacts.page"] == f"left/{folder}/index.html"
    assert card["kobs.artifacts.perfetto"] == f"left/{folder}/trace.pftrace"
    assert card["kobs.artifacts.events"] == f"left/{folder}/events.jsonl"
    assert re.fullmatch(r"[0-9a-f]{32}", card["kobs.trace_id"])
    assert len({values["kobs.trace_id"] for values in found.values()}) == FAILING
