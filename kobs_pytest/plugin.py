"""The pytest plugin's entry point. It imports pytest alone; everything else on first use.

PYTEST_DONT_REWRITE
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare kobs's options."""
