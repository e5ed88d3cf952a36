"""No test leaves anything behind for the next: no ambient cause, no process-wide collector."""

from collections.abc import Iterator

import pytest

from kobs import global_collector
from kobs.collector import clear_collector
from kobs.context import cause, origin


@pytest.fixture(autouse=True)
def _nothing_ambient_is_left() -> Iterator[None]:
    yield
    cause.set(None)  # a receive sets it for the rest of the task, and a test is part of one
    left = {"origin": origin.get(), "collector": global_collector()}
    origin.set("")
    clear_collector()
    assert not any(left.values()), f"the test leaves behind {left}"
