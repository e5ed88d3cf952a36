"""A test module: what it calls makes spans, in this process and in a child."""

import subprocess
import sys

import pytest

from kobs import span_operation


@pytest.fixture(scope="session")
def stock():
    with span_operation("open stock"):
        return {"apples": 1}


def test_order(stock):
    with span_operation("take order"):
        code = "import kobs\nwith kobs.span_operation('deliver'): pass"
        subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_left(stock):
    assert stock["pears"]
